"""Columns of a table: which one is embedded, how it is read, and the type that fits all values of each other one."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zoo.bulk.errors import SourceError
from zoo.bulk.sources import RESERVED, Kind

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_NAMES = ("text", "caption", "query", "sentence")
IMAGE_NAMES = ("image", "path", "file", "image_path", "file_name", "filename", "photo", "picture")
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)?(\.\d+)?([eE][+-]?\d{1,3})?")


def kind_of_name(name: str) -> Kind | None:
    """What a column of this name usually holds."""
    if name.lower() in TEXT_NAMES:
        return "text"
    return "image" if name.lower() in IMAGE_NAMES else None


def choose_column(
    table: str,
    names: Sequence[str],
    column: str | None,
    kind: Kind | None,
    modalities: frozenset[str],
    binary: Iterable[str] = (),
) -> tuple[str, Kind]:
    """The column to embed and its kind.

    Args:
        table: name of the table, for messages.
        binary: columns that hold bytes, which can only be pictures.

    Raises:
        SourceError: no such column, none that is recognised, or several.
    """
    binary = set(binary)
    known = {name: "image" if name in binary else kind_of_name(name) for name in names}
    if column is not None:
        if column not in known:
            raise SourceError(f"{table} has no column {column!r}; its columns are {_listed(names)}")
        found = kind or known[column]
        if found is None:
            raise SourceError(
                f"does column {column!r} of {table} hold texts, or paths of pictures? Say --kind text or --kind image"
            )
        return column, found
    candidates = [(name, found) for name, found in known.items() if found and (kind is None or found == kind)]
    readable = [(name, found) for name, found in candidates if found in modalities]
    chosen = readable or candidates
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise SourceError(
            f"none of the columns of {table} is clearly a text or a picture: {_listed(names)}; "
            "choose one with --column NAME --kind text|image"
        )
    raise SourceError(
        f"{table} has several columns that could be embedded: {_listed([n for n, _ in chosen])}; "
        "choose one with --column"
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def attribute_names(names: Sequence[str]) -> list[str]:
    """The names under which columns are kept beside the vectors.

    "id" becomes "id_", since `id` is ours; dots, which stores read as nested fields, and a leading underscore, which
    they keep for themselves, are replaced. No two columns end up under one name, not even but for the case.
    """
    result: list[str] = []
    taken = set(RESERVED)
    for name in names:
        clean = name.replace(".", "_").lstrip("_") or "column"
        while clean.lower() in taken:
            clean += "_"
        taken.add(clean.lower())
        result.append(clean)
    return result


class TypeGuess:
    """The narrowest of bool, int64, float64 and string that holds every value seen."""

    def __init__(self) -> None:
        self.kind = ""

    def see_cell(self, cell: str) -> None:
        """A cell of a CSV file; an empty one fits every type."""
        if self.kind == "string" or cell == "":
            return
        if _INTEGER.fullmatch(cell) and cell != "-0":
            self._widen("int64")
        elif _NUMBER.fullmatch(cell) and any(c.isdigit() for c in cell):
            self._widen("float64")
        else:
            self._widen("bool" if cell.lower() in ("true", "false") else "string")

    def see_value(self, value: Any) -> None:
        """A value of a JSON object; null fits every type."""
        if isinstance(value, bool):
            self._widen("bool")
        elif isinstance(value, int):
            self._widen("int64" if -(2**63) <= value < 2**63 else "string")
        elif isinstance(value, float):
            self._widen("float64")
        elif value is not None:
            self._widen("string")

    def _widen(self, kind: str) -> None:
        if not self.kind or self.kind == kind:
            self.kind = kind
        elif {self.kind, kind} == {"int64", "float64"}:
            self.kind = "float64"
        else:
            self.kind = "string"

    def arrow(self) -> "pa.DataType":
        """The Arrow type; a column without a single value is a string."""
        import pyarrow as pa

        return {"int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}.get(self.kind, pa.string())


def from_cell(cell: str | None, kind: "pa.DataType") -> Any:
    """A CSV cell as a value of its column's type; an empty cell is null, except among strings."""
    import pyarrow as pa

    if cell is None:
        return None
    if pa.types.is_string(kind):
        return printable(cell)
    if cell == "":
        return None
    if pa.types.is_boolean(kind):
        return cell.lower() == "true"
    return int(cell) if pa.types.is_integer(kind) else float(cell)


def from_json(value: Any, kind: "pa.DataType") -> Any:
    """A JSON value as a value of its column's type; lists and objects become their JSON text."""
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_string(kind):
        return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
    return float(value) if pa.types.is_floating(kind) else value


def printable(text: str) -> str:
    """The text with lone surrogates replaced, as tables and terminals need it."""
    return text.encode("utf-8", "replace").decode("utf-8")
