"""Dense layers for several lengths of vectors, a folder each, of which modules.json names the usual one: Stella's `2_Dense_256` to
`2_Dense_8192`.
"""

import re
from pathlib import Path

from zoo.errors import ArgumentError, UnrecognisedCheckpointError
from zoo.formats import read_object
from zoo.formats.checks.folder import check_folder

Modules = list[tuple[str, Path]]
_PLACE = re.compile(r"(.*_)(\d{1,6})")


def with_dim(modules: Modules, dim: int | None, folder: Path) -> Modules:
    """The modules of a folder, the last Dense one that for vectors of this length, where there is one for each of several.

    Args:
        modules: kinds and their folders. dim: None leaves them as modules.json has them.

    Raises:
        ArgumentError: there are several, and none for this length. UnrecognisedCheckpointError: its own settings say another length.
    """
    at = max((i for i, (kind, _) in enumerate(modules) if kind == "Dense"), default=None)
    found = {} if at is None or dim is None else _by_dim(modules[at][1])
    if len(found) < 2:
        return modules
    if dim not in found:
        raise ArgumentError(
            f"dim={dim}: {folder} has a dense layer each for vectors of {', '.join(map(str, sorted(found)))} dimensions; write one of them"
        )
    check_folder(found[dim], root=folder)
    config = found[dim] / "config.json"
    if (said := read_object(config).get("out_features")) != dim:
        raise UnrecognisedCheckpointError(f"{config} gives {said!r} dimensions, and its folder is named for {dim}")
    return [*modules[:at], ("Dense", found[dim]), *modules[at + 1 :]]


def _by_dim(place: Path) -> dict[int, Path]:
    """The folders that are called as this one but for the number at the end, by that number."""
    if (named := _PLACE.fullmatch(place.name)) is None:
        return {}
    beside = (path for path in place.parent.iterdir() if (path / "config.json").is_file())
    others = ((_PLACE.fullmatch(path.name), path) for path in beside)
    return {int(other[2]): path for other, path in others if other is not None and other[1] == named[1]}
