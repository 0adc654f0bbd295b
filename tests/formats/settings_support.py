"""Checkpoints with a setting changed, and what a refused setting looks like."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.reference import TEXTS
from zoo.errors import UnreadSettingError


def change(path: Path, **changes: Any) -> None:
    """Sets keys of a JSON file, which need not be there yet; `a__b` is the key b of the object a."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    path.write_text(json.dumps(content))


def check_refused(folder: Path, file: str, key: str, value: Any) -> None:
    """The changed setting is refused by its name and its file's; `ignore=` reads the rest as it was."""
    expected = zoo.load_model(folder).encode(list(TEXTS))
    change(folder / file, **{key: value})
    with pytest.raises(UnreadSettingError) as caught:
        zoo.load_model(folder)
    assert str(folder / file) in str(caught.value)
    assert caught.value.keys == (key,)
    assert torch.equal(zoo.load_model(folder, ignore=[key]).encode(list(TEXTS)), expected)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


def photo() -> Image.Image:
    """An image larger than any tower here, and no square."""
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 7, 3), dtype=np.uint8)).resize(
        (130, 110), Image.Resampling.BICUBIC
    )
    return Image.fromarray(np.clip(np.asarray(coarse) + rng.normal(0, 20, (110, 130, 3)), 0, 255).astype(np.uint8))
