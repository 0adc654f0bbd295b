"""What a model's scores mean: how similar it finds what does not belong together, and from where on something fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.errors import TooFewPairsError
from zoo.evaluation.metrics import row_blocks
from zoo.evaluation.pairs import asked_with, embed_sides
from zoo.inputs.identity import Answers, Contents, Row
from zoo.spec import Calibration, need_one_vector

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.inputs.item import Item

FEWEST = 30  # queries with an answer and without one, below which nothing is said
_MISSED = 0.05  # share of right answers below `nothing`


@dataclass(frozen=True)
class Measured:
    """A calibration, and how well it tells queries that have an answer from those that have none.

    Attributes:
        pair: the modalities, "text>image". queries: how many were asked. documents: among how many.
        empty: of queries whose answers were taken away, the share whose best match lies below `nothing`, as it should.
        missed: of queries with their answers, the share whose best match lies below it all the same.
    """

    pair: str
    calibration: Calibration
    queries: int
    documents: int
    empty: float
    missed: float


def calibrate(
    model: "Embedder", queries: Sequence["Item"], targets: Sequence["Item"], groups: Sequence[str] | None = None
) -> Measured:
    """Measures a model on pairs: row i of `queries` and `targets` belongs together, and rows of one group do.

    Args:
        queries, targets: items; equal ones count once. What is right is what `zoo.evaluation.pairs` takes for right, but a
            query itself is neither right nor wrong for it where it is among the targets.

    Raises:
        TooFewPairsError: fewer than 30 queries, or none has a document that is not right. TokenVectorsError: late
            interaction. ValueError: items of different modalities on one side.
    """
    need_one_vector(model.spec, "a calibration")
    told = zip(queries, targets, groups or [""] * len(queries), strict=True)
    answers = Answers(Row(query, (target,), group=group) for query, target, group in told)
    numbers = tuple(answers.numbers[answers.starts + side] for side in (0, 1))
    sides, kept = embed_sides(model, (queries, targets), numbers, asked_with(model, None), "skip", None)
    if mixed := [side for side in sides if len(side.modalities) > 1]:
        raise ValueError(
            f"a calibration is of one modality on each side, not of {sorted(map(sorted, mixed[0].modalities))}"
        )
    left, right = (side.kept(kept) for side in sides)
    relation = answers.right(left.contents, right.contents)
    blocks = []
    for start, stop in row_blocks(len(left.rows), len(right.rows)):
        rows = slice(start, stop)
        itself = relation.same(rows, "query", "target")
        scores = model.similarity(left.vectors[rows], right.vectors).masked_fill(itself, torch.nan)
        blocks.append(_gathered(scores, relation.answers(rows) & ~itself))
    found, best, empty = _joined(blocks)
    pair = Calibration.key(sides[0].kind, sides[1].kind)
    return Measured(
        pair, found, len(left.rows), len(right.rows),
        empty=float((empty < found.nothing).double().mean()), missed=float((best < found.nothing).double().mean()),
    )  # fmt: skip


def partners(items: Sequence["Item"], groups: Sequence[str]) -> tuple[list["Item"], list["Item"], list[str]]:
    """Queries, targets and groups for `calibrate` of items among themselves: each with the next different one of its group.

    Args:
        items: equal ones count once. groups: of each; items of one group show or say the same thing, "" is no group.

    Returns:
        Rows of the groups that have several different items alone, in the order of the groups.
    """
    contents = Contents()
    members: dict[str, dict[int, Item]] = {}
    for item, group in zip(items, groups, strict=True):
        if group:
            members.setdefault(group, {}).setdefault(contents.number(item), item)
    several = {group: list(own.values()) for group, own in members.items() if len(own) > 1}
    queries = [item for own in several.values() for item in own]
    targets = [item for own in several.values() for item in (*own[1:], own[0])]
    return queries, targets, [group for group, own in several.items() for _ in own]


def calibration_of(scores: Tensor, right: Tensor) -> Calibration:
    """From similarities `(queries, documents)` and which of them are right; NaN is left out.

    Raises:
        TooFewPairsError: fewer than 30 queries with a right document, or with a wrong one.
    """
    return _joined([_gathered(scores, right)])[0]


def _gathered(scores: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a block of rows: (count, sum, sum of squares) of the wrong; best right, best of all and best wrong of each row."""
    wrong = ~right & ~scores.isnan()
    some = scores.double()[wrong]
    low = torch.finfo(scores.dtype).min
    sums = torch.tensor([len(some), some.sum(), some.square().sum()], dtype=torch.float64)
    best, of_wrong = (scores.masked_fill(~which, low).amax(1) for which in (right, wrong))
    return sums, best, torch.maximum(best, of_wrong), of_wrong


def _joined(blocks: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> tuple[Calibration, Tensor, Tensor]:
    """The calibration; best scores of queries with their answers, and without them."""
    count, total, squares = torch.stack([block[0] for block in blocks]).sum(0).tolist()
    answers, best, empty = (torch.cat([block[place] for block in blocks]).double() for place in (1, 2, 3))
    low = torch.finfo(torch.float32).min
    best, answers, empty = best[answers > low], answers[answers > low], empty[empty > low]
    if min(len(answers), len(empty)) < FEWEST:
        raise TooFewPairsError(
            f"{len(answers)} queries have a right document and {len(empty)} a wrong one; a calibration needs {FEWEST} of each"
        )
    mean = total / count
    scale = max(squares / count - mean * mean, 0.0) ** 0.5
    return Calibration(mean, max(scale, 1e-6), float(torch.quantile(answers, _MISSED))), best, empty
