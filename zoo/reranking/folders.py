"""Folders of cross-encoders: transformers' …ForSequenceClassification with what sentence-transformers' CrossEncoder adds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoo.embedder.cutting import unsaid
from zoo.errors import (
    InputError,
    NotSavedError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
    ZooError,
)
from zoo.formats import TOKENIZER_FILES, read_json, read_object
from zoo.formats.backbones import native, own_class, read_config
from zoo.formats.checks.config_schema import RERANKER, check_modules
from zoo.formats.checks.folder import check_folder
from zoo.formats.known import cross_encoder as known
from zoo.formats.known.sentence_transformers import MODULES, MODULES_FILE, SETTINGS_FILE, TRANSFORMER_FILES
from zoo.formats.settings import Ignore, read
from zoo.formats.tokenizer import read_tokenizer
from zoo.formats.transformers import Transformers, folder_config, from_pretrained, longest_text
from zoo.formats.writing import EXACT, HALF, replace_folder
from zoo.formats.zoo_native import CONFIG, WEIGHTS
from zoo.reranking.cross_encoder import CrossEncoder, head_of, state_of, taken
from zoo.reranking.recognising import CLASSIFIES, settings_of
from zoo.reranking.spec import RerankerSpec

_CLASSES = {"identity": "torch.nn.modules.linear.Identity", "sigmoid": "torch.nn.modules.activation.Sigmoid"}
SAMPLES = (  # pairs whose scores are compared
    ("a red bicycle", "A bicycle in the rain, a café and 山の上の白い雲. " * 12),
    ("how do I reset it? " * 40, "Hold the button."),
)


def files(names: set[str]) -> list[str]:
    """Those of a repository's files that a cross-encoder may have."""
    beside = {MODULES_FILE, SETTINGS_FILE, *TRANSFORMER_FILES}
    return sorted({*Transformers().files(names), *(names & beside)})


def open_cross_encoder(folder: Path, *, name: str, allow_pickle: bool, ignore: Ignore) -> CrossEncoder:
    """The cross-encoder of a folder.

    Raises:
        UnreadSettingError: a setting that is not followed. UnrecognisedCheckpointError: of another kind, or of several classes.
        MissingWeightsError: weights or tokenizer are missing or damaged. UnsafeCheckpointError: pickles, code or places outside.
    """
    check_folder(folder)
    where = folder / CONFIG
    config = native(folder_config(folder, allow_pickle))
    head = head_of(config.get("model_type"))
    facts = config.pop(RERANKER, None)
    activation = _activation(config, folder, ignore)
    limit = _module(folder, ignore)
    _check_own(config, where, ignore)
    tokenizer = read_tokenizer(folder, ignore, pair=True)
    # Without the names of its classes, by which `read_config` would refuse it as an embedder.
    shape = read_config({key: value for key, value in config.items() if key != "architectures"}, where, ignore)
    if shape.num_labels != 1:
        raise UnrecognisedCheckpointError(
            f"{where} classifies pairs into {shape.num_labels} classes, and a reranker gives one score; the zoo opens classifiers "
            "of one class (num_labels 1)"
        )
    import transformers

    cls = getattr(transformers, head.cls)
    whole = from_pretrained(cls, folder, allow_pickle, whole=True, spare=(), config=shape)
    longest = longest_text(shape, tokenizer)
    longest = min(limit or longest, longest)
    spec = RerankerSpec(
        name=name,
        modalities=frozenset({"text"}),
        license="other: of the checkpoint",
        max_tokens=longest,
        activation=activation,
        params=sum(weight.numel() for weight in whole.parameters()),
    )
    if facts is not None:
        spec = _own(facts, spec, where)
    model = taken(spec, whole, tokenizer=tokenizer)
    _check_reads(model, where)
    return model


def _check_own(config: dict[str, Any], where: Path, ignore: Ignore) -> None:
    """Raises UnreadSettingError where only code beside the weights says how this checkpoint classifies."""
    if name := own_class(config, f"AutoModel{CLASSIFIES}"):
        why = (
            f"a class of its authors' own, {name}, classifies, which need not compute what transformers' own class does"
        )
        ignore.refuse(where, "auto_map", config["auto_map"], why)


def _own(facts: Any, found: RerankerSpec, where: Path) -> RerankerSpec:
    """The facts that the zoo wrote into a config.json, but for those that the files of the model say."""
    try:
        if not isinstance(facts, dict) or facts.get("judge") is not None:
            raise ValueError("a cross-encoder has no judge")
        said = RerankerSpec.from_dict(facts)
    except (TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: bad facts of a reranker: {error}") from error
    return replace(said, max_tokens=found.max_tokens, activation=found.activation)


def _activation(config: dict[str, Any], folder: Path, ignore: Ignore) -> Any:
    """What makes a score of a logit; the settings that say it are taken out of config.json's."""
    old, block = config.pop(known.OLD_ACTIVATION, None), config.pop(known.BLOCK, None) or {}
    where = folder / CONFIG
    if not isinstance(block, dict):
        raise UnrecognisedCheckpointError(f"{where}: {known.BLOCK} is a {type(block).__name__}, not an object")
    inside = read(block, known.INSIDE, where, ignore, f"{known.BLOCK}.")
    return activation_of(folder, ignore, inside.get("activation_fn") or old) or "sigmoid"


def activation_of(folder: Path, ignore: Ignore, other: Any = None) -> Any:
    """What makes a score of a logit by config_sentence_transformers.json, else by `other`; None where neither says it."""
    where = folder / SETTINGS_FILE
    beside = read(settings_of(folder), known.SETTINGS, where, ignore)
    if beside and beside.get("model_type", "CrossEncoder") != "CrossEncoder":
        raise UnrecognisedCheckpointError(f"{folder} is a {beside['model_type']}; zoo.load_model opens embedders")
    said = beside.get("activation_fn") or other  # the order of sentence-transformers 6
    if said is None:
        return None
    if (found := known.ACTIVATIONS.get(str(said).rpartition(".")[2])) is None or not str(said).startswith("torch."):
        ignore.refuse(where, "activation_fn", said, f"the zoo has {', '.join(known.ACTIVATIONS)} of torch")
    return found or "sigmoid"


def _module(folder: Path, ignore: Ignore) -> int | None:
    """The longest pair that sentence-transformers' files say, None where they do not; they have no other module."""
    if (folder / MODULES_FILE).is_file():
        where = folder / MODULES_FILE
        rows = check_modules(read_json(where), str(where))
        for row in rows:
            read(row, MODULES, where, ignore)
        kinds = [str(row.get("type", "")) for row in rows]
        if strange := [kind for kind in kinds if not kind.startswith("sentence_transformers.")]:
            raise UnsafeCheckpointError(f"{where} asks for the class {strange[0]}, code that the zoo does not run")
        kinds = [kind.rpartition(".")[2] for kind in kinds]
        if kinds != ["Transformer"] or str(rows[0].get("path", "")).strip("./"):
            raise UnrecognisedCheckpointError(
                f"{where} has the modules {', '.join(kinds)}; a cross-encoder that the zoo reads is one Transformer, in the folder itself"
            )
    file = next((folder / name for name in TRANSFORMER_FILES if (folder / name).is_file()), None)
    settings = read(read_object(file), known.TRANSFORMER, file, ignore) if file else {}
    limit = settings.get("max_seq_length")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit < 1 << 62):
        raise UnrecognisedCheckpointError(f"{file}: max_seq_length is {limit!r}, not a number of tokens")
    return limit


def _check_reads(model: CrossEncoder, where: Path) -> None:
    """Reads a pair: a configuration that a backbone accepts need not be one that it can compute with."""
    try:
        with torch.inference_mode():
            found = model.eval().logits(model.collate([model.prepare("a ꙮ 山", "b")]))
    except Exception as error:  # libraries answer invalid files with any type of error
        if isinstance(error, ZooError) and not isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UnrecognisedCheckpointError(
            f"{where}: it does not read a pair: {type(error).__name__}: {reason}"
        ) from error
    if found.shape != (1,):
        raise UnrecognisedCheckpointError(f"{where}: logits {tuple(found.shape)} of one pair")


# ----------------------------------------------------------------------------------------------------------- saving


def save_cross_encoder(model: CrossEncoder, folder: Path, dtype: "torch.dtype | None" = None) -> Path:
    """The work after `Reranker.save_pretrained`: the layout of transformers, which sentence-transformers' CrossEncoder opens too.

    Raises:
        NotSavedError: as `Reranker.save_pretrained`.
    """
    if model.encoder.tokenizer is None:
        raise NotSavedError(
            f"{folder} was not written: the cross-encoder was built without its tokenizer, and reads no texts; load it first"
        )
    return replace_folder(
        folder, 0, lambda written: _write(model, written, dtype), lambda written: _prove(model, written, folder, dtype)
    )


def _write(model: CrossEncoder, folder: Path, dtype: "torch.dtype | None") -> None:
    from zoo.files import save_tensors

    encoder, activation = model.encoder, _CLASSES[model.spec.activation]
    state = {
        name: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).detach().contiguous().cpu()
        for name, tensor in state_of(model).items()
    }
    save_tensors(state, folder / WEIGHTS)
    encoder.save_assets(folder)
    for extra in {path.name for path in folder.iterdir()} - {*TOKENIZER_FILES, WEIGHTS}:
        (folder / extra).unlink()
    config = {
        **encoder.settings,
        "architectures": [head_of(encoder.backbone.config.model_type).cls],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        known.BLOCK: {"activation_fn": activation},
        RERANKER: model.spec.to_dict(),
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _prove(model: CrossEncoder, written: Path, folder: Path, dtype: "torch.dtype | None") -> None:
    """Opens what was written and compares it with the model; raises NotSavedError where they differ."""
    said = f"{folder} was not written"
    device, kind = model.device, next(model.parameters()).dtype
    with torch.random.fork_rng():
        try:
            again = open_cross_encoder(written, name=model.spec.name, allow_pickle=False, ignore=Ignore())
        except ZooError as error:
            raise NotSavedError(f"{said}: what was to be saved cannot be opened again: {error}") from error
    if again.spec != model.spec:
        raise NotSavedError(f"{said}: opened again, the reranker has other facts")
    allowed = EXACT.get(str(kind if dtype is None else dtype), HALF)
    was, state = model.training, state_of(again)
    for name, tensor in state_of(model).items():
        if not torch.equal(
            state[name], (tensor.detach().to(dtype) if dtype else tensor.detach()).cpu().to(state[name])
        ):
            raise NotSavedError(f"{said}: the file holds other weights than the reranker: {name}")
    expected = _scores(model, list(SAMPLES))
    model.train(was)
    if not float((_scores(again.to(device, kind), list(SAMPLES)) - expected).abs().max()) <= allowed:
        raise NotSavedError(f"{said}: opened again, the reranker gives another score")


def _scores(model: CrossEncoder, pairs: list[tuple[str, str]]) -> torch.Tensor:
    with unsaid(model):
        return model.eval().score(pairs, progress=False)
