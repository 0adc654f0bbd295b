"""Weights of data sets by how near they lie to what the model is for (SAIL-Embedding, section on source balancing)."""

from collections.abc import Sequence

import numpy as np


def sinkhorn(cost: np.ndarray, *, entropy: float = 0.05, rounds: int = 200) -> np.ndarray:
    """The transport plan `(n, m)` between even masses, with an entropic penalty (Cuturi, 2013).

    Its rows add up to 1/n and its columns to 1/m, rows exactly.
    """
    count, other = cost.shape
    # In logarithms: exp(-cost / 0.05) of two opposite vectors is e^-40, and products of many such vanish.
    scaled = -cost / entropy
    rows, columns = np.zeros(count), np.zeros(other)
    for _ in range(rounds):
        # Each round scales all columns to the mass 1/m, then all rows to 1/n; the rows come last, and are exact.
        columns = -np.log(other) - _log_sum(scaled + rows[:, None], 0)
        rows = -np.log(count) - _log_sum(scaled + columns[None], 1)
    return np.exp(scaled + rows[:, None] + columns[None])


def balance_weights(
    train: Sequence[np.ndarray],
    validation: Sequence[np.ndarray],
    *,
    clusters: int = 32,
    temperature: float = 0.1,
    entropy: float = 0.05,
    seed: int = 0,
) -> np.ndarray:
    """Weights of the training sets `(len(train),)` that add up to 1: more for those nearer to the validation sets.

    Each set is summed up by k-means centres; the score of a pair of sets is their mean cosine under the Sinkhorn plan
    on cost 1 - cosine, averaged over the validation sets; the weights are the softmax of the scores.

    Args:
        train, validation: unit vectors `(n, dim)` of a sample of each set, some thousand, by an early model.
        temperature: of the softmax. entropy: of the plan.

    Raises:
        ValueError: vectors that are not of unit length, as a model's that compares by dot product.
    """
    for name, sets in (("train", train), ("validation", validation)):
        if any(np.abs(np.linalg.norm(vectors, axis=1) - 1).max(initial=0) > 0.01 for vectors in sets):
            raise ValueError(f"{name} holds vectors that are not of unit length; divide each by its norm")
    centres = [_centres(vectors, clusters, seed) for vectors in train]
    wanted = [_centres(vectors, clusters, seed) for vectors in validation]
    scores = np.array([np.mean([_agreement(own, other, entropy) for other in wanted]) for own in centres])
    # Softmax; less the maximum, so that no exponential overflows.
    weights = np.exp((scores - scores.max()) / temperature)
    return weights / weights.sum()


def _agreement(a: np.ndarray, b: np.ndarray, entropy: float) -> float:
    cosines = a @ b.T
    return float((sinkhorn(1 - cosines, entropy=entropy) * cosines).sum())


def _log_sum(values: np.ndarray, axis: int) -> np.ndarray:
    # log Σ e^x = max + log Σ e^(x - max): no exponential overflows.
    top = values.max(axis, keepdims=True)
    return np.log(np.exp(values - top).sum(axis)) + np.squeeze(top, axis)


def _centres(vectors: np.ndarray, count: int, seed: int, rounds: int = 10) -> np.ndarray:
    """Unit centres `(min(count, n), dim)` of spherical k-means."""
    vectors = np.asarray(vectors, dtype=np.float64)
    rng = np.random.default_rng(seed)
    centres = vectors[rng.choice(len(vectors), min(count, len(vectors)), replace=False)]
    for _ in range(rounds):
        nearest = (vectors @ centres.T).argmax(1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, vectors)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 1e-12, sums / np.maximum(length, 1e-12), centres)
    return centres
