"""What the training tests share: coloured shapes with captions, tiny models, a run that is quick."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from zoo.training import Pair, Recipe

from zoo import build_model
from zoo.inputs.item import Item
from zoo.reranking import build_reranker

SHAPES = ("circle", "square", "bar", "cross")
PAINTS = {"red": (200, 30, 30), "blue": (30, 60, 210), "green": (30, 160, 60)}


def make_image(shape: str, paint: str, size: int = 40) -> np.ndarray:
    """A coloured shape on white, `(size, size, 3)`."""
    pixels = np.full((size, size, 3), 255, dtype=np.uint8)
    y, x = np.mgrid[:size, :size] - size / 2
    inside = {
        "circle": x**2 + y**2 < (size / 3) ** 2,
        "square": (abs(x) < size / 3) & (abs(y) < size / 3),
        "bar": abs(y) < size / 5,
        "cross": (abs(x) < size / 6) | (abs(y) < size / 6),
    }[shape]
    pixels[inside] = PAINTS[paint]
    return pixels


def shape_pairs(paints: tuple[str, ...] = tuple(PAINTS), **facts) -> list[Pair]:
    """An image and its words, for every shape in every colour."""
    return [
        Pair(
            Item(image=make_image(shape, paint)),
            Item(text=f"{paint} {shape}"),
            group=f"{paint} {shape}",
            where=f"shapes, {paint} {shape}",
            **facts,
        )
        for shape in SHAPES
        for paint in paints
    ]


def text_pairs(count: int = 12, negatives: int = 0, dataset: str = "") -> list[Pair]:
    """Questions and answers in words, with hard negatives."""
    animals = ("cat", "dog", "cow", "hen", "fox", "owl", "ant", "bee", "eel", "emu", "gnu", "yak")
    return [
        Pair(
            Item(text=f"what does the {animals[i % 12]} say {i}"),
            Item(text=f"the {animals[i % 12]} says {i}"),
            tuple(Item(text=f"the {animals[(i + k + 1) % 12]} says {k} and {i}") for k in range(negatives)),
            dataset=dataset,
            where=f"texts, line {i + 1}",
        )
        for i in range(count)
    ]


def quick(**changes) -> Recipe:
    """A run of a second."""
    return replace(
        Recipe(
            name="quick",
            steps=6,
            batch_size=6,
            lr=3e-3,
            warmup=2,
            checkpoint_every=2,
            log_every=1,
            holdout=0,
            keep_checkpoints="all",
        ),
        **changes,
    )


def fresh(name: str = "mini-test", seed: int = 3):
    """A tiny model, always the same."""
    torch.manual_seed(seed)
    return build_model(name)


def fresh_reranker(name: str = "ms-marco-test", seed: int = 3):
    """A tiny reranker, always the same."""
    torch.manual_seed(seed)
    return build_reranker(name)


def same_weights(a, b) -> bool:
    """Whether two models hold the same bits."""
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


def without_plots(monkeypatch) -> None:
    """As where matplotlib is not installed: a report takes a tenth of the time."""
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def remove(path: Path) -> None:
    """A file, or a folder of files."""
    if path.is_dir():
        for child in path.iterdir():
            remove(child)
        path.rmdir()
    else:
        path.unlink()
