"""A row-wise loss computed a block of rows at a time: memory grows with the rows, never with their square."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_BLOCK_ENTRIES = 2**20  # similarities in memory at once: 4 MB in float32

RowLoss = Callable[..., Tensor | Iterable[Tensor]]


def in_row_blocks(
    loss: RowLoss, rows: tuple[Tensor, ...], shared: tuple[Tensor, ...], block: int | None = None
) -> Tensor:
    """Sum of a row-wise loss, computed a block of rows at a time: memory grows with the rows, never with their square.

    The gradient is formed in the forward pass, while the block's similarities are there, and is exact: nothing is
    computed twice. There is no second derivative.

    Args:
        loss: `loss(start, *rows, *shared)` → scalar sum over the block whose first row is number `start`; or a
            generator of scalars that add up to it, each dealt with before the next is computed.
        rows: `(B, ...)` each, cut into blocks; those after the first may be longer and are cut off at B.
        shared: seen whole by every block; the very tensors of `rows` may be among them.
        block: rows at once; by default what keeps about a million entries of the first of `shared` in memory.
    """
    check_block(block)
    if block is None:
        block = max(16, _BLOCK_ENTRIES // max(1, len(shared[0])))
    return _RowBlocks.apply(loss, block, len(rows), *rows, *shared)


def check_block(block: int | None) -> None:
    if block is not None and block < 1:
        raise ValueError(f"block must be 1 row or more, not {block}")


class _RowBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: RowLoss, block: int, cut: int, *tensors: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[3:]
        # A tensor that comes twice has one gradient: at these sizes each costs as much as the vectors themselves.
        first = [next(i for i, other in enumerate(tensors) if other is tensor) for tensor in tensors]
        grads = [
            torch.zeros_like(t) if need and first[i] == i else None
            for i, (t, need) in enumerate(zip(tensors, wanted, strict=True))
        ]
        whole = [t.detach().requires_grad_(need) for t, need in zip(tensors[cut:], wanted[cut:], strict=True)]
        total, count = tensors[0].new_zeros(()), len(tensors[0])
        for start in range(0, count, block):
            part = slice(start, min(start + block, count))
            mine = [t[part].detach().requires_grad_(n) for t, n in zip(tensors[:cut], wanted[:cut], strict=True)]
            leaves = [(i, leaf) for i, leaf in enumerate((*mine, *whole)) if leaf.requires_grad]
            with torch.enable_grad():
                values = loss(start, *mine, *whole)
                for value in (values,) if isinstance(values, Tensor) else values:
                    total += value.detach()
                    if not leaves or not value.requires_grad:
                        continue
                    # The graph of this block dies here. Left to one backward at the end, all blocks'
                    # similarities would be in memory at once.
                    steps = torch.autograd.grad(value, [leaf for _, leaf in leaves], allow_unused=True)
                    with torch.no_grad():
                        for (i, _), step in zip(leaves, steps, strict=True):
                            if step is not None:
                                (grads[first[i]][part] if i < cut else grads[first[i]]).add_(step)
                    del value, steps
        ctx.grads = grads
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # The loss is one number: its gradient was formed with upstream 1, and scales with what really comes.
        return (None, None, None, *(None if grad is None else grad * upstream for grad in ctx.grads))
