"""ExactIndex: compares a query with every vector, block by block, from a memory-mapped file. Needs no engine."""

import bisect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.arguments import checked, flag, lists, mapping, one_of, optional, text, whole
from zoo.arguments import ids as some_ids
from zoo.arguments import path as a_path
from zoo.arguments import vectors as some_vectors
from zoo.bulk.shards import full_disk_named, read_vectors, write_atomically
from zoo.index.base import (
    IndexFacts,
    IndexStateError,
    Match,
    as_float,
    checked_query,
    checked_rows,
    stored_width,
    within,
)
from zoo.index.where import mask_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BLOCK = 65536
VECTORS = "vectors.bin"


@dataclass(frozen=True)
class _Segment:
    """Rows `start` to `stop` of the vector file, and the earlier rows that they replace."""

    path: Path
    start: int
    stop: int
    replaces: tuple[int, ...]
    origin: str


class ExactIndex:
    """An append-only log in a folder: `vectors.bin`, and one small Arrow file for each change.

    A change counts from the moment its Arrow file has its name; vectors without one are overwritten by the next
    change. So a kill at any moment leaves the index as it was before or after the change.
    """

    def __init__(self, folder: Path, facts: IndexFacts) -> None:
        self.folder, self.facts = folder, facts
        self._segments: list[_Segment] = []
        self._tables: dict[Path, pa.Table] = {}
        self._row_of_id: dict[str, int] | None = None
        for path in sorted((folder / "segments").glob("*.arrow")):
            self._segments.append(_read_segment(path))

    @classmethod
    @checked(folder=a_path, fingerprint=mapping, dim=whole(), precision=one_of("float32", "int8", "binary"))
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

        folder = Path(folder)
        if (folder / "index.json").exists():
            raise IndexStateError(f"{folder} holds an index already; open it, or choose another folder")
        facts = IndexFacts("exact", dict(fingerprint), dim, precision, columns or pa.schema([]))
        (folder / "segments").mkdir(parents=True, exist_ok=True)
        facts.save(folder)
        return cls(folder, facts)

    @classmethod
    @checked(folder=a_path, fingerprint=optional(mapping))
    def open(cls, folder: Path | str, *, fingerprint: Mapping[str, Any] | None = None) -> Self:
        """Opens an index; raises FingerprintMismatchError if it was made by something else than `fingerprint`."""
        folder = Path(folder)
        facts = IndexFacts.load(folder)
        if fingerprint is not None:
            facts.check(fingerprint, folder)
        return cls(folder, facts)

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
        table, matrix = checked_rows(ids, vectors, attributes, references, self.facts)
        if len(table):
            known = self._rows_by_id()
            replaces = [known[one] for one in table.column("id").to_pylist() if one in known]
            self._append(table, _compressed(matrix, self.facts.precision), replaces, "")

    @checked(ids=optional(some_ids), where=optional(text))
    def delete(self, ids: Sequence[str] | None = None, *, where: str | None = None) -> int:
        """Removes rows by id or by filter; returns how many there were."""
        import numpy as np

        if (ids is None) == (where is None):
            raise ValueError("delete takes ids or where, one of the two")
        if where is not None:
            rows = np.flatnonzero(self._alive() & self._kept(where)).tolist()
        else:
            known = self._rows_by_id()
            rows = [known[one] for one in dict.fromkeys(map(str, ids or ())) if one in known]
        if rows:
            empty = self._table_of(self._segments[0]).slice(0, 0)
            kind, width = stored_width(self.facts.dim, self.facts.precision)
            self._append(empty, np.empty((0, width), kind), rows, "")
        return len(rows)

    def add_shards(self, shards: "Sequence[tuple[pa.Table, str]]") -> None:
        """Adds shards of `zoo embed` with their names; their ids are known to be new, vectors stay as stored."""
        for table, origin in shards:
            self._append(table.drop_columns(["vector"]), read_vectors(table), [], origin)

    def _append(self, table: "pa.Table", stored: "np.ndarray", replaces: Sequence[int], origin: str) -> None:
        import pyarrow as pa

        start = len(self)
        with full_disk_named(self.folder), (self.folder / VECTORS).open("ab") as file:
            file.truncate(start * stored.shape[1] * stored.itemsize)
            file.write(stored.tobytes())
            file.flush()
            os.fsync(file.fileno())
        about = {"start": start, "stop": start + len(table), "replaces": list(replaces), "origin": origin}
        sink = pa.BufferOutputStream()
        table = table.replace_schema_metadata({b"zoo": json.dumps(about).encode()})
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        path = self.folder / "segments" / f"{len(self._segments):08d}.arrow"
        write_atomically(path, sink.getvalue())
        self._segments.append(_read_segment(path))
        if self._row_of_id is not None:
            gone = set(replaces)
            self._row_of_id = {one: row for one, row in self._row_of_id.items() if row not in gone}
            self._row_of_id |= {one: start + at for at, one in enumerate(table.column("id").to_pylist())}

    def commit(self) -> str:
        """Every change is on disk when its call returns; the version is the number of changes."""
        return str(len(self._segments))

    @checked(threshold=whole(0))
    def tune(self, threshold: int) -> None:
        """An exact index has nothing to build."""

    # -- reading ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._segments[-1].stop if self._segments else 0

    def origins(self) -> set[str]:
        """The shards that have been added."""
        return {segment.origin for segment in self._segments if segment.origin}

    @checked(where=optional(text))
    def count(self, where: str | None = None) -> int:
        """Number of rows, or of those that a filter keeps."""
        alive = self._alive()
        return int((alive if where is None else alive & self._kept(where)).sum())

    @checked(query=some_vectors, k=whole(), where=optional(text), exact=flag)
    def search(self, query: Any, k: int = 10, *, where: str | None = None, exact: bool = False) -> list[Match]:
        """The `k` rows nearest to a vector `(dim,)`, best first; always exact."""
        import numpy as np

        vector = checked_query(query, self.facts)
        keep = self._alive() if where is None else self._alive() & self._kept(where)
        best_scores, best_rows = np.empty(0, np.float32), np.empty(0, np.int64)
        for start, block in self._blocks():
            rows = np.flatnonzero(keep[start : start + len(block)])
            if not len(rows):
                continue
            scores = _scores(block if len(rows) == len(block) else block[rows], vector, self.facts.precision)
            best_scores = np.concatenate([best_scores, scores])
            best_rows = np.concatenate([best_rows, rows + start])
            if len(best_scores) > k:
                top = np.argpartition(-best_scores, k - 1)[:k]
                best_scores, best_rows = best_scores[top], best_rows[top]
        order = np.lexsort((best_rows, -best_scores))
        return [self._match(int(best_rows[i]), float(best_scores[i])) for i in order]

    def _blocks(self) -> "Iterator[tuple[int, np.ndarray]]":
        """(first row, stored vectors) of one block after the other; nothing but the current one is in memory."""
        import numpy as np

        if not len(self):
            return
        kind, width = stored_width(self.facts.dim, self.facts.precision)
        # Copy-on-write: torch refuses read-only arrays, and nothing here writes.
        matrix = np.memmap(self.folder / VECTORS, kind, "c", shape=(len(self), width))
        for start in range(0, len(self), BLOCK):
            yield start, matrix[start : start + BLOCK]

    def _alive(self) -> "np.ndarray":
        import numpy as np

        alive = np.ones(len(self), bool)
        for segment in self._segments:
            alive[list(segment.replaces)] = False
        return alive

    def _kept(self, where: str) -> "np.ndarray":
        import numpy as np

        masks = [mask_of(where, self._table_of(segment)) for segment in self._segments]
        return np.concatenate(masks) if masks else np.empty(0, bool)

    def _table_of(self, segment: _Segment) -> "pa.Table":
        if segment.path not in self._tables:
            self._tables[segment.path] = _read_table(segment.path)
        return self._tables[segment.path]

    def _rows_by_id(self) -> dict[str, int]:
        if self._row_of_id is None:
            alive, self._row_of_id = self._alive(), {}
            for segment in self._segments:
                for at, one in enumerate(self._table_of(segment).column("id").to_pylist(), start=segment.start):
                    if alive[at]:
                        self._row_of_id[one] = at
        return self._row_of_id

    def _match(self, row: int, score: float) -> Match:
        segment = self._segments[bisect.bisect_right(self._segments, row, key=lambda s: s.stop)]
        facts = self._table_of(segment).slice(row - segment.start, 1).to_pylist()[0]
        return Match(facts.pop("id"), within(score, self.facts.similarity), facts.pop("reference"), facts)


def _scores(block: "np.ndarray", query: "np.ndarray", precision: str) -> "np.ndarray":
    # torch, not numpy: OpenBLAS threads beside torch's own cost both of them speed.
    import numpy as np
    import torch

    matrix = torch.from_numpy(np.ascontiguousarray(as_float(block, precision)))
    return (matrix @ torch.from_numpy(query)).numpy()


def _compressed(matrix: "np.ndarray", precision: str) -> "np.ndarray":
    import torch

    from zoo.similarity import quantize

    return quantize(torch.from_numpy(matrix), precision).numpy()


def _read_table(path: Path) -> "pa.Table":
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _read_segment(path: Path) -> _Segment:
    import pyarrow as pa

    try:
        about = json.loads(pa.ipc.open_file(pa.memory_map(str(path))).schema.metadata[b"zoo"])
        return _Segment(path, about["start"], about["stop"], tuple(about["replaces"]), about["origin"])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise IndexStateError(f"{path} is damaged ({error}); delete the index folder and build it again") from error
