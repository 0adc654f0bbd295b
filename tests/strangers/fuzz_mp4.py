"""Mutations of the head of an MP4: a real clip where the data are there, else one of raw frames."""

from pathlib import Path
from random import Random

import pyarrow.parquet as pq

from tests.strangers.fuzz import mutated
from tests.strangers.videos import mp4
from zoo.inputs.video import load_video
from zoo.tables.pack_files import packs_folder


def _good() -> bytes:
    path = packs_folder() / "video" / "val.parquet"
    clips = pq.read_table(path, columns=["video"])["video"].to_pylist() if path.is_file() else [mp4()]
    return min(clips, key=len)


GOOD = _good()


def prepare(folder: Path) -> None:
    """One file."""
    (folder / "video.mp4").write_bytes(GOOD)


def opens(folder: Path) -> None:
    """Three frames of it."""
    load_video(folder / "video.mp4", frames=3)


def change(folder: Path, random: Random) -> None:
    """One file again, changed: mostly the boxes, which in these clips stand at either end."""
    at = GOOD.index(b"moov") - 4
    changed = GOOD[:at] + mutated(GOOD[at:], random) if random.random() < 0.8 else mutated(GOOD, random)
    (folder / "video.mp4").write_bytes(changed)
