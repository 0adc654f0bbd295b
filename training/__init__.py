"""Training: one contrastive trainer, its losses, its recipes and its data."""

from . import recipes
from .data import Pair, pack_pairs, read_csv
from .recipe import Distillation, Recipe, Regression, Stage
from .trainer import train

__all__ = ["Distillation", "Pair", "Recipe", "Regression", "Stage", "pack_pairs", "read_csv", "recipes", "train"]
