"""An empty cache, and TorchScript among the backends."""

from pathlib import Path

import pytest

from tests.backends.script import TorchScript
from zoo.backends import base


@pytest.fixture(autouse=True)
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[TorchScript]:
    """TorchScript as a registered backend, with an empty cache."""
    monkeypatch.setattr(base, "_BACKENDS", dict(base._BACKENDS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base.register_backend("script")(TorchScript)
    TorchScript.exported = 0
    return TorchScript
