"""Embedder: a list of towers, and everything that is done with one. Read `tower.py`, then `embedder.py`."""

from zoo.embedder.embedder import Embedder, RankHit
from zoo.embedder.outputs import Outputs
from zoo.embedder.streaming import Encoded
from zoo.embedder.tower import Tower, heads_hash
from zoo.embedder.tracks import Track

__all__ = ["Embedder", "Encoded", "Outputs", "RankHit", "Tower", "Track", "heads_hash"]
