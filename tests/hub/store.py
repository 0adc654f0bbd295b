"""What the loopback hub serves: repositories, their commits and the files in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LFS_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".npz", ".onnx", ".parquet"})


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


@dataclass(frozen=True)
class Commit:
    """A snapshot of a repository; its id follows from its files and parent alone, so every run gives the same."""

    files: Mapping[str, Blob]
    parent: str = ""

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
    """One repository of a model or a data set: its history, and the names of some of its commits."""

    id: str
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, Blob], *, tag: str | None = None) -> Commit:
        """Put `files` on top of branch main as a whole new snapshot, and name it `tag` too if one is given."""
        commit = Commit(dict(files), parent=self.refs.get("main", ""))
        self.commits[commit.oid] = commit
        self.refs["main"] = commit.oid
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

    def info(self, commit: Commit) -> dict[str, object]:
        """The JSON of `GET /api/models/{id}` and `GET /api/datasets/{id}`."""
        id = self.id.removeprefix("datasets/")
        return {
            "_id": hashlib.sha1(self.id.encode()).hexdigest()[:24],
            "id": id,
            "modelId": id,
            "author": id.partition("/")[0],
            "sha": commit.oid,
            "private": False,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }


def read_folder(folder: Path) -> dict[str, Blob]:
    """Every file below `folder` (names that start with a dot left out), keyed by its path inside the repository."""
    files = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            files[inside.as_posix()] = Blob(path.read_bytes(), lfs=path.suffix in LFS_SUFFIXES)
    return files
