"""Folders that others may have made: what lies below one is read, written and removed without following a link anywhere.

A folder that the user names may be a link, that is his own choice; only what lies below it counts. Every step goes by
descriptors from folder to entry, so that what is checked is what is opened; where the system has no such calls (Windows), each
name is looked at before it is used. Files of huggingface_hub's cache are links by design: see `zoo.formats.checks.folder.check_folder`.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, Self

from zoo.errors import UnsafeFolderError

# Bytes of a small file that says what others are: a manifest, the facts of an index. The largest known has 200,000.
SMALL = 16 * 2**20
# Folders within folders; nothing of the zoo has more than six.
DEEPEST = 32
# What files are called while they are written, now and by earlier versions.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
LEFTOVER = re.compile(r"\.tmp-([0-9a-f]{16}|\d+-.+)\.part")

_BY_DESCRIPTOR = {os.stat, os.mkdir, os.unlink} <= os.supports_dir_fd
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_PLAIN = _NO_LINK | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# A folder on the way need not be readable, only passable.
_ON_THE_WAY = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "FIFO (a pipe)",
    stat.S_IFSOCK: "socket",
}
_OPEN_FILES = "/proc/self/fd"
_HAS_OPEN_FILES = os.path.exists(_OPEN_FILES)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that the user named, or something below it; whether it is there is another question.

    Attributes:
        root: the folder, as it was named. inside: the names on the way from there.

    Raises:
        UnsafeFolderError: by every method, where an entry on the way, or the place itself, is a link, or a FIFO, socket or
            device; it says which, and what to do.
    """

    root: Path
    inside: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: "Path | str | Place") -> Self:
        """The place of a folder that the user names."""
        return folder if isinstance(folder, Place) else cls(Path(folder))

    def __truediv__(self, names: str) -> "Place":
        """The place of a name, or of "some/names", below; raises UnsafeFolderError for names that lead out."""
        if _PLAIN_NAME.fullmatch(names):  # nearly all are
            return Place(self.root, (*self.inside, names))
        for flavour in (PurePosixPath, type(PurePath())):
            way = flavour(names)
            if way.is_absolute() or way.drive or ".." in way.parts or not way.parts or "\0" in names:
                raise UnsafeFolderError(f"{names!r} is no name of something in {self}: it leads out of it")
        return Place(self.root, self.inside + way.parts)

    @property
    def path(self) -> Path:
        """The whole path, for messages, and for libraries that open files themselves, after `check_tree`."""
        return self.root.joinpath(*self.inside)

    @property
    def name(self) -> str:
        """The last name."""
        return self.inside[-1] if self.inside else self.root.name

    @property
    def stem(self) -> str:
        """The last name without its ending."""
        return os.path.splitext(self.name)[0]

    @property
    def parent(self) -> "Place":
        """The folder that it lies in; above the folder that was named nobody asks for links."""
        return Place(self.root, self.inside[:-1]) if self.inside else Place(self.root.absolute().parent)

    def __str__(self) -> str:
        return os.path.join(self.root, *self.inside)

    # -- what is there

    def status(self) -> os.stat_result | None:
        """What the system says of it, None where nothing is there; follows no link, and refuses none at the end."""
        try:
            if not self.inside:
                return os.stat(self.root)
            with self._folder() as folder:
                return folder.status(self.inside[-1])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def kind(self) -> str | None:
        """ "file", "folder", "link", …, or None."""
        status = self.status()
        return None if status is None else _kind(status)

    def is_folder(self) -> bool:
        """Whether it is a folder; False where there is nothing."""
        return self._is("folder")

    def is_file(self) -> bool:
        """Whether it is a regular file; False where there is nothing."""
        return self._is("file")

    def _is(self, wanted: str) -> bool:
        status = self.status()
        if status is not None and _kind(status) not in ("file", "folder"):
            raise self._strange(status)
        return status is not None and _kind(status) == wanted

    def names(self) -> list[str]:
        """What is in a folder, in no order; raises OSError where there is none."""
        with self._opened() as folder:
            return folder.names()

    def kinds(self) -> list[tuple[str, str]]:
        """The same, with what each is: "file", "folder", "link", …"""
        with self._opened() as folder:
            return [(name, _kind(status)) for name, status in folder.entries()]

    def check_tree(self) -> None:
        """Looks at everything below a folder, for a library that opens files by their names; nothing there is well."""
        if self.inside and not self.is_folder():
            return
        waiting = [self]
        while waiting:
            place = waiting.pop()
            if len(place.inside) - len(self.inside) > DEEPEST:
                raise UnsafeFolderError(
                    f"{place} lies {DEEPEST} folders deep in {self}; nothing of the zoo does. Remove it"
                )
            with contextlib.suppress(FileNotFoundError), place._opened() as folder:
                for name, status in folder.entries():
                    if _kind(status) == "folder":
                        waiting.append(Place(place.root, (*place.inside, name)))
                    elif _kind(status) != "file":
                        raise Place(place.root, (*place.inside, name))._strange(status)

    # -- reading

    def open(self, most: int | None = None) -> BinaryIO:
        """A regular file, to be read.

        Args:
            most: bytes that such a file has at most.

        Raises:
            OSError: it is not there, or cannot be read. UnsafeFolderError: also where it is larger.
        """
        descriptor = self.descriptor(os.O_RDONLY)
        if most is not None and (size := os.fstat(descriptor).st_size) > most:
            os.close(descriptor)
            raise self._too_large(size, most)
        return open(descriptor, "rb")

    def read(self, most: int = SMALL) -> bytes:
        """All bytes of a file that has at most so many; raises as `open`."""
        with self.open(most) as file:
            data = file.read(most + 1)  # it may grow meanwhile
        if len(data) > most:
            raise self._too_large(len(data), most)
        return data

    def read_text(self, most: int = SMALL) -> str:
        """The same as text; raises ValueError where it is no UTF-8."""
        return self.read(most).decode("utf-8")

    def read_json(self, most: int = SMALL) -> Any:
        """The same as JSON; raises ValueError where it is none."""
        try:
            return json.loads(self.read(most))
        except RecursionError:
            raise ValueError("nested too deeply") from None

    # -- writing

    def make(self) -> None:
        """Makes a folder and those above it, durably; nothing where it is there."""
        if self.is_folder():
            return
        missing = [one for one in (self.root, *self.root.absolute().parents) if not one.exists()]
        self.root.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync(made.parent)
        for depth in range(len(self.inside)):
            one = Place(self.root, self.inside[: depth + 1])
            with one._folder() as folder, contextlib.suppress(FileExistsError):
                folder.make(one.inside[-1])
                folder.sync()
            if not one.is_folder():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(one))

    def write(self, data: Any) -> None:
        """Writes a file that after any crash is either the old one or the new one, whole; other names of the old one keep it.

        Raises:
            OSError: it cannot be written; the old file, if there was one, is untouched.
        """
        with self._folder() as folder, folder.temporary() as (file, temporary):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            folder.replace(temporary, self.inside[-1])
            folder.sync()

    def change(self) -> BinaryIO:
        """A file to be changed where it is, made if there is none. One with other names is copied first: they keep the old one."""
        descriptor = self.descriptor(os.O_RDWR | os.O_CREAT)
        if os.fstat(descriptor).st_nlink == 1:
            return os.fdopen(descriptor, "r+b")
        with os.fdopen(descriptor, "rb") as old, self._folder() as folder, folder.temporary() as (file, temporary):
            shutil.copyfileobj(old, file)
            file.close()
            folder.replace(temporary, self.inside[-1])
        return os.fdopen(self.descriptor(os.O_RDWR), "r+b")

    def remove(self) -> None:
        """Removes a regular file; what is none, or is not there, stays."""
        with contextlib.suppress(FileNotFoundError), self._folder() as folder:
            status = folder.status(self.inside[-1])
            if status is not None and _kind(status) == "file":
                folder.remove(self.inside[-1])

    def remove_empty(self) -> None:
        """Removes a folder in which nothing lies; any other stays."""
        with contextlib.suppress(FileNotFoundError), self._folder() as folder:
            status = folder.status(self.inside[-1])
            if status is not None and _kind(status) == "folder":
                name, at = folder.at(self.inside[-1])
                with contextlib.suppress(OSError):
                    os.rmdir(name, **at)

    def remove_tree(self) -> None:
        """Removes a folder with all that is in it, itself and no target of a link; what is no folder stays.

        For what is provably ours alone; raises OSError where it cannot be removed.
        """
        with contextlib.suppress(FileNotFoundError), self._folder() as folder:
            status = folder.status(self.inside[-1])
            if status is not None and _kind(status) == "folder":
                name, at = folder.at(self.inside[-1])
                shutil.rmtree(name, **at)

    def sync(self) -> None:
        """Makes renames inside a folder durable, where the system can do that."""
        with self._opened() as folder:
            folder.sync()

    # -- the steps

    def _folder(self) -> "_Folder":
        """The folder that it lies in, opened."""
        if not self.inside:
            raise ValueError(f"{self} is what the user named; only what lies below it is written or removed")
        return self._at(len(self.inside) - 1)

    def _opened(self) -> "_Folder":
        """It itself as a folder, opened."""
        return self._at(len(self.inside))

    def _at(self, depth: int) -> "_Folder":
        """The folder that lies so deep on the way, opened; the way is gone step by step, and hundreds of times a second."""
        folder = _Folder.of(self.root)
        for step, name in enumerate(self.inside[:depth]):
            try:
                below = folder.below(name)
            except OSError as error:
                status = folder.status(name)
                place = Place(self.root, self.inside[: step + 1])
                if status is not None and _kind(status) not in ("file", "folder"):
                    raise place._strange(status) from None
                raise _of(error, place.path) from None
            finally:
                folder.close()
            folder = below
        return folder

    def descriptor(self, flags: int) -> int:
        """Of a regular file, opened with these flags of `os`; raises OSError, UnsafeFolderError."""
        with self._folder() as folder:
            name = self.inside[-1]
            # Before it is opened: some devices do something then.
            status = folder.status(name)
            if status is not None and _kind(status) not in ("file", "folder"):
                raise self._strange(status)
            try:
                descriptor = folder.open(name, flags | _PLAIN)
            except OSError as error:
                if (status := folder.status(name)) is not None and _kind(status) not in ("file", "folder"):
                    raise self._strange(status) from None
                raise _of(error, self.path) from None
        status = os.fstat(descriptor)
        if _kind(status) == "file":
            return descriptor
        os.close(descriptor)
        if _kind(status) == "folder":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))
        raise self._strange(status)

    def _strange(self, status: os.stat_result) -> UnsafeFolderError:
        kind = _kind(status)
        if kind == "link":
            with contextlib.suppress(OSError):
                kind = f"link to {os.readlink(self.path)}"
        return UnsafeFolderError(
            f"{self} is a {kind}; in a folder that others may have made none is followed or opened. Put the file or folder "
            "itself in its place, or remove it"
        )

    def _too_large(self, size: int, most: int) -> UnsafeFolderError:
        return UnsafeFolderError(
            f"{self} has {size:,} bytes, and no {self.name} has more than {most:,}: it is damaged, or meant to fill the memory"
        )


@dataclass(slots=True)
class _Folder:
    """An opened folder; without a descriptor, on systems that have no calls for it, its path."""

    path: Path | None
    descriptor: int | None

    @classmethod
    def of(cls, root: Path) -> Self:
        """The folder that the user named, which may be a link."""
        return cls(None, os.open(root, _ON_THE_WAY)) if _BY_DESCRIPTOR else cls(root, None)

    def below(self, name: str) -> "_Folder":
        """A folder in it."""
        where, at = self.at(name)
        if self.descriptor is not None:
            return _Folder(None, os.open(where, _ON_THE_WAY | _NO_LINK, **at))
        if not stat.S_ISDIR(os.lstat(where).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(where))
        return _Folder(where, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)

    def at(self, name: str) -> tuple[str | Path, dict[str, Any]]:
        """What calls of `os` take for an entry."""
        return (self.path / name, {}) if self.descriptor is None else (name, {"dir_fd": self.descriptor})

    def status(self, name: str) -> os.stat_result | None:
        where, at = self.at(name)
        try:
            return os.stat(where, follow_symlinks=False, **at)
        except FileNotFoundError:
            return None

    def open(self, name: str, flags: int) -> int:
        where, at = self.at(name)
        return os.open(where, flags, 0o666, **at)

    def make(self, name: str) -> None:
        where, at = self.at(name)
        os.mkdir(where, **at)

    def remove(self, name: str) -> None:
        where, at = self.at(name)
        os.unlink(where, **at)

    def replace(self, old: str, new: str) -> None:
        if self.descriptor is None:
            os.replace(self.path / old, self.path / new)
        else:
            os.replace(old, new, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    @contextlib.contextmanager
    def temporary(self) -> Iterator[tuple[BinaryIO, str]]:
        """A new file under a name that nobody can guess; removed where it has kept it."""
        name = f".tmp-{secrets.token_hex(8)}.part"
        try:
            with os.fdopen(self.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _PLAIN), "r+b") as file:
                yield file, name
        except BaseException:
            with contextlib.suppress(OSError):
                self.remove(name)
            raise

    @contextlib.contextmanager
    def readable(self) -> Iterator[int]:
        """A descriptor to list it or to make it durable by."""
        descriptor = os.open(".", os.O_RDONLY | getattr(os, "O_DIRECTORY", 0), dir_fd=self.descriptor)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def names(self) -> list[str]:
        """What is in it."""
        if self.descriptor is None:
            return os.listdir(self.path)
        with self.readable() as descriptor:
            return os.listdir(descriptor)

    def entries(self) -> list[tuple[str, os.stat_result]]:
        """The same, with what the system says of each."""
        return [(name, status) for name in self.names() if (status := self.status(name)) is not None]

    def sync(self) -> None:
        if self.descriptor is not None:
            with self.readable() as descriptor:
                os.fsync(descriptor)


def remove_leftovers(folder: Place) -> None:
    """Removes what a killed writer left half written; files that are only called so stay."""
    for name in folder.names():
        if LEFTOVER.fullmatch(name):
            (folder / name).remove()


def name_of(file: BinaryIO, place: Place) -> str:
    """A path by which a library opens the very file that is open already; where the system has none, its own."""
    return f"{_OPEN_FILES}/{file.fileno()}" if _HAS_OPEN_FILES else str(place)


def sync(path: Path) -> None:
    """Makes a file, or the renames inside a folder, durable, where the system can do that."""
    if os.name == "posix" or not path.is_dir():
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "device")


def _of(error: OSError, path: Path) -> OSError:
    """The same error with the whole path."""
    return type(error)(error.errno, error.strerror, str(path))
