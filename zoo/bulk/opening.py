"""What a path is to a bulk job: a folder of images, a file of lines, or tables."""

from dataclasses import replace
from pathlib import Path

from zoo.bulk.folder import Images, holds
from zoo.bulk.sources import LINES, Opened
from zoo.bulk.tables import Lines, Tables
from zoo.tables.files import suffix_of
from zoo.tables.options import Options


def prepare(path: Path | str, options: Options, exclude: Path | None = None) -> Opened:
    """Opens a source; what is embedded of it is determined by `choose`.

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
