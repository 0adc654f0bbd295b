"""Pair: a query, what it should find, and what it should not; the one thing that every trainer, sampler and miner reads."""

import fnmatch
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np

from zoo.errors import ArgumentError, InputError
from zoo.inputs.identity import Answers, Row
from zoo.inputs.item import Item

RIGHT = 0.5  # from this grade on a graded pair counts as a right one in rankings
_THREADS, _TOGETHER = 8, 16  # rows that one thread reads before it is given others


@dataclass(frozen=True, eq=False)
class Pair:
    """A query and what it should find.

    Attributes:
        query, positive: items of any modality.
        negatives: hard negatives, nearest first; of this query alone.
        extra_positives: further positives that are as right: one of them all is drawn for a step, or all are targets (the loss
            says which).
        group: pairs of one group show the same thing, and are never each other's negatives; "" where nothing but the
            content tells what is the same (`zoo.inputs.identity`).
        dataset: the data set or task it comes from, for batches of one kind and for stages.
        score: how similar the two are, 0 to 1, for graded pairs (CoSENT, AnglE); None where not graded.
        teacher_scores: a reranker's scores of the positive and then of each negative; () where there are none.
        name: what the thing is called ("motorbike"), for captions that say its colour; "" for none.
        where: the place it was read from ("pairs.csv, line 7"), for messages.
    """

    query: Item
    positive: Item
    negatives: tuple[Item, ...] = ()
    extra_positives: tuple[Item, ...] = ()
    group: str = ""
    dataset: str = ""
    score: float | None = None
    teacher_scores: tuple[float, ...] = ()
    name: str = ""
    where: str = ""

    @property
    def right(self) -> bool:
        """Whether the positive is an answer to the query: a pair that people graded 0.2 is none."""
        return self.score is None or self.score >= RIGHT

    def items(self) -> Iterator[Item]:
        """Query, positive, further positives and negatives, in this order."""
        yield from (self.query, self.positive, *self.extra_positives, *self.negatives)


@runtime_checkable
class PairTable(Protocol):
    """Pairs by row number, read when asked for: what the readers of `zoo/tables` return.

    Any `Sequence[Pair]` serves as well; `datasets_of` tells the data sets of either.

    Attributes:
        datasets: `(n,)` number of the data set of every row. names: the data sets' names, by number.
    """

    datasets: np.ndarray
    names: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Pair: ...


def datasets_of(pairs: "Sequence[Pair] | PairTable") -> tuple[np.ndarray, list[str]]:
    """Number of the data set of every row `(n,)`, and the names by number."""
    if hasattr(pairs, "datasets"):
        return np.asarray(pairs.datasets), list(pairs.names)
    names: dict[str, int] = {}
    numbers = [names.setdefault(pairs[row].dataset, len(names)) for row in range(len(pairs))]
    return np.asarray(numbers, dtype=np.int64), list(names)


def answers_of(
    pairs: "Sequence[Pair] | PairTable",
    *,
    progress: bool | None = False,
    bad: Callable[[int, InputError], None] | None = None,
    look: Callable[[int, Pair], None] | None = None,
) -> Answers:
    """What is a right answer to what, by all pairs; every row is read once, and those that cannot be are empty.

    Args:
        progress: a bar; None for one on a terminal when it takes over two seconds. bad: told of rows that cannot be read.
        look: sees every pair, and may say that it is bad by raising an InputError.
    """
    from tqdm import tqdm

    def rows() -> Iterator[Row | None]:
        disable = None if progress is None else not progress
        found = tqdm(_all_of(pairs), "comparing contents", len(pairs), unit=" pairs", disable=disable, delay=2)
        for row, pair in enumerate(found):
            try:
                if isinstance(pair, InputError):
                    raise pair
                if look is not None:
                    look(row, pair)
            except InputError as error:
                if bad is not None:
                    bad(row, error)
                yield None
            else:
                yield Row(pair.query, (pair.positive, *pair.extra_positives), pair.negatives, pair.group)

    return Answers(rows())


def _all_of(pairs: "Sequence[Pair] | PairTable") -> "Iterator[Pair | InputError]":
    """Every pair in order, or why it is none. Tables that name files are read in threads: asking for them takes the time."""

    def some(start: int) -> "list[Pair | InputError]":
        found: list[Pair | InputError] = []
        for row in range(start, min(start + _TOGETHER, len(pairs))):
            try:
                found.append(pairs[row])
            except InputError as error:
                found.append(error)
        return found

    starts = iter(range(0, len(pairs), _TOGETHER))
    if not any(part.modality != "text" for schema in getattr(pairs, "schemas", ()) for part in schema.parts):
        for start in starts:
            yield from some(start)
        return
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="zoo-rows") as pool:
        ahead = deque(pool.submit(some, start) for start in islice(starts, 2 * _THREADS))
        while ahead:
            yield from ahead.popleft().result()
            if (start := next(starts, None)) is not None:
                ahead.append(pool.submit(some, start))


def place_of(pairs: "Sequence[Pair] | PairTable", row: int) -> str:
    """Where a pair was read from, for messages."""
    if isinstance(pairs, Selection):
        return place_of(pairs.pairs, int(pairs.rows[row]))
    if hasattr(pairs, "where"):
        return pairs.where(row)
    try:
        return pairs[row].where or f"pair {row}"
    except InputError:
        return f"pair {row}"


class Selection:
    """Some rows of a table, as a table."""

    def __init__(self, pairs: "Sequence[Pair] | PairTable", rows: Sequence[int] | np.ndarray) -> None:
        self.pairs, self.rows = pairs, np.asarray(rows, dtype=np.int64)
        datasets, self.names = datasets_of(pairs)
        self.datasets = datasets[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Pair:
        return self.pairs[int(self.rows[row])]


def numbers_in(part: Selection, whole: "Sequence[Pair] | PairTable") -> np.ndarray:
    """The rows of `whole` that a selection, or a selection of one, has."""
    rows = np.arange(len(part))
    while part is not whole:
        part, rows = part.pairs, part.rows[rows]
    return rows


def of_datasets(pairs: "Sequence[Pair] | PairTable", patterns: Sequence[str]) -> Selection:
    """The rows whose data set's name matches one of the shell patterns; all for none.

    Raises:
        ArgumentError: a pattern matches no data set; the message names those that there are.
    """
    if not patterns:
        return Selection(pairs, np.arange(len(pairs)))
    numbers, names = datasets_of(pairs)
    wanted = set()
    for pattern in patterns:
        found = {i for i, name in enumerate(names) if fnmatch.fnmatchcase(name, pattern)}
        if not found:
            raise ArgumentError(f"no data set is called {pattern!r}; there are {', '.join(map(repr, names))}")
        wanted |= found
    return Selection(pairs, np.flatnonzero(np.isin(numbers, sorted(wanted))))


def block_numbers(pairs: "Sequence[Pair] | PairTable") -> np.ndarray | None:
    """Number of the file, row group or shard of every row `(n,)`; None where they all lie together."""
    if isinstance(pairs, Selection):
        whole = block_numbers(pairs.pairs)
        return None if whole is None else whole[pairs.rows]
    blocks = pairs.blocks() if hasattr(pairs, "blocks") else ()
    return np.repeat(np.arange(len(blocks)), [len(block) for block in blocks]) if len(blocks) > 1 else None
