"""Adapters in peft's format (LoRA, Hu et al., 2021; DoRA, Liu et al., 2024): strict reading, merging, and peft's layers."""

from .files import CONFIG, NAME, PREFIX, WEIGHTS, map_names, read_settings, read_tensors
from .inject import add_adapter, exact, fill, inject, unload
from .match import unfit
from .merging import merge_adapter

__all__ = [
    "CONFIG",
    "NAME",
    "PREFIX",
    "WEIGHTS",
    "add_adapter",
    "exact",
    "fill",
    "inject",
    "map_names",
    "merge_adapter",
    "read_settings",
    "read_tensors",
    "unfit",
    "unload",
]
