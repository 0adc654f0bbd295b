"""Deleting from a folder of vectors for good, and giving back the space that its indexes waste."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.arguments import checked, optional, path, text
from zoo.arguments import ids as some_ids
from zoo.errors import ArgumentError, IndexStateError
from zoo.index import generations
from zoo.index.base import FACTS
from zoo.index.building import up_to_date
from zoo.index.exact import ExactIndex
from zoo.index.homes import Home, homes_of
from zoo.index.lance import LanceIndex
from zoo.index.opening import THRESHOLD, has_lancedb, read_manifest
from zoo.index.store import Store
from zoo.index.where import Filter
from zoo.shards.deleting import delete_rows
from zoo.shards.folder import ShardFolder

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KINDS: tuple[type[Store], ...] = (ExactIndex, LanceIndex)


@dataclass(frozen=True)
class Deleted:
    """What `delete_vectors` has done.

    Attributes:
        count: vectors that are gone. missing: ids that were asked for and are of no vector, in their order.
        held: indexes of which another process still has an older state open; the files go when it has closed it and somebody opens
            or compacts the index again.
    """

    count: int
    missing: tuple[str, ...] = ()
    held: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Compacted:
    """What `compact` has done with the index of one store: bytes before and after, and whether an older state is held open."""

    backend: str
    before: int
    after: int
    held: bool


@checked(folder=path, ids=optional(some_ids), where=optional(text))
def delete_vectors(folder: Path | str, ids: Sequence[str] | None = None, *, where: str | None = None) -> Deleted:
    """Deletes vectors from a folder of `zoo embed`, and from its indexes, by id or by a filter.

    It is on disk when the call returns; killed before that, all is as it was, or as it will be. `zoo embed` of the same source does
    not bring back what was deleted, unless its content has changed or `undelete` asks for it. Vectors and other columns are gone
    from the disk; ids, references and digests of the inputs stay, by which they are known again.

    Args:
        where: an SQL condition over the columns: "label = 'cat' AND year >= 2020".

    Raises:
        ArgumentError: ids and where, or neither. IndexStateError: no vectors there. FilterError: a filter that is not understood.
        FolderError: nothing would be left, an update is not finished, or another process writes. DiskFullError: the set without
            them is written beside the one with them.
    """
    if (ids is None) == (where is None):
        raise ArgumentError("delete_vectors takes ids or where, one of the two")
    folder = Path(folder)
    read_manifest(folder)
    indexes = _indexes(folder)
    wanted = None if ids is None else {str(one) for one in ids}
    deleted = delete_rows(ShardFolder(folder), lambda table: _chosen(table, wanted, where))
    count, there, held = len(deleted), set(deleted), []
    for home, kind in indexes:
        with up_to_date(home, kind, folder, THRESHOLD) as index:
            own = [one for rows, _ in index.own_rows() for one in rows.column("id").to_pylist()]
            mine = set(own if wanted is None else wanted & set(own))
            if mine and (gone := index.delete(sorted(mine)) if wanted is not None else index.delete(where=where)):
                there |= mine
                count = max(count, len(deleted) + gone)
                index = _anew(home, kind, folder)  # what was upserted and deleted is in older files, too
                index.close()
        if _held(home):
            held.append(home.place.path)
    missing = () if ids is None else tuple(dict.fromkeys(str(one) for one in ids if str(one) not in there))
    return Deleted(count, missing, tuple(held))


@checked(folder=path)
def compact(folder: Path | str) -> list[Compacted]:
    """Builds the indexes of a folder of `zoo embed` anew, without what was replaced and deleted in them, and gives that space back.

    What is open stays as it is. The new index is built beside the one in use, which needs room for both.

    Raises:
        IndexStateError: no vectors there. DiskFullError: no room.
    """
    folder, done = Path(folder), []
    read_manifest(folder)
    with ShardFolder(folder).locked():
        pass  # what a killed writer has left goes
    for home, kind in _indexes(folder):
        before = _size(home.place.path)
        _anew(home, kind, folder).close()
        done.append(Compacted(kind.backend, before, _size(home.place.path), _held(home)))
    return done


def _anew(home: Home, kind: type[Store], folder: Path) -> Store:
    return up_to_date(home, kind, folder, THRESHOLD, anew=True)


def _chosen(table: "pa.Table", wanted: set[str] | None, where: str | None) -> "np.ndarray":
    import pyarrow as pa
    import pyarrow.compute as pc

    if where is not None:
        return Filter(where, table.schema).mask(table)
    return pc.is_in(table.column("id"), value_set=pa.array(sorted(wanted or ()), pa.string())).to_numpy()


def _indexes(folder: Path) -> list[tuple[Home, type[Store]]]:
    """The indexes that there are, in the folder or in the user's cache; raises IndexStateError where the engine of one is gone."""
    found = []
    for kind in KINDS:
        for home in homes_of(folder, kind.backend, adopt=False):
            if home.lives is not None:
                break
            if generations.current(home.place) or (home.place / FACTS).kind():
                if kind is LanceIndex and not has_lancedb():
                    raise IndexStateError(
                        f"{home.place} is an index of LanceDB, which is not installed: it would keep what is deleted. Install it "
                        '(pip install "embedding-zoo[index]"), or delete that folder'
                    )
                found.append((home, kind))
                break
    return found


def _held(home: Home) -> bool:
    return generations.older(home.place)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
