"""What the loopback hub keeps: repositories with their branches, tags and pull requests, commits, and files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LFS_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".npz", ".onnx", ".parquet"})
LFS_SIZE = 10_000_000  # bytes; what is larger is stored as a large file whatever its name
ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LFS_SUFFIXES)).encode()


@dataclass(frozen=True)
class Blob:
    """One file of a commit: bytes, and the names under which git and git-lfs know them."""

    content: bytes
    lfs: bool = False

    @property
    def size(self) -> int:
        return len(self.content)

    @cached_property
    def git_sha1(self) -> str:
        return hashlib.sha1(b"blob %d\0" % self.size + self.content).hexdigest()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_sha1

    def entry(self, path: str) -> dict[str, object]:
        """The JSON that tree listings and paths-info give for this file."""
        entry: dict[str, object] = {"type": "file", "path": path, "size": self.size, "oid": self.git_sha1}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 134}
        return entry

    def sibling(self, path: str) -> dict[str, object]:
        """The JSON of this file in a repository's facts, as `?blobs=true` asks for it."""
        lfs = {"sha256": self.sha256, "size": self.size, "pointerSize": 134}
        return {"rfilename": path, "size": self.size, "blobId": self.git_sha1, **({"lfs": lfs} if self.lfs else {})}


@dataclass(frozen=True)
class Commit:
    """A snapshot of a repository; its id follows from its files and parent alone, so every run gives the same."""

    files: Mapping[str, Blob]
    parent: str = ""
    title: str = ""

    @cached_property
    def oid(self) -> str:
        lines = [self.parent, *(f"{path} {self.files[path].git_sha1}" for path in sorted(self.files))]
        return hashlib.sha1("\n".join(lines).encode()).hexdigest()

    def listing(self, under: str = "", recursive: bool = True) -> list[dict[str, object]]:
        """Entries of the files (and, when not recursive, of the folders) below `under`."""
        prefix = f"{under.strip('/')}/" if under.strip("/") else ""
        entries: dict[str, dict[str, object]] = {}
        for path in sorted(self.files):
            if not path.startswith(prefix):
                continue
            folder, _, rest = path[len(prefix) :].partition("/")
            if rest and not recursive:
                entries[folder] = {"type": "directory", "path": prefix + folder, "size": 0, "oid": self.oid}
            else:
                entries[path] = self.files[path].entry(path)
        return list(entries.values())


@dataclass
class Repo:
    """One repository: its history, the names of some of its commits, and who may see it.

    Attributes:
        id: "org/name" for a model, "datasets/org/name" and "spaces/org/name" for the other kinds.
        gated: only users in `readers` may fetch files; everybody sees the file names.
        private: only its owner's people know that it exists.
        refs: branch, tag or "refs/pr/<number>" → commit id.
        lfs: sha256 → bytes of the large files that were sent, committed or not.
    """

    id: str
    gated: bool = False
    private: bool = False
    sdk: str = ""
    readers: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    branches: set[str] = field(default_factory=lambda: {"main"})
    lfs: dict[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """org/name, without the kind in front."""
        return self.id.removeprefix("datasets/").removeprefix("spaces/")

    @property
    def owner(self) -> str:
        return self.name.partition("/")[0]

    @property
    def head(self) -> Commit:
        """The newest commit of branch main."""
        return self.commits[self.refs["main"]]

    @property
    def files(self) -> dict[str, bytes]:
        """Path → bytes on branch main."""
        return {path: blob.content for path, blob in self.head.files.items()}

    def commit(
        self, files: Mapping[str, Blob], *, tag: str | None = None, ref: str = "main", title: str = ""
    ) -> Commit:
        """Put `files` on top of a branch as a whole new snapshot, and name it `tag` too if one is given."""
        commit = Commit(dict(files), parent=self.refs.get(ref, ""), title=title)
        self.commits[commit.oid] = commit
        self.refs[ref] = commit.oid
        self.lfs |= {blob.sha256: blob.content for blob in files.values() if blob.lfs}
        if tag is not None:
            self.refs[tag] = commit.oid
        return commit

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag, a whole commit id or a prefix of at least 7 of its digits names."""
        oid = self.refs.get(revision, revision)
        if oid in self.commits:
            return self.commits[oid]
        near = [commit for key, commit in self.commits.items() if len(oid) >= 7 and key.startswith(oid)]
        return near[0] if len(near) == 1 else None

    def info(self, commit: Commit, blobs: bool = False) -> dict[str, object]:
        """The JSON of `GET /api/models/{id}` and of its two sisters."""
        files = sorted(commit.files)
        return {
            "_id": hashlib.sha1(self.id.encode()).hexdigest()[:24],
            "id": self.name,
            "modelId": self.name,
            "author": self.owner,
            "sha": commit.oid,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            **({"sdk": self.sdk} if self.sdk else {}),
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [commit.files[path].sibling(path) if blobs else {"rfilename": path} for path in files],
        }


def as_blob(path: str, content: bytes) -> Blob:
    """A file as the hub stores it: large or binary ones by git-lfs, empty ones never."""
    lfs = Path(path).suffix in LFS_SUFFIXES or len(content) > LFS_SIZE
    return Blob(content, lfs=lfs and len(content) > 0)


def read_folder(folder: Path) -> dict[str, Blob]:
    """Every file below `folder` (names that start with a dot left out), keyed by its path inside the repository."""
    files = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            files[inside.as_posix()] = as_blob(path.name, path.read_bytes())
    return files
