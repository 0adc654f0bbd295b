"""Files and folders that are there whole or not at all, with the mode that any new one gets: what the umask leaves.

`write` and `write_json` for what is in memory, `writing` for what a library writes by a path, `writing_folder` for several files
at once. What lies below a folder that others may have made is written by `zoo.strangers.folders.Place`, as `write` does too.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.strangers.folders import Place, sync

if TYPE_CHECKING:
    from torch import Tensor


def write(path: Path, data: bytes | str) -> None:
    """Writes a file that after any crash is either the old one or the new one.

    Raises:
        OSError: it cannot be written; the old file, if there was one, is untouched.
    """
    (Place.of(path.parent) / path.name).write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """The same of a JSON file as people read it."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def writing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """An empty file beside, which takes the place of this one when all is written; where something fails it is gone.

    Args:
        durable: wait for the disk, so that a crash of the machine leaves no half file; without it only other readers see none.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        share(temporary)
        if durable:
            sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside, which becomes this one, new or empty, when all is written; where something fails it is gone.

    Raises:
        OSError: somebody has put something there in the meantime, which stays as it is.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield draft
        share(draft)
        if not folder.exists():
            draft.rename(folder)
        elif any(folder.iterdir()):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder))
        else:  # perhaps a mount point, which no rename replaces
            for path in sorted(draft.iterdir()):
                shutil.move(path, folder / path.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def share(*paths: Path) -> None:
    """Gives files and folders the mode of new ones; safetensors and `tempfile` make theirs for the owner alone."""
    modes: dict[Path, int] = {}
    for path in paths:
        if path.parent not in modes:
            modes[path.parent] = _mode_of_new(path.parent)
        mode = modes[path.parent]
        # Who may read a folder may enter it, as `mkdir` has it.
        os.chmod(path, mode | (mode & 0o444) >> 2 if path.is_dir() else mode)


def save_tensors(tensors: "Mapping[str, Tensor]", path: Path, **metadata: str) -> None:
    """A safetensors file, readable for whom the umask lets."""
    from safetensors.torch import save_file

    save_file(dict(tensors), path, metadata={"format": "pt", **metadata})
    share(path)


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room: on the disk, of a quota, or for so large a file."""
    # Errors of libraries in Rust (safetensors, lance) carry the system's number in their words only.
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    said = {int(number) for number in re.findall(r"os error (\d{1,3})\b", str(error))}
    return getattr(error, "errno", None) in numbers or not said.isdisjoint(numbers)


def _mode_of_new(folder: Path) -> int:
    # A file is made to see it: the umask itself can only be read by changing it, which other threads would notice.
    probe = folder / f".mode-{os.getpid()}-{os.urandom(4).hex()}"
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)
        probe.unlink()
