"""ExactIndex: compares a query with every vector, block by block, from a memory-mapped file. Needs no engine."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.arguments import checked, mapping, one_of, whole
from zoo.arguments import path as a_path
from zoo.errors import DiskFullError
from zoo.index._scan import scan
from zoo.index.base import IndexFacts, SearchHit, as_float, hit_of
from zoo.index.planning import Plan
from zoo.index.segments import SEGMENTS, Snapshot
from zoo.index.store import Store
from zoo.shards.folder import read_vectors
from zoo.strangers.folders import Place

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class ExactIndex(Store):
    """An append-only log in a folder: `vectors.bin`, and one small Arrow file for each change."""

    backend = "exact"
    precisions = ("float32", "int8", "binary")

    @classmethod
    @checked(folder=a_path, fingerprint=mapping, dim=whole(), precision=one_of(*precisions))
    def create(
        cls,
        folder: Path | str,
        *,
        fingerprint: Mapping[str, Any],
        dim: int,
        columns: "pa.Schema | None" = None,
        precision: str = "float32",
    ) -> Self:
        """An empty index; raises IndexStateError where there is one already, and as `IndexFacts`."""
        import pyarrow as pa

        facts = IndexFacts(cls.backend, dict(fingerprint), dim, precision, columns or pa.schema([]))
        return cls.begin(Place.of(folder), facts)

    @classmethod
    def _make(cls, place: Place, facts: IndexFacts) -> None:
        (place / SEGMENTS).make()

    def _open(self) -> None:
        self._now = Snapshot.read(self.place, self.facts)
        self._now.check()
        # Of the writer alone: id → row, and the number of changes that it knows.
        self._row_of_id: dict[str, int] = {}
        self._told = 0

    # -- writing ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        with super().writing():
            yield
            self._now.remember()

    def _catch_up(self) -> None:
        self._now = Snapshot.read(self.place, self.facts, self._now)

    def _put(self, rows: "pa.Table", matrix: "np.ndarray") -> None:
        known = self._rows_by_id()
        replaces = [known[one] for one in rows.column("id").to_pylist() if one in known]
        self._append(rows, _compressed(matrix, self.facts.precision), replaces, "")

    def _remove(self, ids: list[str] | None, where: str | None) -> int:
        import numpy as np

        if ids is None:
            rows = np.flatnonzero(self._now.kept(where)).tolist()
        else:
            known = self._rows_by_id()
            rows = [known[one] for one in dict.fromkeys(ids) if one in known]
        if rows:
            self._append(self.facts.schema.empty_table(), self._now.vectors[:0], rows, "")
        return len(rows)

    def _add(self, shards: "Sequence[tuple[pa.Table, str]]") -> None:
        for table, origin in shards:
            # No two shards share an id, but `upsert` may have added one that `zoo embed` has met only now.
            own = self._own_rows_by_id()
            replaces = [own[one] for one in table.column("id").to_pylist() if one in own] if own else []
            self._append(table.drop_columns(["vector"]), read_vectors(table), replaces, origin)

    @checked(threshold=whole(0))
    def tune(self, threshold: int) -> None:
        """An exact index has nothing to build."""

    def _append(self, table: "pa.Table", stored: "np.ndarray", replaces: Sequence[int], origin: str) -> None:
        self._now = self._now.appended(table, stored, replaces, origin)
        # The change is on disk and stands, whatever becomes of the tidying.
        with contextlib.suppress(DiskFullError, OSError):
            self._now = self._now.merged()

    def _rows_by_id(self) -> dict[str, int]:
        """Id → row of all that are alive; only the changes since the last call are looked at."""
        now, known = self._now, self._row_of_id
        for segment in now.segments:
            if segment.last < self._told:
                continue
            for row in segment.replaces:
                if known.get(one := now.id_of(row)) == row:
                    del known[one]
            for row, one in enumerate(segment.table.column("id").to_pylist(), start=segment.start):
                if now.alive[row]:
                    known[one] = row
        self._told = now.changes
        return known

    def _own_rows_by_id(self) -> dict[str, int]:
        return {
            one: row
            for segment in self._now.segments
            if not segment.origin
            for row, one in enumerate(segment.table.column("id").to_pylist(), start=segment.start)
            if self._now.alive[row]
        }

    def commit(self) -> str:
        """Every change is on disk when its call returns; the version is the number of changes."""
        return str(self._now.changes)

    # -- reading ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._now)

    def origins(self) -> set[str]:
        """The shards that have been added."""
        return {segment.origin for segment in self._now.segments if segment.origin}

    def own_rows(self) -> "Iterator[tuple[pa.Table, np.ndarray]]":
        """See `Store`."""
        import numpy as np

        now = self._now
        for segment in now.segments:
            alive = np.flatnonzero(now.alive[segment.start : segment.stop])
            if not segment.origin and len(alive):
                yield segment.table.take(alive), as_float(now.vectors[segment.start + alive], self.facts.precision)

    def _count(self, where: str | None) -> int:
        return int(self._now.kept(where).sum())

    def _columns_of(self, columns: list[str], where: str | None) -> "pa.Table":
        import pyarrow as pa

        now, kept = self._now, self._now.kept(where)
        tables = [self.facts.schema.empty_table(), *(segment.table for segment in now.segments)]
        return pa.concat_tables([table.select(columns) for table in tables]).filter(pa.array(kept))

    def _plan(self, where: str | None, exact: bool) -> Plan:
        alive = int(self._now.alive.sum())
        return Plan(alive, alive if where is None else self._count(where), exact=True, filtered=where is not None)

    def _nearest(self, queries: "np.ndarray", k: int, where: str | None, plan: Plan) -> list[list[SearchHit]]:
        import numpy as np

        now = self._now
        found = scan(now.vectors, self.facts.precision, now.kept(where), queries, k)
        numbers, places = np.unique(np.concatenate([rows for rows, _ in found]), return_inverse=True)
        rows, ends = now.rows(numbers), np.cumsum([len(rows) for rows, _ in found])[:-1]
        kind = self.facts.similarity
        return [
            [hit_of(rows[place], float(score), kind) for place, score in zip(of_one, scores, strict=True)]
            for of_one, (_, scores) in zip(np.split(places, ends), found, strict=True)
        ]


def _compressed(matrix: "np.ndarray", precision: str) -> "np.ndarray":
    import torch

    from zoo.similarity import quantize

    return quantize(torch.from_numpy(matrix), precision).numpy()
