"""What a run writes into its folder: none of it is a link, a FIFO or a device, and what is read of it has a size.

A run's folder may come from others. Whoever goes on with one, or makes its report, calls `check_own` first; whatever is
changed where it lies is then changed by `append`, since a file may have another name outside.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypedDict

from zoo.strangers import schema
from zoo.strangers.folders import Place

from .errors import DamagedRunError

LARGE = 32 * 2**20  # bytes of figures over held-out pairs: those of 500,000
_LINES = 64 * 2**20  # bytes of a file of lines
_MOST_LINES = 500_000
_LONGEST = 2**16  # bytes of a line
MOST_STEPS = 10**12
# At the top of a folder; what else lies there is somebody else's and left alone.
_OWN = re.compile(
    r"recipe\.json|data\.json|metrics\.jsonl|scores\.json|evaluations\.jsonl|timing\.json|results\.json|skipped.*\.jsonl|"
    r"readme\.md|report\.(md|html)|\.running|checkpoints|best|bad_batch|offender|report|adapter|vectors|text|logs|stage-.*"
)


class Step(TypedDict):
    """A line of metrics.jsonl or evaluations.jsonl."""

    step: Annotated[int, schema.Range(0, MOST_STEPS)]


class Evaluation(Step):
    """A line of evaluations.jsonl."""

    measure: str
    figure: Annotated[float, schema.Range(-1, 1)]
    figures: dict[str, float]


def check_own(out: Path) -> None:
    """Raises UnsafeFolderError where something that a run of the zoo writes or reads there is a link, a FIFO or a device."""
    place = Place.of(out)
    if not place.is_folder():
        return
    for name in place.names():
        if _OWN.fullmatch(name.casefold()) and (place / name).is_folder():
            (place / name).check_tree()


def read_facts(path: Path, hint: Any, most: int = LARGE) -> Any:
    """What a JSON file holds, held to a type hint; {} where there is no file. Figures may be NaN where the hint lets them.

    Raises:
        DamagedRunError: it is no JSON, or holds something else. UnsafeFolderError: it is too large, or no file.
    """
    place = Place.of(path.parent) / path.name
    if not place.is_file():
        return {}
    try:
        value = place.read_json(most)
        schema.check_depth(value, path, DamagedRunError)
    except ValueError as error:
        raise DamagedRunError(f"{path} is no whole JSON file ({error}); delete it to go without it") from error
    return schema.check(value, hint, path, DamagedRunError)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file with their ends, none where there is no file; raises UnsafeFolderError for more than any run writes."""
    place = Place.of(path.parent) / path.name
    if not place.is_file():
        return
    with place.open(_LINES) as file:
        yield from islice(file, _MOST_LINES)


def read_rows(path: Path, hint: Any) -> Iterator[dict[str, Any]]:
    """The lines that are JSON objects and fit a type hint; others, such as a half-written last one, are passed over."""
    return (row for line in read_lines(path) if (row := row_of(line, hint)) is not None)


def row_of(line: bytes, hint: Any) -> dict[str, Any] | None:
    """The JSON object of a line where it fits a type hint, else None."""
    if len(line) > _LONGEST:
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return None if schema.wrong(row, hint) else row


def append(path: Path, text: str) -> None:
    """Adds text to a file; where that has another name too, it goes on as a copy, and the other name keeps what it was."""
    with (Place.of(path.parent) / path.name).change() as file:
        file.seek(0, 2)
        file.write(text.encode())
