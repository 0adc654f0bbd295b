"""Rules of regions: how a model that reads whole images embeds what a user points at, without training; a file a rule.

`model.encode_regions(image, regions)` follows `model.region_rule`, by default `MaskedCrop()`, the best of those that were measured
(docs/regions.md). To take another: `model.region_rule = "dense"`, or `encode_regions(…, region="dense")`.

A rule of one's own is a `RegionRule`; `@register_part("region", …)` of `zoo.registry.parts` makes it one that is saved and opened.
A model whose encoder reads regions by itself needs none of them.
"""

from zoo.regions.base import RegionRule, Upright
from zoo.regions.choice import NAMES, described, is_default, rule_of
from zoo.regions.crop import MaskedCrop
from zoo.regions.dense import Dense
from zoo.regions.dense_hd import DenseHd
from zoo.regions.ensemble import Ensemble

__all__ = [
    "NAMES",
    "Dense",
    "DenseHd",
    "Ensemble",
    "MaskedCrop",
    "RegionRule",
    "Upright",
    "described",
    "is_default",
    "rule_of",
]
