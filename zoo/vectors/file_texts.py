"""The texts of files that were embedded beside images and other media: read again, and held to what their vectors are of."""

from collections.abc import Iterator
from pathlib import Path

from zoo.callers import warn
from zoo.errors import InputError, OutsideError
from zoo.shards.content import content_of
from zoo.shards.folder import ShardFolder
from zoo.tables.lines import whole_text
from zoo.vectors.lookup import Inputs

_NAMED = 3


def holds_file_texts(source: dict) -> bool:
    """Whether a source, as a manifest has it, is of files of several kinds, texts among them."""
    return "text" in (source.get("kinds") or {}).get("of", ())


class FileTexts:
    """The text files of a folder of vectors, by the ids of their rows.

    Args:
        folder: what `embed_dataset` wrote of files of several kinds. inputs: where they are.
    """

    def __init__(self, folder: Path, inputs: Inputs) -> None:
        self.folder, self.inputs = folder, inputs

    def __call__(self) -> tuple[dict[str, str], bool]:
        """Id → text of every text file that holds what was embedded, and whether these are all; a warning names others.

        Raises:
            OutsideError: a file lies where nothing is opened.
        """
        found: dict[str, str] = {}
        lost: list[str] = []
        for row, reference, content in self._rows():
            path = self.inputs.find(reference)
            try:
                text = whole_text(path) if isinstance(path, Path) else ""
            except OutsideError:
                raise
            except InputError:  # gone, or no text any more
                text = ""
            if text and content_of(text) == content:
                found[row] = text
            else:
                lost.append(reference)
        if lost:
            named = ", ".join(lost[:_NAMED]) + (f" and {len(lost) - _NAMED:,} more" if len(lost) > _NAMED else "")
            warn(
                f"{len(lost):,} of {len(found) + len(lost):,} text files do not hold any more what was embedded of them ({named}): they "
                "are found by their vectors alone; the same `zoo embed` command again embeds what they hold now, and lets go of those that have "
                "vanished with --update"
            )
        return found, not lost

    def _rows(self) -> Iterator[tuple[str, str, bytes]]:
        """Id, reference and content of each row that is a text file's."""
        column = self.inputs.source["kinds"]["column"]
        for shard in ShardFolder(self.folder).finished():
            table = shard.table(["id", "reference", column])
            positions = [shard.start + at for at, good in enumerate(shard.good()) if good]
            rows = zip(
                positions, *(table.column(name).to_pylist() for name in ("id", "reference", column)), strict=True
            )
            for position, row, reference, kind in rows:
                if kind == "text":
                    yield row, reference, shard.content(position)
