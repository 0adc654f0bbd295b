"""What a space of vectors is like: one short function for each measure, with its formula and where it comes from.

Alignment, uniformity and the modality gap are those of `zoo.evaluation.metrics`.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import VectorError
from zoo.evaluation.metrics import row_blocks

K = 10  # neighbours that hubness counts
FOLDS, RIDGE = 5, 1.0
_FOUND = 2  # times that a candidate is found on average, at least


def directions(vectors: Tensor, what: str = "vectors") -> Tensor:
    """Vectors `(n, dim)` as float64 of unit length.

    Raises:
        VectorError: fewer than two of them, one is NaN, infinite or zero; `what` says which they are.
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise VectorError(f"{what}: shape {tuple(vectors.shape)}; a measure needs at least two vectors `(n, dim)`")
    vectors = vectors.detach().cpu().double()
    norms = vectors.norm(dim=1)
    wrong = ~(torch.isfinite(vectors).all(1) & (norms > 0))
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise VectorError(
            f"{what}: {int(wrong.sum()):,} of {len(vectors):,} are NaN, infinite or zero, the first in row {first:,}; such a "
            "model cannot be inspected, load it in float32 or look at its weights"
        )
    return F.normalize(vectors, dim=1)


def mean_cosine(vectors: Tensor) -> float:
    """Mean cosine of different vectors `(n, dim)`, -1 to 1; 0 where directions are spread evenly (Ethayarajh, 2019).

    Of unit vectors it is (|Σ x|² - n) / (n (n - 1)). Raises VectorError as `directions`.
    """
    x = directions(vectors)
    n = len(x)
    return float((x.sum(0).square().sum() - n) / (n * (n - 1)))


def effective_rank(vectors: Tensor) -> float:
    """How many dimensions `(n, dim)` vectors spread over, 1 to min(n - 1, dim) (Roy & Vetterli, 2007, of centred vectors).

    exp(-Σ p ln p) with p = σ / Σ σ, the singular values of the vectors without their mean; 0 where all are equal. Raises
    VectorError as `directions`.
    """
    sigma = _singular_values(vectors)
    if not len(sigma):
        return 0.0
    p = sigma / sigma.sum()
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))


def isoscore(vectors: Tensor) -> float:
    """Share of the dimensions that are used evenly, 0 (a line) to 1 (all alike) (IsoScore: Rudman et al., 2022).

    Their steps end in (r - 1) / (dim - 1), where r = (Σ λ)² / Σ λ² of the variances λ = σ² on the principal axes. Of n vectors
    it is at most (n - 2) / (dim - 1). Raises VectorError as `directions`, or for fewer than two dimensions.
    """
    dim = vectors.shape[-1]
    if dim < 2:
        raise VectorError(f"isoscore is of two dimensions and more, and the vectors have {dim}")
    variances = _singular_values(vectors).square()
    if not len(variances):
        return 0.0
    used = variances.sum().square() / variances.square().sum()
    return float((used - 1) / (dim - 1))


def _singular_values(vectors: Tensor) -> Tensor:
    """Those of the unit vectors without their mean that are not rounding errors."""
    x = directions(vectors)
    sigma = torch.linalg.svdvals(x - x.mean(0))
    # Unit vectors: singular values are at most √n, and what float64 leaves of zero is 1e-16 times that.
    return sigma[sigma > 1e-10 * len(x) ** 0.5]


def separability(left: Tensor, right: Tensor) -> float:
    """Share of held-out vectors that a plane puts on the side of their kind, 0.5 (mixed) to 1 (apart) (Shi et al., 2023).

    The plane is a ridge regression on -1 and 1 (Hoerl & Kennard, 1970; λ = 1) of four fifths of `(n, dim)` and `(m, dim)`; every
    fifth vector is asked in turn. Of the larger side as many are taken, evenly spread, as the smaller has. Raises VectorError as
    `directions`, or for fewer than ten on a side.
    """
    count = min(len(left), len(right))
    if count < 2 * FOLDS:
        raise VectorError(f"a side of {count} vectors is too few to tell kinds apart; it needs {2 * FOLDS}")
    sides = [directions(side)[evenly(len(side), count)] for side in (left, right)]
    x = torch.cat(sides)
    y = torch.cat([-torch.ones(count), torch.ones(count)]).double()
    fold = torch.arange(2 * count) % count % FOLDS  # every side has its share in every fold
    right_side = 0
    for held in range(FOLDS):
        there, asked = fold != held, fold == held
        weights, bias = _ridge(x[there], y[there])
        right_side += int(((x[asked] @ weights + bias > 0) == (y[asked] > 0)).sum())
    return right_side / len(x)


def _ridge(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Weights `(dim,)` and bias of the regression of y on x; the smaller of its two equal systems is solved."""
    middle, level = x.mean(0), y.mean()
    x, y = x - middle, y - level
    n, dim = x.shape
    if n < dim:
        # Xᵀ (X Xᵀ + λI)⁻¹ y = (Xᵀ X + λI)⁻¹ Xᵀ y: n × n in place of dim × dim.
        weights = x.T @ torch.linalg.solve(x @ x.T + RIDGE * torch.eye(n, dtype=x.dtype), y)
    else:
        weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(dim, dtype=x.dtype), x.T @ y)
    return weights, level - middle @ weights


def occurrences(queries: Tensor, candidates: Tensor, k: int = K, *, itself: bool = False) -> Tensor:
    """N_k: among the k nearest of how many queries `(n, dim)` each candidate `(m, dim)` is, whole numbers `(m,)`.

    Args:
        itself: queries and candidates are the same vectors, and none is its own neighbour.

    Raises:
        VectorError: there are not more than k candidates, or so few queries that a candidate is found less than twice on average:
            then chance alone leaves many out.
    """
    if len(candidates) - itself <= k:
        raise VectorError(f"{len(candidates)} candidates are too few to count {k} neighbours among")
    if len(queries) * k < _FOUND * len(candidates):
        raise VectorError(
            f"{len(queries)} queries are too few to count how often {len(candidates):,} candidates are found; it needs "
            f"{-(-_FOUND * len(candidates) // k)}"
        )
    counts = torch.zeros(len(candidates), dtype=torch.long)
    for start, stop in row_blocks(len(queries), len(candidates)):
        similarity = queries[start:stop] @ candidates.T
        if itself:
            similarity[torch.arange(stop - start), torch.arange(start, stop)] = -torch.inf
        counts += similarity.topk(k, dim=1).indices.flatten().bincount(minlength=len(candidates))
    return counts


def skewness(counts: Tensor) -> float:
    """E[(N - μ)³] / σ³ of N_k `(m,)`: 0 without hubs, above 1 with strong ones (Radovanović et al., 2010, section 2)."""
    n = counts.double()
    spread = n - n.mean()
    sigma = spread.square().mean().sqrt()
    return float(spread.pow(3).mean() / sigma**3) if sigma > 0 else 0.0


def never_found(counts: Tensor) -> float:
    """Share of candidates that are nobody's neighbour, N_k = 0, 0 to 1 (the antihubs of Radovanović et al., 2010)."""
    return float((counts == 0).double().mean())


def kept(clean: Tensor, changed: Tensor) -> np.ndarray:
    """Cosine of each changed input to itself before `(n,)`, from vectors `(n, dim)`; 1 where nothing changed.

    Raises:
        VectorError: as `directions`, or the two are not of the same inputs.
    """
    if clean.shape != changed.shape:
        raise VectorError(f"row i of both is one input, but their shapes are {clean.shape} and {changed.shape}")
    return (directions(clean) * directions(changed)).sum(1).numpy()


def evenly(count: int, most: int) -> Tensor:
    """At most `most` places of `count`, evenly spread over them."""
    return torch.arange(count) if count <= most else torch.linspace(0, count - 1, most).round().long()
