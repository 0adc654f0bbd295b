"""Fingerprints: which model, prompt and preprocessing made some vectors, compared with those in use."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import FingerprintMismatchError

# A name and the weights that it had in an earlier version → what that model is called since.
RENAMED = {("zoo-mini", "e6524644caf7237f"): "zoo-mini-v1"}


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
        made = "were made differently"
        if since := renamed(stored, ours):
            made = f"were made with {since}, which earlier versions called {stored['model']}: another model has that name now"
        raise FingerprintMismatchError(f"the vectors in {where} {made} ({'; '.join(found)}). {advice}")


def renamed(stored: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """What the model of some vectors is called since another one has its name; "" where it has its name still, or is in use."""
    weights = stored.get("weights")
    return RENAMED.get((stored.get("model"), weights), "") if weights != ours.get("weights") else ""


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = str(value)
    return repr(text[:12] + "…" if len(text) > 40 and " " not in text else text[:60])
