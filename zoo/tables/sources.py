"""Which tables a source is: files, a folder of them or a Hub data set, and those of one split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zoo.errors import InputError, OutsideError, TableError
from zoo.tables.fences import Fence
from zoo.tables.files import KINDS, find_files, partitions_in, suffix_of, tables_in
from zoo.tables.splits import split_of_path, split_word
from zoo.tables.walking import listed

_SHOWN = 5
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


@dataclass(frozen=True)
class Found:
    """The tables of a source.

    Attributes:
        files: of one kind, in order; none where the source is a folder without tables.
        base: the folder from which they are named. name: of the source.
        constants: cells that all rows of a file share (the keys of a partition), by file.
        by_split: whether the split told which files. metadata: whether it names the images of the folder.
        notes: what is not read, and why. odd: entries that cannot be looked at; the notes name them too.
        given: the folder or archive that the user named, in which they were found; None where he named them, or they are the
            zoo's own.
    """

    files: list[Path]
    base: Path
    name: str
    constants: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    by_split: bool = False
    metadata: bool = False
    notes: tuple[str, ...] = ()
    odd: tuple[InputError, ...] = ()
    given: Path | None = None

    def name_of(self, path: Path) -> str:
        """What places call a file of these: its way from the base."""
        return path.relative_to(self.base).as_posix() if path.is_relative_to(self.base) else path.name


def find_tables(
    source: str | Path, split: str | None, exclude: Path | None = None, *, allow_outside: bool = False
) -> Found:
    """The tables of a file, a glob, a range, a folder or `hf:org/name`.

    Args:
        split: whose files are wanted, where the names of files and folders say it; None for all.
        exclude: a folder that is not looked into (where vectors go). allow_outside: whether links that lead out of a folder
            are followed.

    Raises:
        TableError: nothing there. NoSplitError: other splits. HubError: the data set cannot be had.
    """
    if isinstance(source, str) and source.startswith("hf:"):
        from zoo.tables.hub import fetch_split

        files, name, by_split = fetch_split(source, split)
        return Found(files, _common(files), name, by_split=by_split, given=_snapshot(files[0]))
    path = Path(source).expanduser()
    files, name = ([path], "") if path.is_dir() else find_files(path)
    if len(files) == 1 and files[0].is_dir():  # named, or by a glob that matches one folder
        found = _in_folder(files[0], split, exclude, None if allow_outside else Fence(files[0]))
        return replace(found, given=files[0])
    archive = next((path for path in files if suffix_of(path) == ".tar"), None)
    return Found(files, _common(files), name, given=archive)


def _snapshot(path: Path) -> Path:
    """The folder of a data set's commit in the Hub's cache."""
    return next((one for one in path.parents if one.parent.name == "snapshots"), path.parent)


def _in_folder(path: Path, split: str | None, exclude: Path | None, fence: Fence | None) -> Found:
    odd: list[InputError] = []
    found = _choose(path, split, exclude, odd, fence)
    if found.metadata or not found.files:  # images: `walk_images` names what is odd there
        return found
    # Any other entry that cannot be looked at may be a table; a link that is not followed has its name.
    odd = [one for one in odd if not isinstance(one, OutsideError) or suffix_of(Path(one.what)) in KINDS]
    return replace(found, odd=tuple(odd), notes=(*found.notes, *(f"not read: {error}" for error in odd)))


def _choose(path: Path, split: str | None, exclude: Path | None, odd: list[InputError], fence: Fence | None) -> Found:
    from zoo.tables.folder import split_files, split_folder

    folder, by_split = (path, False) if split is None else split_folder(path, split, fence=fence)
    name = path.resolve().name
    files = tables_in(folder, odd, fence)
    if led_out := next(
        (one for one in odd if isinstance(one, OutsideError) and suffix_of(Path(one.what)) in KINDS), None
    ):
        raise TableError(str(led_out))  # without it the folder would be read as another one
    if metadata := next((folder / name for name in METADATA if folder / name in files), None):
        notes = _unread([path for path in files if path != metadata])
        return Found([metadata], folder, name, by_split=by_split, metadata=True, notes=notes)
    if constants := partitions_in(folder, exclude, odd, fence):
        return Found(list(constants), folder, name, constants, by_split)
    below = _below(folder, exclude, fence) if files or split is not None else []
    if not files and (told := [path for path in below if split_word(path.parent.name)]):
        raise TableError(  # images/ beside them would else be images of the text "images"
            f"{path} has tables in folders of splits, and other folders beside them; name the tables: {told[0].parent}"
        )
    notes = _unread([*(tables_in(path, fence=fence) if by_split else ()), *below])
    if not files or split is None:
        return Found(files, folder, name, by_split=by_split, notes=notes)
    chosen, told = split_files(files, split)
    if others := [path for path in files if path not in chosen and split_of_path(path.stem)]:
        names = ", ".join(path.name for path in others)
        notes += (f"files of other splits, not read: {names} (--held-out {folder} takes those for validation)",)
    notes += _unread([path for path in files if path not in chosen and path not in others])
    return Found(chosen, folder, name, by_split=by_split or told, notes=notes)


def _below(folder: Path, exclude: Path | None, fence: Fence | None) -> list[Path]:
    """The tables in the sub-folders of a folder of tables."""
    inside = [
        one.path for one in listed(folder, [], fence=fence) if one.is_folder and not one.name.startswith((".", "_"))
    ]
    inside = [one for one in inside if exclude is None or one.resolve() != exclude.resolve()]
    return [path for one in inside for path in tables_in(one, fence=fence)]


def _unread(files: Sequence[Path]) -> tuple[str, ...]:
    """What is said of tables beside those that are read."""
    if not files:
        return ()
    more = f" and {len(files) - _SHOWN:,} more" if len(files) > _SHOWN else ""
    shown = ", ".join(f"{path.parent.name}/{path.name}" for path in files[:_SHOWN])
    return (f"also there and not read: {shown}{more} (name them to read them)",)


def _common(files: list[Path]) -> Path:
    """The deepest folder in which all files lie."""
    base = files[0].parent
    while not all(path.is_relative_to(base) for path in files):
        base = base.parent
    return base
