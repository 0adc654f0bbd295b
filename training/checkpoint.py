"""Checkpoints that are whole or not there: written beside, synced, marked with sizes and hashes, then renamed.

Tensors lie in a safetensors file and everything else in JSON: opening a checkpoint runs no code.
"""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.errors import ZooError
from zoo.files import save_tensors

DONE, TENSORS, STATE = "DONE", "state.safetensors", "state.json"


class DamagedCheckpointError(ZooError):
    """A run's folder holds checkpoints, none of which is whole."""


class DiskFullError(ZooError):
    """A checkpoint could not be written for want of space; those before it are as they were."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int | None = 2) -> Path:
    """Writes `folder/step-<step>`; a run killed in between leaves at most a folder that is never read.

    Args:
        keep: how many of the newest stay; None for all.
        state: tensors, numbers, strings and None, in dictionaries, lists and tuples of any depth.

    Raises:
        DiskFullError: there is no room; what was written is removed again, and the newest whole checkpoint stays.
    """
    target, temporary = folder / f"step-{step:08d}", folder / f".writing-{step:08d}"
    try:
        _write(temporary, state)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not _is_full(error):
            raise
        free = shutil.disk_usage(folder).free
        before = max(folder.glob("step-*"), default=None)
        kept = f"{before.name} is whole" if before is not None else "there is none before it"
        raise DiskFullError(
            f"no room for a checkpoint in {folder} ({free:,} bytes free): {error}; {kept}. Make room and go on with --resume"
        ) from error
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    _sync(folder)
    if keep is not None:
        keep_newest(folder, keep)
    return target


def keep_newest(folder: Path, count: int) -> None:
    """Deletes all checkpoints but the newest, and what a killed run left half-written."""
    if not folder.is_dir():
        return
    for old in [*sorted(folder.glob("step-*"), reverse=True)[count:], *folder.glob(".writing-*")]:
        shutil.rmtree(old)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, by its name."""
    return int(checkpoint.name.removeprefix("step-"))


def _write(temporary: Path, state: dict[str, Any]) -> None:
    """All files of a checkpoint, synced, DONE last."""
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    plain = _split(state, tensors)
    save_tensors(tensors, temporary / TENSORS)
    (temporary / STATE).write_text(json.dumps(plain), encoding="utf-8")
    names = (TENSORS, STATE)
    facts = {n: {"bytes": (temporary / n).stat().st_size, "sha256": _sha256(temporary / n)} for n in names}
    (temporary / DONE).write_text(json.dumps(facts), encoding="utf-8")
    for name in (*names, DONE):
        _sync(temporary / name)
    _sync(temporary)


def _is_full(error: Exception) -> bool:
    # safetensors' own errors carry the system's number in their words only.
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return getattr(error, "errno", None) in numbers or any(f"os error {number})" in str(error) for number in numbers)


def write_json(path: Path, value: Any) -> None:
    """A JSON file, whole or not there."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _sync(temporary)
    temporary.replace(path)


def is_whole(checkpoint: Path) -> bool:
    """Whether every file is there with the size and hash that DONE states."""
    try:
        facts = json.loads((checkpoint / DONE).read_text(encoding="utf-8"))
        return all(
            (checkpoint / name).stat().st_size == fact["bytes"] and _sha256(checkpoint / name) == fact["sha256"]
            for name, fact in facts.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def last_checkpoint(folder: Path) -> dict[str, Any] | None:
    """State of the newest whole checkpoint, None where none was ever written.

    Raises:
        DamagedCheckpointError: there are checkpoints, and every one is damaged.
    """
    found = sorted(folder.glob("step-*"), reverse=True)
    for checkpoint in found:
        if is_whole(checkpoint):
            plain = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
            return _join(plain, load_file(checkpoint / TENSORS))
    if found:
        names = ", ".join(path.name for path in found)
        raise DamagedCheckpointError(f"{folder}: {names} are cut off or changed; start again in another folder")
    return None


def _split(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON in which tensors are numbers of the safetensors file; keys of dictionaries keep their type."""
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value.detach().cpu().contiguous().clone()
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, dict):
        return {"dict": [[key, _split(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_split(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _join(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Reads what `_split` made."""
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind == "tensor":
        return tensors[inside]
    if kind == "dict":
        return {key: _join(item, tensors) for key, item in inside}
    items = [_join(item, tensors) for item in inside]
    return tuple(items) if kind == "tuple" else items


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
