"""Which reader a file of a table has, by its name."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zoo.tables.files import kind_of_table
from zoo.tables.reading import Format, RowReader

_PLAIN = Format()


def open_reader(
    path: Path, told: Format = _PLAIN, name: str = "", constants: Mapping[str, Any] = MappingProxyType({})
) -> RowReader:
    """The reader of a file, by its name.

    Args:
        name: how places call it, by default its own. constants: cells that all rows share, which the file does not hold.

    Raises:
        TableError: an unknown kind, or a file that is empty, damaged or unclear.
    """
    kind = kind_of_table(path)
    if kind == "csv":
        from zoo.tables.delimited import CsvReader

        return CsvReader.open(path, told, name, constants)
    if kind == "jsonl":
        from zoo.tables.jsonl import JsonReader

        return JsonReader.open(path, told, name, constants)
    if kind == "tar":
        from zoo.tables.webdataset import ShardReader

        return ShardReader.open(path, told, name, constants)
    from zoo.tables.arrow import ParquetReader

    return ParquetReader.open(path, told, name, constants)
