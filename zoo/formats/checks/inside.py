"""Files of a model's folder lie inside it: a link may lead to another of its files, or into huggingface_hub's cache, nowhere else."""

import os
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import UnsafeCheckpointError
from zoo.strangers.folders import SMALL, Place

# What lies beside a model and no library reads, a folder each; so do the stages of a training run.
UNREAD = (".eval_results", ".cache", ".git", "checkpoints", "best", "report", "runs")


def check_inside(path: Path, inside: Path) -> None:
    """Holds a file or folder of a checkpoint to its folder.

    Args:
        inside: the checkpoint's folder, resolved.

    Raises:
        UnsafeCheckpointError: it is a link out of the checkpoint, or no file or folder but a FIFO, a socket or a device.
    """
    target = path.resolve()
    if target != inside and inside not in target.parents and not of_cache(path, target):
        raise UnsafeCheckpointError(
            f"{path} is a link to {target}, outside the checkpoint; put the file itself in its place"
        )
    if not (target.is_file() or target.is_dir()) and (kind := (Place.of(target.parent) / target.name).kind()):
        raise UnsafeCheckpointError(f"{path} is a {kind}, not a file; remove it")


def read_inside(folder: Path, name: str, most: int = SMALL) -> bytes | None:
    """What a file at the top of a model's folder holds, None where there is none.

    Raises:
        UnsafeFolderError: it is a link, unless into huggingface_hub's cache, no file, or larger than `most` bytes.
    """
    path = folder / name
    if path.is_symlink() and of_cache(path, target := path.resolve()):
        path = target
    place = Place.of(path.parent) / path.name
    return place.read(most) if place.is_file() else None


def check_links(folder: Path) -> None:
    """`check_inside` for everything below a folder that some library could read."""
    inside = folder.resolve()
    for path in _read(folder):
        check_inside(path, inside)


def _read(folder: Path) -> Iterator[Path]:
    for top in sorted(folder.iterdir()):
        if top.name in UNREAD or top.name.startswith("stage-"):
            continue
        yield top
        if top.is_dir() and not top.is_symlink():
            yield from sorted(top.rglob("*"))


def of_cache(path: Path, target: Path) -> bool:
    """Whether a link ends in huggingface_hub's cache: snapshots/… → models--…/blobs/…, and from there, for files that came
    by Xet, in the blobs that all repositories of the cache share."""
    for _ in range(8):
        if not path.is_symlink():
            return False
        path = Path(os.path.normpath(path.parent / os.readlink(path)))
        blobs = path.parent
        if blobs.name == "blobs" and blobs.parent.name.startswith("models--"):
            # Of `blobs` itself no link is followed: in a folder that was given it may lead anywhere.
            own, shared = blobs.parent.resolve() / "blobs", blobs.parent.parent.resolve() / "blobs"
            return target.parent == own or shared in target.parents
    return False
