"""Our own layout: config.json with `"model_type": "zoo"`, model.safetensors and the tokenizer's files."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, ZooError
from zoo.formats import PROCESSOR_FILES, TOKENIZER_FILES, read_json
from zoo.formats.checks.config_schema import FOR_TRANSFORMERS as FOR_TRANSFORMERS
from zoo.formats.checks.config_schema import PARTS, calibration_of, check_config, part_class, scale_of
from zoo.formats.checks.folder import check_folder
from zoo.formats.checks.safetensors_checks import (
    Entry,
    check_numel,
    check_shapes,
    no_memory,
    no_parameters,
    read_header,
)
from zoo.formats.earlier import current
from zoo.formats.layout import Layout, Opening, open_with, register_layout
from zoo.formats.quantized import check_numbers, check_types, quantization_of, shape_layers
from zoo.sequences import SequenceFormat, pooling_of
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.embedder import Embedder, Tower
    from zoo.encoders.base import Encoder

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_TYPE = "zoo"


@register_layout
class Saved(Layout):
    """A folder of `save_pretrained`."""

    name = "zoo"
    order = 0
    looked_for = 'the zoo\'s own: config.json with "model_type": "zoo", and model.safetensors'

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether these files are a folder of `save_pretrained`."""
        if CONFIG not in names:
            return False
        config = read_json(CONFIG)
        return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE

    def files(self, names: set[str]) -> list[str]:
        """Configuration, weights and tokenizer."""
        assets = {*TOKENIZER_FILES, *PROCESSOR_FILES}
        known = {CONFIG, WEIGHTS, *assets}
        return sorted(n for n in names if n in known or (n.startswith("tower") and Path(n).name in assets))

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """The model saved there; its description is held to the schema and to the weights before memory is taken."""
        spec, config, header = _checked(folder)
        model = _built(spec, config, str(folder / CONFIG), folder)
        fill(model, folder / WEIGHTS, header)
        check_numbers(model, folder / WEIGHTS)
        return model


def _rebuild(entry: dict[str, Any], role: str, where: str, **extra: Any) -> "nn.Module":
    """A part from its description. Only classes of the zoo's own rooms: a configuration cannot name other code."""
    arguments = {key: value for key, value in entry.items() if key != "kind"}
    cls = part_class(entry["kind"], role, where)
    try:
        return cls(**arguments, **extra)
    except ZooError:
        raise
    except Exception as error:  # timm, open_clip and transformers answer invalid files with any type of error
        reason = " ".join(str(error).split())[:300]
        raise UnrecognisedCheckpointError(
            f"{where}: cannot build {entry['kind']}: {reason}; is the zoo new enough?"
        ) from error


def _towers(config: dict[str, Any], where: str, folder: Path | None) -> list["Tower"]:
    """The towers with random weights; without a folder also without their tokenizers."""
    from zoo.embedder import Tower

    towers = []
    for entry in config["towers"]:
        assets = entry.get("assets") if folder else None
        extra = {"assets": folder / assets} if folder and assets else {}
        parts = [_rebuild(entry[role], role, where, **(extra if role == "encoder" else {})) for role in PARTS]
        outputs = {
            name: _rebuild(part, "output", f"{where}: outputs.{name}")
            for name, part in entry.get("outputs", {}).items()
        }
        towers.append(Tower(*parts, outputs))
    return towers


def _built(spec: ModelSpec, config: dict[str, Any], where: str, folder: Path | None) -> "Embedder":
    """The model with random weights; without a folder also without its tokenizers."""
    from zoo.embedder import Embedder

    fusion = _rebuild(config["fusion"], "fusion", f"{where}: fusion") if "fusion" in config else None
    region = _rebuild(config["region"], "region", f"{where}: region") if "region" in config else None
    try:
        model = Embedder(spec, _towers(config, where, folder), fusion, region)
    except ValueError as error:
        raise UnrecognisedCheckpointError(f"{where}: {error}") from error
    if not all(getattr(tower.encoder, "pool_prompt", True) for tower in model.towers):
        model.spec = replace(model.spec, pool_prompt=False)  # folders of before this fact say it of the encoder alone
    model.logit_scale = scale_of(config, where)
    model.calibration = calibration_of(config, where)
    shape_layers(model, quantization_of(config, where), where)
    return model


def _check_facts(model: "Embedder", where: str) -> None:
    """The spec promises what the towers give, and the rule of fusion takes it."""
    spec, towers = model.spec, list(model.towers)
    reads = frozenset().union(*(tower.encoder.modalities for tower in towers))
    dims = {_dim(tower) for tower in towers}
    if dims != {spec.dim} or not spec.modalities <= reads:
        raise UnrecognisedCheckpointError(
            f"{where} promises {spec.dim} columns for {sorted(spec.modalities)}; its towers give {sorted(dims)} for "
            f"{sorted(reads)}"
        )
    if {type(tower.pooler).__name__ == "EveryToken" for tower in towers} != {spec.similarity == "maxsim"}:
        raise UnrecognisedCheckpointError(
            f"{where}: similarity {spec.similarity!r} and poolers {[type(tower.pooler).__name__ for tower in towers]} contradict"
        )
    check_sequence(model, spec, where)
    check_outputs(model, spec, where)
    if (dim := getattr(model.fusion, "dim", spec.dim)) != spec.dim:
        raise UnrecognisedCheckpointError(f"{where}: its fusion takes {dim} columns; the model has {spec.dim}")


def check_sequence(model: "Embedder", spec: ModelSpec, where: str) -> None:
    """Raises UnrecognisedCheckpointError where facts say of a sequence what its tower does not do, or of one that no tower reads."""
    towers = [tower for tower in model.towers if isinstance(getattr(tower.encoder, "format", None), SequenceFormat)]
    for tower in towers:
        if (tower.encoder.format, tower.encoder.media) != (spec.format, spec.media):
            raise UnrecognisedCheckpointError(f"{where}: the format of its spec is not the one of its encoder")
        if (pooling := pooling_of(tower.pooler)) != spec.pooling:
            raise UnrecognisedCheckpointError(
                f"{where}: its spec says the pooling {spec.pooling!r}, its tower pools by {pooling!r}"
            )
    if spec.format is not None and not towers:
        raise UnrecognisedCheckpointError(f"{where} has the format of a sequence, which none of its encoders reads")


def check_outputs(model: "Embedder", spec: ModelSpec, where: str) -> None:
    """Raises UnrecognisedCheckpointError where facts promise other outputs of a text than the towers give."""
    if (found := {name for tower in model.towers for name in tower.outputs}) != set(spec.outputs):
        raise UnrecognisedCheckpointError(
            f"{where} promises the outputs {sorted(spec.outputs)} of a text; its towers give {sorted(found)}"
        )


def _dim(tower: "Tower") -> int:
    """Columns of a tower's vectors."""
    width = tower.encoder.width * len(getattr(tower.pooler, "names", "1"))
    dense = [layer["dim"] for layer in getattr(tower.head, "specs", ()) if layer["kind"] in ("dense", "cut")]
    return getattr(tower.head, "dim", dense[-1] if dense else width)


def load_saved(folder: Path) -> "Embedder":
    """A folder of `save_pretrained`, for those who know that it is one.

    Raises:
        UnrecognisedCheckpointError: config.json does not describe a model of the zoo.
        MissingWeightsError: weights are missing, damaged, not finite, or of another shape.
        UnsafeCheckpointError: it names other code, or files outside the folder.
    """
    return open_with(Saved(), folder, Opening(name=folder.name))


def load_readers(folder: Path) -> tuple[dict[str, Any], list["Encoder"]]:
    """What reads items for a saved model: its configuration and its encoders, whose weights are not needed.

    Raises:
        As `load_saved`, but for the weights.
    """
    where = str(folder / CONFIG)
    config = read_config(folder)
    with no_memory(where):
        towers = _towers(config, where, folder)
    return config, [tower.encoder for tower in towers]


def reopened(folder: Path, saved: "Embedder") -> "Embedder":
    """As `load_saved`, but sharing the weights of the model that was saved there, on its device and in its dtype.

    Raises:
        As `load_saved`.
    """
    check_folder(folder)
    spec, config, header = _checked(folder)
    with no_parameters():
        model = _built(spec, config, str(folder / CONFIG), folder)
    share_weights(model, saved, folder / WEIGHTS, header)
    return model


def share_weights(model: "nn.Module", saved: "nn.Module", path: Path, header: dict[str, Entry]) -> None:
    """Gives a model built under `no_parameters` the tensors of the one that was saved, once all of the file are known to be finite."""
    state = saved.state_dict()
    fill(model, path, header, state)
    mine = dict(saved.named_buffers())
    for name, buffer in list(model.named_buffers()):
        if name not in state and name in mine:  # computed when the model is built, and moved with it afterwards
            place, _, leaf = name.rpartition(".")
            model.get_submodule(place)._buffers[leaf] = buffer.to(mine[name].device, mine[name].dtype)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a folder, held to its schema; raises as `load_saved`, but for the weights."""
    check_folder(folder)
    return _config(folder)


def _config(folder: Path) -> dict[str, Any]:
    config = current(read_json(folder / CONFIG), str(folder / CONFIG))
    check_config(config, str(folder / CONFIG))
    for assets in {entry.get("assets", ".") for entry in config["towers"]} - {"."}:
        check_folder(folder / assets, root=folder)
    return config


def _checked(folder: Path) -> tuple[ModelSpec, dict[str, Any], dict[str, Entry]]:
    """Facts, configuration and the weights' header of a folder, once they fit each other."""
    where, path = str(folder / CONFIG), folder / WEIGHTS
    config = _config(folder)
    spec = ModelSpec.from_dict(config["spec"])
    header = read_header(path)
    with no_memory(where):
        measured = _built(spec, config, where, None)
    check_numel(measured, path.stat().st_size, where)
    check_shapes(measured.state_dict(), header, path)
    check_types(measured, header, path)
    _check_facts(measured, where)
    return spec, config, header


def load_weights(model: "nn.Module", path: Path) -> None:
    """All tensors of a safetensors file into a model whose every tensor must be there, with its shape, and finite.

    Raises:
        MissingWeightsError: they are missing, damaged, not finite, or of another shape.
        UnsafeCheckpointError: a pickle under the name of safetensors.
    """
    header = read_header(path)
    check_shapes(model.state_dict(), header, path)
    fill(model, path, header)


def fill(
    model: "nn.Module", path: Path, header: dict[str, Entry], shared: "Mapping[str, Tensor] | None" = None
) -> None:
    """Every tensor of the file, once it is known to be finite; in its place the one of `shared`, where that is given."""
    from safetensors import SafetensorError, safe_open

    state = model.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            for name in header:
                tensor = file.get_tensor(name)
                # One NaN in a table is an error only for the texts that meet it: better said here, for all.
                # The sum is many times as fast as looking at each, and is finite only if all are.
                if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
                    raise MissingWeightsError(f"{path}: {name} has NaN or infinite weights; take another copy")
                if shared is None:
                    state[name].copy_(tensor)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise MissingWeightsError(f"{path} is damaged or cut off: {error}") from error
    if shared is not None:
        model.load_state_dict(shared, strict=True, assign=True)
