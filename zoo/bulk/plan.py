"""What a run has to do in a folder that holds vectors: add shards to the set that is searched, or write the next set beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.bulk.earlier import Earlier, deleted_of, stands
from zoo.bulk.sources import Source
from zoo.errors import SourceChangedError
from zoo.inputs.excerpts import PAGE_SIDE
from zoo.shards.fingerprints import check_fingerprint
from zoo.shards.folder import Shard, ShardFolder


@dataclass(frozen=True)
class Plan:
    """Where a run begins.

    Attributes:
        generation: of the shards that are written. building: whether that is not the one that is searched.
        shards: those of it that are there and stay. earlier: vectors to use again; None where there are none.
    """

    generation: int
    building: bool
    shards: list[Shard]
    earlier: Earlier | None


def plan(
    folder: ShardFolder,
    source: Source,
    facts: Mapping[str, Any],
    *,
    split: str | None,
    update: bool,
    force: bool,
    undelete: bool,
) -> Plan:
    """Compares the source with what there is; writes nothing.

    Args:
        facts: `fingerprint` and `precision` of this run. split, update, force, undelete: as in `embed_dataset`.

    Raises:
        FingerprintMismatchError: the vectors were made otherwise. SourceChangedError: they are of another source.
        DamagedShardError: a shard cannot be read.
    """
    number, live = folder.live(), folder.finished()
    replaced = folder.replaced()
    for shard in [*live, *replaced]:
        check_fingerprint(
            {**_unpaged(shard.fingerprint), "precision": shard.precision},
            {**_unpaged(facts["fingerprint"]), "precision": facts["precision"]},
            folder.path,
            "Choose another --out, or delete this folder to embed everything anew.",
        )
    unfinished = {other: _of(folder, other, facts) for other in folder.generations() if other > number}
    going = next((other for other, shards in unfinished.items() if shards and stands(source, shards)), None)
    more = [*replaced, *(shard for other, shards in unfinished.items() if other != going for shard in shards)]
    deleted = deleted_of(live)
    rewrite = (update and any(shard.kept for shard in live)) or (undelete and bool(deleted))
    if going is None and (not live or (not rewrite and stands(source, live, force))):
        more += live  # what is added may be copies
        return Plan(number, False, live, Earlier([], more, force) if more else None)
    earlier = Earlier(live, more, force, () if undelete else deleted)
    if not earlier.look(source) and live and not update:
        _same_source(folder, source, split, sum(shard.rows for shard in live))
    generation = max([number, *unfinished]) + 1 if going is None else going
    return Plan(generation, True, unfinished.get(generation, []), earlier)


def _unpaged(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is said of the pages of documents as they usually are: vectors of all else are the same without any."""
    usual = fingerprint.get("parts") == {"per": "page", "max_side": PAGE_SIDE}
    return {name: value for name, value in fingerprint.items() if not (usual and name == "parts")}


def _of(folder: ShardFolder, generation: int, facts: Mapping[str, Any]) -> list[Shard]:
    """What an unfinished set holds for the inputs of this run; what it keeps of vanished ones is written last, and anew."""
    shards = [shard for shard in folder.of(generation) if not shard.kept]
    same = all(facts == {"fingerprint": shard.fingerprint, "precision": shard.precision} for shard in shards)
    return shards if same else []


def _same_source(folder: ShardFolder, source: Source, split: str | None, vectors: int) -> None:
    """Raises SourceChangedError where no input is in its place and the source is called otherwise: two would be mixed."""
    manifest = folder.manifest() or {}
    was = {**manifest.get("source", {}), "split": manifest.get("split", split)}
    now = {**source.described(), "split": split}
    differ = [name for name in ("path", "kind", "column", "split") if name in was and was[name] != now[name]]
    if differ:
        told = ", ".join(f"{name} {was[name]} there, {now[name]} here" for name in differ)
        raise SourceChangedError(
            f"none of the {vectors:,} vectors in {folder.path} is of an input of {source.path} ({told}). Choose another "
            "--out; or, where it is the same data in another place, run with --update (update=True), which recognises "
            "inputs by what they hold and lets all other vectors go"
        )
