"""What the lists beside the vectors share: the texts of an index's rows, the best rows by a score, and a place to be kept in."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.callers import warn
from zoo.errors import ArgumentError
from zoo.files import writing_folder
from zoo.strangers.folders import Place
from zoo.strangers.locks import Held, locked

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from zoo.index.store import Store

IDS = "ids.arrow"
# Texts by the ids of their rows, of what stands in no column, and whether these are all that were embedded.
Texts = Callable[[], tuple[Mapping[str, str], bool]]


def check_columns(index: "Store", columns: Sequence[str], files: Texts | None = None) -> None:
    """Raises ArgumentError where one of these is no attribute of an index, or there is none and no files either."""
    names = index.facts.columns.names
    if not columns and files is None:
        raise ArgumentError("columns is empty; name the attributes that hold the texts of the rows")
    if unknown := [name for name in columns if name not in names]:
        raise ArgumentError(
            f"columns={unknown[0]!r}: the index has no such attribute; name those that hold the texts of its rows: "
            f"{', '.join(names) or 'there are none'}"
        )


def texts_of(
    index: "Store", columns: Sequence[str], files: Texts | None = None
) -> "tuple[pa.Array, Iterator[str], bool]":
    """Ids of all rows, the text of each (its columns and its file's, a line break between them), and whether all files were read."""
    table = index.rows(["id", *columns])
    ids = table.column("id").combine_chunks()
    read, whole = ({}, True) if files is None else files()
    beside = [table.column(name).to_pylist() for name in columns]
    if files is not None:
        beside.append([read.get(one) for one in ids.to_pylist()])
    texts = ("\n".join(str(text) for text in row if text is not None) for row in zip(*beside, strict=True))
    return ids, texts, whole


class Best:
    """The best rows by a score, of all or of those that a filter keeps; the last filter is remembered.

    Args:
        rows: ids, in the order of the scores.
    """

    def __init__(self, rows: "pa.Array") -> None:
        self.rows = rows
        self._kept: tuple[str | None, np.ndarray | None] = (None, None)

    def __call__(self, index: "Store", scores: "np.ndarray", k: int, where: str | None) -> list[str]:
        """Ids of the `k` rows with the highest scores, best first; none whose score is 0."""
        import numpy as np

        if where is not None:
            scores = np.where(self._mask(index, where), scores, 0)
        found = np.flatnonzero(scores > 0)
        if len(found) > k:
            # The k best and all that are equal to the last of them, of which the first rows stay.
            found = found[scores[found] >= np.partition(scores[found], -k)[-k]]
        order = np.lexsort((found, -scores[found]))[:k]
        return self.rows.take(found[order]).to_pylist()

    def _mask(self, index: "Store", where: str) -> "np.ndarray":
        import pyarrow.compute as pc

        if self._kept[0] != where:
            kept = index.rows(["id"], where).column("id").combine_chunks()
            self._kept = where, pc.is_in(self.rows, value_set=kept).to_numpy(zero_copy_only=False)
        return self._kept[1]  # type: ignore[return-value]


def keep(folder: Path, rows: "pa.Array", save: Callable[[Path], Any], older: str) -> None:
    """Keeps what `save` writes into a folder beside the ids, whole or not at all; others whose names begin with `older` go.

    Where nothing can be written that is said, and what was built lives with this process.
    """
    import pyarrow as pa

    parent = folder.parent
    try:
        with locked(Place.of(parent) / f".lock-{older}"):
            for draft in parent.glob(f".{older}*"):  # of a writer that was killed, for the lock is ours
                shutil.rmtree(draft, ignore_errors=True)
            with writing_folder(folder) as draft:
                save(draft)
                with pa.ipc.new_file(str(draft / IDS), pa.schema([("id", pa.string())])) as writer:
                    writer.write_table(pa.table({"id": rows.cast(pa.string())}))
    except Held:
        return  # another process is writing one, and this one is kept for this process alone
    except OSError as error:
        if folder.is_dir():
            return  # another process has made the same meanwhile
        told = f"{folder} cannot be written ({error.strerror or error}); what is looked for in texts is made for this process alone"
        warn(told)
        return
    for one in folder.parent.glob(f"{older}*"):
        if one != folder:
            shutil.rmtree(one, ignore_errors=True)


def read_ids(folder: Path) -> "pa.Array":
    """The ids that `keep` wrote."""
    import pyarrow as pa

    with pa.memory_map(str(folder / IDS)) as mapped:
        return pa.ipc.open_file(mapped).read_all().column("id").combine_chunks()
