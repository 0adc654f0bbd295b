"""Deleting vectors: a set of shards without them takes the place of the one that is searched, in one step.

Of a deleted input its id, where it came from, and the digest of what it held stay in the footer of its shard, so that `zoo embed` knows
it again and does not bring it back; its vector and its other columns are gone with the files of the set before.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from zoo.errors import FolderError
from zoo.shards.content import CONTENT_BYTES, STAMP_BYTES
from zoo.shards.facts import DELETED, Bad
from zoo.shards.folder import Shard, ShardFolder

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

WHY = "deleted by `zoo index delete`; `zoo embed --undelete` embeds it again"


def delete_rows(folder: ShardFolder, chosen: "Callable[[pa.Table], np.ndarray]") -> list[str]:
    """Deletes the vectors of a folder that `chosen` says, `(rows,)` booleans of the columns of a shard without its vectors.

    Killed at any moment, the folder is as before or as after. It needs room for a second set, as an update does.

    Returns:
        The ids of what was deleted.

    Raises:
        FolderError: an update is not finished, nothing would be left, or the folder cannot be written. DiskFullError: no room.
    """
    import numpy as np

    with folder.locked():
        manifest, shards = folder.manifest() or {}, folder.finished()
        if manifest.get("building") is not None:
            raise FolderError(
                f"an update of {folder.path} is not finished; finish it with the same `zoo embed` command, then delete"
            )
        masks, ids = [], []
        for shard in shards:
            table = shard.table([name for name in shard.schema.names if name != "vector"])
            masks.append(np.asarray(chosen(table), bool))
            ids += table.column("id").filter(masks[-1]).to_pylist()
        if not ids:
            return []
        if len(ids) == sum(shard.rows for shard in shards):
            raise FolderError(
                f"those are all {len(ids):,} vectors of {folder.path}; to be rid of them delete the folder itself"
            )
        after = dict(manifest)
        with folder.rewritten(after) as number:
            kept = 0
            for shard, mask in zip(shards, masks, strict=True):
                kept = _write(folder, shard, mask, number, kept)
            after |= _told(folder, number, manifest)
    return ids


def _write(folder: ShardFolder, shard: Shard, gone: "np.ndarray", number: int, kept: int) -> int:
    """Writes a shard without some of its rows; `kept` counts the rows that are kept of vanished inputs so far."""
    import numpy as np

    table = shard.table()
    about: dict[str, Any] = {"fingerprint": shard.fingerprint, "precision": shard.precision}
    if not shard.kept:
        rows = table.select(["id", "reference"]).filter(gone).to_pylist()
        places = np.flatnonzero(shard.good())[gone] + shard.start
        deleted = [
            Bad(int(at), row["id"], row["reference"], DELETED, WHY) for at, row in zip(places, rows, strict=True)
        ]
        bad = sorted([*shard.bad, *deleted], key=lambda one: one.index)
        about |= {"start": shard.start, "stop": shard.stop, "bad": [vars(one) for one in bad]}
        about |= {"stamps": shard.stamps.hex(), "contents": shard.contents.hex()}
        folder.write_table(table.filter(~gone), about, number)
        return kept
    if gone.all():  # of an input that has vanished there is nothing to know again
        return kept
    about |= {"start": kept, "stop": kept + int((~gone).sum()), "kept": True}
    for name, width in (("stamps", STAMP_BYTES), ("contents", CONTENT_BYTES)):
        every = np.frombuffer(getattr(shard, name), np.uint8).reshape(-1, width)
        about[name] = every[np.flatnonzero(shard.good())[~gone]].tobytes().hex()
    folder.write_table(table.filter(~gone), about, number)
    return about["stop"]


def _told(folder: ShardFolder, number: int, manifest: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says of the new set."""
    shards = folder.of(number)
    counts = dict(manifest["counts"])
    counts["vectors"] = sum(shard.rows for shard in shards)
    counts["kept"] = sum(shard.rows for shard in shards if shard.kept)
    counts["deleted"] = sum(bad.reason == DELETED for shard in shards for bad in shard.bad)
    if counts.get("kinds"):
        column = manifest["source"]["kinds"]["column"]
        every = [kind for shard in shards for kind in shard.table([column]).column(0).to_pylist()]
        counts["kinds"] = {kind: every.count(kind) for kind in dict.fromkeys(every)}
    return {"counts": counts, "shards": len(shards), "updated": datetime.now(UTC).isoformat(timespec="seconds")}
