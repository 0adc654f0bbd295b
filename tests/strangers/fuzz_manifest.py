"""Fuzz of manifest.json: a folder of vectors is opened, counted, and asked where its inputs are."""

from pathlib import Path
from random import Random

from tests.strangers import shards
from tests.strangers.fuzz import mutated_json


def prepare(folder: Path) -> None:
    """A folder in order."""
    shards.write(folder)


def opens(folder: Path) -> None:
    """All that reads the manifest, but for the model."""
    from zoo.index import read_manifest
    from zoo.shards.folder import ShardFolder, unfinished
    from zoo.vectors import open_vectors

    manifest = read_manifest(folder)
    unfinished(manifest)
    vectors = open_vectors(folder)
    vectors.texts()
    vectors.places()
    vectors.floats()
    ShardFolder(folder).vectors()


def change(folder: Path, random: Random) -> None:
    """One to three facts of it."""
    (folder / "manifest.json").write_bytes(mutated_json(shards.manifest(), random))
