"""What is the same thing, and what is a right answer to what: the one notion of it in training, mining and evaluation.

Two items are the same where their content is, whatever they are called: texts letter by letter, images, videos and
audio byte by byte, with all parts and the instruction. A target is right for a query where a row says so: of the same
query, or of a group that a row of the query is in. This is no equivalence: an answer that many queries share does not
make them, or their other answers, the same.
"""

from array import array
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.inputs.excerpts import is_excerpt
from zoo.inputs.hashing import item_key
from zoo.inputs.item import Item

Side = Literal["query", "positive", "target"]


class Contents:
    """Numbers of items, counted from 0 as they come: equal for equal content.

    A file is read only where another item equals it in everything but the bytes, their number included: of a large
    table of files nearly all are asked for their size alone.

    Attributes:
        keys: of every number, `item_key` of its first item. modalities: of every number.
    """

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.modalities: list[frozenset[str]] = []
        self._numbers: dict[bytes, int] = {}
        self._first: dict[bytes, tuple[Item, int] | None] = {}  # by size: what may have to be read one day

    def __len__(self) -> int:
        return len(self.keys)

    def number(self, item: Item) -> int:
        """The number of this content; an item whose content cannot be told is like no other."""
        try:
            stamp = item_key(item)
            if (known := self._numbers.get(stamp)) is not None:
                return known
            key = self._exact(item, stamp)
        except InputError:
            stamp = key = f"unlike any other: {len(self)}".encode()
        number = self._numbers.setdefault(key, len(self))
        self._numbers[stamp] = number
        if number == len(self):
            self.keys.append(stamp)
            self.modalities.append(item.modalities)
        return number

    def _exact(self, item: Item, stamp: bytes) -> bytes:
        """The key of the content where there are others like it, else the stamp, for which nothing has to be read."""
        if not item.media and not item.parts:
            return stamp
        alike = item_key(item, files="size")
        if alike not in self._first:
            self._first[alike] = (item, len(self)) if _names_file(item) else None
            return stamp
        if (first := self._first[alike]) is not None:
            self._numbers.setdefault(_content(first[0], b""), first[1])
            self._first[alike] = None
        return _content(item, stamp)


def _names_file(value: Any) -> bool:
    if isinstance(value, Item):
        value = (*value.media, value.parts)
    value = value.source if is_excerpt(value) else value
    return any(map(_names_file, value)) if isinstance(value, list | tuple) else isinstance(value, Path)


def _content(item: Item, stamp: bytes) -> bytes:
    try:
        return item_key(item, files="content")
    except OSError:  # whoever needs the file will say so
        return stamp


class Row(NamedTuple):
    """What a row of a table says: `answers` are right for the query; `others` are further items; "" is no group."""

    query: Item
    answers: Sequence[Item]
    others: Sequence[Item] = ()
    group: str = ""


class Answers:
    """What is right for what, by all rows of a table.

    Every row is in a set: its group, or where none is given that of all rows of its query. A query asks for the sets of
    its rows, an answer is in the sets of its rows, and is right for a query that asks for one of them.

    Args:
        rows: read once, in order; None for a row that cannot be read. contents: numbers to go on from.

    Attributes:
        contents: the numbers of all items.
        numbers: of the items of all rows: query, answers, others. starts, sizes: `(n,)` where a row begins in `numbers`,
            and how many it has; 0 for one that could not be read. counts: `(n,)` how many of them are answers.
        sets: `(n,)` the set of every row, -1 for one that could not be read.
    """

    def __init__(self, rows: Iterable[Row | None], contents: Contents | None = None) -> None:
        self.contents = Contents() if contents is None else contents
        numbers, shapes = array("q"), []
        groups: dict[str, int] = {}
        for row in rows:
            if row is None:
                shapes.append((0, 0, -1))
                continue
            found = [self.contents.number(item) for item in (row.query, *row.answers, *row.others)]
            numbers.extend(found)
            group = groups.setdefault(row.group, len(groups)) if row.group else -1
            shapes.append((len(found), len(row.answers), group))
        self.numbers = np.array(numbers, dtype=np.int64)
        self.sizes, self.counts, group = np.array(shapes, dtype=np.int64).reshape(-1, 3).T
        self.starts = np.cumsum(self.sizes) - self.sizes
        there = self.sizes > 0
        self.sets = np.full(len(there), -1)
        # A row without a group is in a set of its query's content; numbers of groups come first, so the two never meet.
        self.sets[there] = np.where(group[there] >= 0, group[there], len(groups) + self.numbers[self.starts[there]])
        self._link()

    def _link(self) -> None:
        """Reads who asks for what and what holds what from the rows."""
        there = self.sizes > 0
        starts, counts, sets = self.starts[there], self.counts[there], self.sets[there]
        queries, holding = self.numbers[starts], np.repeat(sets, counts)
        first = np.repeat(starts + 1 - (np.cumsum(counts) - counts), counts)
        held = self.numbers[first + np.arange(len(first))]
        self._asked, self._asking = _Lists(queries, sets), _Lists(sets, queries)
        self._held, self._holding = _Lists(holding, held), _Lists(held, holding)

    def __len__(self) -> int:
        return len(self.sizes)

    def at(self, rows: np.ndarray) -> Self:
        """These rows; what is right is still determined by all."""
        part = copy(self)
        for name in ("starts", "sizes", "counts", "sets"):
            setattr(part, name, getattr(self, name)[rows])
        return part

    def alone(self, rows: np.ndarray) -> Self:
        """These rows, and what is right by them alone."""
        part = self.at(rows)
        part._link()
        return part

    def of(self, row: int) -> np.ndarray:
        """Numbers of a row's items: query, answers, others; none for a row that could not be read."""
        return self.numbers[self.starts[row] : self.starts[row] + self.sizes[row]]

    @property
    def per_query(self) -> float:
        """How many answers are right for a distinct query, on average."""
        return self._held.count(self._asked.values) / max(1, self._asked.owners)

    @property
    def per_answer(self) -> float:
        """For how many queries a distinct answer is right, on average."""
        return self._asking.count(self._holding.values) / max(1, self._holding.owners)

    def right_for(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Everything that is right for some queries, as (place in `queries`, number); some of it may come twice."""
        lines, sets = self._asked.of(queries)
        places, answers = self._held.of(sets)
        return lines[places], answers

    def asking_for(self, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The queries that some answers are right for, as (place in `answers`, number); some of it may come twice."""
        lines, sets = self._holding.of(answers)
        places, queries = self._asking.of(sets)
        return lines[places], queries

    def right(self, queries: Any, targets: Any) -> "Right":
        """What is right in a batch.

        Args:
            queries: numbers `(B,)`. targets: numbers `(T,)`, -1 for an empty place.
        """
        device = queries.device if isinstance(queries, Tensor) else "cpu"
        queries, targets = (torch.as_tensor(numbers).cpu().numpy() for numbers in (queries, targets))
        rows, asked = self._asked.of(queries)
        # Numbers of this batch alone from here on, dense from 0: tables over them are as small as the batch.
        items, sets = np.unique(np.concatenate([queries, targets[targets >= 0]])), np.unique(asked)
        if self._held.count(sets) <= self._holding.count(items):  # either way finds the same: the shorter one
            members = self._held.of(sets)
            found = np.stack([members[0], _places(items, members[1])])
        else:
            members = self._holding.of(items)
            found = np.stack([_places(sets, members[1]), members[0]])
        found = found[:, (found >= 0).all(0)]
        asks = np.full((len(queries), np.bincount(rows).max(initial=1)), len(sets))
        asks[rows, _within(rows)] = _places(sets, asked)
        numbers = (_places(items, queries), np.where(targets < 0, len(items), _places(items, targets)), asks, found.T)
        once = len(items) == len(queries) + len(targets) and len(sets) == len(rows)
        arrays = (torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in numbers)
        return Right(*arrays, sets=len(sets), items=len(items), plain=once and found.shape[1] == len(queries))


class Right:
    """Which targets of a batch are right for which queries: a matrix `(B, T)` of truth values, never held whole.

    Memory grows with the items and with the pairs of distinct items that are right.

    Args:
        queries: numbers `(B,)` of items, from 0. targets: the same `(T,)`, the B positives first in a loss; the number
            `items` is an empty place.
        asks: `(B, G)` sets that a query asks for, the number `sets` where they are fewer than G.
        members: `(n, 2)` (set, item). sets, items: how many there are.
        plain: nothing is right but each query's own positive.
    """

    def __init__(
        self,
        queries: Tensor,
        targets: Tensor,
        asks: Tensor,
        members: Tensor,
        *,
        sets: int,
        items: int,
        plain: bool = False,
    ) -> None:
        self.queries, self.targets, self.asks, self.plain = queries, targets, asks, plain
        empty = targets == items
        self._empty = empty if bool(empty.any()) else None
        self._items_of = _Table(members, sets, items)
        self._sets_of = _Table(members.flip(1), items, sets)

    def answers(self, rows: slice | Tensor, columns: Side = "target") -> Tensor:
        """`(b, N)`: which columns are right for these queries."""
        return self._items_of.part(self.asks[rows], self._numbers(columns))

    def askers(self, rows: slice | Tensor, side: Side = "positive") -> Tensor:
        """`(b, B)`: for which queries these rows of a side are right."""
        first, *more = (self._sets_of.part(self._numbers(side)[rows, None], asked) for asked in self.asks.T)
        for found in more:
            first |= found
        return first

    def same(self, rows: slice | Tensor, row_side: Side = "query", column_side: Side = "target") -> Tensor:
        """`(b, N)`: which columns have the content of these rows."""
        return self._numbers(row_side)[rows, None] == self._numbers(column_side)

    def spared(self, rows: slice | Tensor, row_side: Side = "query", column_side: Side = "target") -> Tensor:
        """`(b, N)`: candidates that are no negatives of these rows.

        Of a query's targets those are what is right, the query itself and empty places; of a positive's queries those
        that ask for it, and itself. Two queries or two positives are spared each other where what is right for one row
        is in the other. The row's own place is always among them.
        """
        if (row_side, column_side) == ("query", "target"):
            found = self.answers(rows) | self.same(rows)
            return found if self._empty is None else found | self._empty
        if (row_side, column_side) == ("positive", "query"):
            return self.askers(rows) | self.same(rows, row_side, column_side)
        if row_side != column_side or row_side == "target":
            raise ValueError(f"a {row_side} is never told from a {column_side}")
        found = self.answers(rows, "positive") | self.same(rows, "query", "positive")
        found |= self.askers(rows) | self.same(rows, "positive", "query")
        if row_side == "query":
            found |= self.answers(rows, "query") | self.askers(rows, "query")
        return found | self.same(rows, row_side, column_side)

    def _numbers(self, side: Side) -> Tensor:
        if side == "query":
            return self.queries
        return self.targets if side == "target" else self.targets[: len(self.queries)]


class _Table:
    """A sparse matrix of truth values, of which some rows at a time are made dense."""

    def __init__(self, pairs: Tensor, rows: int, columns: int) -> None:
        order = pairs[:, 0].argsort(stable=True)
        self.columns, self.width = pairs[order, 1], columns + 1  # the last is that of what is not there
        self.starts = torch.searchsorted(pairs[order, 0].contiguous(), torch.arange(rows + 2, device=pairs.device))

    def part(self, numbers: Tensor, columns: Tensor) -> Tensor:
        """`(b, N)`: the union of the rows with each line's numbers `(b, G)`, at some columns."""
        unique, inverse = numbers.unique(return_inverse=True)
        # Rows of a sparse matrix in compressed form: entries starts[i] to starts[i + 1] of `columns`.
        begin, counts = self.starts[unique], self.starts[unique + 1] - self.starts[unique]
        line = torch.arange(len(unique), device=numbers.device).repeat_interleave(counts)
        within = torch.arange(len(line), device=numbers.device) - (counts.cumsum(0) - counts)[line]
        dense = torch.zeros(len(unique), self.width, dtype=torch.bool, device=numbers.device)
        dense[line, self.columns[begin[line] + within]] = True
        dense = dense.gather(1, columns.expand(len(dense), -1))  # five times as fast as an index
        found = dense[inverse[:, 0]]
        for more in inverse.T[1:]:
            found |= dense[more]
        return found


class _Lists:
    """Numbers in lists by owner, each once."""

    def __init__(self, owners: np.ndarray, values: np.ndarray) -> None:
        span = int(values.max(initial=0)) + 1
        owners, self.values = np.divmod(np.unique(owners * span + values), span)
        self.owners = len(np.unique(owners))
        self.last = int(owners.max(initial=-1)) + 1  # who is beyond has an empty list
        self.starts = np.searchsorted(owners, np.arange(self.last + 2))

    def count(self, owners: np.ndarray) -> int:
        """Length of some lists together."""
        owners = owners.clip(max=self.last)
        return int((self.starts[owners + 1] - self.starts[owners]).sum())

    def of(self, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lists of some owners, as (place in `owners`, value)."""
        owners = owners.clip(max=self.last)
        begin, counts = self.starts[owners], self.starts[owners + 1] - self.starts[owners]
        place = np.repeat(np.arange(len(owners)), counts)
        return place, self.values[begin[place] + _within(place)]


def _within(places: np.ndarray) -> np.ndarray:
    """How many equal ones stand before each number of a list in order."""
    return np.arange(len(places)) - np.searchsorted(places, places)


def _places(known: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Where numbers stand among sorted ones; -1 for those that do not."""
    if not len(known):
        return np.full(len(numbers), -1)
    places = np.searchsorted(known, numbers).clip(max=len(known) - 1)
    return np.where(known[places] == numbers, places, -1)
