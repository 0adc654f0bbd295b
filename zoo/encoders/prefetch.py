"""Windows: how far the reading threads run ahead of the model, and the batches that it gets of what they have read."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

from zoo.encoders.base import Encoder
from zoo.inputs.item import Item

_WINDOW = 4096  # items read ahead of the model, an image counting as 16 or more
_FIRST_WINDOW = 512
_IMAGE_WEIGHT = 16
_PATIENCE = 0.5  # seconds in which a window is gathered: of a slow producer's inputs the first are not kept waiting
_UNIT, _MOST = 4 * 2**30, 16  # of `budget_of`
_WINDOW_BYTES = 2**30  # of images and videos that are read and wait; two windows are there at a time


class Prefetch:
    """How far reading runs ahead: what an image counts in a window, 16, or as much as keeps images like those read last within a gigabyte.

    An image is half a megabyte for CLIP; for a vision-language model it may be forty, and a video some hundred.

    Args:
        encoders: of the model, by the numbers that reads have.
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self._encoders = encoders
        self.image = float(_IMAGE_WEIGHT)
        # One sequence of several images or a video may be large, and so may audio: little is read before the size of some is known.
        self.first = (
            _FIRST_WINDOW // 4
            if any(encoder.interleaved or "audio" in encoder.modalities for encoder in encoders)
            else _FIRST_WINDOW
        )

    def learn(self, reads: Sequence[tuple[int, int, Any]]) -> None:
        """Takes the mean size of (index, encoder, read), of those that have one."""
        sizes = [self._encoders[place].size(read) for _, place, read in reads if place >= 0]
        if sizes := [size for size in sizes if size]:
            self.image = max(_IMAGE_WEIGHT, _WINDOW * sum(sizes) / len(sizes) / _WINDOW_BYTES)

    def weight(self, value: Any) -> float:
        """What an input counts: a text 1."""
        if isinstance(value, str):
            return 1
        media = (
            value.media if isinstance(value, Item) else (value,)
        )  # not `modalities`, which raises for parts that are none
        if not media and not value.parts:
            return 1
        held = sum(size for one in media if isinstance(size := getattr(one, "nbytes", 0), int))  # arrays wait, too
        return max(self.image, _WINDOW * held / _WINDOW_BYTES)


class Window(NamedTuple):
    """Inputs that are read and embedded together.

    Attributes:
        chunks: (index, input) for each input, in what the reading threads take at a time.
        late: whether time closed it, before it was full.
        error: of the caller's iterable, which ends here.
    """

    chunks: list[list[tuple[int, Any]]]
    late: bool = False
    error: Exception | None = None


def windows(inputs: Iterable[Any], pace: Prefetch, clock: Callable[[], float] = time.monotonic) -> Iterator[Window]:
    """Inputs gathered into windows of bounded size, each in bounded time as far as the inputs let it.

    Raises nothing of its own: where the inputs end in an error, the last window holds it beside what came before.
    """
    chunks: list[list[tuple[int, Any]]] = []
    chunk: list[tuple[int, Any]] = []
    window_weight = chunk_weight = 0.0
    limit = pace.first  # small at first, so that the model starts while the rest is still being read
    started, error = clock(), None
    try:
        for index, value in enumerate(inputs):
            weight = pace.weight(value)
            chunk.append((index, value))
            chunk_weight += weight
            late = clock() - started >= _PATIENCE
            if late or chunk_weight >= 4 * _IMAGE_WEIGHT:
                chunks.append(chunk)
                window_weight += chunk_weight
                chunk, chunk_weight = [], 0.0
            if late or window_weight >= limit:
                yield Window(chunks, late)
                chunks, window_weight, limit, started = [], 0.0, min(2 * limit, _WINDOW), clock()
    except Exception as problem:
        error = problem
    if chunk:
        chunks.append(chunk)
    if chunks or error is not None:
        yield Window(chunks, error=error)


def budget_of(encoder: Encoder, device: torch.device | None = None) -> int:
    """Units of `Encoder.length` in one forward pass: the encoder's own on a CPU, where they stay in its caches, and that many more times on a
    GPU, once for each 4 GiB of its memory and 16 times at most.

    Args:
        device: where it is; None asks its weights.
    """
    device = device or next((weight.device for weight in encoder.parameters()), torch.device("cpu"))
    return encoder.batch_budget * (_times(str(device)) if device.type == "cuda" else 1)


@cache
def _times(device: str) -> int:
    return max(1, min(_MOST, torch.cuda.get_device_properties(device).total_memory // _UNIT))


def batches(
    reads: list[tuple[int, Any]],
    encoder: Encoder,
    batch_size: int | None,
    device: torch.device | None = None,
    most: Callable[[], float] = lambda: math.inf,
) -> Iterator[list[tuple[int, Any]]]:
    """Reads of similar length together, each batch within the budget and the user's `batch_size`.

    Args:
        device: where the encoder is; None asks its weights. most: gives the largest cost that may be tried; asked anew for every batch,
            since memory may have run out meanwhile.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    lengths, budget = [encoder.length(read) for _, read in reads], budget_of(encoder, device)
    batch: list[tuple[int, Any]] = []
    longest = 0
    # Shortest first: a batch is padded to its longest, and neighbours differ by little.
    for position in sorted(range(len(reads)), key=lengths.__getitem__):
        longest = max(longest, lengths[position])
        cost = longest * (len(batch) + 1)
        full = len(batch) == batch_size if batch_size else cost > budget
        if batch and (full or cost > most()):
            yield batch
            batch, longest = [], lengths[position]
        batch.append(reads[position])
    if batch:
        yield batch
