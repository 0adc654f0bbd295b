"""Store: what both stores have in common: opening, one writer at a time, checks of arguments, a repr."""

import abc
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from zoo.arguments import checked, flag, lists, mapping, optional, text, texts, whole
from zoo.arguments import ids as some_ids
from zoo.arguments import path as a_path
from zoo.arguments import vectors as some_vectors
from zoo.errors import ArgumentError, IndexStateError, ZooError
from zoo.index import generations
from zoo.index.base import FACTS, IndexFacts, SearchHit, a_query, checked_queries, checked_rows
from zoo.index.locks import Lease, make_folder, writers_lock
from zoo.index.planning import Plan
from zoo.strangers.folders import Place
from zoo.strangers.made import made_here, mark

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Store(abc.ABC):
    """A `VectorIndex` in a folder; a kind of store says how rows are kept and found.

    Attributes:
        backend: its name.
        precisions: in which it can keep vectors.
    """

    backend: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]

    def __init__(self, place: Place, facts: IndexFacts) -> None:
        self.place, self.folder, self.facts = place, place.path, facts
        self._lease = Lease(place)
        self._closed = False
        self.lives: Any = None  # what the folder goes with, where it is a temporary one
        try:
            self._open()
        except BaseException:
            self._lease.close()
            raise

    @classmethod
    @checked(folder=a_path, fingerprint=optional(mapping))
    def open(cls, folder: Path | str, *, fingerprint: Mapping[str, Any] | None = None) -> Self:
        """Opens an index as it is now.

        Raises:
            IndexStateError: there is none, or its files are damaged.
            FingerprintMismatchError: it was made by something else than `fingerprint`.
            UnsafeFolderError: something in it is a link, a FIFO or a device.
        """
        return cls.open_at(Place.of(folder), fingerprint)

    @classmethod
    def open_at(cls, home: Place, fingerprint: Mapping[str, Any] | None = None) -> Self:
        """The same of a place below a folder that the user named."""

        def open_one(place: Place) -> Self:
            facts = IndexFacts.load(place)
            if facts.backend != cls.backend or facts.precision not in cls.precisions:
                raise IndexStateError(
                    f"{place} holds an index of the kind {facts.backend!r:.60} in {facts.precision}, not {cls.backend}"
                )
            if fingerprint is not None:
                facts.check(fingerprint, place)
            return cls(place, facts)

        return generations.opened(home, open_one)

    @classmethod
    def begin(cls, place: Place, facts: IndexFacts) -> Self:
        """An empty index; raises IndexStateError where there is one already."""
        if not place.inside:
            _claim(place)
        make_folder(place)
        with writers_lock(place):
            if generations.current(place) or (place / FACTS).kind():
                raise IndexStateError(f"{place} holds an index already; open it, or choose another folder")
            Lease(place, make=True).close()
            cls._make(place, facts)
            facts.save(place)  # at last: a folder with them is complete
        return cls(place, facts)

    # -- writing ------------------------------------------------------------------------------------------------

    @checked(ids=some_ids, vectors=some_vectors, attributes=optional(lists), references=optional(some_ids))
    def upsert(
        self,
        ids: Sequence[str],
        vectors: Any,
        attributes: Mapping[str, Sequence[Any]] | None = None,
        references: Sequence[str] | None = None,
    ) -> None:
        """Adds vectors `(n, dim)`; an id that is there already is replaced."""
        rows, matrix = checked_rows(ids, vectors, attributes, references, self.facts)
        if len(rows):
            with self.writing():
                self._put(rows, matrix)

    @checked(ids=optional(some_ids), where=optional(text))
    def delete(self, ids: Sequence[str] | None = None, *, where: str | None = None) -> int:
        """Removes rows by id or by filter; returns how many there were."""
        if (ids is None) == (where is None):
            raise ValueError("delete takes ids or where, one of the two")
        with self.writing():
            return self._remove([str(one) for one in ids] if ids is not None else None, where)

    def add_shards(self, shards: "Sequence[tuple[pa.Table, str]]") -> None:
        """Adds shards of `zoo embed` with their names; vectors stay as stored."""
        with self.writing():
            self._add(shards)

    @abc.abstractmethod
    def tune(self, threshold: int) -> None:
        """Builds an approximate index at `threshold` rows, in a store that has one, and folds new rows into it."""

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """One writer at a time, which knows what the others have written before; nobody else writes until the block ends."""
        self._check_open()
        with writers_lock(self.place):
            generations.check_in_use(self.place)
            self._catch_up()
            yield

    # -- reading ------------------------------------------------------------------------------------------------

    @checked(where=optional(text))
    def count(self, where: str | None = None) -> int:
        """Number of rows, or of those that a filter keeps."""
        self._check_open()
        return self._count(where)

    @checked(query=a_query, k=whole(), where=optional(text), exact=flag)
    def search(
        self, query: Any, k: int = 10, *, where: str | None = None, exact: bool = False
    ) -> list[SearchHit] | list[list[SearchHit]]:
        """The `k` rows nearest to a vector `(dim,)`, best first, fewer if there are fewer.

        Args:
            query: of a matrix `(n, dim)` each row is a query, and has a list of its own; far quicker than one after the other.
            where: an SQL condition over the attributes: "label = 'cat' AND year >= 2020".
            exact: compare with every row, even where there is an approximate index.
        """
        self._check_open()
        queries, single = checked_queries(query, self.facts)
        if not len(queries):
            return []
        plan = self._plan(where, exact)
        found = self._nearest(queries, k, where, plan)
        if not plan.exact and plan.filtered and any(len(hits) < min(k, plan.matches) for hits in found):
            found = self._nearest(queries, k, where, self._plan(where, exact=True))
        return found[0] if single else found

    @checked(where=optional(text), exact=flag)
    def explain(self, where: str | None = None, *, exact: bool = False) -> Plan:
        """How `search` would look for what it is asked; `str` of it says so in a sentence."""
        self._check_open()
        return self._plan(where, exact)

    @checked(columns=texts, where=optional(text))
    def rows(self, columns: Sequence[str], where: str | None = None) -> "pa.Table":
        """These columns (`id`, `reference`, attributes) of all rows, or of those that a filter keeps; one version, one order."""
        self._check_open()
        if unknown := set(columns) - set(self.facts.schema.names):
            raise ArgumentError(
                f"columns: the index has no {min(unknown)!r}; it has {', '.join(self.facts.schema.names)}"
            )
        return self._columns_of(list(columns), where)

    # -- the handle ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Gives the files free, so that those of an older version can be removed; garbage collection does so too."""
        self._lease.close()
        self._closed, self.lives = True, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            rows = f"{self.count():,} rows"
        except ZooError:
            rows = "closed" if self._closed else "not readable"
        model = self.facts.fingerprint.get("model")
        return f"<{type(self).__name__}: {rows}, dim {self.facts.dim}, made by {model}, in {self.folder}>"

    def _check_open(self) -> None:
        if self._closed:
            raise IndexStateError(f"this index is closed; open it again: {self.folder}")

    # -- of each kind of store ----------------------------------------------------------------------------------

    @classmethod
    @abc.abstractmethod
    def _make(cls, place: Place, facts: IndexFacts) -> None:
        """Makes an empty index in a folder, or again where a killed attempt left something."""

    @abc.abstractmethod
    def _open(self) -> None:
        """Opens the files; raises IndexStateError where they are damaged."""

    @abc.abstractmethod
    def _catch_up(self) -> None:
        """Sees what others have written."""

    @abc.abstractmethod
    def _put(self, rows: "pa.Table", matrix: "np.ndarray") -> None:
        """Adds or replaces checked rows, with vectors as float32 `(n, dim)`."""

    @abc.abstractmethod
    def _remove(self, ids: list[str] | None, where: str | None) -> int: ...

    @abc.abstractmethod
    def _add(self, shards: "Sequence[tuple[pa.Table, str]]") -> None: ...

    @abc.abstractmethod
    def _count(self, where: str | None) -> int: ...

    @abc.abstractmethod
    def _plan(self, where: str | None, exact: bool) -> Plan:
        """How a search with this filter is done."""

    @abc.abstractmethod
    def _nearest(self, queries: "np.ndarray", k: int, where: str | None, plan: Plan) -> list[list[SearchHit]]:
        """Of each checked query, float32 `(n, dim)` with at least one, its results."""

    @abc.abstractmethod
    def _columns_of(self, columns: list[str], where: str | None) -> "pa.Table": ...

    @abc.abstractmethod
    def origins(self) -> set[str]:
        """The shards that have been added."""

    @abc.abstractmethod
    def own_rows(self) -> "Iterator[tuple[pa.Table, np.ndarray]]":
        """What `upsert` has added, piece by piece: rows of `facts.schema`, and vectors as float32 `(n, dim)`."""

    @abc.abstractmethod
    def commit(self) -> str:
        """Every change is on disk when its call returns; the name of the version that is shown."""


def _claim(place: Place) -> None:
    """Marks a new folder as made here; in any other, what a killed attempt seems to have left is not ours to remove."""
    if place.is_folder() and (names := place.names()):
        if (there := sorted({"segments", "vectors.bin", "vectors.lance"} & set(names))) and not made_here(place.path):
            raise IndexStateError(
                f"{place} holds {there[0]}, and was not made here; remove that, or choose another folder for the index"
            )
        return
    make_folder(place)
    mark(place.path)
