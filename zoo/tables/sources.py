"""Which tables a source is: files, a folder of them or a Hub data set, and those of one split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.tables.files import find_files, partitions_in, tables_in

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


@dataclass(frozen=True)
class Found:
    """The tables of a source.

    Attributes:
        files: of one kind, in order; none where the source is a folder without tables.
        base: the folder from which they are named. name: of the source.
        constants: cells that all rows of a file share (the keys of a partition), by file.
        by_split: whether the split told which files. metadata: whether it names the images of the folder.
        notes: what is not read, and why.
    """

    files: list[Path]
    base: Path
    name: str
    constants: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    by_split: bool = False
    metadata: bool = False
    notes: tuple[str, ...] = ()

    def name_of(self, path: Path) -> str:
        """What places call a file of these: its way from the base."""
        return path.relative_to(self.base).as_posix() if path.is_relative_to(self.base) else path.name


def find_tables(source: str | Path, split: str | None, exclude: Path | None = None) -> Found:
    """The tables of a file, a glob, a range, a folder or `hf:org/name`.

    Args:
        split: whose files are wanted, where the names of files and folders say it; None for all.
        exclude: a folder that is not looked into (where vectors go).

    Raises:
        TableError: nothing there. NoSplitError: other splits. HubError: the data set cannot be had.
    """
    if isinstance(source, str) and source.startswith("hf:"):
        from zoo.tables.hub import fetch_split

        files, name, by_split = fetch_split(source, split)
        return Found(files, _common(files), name, by_split=by_split)
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path, split, exclude)
    files, name = find_files(path)
    if len(files) == 1 and files[0].is_dir():  # a glob that matches one folder
        return _in_folder(files[0], split, exclude)
    return Found(files, _common(files), name)


def _in_folder(path: Path, split: str | None, exclude: Path | None) -> Found:
    from zoo.tables.folder import split_files, split_folder

    folder, by_split = (path, False) if split is None else split_folder(path, split)
    name = path.resolve().name
    for metadata in METADATA:
        if (folder / metadata).is_file():
            return Found([folder / metadata], folder, name, by_split=by_split, metadata=True)
    if constants := partitions_in(folder, exclude):
        return Found(list(constants), folder, name, constants, by_split)
    files = tables_in(folder)
    if not files or split is None:
        return Found(files, folder, name, by_split=by_split)
    chosen, told = split_files(files, split)
    others = ", ".join(path.name for path in files if path not in chosen)
    note = f"files of other splits, not read: {others} (--held-out {folder} takes those for validation)"
    return Found(chosen, folder, name, by_split=by_split or told, notes=(note,) if others else ())


def _common(files: list[Path]) -> Path:
    """The deepest folder in which all files lie."""
    base = files[0].parent
    while not all(path.is_relative_to(base) for path in files):
        base = base.parent
    return base
