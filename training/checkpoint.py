"""Checkpoints that are whole or not there: written beside, synced, marked with sizes and hashes, then renamed.

Tensors lie in a safetensors file and everything else in JSON: opening a checkpoint runs no code. Only the files of a
checkpoint are read or removed in its folder, whatever DONE names and whatever else lies there.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from zoo.errors import DiskFullError
from zoo.files import is_full, save_tensors
from zoo.formats.tensors import read_safetensors
from zoo.strangers.folders import Place, sync

from .errors import DamagedRunError

DONE, TENSORS, STATE = "DONE", "state.safetensors", "state.json"
PAIRS = "pairs.json"  # beside the batch of `save_bad_batch`
_NAME = re.compile(r"step-\d{8,15}")
_WRITING = re.compile(r"\.writing-\d{8,15}")
_LARGEST_STATE = 2**26  # bytes; a name and a number for each of a hundred thousand tensors


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
        remove_checkpoint(temporary)
        if not is_full(error):
            raise
        free = shutil.disk_usage(folder).free
        before = checkpoints_in(folder)
        kept = f"{before[-1].name} is whole" if before else "there is none before it"
        raise DiskFullError(
            f"no room for a checkpoint in {folder} ({free:,} bytes free): {error}; {kept}. Make room and go on with --resume"
        ) from error
    remove_checkpoint(target)
    # Renamed when whole and synced: whatever is called step-… was finished.
    temporary.rename(target)
    sync(folder)
    if keep is not None:
        keep_newest(folder, keep)
    return target


def checkpoints_in(folder: Path) -> list[Path]:
    """The folders there that are called like a checkpoint, oldest first."""
    return sorted((path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)), key=step_of)


def keep_newest(folder: Path, count: int) -> None:
    """Deletes all checkpoints but the newest, and what a killed run left half-written; with count 0 the folder, once empty."""
    unfinished = [path for path in folder.glob(".writing-*") if _WRITING.fullmatch(path.name)]
    for old in [*checkpoints_in(folder)[: -count or None], *unfinished]:
        remove_checkpoint(old)
    if not count:
        (Place.of(folder.parent) / folder.name).remove_empty()


def remove_checkpoint(checkpoint: Path) -> None:
    """Removes the files of a checkpoint, and its folder where nothing else lies in it."""
    place = Place.of(checkpoint.parent) / checkpoint.name
    for name in (DONE, STATE, TENSORS, PAIRS):
        (place / name).remove()
    place.remove_empty()


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, by its name."""
    return int(checkpoint.name.removeprefix("step-"))


def _write(temporary: Path, state: dict[str, Any]) -> None:
    """All files of a checkpoint, synced, DONE last."""
    remove_checkpoint(temporary)
    temporary.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    plain = _split(state, tensors)
    save_tensors(tensors, temporary / TENSORS)
    (temporary / STATE).write_text(json.dumps(plain), encoding="utf-8")
    names = (TENSORS, STATE)
    facts = {n: {"bytes": (temporary / n).stat().st_size, "sha256": _sha256(temporary / n)} for n in names}
    # Last: a folder with DONE has all that DONE names.
    (temporary / DONE).write_text(json.dumps(facts), encoding="utf-8")
    for name in (*names, DONE):
        sync(temporary / name)
    sync(temporary)


def is_whole(checkpoint: Path) -> bool:
    """Whether every file is there with the size and hash that DONE states."""
    place = Place.of(checkpoint.parent) / checkpoint.name
    try:
        facts = (place / DONE).read_json(_LARGEST_STATE)
        return all(_is_as_stated(place / name, facts[name]) for name in (STATE, TENSORS))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_as_stated(place: Place, fact: dict[str, Any]) -> bool:
    with place.open() as file:
        if os.fstat(file.fileno()).st_size != fact["bytes"]:
            return False
        return hashlib.file_digest(file, "sha256").hexdigest() == fact["sha256"]


def last_checkpoint(folder: Path, most: int | None = None) -> dict[str, Any] | None:
    """State of the newest whole checkpoint, None where none was ever written.

    Args:
        most: bytes that its tensors may have; None for any number.

    Raises:
        DamagedRunError: there are checkpoints, and every one is damaged; or the newest is none of such a run.
    """
    found = checkpoints_in(folder)
    for checkpoint in reversed(found):
        tensors = (Place.of(checkpoint.parent) / checkpoint.name / TENSORS).status()
        if most is not None and tensors is not None and tensors.st_size > most:
            raise DamagedRunError(
                f"{checkpoint / TENSORS} has {tensors.st_size:,} bytes, and a checkpoint of this run has {most:,} at most: it "
                "is of another model, or meant to fill the memory; start again in another folder"
            )
        if is_whole(checkpoint):
            return _read(checkpoint)
    if found:
        names = ", ".join(path.name for path in reversed(found))
        raise DamagedRunError(f"{folder}: {names} are cut off or changed; start again in another folder")
    return None


def _read(checkpoint: Path) -> dict[str, Any]:
    """The state in a whole checkpoint."""
    try:
        plain = (Place.of(checkpoint.parent) / checkpoint.name / STATE).read_json(_LARGEST_STATE)
        state = _join(plain, read_safetensors(checkpoint / TENSORS))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedRunError(
            f"{checkpoint} holds what no run writes ({error!r:.200}); start again in another folder"
        ) from error
    if not isinstance(state, dict):
        raise DamagedRunError(f"{checkpoint / STATE} holds no state of a run; start again in another folder")
    return state


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
