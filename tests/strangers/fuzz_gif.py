"""Mutations of a GIF of three frames, read as an image and as a video."""

from pathlib import Path
from random import Random

from tests.strangers.fuzz import mutated
from tests.strangers.videos import gif
from zoo.inputs.image import load_pixels
from zoo.inputs.video import load_video

GOOD = gif(16, 12, 3, drawn=16)


def prepare(folder: Path) -> None:
    """One file."""
    (folder / "animation.gif").write_bytes(GOOD)


def opens(folder: Path) -> None:
    """As an image, then as a video."""
    load_pixels(folder / "animation.gif")
    load_video(folder / "animation.gif")


def change(folder: Path, random: Random) -> None:
    """One file again, changed."""
    (folder / "animation.gif").write_bytes(mutated(GOOD, random))
