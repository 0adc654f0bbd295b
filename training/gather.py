"""Rows of all processes as one batch: the only file that knows about ranks.

Every process computes the loss of the whole batch from gathered embeddings that are leaves, and carries back the
gradient of its own rows alone. The sum of the processes' gradients is then exactly the gradient of one process that
had seen the whole batch, for any loss; nothing has to be differentiated through a collective.
"""

import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import ProcessesError

_BUCKET = 2**25  # values of one all-reduce


def world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) where there is one."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def is_main() -> bool:
    """Whether this process is the one that speaks and writes; under a launcher also before the processes have met."""
    return world()[0] == 0 if dist.is_available() and dist.is_initialized() else os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Prints a line, once however many processes there are."""
    if is_main():
        print(text, flush=True)


def gather_rows(rows: Tensor, negatives: int = 0) -> Tensor:
    """Rows of all processes in the order of their ranks, on every process, without a gradient.

    Args:
        rows: `(b + b·M, ...)`: positives, then M negatives each. negatives: M.

    Returns:
        `(B + B·M, ...)`: the positives of all processes, then the negatives of all.
    """
    size = world()[1]
    if size == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(size)]  # a gather wants parts of one shape: see check_even
    dist.all_gather(parts, rows.contiguous())
    count = len(rows) // (1 + negatives)
    # Losses expect all positives first, whatever the number of processes: (b + b·M) of each
    # rank is split, then regrouped.
    return torch.cat([part[:count] for part in parts] + [part[count:] for part in parts])


def own_rows(rows: Tensor, negatives: int = 0) -> Tensor:
    """This process's part of what `gather_rows` returned."""
    rank, size = world()
    if size == 1:
        return rows
    count = len(rows) // (1 + negatives) // size
    first = rows[rank * count : (rank + 1) * count]
    start = size * count + rank * count * negatives
    return torch.cat([first, rows[start : start + count * negatives]])


def check_even(count: int, device: torch.device) -> None:
    """Raises ProcessesError where the processes hold different numbers of rows; a gather would hang."""
    if world()[1] == 1:
        return
    counts = gather_rows(torch.tensor([count], device=device)).tolist()
    if len(set(counts)) > 1:
        raise ProcessesError(f"the processes hold {counts} items; a batch must be cut into equal parts")


@torch.no_grad()
def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Adds up `.grad` over all processes, in place, in buckets; a parameter that some process did not use counts as 0."""
    if world()[1] == 1:
        return
    bucket: list[Tensor] = []
    size = 0
    for parameter in parameters:
        if not parameter.requires_grad:
            continue
        # Every process must reduce the same tensors in the same order, or the collectives wait for each other forever.
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if bucket and (size + parameter.numel() > _BUCKET or parameter.grad.dtype != bucket[0].dtype):
            _reduce(bucket)
            bucket, size = [], 0
        bucket.append(parameter.grad)
        size += parameter.numel()
    if bucket:
        _reduce(bucket)


def _reduce(grads: Sequence[Tensor]) -> None:
    flat = torch.cat([grad.flatten() for grad in grads])
    # A sum, not DDP's mean: each process already carries the gradient of the whole batch's loss for its own rows.
    dist.all_reduce(flat)
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


@torch.no_grad()
def broadcast(model: torch.nn.Module) -> None:
    """Gives every process the first one's weights and buffers."""
    if world()[1] > 1:
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor, 0)


def decided(yes: bool, device: torch.device) -> bool:
    """What the first process decides, on every process."""
    if world()[1] == 1:
        return yes
    flag = torch.tensor([float(yes)], device=device)
    dist.broadcast(flag, 0)
    return bool(flag.item())


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if world()[1] > 1:
        dist.barrier()
