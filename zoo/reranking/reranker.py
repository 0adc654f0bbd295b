"""Reranker: a model that reads a query and a document together and gives one score; what is asked how is in `judge`."""

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo.arguments import checked, flag, iterable, many, one_of, optional, path, whole, wrong
from zoo.arguments import dtype as a_dtype
from zoo.callers import warn
from zoo.embedder import RankHit
from zoo.embedder.cutting import TRUNCATIONS, Truncation
from zoo.encoders.base import Batch, Encoder
from zoo.encoders.prefetch import batches
from zoo.errors import InputError, NonFiniteEmbeddingError, UnsupportedModalityError
from zoo.inputs.item import Item
from zoo.reranking.cutting import PairCuts
from zoo.reranking.spec import RerankerSpec

# Pairs that are read before they are scored, two times over: of thousands the images would not all fit.
_WINDOW, _TEXTS = 64, 1024
_NOT_FINITE = "the model gave a score that is no number (NaN or infinity); load it in float32"


class Scored(NamedTuple):
    """One result of `score_stream`: a score, or the error in its place."""

    index: int
    score: float | None
    error: InputError | None


class Reranker(nn.Module):
    """Scores documents for a query: a read of both together → one logit → a score.

    Each way of making the logit is a class of its own, which defines `prepare` and `logits`; training calls these two and `collate`.

    Args:
        encoder: reads the pair as one sequence. spec: its facts.
    """

    def __init__(self, encoder: Encoder, spec: RerankerSpec) -> None:
        super().__init__()
        self.encoder, self.spec = encoder, spec

    def prepare(self, query: Any, document: Any) -> Any:
        """A read of the pair on the CPU, for `collate`; runs in threads.

        Args:
            query, document: anything that `zoo.Item` describes; the query's instruction included.

        Raises:
            InputError: one of them cannot be read, or is none of the model's inputs.
        """
        raise NotImplementedError(f"{type(self).__name__} must define prepare")

    def lost_tokens(self, query: Any, document: Any) -> int:
        """How many tokens of a pair of texts are not read; 0 where all are, and where media are in it.

        Raises:
            InputError: as of `prepare`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define lost_tokens")

    def collate(self, reads: Sequence[Any]) -> Batch:
        """Reads as one batch of tensors, padded where they differ in length."""
        return self.encoder.collate(reads)

    def logits(self, inputs: Batch) -> Tensor:
        """A batch from `collate`, on any device → `(n,)` float32 with gradient; `activate` makes scores of them."""
        raise NotImplementedError(f"{type(self).__name__} must define logits")

    def activate(self, logits: Tensor) -> Tensor:
        """Scores of logits, of the same shape: what the model was trained to give, as `spec.activation` says."""
        return logits.sigmoid() if self.spec.activation == "sigmoid" else logits

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def check_read(self, item: Item) -> Item:
        """The item itself; raises UnsupportedModalityError where it has what the model does not read."""
        if unread := item.modalities - self.spec.modalities:
            raise UnsupportedModalityError(
                f"{self.spec.name} reads {', '.join(sorted(self.spec.modalities))}, not {', '.join(sorted(unread))}",
                what=", ".join(sorted(unread)),
            )
        return item

    @checked(
        documents=optional(many),
        batch_size=optional(whole()),
        progress=optional(flag),
        truncation=one_of(*TRUNCATIONS),
    )
    def score(
        self,
        query: Any,
        documents: Sequence[Any] | None = None,
        *,
        batch_size: int | None = None,
        progress: bool | None = None,
        truncation: Truncation = "cut",
    ) -> Tensor:
        """Scores `(n,)`, float32 on the CPU: 0 to 1 of a model whose activation is "sigmoid", else any number.

        Args:
            query: anything that `zoo.Item` describes, its instruction included. documents: what is scored for it.
                Without documents, `query` is a list of (query, document), as mining hands them on.
            batch_size: pairs of one forward pass; by default as many tokens as run best.
            progress: a bar; by default on a terminal when it takes over two seconds.
            truncation: of a pair of more tokens than are read the rest is "cut", and a warning says so once of a model with how many are
                lost; or it is an "error".

        Raises:
            InputError: a query or document that cannot be read; its `index` is that of the pair. TextTooLongError, one of them: a
                pair of texts that is too long, with truncation="error".
        """
        pairs = [(query, document) for document in documents] if documents is not None else list(query)
        scores = torch.empty(len(pairs))
        options = {"batch_size": batch_size, "progress": progress, "truncation": truncation}
        for index, score, error in self.score_stream(pairs, **options):
            if error is not None:
                raise error.at(index) from None
            scores[index] = score
        return scores

    @checked(pairs=iterable, batch_size=optional(whole()), progress=optional(flag), truncation=one_of(*TRUNCATIONS))
    def score_stream(
        self,
        pairs: Iterable[tuple[Any, Any]],
        *,
        batch_size: int | None = None,
        progress: bool | None = None,
        truncation: Truncation = "cut",
    ) -> Iterator[Scored]:
        """Scores any number of (query, document) in bounded memory: one `Scored` each, in order; a bad pair stops no other.

        Files are read in threads while the model runs. The options are those of `score`.
        """
        from tqdm import tqdm

        total = len(pairs) if hasattr(pairs, "__len__") else None
        disable = None if progress is None else not progress
        pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="zoo-read")
        numbered, ahead = enumerate(pairs), deque()
        cuts = PairCuts(self, truncation)
        size = _TEXTS if self.spec.modalities == {"text"} else _WINDOW
        try:
            with tqdm(total=total, desc=self.spec.name, unit=" pairs", disable=disable, delay=2) as bar:
                while True:
                    window = list(islice(numbered, size))
                    if window:
                        ahead.append([pool.submit(copy_context().run, self._read, cuts, *pair) for pair in window])
                    if not ahead:
                        return
                    if window and len(ahead) < 2:  # one window is read while the model is at the one before
                        continue
                    found = self._score([read.result() for read in ahead.popleft()], batch_size)
                    cuts.say()
                    bar.update(len(found))
                    yield from found
        finally:
            # Never waits: an abandoned stream is closed by the garbage collector, in any thread, one of the pool's as well.
            pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, cuts: PairCuts, index: int, pair: tuple[Any, Any]) -> tuple[int, Any, InputError | None]:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise wrong(f"pair {index}", pair, "a query and a document", "write [(query, document), ...]")
        try:
            read = self.prepare(*pair)
            cuts.look(index, pair, read)
            return index, read, None
        except InputError as error:
            return index, None, error

    @torch.inference_mode()
    def _score(self, window: list[tuple[int, Any, InputError | None]], batch_size: int | None) -> list[Scored]:
        found = {index: Scored(index, None, error) for index, _, error in window if error is not None}
        reads = [(index, read) for index, read, error in window if error is None]
        for batch in batches(reads, self.encoder, batch_size):
            scores = self.activate(self.logits(self.collate([read for _, read in batch]))).tolist()
            for (index, _), score in zip(batch, scores, strict=True):
                lost = None if math.isfinite(score) else NonFiniteEmbeddingError(_NOT_FINITE)
                found[index] = Scored(index, None if lost else score, lost)
        return [found[index] for index, *_ in window]

    @checked(
        documents=many,
        k=optional(whole(0)),
        batch_size=optional(whole()),
        on_error=one_of("raise", "skip"),
        progress=optional(flag),
        truncation=one_of(*TRUNCATIONS),
    )
    def rerank(
        self,
        query: Any,
        documents: Sequence[Any],
        k: int | None = 10,
        *,
        batch_size: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        progress: bool | None = None,
        truncation: Truncation = "cut",
    ) -> list[RankHit]:
        """The `k` documents that answer a query best, best first, with their scores.

        Args:
            query, documents, batch_size, progress, truncation: as of `score`. on_error: "skip" leaves documents out that cannot be read,
                with one warning that lists them.

        Raises:
            InputError: a query or document that cannot be read.
        """
        pairs = [(query, document) for document in documents]
        hits, bad = [], []
        options = {"batch_size": batch_size, "progress": progress, "truncation": truncation}
        for index, score, error in self.score_stream(pairs, **options):
            if error is None:
                hits.append(RankHit(index, score))
            elif on_error == "raise":
                raise error.at(index) from None
            else:
                bad.append(str(error.at(index)))
        if bad:
            told = "; ".join(bad[:3]) + (f"; and {len(bad) - 3} more" if len(bad) > 3 else "")
            warn(f"{len(bad)} of {len(pairs)} documents are not ranked: {told}")
        return sorted(hits, key=lambda hit: -hit.score)[:k]  # stable: equal scores keep the order of the documents

    @checked(folder=path, dtype=optional(a_dtype))
    def save_pretrained(self, folder: str | Path, *, dtype: "torch.dtype | str | None" = None) -> Path:
        """Writes a folder that `zoo.load_reranker` opens; what was written is opened again and compared first.

        A cross-encoder is written as transformers does, so that sentence-transformers' CrossEncoder opens the folder too.

        Args:
            dtype: floating-point type of the stored weights; by default as they are.

        Raises:
            NotSavedError: what was written cannot be opened, or gives other scores; the folder is as it was.
        """
        from zoo.reranking.saving import save_reranker

        return save_reranker(self, Path(folder).expanduser(), dtype)

    def push_to_hub(self, repo: str, **options: Any) -> Any:
        """Publishes the reranker as "org/name", with a card; the options are those of `zoo.publishing.publish` for rerankers."""
        from zoo.publishing import publish

        return publish(self, repo, **options)
