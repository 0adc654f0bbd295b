"""What a path is to a bulk job: a folder of images, a file of lines, or tables."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from zoo.bulk.folder import Images, holds
from zoo.bulk.sources import ALL, LINES, Opened, Source
from zoo.bulk.tables import Lines, Tables
from zoo.tables.files import suffix_of
from zoo.tables.options import Options


def open_source(
    path: Path | str,
    *,
    column: str | Sequence[str] | None = None,
    kind: str | None = None,
    modalities: Collection[str] = ALL,
    exclude: Path | None = None,
    options: Options | None = None,
) -> Source:
    """A folder of images, a text file or tables as a `Source`.

    Args:
        column: the columns to embed as one item; found by name where not given. kind: what they hold, where that is not
            told by a name: "text", "image", "video" or "audio".
        modalities: what the model reads; settles which column is meant where a table has several kinds.
        exclude: a folder that is not walked (where the vectors go). options: how tables are read.

    Raises:
        TableError: nothing there, an unknown kind of file, or no clear column.
    """
    asked = [column] if isinstance(column, str) else list(column or ())
    return prepare(path, options or Options(), exclude).choose(asked, kind, modalities)


def prepare(path: Path | str, options: Options, exclude: Path | None = None) -> Opened:
    """Opens a source; what is embedded of it is told by `choose`.

    Raises:
        TableError: nothing there, an unknown kind of file, or a damaged one. HubError: a data set that cannot be had.
    """
    place = Path(path).expanduser()
    if suffix_of(place) in LINES and place.is_file():
        return Lines(place, options)
    if not place.is_dir():
        return Tables.open(path, options)
    tables = Tables.in_folder(place, options, exclude)
    if tables is None:
        return Images(place, options, exclude)
    if tables.gives_way and holds(place, "image", exclude, replace(options, given=place).fence):
        names = ", ".join(file.name for file in tables.found.files[:3])
        return Images(
            place, options, exclude, [f"the images are embedded, and {names} is not read: name it for its rows"]
        )
    return tables
