"""Embedder: a list of towers, and everything that is done with one. Read `tower.py`, then `embedder.py`."""

from zoo.embedder.embedder import Embedder, Hit
from zoo.embedder.streaming import Encoded
from zoo.embedder.tower import Tower, heads_hash

__all__ = ["Embedder", "Encoded", "Hit", "Tower", "heads_hash"]
