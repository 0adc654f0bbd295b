"""PairFeed: pairs → the batch of a step, read in threads ahead of the model; told by the seed and the step alone."""

import hashlib
import json
import math
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from zoo.embedder import Embedder
from zoo.errors import InputError, TooManyBadItemsError, ZooError
from zoo.fusion import FusedEncoder, FusedRead, Known
from zoo.items import Item
from zoo.keys import item_key

from .augmentation import Augmentation
from .frozen import Teacher, role_prefixes
from .grad_cache import Read
from .pairs import Pair, PairTable, Selection
from .read_cache import ReadCache
from .recipe import Recipe
from .samplers import BatchSampler
from .vector_cache import VectorCache

_AHEAD = 3  # steps that are read while the model works
_TOGETHER = 16  # pairs that one thread reads before it is given others
_DECODED_BYTES = 2**30  # of pictures, films and sounds as the encoders read them, kept for the next epoch
_TRIES = 8  # pairs that may stand for one that cannot be read


class TrainBatch(NamedTuple):
    """What one step of one process trains on.

    Attributes:
        queries: b reads. targets: b positives, then b·M hard negatives.
        extras: named tensors of the batch, as losses read them; of this process's rows.
        rows: which pairs they are. negatives: M.
    """

    queries: list[Read]
    targets: list[Read]
    extras: dict[str, Tensor]
    rows: list[int]
    negatives: int


class Feed(Protocol):
    """Where the trainer gets its batches from."""

    def batches(self, start: int, stop: int) -> Iterator[TrainBatch]:
        """The batches of the steps from `start` to before `stop`, each a function of seed and step alone."""


class MissingNegativesError(InputError):
    """The recipe asks for hard negatives that a pair does not have."""


class UntaughtError(ZooError):
    """The teacher has no vector for an item."""


class Skipped:
    """Pairs that could not be read: listed once each in a file, and no more of them than the recipe allows."""

    def __init__(self, path: Path | None, limit: float, count: int) -> None:
        self.path, self.allowed = path, math.ceil(limit * count) if limit < 1 else int(limit)
        self.reasons: dict[str, str] = {}
        self._lock = threading.Lock()
        if path is not None and path.is_file():
            for line in keep_whole_lines(path):
                entry = json.loads(line)
                self.reasons[entry["pair"]] = entry["reason"]

    def add(self, pair: str, reason: str) -> None:
        """Notes a pair; raises TooManyBadItemsError where that is one too many."""
        with self._lock:
            if pair in self.reasons:
                return
            self.reasons[pair] = reason
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"pair": pair, "reason": reason}, ensure_ascii=False) + "\n")
            if len(self.reasons) > self.allowed:
                raise TooManyBadItemsError(
                    f"{len(self.reasons)} pairs cannot be read and the recipe allows {self.allowed} (max_bad); the last "
                    f"is {pair}: {reason}" + (f"; all are in {self.path}" if self.path is not None else "")
                )


class PairFeed:
    """Batches of any pairs for any model.

    Args:
        pairs: what to learn. model: its encoders read the items. recipe: prompts, negatives, augmentation, seed.
        sampler: which rows make a batch. skipped: where unreadable pairs are noted; another pair takes their place.
        vectors: embeddings by key of the towers that do not learn, by position of the tower.
        teacher: the teacher's embeddings by key and its prompts, None without one.
        rank, world: which part of every batch is read.
    """

    def __init__(
        self,
        pairs: Sequence[Pair] | PairTable,
        model: Embedder,
        recipe: Recipe,
        sampler: BatchSampler,
        skipped: Skipped,
        *,
        vectors: dict[int, VectorCache] | None = None,
        teacher: Teacher | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.pairs, self.model, self.recipe, self.sampler, self.skipped = pairs, model, recipe, sampler, skipped
        self.vectors, self.teacher, self.rank, self.world = vectors or {}, teacher, rank, world
        self.decoded = ReadCache(_DECODED_BYTES)
        self.prefixes = role_prefixes(model, recipe)
        self.augmentation = Augmentation.parse(recipe.augment)
        self.negatives = count_negatives(sample_of(pairs)) if recipe.negatives is None else recipe.negatives

    def batches(self, start: int, stop: int) -> Iterator[TrainBatch]:
        """See `Feed`; some steps ahead are read in threads."""
        with ThreadPoolExecutor(4, thread_name_prefix="zoo-feed") as pool:
            ahead: deque[tuple[int, list[Future]]] = deque()
            try:
                for step in range(start, stop):
                    ahead.append((step, self._submit(pool, step)))
                    if len(ahead) > _AHEAD:
                        yield self._gather(*ahead.popleft())
                while ahead:
                    yield self._gather(*ahead.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def batch(self, step: int) -> TrainBatch:
        """The batch of one step."""
        return next(self.batches(step, step + 1))

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> list[Future]:
        rows = self.sampler.rows(step)
        if len(rows) % self.world:
            rows = rows[: len(rows) // self.world * self.world]
        each = len(rows) // self.world
        mine = rows[self.rank * each : (self.rank + 1) * each]
        place = self.rank * each
        return [
            pool.submit(self._read_pairs, step, place + i, mine[i : i + _TOGETHER]) for i in range(0, each, _TOGETHER)
        ]

    def _gather(self, step: int, futures: list[Future]) -> TrainBatch:
        found = [entry for future in futures for entry in future.result()]
        rows, pairs, reads = ([entry[i] for entry in found] for i in range(3))
        queries = [read[0] for read in reads]
        targets = [read[1] for read in reads] + [negative for read in reads for negative in read[2:]]
        return TrainBatch(queries, targets, self._extras(pairs, rows), rows, self.negatives)

    # ------------------------------------------------------------------------------------------------- one pair

    def _read_pairs(self, step: int, place: int, rows: Sequence[int]) -> list[tuple[int, Pair, list[Read]]]:
        return [self._read_pair(step, place + i, int(row)) for i, row in enumerate(rows)]

    def _read_pair(self, step: int, place: int, row: int) -> tuple[int, Pair, list[Read]]:
        """A pair and its reads; where it cannot be read, another takes its place, told by the step and the place."""
        luck = np.random.default_rng((self.recipe.seed, step, place))
        for _ in range(_TRIES):
            try:
                pair = self.pairs[row]
                return row, pair, self._read_items(pair, (self.recipe.seed, step, place))
            except InputError as error:
                self.skipped.add(place_of(self.pairs, row), str(error))
            row = int(luck.integers(len(self.pairs)))
        raise TooManyBadItemsError(f"{_TRIES} pairs in a row cannot be read; the last is {place_of(self.pairs, row)}")

    def _read_items(self, pair: Pair, seed: tuple[int, ...]) -> list[Read]:
        negatives = [pair.negatives[k % len(pair.negatives)] for k in range(self.negatives)] if pair.negatives else []
        if len(negatives) < self.negatives:
            raise MissingNegativesError(
                f"{pair.where or 'a pair'} has no hard negative and the recipe asks for {self.negatives}; add one, mine "
                "them (`zoo mine`), or set negatives=0"
            )
        query = self._read(pair.query, self.prefixes[0], (*seed, 0))
        return [
            query,
            *(self._read(item, self.prefixes[1], (*seed, 1 + i)) for i, item in enumerate((pair.positive, *negatives))),
        ]

    def _read(self, item: Item, prefix: str, seed: tuple[int, ...]) -> Read:
        position = self.model.place(item)
        if (cache := self.vectors.get(position)) is not None:
            found = cache.vector(item_key(item, prefix))
            if found is not None:
                return Read(position, vector=found)
        encoder = self.model.readers[position].encoder
        if isinstance(encoder, FusedEncoder):
            parts = [self._read(part, prefix, (*seed, i)) for i, part in enumerate(encoder.parts(item))]
            return Read(position, FusedRead(*(p.value if p.vector is None else Known(p.vector) for p in parts)))
        plain = self.augmentation.item(item, seed)
        changed = encoder.prompted(plain, prefix)
        # What takes long to decode is kept; texts, and what is changed before it is read, are read anew.
        keep = plain is item and item.modalities != {"text"}
        value = self.decoded.read(encoder, changed) if keep else encoder.read(changed)
        return Read(position, self.augmentation.read(value, item, seed))

    # ------------------------------------------------------------------------------------------------- the extras

    def _extras(self, pairs: list[Pair], rows: list[int]) -> dict[str, Tensor]:
        groups = [group_number(pair.group or f"\0row {row}") for pair, row in zip(pairs, rows, strict=True)]
        others = [
            group_number(item.text if item.text is not None else f"\0negative {row} {k}")
            for pair, row in zip(pairs, rows, strict=True)
            for k, item in enumerate(pair.negatives[k % len(pair.negatives)] for k in range(self.negatives))
        ]
        extras = {"query_groups": torch.tensor(groups), "target_groups": torch.tensor(groups + others)}
        if all(pair.score is not None for pair in pairs):
            extras["scores"] = torch.tensor([pair.score for pair in pairs], dtype=torch.float32)
        if all(len(pair.teacher_scores) > self.negatives for pair in pairs):
            kept = [pair.teacher_scores[: 1 + self.negatives] for pair in pairs]
            extras["teacher_scores"] = torch.tensor(kept, dtype=torch.float32)
        if self.teacher is not None:
            items = [pair.positive for pair in pairs]
            items += [p.negatives[k % len(p.negatives)] for p in pairs for k in range(self.negatives)]
            extras["teacher_queries"] = torch.stack([self._taught(pair.query, 0) for pair in pairs])
            extras["teacher_targets"] = torch.stack([self._taught(item, 1) for item in items])
        return extras

    def _taught(self, item: Item, side: int) -> Tensor:
        vector = self.teacher.vectors.vector(item_key(item, self.teacher.prefixes[side]))
        if vector is None:
            raise UntaughtError(
                f"the teacher {self.recipe.teacher} could not embed an item of the batch ({sorted(item.modalities)}); take "
                "a teacher that reads these, or leave the pair out"
            )
        return vector


def count_negatives(sample: Sequence[Pair]) -> int:
    """Hard negatives of a pair, as most of those have that have some; 0 where none has."""
    counts = sorted(len(pair.negatives) for pair in sample if pair.negatives)
    return counts[len(counts) // 2] if counts else 0


def sample_of(pairs: Sequence[Pair] | PairTable, size: int = 256) -> list[Pair]:
    """Some pairs from all over the table, without those that cannot be read."""
    found = []
    for row in np.unique(np.linspace(0, len(pairs) - 1, min(size, len(pairs))).astype(int)):
        try:
            found.append(pairs[int(row)])
        except InputError:
            continue
    return found


def keep_whole_lines(path: Path) -> list[str]:
    """The lines of a file of JSON objects; one that a kill left half-written is dropped from it."""
    text = path.read_text(encoding="utf-8")
    whole, newline, _ = text.rpartition("\n")
    if whole + newline != text:
        path.write_text(whole + newline, encoding="utf-8")
    return whole.splitlines()


def place_of(pairs: Sequence[Pair] | PairTable, row: int) -> str:
    """Where a pair was read from, for messages."""
    if isinstance(pairs, Selection):
        return place_of(pairs.pairs, int(pairs.rows[row]))
    if hasattr(pairs, "where"):
        return pairs.where(row)
    try:
        return pairs[row].where or f"pair {row}"
    except InputError:
        return f"pair {row}"


def group_number(group: str) -> int:
    """The same 63-bit number for the same group in every process."""
    return int.from_bytes(hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=8).digest()) >> 1
