"""From a search result back to its input: the file, or the bytes inside a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.tables.files import suffix_of

_DIGITS = 12  # of a row's number


def find_input(source: Mapping[str, Any], reference: str) -> Path | bytes | None:
    """The image that a reference names.

    Args:
        source: `manifest["source"]`. reference: of a row of the shards.

    Returns:
        A path (which may not exist any more), bytes from a Parquet table or a shard, or None where the table is gone.
    """
    name, mark, row = reference.rpartition("#")
    base, column = source.get("base"), source.get("media") or source.get("column")
    if base is None:  # folders of earlier versions
        base = Path(source["path"]).parent if name == Path(source["path"]).name else source["root"]
    table = Path(base) / name
    is_row = mark and row.isascii() and row.isdigit() and len(row) <= _DIGITS and column is not None
    if is_row and suffix_of(table) in (".parquet", ".pq"):
        return _read_cell(table, column, int(row))
    if is_row and suffix_of(table) == ".tar":
        from zoo.tables.webdataset import read_member

        return read_member(table, column, int(row))
    return Path(source["root"]) / reference


def _read_cell(table: Path, column: str, row: int) -> bytes | None:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(table)
    except OSError:
        return None
    with file:
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < rows:
                cell = file.read_row_group(group, columns=[column]).column(column)[row].as_py()
                return cell.get("bytes") if isinstance(cell, dict) else cell
            row -= rows
    return None
