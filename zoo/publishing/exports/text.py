"""One text backbone of transformers → transformers' and sentence-transformers' own files: no code, no trust."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders.text import TransformersText
from zoo.encoders.tokenizing import FastTokenizer
from zoo.files import save_tensors, share
from zoo.formats.output_heads import write_outputs
from zoo.heads import DenseStack, Identity, Linear
from zoo.pooling import Cls, Concat, LastToken, Max, Mean, MeanSqrtLength, WeightedMean
from zoo.publishing.exports import sentence
from zoo.publishing.exports.tokenizers import unfit as unfit_tokenizer
from zoo.publishing.exports.tokenizers import write_tokenizer

if TYPE_CHECKING:
    from torch import nn

    from zoo.embedder import Embedder

POOLING = {
    Cls: "cls",
    Max: "max",
    Mean: "mean",
    MeanSqrtLength: "mean_sqrt_len_tokens",
    WeightedMean: "weightedmean",
    LastToken: "lasttoken",
}


def unfit(model: "Embedder") -> str:
    """Why a model has no such form, "" where it has."""
    if len(model.towers) != 1 or type(model.towers[0].encoder) is not TransformersText:
        return "it is not one text backbone of transformers"
    tower = model.towers[0]
    if getattr(tower.encoder.backbone.config, "auto_map", None):
        return "its backbone is built by code of its own"
    if _modes(tower.pooler) is None:
        return f"sentence-transformers has no {type(tower.pooler).__name__} pooling"
    if not isinstance(tower.head, Identity | Linear | DenseStack):
        return f"sentence-transformers has no {type(tower.head).__name__} head"
    if any(layer["kind"] == "cut" for layer in getattr(tower.head, "specs", ())):
        return "its vectors are cut before they get unit length, which sentence-transformers does afterwards"
    return unfit_tokenizer(tower.encoder.tokenize, tower.encoder.backbone.config.pad_token_id)


def write(model: "Embedder", folder: Path) -> None:
    """Backbone and tokenizer in the root, one folder for the pooling and one for each layer of the head, zoo.json."""
    tower = model.towers[0]
    encoder: TransformersText = tower.encoder
    modes = _modes(tower.pooler)
    # sentence-transformers weighs by place in the padded row, others take the first place for the first token; ours go by
    # place in the text: filled on the right they agree.
    side = "right" if {"weightedmean", "cls"} & set(modes) else encoder.padding_side
    write_backbone(encoder.backbone, folder)
    write_tokenizer(folder, encoder.tokenize, pad_id=encoder.backbone.config.pad_token_id, side=side)
    if not encoder.pool_prompt:
        _declare_special(folder, encoder.tokenize)
    settings = {"max_seq_length": encoder.max_tokens, "do_lower_case": encoder.lower}
    sentence.write_json(folder / "sentence_bert_config.json", settings)

    modules = [(sentence.TRANSFORMER, ""), (sentence.POOLING, "1_Pooling")]
    pooling = {"embedding_dimension": encoder.width, "pooling_mode": modes if len(modes) > 1 else modes[0]}
    sentence.write_json(folder / "1_Pooling" / "config.json", pooling | {"include_prompt": encoder.pool_prompt})
    write_outputs(folder, tower.outputs)
    for kind, layer, spec in _layers(tower.head):
        if kind == "normalize":
            modules.append((sentence.NORMALIZE, f"{len(modules)}_Normalize"))
        elif kind == "layer_norm":
            place = f"{len(modules)}_LayerNorm"
            _write_layer(folder / place, {"dimension": spec["width"]}, "norm", layer)
            modules.append((sentence.LAYER_NORM, place))
        else:
            place = f"{len(modules)}_Dense"
            activation = spec["activation"]
            room = "linear" if activation == "Identity" else "activation"
            settings = {"in_features": spec["width"], "out_features": spec["dim"], "bias": spec["bias"]}
            settings["activation_function"] = f"torch.nn.modules.{room}.{activation}"
            _write_layer(folder / place, settings, "linear", layer)
            modules.append((sentence.DENSE, place))
    if model.spec.similarity != "dot":  # its norms count; a Normalize of the checkpoint's own is a layer of the head
        modules.append((sentence.NORMALIZE, f"{len(modules)}_Normalize"))
    sentence.write_modules(folder, modules)
    sentence.write_settings(folder, model.spec)
    sentence.write_facts(folder, model.spec)


def _declare_special(folder: Path, tokenize: Any) -> None:
    """Names the special tokens in tokenizer_config.json: by these sentence-transformers tells where a prompt ends."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(tokenize, FastTokenizer):
        tokens = tokenize.tokenizer.get_added_tokens_decoder().values()
        settings["extra_special_tokens"] = [token.content for token in tokens if token.special]
        sentence.write_json(path, settings)


def write_backbone(backbone: "nn.Module", folder: Path) -> None:
    """config.json and model.safetensors of a transformers model, without its progress bar."""
    from zoo.formats.transformers import quiet

    with quiet():
        backbone.save_pretrained(folder)
    share(*folder.glob("*.safetensors"))


def _modes(pooler: "nn.Module") -> list[str] | None:
    parts = list(pooler.poolers) if isinstance(pooler, Concat) else [pooler]
    if any(type(part) not in POOLING for part in parts):
        return None
    return [POOLING[type(part)] for part in parts]


def _layers(head: "nn.Module") -> list[tuple[str, Any, dict[str, Any]]]:
    """(kind, the layer with the weights, its description) of a head in order."""
    if isinstance(head, Identity):
        return []
    if isinstance(head, Linear):
        return [("dense", head.project, head.config() | {"activation": "Identity"})]
    layers = zip(head.layers, head.specs, strict=True)
    return [(spec["kind"], layer[0] if spec["kind"] == "dense" else layer, spec) for layer, spec in layers]


def _write_layer(folder: Path, settings: dict[str, Any], name: str, layer: "nn.Module") -> None:
    sentence.write_json(folder / "config.json", settings)
    tensors = {f"{name}.{key}": value.detach().contiguous().cpu() for key, value in layer.state_dict().items()}
    save_tensors(tensors, folder / "model.safetensors")
