"""A model in float32 → the same in int8, its ranges measured on real inputs."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from zoo.arguments import checked, many, optional, text, wrong
from zoo.embedder.fingerprints import weights_hash
from zoo.encoders.folding import fold
from zoo.encoders.int8 import Int8Tower, Quantization, candidates, need_float, open_attention, replace
from zoo.errors import ArgumentError, NotOfferedError
from zoo.inputs.item import Item, as_item
from zoo.quantizing.calibrating import ranges_of

if TYPE_CHECKING:
    from zoo.embedder import Embedder, Tower

FEWEST = 8  # inputs of a tower; a range of fewer is chance. Some tens are enough, some hundreds are better
_CLOSE = 1e-3  # of a unit vector's dimension: what folding and opening may change is float32's own noise


def _a_model(name: str, value: Any) -> Any:
    if not hasattr(value, "encode_stream"):
        raise wrong(name, value, "a model", f"write {name}=zoo.load_model(...)")
    return value


@checked(model=_a_model, inputs=many, source=text, name=optional(text))
def quantize(model: "Embedder", inputs: Sequence[Any], *, source: str = "", name: str | None = None) -> "Embedder":
    """The same model with int8 weights and inputs in every linear layer and convolution of its encoders; the given one is not changed.

    Weights are integers per output channel; the range of each layer's input is the one whose 256 values are nearest to what real
    inputs gave. Tables of tokens, norms, poolers and heads stay float32. `model.encode` computes with integers at once, so does
    `load_model(folder, backend="openvino")` of what `save_pretrained` writes. Nothing says how much worse it is: measure that
    (`zoo.quantizing.loss_of`, `zoo quantize`).

    Args:
        model: in float32 on the CPU. inputs: what `encode` takes, some hundreds, of each modality that the model reads; a tower
            that sees fewer than 8 stays float32.
        source: what the inputs are, in words, for the record. name: of the new model, by default the old one with "-int8".

    Raises:
        NotOfferedError: it is int8 already, or none of its layers can be. ArgumentError: not float32 on the CPU, or too few inputs.
    """
    need_float(model, "quantising")
    if {one.dtype for one in model.parameters()} != {torch.float32} or model.device.type != "cpu":
        raise ArgumentError(
            f"{model.spec.name} is quantised from float32 on the CPU; load_model(name, device='cpu') gives that"
        )
    made = _plain_copy(model)
    items = [one for given in inputs for one in _apart(made, as_item(given))]
    seen = [0] * len(made.towers)
    found = []
    for number, tower in enumerate(made.towers):
        mine = [item for item in items if made.route(item) is tower]
        seen[number] = len(mine)
        found.append(_quantized(made, tower, mine) if len(mine) >= FEWEST else Int8Tower())
    if not any(tower.layers for tower in found):
        told = ", ".join(f"{count} for {_reads(tower)}" for count, tower in zip(seen, made.towers, strict=True))
        if max(seen) < FEWEST:
            raise ArgumentError(
                f"quantising needs at least {FEWEST} real inputs of a tower, better some hundreds; there were {told}"
            )
        raise NotOfferedError(f"{model.spec.name} has no layers that can be int8")
    made.spec = model.spec.derived(name or f"{model.spec.name}-int8")
    made.calibration = {}  # which was measured on other vectors
    of = {"name": model.spec.name, "revision": model.spec.revision, "weights": weights_hash(model)}
    counts = {_reads(tower): count for tower, count, done in zip(made.towers, seen, found, strict=True) if done.layers}
    made.quantized = Quantization(tuple(found), of, counts, source)
    return made.eval()


def left_float(model: "Embedder") -> list[str]:
    """What the towers read that stayed float32: ["text"]."""
    if model.quantized is None:
        return [_reads(tower) for tower in model.towers]
    told = zip(model.towers, model.quantized.towers, strict=True)
    return [_reads(tower) for tower, layers in told if not layers.layers]


def _reads(tower: "Tower") -> str:
    return "+".join(sorted(tower.encoder.modalities))


def _apart(model: "Embedder", item: Item) -> list[Item]:
    """An item as its tower reads it; one that several towers read together as one for each of its modalities."""
    if any(model.route(item) is tower for tower in model.towers):
        return [item]
    return [Item(**{modality: getattr(item, modality)}) for modality in sorted(item.modalities)]


def _plain_copy(model: "Embedder") -> "Embedder":
    """Without a backend, and without gradients."""
    made = copy.deepcopy(model).eval().requires_grad_(False)
    for tower in made.towers:
        tower.compiled = None
    return made


def _quantized(model: "Embedder", tower: "Tower", items: Sequence[Item]) -> Int8Tower:
    """Makes a tower int8, in place; it is left as it was where its layers cannot be opened to that."""
    encoder, kept = tower.encoder, copy.deepcopy(tower.encoder)

    def run(some: Sequence[Item] = items) -> torch.Tensor | list[torch.Tensor]:
        return model.encode(list(some), progress=False)

    wanted = _rows(run(items[:FEWEST]))
    backbone = encoder.foldable()
    if backbone is not None:
        fold(backbone)
    open_attention(encoder)
    if not float((_rows(run(items[:FEWEST])) - wanted).abs().max()) <= _CLOSE:
        tower.encoder = kept
        return Int8Tower()
    layers = candidates(encoder)
    ranges = ranges_of(layers, run)
    for name, (low, high) in ranges.items():
        replace(encoder, name, low, high)
    return Int8Tower(tuple(sorted(ranges)), backbone is not None)


def _rows(vectors: "torch.Tensor | list[torch.Tensor]") -> torch.Tensor:
    """Vectors of tokens one after the other."""
    return vectors if isinstance(vectors, torch.Tensor) else torch.cat(vectors)
