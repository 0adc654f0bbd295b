"""Checkpoints that are whole or not there: written beside, synced, marked with sizes and hashes, then renamed."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from zoo.errors import ZooError

DONE, STATE = "DONE", "state.pt"
_KEEP = 2


class DamagedCheckpointError(ZooError):
    """A run's folder holds checkpoints, none of which is whole."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes `folder/step-<step>`; a run killed in between leaves at most a folder that is never read.

    The newest two are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, temporary = folder / f"step-{step:08d}", folder / f".writing-{step:08d}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    with (temporary / STATE).open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    facts = {STATE: {"bytes": (temporary / STATE).stat().st_size, "sha256": _sha256(temporary / STATE)}}
    with (temporary / DONE).open("w", encoding="utf-8") as file:
        json.dump(facts, file)
        file.flush()
        os.fsync(file.fileno())
    _sync(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    _sync(folder)
    for old in sorted(folder.glob("step-*"))[:-_KEEP]:
        shutil.rmtree(old)
    return target


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
            return torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    if found:
        names = ", ".join(path.name for path in found)
        raise DamagedCheckpointError(f"{folder}: {names} are cut off or changed; start again in another folder")
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
