"""Shortening: a model's first blocks and first dimensions alone, as 2D Matryoshka and Starbucks models are used."""

from typing import TYPE_CHECKING

from torch import nn

from zoo.callers import warn
from zoo.encoders.int8 import need_float
from zoo.errors import ArgumentError, NoSuchBlockError, NotOfferedError
from zoo.heads import DenseStack, Identity, Linear

if TYPE_CHECKING:
    from zoo.embedder import Embedder


def shorten(model: "Embedder", layers: int | None = None, dim: int | None = None) -> "Embedder":
    """Keeps the first blocks of every tower and the first dimensions of its vectors, in place: another model, by another name.

    Its vectors are those of `encode(dim=dim)` after that block, final norm, pooler and head included; it costs and weighs what
    is left, and `save_pretrained` writes that. Blocks before the last give good vectors where they were trained to
    (`infonce + matryoshka_2d(...)`, `starbucks`), others lose accuracy.

    Args:
        layers: blocks to keep, from 1; None for all. dim: dimensions to keep; None for all.

    Raises:
        NoSuchBlockError: a tower has fewer blocks, or does not keep them in a list. ArgumentError: it has fewer dimensions.
        NotOfferedError: a head or a combiner whose first dimensions are none of their own, or an int8 model. The model is as it was.
    """
    spec = model.spec
    need_float(model, "keeping a part of its layers")
    _check(model, layers, dim)
    dim = None if dim == spec.dim else dim
    if dim is not None and dim not in spec.dims:
        trained = f"only for {list(spec.dims)}" if spec.dims else "for no cut"
        warn(f"{spec.name} was trained {trained}; {dim} dimensions lose accuracy")
    heads = [] if dim is None else [_shortened(tower.head, dim) for tower in model.towers]
    before = sum(weight.numel() for weight in model.parameters())
    for tower in model.towers if layers is not None and layers < max(_depths(model)) else ():
        tower.encoder.truncate(layers)
    for tower, head in zip(model.towers, heads, strict=False):
        tower.head = head.to(next(tower.parameters()))
    after = sum(weight.numel() for weight in model.parameters())
    if after == before and dim is None:
        return model
    name = spec.name + (f"-l{layers}" if layers is not None else "") + (f"-d{dim}" if dim is not None else "")
    model.spec = spec.derived(
        name,
        dim=dim or spec.dim,
        dims=tuple(cut for cut in spec.dims if cut <= (dim or spec.dim)),
        params=spec.params - (before - after) if spec.params else spec.params,
    )
    model.calibration = {}  # which was measured on other vectors
    return model


def _depths(model: "Embedder") -> list[int]:
    return [tower.encoder.depth for tower in model.towers]


def _check(model: "Embedder", layers: int | None, dim: int | None) -> None:
    spec = model.spec
    if dim is not None and not 1 <= dim <= spec.dim:
        raise ArgumentError(
            f"dim must be from 1 to {spec.dim} for {spec.name}, not {dim}; leave it out for all dimensions"
        )
    if dim is not None and dim < spec.dim and hasattr(model.fusion, "dim"):
        raise NotOfferedError(
            f"{spec.name} fuses by a combiner of {spec.dim} dimensions, which cannot be cut; encode(dim={dim}) can"
        )
    for tower in model.towers if layers is not None else ():
        reads = "+".join(sorted(tower.encoder.modalities))
        if not hasattr(tower.encoder, "truncate"):
            raise NoSuchBlockError(
                f"the blocks of {spec.name}'s tower for {reads} cannot be told apart; leave layers out"
            )
        if not 1 <= layers <= tower.encoder.depth:
            raise NoSuchBlockError(
                f"{spec.name}'s tower for {reads} has blocks 1 to {tower.encoder.depth}, not {layers}"
            )


def _shortened(head: nn.Module, dim: int) -> nn.Module:
    """A head that gives the first dimensions of what another one gives; a projection loses the other rows."""
    if isinstance(head, Linear):
        short = Linear(head.width, dim, head.bias)
        short.project.load_state_dict({name: value[:dim] for name, value in head.project.state_dict().items()})
        return short
    if isinstance(head, Identity | DenseStack):
        short = DenseStack([*getattr(head, "specs", ()), {"kind": "cut", "dim": dim}])
        short.load_state_dict(head.state_dict())
        return short
    raise NotOfferedError(
        f"a head {type(head).__name__} cannot be cut to {dim} dimensions; encode(dim={dim}) cuts its vectors"
    )
