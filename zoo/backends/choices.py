"""What backend="auto" found out, on disk: of each encoder on each machine, made anew for other versions."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from zoo.backends.base import TORCH, list_backends
from zoo.backends.cache import home
from zoo.files import write_json


@dataclass(frozen=True)
class Choice:
    """A backend, and how many times torch's speed each other one had."""

    fastest: str = TORCH
    speeds: Mapping[str, float] = field(default_factory=dict)

    @property
    def told(self) -> str:
        others = ", ".join(f"{name} {speed:.2f}x torch's speed" for name, speed in sorted(self.speeds.items()))
        return f"fastest of a trial here: {others}" if others else "nothing else computes it here"


def remembered(digest: str, versions: Mapping[str, Any]) -> Choice | None:
    """The choice for an encoder on this machine; None where there is none of these versions, or its file is damaged."""
    try:
        found = json.loads(_place(digest).read_text("utf-8"))
        choice = Choice(found["fastest"], {str(name): float(speed) for name, speed in found["speeds"].items()})
        return choice if found["versions"] == versions and choice.fastest in list_backends() else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def remember(digest: str, versions: Mapping[str, Any], choice: Choice) -> None:
    """Keeps a choice, where there is room for it."""
    place = _place(digest)
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, {"fastest": choice.fastest, "speeds": dict(choice.speeds), "versions": versions} | _machine())


def _place(digest: str) -> Path:
    here = hashlib.sha256(json.dumps(_machine(), sort_keys=True).encode()).hexdigest()
    return home() / "auto" / f"{digest}-{here[:8]}.json"  # homes may be shared by machines


def _machine() -> dict[str, Any]:
    """What of a machine decides which runtime is fastest on it."""
    lines: list[str] = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": name or platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
