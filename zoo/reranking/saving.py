"""A reranker ↔ a folder of the zoo's own layout: config.json of its facts and its backbone, model.safetensors, processor.

Its config.json has no "towers": `zoo.load_model` says that it is no embedder.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from zoo.embedder.cutting import unsaid
from zoo.encoders.config_checks import check_numbers
from zoo.errors import InputError, MissingWeightsError, NotSavedError, UnrecognisedCheckpointError, ZooError
from zoo.formats import read_json
from zoo.formats.checks.config_schema import FORMAT, RERANKER, check_format, refuse_private
from zoo.formats.checks.folder import check_folder
from zoo.formats.checks.safetensors_checks import check_numel, check_shapes, no_memory, no_parameters, read_header
from zoo.formats.writing import EXACT, HALF, changed_weight, replace_folder, write_weights
from zoo.formats.zoo_native import CONFIG, MODEL_TYPE, WEIGHTS, load_weights, share_weights
from zoo.inputs.item import Item
from zoo.reranking.cross_encoder import CrossEncoder
from zoo.reranking.folders import save_cross_encoder
from zoo.reranking.judge import Judge
from zoo.reranking.parts import encoder_of
from zoo.reranking.reranker import Reranker
from zoo.reranking.spec import RerankerSpec
from zoo.strangers.schema import check_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

ASSETS = "tower0"  # as the first tower's: a processor in the root would be taken by transformers for the whole model's
_SCHEMA: dict[str, Any] = {
    "model_type": Literal["zoo"],
    "format": int,
    RERANKER: dict[str, Any],
    "backbone": dict[str, Any],
}
_EXTRA = {"assets": Literal["tower0"]}


def save_reranker(model: Reranker, folder: Path, dtype: "torch.dtype | None" = None) -> Path:
    """The work after `Reranker.save_pretrained`, which describes the arguments and errors."""
    if isinstance(model, CrossEncoder):
        return save_cross_encoder(model, folder, dtype)
    return replace_folder(
        folder,
        1,
        lambda written: _write(model, written, dtype),
        lambda written: _prove(model, written, folder, dtype),
    )


def load_saved(folder: Path) -> Reranker:
    """The reranker that was saved in a folder; its description is held to the schema and to the weights before memory is taken.

    Raises:
        UnrecognisedCheckpointError: config.json does not describe a reranker of the zoo.
        MissingWeightsError: weights are missing, damaged, not finite, or of another shape.
        UnsafeCheckpointError: it names other code, or files outside the folder.
    """
    spec, config = _checked(folder)
    model = _built(spec, config, folder)
    load_weights(model, folder / WEIGHTS)
    return model


def facts_of(config: dict[str, Any], where: str) -> RerankerSpec:
    """The facts in a config.json; raises UnrecognisedCheckpointError."""
    try:
        return RerankerSpec.from_dict(config[RERANKER])
    except (TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: bad facts of a reranker: {error}") from error


def _write(model: Reranker, folder: Path, dtype: "torch.dtype | None") -> None:
    assets = folder / ASSETS
    assets.mkdir()
    model.encoder.save_assets(assets)
    config = {
        "model_type": MODEL_TYPE,
        "format": FORMAT,
        RERANKER: model.spec.to_dict(),
        "backbone": model.encoder.settings,
    }
    if any(assets.iterdir()):
        config["assets"] = ASSETS
    else:
        assets.rmdir()
    write_weights(model, folder / WEIGHTS, dtype)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _checked(folder: Path) -> tuple[RerankerSpec, dict[str, Any]]:
    """Facts and configuration of a folder, once they fit each other and the weights."""
    where = str(folder / CONFIG)
    check_folder(folder)
    config = read_json(folder / CONFIG)
    refuse_private(config, where)
    check_format(config, where)
    check_keys(config, _SCHEMA, where, optional=_EXTRA)
    check_numbers(config["backbone"], where)
    if "assets" in config:
        check_folder(folder / ASSETS, root=folder)
    spec, path = facts_of(config, where), folder / WEIGHTS
    header = read_header(path)
    with no_memory(where):
        measured = _built(spec, config, None)
    check_numel(measured, path.stat().st_size, where)
    check_shapes(measured.state_dict(), header, path)
    return spec, config


def _built(spec: RerankerSpec, config: dict[str, Any], folder: Path | None) -> Reranker:
    """The reranker with random weights; without a folder also without its processor."""
    assets = folder / ASSETS if folder is not None and "assets" in config else None
    try:
        encoder = encoder_of(spec, config["backbone"], assets=assets)
    except ZooError:
        raise
    except Exception as error:  # transformers answers invalid files with any type of error
        raise UnrecognisedCheckpointError(
            f"{spec.name}: cannot build its backbone: {' '.join(str(error).split())[:300]}; is the zoo new enough?"
        ) from error
    if not spec.modalities <= encoder.modalities:
        raise UnrecognisedCheckpointError(
            f"{spec.name} promises to read {sorted(spec.modalities)}; its judge reads {sorted(encoder.modalities)}"
        )
    return Judge(encoder, torch.zeros(encoder.width), spec)


# ----------------------------------------------------------------------------------------------------------- the proof


def _prove(model: Reranker, written: Path, folder: Path, dtype: "torch.dtype | None") -> None:
    """Opens what was written and compares it with the model; raises NotSavedError where they differ."""
    said = f"{folder} was not written"
    with torch.random.fork_rng():
        try:
            spec, config = _checked(written)
            with no_parameters():
                again = _built(spec, config, written)
            share_weights(again, model, written / WEIGHTS, read_header(written / WEIGHTS))
        except ZooError as error:
            raise NotSavedError(f"{said}: what was to be saved cannot be opened again: {error}") from error
    if again.spec != model.spec:
        raise NotSavedError(f"{said}: opened again, the reranker has other facts")
    if changed := changed_weight(written / WEIGHTS, model.state_dict(), dtype):
        raise NotSavedError(f"{said}: the file holds other weights than the reranker: {changed}")
    allowed = EXACT.get(str(next(iter(model.parameters())).dtype), HALF)
    with unsaid(model, again):
        for query, document in _samples():
            try:
                expected = model.score([(query, document)], progress=False)
            except (InputError, MissingWeightsError):
                continue  # not read by this reranker, or built without its processor
            if not float((again.eval().score([(query, document)], progress=False) - expected).abs().max()) <= allowed:
                raise NotSavedError(f"{said}: opened again, the reranker gives another score")


def _samples() -> "Iterator[tuple[Item, Item]]":
    pixels = np.arange(64 * 48 * 3, dtype=np.uint64) * 2654435761 % 4294967296 >> 24
    image = pixels.astype(np.uint8).reshape(64, 48, 3)
    query = Item(text="a red bicycle", instruction="Find the same thing.")
    yield query, Item(text="A bicycle in the rain, a café and 山の上の白い雲. " * 6)
    yield query, Item(image=image)
    yield Item(text="someone runs"), Item(video=np.stack([image, image[::-1]]))
