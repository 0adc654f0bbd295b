"""Rerankers with their weights: of a registered name, a repository of the Hub, or a folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from zoo.arguments import checked, flag, optional, text, texts
from zoo.arguments import device as device_here
from zoo.arguments import dtype as a_dtype
from zoo.arguments import path as a_path
from zoo.encoders.rust import opening
from zoo.encoders.text import text_class
from zoo.errors import ArgumentError, HubError, MissingWeightsError, UnknownModelError, UnrecognisedCheckpointError
from zoo.formats import read_json, read_object, zoo_native
from zoo.formats.backbones import read_config
from zoo.formats.checks.config_schema import RERANKER, check_modules
from zoo.formats.checks.folder import check_folder
from zoo.formats.fetching import snapshot
from zoo.formats.known import cross_encoder as known_files
from zoo.formats.known.sentence_transformers import MODULES_FILE
from zoo.formats.layout import Opening, open_with
from zoo.formats.settings import Ignore, read
from zoo.formats.tokenizer import check_tokenizer
from zoo.formats.transformers import folder_config, from_pretrained
from zoo.formats.vlm import ADAPTER, VisionLanguage
from zoo.loading import best_device
from zoo.registry import LIKE, is_registered
from zoo.reranking import folders, registry
from zoo.reranking.judge import Judge
from zoo.reranking.parts import as_model
from zoo.reranking.recognising import is_cross_encoder, refuse_embedder, settings_of
from zoo.reranking.reranker import Reranker
from zoo.reranking.saving import load_saved
from zoo.reranking.spec import RerankerSpec

if TYPE_CHECKING:
    from zoo.encoders.sequence import SequenceEncoder

_HUB = "hf:"
_PLACES = ("./", "../", "/", "~")


class _How(NamedTuple):
    """What the caller allows, and wants ignored."""

    allow_pickle: bool
    ignore: Ignore


@checked(
    name_or_path=a_path,
    device=optional(device_here),
    dtype=optional(a_dtype),
    like=optional(text),
    revision=optional(text),
    allow_pickle=flag,
    ignore=texts,
)
def load_reranker(
    name_or_path: str | Path,
    *,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | str | None" = None,
    like: str | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    ignore: Sequence[str] = (),
) -> Reranker:
    """A reranker with its weights, ready to `score` and `rerank`.

    Args:
        name_or_path: a registered name (`zoo.list_rerankers()`), a folder (`Path`, "./folder"), or a Hub repository
            ("hf:Qwen/Qwen3-VL-Reranker-2B", also with "@revision").
        device: "cuda", "cpu", ...; by default a GPU where there is one. dtype: of the weights; by default float32.
        like: the registered reranker that a checkpoint is asked like, or what the names of its family begin with; by
            default the one for its kind of backbone. In one string: "./folder like u-marvel-reranker".
        revision: commit, tag or branch of the repository; by default the registered one, else the newest.
        allow_pickle: read weights that are there as a pickle only.
        ignore: settings of the checkpoint's files to read as if they were not there, as of `zoo.load_model`.

    Raises:
        UnreadSettingError: a file of the checkpoint has a setting that the zoo does not follow.
        UnknownModelError: no such name or `like`. UnrecognisedCheckpointError: a backbone that no reranker is for.
        MissingWeightsError: weights or processor are missing or damaged, or none are published. HubError: the Hub does not
        give it.
    """
    if like is None and isinstance(name_or_path, str) and LIKE in name_or_path and not Path(name_or_path).is_dir():
        name_or_path, _, like = name_or_path.rpartition(LIKE)
    known = registry.like(like) if like is not None else None
    ignored = Ignore(ignore)
    model = _open(name_or_path, known, revision, _How(allow_pickle, ignored))
    ignored.say_unmet()
    return model.to(device=device or best_device(), dtype=dtype or torch.float32).eval()


def _open(name: str | Path, known: RerankerSpec | None, revision: str | None, how: _How) -> Reranker:
    named = isinstance(name, str) and not name.startswith((_HUB, *_PLACES))
    if named and registry.is_reranker(name):
        if known is not None:
            raise UnknownModelError(
                f"{name} is registered and is read its own way; `like` is for folders and repositories"
            )
        spec = registry.get_reranker_spec(name)
        if not spec.hub_id:
            raise MissingWeightsError(
                f"{name} has no published weights; build_reranker({name!r}) gives its shape, and a checkpoint of your own is "
                f'opened with like="{name}"'
            )
        model = _of_repository(spec.hub_id, revision or spec.revision, spec, how)
        found = {"activation": model.spec.activation, "max_tokens": model.spec.max_tokens}
        model.spec = replace(spec, revision=revision or spec.revision, **found)
        return model
    if isinstance(name, str) and name.startswith(_HUB):
        repo, _, pinned = name.removeprefix(_HUB).partition("@")
        if pinned and revision and pinned != revision:
            raise HubError(f"{name} and revision={revision!r} name two revisions; give one")
        return _of_repository(repo, revision or pinned or None, known or registry.published_as(repo), how)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if named:
            if is_registered(name):
                raise UnknownModelError(
                    f"{name} is an embedder, which gives vectors and no scores: zoo.load_model opens it"
                )
            registry.get_reranker_spec(name)
        what = "is a file; name the folder that holds it" if folder.exists() else "does not exist"
        raise UnrecognisedCheckpointError(f"{folder} {what}; expected the folder of a reranker")
    if revision is not None:
        raise ArgumentError(
            f"revision={revision!r} is of a repository of the Hub, and {folder} is a folder: leave it out"
        )
    return _of_folder(folder, known, how, name=known.name if known else folder.name, local=True)


def _of_repository(repo: str, revision: str | None, known: RerankerSpec | None, how: _How) -> Reranker:
    layouts = VisionLanguage(), zoo_native.Saved()

    def wanted(names: set[str]) -> list[str]:
        return sorted({file for layout in layouts for file in layout.files(names)} | set(folders.files(names)))

    folder = snapshot(repo, revision, wanted)
    return _of_folder(folder, known, how, name=repo, local=False)


def _of_folder(folder: Path, known: RerankerSpec | None, how: _How, *, name: str, local: bool) -> Reranker:
    """What a folder holds: a reranker that the zoo saved, a cross-encoder, or the checkpoint of a model that is asked."""
    _check_config(folder)
    config = read_object(folder / "config.json")
    if is_cross_encoder(config, settings_of(folder)):
        if known is not None and known.judge is not None:
            raise UnknownModelError(
                f"{folder} is a cross-encoder, which is not asked like {known.name}; leave `like` out"
            )
        return folders.open_cross_encoder(folder, name=name, allow_pickle=how.allow_pickle, ignore=how.ignore)
    if config.get("model_type") == zoo_native.MODEL_TYPE and RERANKER in config:
        model = load_saved(folder)
        if known is not None and known.judge != model.spec.judge:
            raise UnknownModelError(
                f"{folder} says itself how it is asked, and not like {known.name}; leave `like` out"
            )
        return model
    refuse_embedder(folder, config)
    spec = known or _by_backbone(config, folder)
    modalities = frozenset({"text", *spec.judge.format.marks})
    if modalities == {"text"}:
        encoder = _reader_of_texts(folder, config, spec, how)
    else:
        # Settings of a registered reranker's own files that nothing reads are told; of all others they are refused.
        kind = as_model(replace(spec, modalities=modalities))
        told = Opening(name, like=kind, local=local, allow_pickle=how.allow_pickle, ignore=how.ignore)
        encoder = open_with(VisionLanguage(), folder, told).towers[0].encoder
    judge = spec.judge
    with opening(f"the tokenizer in {folder}"):  # also one that makes no token of them
        yes, no = (encoder.tokenizer(word, add_special_tokens=False).input_ids[0] for word in (judge.yes, judge.no))
    rows = _vocabulary_rows(folder, config, encoder, [yes, no], how.allow_pickle)
    params = sum(weight.numel() for weight in encoder.parameters())
    activation = _activation(folder, yes, no, known is not None, how.ignore) or spec.activation
    own = RerankerSpec(
        name, modalities, "other: of the checkpoint", spec.max_tokens, judge, params=params, activation=activation
    )
    return Judge(encoder, rows[0] - rows[1], own)


def _check_config(folder: Path) -> None:
    """Raises UnrecognisedCheckpointError where a folder has no configuration of a model, an adapter's alone for example."""
    if (folder / "config.json").is_file():
        return
    if (folder / ADAPTER).is_file():
        raise UnrecognisedCheckpointError(
            f"{folder} is an adapter without its base, and the zoo opens whole rerankers: merge it into its base (peft's "
            "merge_and_unload), save that, and open the result"
        )
    raise UnrecognisedCheckpointError(f"{folder} has no config.json, so it is no folder of a reranker")


def _reader_of_texts(folder: Path, config: dict[str, Any], spec: RerankerSpec, how: _How) -> "SequenceEncoder":
    """The encoder of a judge that reads texts alone, from the files of a generative language model."""
    from zoo.encoders.sequence import SequenceEncoder
    from zoo.encoders.sequence.processor import opened

    assert spec.judge is not None
    check_folder(folder)
    layout, where, kind = spec.judge.format, folder / "config.json", config.get("model_type")
    if kind != layout.backbone:
        raise UnrecognisedCheckpointError(
            f"{folder} is a {kind!r}, {spec.name} a {layout.backbone!r}: it is asked like a reranker of its own family"
        )
    shape = read_config(folder_config(folder, how.allow_pickle), where, how.ignore, "causal")
    backbone = from_pretrained(text_class(kind), folder, how.allow_pickle, whole=True, config=shape)
    tokenizer = opened(folder, kind, layout)
    check_tokenizer(folder, tokenizer, how.ignore)
    settings = backbone.config.to_diff_dict() | {"model_type": kind}
    return SequenceEncoder(settings, layout, {}, spec.max_tokens, backbone=backbone, processor=tokenizer)


def _activation(folder: Path, yes: int, no: int, told: bool, ignore: Ignore) -> Any:
    """What sentence-transformers' files beside a judge say of its score, None without them.

    Args:
        yes, no: ids of the two answers. told: whether the caller knows how it is asked; these files say it in a chat template.

    Raises:
        UnrecognisedCheckpointError: they compare other answers, or nobody says how it is asked.
    """
    if not (folder / MODULES_FILE).is_file():
        return None
    rows = check_modules(read_json(folder / MODULES_FILE), str(folder / MODULES_FILE))
    places = {str(row.get("type", "")).rpartition(".")[2]: str(row.get("path", "")) for row in rows}
    if list(places) != ["Transformer", "LogitScore"] or not told:
        names = ", ".join(registry.list_rerankers())
        raise UnrecognisedCheckpointError(
            f"{folder / MODULES_FILE} has the modules {', '.join(places)}, which ask by a chat template that the zoo does not read; say "
            f"which registered reranker it is asked like: like= one of {names}"
        )
    where = folder / places["LogitScore"] / "config.json"
    score = read(read_object(where), known_files.LOGIT_SCORE, where, ignore)
    if (score.get("true_token_id"), score.get("false_token_id")) != (yes, no):
        raise UnrecognisedCheckpointError(
            f"{where} compares {score}, and the reranker that it is asked like {yes} and {no}"
        )
    return folders.activation_of(folder, ignore)


def _by_backbone(config: dict[str, Any], folder: Path) -> RerankerSpec:
    """The registered reranker for the kind of a checkpoint; raises UnrecognisedCheckpointError where none or several are."""
    kind = config.get("model_type")
    if len(found := registry.for_backbone(kind)) == 1:
        return found[0]
    if found:
        names = ", ".join(spec.name for spec in found)
        raise UnrecognisedCheckpointError(
            f"{folder} is a {kind!r}, which is asked in several ways; say like= one of {names}"
        )
    judges = [registry.get_reranker_spec(name).judge for name in registry.list_rerankers()]
    known = sorted({judge.format.backbone for judge in judges if judge is not None})
    raise UnrecognisedCheckpointError(
        f"{folder} is a {kind!r} without a classifier, for which there is no reranker; asked in words are {', '.join(known)}. If it "
        "is an embedder, zoo.load_model opens it"
    )


def _vocabulary_rows(
    folder: Path, config: dict[str, Any], encoder: "SequenceEncoder", ids: list[int], allow_pickle: bool
) -> Tensor:
    """Rows `(len(ids), width)` of the projection to the vocabulary, which may be the token table."""
    if config.get("tie_word_embeddings", config.get("text_config", {}).get("tie_word_embeddings", False)):
        return encoder.backbone.get_input_embeddings().weight.detach()[ids].clone()
    from safetensors import safe_open

    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            if "lm_head.weight" in set(tensors.keys()):
                head = tensors.get_slice("lm_head.weight")
                rows = torch.stack([head[i : i + 1][0] for i in ids]).float()
                if rows.shape[1] == encoder.width and bool(rows.isfinite().all()):
                    return rows
    if allow_pickle and (path := folder / "pytorch_model.bin").is_file():
        head = torch.load(path, map_location="cpu", weights_only=True).get("lm_head.weight")
        if head is not None and head.ndim == 2 and head.shape[1] == encoder.width:
            return head[ids].float()
    raise MissingWeightsError(
        f"{folder} has no projection to the vocabulary (lm_head.weight of width {encoder.width}), so it is no reranker: an "
        "embedder's repository often leaves it out, and zoo.load_model opens that"
    )
