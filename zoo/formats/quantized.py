"""int8 models in our own layout: what config.json says of their layers, held to a schema, the shapes, and what the numbers can be."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.strangers.schema import Range, check

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.encoders.int8 import Quantization
    from zoo.formats.checks.safetensors_checks import Entry

KEY = "quantized"
_MOST_LAYERS = 8_000
_Text = Annotated[str, Range(0, 500)]


class _Tower(TypedDict):
    layers: Annotated[list[_Text], Range(0, _MOST_LAYERS)]
    folded: bool


class _Source(TypedDict):
    name: _Text
    revision: _Text | None
    weights: _Text


class _Measured(TypedDict):
    dataset: _Text
    figure: _Text
    queries: Annotated[int, Range(1, 2**40)]
    float32: Annotated[float, Range(0, 1)]
    int8: Annotated[float, Range(0, 1)]
    low: Annotated[float, Range(-1, 1)]
    high: Annotated[float, Range(-1, 1)]


class _Quantized(TypedDict):
    scheme: _Text
    towers: Annotated[list[_Tower], Range(1, 10)]
    of: _Source
    calibrated: dict[str, int]
    source: _Text
    measured: Annotated[list[_Measured], Range(0, 100)]


def quantization_of(config: dict[str, Any], where: str) -> "Quantization | None":
    """What config.json says of int8 layers, None where it says nothing.

    Raises:
        UnrecognisedCheckpointError: another scheme, or no such description.
    """
    if KEY not in config:
        return None
    from zoo.encoders.int8 import SCHEME, Int8Tower, Quantization

    told, where = config[KEY], f"{where}: {KEY}"
    if (scheme := told.get("scheme")) != SCHEME:
        raise UnrecognisedCheckpointError(
            f"{where}: the scheme {scheme!r:.60} is none that this zoo computes, which is {SCHEME!r}; is the zoo new enough?"
        )
    check(told, _Quantized, where)
    if unknown := sorted(set(told) - set(_Quantized.__annotations__)):
        raise UnrecognisedCheckpointError(f"{where} has the key {unknown[0]!r:.60}, which this zoo does not know")
    if len(told["towers"]) != len(config["towers"]):
        raise UnrecognisedCheckpointError(
            f"{where} is of {len(told['towers'])} towers; the model has {len(config['towers'])}"
        )
    towers = tuple(Int8Tower(tuple(tower["layers"]), tower["folded"]) for tower in told["towers"])
    return Quantization(towers, told["of"], told["calibrated"], told["source"], tuple(told["measured"]))


def shape_layers(model: "Embedder", told: "Quantization | None", where: str) -> None:
    """Gives a model that was just built the int8 layers that its description says, not yet filled; in place.

    Raises:
        UnrecognisedCheckpointError: it has no such layers.
    """
    if told is None:
        return
    from zoo.encoders.int8 import shape_as

    try:
        for number, (tower, layers) in enumerate(zip(model.towers, told.towers, strict=True)):
            shape_as(tower.encoder, layers, f"{where}: {KEY}.towers[{number}]")
    except ValueError as error:
        raise UnrecognisedCheckpointError(str(error)) from error
    model.quantized = told


def check_types(model: "Embedder", header: "dict[str, Entry]", path: Path) -> None:
    """Raises MissingWeightsError where a tensor of an int8 layer is stored as another type, which would be rounded in silence."""
    if model.quantized is None:
        return
    from zoo.encoders.int8 import TENSORS, int8_layers

    for name, _ in int8_layers(model):
        for tensor, dtype in TENSORS.items():
            if (found := header[f"{name}.{tensor}"].dtype) != dtype:
                raise MissingWeightsError(
                    f"{path} does not fit: {name}.{tensor} is stored as {found}, and has to be {dtype}"
                )


def check_numbers(model: "Embedder", path: Path) -> None:
    """Raises MissingWeightsError where an int8 layer of a filled model has steps or integers that no layer has."""
    if model.quantized is None:
        return
    from zoo.encoders.int8 import check_values

    try:
        check_values(model, str(path))
    except ValueError as error:
        raise MissingWeightsError(f"{error}; take another copy") from error
