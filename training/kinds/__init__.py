"""What differs between training an embedder and training a reranker; the trainer's steps are the same for both.

An embedder reads each item by itself, and its losses compare vectors. A reranker reads a query with a document (`pair_model`), and
its losses compare the logits of a query's candidates (`group_feed`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from zoo.tables.pairs import Pair, PairTable

from ..dataloader import Feed
from ..losses import Loss
from ..recipe import Recipe
from ..run import Run
from ..scoring import Scoring
from .embedders import Embedders
from .pair_model import PairModel
from .rerankers import Rerankers

__all__ = ["Kind", "PairModel", "kind_of", "trained"]


class Kind(Protocol):
    """What the trainer asks of a kind of model. `model` is what `trained` made of the one that was given."""

    def prepare(self, model: nn.Module, stages: Sequence[Recipe]) -> None:
        """Sets in the model what the stages need before the first step; refuses what they set and the model has not."""

    def check(self, model: nn.Module, recipe: Recipe, loss: Loss) -> None:
        """Raises an error where model, recipe and loss do not go together, whatever the data are."""

    def check_pair(self, model: nn.Module, pair: Pair) -> None:
        """Raises UnsupportedModalityError for a pair that the model does not read."""

    def check_rows(self, pairs: Sequence[Pair] | PairTable, counts: np.ndarray, recipe: Recipe, loss: Loss) -> None:
        """Raises PairsError where rows, which have `counts` `(n,)` hard negatives, hold nothing that the loss could learn."""

    def given(self, sample: Sequence[Pair], recipe: Recipe) -> set[str]:
        """Names of the tensors that losses may read (`Loss.reads`), as far as these pairs and the recipe have them."""

    def truncated(self, model: nn.Module, pairs: Sequence[Pair] | PairTable, recipe: Recipe) -> list[str]:
        """What is lost of the texts, in sentences."""

    def teacher(
        self,
        model: nn.Module,
        pairs: Sequence[Pair] | PairTable,
        recipe: Recipe,
        folder: Path,
        loss: Loss,
        *,
        progress: bool,
    ) -> Any:
        """What the recipe's teacher says of the pairs, computed before the first step; None without a teacher."""

    def feed(
        self,
        model: nn.Module,
        pairs: Sequence[Pair] | PairTable,
        recipe: Recipe,
        folder: Path,
        loss: Loss,
        *,
        progress: bool,
        teacher: Any,
        **shared: Any,
    ) -> Feed:
        """The batches of a stage; `shared` are the arguments of `RowFeed`."""

    def scoring(self, out: Path, model: nn.Module, held_out: Any, stage: Recipe, **options: Any) -> Scoring:
        """What measures the held-out pairs; `options` are those of `Scoring`."""

    def held_out(self, run: Run) -> Callable[..., Any]:
        """What `Scoring.measure` is given during a run, so that the weights as they are score."""

    def finish(self, model: nn.Module, name: str, stage: Recipe, loss: Loss) -> None:
        """Gives the finished model its name and facts."""

    def save(self, model: nn.Module, out: Path, dtype: Any) -> None:
        """Writes the finished model into the run's folder."""

    def front_matter(self, spec: Any, results: Sequence[Any], kept: dict[str, Any]) -> str:
        """The Hub's YAML block of the finished model's card."""

    def facts(self, spec: Any, place: str) -> list[str]:
        """The card's blocks on what the model is and how the one in the folder `place` is used."""


_KINDS: dict[bool, Kind] = {False: Embedders(), True: Rerankers()}


def kind_of(model: nn.Module) -> Kind:
    """The kind of what is trained."""
    return _KINDS[isinstance(model, PairModel)]


def trained(model: nn.Module) -> nn.Module:
    """What the trainer's steps work on: an embedder itself, a reranker as a `PairModel` that shares its weights."""
    from zoo.reranking import Reranker

    return PairModel(model) if isinstance(model, Reranker) else model
