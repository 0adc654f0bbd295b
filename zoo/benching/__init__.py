"""Benching: how fast a model is on this machine, by each backend and type of numbers, beside other libraries, and what limits it."""

from zoo.benching.results import Bench, Row
from zoo.benching.run import bench

__all__ = ["Bench", "Row", "bench"]
