"""A layout: `acme.json`, a table as safetensors, and the name "acme:zeros" of a model that comes with this package."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from zoo.embedder import Embedder, Tower
from zoo.errors import MissingWeightsError, UnknownModelError
from zoo.formats import read_object
from zoo.formats.checks.safetensors_checks import read_header
from zoo.formats.layout import Layout, Opening, register_layout
from zoo.heads import Identity
from zoo.pooling import Mean
from zoo.spec import ModelSpec

from .encoder import Trigrams


@register_layout
class Acme(Layout):
    """Trigrams alone, without a head."""

    name = "acme"
    looked_for = "acme: acme.json and table.safetensors"

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        return "acme.json" in names

    def files(self, names: set[str]) -> list[str]:
        return sorted(names & {"acme.json", "table.safetensors"})

    def load(self, folder: Path, opening: Opening) -> Embedder:
        rows = read_object(folder / "acme.json").get("rows")
        entry = read_header(folder / "table.safetensors").get("table")
        if entry is None or len(entry.shape) != 2 or entry.shape[0] != rows:
            raise MissingWeightsError(f"{folder} should have a table of {rows} rows, and has {entry}")
        return _model(opening.name, load_file(folder / "table.safetensors")["table"])

    def open_name(self, name: str, opening: Opening) -> Embedder:
        if name != "zeros":
            raise UnknownModelError(f"acme has no model {name!r}; it has: zeros")
        return _model(name, torch.zeros(8, 4))


def _model(name: str, table: torch.Tensor) -> Embedder:
    encoder = Trigrams(*table.shape)
    encoder.table.weight.data.copy_(table)
    spec = ModelSpec(name=name, modalities=frozenset({"text"}), dim=encoder.width, license="unknown")
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])
