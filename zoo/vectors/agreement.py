"""How much two models agree on the same items: alike spaces as a whole (CKA), and the same neighbours."""

from typing import TYPE_CHECKING

from zoo.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 1024  # of similarities at a time


def linear_cka(one: "Tensor", other: "Tensor") -> float:
    """Linear centred kernel alignment of two sets of vectors of the same items, 0 to 1 (Kornblith et al., ICML 2019, section 3).

    1 where one space is a rotation and a uniform scaling of the other. The vectors may have different dimensions.

    Args:
        one: `(n, dim)`. other: `(n, other dim)`, row for row the same items; n is 2 or more.

    Raises:
        ArgumentError: other shapes, or a side whose vectors are all the same.
    """
    _checked(one, other)
    # In float64: the squares of many nearly equal columns are summed.
    x, y = (vectors.double() - vectors.double().mean(0) for vectors in (one, other))
    # The n x n form of the paper, HSIC(K, L) with K = X X^T, equals these (dim x dim) products, which do not grow with n.
    between = (y.T @ x).square().sum()  # ||Y^T X||_F^2
    within = (x.T @ x).norm() * (y.T @ y).norm()  # ||X^T X||_F ||Y^T Y||_F
    if not within > 0:
        raise ArgumentError("all vectors of a side are the same, so that there is no structure to compare")
    return float(between / within)


def neighbour_overlap(one: "Tensor", other: "Tensor", k: int = 10) -> float:
    """The mean share of an item's k nearest neighbours by cosine that both models name, 0 to 1 (Huh et al., ICML 2024, section 3).

    Chance is k / (n - 1).

    Args:
        one, other: as in `linear_cka`. k: neighbours, at most n - 1; ties go to the earlier item.

    Raises:
        ArgumentError: other shapes, or no such k.
    """
    _checked(one, other)
    if not 1 <= k < len(one):
        raise ArgumentError(f"k is the number of neighbours among the {len(one) - 1} other items, not {k}")
    shared = 0
    for start in range(0, len(one), _ROWS):
        mine, theirs = (_neighbours(vectors, start, k) for vectors in (one, other))
        shared += int((mine[:, :, None] == theirs[:, None, :]).sum())
    return shared / (len(one) * k)


def _neighbours(vectors: "Tensor", start: int, k: int) -> "Tensor":
    """`(rows, k)` numbers of the nearest others of the rows from `start` on."""
    from torch.nn import functional as F

    unit = F.normalize(vectors.float(), dim=-1)
    similarity = unit[start : start + _ROWS] @ unit.T  # (rows, n)
    rows = similarity.new_tensor(range(len(similarity))).long()
    similarity[rows, start + rows] = -2.0  # below any cosine: no item is its own neighbour
    return similarity.sort(dim=1, descending=True, stable=True).indices[:, :k]


def _checked(one: "Tensor", other: "Tensor") -> None:
    if one.ndim != 2 or other.ndim != 2 or len(one) != len(other) or len(one) < 2:
        raise ArgumentError(
            f"two models are compared on the same two or more items, a vector each, not {tuple(one.shape)} and "
            f"{tuple(other.shape)}"
        )
