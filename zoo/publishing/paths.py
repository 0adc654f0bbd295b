"""What goes out names no folder of this machine, and holds no file from outside of its own."""

import re
from pathlib import Path
from typing import Any

from zoo.formats.checks.inside import check_inside

# A path that begins a word: neither the slashes of an address nor those of hf:org/name.
_PATH = re.compile(r"(?<![^\s\"'=,(\[])(?:~|\.{1,2})?/[^\s\"']*/(?=[^\s\"'/])")


def without_paths(value: Any) -> Any:
    """JSON with the folders taken off every path in its strings: what is published names no folder of this machine."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return _PATH.sub("", value) if isinstance(value, str) else value


def files_inside(folder: Path) -> dict[str, Path]:
    """Every file of a folder by its name in the repository; raises UnsafeCheckpointError for a link that leads out."""
    inside, found = folder.resolve(), {}
    for entry in sorted(folder.rglob("*")):
        if entry.is_symlink():
            check_inside(entry, inside)  # else a file of the user's would be published without a word
        if entry.is_file():
            found[entry.relative_to(folder).as_posix()] = entry
    return found
