"""From a search result back to its input: the file, or the bytes inside a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def find_input(source: Mapping[str, Any], reference: str) -> Path | bytes | None:
    """The picture that a reference names.

    Args:
        source: `manifest["source"]`. reference: of a row of the shards.

    Returns:
        A path (which may not exist any more), bytes from a Parquet table, or None where the table is gone.
    """
    table = Path(source["path"])
    name, mark, row = reference.rpartition("#")
    in_table = mark and name == table.name and row.isdigit() and table.suffix.lower() in (".parquet", ".pq")
    return _read_cell(table, source["column"], int(row)) if in_table else Path(source["root"]) / reference


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
