"""Retrieval and zero-shot metrics over similarity matrices: tensors in, numbers out."""

from collections.abc import Sequence

import torch
from torch import Tensor


def hits(similarity: Tensor, relevant: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
    """Share of queries with at least one relevant candidate among their k best (hit@k; recall@k where one is relevant).

    Ties count against the query: a candidate is passed over by every irrelevant one of equal similarity, so a model
    that gives the same vector for everything scores nothing.

    Args:
        similarity: `(queries, candidates)`. relevant: bool of the same shape; every query needs one relevant candidate.
    """
    if similarity.shape != relevant.shape:
        raise ValueError(f"similarity {tuple(similarity.shape)} and relevant {tuple(relevant.shape)} must agree")
    if len(similarity) == 0 or not bool(relevant.any(1).all()):
        raise ValueError("every query needs at least one relevant candidate, and there must be a query")
    best = similarity.masked_fill(~relevant, -torch.inf).amax(1, keepdim=True)
    ahead = ((similarity >= best) & ~relevant).sum(1)  # irrelevant candidates before the first relevant one
    return {k: float((ahead < k).float().mean()) for k in ks}


def precision(similarity: Tensor, relevant: Tensor, k: int = 10) -> float:
    """Mean share of relevant candidates among the k best of every query."""
    top = similarity.topk(min(k, similarity.shape[1]), dim=1).indices
    return float(relevant.gather(1, top).float().mean())


def accuracy(similarity: Tensor, labels: Tensor) -> float:
    """Share of rows of `(items, classes)` whose largest similarity is that of their label `(items,)`."""
    return float((similarity.argmax(1) == labels).float().mean())


def same(left: Sequence[str], right: Sequence[str]) -> Tensor:
    """Bool `(left, right)`: which strings are equal."""
    index = {text: number for number, text in enumerate(dict.fromkeys([*left, *right]))}
    rows, columns = (torch.tensor([index[text] for text in texts], dtype=torch.long) for texts in (left, right))
    return rows[:, None] == columns[None]
