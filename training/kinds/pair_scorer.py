"""PairScorer: logits of any number of pairs, in evaluation mode: of held-out pairs during a run, and of a teacher."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from zoo.embedder.passes import is_out_of_memory
from zoo.encoders.prefetch import batches
from zoo.errors import InputError
from zoo.inputs.item import Item

from ..run import Run
from .pair_model import PairModel

_WINDOW = 64  # pairs that are read before they are scored: of thousands the images would not all fit


class PairScorer:
    """Scores pairs with a reranker's weights as they are.

    Args:
        model: what scores. run: whose precision and micro-batch count; None for neither.
    """

    def __init__(self, model: PairModel, run: Run | None = None) -> None:
        self.model, self.run = model, run

    def __call__(self, pairs: Sequence[tuple[Item, Item]]) -> list[float | InputError]:
        """The logit of every pair in order, or why it could not be read."""
        found: list[Any] = []
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="zoo-pairs") as pool:
            for start in range(0, len(pairs), _WINDOW):
                reads = list(pool.map(self._read, pairs[start : start + _WINDOW]))
                scores: list[Any] = [read if isinstance(read, InputError) else None for read in reads]
                good = [(i, read) for i, read in enumerate(reads) if not isinstance(read, InputError)]
                size = self.run.micro_batch if self.run is not None else None
                for chunk in batches(good, self.model.routes[0].encoder, size) if good else ():
                    logits = self._forward([read for _, read in chunk]).tolist()
                    for (i, _), logit in zip(chunk, logits, strict=True):
                        scores[i] = logit
                found += scores
        return found

    def _read(self, pair: tuple[Item, Item]) -> Any:
        try:
            return self.model.reranker.prepare(*pair)
        except InputError as error:
            return error

    def _forward(self, reads: list[Any]) -> Tensor:
        """Logits `(n,)` on the CPU; where memory runs out, of two halves."""
        try:
            reader = self.model.routes[0]
            batch = {name: part.to(self.model.device) for name, part in reader.encoder.collate(reads).items()}
            if self.run is not None:
                return self.run.embed(0, batch)[:, 0].cpu()
            with self.model.eval_mode.during_pass(reader), torch.no_grad():
                return reader(batch)[:, 0].float().cpu()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            # With sharded weights the other processes wait inside a collective of the forward pass.
            if (self.run is not None and self.run.sharded) or not is_out_of_memory(error) or len(reads) == 1:
                raise
        half = len(reads) // 2
        return torch.cat([self._forward(some) for some in (reads[:half], reads[half:])])
