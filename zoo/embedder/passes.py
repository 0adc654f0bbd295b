"""Forward passes on a device: how much of a batch it has room for, and batches and vectors on their way there and back.

On a GPU nothing waits for a batch: inputs go there through pinned memory on a stream of their own while the batch before is computed, and
vectors come back while the one after is. On a CPU all of it does nothing.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from zoo.encoders.base import Batch, Encoder
from zoo.errors import OutOfMemoryError

IN_FLIGHT = 2  # batches whose vectors have not come back while the next one is begun


class Room:
    """How large batches may be after memory ran out.

    It belongs to a model, so that a batch that was too large once is not tried again in the next call.
    """

    def __init__(self) -> None:
        self._most: WeakKeyDictionary[Encoder, float] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def most(self, encoder: Encoder) -> float:
        """The largest cost of a batch, in units of `Encoder.length`, that may be tried."""
        with self._lock:
            return self._most.get(encoder, float("inf"))

    def ran_out(self, encoder: Encoder, reads: Sequence[Any]) -> None:
        """Memory ran out for these reads: half as much is tried from now on."""
        cost = len(reads) * max(encoder.length(read) for read in reads)
        with self._lock:
            self._most[encoder] = min(self._most.get(encoder, float("inf")), cost / 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # of blocks that are free and too small

    def __reduce__(self) -> tuple[Any, ...]:
        return Room, ()  # a lock cannot be copied; a copied model finds out for itself


def too_large(device: torch.device, error: BaseException) -> OutOfMemoryError:
    """The error of one item that a device has no room for, of what it raised."""
    where = "GPU out of memory" if device.type == "cuda" else "out of memory"
    reason = " ".join(str(error).split())[:160]
    return OutOfMemoryError(
        f"{where} at batch of one: the item does not fit on {device} beside the model ({reason}). Shorten it or scale it down, load the "
        'model with dtype="bfloat16", or free memory that other programs hold'
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out; on a CPU torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def halved(
    run: Callable[[list[Any]], Any],
    reads: list[Any],
    device: torch.device,
    shrunk: Callable[[list[Any]], None] = lambda reads: None,
) -> list[Any]:
    """What `run` gives of all reads, or, where memory runs out, of parts of them that are half as large each time.

    Args:
        device: named in the error. shrunk: called with the reads for which memory ran out.

    Raises:
        OutOfMemoryError: for one read.
    """
    try:
        return [run(reads)]
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            raise
        if len(reads) == 1:
            raise too_large(device, error) from error
    shrunk(reads)  # here, where nothing holds the tensors of the pass any more
    half = len(reads) // 2
    return [part for some in (reads[:half], reads[half:]) for part in halved(run, some, device, shrunk)]


# ------------------------------------------------------------------------------------------------------------- transfers


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> Batch:
    """A collated batch on a device. To CUDA it goes while what was asked of the GPU before is still computed."""
    if device.type != "cuda":
        return {name: tensor.to(device) for name, tensor in batch.items()}
    with torch.cuda.device(device):
        side, current = _side_stream(str(device)), torch.cuda.current_stream(device)
        with torch.cuda.stream(side):
            moved = {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()}
        current.wait_stream(side)
        for tensor in moved.values():
            tensor.record_stream(current)  # its memory is not given to others before this stream is done with it
    return moved


@cache
def _side_stream(device: str) -> "torch.cuda.Stream":
    return torch.cuda.Stream(device)


class Returning:
    """Vectors on their way to the CPU: from CUDA they come while the next batch is computed.

    Attributes:
        waits: whether there is anything to wait for.
    """

    def __init__(self, vectors: Tensor) -> None:
        self.waits = vectors.device.type == "cuda"
        if not self.waits:
            self._host = vectors.cpu()
            return
        self._host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        with torch.cuda.device(vectors.device):
            self._host.copy_(vectors, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record()

    @torch.inference_mode(False)
    def get(self) -> Tensor:
        """The vectors, an ordinary tensor on the CPU: autograd takes none of inference mode, and a copy made outside is one."""
        if self.waits:
            self._done.synchronize()
        return self._host.clone()
