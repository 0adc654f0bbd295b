"""Calibration: between which values the inputs of every layer lie, seen on real inputs of the model."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zoo.encoders.int8 import LEVELS

_BINS = 2048
# Ends that are tried: shares of the largest and smallest value that was seen.
_SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.4, 0.3)


def ranges_of(layers: Mapping[str, nn.Module], run: Callable[[], None]) -> dict[str, tuple[float, float]]:
    """Of every layer that had an input the range whose 256 values are nearest to what was seen (least mean squared error).

    Args:
        layers: by name. run: passes real inputs through them, the same each time; called twice.
    """
    ends: dict[str, tuple[float, float]] = {}

    def widen(name: str, values: Tensor) -> None:
        low, high = ends.get(name, (0.0, 0.0))
        ends[name] = (min(low, float(values.min())), max(high, float(values.max())))

    with _watched(layers, widen):
        run()
    counts = {name: torch.zeros(_BINS, dtype=torch.float64) for name in ends}

    def count(name: str, values: Tensor) -> None:
        low, high = ends[name]
        counts[name] += torch.histc(values.float(), _BINS, low, high).double() if high > low else 0

    with _watched(layers, count):
        run()
    return {name: _nearest(counts[name], *ends[name]) for name in ends}


@contextmanager
def _watched(layers: Mapping[str, nn.Module], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Shows what goes into the layers while this lasts."""
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: see(name, inputs[0].detach()))
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _nearest(counts: Tensor, low: float, high: float) -> tuple[float, float]:
    """The ends with the least mean squared error of rounding and cutting off, of a histogram `(bins,)` from `low` to `high`."""
    width = (high - low) / len(counts)
    values = low + width * (torch.arange(len(counts), dtype=torch.float64) + 0.5)
    lows = [low * share for share in (_SHARES if low < 0 else (1.0,))]
    highs = [high * share for share in (_SHARES if high > 0 else (1.0,))]
    best, ends = float("inf"), (low, high)
    for first in lows:
        for last in highs:
            step = (last - first) / LEVELS
            if step <= 0:
                continue
            rounded = ((values - first) / step).round().clamp(0, LEVELS) * step + first
            error = float((counts * (values - rounded).square()).sum())
            if error < best:
                best, ends = error, (first, last)
    return ends
