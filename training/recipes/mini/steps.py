"""What zoo-mini's way does: the feed from memory, the text tower before the first step, the regression after the last."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from zoo.embedder import Embedder, Tower
from zoo.encoders.static import StaticText
from zoo.tables.pairs import Pair

from ...checkpoint import last_checkpoint, save_checkpoint
from ...dataloader import TrainBatch
from ...errors import DamagedRunError
from ...grad_cache import Read
from ...run import STRIDE
from ...samplers import BatchSampler
from .augment import augment
from .distill import distil, encoder_of
from .images import ImageData
from .regress import solve_second

if TYPE_CHECKING:
    from .recipe import MiniRecipe

_MOST_BYTES = 2**28  # of a table of the text tower; zoo-mini's has 20 million


class ImageFeed:
    """Batches of a `ImageData` for the trainer (see `training/dataloader.py: Feed`), for one process."""

    told = ""

    def __init__(self, data: ImageData, model: Embedder, recipe: "MiniRecipe", sampler: BatchSampler) -> None:
        self.data, self.recipe, self.sampler, self.answers = data, recipe, sampler, data.answers
        towers = list(model.towers)
        self.image, self.text = (towers.index(tower_of(model, modality)) for modality in ("image", "text"))

    def batches(self, start: int, stop: int) -> Iterator[TrainBatch]:
        """See `Feed`: made when asked for, from torch's own random numbers."""
        for step in range(start, stop):
            yield self.batch(step)

    def numbers(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Feed`: every image with its own text."""
        rows = torch.as_tensor(self.sampler.rows(step))
        return self.data.queries[rows].numpy(), self.data.numbers[self.data.own[rows]].numpy()

    def batch(self, step: int) -> TrainBatch:
        """The batch of one step."""
        plan = self.recipe.images
        torch.manual_seed(self.recipe.seed * STRIDE + step)
        size = plan.size_at(step / self.recipe.steps)
        if size is not None:
            self.data.shrink(size + size // 8)
        rows = torch.as_tensor(self.sampler.rows(step))
        batch = self.data.batch(rows, colour_captions=plan.colour_captions, tint=plan.tint)
        pixels = augment(batch.pixels, size or batch.pixels.shape[-1], batch.tints) if plan.augment else batch.pixels
        queries = [Read(self.image, image) for image in pixels]
        targets = [Read(self.text, ids) for ids in batch.ids]
        return TrainBatch(queries, targets, {"ignore": batch.ignore}, rows.tolist(), 0)


@contextmanager
def first_projection(model: Embedder, recipe: "MiniRecipe") -> Iterator[Callable[[ImageFeed], None] | None]:
    """While a recipe with a regression runs, the image head is its first projection alone.

    Yields what solves the second projection when the first has been trained, None for a recipe without a regression.
    """
    if recipe.regression is None:
        yield None
        return
    image, text = tower_of(model, "image"), tower_of(model, "text")
    blend = image.head
    image.head = blend.first

    def solve(feed: ImageFeed) -> None:
        torch.manual_seed(recipe.seed)
        solve_second(blend, image, text, feed.data, recipe.regression)

    try:
        yield solve
    finally:
        image.head = blend


def tower_of(model: Embedder, modality: str) -> Tower:
    """The tower that reads this modality alone."""
    for tower in model.towers:
        if modality in tower.encoder.modalities:
            return tower
    raise ValueError(f"{model.spec.name} has no tower for {modality}")


def learn_text(model: Embedder, pairs: Sequence[Pair], recipe: "MiniRecipe", folder: Path) -> None:
    """Puts a distilled encoder into the text tower; the table is kept in `text/`, so that it is learned once."""
    tower, plan = tower_of(model, "text"), recipe.distillation
    if not isinstance(tower.encoder, StaticText):
        raise ValueError(f"{model.spec.name}: only a static text tower can be distilled")
    state = last_checkpoint(folder / "text", _MOST_BYTES)
    if state is None:
        state = {"table": distil(pairs, tower.encoder.width, plan, recipe.seed)}
        save_checkpoint(folder / "text", 0, state)
    table = state.get("table")
    if not isinstance(table, Tensor) or table.ndim != 2 or table.shape[1] != tower.encoder.width:
        raise DamagedRunError(f"{folder / 'text'} holds no table of {tower.encoder.width} columns; delete it")
    tower.encoder = encoder_of(table, plan)
