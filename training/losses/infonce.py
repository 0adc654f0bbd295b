"""InfoNCE: each query picks its positive among all targets (van den Oord et al., 2018; CLIP, Radford et al., 2021)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LARGEST_SCALE = 100.0  # as in CLIP: a higher one makes training unstable


class InfoNCE(nn.Module):
    """Symmetric cross-entropy over cosine similarities, with a learned temperature.

    Row i of `targets` is the positive of query i; rows beyond the queries are negatives of every query. Targets that
    are as right for a query as its own positive (another text of the same thing) are named in `ignore` and left out.

    Args:
        temperature: at the start. learn: whether it is trained.
        block: rows whose similarities are in memory at once; more are recomputed in the backward pass.
    """

    def __init__(self, temperature: float = 0.07, learn: bool = True, block: int = 1024) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learn)
        self.block = block

    @property
    def scale(self) -> Tensor:
        """What similarities are multiplied by: the inverse of the temperature, at most 100."""
        return self.log_scale.exp().clamp(max=_LARGEST_SCALE)

    def forward(self, queries: Tensor, targets: Tensor, ignore: Tensor | None = None) -> Tensor:
        """Mean loss of both directions, in nats.

        Args:
            queries: unit vectors `(B, D)`. targets: unit vectors `(B + negatives, D)`.
            ignore: `(B, B + negatives)`, True where a target is no fair negative of a query; row i never ignores its
                own positive i, whatever is said there.
        """
        count = len(queries)
        if len(targets) < count:
            raise ValueError(f"{count} queries need at least as many targets, not {len(targets)}")
        own = targets[:count]
        forth = self._direction(queries, targets, ignore)
        back = self._direction(own, queries, None if ignore is None else ignore[:, :count].T)
        return (forth + back) / 2

    def _direction(self, rows: Tensor, columns: Tensor, ignore: Tensor | None) -> Tensor:
        losses = []
        for start in range(0, len(rows), self.block):
            stop = start + self.block
            part = None if ignore is None else ignore[start:stop]
            arguments = (rows[start:stop], columns, self.scale, part, start)
            if len(rows) <= self.block:
                losses.append(_cross_entropy(*arguments))
            else:  # the (block, columns) matrix is formed again in the backward pass instead of being kept
                losses.append(torch.utils.checkpoint.checkpoint(_cross_entropy, *arguments, use_reentrant=False))
        return torch.stack(losses).sum() / len(rows)


def _cross_entropy(rows: Tensor, columns: Tensor, scale: Tensor, ignore: Tensor | None, start: int) -> Tensor:
    """Summed loss of some rows whose positives are the columns `start`, `start + 1`, ..."""
    logits = scale * rows @ columns.T  # (block, columns)
    gold = torch.arange(start, start + len(rows), device=rows.device)
    if ignore is not None:
        keep = torch.zeros_like(ignore).scatter_(1, gold[:, None], True)
        logits = logits.masked_fill(ignore & ~keep, -torch.inf)
    return F.cross_entropy(logits, gold, reduction="sum")
