"""The rows of a shard, held to what a model gives and to what its footer says, once: who packed it need not be we.

What is checked is remembered in the user's own cache, so that a folder of a hundred thousand vectors opens as before (see
`zoo.strangers.seen`). A shard that this process wrote needs no check.
"""

import os
from typing import TYPE_CHECKING, Any, BinaryIO

from zoo.errors import DamagedShardError
from zoo.shards.values import wrong_vector
from zoo.strangers import seen
from zoo.strangers.parquet import SHARED_PREFIXES, read_pages

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo.shards.folder import Shard
    from zoo.strangers.folders import Place

KIND = "shard"
# What rows may take in memory: so much, and so many times their bytes on disk. Vectors are as large there as on disk, and
# texts pack to a tenth, labels to a hundredth; a few kilobytes that become gigabytes are none of either.
ROOM, TIMES = 256 << 20, 16


def allowed(size: int) -> int:
    """Bytes that so many bytes of shards may have in memory."""
    return ROOM + TIMES * size


def remember(shard: "Shard") -> None:
    """Notes that a shard is in order, for it was written here."""
    if (about := shard.place.status()) is not None:
        seen.remember(shard.place.root, seen.key_of(KIND, [(shard.path, about)]))


def is_known(file: BinaryIO, shard: "Place") -> bool:
    """Whether all of a shard was looked at before, its footer too."""
    return seen.is_known(shard.root, seen.key_of(KIND, [(shard.path, os.fstat(file.fileno()))]))


def check_rows(file: BinaryIO, shard: "Shard") -> None:
    """Looks at all rows of a shard, unless that was done before.

    Args:
        file: the shard's, opened.

    Raises:
        DamagedShardError: it names the file, and the row or column.
    """
    import pyarrow as pa

    about = os.fstat(file.fileno())
    key = seen.key_of(KIND, [(shard.path, about)])
    if seen.is_known(shard.place.root, key):
        return
    try:
        if problem := _wrong(file, shard, about.st_size):
            raise DamagedShardError(f"{shard.place}: {problem}. {_REMEDY}")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedShardError(f"{shard.place} holds no rows that can be read ({error}). {_REMEDY}") from error
    seen.remember(shard.place.root, key, settled=seen.is_settled(about))


_REMEDY = "Delete it and run the command that made it again (only its inputs are embedded again), or fetch it again"


def _wrong(file: BinaryIO, shard: "Shard", size: int) -> str:
    """What is wrong with the rows, "" where nothing is; in an order in which nothing large is taken before it is known."""
    import pyarrow.parquet as pq

    texts = [column.name for column in shard.schema if _is_text(column.type)]
    others = [column.name for column in shard.schema if column.name not in (*texts, "vector")]
    vector = shard.schema.field("vector").type
    if shard.rows * vector.list_size * vector.value_type.bit_width // 8 > size:
        return f"its {size:,} bytes cannot hold {shard.rows:,} vectors"
    with pq.ParquetFile(file, read_dictionary=texts) as parquet:
        pages = read_pages(file, allowed(size))
        if SHARED_PREFIXES in pages.encodings:
            return "a column is written by what its values share, as no shard is"
        if parquet.metadata.num_row_groups > max(1, shard.rows):
            return f"it has {parquet.metadata.num_row_groups:,} groups of {shard.rows:,} rows"
        grown = 0
        for name in texts:  # as dictionaries: a text that stands in all rows is there once
            column = parquet.read([name]).column(name)
            column.validate(full=True)
            if len(column) != shard.rows:
                return f"its column {name!r} has {len(column):,} rows of {shard.rows:,}"
            grown += sum(map(_grown, column.chunks))
            if grown > allowed(size):
                return f"its {size:,} bytes would become over {allowed(size):,} in memory (column {name!r})"
            if name in ("id", "reference") and (problem := _wrong_names(column, name)):
                return problem
        rest = parquet.read(others)
        rest.validate(full=True)
        if others and len(rest) != shard.rows:
            return f"its columns have {len(rest):,} rows of {shard.rows:,}"
        stored = parquet.read(["vector"])
    return _wrong_vectors(stored, shard)


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _grown(chunk: Any) -> int:
    """Bytes of the texts of a column, each where it stands."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(chunk.type):
        return chunk.nbytes
    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
    return (pc.sum(lengths.take(chunk.indices)).as_py() or 0) + 4 * len(chunk)


def _wrong_names(column: "pa.ChunkedArray", name: str) -> str:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        return f"{column.null_count:,} rows have no {name}"
    if name == "id" and (twice := len(column) - pc.count_distinct(column.cast(pa.string())).as_py()):
        return f"{twice:,} ids occur twice"
    return ""


def _wrong_vectors(table: "pa.Table", shard: "Shard") -> str:
    import pyarrow as pa

    table.validate(full=True)
    column = table.column("vector").combine_chunks()
    values = column.values if isinstance(column, pa.FixedSizeListArray) else None
    if len(column) != shard.rows or column.null_count or values is None or values.null_count:
        return "a vector, or a number of one, is missing"
    matrix = values.to_numpy(zero_copy_only=False).reshape(shard.rows, -1)[: shard.rows]
    found = wrong_vector(matrix, shard.precision, shard.fingerprint.get("similarity", "cosine"))
    return f"vector {found[0]:,} {found[1]}" if found else ""


def check_grown(taken: int, size: int, where: object) -> None:
    """Raises DamagedShardError where the rows of shards of so many bytes on disk take far more in memory."""
    if taken > allowed(size):
        raise DamagedShardError(
            f"{where}: the {size:,} bytes of its shards become over {allowed(size):,} in memory, as no texts and vectors do; "
            "they are damaged, or meant to fill it"
        )
