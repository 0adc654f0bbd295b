"""Programs that were exported, on disk: whole or not there, found by the weights that they were made of, made anew for other versions."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import nn

from zoo.files import writing_folder
from zoo.strangers.folders import Place
from zoo.strangers.locks import Held, locked

_FACTS = "facts.json"
_WAIT = 60.0  # seconds, for another process that copies its program


def home() -> Path:
    """Where programs are kept: `~/.cache/embedding-zoo/backends`, or below XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "embedding-zoo" / "backends"


def digest_of(encoder: nn.Module) -> str:
    """Tells encoders apart by what they are, and by every weight: two that differ in one value have two programs."""
    digest = hashlib.sha256(f"{type(encoder).__name__} {json.dumps(encoder.config(), sort_keys=True)}".encode())
    # Buffers too, those that are not saved among them: mean and std of pixels, frequencies of rotary positions.
    for name, tensor in sorted([*encoder.named_parameters(), *encoder.named_buffers()]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


@contextmanager
def program_in(place: Path, versions: Mapping[str, str], make: Callable[[Path], None]) -> Iterator[Path]:
    """The folder of a program, made where there is none of these versions.

    Where nothing can be kept, a folder that is there until the program is open.

    Args:
        make: fills an empty folder.
    """
    if _versions_in(place) == dict(versions):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="zoo-backend-") as temporary:
        made = Path(temporary)
        make(made)
        (made / _FACTS).write_text(json.dumps(versions, indent=2), encoding="utf-8")
        yield _kept(made, place, versions)


def drop(place: Path) -> None:
    """Removes a program."""
    shutil.rmtree(place, ignore_errors=True)


def _versions_in(place: Path) -> dict[str, str] | None:
    try:
        return json.loads((place / _FACTS).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _kept(made: Path, place: Path, versions: Mapping[str, str]) -> Path:
    """Where the program is kept; where it was made if the cache cannot be written."""
    with suppress(OSError, Held):
        place.parent.mkdir(parents=True, exist_ok=True)
        # Of two processes that make it at once, the second must not take away what the first has open.
        with locked(Place.of(place.parent) / f"{place.name}.lock", wait=_WAIT):
            if _versions_in(place) != dict(versions):
                drop(place)
                with writing_folder(place) as draft:
                    shutil.copytree(made, draft, dirs_exist_ok=True)
        return place
    return made
