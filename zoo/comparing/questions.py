"""Questions: what data of one's own asks of a model. Two sides of distinct items, and what is right between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from zoo.errors import OneClassError
from zoo.inputs.identity import Answers, Contents, Row
from zoo.inputs.item import Item
from zoo.prompts import Role
from zoo.tables import Table

Kind = Literal["retrieval", "classes", "grades", "verdicts"]
TASKS: dict[Kind, str] = {
    "retrieval": "pair-retrieval",
    "classes": "zero-shot-classification",
    "grades": "graded-similarity",
    "verdicts": "pair-classification",
}
NOTHING = -1  # no content at all


@dataclass(frozen=True, eq=False)
class Source:
    """Where a question comes from.

    Attributes:
        name: of the data set. split: that was read, "all" where there is none. words: of the command that asks it again.
        rows: of the table. bad: why rows of it are left out. table: that was read, None where there is none. note: what else to know.
    """

    name: str
    split: str = "all"
    words: tuple[str, ...] = ()
    rows: int = 0
    bad: tuple[str, ...] = ()
    table: Table | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Question:
    """One thing to measure.

    Attributes:
        left, right: distinct items: queries and candidates, items and the names of their classes, or both sides of pairs.
        answers: of retrieval, which content is right for which. contents: numbers of the contents of both sides, `(n,)` each.
        both: whether the candidates that are right for something ask for the queries too. spared: `(left,)` of each query the
            content that is not ranked for it: the image that is to be changed. gains: how right an answer is, where that is graded.
        pairs: `(n, 2)` places in both sides: an item and its class, or a pair with its `values` `(n,)`, grades or verdicts.
        roles: the prompt of each side; None for the model's default one.
    """

    kind: Kind
    source: Source
    left: Sequence[Item]
    right: Sequence[Item]
    answers: Answers | None = None
    contents: tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: (np.zeros(0, int), np.zeros(0, int)))
    both: bool = True
    spared: np.ndarray | None = None
    gains: dict[tuple[int, int], float] | None = None
    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), int))
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    roles: tuple[Role | None, Role | None] = ("query", "document")

    @property
    def sides(self) -> tuple[str, str]:
        """What both sides are: "image", "image+text"; "mixed" where a side has several kinds."""
        return side_of(self.left), side_of(self.right)

    @property
    def name(self) -> str:
        """The data set and what is asked of it, for messages."""
        return f"{self.source.name}, {TASKS[self.kind]}"

    def right_of(self, row: int, backward: bool = False) -> int | None:
        """One right answer to what stands at a place of the asking side, by its place on the other; None where there is none."""
        if self.kind == "classes":
            return int(self.pairs[self.pairs[:, 0] == row, 1][0])
        if self.answers is None:
            return None
        asked, ranked = reversed(self.contents) if backward else self.contents
        answers = self.answers.asking_for if backward else self.answers.right_for
        places = np.flatnonzero(np.isin(ranked, answers(asked[row : row + 1])[1]))
        return int(places[0]) if len(places) else None


def side_of(items: Sequence[Item]) -> str:
    """The modalities of every item as one word."""
    found = {"+".join(sorted(item.modalities)) for item in items}
    return found.pop() if len(found) == 1 else "mixed"


def retrieval(
    source: Source,
    rows: Sequence[Row],
    *,
    both: bool = True,
    candidates: Sequence[Item] = (),
    gains: dict[tuple[int, int], float] | None = None,
    contents: Contents | None = None,
) -> Question:
    """Every distinct query is asked among all distinct answers, further items of the rows, and other candidates.

    What is right is determined by content (`zoo.inputs.identity`). Of a query that is an image with a text, for images, the image itself
    is a candidate, but not of its own query.

    Args:
        both: ask the other way round, too. gains: by numbers of contents. contents: those numbers, to go on from.
    """
    answers = Answers(rows, contents)
    asked: dict[int, Item] = {}
    ranked: dict[int, Item] = {}
    for row, start, size in zip(rows, answers.starts.tolist(), answers.sizes.tolist(), strict=True):
        numbers = answers.numbers[start : start + size].tolist()
        asked.setdefault(numbers[0], row.query)
        for number, item in zip(numbers[1:], (*row.answers, *row.others), strict=True):
            ranked.setdefault(number, item)
    for item in candidates:
        ranked.setdefault(answers.contents.number(item), item)
    composed = _composed(list(asked.values()), list(ranked.values()))
    spared = None
    if composed:
        alone = [Item(image=item.image) for item in asked.values()]
        spared = np.array([answers.contents.number(item) for item in alone])
        for number, item in zip(spared.tolist(), alone, strict=True):
            ranked.setdefault(number, item)
    return Question(
        "retrieval",
        source,
        list(asked.values()),
        list(ranked.values()),
        answers,
        (np.array(list(asked)), np.array(list(ranked))),
        both=both and not composed,
        spared=spared,
        gains=gains,
    )


def _composed(queries: Sequence[Item], candidates: Sequence[Item]) -> bool:
    """Whether an image and a change in words ask for an image."""
    return side_of(queries) == "image+text" and side_of(candidates) == "image"


def classes(source: Source, items: Sequence[Item], names: Sequence[str], prompt: str = "{}") -> Question:
    """Which of all names is nearest to each distinct item; an item of several classes is in all of them.

    Args:
        prompt: how a name is put to the model; {} stands for it.

    Raises:
        OneClassError: all are of one class.
    """
    told = list(dict.fromkeys(names))
    if len(told) < 2:
        raise OneClassError(
            f"{source.name}: all {len(items):,} items are of the class {told[0]!r}, which any model gets right; give items of "
            "at least two classes"
        )
    contents, kept = Contents(), {}
    numbers = [contents.number(item) for item in items]
    for number, item in zip(numbers, items, strict=True):
        kept.setdefault(number, item)
    place, name_at = {number: at for at, number in enumerate(kept)}, {name: at for at, name in enumerate(told)}
    pairs = {(place[number], name_at[name]) for number, name in zip(numbers, names, strict=True)}
    texts = [Item(text=prompt.replace("{}", name)) for name in told]
    return Question(
        "classes", source, list(kept.values()), texts, pairs=np.array(sorted(pairs)), both=False, roles=(None, None)
    )


def judged(
    source: Source, queries: Sequence[Item], targets: Sequence[Item], values: Sequence[float], what: str = "score"
) -> Question:
    """Whether pairs that people call more similar are nearer: by grades, or by verdicts of 0 and 1.

    Args:
        what: the column of the values, for messages.

    Raises:
        OneClassError: all are the same.
    """
    given = np.asarray(values, np.float64)
    if len(np.unique(given)) < 2:
        raise OneClassError(
            f"{source.name}: all {len(given):,} pairs have the {what} {given[0]:g}, so there is no order to be found; give pairs "
            f"of several, or, if all are right, leave the column out (--ignore {what})"
        )
    contents = Contents()
    sides, places = [], []
    for side in (queries, targets):
        numbers = [contents.number(item) for item in side]
        kept: dict[int, Item] = {}
        for number, item in zip(numbers, side, strict=True):
            kept.setdefault(number, item)
        place = {number: at for at, number in enumerate(kept)}
        sides.append(list(kept.values()))
        places.append([place[number] for number in numbers])
    kind: Kind = "verdicts" if set(np.unique(given)) == {0.0, 1.0} else "grades"
    return Question(kind, source, *sides, pairs=np.array(places).T, values=given, both=False)
