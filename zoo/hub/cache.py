"""huggingface_hub's cache on disk: which files a repository has when nobody can be asked, and whether their bytes are whole.

Beside the snapshots of a repository lie the client's own notes (`trees/<commit>.json`, the list of all its files, and
`.no_exist/<commit>/`, files that were asked for and are not there) and ours: `.zoo-files/<commit>.json`, the list of all its
files; `.zoo-checked/<digest>`, a large file that was found whole; `.zoo-damaged/<commit>/<file>`, why one was deleted.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.errors import DamagedDownloadError
from zoo.files import writing

_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TREES, _ABSENT, _FILES, _CHECKED, _DAMAGED = "trees", ".no_exist", ".zoo-files", ".zoo-checked", ".zoo-damaged"
_LARGE = 1 << 20  # bytes; files from here on are read once, and not at every load


# -------------------------------------------------------------------------------------------------- which files there are


def files_in(folder: Path) -> set[str]:
    """Names of the files below a folder; a link that leads nowhere is none."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def listed(snapshot: Path) -> set[str] | None:
    """All files of a snapshot's repository at its commit, as the client or the zoo noted them; None where neither did."""
    tree = _read(snapshot.parents[1] / _TREES / f"{snapshot.name}.json").get("files")
    if isinstance(tree, dict):
        return set(tree)
    ours = _read(snapshot.parents[1] / _FILES / f"{snapshot.name}.json").get("files")
    return set(map(str, ours)) if isinstance(ours, list) else None


def note_files(snapshot: Path, names: Iterable[str]) -> None:
    """Notes which files the repository has at this commit, as the Hub has just said."""
    with contextlib.suppress(OSError):  # a cache that may only be read: asked again next time
        content = json.dumps({"files": sorted(names)}, indent=1)
        write_whole(snapshot.parents[1] / _FILES / f"{snapshot.name}.json", content)


def absent(snapshot: Path) -> set[str]:
    """Files that some library asked the Hub for, and that the repository does not have at this commit."""
    return files_in(snapshot.parents[1] / _ABSENT / snapshot.name)


def damaged(snapshot: Path) -> set[str]:
    """Files of the snapshot that were deleted because they were damaged, and have not been fetched since."""
    return files_in(snapshot.parents[1] / _DAMAGED / snapshot.name)


def _read(path: Path) -> dict[str, Any]:
    """A small JSON object, {} where there is none: notes are a help, never a reason to fail."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# ------------------------------------------------------------------------------------------------------ are they whole


def promised(path: Path, file: str) -> str:
    """The digest under which the cache knows a file: sha256 of a large one, git's sha1 of others; "" where it has none.

    In the cache a file is a link to a blob that is named by its ETag; without links the client's list of files may say it.
    """
    name = Path(os.readlink(path)).name if path.is_symlink() else ""
    if _DIGEST.fullmatch(name):
        return name
    snapshot = _snapshot_of(path)
    tree = _read(snapshot.parents[1] / _TREES / f"{snapshot.name}.json").get("files") if snapshot else None
    entry = tree.get(file) if isinstance(tree, dict) else None
    name = str(entry.get("lfs_sha256") or entry.get("blob_id")) if isinstance(entry, dict) else ""
    return name if _DIGEST.fullmatch(name) else ""


def check_digest(what: str, path: Path, file: str, digest: str) -> None:
    """Reads a file against its digest; the client compares lengths only.

    Raises:
        DamagedDownloadError: its bytes are others; the copy is deleted, and a note says why.
    """
    facts, snapshot = path.stat(), _snapshot_of(path)
    cache = snapshot.parents[1] if snapshot else path.parent
    note, seen = cache / _CHECKED / digest, f"{facts.st_size} {facts.st_mtime_ns}"
    if facts.st_size >= _LARGE and note.is_file() and note.read_text(encoding="utf-8") == seen:
        return
    found = _digest(path, digest)
    if found == digest:
        with contextlib.suppress(OSError):  # a cache that may only be read: checked again next time
            if snapshot:
                (cache / _DAMAGED / snapshot.name / file).unlink(missing_ok=True)
            if facts.st_size >= _LARGE:
                write_whole(note, seen)
        return
    said = (
        f"{what}: its bytes have the digest {found}, the Hub promises {digest}; the copy is deleted, call again where the Hub "
        "is in reach. If it happens again, a proxy, the disk or the repository is at fault"
    )
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    with contextlib.suppress(OSError):
        if snapshot:
            write_whole(cache / _DAMAGED / snapshot.name / file, said)
    with contextlib.suppress(OSError):
        for wrong in (path.resolve(), blob, path):  # a blob may itself be a link, into a store shared by repositories
            wrong.unlink(missing_ok=True)
    raise DamagedDownloadError(said)


def damage(repo: str, commit: str | None, file: str) -> str:
    """Why a file of a repository is no longer in the cache, in the words in which its damage was reported; else ""."""
    from huggingface_hub import constants

    note = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / _DAMAGED / (commit or "main") / file
    try:
        return note.read_text(encoding="utf-8")
    except OSError:
        return ""


def _snapshot_of(path: Path) -> Path | None:
    """The folder snapshots/<commit> that a file of the cache lies in."""
    return next((folder for folder in path.parents if folder.parent.name == "snapshots"), None)


def _digest(path: Path, like: str) -> str:
    """sha256 of a file, or git's sha1 where `like` has 40 digits."""
    with path.open("rb") as content:
        if len(like) == 64:
            return hashlib.file_digest(content, "sha256").hexdigest()
        state = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
        while piece := content.read(1 << 20):
            state.update(piece)
        return state.hexdigest()


def write_whole(path: Path, text: str) -> None:
    """A small file, whole or not at all: others may read it at this moment, or the disk be full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, durable=False) as temporary:
        temporary.write_text(text, encoding="utf-8")
