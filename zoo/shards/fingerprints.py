"""Fingerprints: which model, prompt and preprocessing made some vectors, compared with those in use."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import FingerprintMismatchError


def differences(stored: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """One readable line for each fact that differs."""
    names = [*stored, *(name for name in ours if name not in stored)]
    return [
        f"{name}: {_shown(stored.get(name))} there, {_shown(ours.get(name))} here"
        for name in names
        if stored.get(name) != ours.get(name)
    ]


def check_fingerprint(stored: Mapping[str, Any], ours: Mapping[str, Any], where: object, advice: str) -> None:
    """Raises FingerprintMismatchError naming what differs; vectors of two models must never be compared."""
    found = differences(stored, ours)
    if found:
        raise FingerprintMismatchError(f"the vectors in {where} were made differently ({'; '.join(found)}). {advice}")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = str(value)
    return repr(text[:12] + "…" if len(text) > 40 and " " not in text else text[:60])
