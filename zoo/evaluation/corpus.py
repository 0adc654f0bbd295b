"""Corpus: the items of tables of pairs by kind, and which of them show or say the same thing, also where no table pairs them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from zoo.embedder.aiming import facing
from zoo.errors import UnsupportedModalityError
from zoo.evaluation.pairs import asked_with
from zoo.inputs.identity import Contents
from zoo.inputs.item import Item
from zoo.prompts import Role

if TYPE_CHECKING:
    from zoo.embedder import Embedder


class Told(NamedTuple):
    """What a row of a table says: two items that belong together, of a group ("" for none), called by a name ("" for none).

    `table` tells tables apart: a group of one is none of another.
    """

    query: Item
    target: Item
    group: str = ""
    name: str = ""
    table: int = 0


@dataclass
class Members:
    """The distinct items of one kind, and of each what it has to do with others.

    Attributes:
        numbers: of their contents. asks, holds: the sets of rows (a group, or all rows of one query) that it asks for as a query,
            and is an answer in as a target. says: of a text itself, of anything else the texts it is paired with and its name.
    """

    kind: str
    items: list[Item] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    asks: list[set[int]] = field(default_factory=list)
    holds: list[set[int]] = field(default_factory=list)
    says: list[set[str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def at(self, places: Sequence[int]) -> Self:
        """Some of them."""
        lists = (self.items, self.numbers, self.asks, self.holds, self.says)
        return type(self)(self.kind, *([one[place] for place in places] for one in lists))


class Corpus:
    """The distinct items of rows.

    Args:
        names: of the tables, for messages.

    Attributes:
        kinds: kind ("image", "image+text") → its members.
    """

    def __init__(self, rows: Iterable[Told], names: Sequence[str] = ()) -> None:
        self.kinds: dict[str, Members] = {}
        self._names, self._tables = names, dict[str, set[int]]()  # kind → tables that hold such items
        self._contents = Contents()
        self._places: dict[int, int] = {}
        self._directed: set[str] = set()  # kinds that a table pairs with themselves
        sets: dict[Any, int] = {}
        for row in rows:
            sides = [self._member(item) for item in (row.query, row.target)]
            (asking, first), (answering, second) = sides
            one = (row.table, row.group) if row.group else asking.numbers[first]
            number = sets.setdefault(one, len(sets))
            asking.asks[first].add(number)
            answering.holds[second].add(number)
            texts = {same_words(one.text) for one in row[:2] if one.modalities == {"text"} and one.text} - {""}
            for (members, place), item in zip(sides, row[:2], strict=True):
                self._tables.setdefault(members.kind, set()).add(row.table)
                own = item.modalities == {"text"}
                members.says[place] |= {same_words(item.text or "")} if own else texts | {same_words(row.name)} - {""}
            if asking is answering:
                self._directed.add(asking.kind)

    def _member(self, item: Item) -> tuple[Members, int]:
        kind = "+".join(sorted(item.modalities))
        members = self.kinds.setdefault(kind, Members(kind))
        number = self._contents.number(item)
        place = self._places.setdefault(number, len(members))
        if place == len(members):
            members.items.append(item)
            members.numbers.append(number)
            for told in (members.asks, members.holds, members.says):
                told.append(set())
        return members, place

    def pairs(self) -> Iterator["Relation"]:
        """Every kind asked for every kind. Items of one kind ask for each other, but where a table says which ask for which.

        What is right is what the rows of tables say, and of different kinds also that of which one thing is said.
        """
        for query in self.kinds.values():
            for document in self.kinds.values():
                if query is not document:
                    yield Relation(query, document, "words")
                elif query.kind not in self._directed:
                    yield Relation(query, document, "sets")
                else:
                    asking = query.at([place for place, told in enumerate(query.asks) if told])
                    yield Relation(asking, query.at([place for place, told in enumerate(query.holds) if told]), "rows")

    def check_read(self, model: "Embedder") -> None:
        """Raises UnsupportedModalityError that names a kind of which the model reads none."""
        for members in self.kinds.values():
            try:
                model.route(members.items[0])
            except UnsupportedModalityError as error:
                of = [self._names[n] if n < len(self._names) else f"table {n + 1}" for n in self._tables[members.kind]]
                raise UnsupportedModalityError(
                    f"{model.spec.name} reads {', '.join(sorted(model.spec.modalities))}, and {len(members):,} items of "
                    f"{', '.join(sorted(of))} are {members.kind}; leave that out"
                ) from error


class Relation:
    """Which documents are right for which queries.

    Args:
        by: "rows": a query asks for the sets that it asks for as a query, and a document is of those that it answers in. "sets":
            both are of all their sets, whichever way a table says it. "words": besides, something is said of both.
    """

    def __init__(self, queries: Members, documents: Members, by: Literal["rows", "sets", "words"]) -> None:
        self.queries, self.documents, self.by = queries, documents, by
        self._numbers = np.asarray(documents.numbers)
        self._of: dict[int | str, list[int]] = {}
        for place in range(len(documents)):
            for topic in self._topics(documents, place, documents.holds):
                self._of.setdefault(topic, []).append(place)

    def _topics(self, members: Members, place: int, side: Sequence[set[int]]) -> set[Any]:
        if self.by == "rows":
            return side[place]
        sets = members.asks[place] | members.holds[place]
        return sets if self.by == "sets" else sets | members.says[place]

    def at(self, queries: Sequence[int], documents: Sequence[int]) -> "Relation":
        """The same of some of them."""
        return Relation(self.queries.at(queries), self.documents.at(documents), self.by)

    def block(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Which documents are right for the queries from `start` to `stop`, and which are the query itself: bool `(b, N)` each."""
        shape = (stop - start, len(self.documents))
        right, itself = np.zeros(shape, bool), np.zeros(shape, bool)
        for row, place in enumerate(range(start, stop)):
            for topic in self._topics(self.queries, place, self.queries.asks):
                right[row, self._of.get(topic, ())] = True
            itself[row] = self._numbers == self.queries.numbers[place]
        return torch.from_numpy(right & ~itself), torch.from_numpy(itself)


class Vectors:
    """Vectors of a corpus: items of a kind are embedded once in each role, and texts once for each target that a model has.

    Attributes:
        skipped: what could not be embedded, a line each.
    """

    def __init__(self, model: "Embedder") -> None:
        self.model, self.skipped = model, []
        self._asked = dict(zip(("query", "document"), asked_with(model, None), strict=True))
        self._known: dict[Any, dict[int, Tensor]] = {}

    def of(self, members: Members, role: Role, other: str) -> tuple[Tensor, list[int]]:
        """Vectors `(n, dim)` of those that can be embedded, and their places; `other` is the kind that they are compared with."""
        aimed, prompt = facing(self.model, [other.split("+")]), self._asked[role]
        told = self.model.prompt_text(**prompt)  # models without prompts embed an item once for both roles
        known = self._known.setdefault((members.kind, told, aimed.against if aimed.spec.targets else None), {})
        new = [place for place, number in enumerate(members.numbers) if number not in known]
        for index, vector, error in aimed.encode_stream(
            (members.items[place] for place in new), progress=False, **prompt
        ):
            known[members.numbers[new[index]]] = torch.zeros(0) if vector is None else vector
            if error is not None:
                self.skipped.append(f"{role} {error}")
        there = [place for place, number in enumerate(members.numbers) if len(known[number])]
        vectors = [known[members.numbers[place]] for place in there]
        return torch.stack(vectors) if vectors else torch.zeros(0, self.model.spec.dim), there


def same_words(text: str) -> str:
    """A text as captions of different tables are compared: without case, a full stop, or spaces that say nothing."""
    return " ".join(text.casefold().split()).rstrip(".")
