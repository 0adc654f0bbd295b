"""Registered models by name at a small size: all of their facts but the sizes, and their repository's files on the loopback hub."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.hub import LoopbackHub
from zoo import registry


class Tiny:
    """Loads `name`-tiny, which is `name` but for its size; made by a fixture with pytest's monkeypatch."""

    def __init__(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hub = hub
        zoo.list_models()
        monkeypatch.setattr(registry.MODELS, "_found", dict(registry.MODELS._found))

    def load(
        self, name: str, folder: Path, build: Callable[[zoo.ModelSpec], zoo.Embedder], *, dim: int = 32, **options: Any
    ) -> zoo.Embedder:
        """The model, from a hub that has these files as its repository; what is said of its licence is checked.

        Args:
            build: a model of the same parts, whose sizes do not matter. dim: of its vectors.
        """
        spec = zoo.get_spec(name)
        self.hub.add(folder, spec.hub_id)
        cuts = (dim, dim // 2) if spec.dims else ()
        facts = {"name": f"{name}-tiny", "dim": dim, "dims": cuts, "params": 0, "revision": None, "base_revision": None}
        zoo.register_model(**{**spec.to_dict(), **facts})(build)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model = zoo.load_model(f"{name}-tiny", device="cpu", **options)
        assert [str(one.message) for one in said if "commercial" in str(one.message)] == (
            [f"the weights of {name}-tiny are for non-commercial use ({spec.license})"] if spec.non_commercial else []
        )
        return model
