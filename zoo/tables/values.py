"""From a cell to what an Item holds of it: the same for the pairs of a run and for the inputs of a bulk job."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from zoo.errors import BadRowError, InputError, InvalidRegionError, MissingWordError
from zoo.inputs.kinds import kind_of
from zoo.inputs.region_json import regions_from_json
from zoo.inputs.regions import Region
from zoo.tables.cells import is_missing, passage_text
from zoo.tables.fences import Fence
from zoo.tables.schema import Part


class BadCellError(Exception):
    """Why a cell cannot serve; its place is added where it is known.

    Attributes:
        kind: what the row's error is.
    """

    kind = BadRowError


class MissingWordCellError(BadCellError):
    """A word that often stands for a missing value."""

    kind = MissingWordError


def cell_value(part: Part, value: Any, as_text: Collection[str] = ()) -> tuple[str, Any]:
    """A cell as its modality and its text, its bytes or the name of its file; None where it is empty.

    Args:
        as_text: words that are texts, though they often stand for a missing one ("nan", "None").

    Raises:
        BadCellError: it is of another type, or a word that often stands for a missing value.
    """
    if isinstance(value, str):
        value = value.strip()
    if isinstance(value, dict) and {"bytes", "path"} & set(value) and part.modality != "text":
        value = value.get("bytes") or value.get("path")
    if value is None or value in ("", b""):
        return part.modality, None
    if isinstance(value, dict) and (joined := passage_text(value)) is not None:
        value = joined
    if value == "":
        return part.modality, None
    check_there(part.column, value, as_text)
    if part.modality == "text":
        if not isinstance(value, str):
            raise BadCellError(f"the {part.column} is {described(value)}, not text")
    elif not isinstance(value, str | bytes):
        raise BadCellError(f"the {part.column} is {described(value)}, not a path or bytes")
    return part.modality, value


def region_cell(column: str, value: Any, root: Path, fence: Fence | None = None) -> tuple[Region, ...]:
    """A cell of regions, see `zoo.inputs.region_json`; () where it is empty.

    Args:
        root, fence: of the files of masks, as of `find_file`.

    Raises:
        BadCellError: they are none, or a mask is not there.
    """

    def find(name: str) -> Path:
        path, there = find_file(root, Part(column, "image"), name, fence)
        if not there:
            raise BadCellError(f"the {column}: there is no mask {path}")
        return path

    value = value.strip() if isinstance(value, str) else value
    if isinstance(value, float) and math.isnan(value):  # what pandas makes of an empty cell
        return ()
    check_there(column, value)
    try:
        return regions_from_json(value, find)
    except InvalidRegionError as error:
        raise BadCellError(f"the {column}: {error}") from None


def told_modality(part: Part, value: Path | bytes) -> str:
    """The modality of a column whose files or bytes tell it.

    Raises:
        BadCellError: it is no image, video or audio.
    """
    if part.modality != "media":
        return part.modality
    try:
        return kind_of(value)
    except InputError as error:
        raise BadCellError(f"the {part.column}: {error}") from None


def check_there(column: str, value: Any, as_text: Collection[str] = ()) -> None:
    """Raises MissingWordCellError for a word that often stands for a missing value."""
    if is_missing(value, as_text):
        raise MissingWordCellError(
            f"the {column} is {value!r}, which often stands for a missing value: take the row out, or, if it is meant as "
            f"it stands, say --as-text {value} (as_text=[{value!r}])"
        )


def find_file(root: Path, part: Part, name: str, fence: Fence | None = None) -> tuple[Path, bool]:
    """The file that a cell names, and whether it is there; backslashes are read as Windows writes them.

    Args:
        root: where relative names begin. part: the cell's column. fence: the folder outside of which nothing is looked for.

    Raises:
        BadCellError: it lies outside.
    """
    if fence is not None and (fence.leaves(root / name) or fence.leaves(root / name.replace("\\", "/"))):
        raise BadCellError(f"the {part.column} {fence.refusal(name)}")
    path = root / name
    if not is_file(path) and "\\" in name and is_file(other := root / name.replace("\\", "/")):
        return other, True
    return path, is_file(path)


def is_file(path: Path) -> bool:
    """Whether there is such a file; False also for what can be no path."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or a zero byte
        return False


def described(value: Any) -> str:
    """What a cell holds, for messages."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool | int | float):
        return f"a number ({value})" if not isinstance(value, bool) else f"a truth value ({value})"
    kind = {str: "a text", bytes: "bytes", list: "a list", dict: "an object"}.get(type(value), type(value).__name__)
    return f"{kind} ({value!r:.40})" if isinstance(value, str) else kind
