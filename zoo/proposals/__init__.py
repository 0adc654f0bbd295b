"""Proposals: regions of an image that somebody might mean, found by a network, for an index of regions (see `zoo.regions`).

A file a proposer. `Owl` (OWLv2) gives boxes of objects, in one pass; `Sam2` (SAM 2.1) masks of whatever has an outline, by asking at
every place of a grid. Both open weights of the Hub, or a folder of transformers' layout, and never run with random ones.
"""

from zoo.proposals.base import Proposal, Proposer, kept
from zoo.proposals.owl import Owl
from zoo.proposals.sam2 import Sam2

__all__ = ["Owl", "Proposal", "Proposer", "Sam2", "kept"]
