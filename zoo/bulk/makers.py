"""Which model made a folder of vectors, and whether its name may be followed."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import UntrustedFolderError
from zoo.registry import is_registered
from zoo.strangers.made import ADOPT, made_here


def maker_of(folder: Path | str, manifest: Mapping[str, Any], *, ours: bool = False) -> str:
    """What `load_model` takes to open the model that made the vectors of a folder.

    Of a folder that was made here, it is what the manifest says. Of any other it is the name of a registered model, whose files
    are pinned: a path or a repository that a stranger chose is opened when the user names it.

    Args:
        ours: the user says that the folder is his own.

    Raises:
        UntrustedFolderError: it is no such name.
    """
    name = manifest["model"]
    if ours or made_here(folder) or (is_registered(name) and manifest["fingerprint"].get("model") == name):
        return name
    raise UntrustedFolderError(
        f"{folder} was not made here, and its manifest names the model {name!r}, which is no registered one: what others' files name "
        f"is not opened by itself. If you trust that model, name it: --model {shlex.quote(str(name))} (model={name!r}); {ADOPT}"
    )
