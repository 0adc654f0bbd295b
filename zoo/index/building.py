"""From shards to an index: what is new is added to the generation in use; any other change makes the next one beside it."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.callers import warn
from zoo.errors import DamagedShardError, DiskFullError, IndexStateError, ReadOnlyIndexError
from zoo.index import generations
from zoo.index.base import FACTS, IndexFacts
from zoo.index.homes import Home
from zoo.index.locks import make_folder
from zoo.index.store import Store
from zoo.shards.checking import check_grown
from zoo.shards.folder import Shard, ShardFolder, full_disk_named
from zoo.strangers.folders import Place
from zoo.strangers.locks import Held, locked

if TYPE_CHECKING:
    import pyarrow as pa

# Rows given to the store in one commit.
ROWS_PER_COMMIT = 65536
BYTES_PER_COMMIT = 512 << 20  # or once they take so much memory: captions may be long
# Seconds to wait for another process that builds a new generation, before the one in use is opened as it is.
PATIENCE = 3.0


def up_to_date(home: Home, kind: type[Store], folder: Path, threshold: int, *, anew: bool = False) -> Store:
    """An open index of the shards in `folder`; with `anew` one that was built now, without what was deleted and replaced in it.

    One process builds, others wait for it. Where it makes a new generation and that takes long, they open the one in use.
    Where nothing can be written, an index that holds all shards is opened as it is.

    Raises:
        IndexStateError: no vectors; or no index, and none can be written. DiskFullError: no space to build it.
    """
    if anew:
        with _only_builder(home.place, wait=True):
            return _again_if_updated(home, kind, folder, threshold, anew=True)
    try:
        make_folder(home.place)
        with _only_builder(home.place) as alone:
            if alone:
                return _again_if_updated(home, kind, folder, threshold)
        if older := _older(home.place, kind, folder):
            return older
        with _only_builder(home.place, wait=True):
            return _again_if_updated(home, kind, folder, threshold)
    except (IndexStateError, DiskFullError):
        if index := _complete(home, kind, folder):
            return index
        raise


@contextlib.contextmanager
def _only_builder(home: Place, *, wait: bool = False) -> Iterator[bool]:
    """Whether this is the only process that builds; another one is waited for, or only for some seconds."""
    with contextlib.ExitStack() as held:
        alone = True
        try:
            with full_disk_named(home):
                held.enter_context(locked(home.parent / f".lock-{home.name}", wait=None if wait else PATIENCE))
        except Held:
            alone = False
        except OSError as error:
            raise ReadOnlyIndexError(f"the index cannot be written into {home}: {error.strerror or error}") from error
        yield alone


def _older(home: Place, kind: type[Store], folder: Path) -> Store | None:
    """The generation in use, where another process builds the next one and both are of one model."""
    manifest = ShardFolder(folder).manifest()
    with contextlib.suppress(IndexStateError):
        if manifest and generations.unfinished(home) is not None:
            index = kind.open_at(home)
            if index.facts.fingerprint == manifest["fingerprint"]:
                warn(
                    f"another process builds the index of {folder} anew; until it is finished, answers are those of before"
                )
                return index
    return None


def _complete(home: Home, kind: type[Store], folder: Path) -> Store | None:
    """The generation in use, if there is nothing to do for it."""
    with contextlib.suppress(IndexStateError, DamagedShardError):
        shards, index = live_shards(folder), kind.open_at(home.place)
        origins = {_origin(shard, home.own) for shard in shards if shard.rows}
        if _fits(index, shards, home.own) and index.origins() == origins:
            return index
    return None


def live_shards(folder: Path) -> list[Shard]:
    """The finished shards, of one model and precision; raises IndexStateError where there are none such."""
    shards = ShardFolder(folder).finished()
    if not sum(shard.rows for shard in shards):
        raise IndexStateError(f"{folder} holds no vectors yet; run `zoo embed` again to finish it")
    for shard in shards:
        if shard.fingerprint != shards[0].fingerprint or shard.precision != shards[0].precision:
            raise IndexStateError(f"{shard.path} was made by another model than {shards[0].path.name}; move it away")
    return shards


def _again_if_updated(home: Home, kind: type[Store], folder: Path, threshold: int, *, anew: bool = False) -> Store:
    """Builds from the shards there are; begins again where `zoo embed` has put others into their place meanwhile."""
    shards: list[Shard] | None = None
    while True:
        try:
            before, shards = shards, live_shards(folder)
            return _built(home, kind, shards, threshold, anew)
        except (FileNotFoundError, DamagedShardError) as error:
            vanished = isinstance(error, FileNotFoundError) or isinstance(error.__cause__, FileNotFoundError)
            if not vanished or shards is None or shards == before:
                raise


def _built(home: Home, kind: type[Store], shards: Sequence[Shard], threshold: int, anew: bool) -> Store:
    place = home.place
    old = _old(place, kind)
    left = generations.unfinished(place)
    if old is not None and not anew and _fits(old, shards, home.own):
        if left is not None:
            generations.drop(place, left)
        _follow(old, shards, home.own)
        old.tune(threshold)
        generations.sweep(place)
        return old
    number, new = _begun(home, kind, shards, left)
    _follow(new, shards, home.own)
    new.tune(threshold)
    if old is None:
        generations.swap(place, number)
    else:
        with old.writing():
            _carry(old, new)
            generations.swap(place, number)
        old.close()
    generations.sweep(place)
    return new


def _old(home: Place, kind: type[Store]) -> Store | None:
    """The generation in use, if there is one that can be opened."""
    folder = generations.folder_of(home, generations.current(home))
    try:
        return kind.open_at(folder)
    except IndexStateError as error:
        if (folder / FACTS).kind():
            warn(f"the index is built anew from the shards, without what was upserted into it besides: {error}")
        return None


def _fits(index: Store, shards: Sequence[Shard], own: bool) -> bool:
    """Whether it holds nothing that the shards do not."""
    facts = index.facts
    same = facts.fingerprint == shards[0].fingerprint and facts.columns == _columns(shards[0])
    same = same and facts.precision == _precision(index, shards[0])
    return same and index.origins() <= {_origin(shard, own) for shard in shards}


def _begun(home: Home, kind: type[Store], shards: Sequence[Shard], left: int | None) -> tuple[int, Store]:
    """The next generation: what a killed builder has left, if it fits, or an empty one."""
    place = home.place
    if left is not None:
        with contextlib.suppress(IndexStateError):
            index = kind.open_at(generations.folder_of(place, left))
            # Rows of `upsert` are carried over at the end, and may have been deleted since.
            if _fits(index, shards, home.own) and not any(True for _ in index.own_rows()):
                return left, index
        generations.drop(place, left)
    number, made_by = generations.next_number(place), shards[0].fingerprint
    facts = IndexFacts(kind.backend, made_by, made_by["dim"], _precision(kind, shards[0]), _columns(shards[0]))
    return number, kind.begin(generations.folder_of(place, number), facts)


def _carry(old: Store, new: Store) -> None:
    """Rows that were upserted, and are in no shard, stay, with the columns that there still are."""
    import pyarrow as pa

    for rows, matrix in old.own_rows():
        if old.facts.fingerprint != new.facts.fingerprint:
            raise IndexStateError(
                f"{old.folder} holds {len(rows):,} rows that were upserted, made by another model than the vectors of "
                f"`zoo embed` now; delete {new.place.parent} to go on without them"
            )
        attributes: dict[str, Any] = {}
        for column in new.facts.columns:
            if column.name in rows.column_names:
                # No value of the type that the column has now, or none that Python has.
                with contextlib.suppress(pa.ArrowException, OverflowError, ArithmeticError, LookupError):
                    attributes[column.name] = rows.column(column.name).cast(column.type).to_pylist()
        new.upsert(rows.column("id").to_pylist(), matrix, attributes, rows.column("reference").to_pylist())


def _follow(index: Store, shards: Sequence[Shard], own: bool) -> None:
    """Adds the shards that are not in the index, several in one commit."""
    present = index.origins()
    batch: list[tuple[pa.Table, str]] = []
    rows = bytes_ = taken = 0
    size = sum(shard.status[0] for shard in shards)
    for shard in shards:
        if not shard.rows or _origin(shard, own) in present:
            continue
        table = shard.table()
        check_grown(taken := taken + table.nbytes, size, shard.path.parent)
        batch.append((table, _origin(shard, own)))
        rows, bytes_ = rows + shard.rows, bytes_ + table.nbytes
        if rows >= ROWS_PER_COMMIT or bytes_ >= BYTES_PER_COMMIT:
            index.add_shards(batch)
            batch, rows, bytes_ = [], 0, 0
    if batch:
        index.add_shards(batch)


def _precision(kind: Store | type[Store], shard: Shard) -> str:
    return shard.precision if shard.precision in kind.precisions else "float32"


def _columns(shard: Shard) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([field for field in shard.schema if field.name not in ("id", "reference", "vector")])


def _origin(shard: Shard, own: bool) -> str:
    """A shard by its range and its inputs: after an update the same range may hold others.

    One that others made may say of its inputs what it likes, so there the file's size and times count too.
    """
    if own:
        return f"{shard.place.stem}-{shard.inputs}"
    told = shard.stamps + repr(shard.status).encode()
    return f"{shard.place.stem}-{hashlib.blake2b(told, digest_size=16).hexdigest()}"
