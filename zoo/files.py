"""Files that are written aside and moved into place get the mode that any new file gets: what the umask leaves."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def share(*paths: Path) -> None:
    """Gives files and folders the mode of new ones; safetensors and `tempfile` make theirs for the owner alone."""
    modes: dict[Path, int] = {}
    for path in paths:
        if path.parent not in modes:
            modes[path.parent] = _mode_of_new(path.parent)
        mode = modes[path.parent]
        # Who may read a folder may enter it, as `mkdir` has it.
        os.chmod(path, mode | (mode & 0o444) >> 2 if path.is_dir() else mode)


def save_tensors(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    """A safetensors file, readable for whom the umask lets."""
    from safetensors.torch import save_file

    save_file(dict(tensors), path, metadata={"format": "pt"})
    share(path)


def _mode_of_new(folder: Path) -> int:
    # A file is made to see it: the umask itself can only be read by changing it, which other threads would notice.
    probe = folder / f".mode-{os.getpid()}-{os.urandom(4).hex()}"
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)
        probe.unlink()
