"""BGE-M3's output heads, as FlagEmbedding writes them beside sentence-transformers' modules: a linear layer each, in a file of its own.

`sparse_linear` weighs tokens, `colbert_linear` makes a vector of each (see `zoo.outputs`). FlagEmbedding has them as `.pt`, the pickle
of a state_dict; the zoo writes `.safetensors`, and reads either. GTE's layer that weighs tokens is in the file of its backbone.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import MissingWeightsError, UnsafeCheckpointError
from zoo.files import save_tensors
from zoo.formats import read_object
from zoo.formats.checks.folder import check_folder
from zoo.formats.tensors import read_beginning, read_pickle, read_safetensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.encoders.text import TransformersText

STEMS = {"sparse": "sparse_linear", "tokens": "colbert_linear"}
_SPECIAL = ("cls_token", "eos_token", "pad_token", "unk_token")  # FlagEmbedding 1.4.2, M3Embedder.encode_single_device
_DROPPED = "dropped"  # in the metadata of a safetensors file: the ids that never count, as JSON
# What config.json names where the backbone's file holds a layer that weighs tokens, as that of Alibaba-NLP/gte-multilingual-base.
_WEIGHS, _LAYER = {"NewModel", "NewForTokenClassification"}, "classifier."
_SPARE = 1 << 20  # bytes of such a file beside its weights


def output_files(names: Collection[str]) -> dict[str, str]:
    """Of the files of a checkpoint those of output heads, by the output; safetensors before pickles."""
    found = {}
    for output, stem in STEMS.items():
        if file := next((f"{stem}.{kind}" for kind in ("safetensors", "pt") if f"{stem}.{kind}" in names), None):
            found[output] = file
    return found


def check_pickles(names: Collection[str], where: str, allow_pickle: bool) -> None:
    """Raises UnsafeCheckpointError where an output head is a pickle, and none is allowed."""
    pickles = [file for file in output_files(names).values() if file.endswith(".pt")]
    if pickles and not allow_pickle:
        raise UnsafeCheckpointError(
            f"{where} has {' and '.join(pickles)} as pickles, for its sparse and token outputs; pass allow_pickle=True (only tensors "
            "are read from them), or save the model again: the zoo writes safetensors"
        )


def read_outputs(folder: Path, encoder: "TransformersText", assets: Path, allow_pickle: bool) -> "dict[str, nn.Module]":
    """The output heads of a folder, {} where it has none.

    Args:
        assets: folder of the backbone and its tokenizer, whose special tokens have no lexical weight.

    Raises:
        UnsafeCheckpointError: a pickle that is not allowed, or that holds more than tensors. MissingWeightsError: one that does not
            fit the backbone, is damaged, or has numbers that are not finite.
    """
    from zoo.outputs import LexicalWeights, TokenVectors

    names = {path.name for path in folder.iterdir()}
    check_pickles(names, str(folder), allow_pickle)
    layers = {
        output: (folder / name, _read(folder / name, encoder.width)) for output, name in output_files(names).items()
    }
    if "sparse" not in layers and (inside := _inside(assets, allow_pickle)):
        layers["sparse"] = (assets, _checked(inside, assets, encoder.width))
    heads: dict[str, nn.Module] = {}
    for output, (where, tensors) in layers.items():
        rows = len(tensors["bias"])
        if output == "tokens":
            heads[output] = TokenVectors(encoder.width, rows)
        elif rows == 1:
            vocab = encoder.backbone.config.vocab_size
            heads[output] = LexicalWeights(encoder.width, vocab, _dropped(where, assets, vocab))
        else:
            raise MissingWeightsError(f"{where} gives {rows} numbers a token; a lexical weight is one")
        heads[output].project.load_state_dict(tensors)
    return heads


def _inside(folder: Path, allow_pickle: bool) -> "dict[str, Tensor]":
    """The layer that weighs tokens in the file of a backbone; {} where its config.json names none."""
    named = read_object(folder / "config.json").get("architectures")
    weighs = isinstance(named, list) and set(map(str, named)) >= _WEIGHS
    return read_beginning(folder, _LAYER, allow_pickle) if weighs else {}


def _read(path: Path, width: int) -> "dict[str, Tensor]":
    """The weight `(rows, width)` and bias `(rows,)` of a file, at most as many rows as columns."""
    check_folder(path.parent)
    most = 8 * width * (width + 1) + _SPARE  # bytes, if all are float64
    if path.stat().st_size > most:
        raise MissingWeightsError(
            f"{path} has {path.stat().st_size:,} bytes; a layer on states of {width} has {most:,} at most"
        )
    return _checked(read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path), path, width)


def _checked(tensors: "dict[str, Tensor]", path: Path, width: int) -> "dict[str, Tensor]":
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    rows = (shapes.get("bias") or (0,))[0]
    if not 0 < rows <= width or shapes != {"weight": (rows, width), "bias": (rows,)}:
        raise MissingWeightsError(
            f"{path} holds {shapes}; a layer on states of {width} columns has weight (rows, {width}) and bias (rows,)"
        )
    if bad := [
        name for name, tensor in tensors.items() if not (tensor.is_floating_point() and tensor.isfinite().all())
    ]:
        raise MissingWeightsError(f"{path}: {bad[0]} has NaN or infinite weights; take another copy")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _dropped(path: Path, assets: Path, vocab: int) -> list[int]:
    """The ids without a lexical weight: what the file says, else the tokenizer's special tokens, as FlagEmbedding has them.

    Raises:
        MissingWeightsError: the tokenizer does not say which they are, or they are no ids of the vocabulary.
    """
    from safetensors import safe_open

    from zoo.encoders.tokenizing import open_tokenizer

    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            said = json.loads((file.metadata() or {}).get(_DROPPED, "null"))
        if isinstance(said, list) and all(type(i) is int and 0 <= i < vocab for i in said):
            return sorted(said)
    tokenizer = open_tokenizer(assets)
    named = getattr(tokenizer, "special_tokens_map", {})
    if not named:
        raise MissingWeightsError(
            f"{assets}: no tokenizer_config.json says which tokens are special, and so have no lexical weight; fetch it again"
        )
    return sorted({tokenizer.convert_tokens_to_ids(str(named[key])) for key in _SPECIAL if key in named})


def write_outputs(folder: Path, heads: "nn.ModuleDict") -> None:
    """The heads as files of a folder that `read_outputs` reads."""
    for output, head in heads.items():
        path = folder / f"{STEMS[output]}.safetensors"
        said = {_DROPPED: json.dumps(head.dropped)} if output == "sparse" else {}
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in head.project.state_dict().items()}
        save_tensors(tensors, path, **said)
