"""LanceIndex: vectors in a LanceDB table. The only module that knows lancedb (0.40 to 0.49: its API moves fast)."""

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.arguments import checked, flag, lists, mapping, optional, text, whole
from zoo.arguments import ids as some_ids
from zoo.arguments import path as a_path
from zoo.arguments import vectors as some_vectors
from zoo.bulk.shards import full_disk_named, read_vectors, vector_type
from zoo.index.base import (
    ORIGIN,
    IndexFacts,
    IndexStateError,
    Match,
    as_float,
    checked_query,
    checked_rows,
    within,
)
from zoo.index.where import FilterError, mask_of, with_casts

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "vectors"
# A search looks into this many of the √n partitions; the int8 vectors there propose REFINE times k candidates, which are
# compared again in float32.
PROBES = 20
REFINE = 4
# A share of rows added since the index was built that is worth folding in.
STALE = 0.1


class LanceIndex:
    """A folder with `index.json` and a LanceDB table. Each change is one atomic commit of the table."""

    def __init__(self, folder: Path, facts: IndexFacts, table: Any) -> None:
        self.folder, self.facts, self._table = folder, facts, table

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
        import lancedb
        import pyarrow as pa

        folder = Path(folder)
        if (folder / "index.json").exists():
            raise IndexStateError(f"{folder} holds an index already; open it, or choose another folder")
        columns = columns or pa.schema([])
        facts = IndexFacts("lancedb", dict(fingerprint), dim, "float32", columns)
        own = [("id", pa.string()), ("reference", pa.string()), (ORIGIN, pa.string())]
        schema = pa.schema([*own, ("vector", vector_type(dim, "float32")), *columns])
        folder.mkdir(parents=True, exist_ok=True)
        # The table first: a folder with index.json is complete. What a killed attempt left has none.
        shutil.rmtree(folder / f"{TABLE}.lance", ignore_errors=True)
        with full_disk_named(folder):
            table = lancedb.connect(folder).create_table(TABLE, schema=schema)
        facts.save(folder)
        return cls(folder, facts, table)

    @classmethod
    @checked(folder=a_path, fingerprint=optional(mapping))
    def open(cls, folder: Path | str, *, fingerprint: Mapping[str, Any] | None = None) -> Self:
        """Opens an index; raises FingerprintMismatchError if it was made by something else than `fingerprint`."""
        import lancedb

        folder = Path(folder)
        facts = IndexFacts.load(folder)
        if fingerprint is not None:
            facts.check(fingerprint, folder)
        try:
            return cls(folder, facts, lancedb.connect(folder).open_table(TABLE))
        except (ValueError, RuntimeError, OSError) as error:
            raise IndexStateError(f"the LanceDB table in {folder} cannot be opened: {_first_line(error)}") from error

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
            rows = self._complete(rows, matrix, "")
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            with full_disk_named(self.folder):
                merge.execute(rows)

    @checked(ids=optional(some_ids), where=optional(text))
    def delete(self, ids: Sequence[str] | None = None, *, where: str | None = None) -> int:
        """Removes rows by id or by filter; returns how many there were."""
        if (ids is None) == (where is None):
            raise ValueError("delete takes ids or where, one of the two")
        if where is None:
            quoted = ", ".join("'" + str(one).replace("'", "''") + "'" for one in ids or ())
            if not quoted:
                return 0
            where = f"id IN ({quoted})"
        with self._filtered(where):
            return self._table.delete(self._sql(where)).num_deleted_rows

    def add_shards(self, shards: "Sequence[tuple[pa.Table, str]]") -> None:
        """Adds shards of `zoo embed` with their names, in one commit; their ids are known to be new."""
        import pyarrow as pa

        tables = []
        for table, origin in shards:
            stored = str(table.schema.field("vector").type.value_type)
            matrix = as_float(read_vectors(table), {"int8": "int8", "uint8": "binary"}.get(stored, "float32"))
            tables.append(self._complete(table.drop_columns(["vector"]), matrix, origin))
        with full_disk_named(self.folder):
            self._table.add(pa.concat_tables(tables))

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

        rows = self._table.count_rows()
        indices = [index for index in self._table.list_indices() if index.columns == ["vector"]]
        with full_disk_named(self.folder):
            if not indices and rows >= threshold:
                # Not an HNSW graph, which found no more here and took a hundred times as long to build.
                self._table.create_index("vector", config=IvfSq(distance_type=self.facts.similarity))
            elif indices and indices[0].num_unindexed_rows > STALE * rows:
                self._table.optimize()

    def commit(self) -> str:
        """Every change is on disk when its call returns; the version is that of the table."""
        return str(self._table.version)

    # -- reading ------------------------------------------------------------------------------------------------

    def origins(self) -> set[str]:
        """The shards that have been added."""
        import pyarrow.compute as pc

        found: set[str] = set()
        for batch in self._table.search().select([ORIGIN]).to_batches():
            found.update(pc.unique(batch.column(ORIGIN)).to_pylist())
        return found - {""}

    @property
    def approximate(self) -> bool:
        """Whether searches go through an approximate index."""
        return any(index.columns == ["vector"] for index in self._table.list_indices())

    @checked(where=optional(text))
    def count(self, where: str | None = None) -> int:
        """Number of rows, or of those that a filter keeps."""
        with self._filtered(where):
            return self._table.count_rows(where and self._sql(where))

    @checked(query=some_vectors, k=whole(), where=optional(text), exact=flag)
    def search(self, query: Any, k: int = 10, *, where: str | None = None, exact: bool = False) -> list[Match]:
        """The `k` rows nearest to a vector `(dim,)`, best first, fewer if there are fewer."""
        vector = checked_query(query, self.facts)
        shown = ["id", "reference", *self.facts.columns.names, "_distance"]
        with self._filtered(where):
            found = self._table.search(vector, vector_column_name="vector").distance_type(self.facts.similarity)
            found = found.select(shown).limit(k).nprobes(PROBES).refine_factor(REFINE)
            if exact:
                found = found.bypass_vector_index()
            if where is not None:
                found = found.where(self._sql(where), prefilter=True)
            rows = found.to_arrow().to_pylist()
        kind = self.facts.similarity  # of both the distance is 1 - similarity
        return [Match(row.pop("id"), within(1 - row.pop("_distance"), kind), row.pop("reference"), row) for row in rows]

    def _sql(self, where: str) -> str:
        return with_casts(where, self._columns())

    def _columns(self) -> "pa.Schema":
        import pyarrow as pa

        return pa.schema([("id", pa.string()), ("reference", pa.string()), *self.facts.columns])

    @contextlib.contextmanager
    def _filtered(self, where: str | None) -> Iterator[None]:
        """Turns what lancedb says about a filter into a FilterError."""
        try:
            yield
        except (ValueError, RuntimeError) as error:
            if where is None or isinstance(error, FilterError):
                raise
            # Our own small parser explains common mistakes better; what it finds no fault with, lancedb explains.
            mask_of(where, self._columns().empty_table())
            raise FilterError(f"filter {where!r}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    # Lance appends where in its own sources an error arose, which helps nobody here.
    return re.sub(r",? /\S*\.rs:\d+:\d+.*", "", str(error).split("\n")[0]).removeprefix("Invalid input, ")
