"""VectorIndex: what every store can do, and the checks that all of them share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from zoo.arguments import vectors as some_vectors
from zoo.arguments import wrong
from zoo.errors import ArgumentError, IndexStateError, NormsLostError, VectorError
from zoo.index.facts import FORMAT, index_facts
from zoo.shards.fingerprints import check_fingerprint
from zoo.shards.folder import full_disk_named
from zoo.strangers.folders import Place

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FACTS = "index.json"
ADVICE = "Search with the model that made them, or embed again into another folder."


@dataclass(frozen=True)
class SearchHit:
    """One search result.

    Attributes:
        score: cosine similarity, -1 to 1; of a model that compares by dot product, that.
        reference: where the input came from: a path, or "captions.csv#12".
        attributes: the other columns.
    """

    id: str
    score: float
    reference: str
    attributes: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class VectorIndex(Protocol):
    """Vectors with ids and attributes, on disk, searched by the similarity of the model that made them.

    An open index shows the rows that there were when it was opened, and after a write of its own all rows that there are
    then; what others write meanwhile is seen by opening again. Any number of handles, threads and processes may read and
    write: a write waits for others some seconds (IndexStateError after that), changes what they have left, and is on disk
    when its call returns.
    """

    facts: "IndexFacts"

    def upsert(
        self,
        ids: Sequence[str],
        vectors: Any,
        attributes: Mapping[str, Sequence[Any]] | None = None,
        references: Sequence[str] | None = None,
    ) -> None:
        """Adds vectors `(n, dim)`; an id that is there already is replaced. All of it happens, or nothing."""
        ...

    def delete(self, ids: Sequence[str] | None = None, *, where: str | None = None) -> int:
        """Removes rows by id or by filter; returns how many there were."""
        ...

    def search(
        self, query: Any, k: int = 10, *, where: str | None = None, exact: bool = False
    ) -> list[SearchHit] | list[list[SearchHit]]:
        """The `k` rows nearest to a vector `(dim,)`, best first, fewer if there are fewer; of several kinds see `search_kinds`.

        Args:
            query: of a matrix `(n, dim)` each row is a query, and has a list of its own.
            where: an SQL condition over the attributes: "label = 'cat' AND year >= 2020".
            exact: compare with every row, even where there is an approximate index.
        """
        ...

    def count(self, where: str | None = None) -> int:
        """Number of rows, or of those that a filter keeps."""
        ...

    def commit(self) -> str:
        """Makes sure that everything is on disk; returns the name of the version that this index shows."""
        ...

    def close(self) -> None:
        """Gives the files free, so that those of an older version can be removed; garbage collection does so too."""
        ...


@dataclass(frozen=True)
class IndexFacts:
    """What is written beside the vectors of an index.

    Attributes:
        fingerprint: of the model, prompt and preprocessing that made the vectors.
        precision: "float32", "int8" or "binary", as the vectors are stored.
        columns: name → Arrow type of each attribute.

    Raises:
        NormsLostError: another precision than float32 of vectors that are compared by dot product.
    """

    backend: str
    fingerprint: dict[str, Any]
    dim: int
    precision: str
    columns: "pa.Schema"

    def __post_init__(self) -> None:
        if self.similarity not in ("cosine", "dot"):
            raise ValueError(f"an index compares by cosine or dot, not {self.similarity!r}")
        if self.similarity == "dot" and self.precision != "float32":
            raise NormsLostError(
                f"an index of {self.fingerprint.get('model')} compares by dot product, and {self.precision} drops the "
                'norms of its vectors; keep precision="float32"'
            )

    @property
    def similarity(self) -> str:
        """ "cosine" or "dot": how the model of the fingerprint compares."""
        return self.fingerprint.get("similarity", "cosine")

    @property
    def schema(self) -> "pa.Schema":
        """Of a row without its vector: id, reference, attributes."""
        import pyarrow as pa

        return pa.schema([("id", pa.string()), ("reference", pa.string()), *self.columns])

    def save(self, folder: Place) -> None:
        """Writes `index.json`."""
        facts = {
            "format": FORMAT,
            "backend": self.backend,
            "fingerprint": self.fingerprint,
            "dim": self.dim,
            "precision": self.precision,
            "columns": self.columns.serialize().to_pybytes().hex(),
        }
        with full_disk_named(folder):
            (folder / FACTS).write(json.dumps(facts, indent=2, ensure_ascii=False).encode())

    @classmethod
    def load(cls, folder: Place) -> Self:
        """Reads `index.json`; raises IndexStateError where there is none that this version reads."""
        try:
            return cls(**index_facts((folder / FACTS).read(), folder / FACTS, IndexStateError))
        except (OSError, IndexStateError, NormsLostError) as error:
            raise IndexStateError(f"{folder} holds no index that can be opened: {error}") from error

    def check(self, fingerprint: Mapping[str, Any], where: object) -> None:
        """Raises FingerprintMismatchError where the vectors were made by something else."""
        check_fingerprint(self.fingerprint, fingerprint, where, ADVICE)


def a_query(name: str, value: Any) -> Any:
    """A check of arguments: one vector, for which a text or an image must be encoded first."""
    try:
        return some_vectors(name, value)
    except ArgumentError:
        wanted = "vectors (a tensor, an array, or lists of numbers)"
        remedy = "encode it first: index.search(model.encode_query(...))"
        raise wrong(name, value, wanted, remedy) from None


def checked(vectors: Any, facts: IndexFacts) -> "np.ndarray":
    """Vectors as float32 `(n, dim)`, of unit length but for "dot"; raises VectorError naming the first bad row."""
    import numpy as np

    if hasattr(vectors, "detach"):
        vectors = vectors.detach().cpu().float().numpy()
    dim = facts.dim
    try:
        matrix = np.array(vectors, dtype=np.float32, ndmin=2)
    except (TypeError, ValueError) as error:
        raise VectorError(f"no vectors of length {dim}: {error}") from error
    if matrix.size == 0:
        return matrix.reshape(0, dim)
    if matrix.ndim != 2 or matrix.shape[1] != dim:
        raise VectorError(f"got vectors of shape {matrix.shape}; this index holds vectors of length {dim}")
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        raise VectorError(f"vector {int(np.argmin(finite))} holds NaN or infinity, which is near to nothing")
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise VectorError(f"vector {int(np.argmin(lengths))} is zero: it has no direction to compare")
    return matrix if facts.similarity == "dot" else matrix / lengths


def checked_queries(query: Any, facts: IndexFacts) -> "tuple[np.ndarray, bool]":
    """Query vectors as float32 `(n, dim)`, of unit length but for "dot"; and whether that was one vector `(dim,)`."""
    import numpy as np

    if isinstance(query, Sequence):  # of tensors, perhaps: as one array
        query = np.array([one.detach().cpu().numpy() if hasattr(one, "detach") else one for one in query])
    single = np.ndim(query) == 1 if not hasattr(query, "ndim") else query.ndim == 1
    matrix = checked(query, facts)
    if single and len(matrix) != 1:
        raise VectorError(f"got an empty query; search takes a vector of length {facts.dim}, or a matrix of them")
    return matrix, single


def checked_rows(
    ids: Sequence[str],
    vectors: Any,
    attributes: Mapping[str, Sequence[Any]] | None,
    references: Sequence[str] | None,
    facts: IndexFacts,
) -> "tuple[pa.Table, np.ndarray]":
    """What `upsert` was given as (id, reference and attribute columns, vectors), checked before anything is written."""
    import pyarrow as pa

    ids, attributes = [str(one) for one in ids], dict(attributes or {})
    matrix = checked(vectors, facts) if len(ids) else checked([], facts)
    lengths = {"vectors": len(matrix), "references": len(references) if references is not None else len(ids)}
    lengths |= {f"attribute {name!r}": len(values) for name, values in attributes.items()}
    for name, length in lengths.items():
        if length != len(ids):
            raise VectorError(f"{len(ids)} ids, but {length} {name}")
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise VectorError(f"id {twice!r} comes twice in one call; each id names one row")
    if unknown := set(attributes) - set(facts.columns.names):
        raise VectorError(f"unknown attributes {sorted(unknown)}; this index has {facts.columns.names}")
    columns = {"id": pa.array(ids, pa.string())}
    columns["reference"] = pa.array(list(references) if references is not None else ids, pa.string())
    for attribute in facts.columns:
        values = attributes.get(attribute.name, [None] * len(ids))
        try:
            columns[attribute.name] = pa.array(list(values), attribute.type)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise ArgumentError(
                f"attributes[{attribute.name!r}] holds values of type {attribute.type}: {error}"
            ) from error
    return pa.table(columns), matrix


def as_float(stored: "np.ndarray", precision: str) -> "np.ndarray":
    """Stored vectors as float32 `(n, dim)`: int8 scaled back to unit length, packed bits as signs."""
    import numpy as np

    if precision == "float32":
        return stored
    # Bits 0 and 1 are -1 and 1, one for each dimension.
    matrix = np.unpackbits(stored, axis=1).astype(np.float32) * 2 - 1 if precision == "binary" else stored
    matrix = matrix.astype(np.float32)
    # Whatever the scale of int8 was, it cancels here, as does √dim of the signs.
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True).clip(min=1e-12)


def rows_of(table: "pa.Table") -> list[dict[str, Any]]:
    """The rows of a table as Python has them; a value that it has not, such as the year 300,000, is its number and type."""
    columns = [_cells(column) for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _cells(column: "pa.ChunkedArray") -> list[Any]:
    unlike_python = (OverflowError, ArithmeticError, LookupError, ValueError)  # also of a time zone that nobody knows
    try:
        return column.to_pylist()
    except unlike_python:
        found = []
        for value in column:
            try:
                found.append(value.as_py())
            except unlike_python:
                found.append(f"{getattr(value, 'value', '')} {value.type}".strip())
        return found


def within(score: float, similarity: str) -> float:
    """A cosine without the last digit of rounding that makes 1.0000001 of it; a dot product as it is."""
    return score if similarity == "dot" else max(-1.0, min(1.0, score))


def hit_of(row: Mapping[str, Any], score: float, similarity: str) -> SearchHit:
    """A result, of a row as `rows_of` gives it."""
    attributes = dict(row)
    return SearchHit(attributes.pop("id"), within(score, similarity), attributes.pop("reference"), attributes)


def stored_width(dim: int, precision: str) -> "tuple[Any, int]":
    """NumPy type and number of columns of a stored vector."""
    import numpy as np

    return {"float32": (np.float32, dim), "int8": (np.int8, dim), "binary": (np.uint8, dim // 8)}[precision]
