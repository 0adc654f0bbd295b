"""LanceIndex: vectors in a LanceDB table. The only module that knows lancedb (0.40 to 0.49: its API moves fast)."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self, TypeVar

from zoo.arguments import checked, mapping, whole
from zoo.arguments import path as a_path
from zoo.errors import FilterError, IndexStateError, ZooError
from zoo.files import is_full
from zoo.index.base import FACTS, IndexFacts, SearchHit, as_float, hit_of, rows_of
from zoo.index.facts import ORIGIN
from zoo.index.locks import gone
from zoo.index.planning import Plan, compared
from zoo.index.store import Store
from zoo.index.where import Filter
from zoo.shards.checking import allowed
from zoo.shards.facts import vector_type
from zoo.shards.folder import full_disk_named, read_vectors
from zoo.shards.values import wrong_rows, wrong_vector
from zoo.strangers import seen
from zoo.strangers.folders import Place

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TABLE = "vectors"
# A search looks into this many of the partitions, of some 8,000 rows each; the int8 vectors there propose REFINE times k candidates, which are
# compared again in float32.
PROBES = 20
REFINE = 4
# Queries in one search, and the column in which Lance says which of them a row answers.
QUERIES = 256
QUERY = "query_index"
# A share of rows added since the index was built that is worth folding in.
STALE = 0.1
# Older versions that may lie around; more in a large table, since pruning rewrites the rows of small files.
VERSIONS = 64
ROWS_A_VERSION = 8192
# Within the table's folder: which version was the last that has been made durable.
SYNCED = "_synced"
LONGEST = 64  # bytes of it
BATCH = 256  # rows that are looked at together: their texts may be long
NEVER, NOW = timedelta(days=36500), timedelta(milliseconds=1)
Found = TypeVar("Found")
_OF_FILES = re.compile(r"Not found: |was not found|os error \d|LanceError\(IO\)")


class LanceIndex(Store):
    """A folder with `index.json` and a LanceDB table. Each change is one atomic commit of the table."""

    backend = "lancedb"
    precisions = ("float32",)

    @classmethod
    @checked(folder=a_path, fingerprint=mapping, dim=whole())
    def create(
        cls,
        folder: Path | str,
        *,
        fingerprint: Mapping[str, Any],
        dim: int,
        columns: "pa.Schema | None" = None,
    ) -> Self:
        """An empty index; raises IndexStateError where there is one already, and as `IndexFacts`."""
        import pyarrow as pa

        facts = IndexFacts(cls.backend, dict(fingerprint), dim, "float32", columns or pa.schema([]))
        return cls.begin(Place.of(folder), facts)

    @classmethod
    def _make(cls, place: Place, facts: IndexFacts) -> None:
        import lancedb
        import pyarrow as pa

        own = [("id", pa.string()), ("reference", pa.string()), (ORIGIN, pa.string())]
        schema = pa.schema([*own, ("vector", vector_type(facts.dim, "float32")), *facts.columns])
        files = place / f"{TABLE}.lance"
        with _named(place):
            files.remove_tree()
            files.check_tree()  # of a link in its place, which Lance would follow
            lancedb.connect(place.path).create_table(TABLE, schema=schema)
            _sync(files, set())

    @property
    def _files(self) -> Place:
        return self.place / f"{TABLE}.lance"

    def _open(self) -> None:
        self._known: tuple[Any, Any] = (None, None)  # of the last plan: version and filter, and what was counted
        with _named(self.place):
            self._table = self._opened_table()
            self._check()

    def _opened_table(self) -> Any:
        import lancedb

        # Lance opens its files by their names, and would follow links.
        self._files.check_tree()
        return lancedb.connect(self.folder).open_table(TABLE)

    def _check(self) -> None:
        """Looks at all rows, unless that was done before: an index may come from others. Raises IndexStateError."""
        files = list(_statuses(self._files.path))
        key = self._key(files)
        if seen.is_known(self.place.root, key):
            return
        problem = self._wrong(sum(about.st_size for _, about in files))
        if problem:
            raise IndexStateError(f"{self._files} {problem}; delete {self.place} and build the index again")
        seen.remember(self.place.root, key, settled=all(seen.is_settled(about) for _, about in files))

    def _key(self, files: Iterable[tuple[Path, os.stat_result]]) -> str:
        return seen.key_of(f"lancedb {self.facts.dim} {self.facts.similarity}", files)

    def _wrong(self, size: int) -> str:
        """What is wrong with the table, whose files have so many bytes; "" where nothing is."""
        import pyarrow as pa

        own = [("id", pa.string()), ("reference", pa.string()), (ORIGIN, pa.string())]
        plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}  # as Lance keeps them
        wanted = dict(own) | {column.name: plain.get(column.type, column.type) for column in self.facts.columns}
        there = {column.name: column.type for column in self._table.schema}
        vector = there.pop("vector", None)
        if there != wanted or vector is None or not vector.equals(vector_type(self.facts.dim, "float32")):
            return f"holds other columns than {FACTS} says"
        rows = self._table.count_rows()
        if rows * self.facts.dim * 4 > allowed(size):
            return f"promises {rows:,} vectors in {size:,} bytes"
        names, first, taken = [*wanted, "vector"], 0, 0
        for batch in self._table.search().select(names).to_batches(BATCH):
            table = pa.Table.from_batches([batch])
            taken += table.nbytes
            if taken > allowed(size):
                return f"becomes over {allowed(size):,} bytes in memory, of {size:,} on disk"
            if problem := wrong_rows(table):
                return problem
            if table.column("vector").null_count or table.column("vector").combine_chunks().flatten().null_count:
                return "holds rows without a vector"
            if found := wrong_vector(read_vectors(table), "float32", self.facts.similarity):
                return f"holds a vector, {first + found[0]:,}, that {found[1]}"
            first += len(table)
        return ""

    # -- writing ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        with super().writing(), _named(self.place):
            self._files.check_tree()
            # What a writer left that was killed between its commit and its fsync is made durable with ours.
            known = _files(self._files) if _synced(self._files) == self.commit() else set()
            yield
            self._make_durable(known)
            # The change is on disk and stands, whatever becomes of the tidying.
            with contextlib.suppress(RuntimeError, ValueError, OSError):
                self._prune()
            seen.remember(self.place.root, self._key(_statuses(self._files.path)))

    def _make_durable(self, known: set[str]) -> None:
        if self.commit() != _synced(self._files):
            _sync(self._files, known)
            (self._files / SYNCED).write(self.commit().encode())

    def _prune(self) -> None:
        """Removes older versions where there are many and nobody else may be reading one of them."""
        if len((self._files / "_versions").names()) <= VERSIONS + self._table.count_rows() // ROWS_A_VERSION:
            return
        with self._lease.alone() as alone:
            if alone:
                # In two steps: what takes the place of the old files must be durable before they go.
                known = _files(self._files)
                self._table.optimize(cleanup_older_than=NEVER)
                self._make_durable(known)
                known = _files(self._files)
                self._table.optimize(cleanup_older_than=NOW, delete_unverified=True)
                self._make_durable(known)

    def _catch_up(self) -> None:
        with _named(self.place):
            self._table.checkout_latest()

    def _put(self, rows: "pa.Table", matrix: "np.ndarray") -> None:
        self._merge(self._complete(rows, matrix, ""))

    def _remove(self, ids: list[str] | None, where: str | None) -> int:
        if ids is not None:
            if not ids:
                return 0
            # SQL's own escape of a quote is two of them.
            quoted = ", ".join("'" + one.replace("'", "''") + "'" for one in ids)
            return self._table.delete(f"id IN ({quoted})").num_deleted_rows
        return self._filtered(lambda table: table.delete(self._sql(where)).num_deleted_rows, where)

    def _add(self, shards: "Sequence[tuple[pa.Table, str]]") -> None:
        """All of them in one commit."""
        import pyarrow as pa

        tables = []
        for table, origin in shards:
            stored = str(table.schema.field("vector").type.value_type)
            matrix = as_float(read_vectors(table), {"int8": "int8", "uint8": "binary"}.get(stored, "float32"))
            tables.append(self._complete(table.drop_columns(["vector"]), matrix, origin))
        # No two shards share an id, but `upsert` may have added one that `zoo embed` has met only now.
        if self._table.count_rows(f"{ORIGIN} = ''"):
            self._merge(pa.concat_tables(tables))
        else:
            self._table.add(pa.concat_tables(tables))

    def _merge(self, rows: "pa.Table") -> None:
        self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def _complete(self, rows: "pa.Table", matrix: Any, origin: str) -> "pa.Table":
        import numpy as np
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(matrix).reshape(-1), pa.float32())
        vectors = pa.FixedSizeListArray.from_arrays(flat, type=vector_type(self.facts.dim, "float32"))
        rows = rows.append_column(ORIGIN, pa.array([origin] * len(rows), pa.string())).append_column("vector", vectors)
        return rows.select(self._table.schema.names).cast(self._table.schema)

    @checked(threshold=whole(0))
    def tune(self, threshold: int) -> None:
        """Builds the approximate index at `threshold` rows, and folds new rows into it when there are many."""
        from lancedb.index import IvfSq

        self._check_open()
        if self._due(threshold):
            with self.writing():
                match self._due(threshold):  # another process may have done it meanwhile
                    case "build":
                        # Not an HNSW graph, which found no more here and took a hundred times as long to build.
                        self._table.create_index("vector", config=IvfSq(distance_type=self.facts.similarity))
                    case "fold":
                        self._table.optimize(cleanup_older_than=NEVER)

    def _due(self, threshold: int) -> str:
        def due(table: Any) -> str:
            rows = table.count_rows()
            indices = [index for index in table.list_indices() if index.columns == ["vector"]]
            if not indices:
                return "build" if rows >= threshold else ""
            return "fold" if indices[0].num_unindexed_rows > STALE * rows else ""

        return self._read(due)

    def commit(self) -> str:
        """Every change is on disk when its call returns; the version is that of the table."""
        return str(self._table.version)

    # -- reading ------------------------------------------------------------------------------------------------

    def _read(self, ask: Callable[[Any], Found], where: str | None = None) -> Found:
        """What the table answers; if its files were removed all the same, what its latest version answers."""
        self._check_open()
        with _named(self.place):
            for _ in range(2):
                try:
                    return self._filtered(ask, where)
                except (RuntimeError, OSError) as error:
                    if not self._files.is_folder():
                        raise gone(self.place) from error
                    if "not found" not in str(error).lower():
                        raise
                    self._table = self._opened_table()
            return self._filtered(ask, where)

    def _filtered(self, ask: Callable[[Any], Found], where: str | None) -> Found:
        """What the table answers; what lancedb says about a filter is a FilterError."""
        try:
            return ask(self._table)
        except (ValueError, RuntimeError) as error:
            if where is None or isinstance(error, ZooError) or _OF_FILES.search(str(error)):
                raise
            raise FilterError(f"filter {where!r}: {_first_line(error)}") from error

    def origins(self) -> set[str]:
        """The shards that have been added."""
        import pyarrow.compute as pc

        def all_of(table: Any) -> set[str]:
            found: set[str] = set()
            for batch in table.search().select([ORIGIN]).to_batches():
                found.update(pc.unique(batch.column(ORIGIN)).to_pylist())
            return found

        return self._read(all_of) - {""}

    def own_rows(self) -> "Iterator[tuple[pa.Table, np.ndarray]]":
        """See `Store`."""
        found = self._read(lambda table: table.search().where(f"{ORIGIN} = ''").to_arrow())
        if len(found):
            yield found.select(self.facts.schema.names).cast(self.facts.schema), read_vectors(found).copy()

    @property
    def approximate(self) -> bool:
        """Whether searches go through an approximate index."""
        return self._read(lambda table: any(index.columns == ["vector"] for index in table.list_indices()))

    def _count(self, where: str | None) -> int:
        return self._read(lambda table: table.count_rows(None if where is None else self._sql(where)), where)

    def _columns_of(self, columns: list[str], where: str | None) -> "pa.Table":
        def asked(table: Any) -> "pa.Table":
            found = table.search().select(columns)
            return (found if where is None else found.where(self._sql(where))).to_arrow()

        return self._read(asked, where).select(columns)

    def _plan(self, where: str | None, exact: bool) -> Plan:
        version = self.commit(), where
        if self._known[0] != version:
            rows = self._count(None)
            self._known = version, (rows, rows if where is None else self._count(where), self.approximate)
        rows, matches, approximate = self._known[1]
        filtered = where is not None
        if exact or not approximate or (filtered and matches <= compared(self.facts.dim)):
            return Plan(rows, matches, True, filtered)
        # Of every partition the filter leaves a share: to look at as many rows as without it takes more of them.
        return Plan(rows, matches, False, filtered, -(-PROBES * rows // max(1, matches)))

    def _nearest(self, queries: "np.ndarray", k: int, where: str | None, plan: Plan) -> list[list[SearchHit]]:
        found = []
        for start in range(0, len(queries), QUERIES):
            found += self._nearest_of(queries[start : start + QUERIES], k, where, plan)
        return found

    def _nearest_of(self, queries: "np.ndarray", k: int, where: str | None, plan: Plan) -> list[list[SearchHit]]:
        kind, several = self.facts.similarity, len(queries) > 1
        # Of several queries in one search Lance says in a column of its own which a row answers.
        shown = [*self.facts.schema.names, "_distance"]

        def nearest(table: Any) -> "pa.Table":
            found = table.search(queries if several else queries[0], vector_column_name="vector").distance_type(kind)
            found = found.select(shown).limit(k)
            found = found.bypass_vector_index() if plan.exact else found.nprobes(plan.probes).refine_factor(REFINE)
            if where is not None:
                found = found.where(self._sql(where), prefilter=True)
            return found.to_arrow()

        rows = self._read(nearest, where)
        asked = rows.column(QUERY).to_pylist() if several else [0] * len(rows)
        distances = rows.column("_distance").to_pylist()  # of both kinds of similarity 1 - similarity
        found: list[list[SearchHit]] = [[] for _ in queries]
        rows = rows_of(rows.select(self.facts.schema.names))
        for query, row, distance in zip(asked, rows, distances, strict=True):
            found[query].append(hit_of(row, 1 - distance, kind))
        return found

    def _sql(self, where: str) -> str:
        return Filter(where, self.facts.schema).sql


@contextlib.contextmanager
def _named(folder: Place) -> Iterator[None]:
    """Turns what lancedb raises into errors of the zoo.

    Raises:
        DiskFullError: no space left. IndexStateError: anything else that is wrong with the files.
    """
    try:
        with full_disk_named(folder):
            yield
    except (RuntimeError, ValueError, OSError) as error:
        if isinstance(error, ZooError):
            raise
        number = re.search(r"os error (\d+)", str(error))
        if number and is_full(error):
            with full_disk_named(folder):
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        raise IndexStateError(f"the LanceDB table in {folder} cannot be used: {_first_line(error)}") from error
    except BaseException as error:
        if type(error).__name__ not in ("PanicException", "RustPanic"):  # of Rust, at a damaged file; no Exceptions
            raise
        raise IndexStateError(f"the LanceDB table in {folder} is damaged: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    # Lance appends where in its own sources an error arose, which helps nobody here.
    return re.sub(r",? /\S*\.rs:\d+:\d+.*", "", str(error).split("\n")[0]).removeprefix("Invalid input, ")


# -- durability ----------------------------------------------------------------------------------------------------


def _synced(files: Place) -> str:
    try:
        return (files / SYNCED).read_text(LONGEST)
    except (OSError, ValueError):
        return ""


def _statuses(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file below, in order, and what the system says of it; a link is not followed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _statuses(Path(entry.path))
            else:
                yield Path(entry.path), entry.stat(follow_symlinks=False)


def _files(folder: Place) -> set[str]:
    """The names of all files below, as relative paths."""
    found, waiting = set(), [""]
    while waiting:
        below = waiting.pop()
        with contextlib.suppress(FileNotFoundError):
            for name, kind in (folder / below if below else folder).kinds():
                way = f"{below}/{name}" if below else name
                waiting.append(way) if kind == "folder" else found.add(way)
    return found


def _sync(folder: Place, known: set[str]) -> None:
    """Makes the files of a table durable, which lancedb leaves to the system, but for those that are so already."""
    new = _files(folder) - known
    # Lance writes this one anew with each version.
    new.add("_versions/latest_version_hint.json")
    for way in new:
        with contextlib.suppress(FileNotFoundError), os.fdopen((folder / way).descriptor(os.O_RDWR), "r+b") as file:
            os.fsync(file.fileno())
    for home in sorted({parent for way in new for parent in PurePosixPath(way).parents}, key=str):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (folder / str(home) if home.name else folder).sync()
    folder.parent.sync()
