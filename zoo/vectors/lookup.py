"""From a search result back to its input: the file, or the bytes inside a table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from zoo.errors import OutsideError, TableError
from zoo.inputs.excerpts import DocumentPage, Excerpt
from zoo.inputs.region_json import regions_from_json
from zoo.inputs.regions import Region
from zoo.strangers.made import ADOPT, made_here
from zoo.tables.fences import Fence
from zoo.tables.files import KINDS, suffix_of
from zoo.tables.values import is_file

_MOMENT = 1e-3  # seconds: of a frame, the one that begins then
_ROW = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class Inputs:
    """Where the inputs of a folder of vectors are, and which of them are opened.

    Of a folder that was made here, what its manifest says is followed. Of any other, nothing is opened outside of the folder
    itself, or of the one where the user says that the inputs are: whoever made it would else choose which of the user's own
    files stand in a page that he shares.

    Attributes:
        source: `manifest["source"]`. root: where the paths of media begin. base: where the names of tables begin.
        fences: an input lies in one of these; none: anywhere. why: is said of one that does not. strange: whether nobody but
            the folder's maker has said where they are.
    """

    source: Mapping[str, Any]
    root: Path
    base: Path | None
    fences: tuple[Fence, ...] = ()
    why: str = ""
    strange: bool = False

    @classmethod
    def of(
        cls,
        folder: Path | str,
        manifest: Mapping[str, Any],
        root: Path | str | None = None,
        *,
        allow_outside: bool = False,
        ours: bool = False,
    ) -> Self:
        """The inputs of a folder of vectors.

        Args:
            root: where the user says that they are. allow_outside: whether they may be anywhere, as the manifest says, or
                outside of `root`. ours: whether the folder was made here in any case.
        """
        source, folder, within = manifest["source"], Path(folder), []
        said = source.get("base")
        ours = ours or made_here(folder)
        if root is not None:
            places = (Path(root).expanduser(),) * 2
            why = f"it lies outside of {places[0]}; --allow-outside shows it all the same"
        elif ours or allow_outside:
            places = Path(source["root"]), None if said is None else Path(said)
            within = [source["within"]] if source.get("within") else []
            why = f"it lies outside of {source['root']}, which was embedded; --allow-outside shows it all the same"
        else:
            places = folder, folder
            why = (
                f"{folder} was not made here, and says itself where its inputs are; --root DIR says where to look for them, "
                f"--allow-outside that they may be anywhere; {ADOPT}"
            )
        if allow_outside or (ours and root is None and source.get("outside")):
            return cls(source, *places)
        fences = tuple(map(Fence, dict.fromkeys(filter(None, [*places, *map(Path, within)]))))
        return cls(source, *places, fences, why, not ours and root is None)

    def find(self, reference: str) -> Path | bytes | None:
        """The input that a reference names.

        Args:
            reference: of a row of the shards.

        Returns:
            A path (which may not exist any more), bytes from a Parquet table or a shard, or None where the table is gone.

        Raises:
            OutsideError: it lies where nothing is opened.
        """
        source = self.source
        name, mark, row = reference.rpartition("#")
        base, column = self.base, source.get("media") or source.get("column")
        if base is None:  # folders of earlier versions
            path = Path(source["path"])
            base = path.parent if name == path.name else self.root
        table = base / name
        suffix = suffix_of(table) if mark and column is not None and _ROW.fullmatch(row) else ""
        if suffix in (".parquet", ".pq", ".tar"):
            self._check(table, reference)
            if suffix != ".tar":
                return _read_cell(table, column, int(row))
            from zoo.tables.webdataset import read_member

            return read_member(table, column, int(row))
        self._check(self.root / reference, reference)
        return self.root / reference

    def regions(self, attributes: Mapping[str, Any]) -> tuple[Region, ...]:
        """What of one image per row of the shards is of, by its attributes; () where it is of the whole image.

        Raises:
            OutsideError: a mask lies where nothing is opened. InvalidRegionError: they cannot be read.
        """

        def find(name: str) -> Path:
            self._check(self.root / name, name)
            return self.root / name

        column = self.source.get("regions")
        return () if column is None else regions_from_json(attributes.get(column), find)

    def part(self, value: Path | bytes, attributes: Mapping[str, Any]) -> Any:
        """What of one input per row of the shards is of, by its attributes: a page, a segment or a frame; the input itself where it is
        of the whole.

        Raises:
            InputError: a frame cannot be read.
        """
        place = self._place(attributes)
        if place is None:
            return value
        if len(place) == 1:
            return DocumentPage(value, int(place[0]))
        start, end = place
        if self._are_frames(attributes):
            from zoo.inputs.video import load_video

            return load_video(value, frames=1, start=start, seconds=_MOMENT).frames[0]
        return Excerpt(value, start, end - start) if end > start else value

    def moment(self, attributes: Mapping[str, Any]) -> tuple[float, float] | None:
        """Beginning and end in seconds of what a row of the shards is of; None where it is of no moment."""
        place = self._place(attributes)
        return place if place is not None and len(place) == 2 else None  # type: ignore[return-value]

    def _place(self, attributes: Mapping[str, Any]) -> tuple[float, ...] | None:
        """The page of a row, or its beginning and end; None where it is of the whole."""
        said = self.source.get("parts")
        columns = said.get("columns") if isinstance(said, Mapping) else None
        columns = list(map(str, columns)) if isinstance(columns, list | tuple) else []
        for names in (columns[: len(columns) % 2], columns[len(columns) % 2 :]):  # a page, and two times
            place = tuple(attributes.get(name) for name in names)
            if place and all(isinstance(one, int | float) and one >= 0 for one in place):
                return place[:2]  # type: ignore[return-value]
        return None

    def _are_frames(self, attributes: Mapping[str, Any]) -> bool:
        """Whether moments are frames: of several kinds of parts, those of videos are where that was asked for."""
        per = self.source["parts"].get("per")
        kinds = self.source.get("kinds")
        column = kinds.get("column") if isinstance(kinds, Mapping) else None
        audio = column is not None and attributes.get(column) == "audio"
        return not audio and "frame" in ([per] if isinstance(per, str) else per or ())

    def is_row(self, reference: str) -> bool:
        """Whether a reference is of a row, as rows are named that name no file, of a table that is there."""
        name, mark, row = reference.rpartition("#")
        table = (self.base or self.root) / name
        return bool(mark) and _ROW.fullmatch(row) is not None and suffix_of(table) in KINDS and is_file(table)

    def _check(self, path: Path, reference: str) -> None:
        led_out = self.fences and all(fence.leaves(path) for fence in self.fences)
        if led_out or (self.strange and not is_file(path)):
            raise OutsideError(f"{reference} is not opened: {self.why}", what=reference)


def _read_cell(table: Path, column: str, row: int) -> bytes | None:
    """The bytes in a cell of a Parquet file; None where the file or the row is gone, or there are none."""
    from zoo.tables.parquet import RowGroups

    try:
        groups = RowGroups([table], [column])
        cell = groups.cells(row).get(column) if row < len(groups) else None
    except TableError:
        return None
    cell = cell.get("bytes") if isinstance(cell, dict) else cell
    return cell if isinstance(cell, bytes) else None
