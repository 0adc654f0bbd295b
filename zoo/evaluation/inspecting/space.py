"""The figures of a sample's space: gap, alignment, uniformity, isotropy, hubs; and what is drawn of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from zoo.errors import VectorError
from zoo.evaluation.inspecting import measures
from zoo.evaluation.inspecting.sides import Embedded, Side
from zoo.evaluation.inspecting.tasks import MEASURES, SPACE
from zoo.evaluation.metrics import alignment, modality_gap, uniformity
from zoo.evaluation.results import Result

_DRAWN, _BINS = 150, 40  # items of a side in a plane; bars of a spread


@dataclass(frozen=True, eq=False)
class Plane:
    """Both sides of a sample on their two main axes: of each its name and points `(n, 2)`."""

    name: str
    sides: tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Spread:
    """How similar pairs are, and what belongs to different pairs: shares of all `(bins,)` between `edges` `(bins + 1,)`."""

    name: str
    edges: np.ndarray
    right: np.ndarray
    wrong: np.ndarray


def space_figures(sample: Embedded, left_out: dict[str, str]) -> list[Result]:
    """All measures of a sample; what it has too few items for is said in `left_out`."""
    found: list[Result] = []

    def add(metric: str, part: str, way: str, notes: str, measure: Callable[[], float]) -> None:
        try:
            value = measure()
        except VectorError as error:
            left_out[", ".join(filter(None, (sample.name, part or way, metric)))] = str(error)
            return
        facts = {"split": sample.split, "part": part, "direction": way, "unit": MEASURES[metric].unit, "notes": notes}
        found.append(Result(sample.name, SPACE, metric, value, **facts))

    for side in sample.sides:
        x, notes = measures.directions(side.vectors, f"{sample.name}, {side.name}"), f"{len(side):,} items"
        one = partial(add, part=side.name, way="", notes=notes)
        one("mean cosine", measure=partial(measures.mean_cosine, x))
        one("uniformity", measure=partial(uniformity, x))
        one("effective rank", measure=partial(measures.effective_rank, x))
        one("isoscore", measure=partial(measures.isoscore, x))
        _hubs(one, side, None)
    if sample.left is None or sample.right is None or sample.relevant is None:
        return found
    left, right = sample.left, sample.right
    x, y = measures.directions(left.vectors), measures.directions(right.vectors)
    notes = f"{len(left):,} and {len(right):,} items"
    both = partial(add, part="", way=f"{left.name}, {right.name}", notes=notes)
    if sample.crossing:
        both("modality gap", measure=partial(modality_gap, x, y))
        both("separability", measure=partial(measures.separability, x, y))
    places = sample.relevant.nonzero()
    both("alignment", measure=lambda: alignment(x[places[:, 0]], y[places[:, 1]]))
    for asked, found_in in ((left, right), (right, left)):
        _hubs(partial(add, part="", way=f"{asked.name} → {found_in.name}", notes=notes), found_in, asked)
    return found


def _hubs(add: Callable[..., None], candidates: Side, queries: Side | None) -> None:
    """Hubness of candidates for queries, by the model's own scores; without queries for each other."""
    asked = candidates if queries is None else queries

    def counts() -> torch.Tensor:
        return measures.occurrences(asked.vectors, candidates.vectors, itself=queries is None)

    add("hubness", measure=lambda: measures.skewness(counts()))
    add("never found", measure=lambda: measures.never_found(counts()))


def plane(sample: Embedded) -> Plane | None:
    """Of a sample of two kinds up to 150 items a side; the left side's middle lies left."""
    if not sample.crossing or sample.left is None or sample.right is None:
        return None
    sides = [measures.directions(side.vectors) for side in (sample.left, sample.right)]
    chosen = [side[measures.evenly(len(side), _DRAWN)] for side in sides]
    middle = (chosen[0].mean(0) + chosen[1].mean(0)) / 2
    # PCA: the right singular vectors of the centred points are their main axes `(2, dim)`.
    axes = torch.linalg.svd(torch.cat(chosen) - middle, full_matrices=False).Vh[:2]
    if len(axes) < 2:
        return None
    points = [(side - middle) @ axes.T for side in chosen]
    if points[0][:, 0].mean() > points[1][:, 0].mean():
        # The sign of an axis is arbitrary; mirrored, so that two models are drawn alike.
        points = [side * torch.tensor([-1.0, 1.0]) for side in points]
    names = (sample.left.name, sample.right.name)
    return Plane(sample.name, ((names[0], points[0].numpy()), (names[1], points[1].numpy())))


def spread(sample: Embedded) -> Spread | None:
    """Of a sample with both sides: the cosines of what belongs together, and of all else."""
    if sample.left is None or sample.right is None or sample.relevant is None or sample.itself is None:
        return None
    cosines = measures.directions(sample.left.vectors) @ measures.directions(sample.right.vectors).T
    right = cosines[sample.relevant].numpy()
    wrong = cosines[~sample.relevant & ~sample.itself].numpy()
    if not len(right) or not len(wrong):
        return None
    edges = np.linspace(min(right.min(), wrong.min()), max(right.max(), wrong.max()) + 1e-9, _BINS + 1)
    shares = [np.histogram(values, edges)[0] / len(values) for values in (right, wrong)]
    return Spread(sample.name, edges, *shares)
