"""Metrics over similarities and vectors, and how sure one may be of them: tensors in, numbers out."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_BLOCK = 2**20  # similarities held at once: 4 MB, and a few copies of them


class Interval(NamedTuple):
    """A mean and the interval that holds it with the asked confidence."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """How much a second run is above a first, its interval, and how often chance alone would look as one-sided.

    Attributes:
        share: two-sided bootstrap share, 0 to 1; small where the sign of the difference is sure.
    """

    value: float
    low: float
    high: float
    share: float


def hits(similarity: Tensor, relevant: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
    """Share of queries with at least one relevant candidate among their k best (hit@k; recall@k where one is relevant).

    Args:
        similarity: `(queries, candidates)`. relevant: bool of the same shape; every query needs one relevant candidate.
    """
    ranks = first_ranks(similarity, relevant)
    return {k: float((ranks <= k).float().mean()) for k in ks}


def first_ranks(similarity: Tensor, relevant: Tensor) -> Tensor:
    """Place of each query's first relevant candidate `(queries,)`, 1 being the best.

    Ties count against the query: a candidate is passed over by every irrelevant one of equal similarity, so a model
    that gives the same vector for everything scores nothing.

    Args:
        similarity: `(queries, candidates)`. relevant: bool of the same shape; every query needs one relevant candidate.
    """
    if similarity.shape != relevant.shape:
        raise ValueError(f"similarity {tuple(similarity.shape)} and relevant {tuple(relevant.shape)} must agree")
    if len(similarity) == 0 or not bool(relevant.any(1).all()):
        raise ValueError("every query needs at least one relevant candidate, and there must be a query")
    # A stable sort would put equal scores in the order of the file, where the right one often comes first.
    best = similarity.masked_fill(~relevant, -torch.inf).amax(1, keepdim=True)
    return ((similarity >= best) & ~relevant).sum(1) + 1


def relevant_places(similarity: Tensor, relevant: Tensor, k: int) -> Tensor:
    """Which of the k first places hold a relevant candidate: bool `(queries, k)`; ties count against the query."""
    width = min(k, similarity.shape[1])
    wrong = similarity.masked_fill(relevant, -torch.inf).topk(width, dim=1).values
    right = similarity.masked_fill(~relevant, -torch.inf).topk(width, dim=1).values
    # The j-th best relevant one stands after j others and every irrelevant one at least as similar.
    place = torch.arange(width, device=right.device) + (wrong[:, None] >= right[:, :, None]).sum(-1)
    inside = (right > -torch.inf) & (place < width)
    found = torch.zeros(len(similarity), k, dtype=torch.bool, device=right.device)
    found[inside.nonzero()[:, 0], place[inside]] = True
    return found


def recalls(places: Tensor, counts: Tensor, k: int) -> Tensor:
    """Share of each query's relevant candidates among its k best `(queries,)`, from `relevant_places` and their counts."""
    return places[:, :k].sum(1) / counts


def ndcg(places: Tensor, counts: Tensor) -> Tensor:
    """nDCG of each query `(queries,)` over the places given, gain 1 for a relevant one (Järvelin & Kekäläinen, 2002)."""
    # DCG = Σ 1 / log2(place + 1), place from 1: hence + 2 from 0.
    discount = 1 / torch.log2(torch.arange(places.shape[1], dtype=torch.float64, device=places.device) + 2)
    ideal = discount.cumsum(0)[counts.clamp(max=places.shape[1]) - 1]  # all relevant ones first
    return (places * discount).sum(1) / ideal


def precisions(similarity: Tensor, relevant: Tensor, k: int = 10) -> Tensor:
    """Share of relevant candidates among the k best of every query `(queries,)`."""
    top = similarity.topk(min(k, similarity.shape[1]), dim=1).indices
    return relevant.gather(1, top).float().mean(1)


def precision(similarity: Tensor, relevant: Tensor, k: int = 10) -> float:
    """Mean of `precisions` over the queries."""
    return float(precisions(similarity, relevant, k).mean())


def accuracy(similarity: Tensor, labels: Tensor) -> float:
    """Share of rows of `(items, classes)` whose largest similarity is that of their label `(items,)`."""
    return float((similarity.argmax(1) == labels).float().mean())


def same(left: Sequence[str], right: Sequence[str]) -> Tensor:
    """Bool `(left, right)`: which strings are equal."""
    index = {text: number for number, text in enumerate(dict.fromkeys([*left, *right]))}
    rows, columns = (torch.tensor([index[text] for text in texts], dtype=torch.long) for texts in (left, right))
    return rows[:, None] == columns[None]


def alignment(queries: Tensor, targets: Tensor) -> float:
    """Mean squared distance of positive pairs of unit vectors `(pairs, dim)`, 0 to 4 (Wang & Isola, 2020, eq. 1)."""
    return float((queries.double() - targets.double()).square().sum(1).mean())


def uniformity(vectors: Tensor) -> float:
    """log of the mean of exp(-2 · squared distance) over pairs of different unit vectors `(n, dim)`: -8 to 0, lower is
    more evenly spread (Wang & Isola, 2020, eq. 2). NaN for fewer than two vectors.
    """
    total = 0.0
    for start, stop in row_blocks(len(vectors), len(vectors)):
        block = (4 * (vectors[start:stop] @ vectors.T) - 4).exp()  # -2 · |x - y|² = 4 · cos - 4
        block[torch.arange(stop - start), torch.arange(start, stop)] = 0
        total += float(block.sum(dtype=torch.float64))
    pairs = len(vectors) * (len(vectors) - 1)
    return float(np.log(total / pairs)) if pairs else float("nan")


def modality_gap(left: Tensor, right: Tensor) -> float:
    """Distance of the two sides' centroids, 0 to 2, of unit vectors `(n, dim)` and `(m, dim)` (Liang et al., 2022)."""
    return float((left.double().mean(0) - right.double().mean(0)).norm())


def modality_gaps(vectors: Mapping[str, Tensor]) -> dict[tuple[str, str], float]:
    """`modality_gap` of every two kinds, from the unit vectors `(n, dim)` of each."""
    return {(a, b): modality_gap(vectors[a], vectors[b]) for a, b in combinations(sorted(vectors), 2)}


def bootstrap(values: np.ndarray, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> list[Interval]:
    """Percentile intervals (Efron, 1979) of the means of columns `(queries, columns)`: the queries are drawn anew.

    Where all values of a column are equal the interval has no width, however few they are.
    """
    low, high = percentiles(resampled_means(values, resamples, seed), level)
    return [Interval(*map(float, row)) for row in zip(values.mean(0), low, high, strict=True)]


def bootstrap_difference(
    before: np.ndarray, after: np.ndarray, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> list[Difference]:
    """How much the means of `after` are above those of `before`, column by column, on the same queries in the same order.

    The pairing keeps what makes a query hard out of the interval.

    Args:
        before, after: `(queries, columns)`.
    """
    if before.shape != after.shape:
        raise ValueError(f"a paired difference needs the same queries: {before.shape} is not {after.shape}")
    change = after - before
    drawn = resampled_means(change, resamples, seed)
    low, high = percentiles(drawn, level)
    # Plus one: no finite number of draws makes a share of zero.
    tails = (np.stack([drawn <= 0, drawn >= 0]).sum(1) + 1) / (resamples + 1)
    share = np.minimum(1.0, 2 * tails.min(0))
    return [Difference(*map(float, row)) for row in zip(change.mean(0), low, high, share, strict=True)]


def interval(count: int, total: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share (Wilson, 1927): also honest where none or all of a few succeeded.

    Args:
        count: how many of `total` succeeded.

    Raises:
        ValueError: `total` is not positive, or `count` is not from 0 to `total`.
    """
    if total < 1 or not 0 <= count <= total:
        raise ValueError(f"an interval needs a count from 0 to a positive total; {count} of {total} is no share")
    z, share = NormalDist().inv_cdf((1 + level) / 2), count / total
    # Wilson: (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n).
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    # At 0 and 1 one end is the share itself; rounding must not push it past.
    return Interval(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def bounds(share: float, total: int) -> dict[str, float]:
    """The ends of `interval` as a result takes them, of a share that was counted over `total` queries."""
    found = interval(round(share * total), total)
    return {"low": found.low, "high": found.high}


def row_blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """`(start, stop)` of blocks of rows, so that a block of a wide matrix stays small."""
    step = max(1, _BLOCK // max(1, columns))
    yield from ((start, min(start + step, rows)) for start in range(0, rows, step))


def resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means `(resamples, columns)` over rows drawn with replacement."""
    count = len(values)
    return np.concatenate([times @ values.astype(np.float64) / count for times in drawn_rows(count, resamples, seed)])


def drawn_rows(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of so many rows is drawn when as many are drawn with replacement, `(some of the resamples, count)` at a time.

    The draws depend on the numbers alone: of two models on the same rows they are the same.
    """
    if count == 0:
        raise ValueError("nothing to resample: there is no query")
    draw = np.random.default_rng(seed)
    for start, stop in row_blocks(resamples, count):
        # Each resample counts in a range of its own of one long bincount: no loop over the draws.
        rows = draw.integers(count, size=(stop - start, count)) + np.arange(stop - start)[:, None] * count
        yield np.bincount(rows.ravel(), minlength=(stop - start) * count).reshape(-1, count)


def percentiles(drawn: np.ndarray, level: float) -> np.ndarray:
    """Lower and upper end `(2, columns)` of the interval that holds `level` of the draws."""
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
