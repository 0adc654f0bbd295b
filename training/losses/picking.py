"""Queries pick their positives and positives their queries, in row blocks: InfoNCE's usual form, with its gradient written out.

Both directions read the same similarities: a first pass over the blocks adds up what each positive sees, a second one forms the
gradient of both, so that four products of matrices serve for what autograd needs six.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_ENTRIES = 2**20  # similarities in memory at once, of which there are three copies: 4 MB each in float32
_GONE = -1e30  # a logit whose probability is 0; infinity times that would be no number

Gone = Callable[[slice], Tensor | None]
Cost = Callable[[Tensor, slice], Tensor]


def picking_loss(
    queries: Tensor,
    targets: Tensor,
    scale: Tensor,
    *,
    symmetric: bool,
    gone: Gone = lambda rows: None,
    cost: Cost | None = None,
    block: int | None = None,
) -> Tensor:
    """Sum over the queries, in both directions half of each; exact, without a second derivative.

    Args:
        queries: `(B, D)`. targets: `(N, D)`, positives first. scale: of the similarities, a scalar.
        gone: which targets `(b, N)` are no negatives of some queries; the same queries are then none of those positives. None
            for none. A positive of its own query may be named, and stays.
        cost: what rows cost `(b,)` whose positives have these negative log-likelihoods `(b,)`; None for these themselves.
        block: queries at once; None picks.
    """
    if block is None:
        block = max(16, _ENTRIES // max(1, len(targets)))
    return _Picking.apply(queries, targets, scale, symmetric, gone, cost, block)


class _Picking(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        targets: Tensor,
        scale: Tensor,
        symmetric: bool,
        gone: Gone,
        cost: Cost | None,
        block: int,
    ) -> Tensor:
        count, share = len(queries), 0.5 if symmetric else 1.0
        parts = [slice(start, min(start + block, count)) for start in range(0, count, block)]
        total = queries.new_zeros(())
        if symmetric:
            # seen[j] = log Σ_i e^(logit_ij) over all queries: known only once every block was read,
            # hence a pass of its own.
            seen, own = _seen(queries, targets[:count], scale, gone, parts)
            losses, back = _curve(seen - own, slice(0, count), cost, share)
            total += losses
        of_queries, of_targets, of_scale = torch.zeros_like(queries), torch.zeros_like(targets), torch.zeros_like(scale)
        for rows in parts:
            logits = _logits(queries[rows], targets, scale, gone(rows), rows.start)
            here = torch.arange(len(logits), device=logits.device)
            whole = logits.logsumexp(1)
            losses, forth = _curve(whole - logits[here, rows.start + here], rows, cost, share)
            total += losses
            # Of -log softmax the slope in logit j is p_j - [j is the positive]; times what the row's cost makes of it.
            slope = (logits - whole[:, None]).exp_().mul_(forth[:, None])
            slope[here, rows.start + here] -= forth
            if symmetric:
                # A view: the positives' softmax over the queries adds its slope to the same entries.
                mine = slope[:, :count]
                mine += (logits[:, :count] - seen).exp_().mul_(back)
                slope[here, rows.start + here] -= back[rows]
            # logit = scale · similarity: d/d scale is slope · similarity, which is slope · logit / scale.
            of_scale += slope.flatten().dot(logits.flatten()) / scale
            # From here on the slope in the similarity, q · t: its gradient for q is t and for t is q.
            slope *= scale
            torch.mm(slope, targets, out=of_queries[rows])
            of_targets.addmm_(slope.T, queries[rows])
        ctx.grads = of_queries, of_targets, of_scale
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        grads = (grad * upstream if need else None for grad, need in zip(ctx.grads, ctx.needs_input_grad, strict=False))
        return (*grads, None, None, None, None)


def _logits(queries: Tensor, targets: Tensor, scale: Tensor, gone: Tensor | None, start: int) -> Tensor:
    """Logits `(b, N)` of queries from number `start` on."""
    logits = (queries @ targets.T).mul_(scale)
    if gone is None:
        return logits
    here = torch.arange(len(logits), device=logits.device)
    own = logits[here, start + here]
    logits.masked_fill_(gone[:, : len(targets)], _GONE)
    logits[here, start + here] = own
    return logits


def _seen(queries: Tensor, positives: Tensor, scale: Tensor, gone: Gone, parts: list[slice]) -> tuple[Tensor, Tensor]:
    """Of each positive the logarithm of the sum of its logits over all queries `(B,)`, and its logit with its own one `(B,)`."""
    seen, own = queries.new_full((len(positives),), -torch.inf), queries.new_empty(len(positives))
    for rows in parts:
        logits = _logits(queries[rows], positives, scale, gone(rows), rows.start)
        own[rows] = logits.diagonal(rows.start)
        torch.logaddexp(seen, logits.logsumexp(0), out=seen)
    return seen, own


def _curve(losses: Tensor, rows: slice, cost: Cost | None, share: float) -> tuple[Tensor, Tensor]:
    """What some rows cost together, and its slope in each row's negative log-likelihood `(b,)`; both times `share`."""
    if cost is None:
        return share * losses.sum(), torch.full_like(losses, share)
    with torch.enable_grad():
        losses = losses.detach().requires_grad_()
        value = share * cost(losses, rows).sum()
        return value.detach(), torch.autograd.grad(value, losses)[0]
