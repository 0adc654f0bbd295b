"""What a column of a Parquet file will take in memory, from the headers of its pages: read before anything is unpacked.

A footer is only a claim. The decoder allocates and unpacks what the headers of pages say, and these are walked here, without
what lies between them: 1 MB each in most files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from zoo.errors import TableError
from zoo.strangers.confined import Confined, ConfinedError
from zoo.strangers.parquet import SHARED_PREFIXES, Chunk, PagesError, chunks_of, pages_of
from zoo.tables.bounds import COPIES, MAX_LINE, PACKED_RATIO, PIECE

_DICTIONARY, _DATA, _DATA_V2 = 2, 0, 3  # types of pages
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_COPIED = 2**16
_BY_DICTIONARY = (2, 8)  # encodings of data pages


class Taken(NamedTuple):
    """What one column of a row group takes.

    Attributes:
        packed: bytes in the file. plain: bytes of its pages, unpacked. largest: of the largest page.
        entry: bytes of the dictionary, and so at most of each value that is given by its number in it. dictionary: where its bytes
            begin and how many they are.
        numbered: values that are told so. values: of all pages. delta: at most so many bytes have values that say what they
            add to the one before.
    """

    packed: int
    plain: int
    largest: int
    entry: int
    dictionary: tuple[int, int]
    numbered: int
    values: int
    delta: int


def taken(file: BinaryIO, column: Chunk, name: str) -> Taken:
    """What a column of a row group takes.

    Raises:
        TableError: its pages lie outside of the file, or cannot be read.
    """
    dictionary = (0, 0)
    plain = largest = entry = numbered = values = delta = 0
    try:
        for page in pages_of(file, column, file.seek(0, 2)):
            plain, largest = plain + page.unpacked, max(largest, page.unpacked)
            kind = page.header.get(1)
            about = page.header.get(5 if kind == _DATA else 8)
            if kind == _DICTIONARY:
                entry, dictionary = max(entry, page.unpacked), (page.at, page.packed)
            elif kind in (_DATA, _DATA_V2) and isinstance(about, dict):
                count, encoding = about.get(1), about.get(2 if kind == _DATA else 4)
                count = max(count, 0) if isinstance(count, int) else 0
                values += count
                numbered += count if encoding in _BY_DICTIONARY else 0
                delta += count * page.unpacked if encoding == SHARED_PREFIXES else 0
            if values >= column.num_values:
                break  # as pyarrow does: old files say too many bytes
    except PagesError as error:
        raise TableError(f"{name} is damaged or cut off: {error}") from error
    return Taken(column.total_compressed_size, plain, largest, entry, dictionary, numbered, values, delta)


class Plan(NamedTuple):
    """How columns of a row group are read.

    Attributes:
        paths: leaves of texts and bytes that are read as dictionaries, since each value given by a number would be a copy.
        vast: columns of which single rows may be vast: their sizes are looked at before a row becomes Python's.
    """

    paths: tuple[str, ...]
    vast: frozenset[str]


def plan(path: Path, name: str, footer: Any, group: int, columns: Sequence[str] | None, batch: int | None) -> Plan:
    """How columns of a row group are read so that nothing small becomes large.

    Args:
        name: of the file, as messages begin; "" where they say it already. columns: those that are read, None for all. batch: rows that come into memory at once; None for all.

    Raises:
        TableError: a column would fill the memory, as no honest one does, or its pages cannot be read.
    """
    where, found = f"{name}, row group {group}" if name else f"row group {group}", footer.row_group(group)
    rows = found.num_rows if batch is None else min(batch, found.num_rows)
    # What rows are read ahead and wait for the model: copies of 64 kB each are no harm.
    allowed = COPIES if batch is None else batch * _COPIED
    paths: list[str] = []
    vast: set[str] = set()
    plain = packed = at_once = fixed = copies = 0
    with path.open("rb") as file:
        for leaf, chunk in enumerate(_chunks(file, group, where)):
            about = footer.schema.column(leaf)
            column = _column_of(about.path, columns)
            if column is None:
                continue
            took = taken(file, chunk, where)
            nested, texts = about.max_repetition_level > 0, chunk.physical_type == "BYTE_ARRAY"
            values = took.values if nested else min(took.values, rows)
            plain, packed, at_once = plain + took.plain, packed + took.packed, at_once + took.largest + took.entry
            fixed += values * (8 if texts else _WIDTHS.get(chunk.physical_type, about.length))
            numbered = min(took.numbered, values) * took.entry if texts else 0
            if copies + numbered > allowed:
                numbered = min(took.numbered, values) * _longest_entry(file, took, chunk.compression)
            if took.delta > PIECE and texts:
                measured = _measured(path, group, about.path, where)
                _check(measured, took.packed, where, f"column {column} has", "bytes of texts")
            if copies + numbered > allowed:
                paths.append(about.path)
            if copies + numbered > allowed or took.delta > PIECE or (nested and max(32 * values, took.plain) > PIECE):
                vast.add(column)
            else:
                copies += numbered
            _check(took.largest, took.packed, where, f"column {column} has", "bytes in a page")
            _check(fixed, packed, where, f"column {column} and those before have", "bytes of values")
    _check(at_once, packed, where, "it has", "bytes in pages that are open together")
    if batch is None:
        _check(plain, packed, where, "it has", "bytes")
    return Plan(tuple(paths), frozenset(vast))


def _chunks(file: BinaryIO, group: int, where: str) -> Sequence[Chunk]:
    """The leaves of a row group."""
    try:
        return chunks_of(file)[group]
    except (PagesError, IndexError) as error:
        raise TableError(f"{where} is damaged: {error}") from error


def _column_of(leaf: str, columns: Sequence[str] | None) -> str | None:
    """The column to which a leaf belongs, of those that are read; a name may hold dots itself."""
    if columns is None:
        return leaf.partition(".")[0]
    return next((column for column in columns if leaf == column or leaf.startswith(f"{column}.")), None)


def _longest_entry(file: BinaryIO, took: Taken, compression: str) -> int:
    """Bytes of the longest entry of a dictionary of texts; where it cannot be read, of all together."""
    import pyarrow as pa

    start, length = took.dictionary
    file.seek(start)
    content: Any = file.read(length)
    try:
        if compression != "UNCOMPRESSED":
            content = pa.Codec(compression.lower().removesuffix("_raw")).decompress(content, took.entry)
    except (pa.ArrowException, OSError, ValueError):
        return took.entry
    view, at, longest = memoryview(content), 0, 0
    while at + 4 <= len(view):  # each is its length and its bytes
        entry = int.from_bytes(view[at : at + 4], "little")
        at, longest = at + 4 + entry, max(longest, entry)
    return longest if at == len(view) else took.entry


def _check(size: int, packed: int, where: str, what: str, of: str) -> None:
    if size > PIECE and size > PACKED_RATIO * packed:
        raise TableError(
            f"{where}: {what} {size:,} {of}, in {packed:,} bytes of the file; more than {PACKED_RATIO} times as many are made to "
            "fill the memory, or damaged. Write the table anew, or leave the column out"
        )


_MEASURING = Confined("zoo.strangers.measuring:measured", memory=2**32, seconds=60)


def _measured(path: Path, group: int, leaf: str, where: str) -> int:
    """Bytes of a column, unpacked elsewhere: only so is it known what values are that say what they add to the one before."""
    try:
        with path.open("rb") as file:
            facts, _ = _MEASURING.ask(where, file, group=group, leaf=leaf)
    except ConfinedError as error:
        raise TableError(f"{where}: column {leaf} would fill the memory: measuring it {error}") from error
    size = facts.get("bytes")
    if not isinstance(size, int) or size < 0:
        raise TableError(f"{where}: column {leaf} cannot be measured")
    return size


def sizes_of(column: Any) -> np.ndarray:
    """Bytes that each row of an Arrow array takes as Python's values, about: `(rows,)`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        lengths = sizes_of(column.dictionary)
        places = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
        return np.where(places < 0, 8, np.append(lengths, 8)[places])
    if pa.types.is_struct(kind):
        return sum((sizes_of(column.field(place)) for place in range(kind.num_fields)), np.full(len(column), 64))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        ends = np.concatenate([[0], np.cumsum(sizes_of(column.values))])
        offsets = column.offsets.to_numpy()
        return ends[offsets[1:]] - ends[offsets[:-1]] + 64
    if pa.types.is_nested(kind):  # what else there is comes from no writer of tables: its whole for each row
        return np.full(len(column), column.nbytes + 64 * len(column))
    if any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    ):
        return pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64) + 64
    return np.full(len(column), 32)


def too_large(size: int) -> str:
    """Why a row of vast columns is none."""
    return f"its texts have {size:,} bytes; at most {MAX_LINE:,} are read"


def listed(column: Any) -> list[Any]:
    """The values of a column of a table; equal ones of a dictionary are one object, not copies.

    Raises:
        TableError: they would be copies, and fill the memory.
    """
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        if pa.types.is_nested(column.type) and column.nbytes < PIECE:  # else it is as large as the file
            size = int(sum(sizes_of(chunk).sum() for chunk in column.chunks))
            if size > 4 * PIECE:
                raise TableError(
                    f"a column's values have {size:,} bytes in {column.nbytes:,} of memory: too many to be compared"
                )
        return column.to_pylist()
    values: list[Any] = []
    for chunk in column.chunks:
        words = chunk.dictionary.to_pylist()
        values += [None if place is None else words[place] for place in chunk.indices.to_pylist()]
    return values
