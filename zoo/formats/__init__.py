"""Checkpoint layouts, one file each, recognised by a checkpoint's own configuration files.

A layout module has `ORDER` (lower is asked first), `LOOKED_FOR` (what it looks for, in words),
`recognises(names, read_json)`, `wanted(names)` (files worth downloading) and `load(folder, ...)`.
"""

import importlib
import json
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


@cache
def all_layouts() -> tuple[ModuleType, ...]:
    """Every layout, in the order in which they are asked."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return tuple(sorted(modules, key=lambda module: module.ORDER))


def weight_files(names: set[str], stem: str, pickles: tuple[str, ...], folder: str = "") -> list[str]:
    """Safetensors named `stem`, sharded or not, in a folder of the checkpoint; else the pickles that stand there."""
    prefix = f"{folder}/" if folder else ""
    found = sorted(
        n
        for n in names
        if n == f"{prefix}{stem}.safetensors"
        or (n.startswith(f"{prefix}{stem}-") and n.endswith(".safetensors"))
        or n == f"{prefix}{stem}.safetensors.index.json"
    )
    return found or sorted(n for n in names if n in {prefix + pickle for pickle in pickles})


def check_weights(files: list[str], where: str, looked_for: str, allow_pickle: bool) -> None:
    """Refuses a checkpoint without weights, and one whose weights only a pickle holds."""
    if not files:
        raise MissingWeightsError(f"{where} has no weights ({looked_for}); a model is never loaded with random weights")
    if not any(file.endswith(".safetensors") for file in files) and not allow_pickle:
        raise UnsafeCheckpointError(
            f"{where} has its weights only as a pickle ({', '.join(files)}), which can run code when loaded. Convert it "
            "to safetensors, or pass allow_pickle=True if you trust its author"
        )


def read_json(path: Path) -> Any:
    """A JSON file; raises UnrecognisedCheckpointError where it is damaged or absurdly large."""
    try:
        if path.stat().st_size > 50_000_000:
            raise UnrecognisedCheckpointError(f"{path} has {path.stat().st_size:,} bytes; no configuration is so large")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnrecognisedCheckpointError(f"{path} cannot be read as JSON: {error}") from error
