"""PairModel: a reranker as the trainer's steps see a model, whose items are pairs and whose vectors are logits."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.embedder.streaming import EvalMode
from zoo.reranking import Reranker, RerankerSpec
from zoo.spec import LogitScale


class PairModel(nn.Module):
    """A reranker with the names of an `Embedder` that steps, freezing, adapters and checkpoints go by; its weights are the
    reranker's own.

    Args:
        reranker: what is trained.

    Attributes:
        towers: the reranker alone, so that a parameter is called as one of an embedder of one tower: `text.encoder.layers.0`.
    """

    fusion = None

    def __init__(self, reranker: Reranker) -> None:
        super().__init__()
        self.towers = nn.ModuleList([reranker])
        self.eval_mode = EvalMode()
        self.logit_scale: LogitScale | None = None  # an embedder's temperature, and its cuts; a reranker has none
        self.calibration: dict[str, Any] = {}

    @property
    def reranker(self) -> Reranker:
        return self.towers[0]

    @property
    def spec(self) -> RerankerSpec:
        return self.reranker.spec

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def routes(self) -> tuple["PairReader"]:
        """The one reader: see `Embedder.routes`."""
        return (PairReader(self.reranker),)


class PairReader(nn.Module):
    """What reads pairs: a batch of them → logits `(n, 1)`."""

    headed_by = None

    def __init__(self, reranker: Reranker) -> None:
        super().__init__()
        self.reranker, self.encoder = reranker, PairEncoder(reranker)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.reranker.logits(batch)[:, None]


class PairEncoder:
    """The part of `zoo.encoders.Encoder` that makes batches of reads."""

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker
        self.batch_budget, self.length = reranker.encoder.batch_budget, reranker.encoder.length

    def parameters(self) -> Iterator[nn.Parameter]:
        """By which a batch is sized for the device that the reranker is on."""
        return self._reranker.parameters()

    def collate(self, reads: Sequence[Any]) -> dict[str, Tensor]:
        return self._reranker.collate(reads)
