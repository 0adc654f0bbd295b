"""What hostile checkpoints are made with: `kind` registers a change of a good one, and how it must be answered."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

LOADS = "loads"  # harmless: what is hostile is not read
BERT, DENSE, STATIC = "transformers-bert", "sentence-dense", "sentence-static"
OPEN_CLIP, TIMM, NAFLEX, SIGLIP = "open_clip-clip", "timm-vit", "transformers-siglip2-naflex", "transformers-siglip"
BASES = ("zoo-text", "zoo-clip", "zoo-mini", "zoo-named", BERT, DENSE, STATIC, OPEN_CLIP, TIMM, NAFLEX, SIGLIP)


@dataclass(frozen=True)
class Kind:
    """One kind of hostile checkpoint.

    Attributes:
        base: the good checkpoint that it starts from.
        change: what makes it hostile; gets the folder, and the file that its code would leave as a mark.
        error: name of the exception, or LOADS. match: what the message must say.
        on_hub: whether a repository can hold it, too.
    """

    name: str
    base: str
    change: Callable[[Path, Path], None]
    error: str
    match: str = ""
    on_hub: bool = True
    options: tuple[tuple[str, Any], ...] = ()


KINDS: dict[str, Kind] = {}


def kind(base: str, error: str, match: str = "", *, name: str = "", on_hub: bool = True, **options: Any) -> Any:
    """Registers the decorated change under its name; several decorators give several kinds."""

    def register(change: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        inner = change.func if isinstance(change, partial) else change
        full = name or f"{inner.__name__}-{base}"
        assert full not in KINDS, full
        KINDS[full] = Kind(full, base, change, error, match, on_hub, tuple(options.items()))
        return change

    return register


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file, in place or by what `change` returns."""
    value = json.loads(path.read_text()) if path.is_file() else {}
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed))


def put(value: Any, dotted: str, content: Any) -> None:
    """Set a value of nested JSON by its dotted name; digits are places of lists."""
    *way, last = [int(part) if part.isdigit() else part for part in dotted.split(".")]
    for part in way:
        value = value[part] if isinstance(value, list) else value.setdefault(part, {})
    value[last] = content


def setting(base: str, file: str, dotted: str, content: Any, error: str, match: str = "", **options: Any) -> None:
    """A kind that differs from a good checkpoint in one value of one JSON file."""
    shown = json.dumps(content)[:24]
    name = f"{base}-{file}-{dotted}={shown}".replace("/", ":").replace("\\", "|")

    def change(folder: Path, mark: Path) -> None:
        edit(folder / file, lambda value: put(value, dotted, content))

    kind(base, error, match, name=name, **options)(change)


class Hostile:
    """Unpickling this makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def bomb(mark: Path) -> bytes:
    """A pickle that leaves the mark when it is loaded."""
    return pickle.dumps(Hostile(mark), protocol=2)


def python(path: Path, mark: Path, classes: str) -> None:
    """A Python file that leaves the mark when it is imported."""
    path.write_text(
        "\n".join([f"open({str(mark)!r}, 'w').close()", *(f"class {name}: pass" for name in classes.split())])
    )


def weights(folder: Path) -> Path:
    return next(path for path in sorted(folder.glob("*.safetensors")))


def safetensors(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> None:
    """A file with any header, agreeing with its data or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a good safetensors file."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]
