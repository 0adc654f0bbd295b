"""The Hub's client: which files a repository has at a commit, and some of them in the local cache, once their bytes are known."""

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import (
    DamagedDownloadError,
    HubError,
    HubUnreachableError,
    NotOnHubError,
    PartlyCachedError,
    UnsafeCheckpointError,
)
from zoo.hub.cache import absent, check_digest, damage, damaged, files_in, listed, note_files, promised, write_whole
from zoo.hub.calls import hub_call

COMMIT = re.compile(r"[0-9a-f]{40}")
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Of a snapshot that nobody listed: its folder, the names of its files, and of those that the repository is known not to
# have → the files that it may lack.
Missing = Callable[[Path, set[str], set[str]], list[str]]


@dataclass(frozen=True)
class Listing:
    """The files of a Hub repository at one commit.

    Attributes:
        repo: org/name. revision: the branch or tag that was asked for, None for the newest commit.
        commit: 40 digits. names: of all its files, not of those in the cache.
        asked: whether the Hub has just said so; else a note in the cache did.
    """

    repo: str
    revision: str | None
    commit: str
    names: frozenset[str]
    asked: bool


def repository_files(repo: str, revision: str | None, missing: Missing) -> Listing:
    """Commit and files of a repository; without a network, of the newest cached snapshot, if that is known to be whole.

    Args:
        missing: tells of a snapshot that nobody listed what it may lack (see `Missing`).

    Raises:
        HubError: it does not exist, or is neither in reach nor cached; PartlyCachedError where a part of it may be.
        UnsafeCheckpointError: the Hub lists a file outside the repository.
    """
    from huggingface_hub import HfApi, snapshot_download

    what = f"hf:{repo}" + (f"@{revision}" if revision else "")
    try:
        info = hub_call(what, HfApi().model_info, repo, revision=revision)
        commit, names, asked = info.sha, {sibling.rfilename for sibling in info.siblings or []}, True
    except NotOnHubError:
        raise
    except HubError as error:
        options = {"revision": revision, "local_files_only": True, "allow_patterns": []}  # its folder, whole or not
        try:
            folder = Path(hub_call(what, snapshot_download, repo, **options))
        except HubError:
            raise error from error.__cause__
        commit, names, asked = folder.name, _cached_files(repo, folder, missing, error), False
    check_listing(what, names, commit)
    return Listing(repo, revision, commit, frozenset(names), asked)


def check_listing(what: str, names: Iterable[str], commit: str | None) -> None:
    """Raises UnsafeCheckpointError where a listing of the Hub has a file outside the repository, or a commit that is none."""
    outside = sorted(name for name in names if not _inside(name))
    if outside or not COMMIT.fullmatch(commit or ""):
        raise UnsafeCheckpointError(
            f"{what}: the Hub lists {outside[0]!r}, a file outside the repository; do not load it"
            if outside
            else f"{what}: the Hub names the commit {commit!r}, which is none; check HF_ENDPOINT"
        )


def _cached_files(repo: str, snapshot: Path, missing: Missing, error: HubError) -> set[str]:
    """Names of all files of a cached repository, by the notes beside its snapshot, or by what `missing` makes of its files.

    Raises:
        PartlyCachedError: neither says that the snapshot is whole. DamagedDownloadError: files of it were deleted as damaged.
    """
    names = listed(snapshot)
    if names is not None:
        return names
    names = files_in(snapshot)
    if broken := sorted(damaged(snapshot) - names):
        raise DamagedDownloadError(damage(repo, snapshot.name, broken[0])) from error
    if lacking := missing(snapshot, names, absent(snapshot)):
        there = ", ".join(sorted(names)[:6]) or "nothing"
        said = "may have, for another program put them there and nobody listed the repository"
        raise PartlyCachedError(
            f"hf:{repo}: the cache holds {there}; it lacks {', '.join(lacking[:4])}, which the repository has, or {said}. A part of "
            "it would give other vectors: load it once where the Hub is in reach (check the network and HF_HUB_OFFLINE), or "
            f"fetch it whole: hf download {repo}. Now: {error}"
        ) from error
    return names


def _inside(name: str) -> bool:
    parts = re.split(r"[\\/]", name)
    return bool(parts[0]) and ".." not in parts and "\0" not in name and not re.match(r"[A-Za-z]:", name)


def download(repo: str, file: str, revision: str | None) -> str:
    """One file of a repository, in the local cache, once its bytes are known to be those that the Hub promises.

    Raises:
        DamagedDownloadError: they are others; the copy is deleted. Out of reach of the Hub every later call says so too.
        HubError: the file is not to be had.
    """
    from huggingface_hub import hf_hub_download

    what = f"hf:{repo}/{file}"
    try:
        path = hub_call(what, hf_hub_download, repo, file, revision=revision)
    except HubUnreachableError as error:
        if said := damage(repo, revision, file):
            raise DamagedDownloadError(said) from error
        raise
    digest = promised(Path(path), file) or _promised(repo, file, revision)
    if digest:
        hub_call(what, check_digest, what, Path(path), file, digest)
    return path


def _promised(repo: str, file: str, revision: str | None) -> str:
    """The digest in the repository's own list, for a cache without links; "" where the Hub is out of reach."""
    from huggingface_hub import HfApi

    try:
        entries = hub_call(f"hf:{repo}", HfApi().get_paths_info, repo, [file], revision=revision)
    except HubError:
        return ""
    return next((entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in entries if entry.path == file), "")


def download_files(listing: Listing, files: list[str]) -> Path:
    """Some files of a repository; returns the snapshot's folder in the local cache.

    The branch or tag that was asked for, and which files the repository has, are noted there, so that it is found again and
    a part of it is known as such without a network.
    """
    paths = [Path(download(listing.repo, file, listing.commit)) for file in files]
    snapshot = paths[0].parents[len(Path(files[0]).parts) - 1]
    name = listing.revision or "main"
    if not COMMIT.fullmatch(name) and ".." not in Path(name).parts:
        # Where huggingface_hub's own look-up reads it: <cache>/models--org--name/refs/<revision>.
        with contextlib.suppress(OSError):
            write_whole(snapshot.parents[1] / "refs" / name, listing.commit)
    if listing.asked:
        note_files(snapshot, listing.names)
    return snapshot
