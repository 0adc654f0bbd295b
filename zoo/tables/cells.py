"""What single cells hold: their types, the words that stand for a missing value, passages of a title and a text, labels."""

import json
import math
import re
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pyarrow as pa

# What pandas, SQL and Python write where a value is missing.
MISSING = frozenset({"nan", "NaN", "NAN", "null", "Null", "NULL", "None", "<NA>", "NaT"})
PASSAGE = ("title", "text")  # fields of a passage that are read
_VERDICTS = frozenset(
    {
        *("entailment", "neutral", "contradiction", "not_entailment"),
        *("duplicate", "not_duplicate", "paraphrase", "not_paraphrase"),
        *("similar", "dissimilar", "relevant", "irrelevant", "match", "no_match"),
        *("true", "false", "yes", "no"),
    }
)


def passage_text(passage: dict[str, Any]) -> str | None:
    """Title and text of a passage, one after the other as Tevatron joins them; None for what is no passage."""
    title, text = passage.get("title") or "", passage.get("text")
    if not isinstance(title, str) or not isinstance(text, str):
        return None
    return f"{title} {text}".strip()


def label_kind(kind: str, values: Iterable[Any]) -> str:
    """`Column.kind` of labels: "bit" where all are 0 or 1, "verdict" where they say whether a pair is right."""
    if kind not in ("int", "text", ""):
        return kind
    found = {str(value).strip().lower() for value in values if value is not None and str(value).strip()}
    if kind == "int":
        return "bit" if found and found <= {"0", "1"} else kind
    return "verdict" if found and found <= _VERDICTS else kind


def fields_of(values: Iterable[Any]) -> list[str]:
    """Names of the fields of passages and lists of passages, in order, without those that are read."""
    entries = (entry for value in values for entry in (value if isinstance(value, list) else (value,)))
    found = [entry for entry in entries if isinstance(entry, dict) and "text" in entry]
    return [name for name in dict.fromkeys(name for passage in found for name in passage) if name not in PASSAGE]


def json_list(cell: str) -> list[Any] | None:
    """The list that a cell of CSV holds as JSON; None for others."""
    try:
        found = json.loads(cell) if cell.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def is_missing(value: Any, texts: Collection[str] = ()) -> bool:
    """Whether a text is one of those that stand for a missing value, and not among those said to be texts."""
    return isinstance(value, str) and value in MISSING and value not in texts


class Spelled(float):
    """A number of JSON that Python would write otherwise: 1.30, 1e5; `text` is how it stands."""

    text: str

    @classmethod
    def of(cls, text: str) -> Self | float:
        """The number; a plain float where Python writes it the same."""
        value = float(text)
        if repr(value) == text:
            return value
        spelled = cls(value)
        spelled.text = text
        return spelled


_INTEGER = re.compile(r"-?(0|[1-9]\d*)")
_BROKEN = re.compile(r"-?\d+(\.\d+)?(e[+-]\d+)?")
EXACT = 2**53  # up to here every whole number is a double of its own


class Guess:
    """The narrowest of bool, int64, float64 and string of which every cell seen can be written back as it stands.

    So 007, 1.30, 1e5, +5 and numbers beyond int64 are texts. Not kept are the case of truth values, and of whole numbers
    beside broken ones whether they are written 1 or 1.0.
    """

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self._exact = True

    def see_cell(self, cell: str) -> None:
        """A cell of a CSV file; an empty one fits every type."""
        if cell == "" or "text" in self._kinds:
            return
        if _INTEGER.fullmatch(cell) and cell != "-0" and len(cell) < 400:
            self._see_whole(int(cell))
        # Only what Python would write the same: 1.30 as a number would come back as 1.3, another text.
        elif _BROKEN.fullmatch(cell) and repr(float(cell)) == cell:
            self._kinds.add("0.5")
        else:
            self._kinds.add("bool" if cell.lower() in ("true", "false") else "text")

    def see_value(self, value: Any) -> None:
        """A value of a JSON object; null fits every type."""
        if isinstance(value, bool):
            self._kinds.add("bool")
        elif isinstance(value, int):
            self._see_whole(value)
        elif isinstance(value, float):
            plain = math.isfinite(value) and not isinstance(value, Spelled)
            self.see_cell(repr(value)) if plain else self._kinds.add("text" if math.isfinite(value) else "0.5")
        elif value is not None:
            self._kinds.add("text")

    def _see_whole(self, value: int) -> None:
        self._kinds.add("1" if -(2**63) <= value < 2**63 else "text")
        self._exact = self._exact and -EXACT <= value <= EXACT

    def arrow(self) -> "pa.DataType":
        """The Arrow type; a column without a single value is a string."""
        import pyarrow as pa

        if self._kinds == {"1"}:
            return pa.int64()
        if self._kinds == {"bool"}:
            return pa.bool_()
        # Whole numbers beside broken ones become doubles, which hold them exactly only up to 2**53.
        if self._kinds == {"0.5"} or (self._kinds == {"1", "0.5"} and self._exact):
            return pa.float64()
        return pa.string()


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
    """A JSON value as a value of its column's type; lists and objects become their JSON text, numbers as they stand."""
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_string(kind):
        plain = not isinstance(value, dict | list | tuple | bool | int | float)  # a text, a date, a UUID: no quotes
        return printable(str(value) if plain else as_json(value))
    return float(value) if pa.types.is_floating(kind) else value


def as_json(value: Any) -> str:
    """JSON of a value, with numbers as they were spelled; what JSON has no type for is its text."""
    if isinstance(value, Spelled):
        return value.text
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(str(key), ensure_ascii=False)}: {as_json(v)}" for key, v in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)


def printable(text: str) -> str:
    """The text with lone surrogates replaced, as tables and terminals need it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text  # itself: a text that many rows share is no copy
