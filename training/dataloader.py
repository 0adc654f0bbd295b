"""Feeds: pairs → the batch of a step, read in threads ahead of the model; determined by the seed and the step alone."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from zoo.callers import warn
from zoo.embedder import Embedder
from zoo.errors import InputError, TooManyBadItemsError
from zoo.inputs.hashing import item_key
from zoo.inputs.identity import Answers
from zoo.inputs.item import Item
from zoo.inputs.silence import noticing
from zoo.tables.pairs import Pair, PairTable, datasets_of, place_of

from .cached_embeddings import Teacher, role_prefixes
from .errors import PairsError, SamplerError
from .grad_cache import Read
from .read_cache import ReadCache
from .recipe import Recipe
from .rows import WITHOUT_IT, count_negatives, known_answers, most, negatives_each
from .samplers import BatchSampler
from .skipped import Skipped
from .vector_cache import VectorCache
from .views import Views

_AHEAD = 3  # steps that are read while the model works
_TOGETHER = 16  # pairs that one thread reads before it is given others
_DECODED_BYTES = 2**30  # of images, videos and audio as the encoders read them, kept for the next epoch
_TRIES = 8  # pairs that may stand for one that cannot be read
_SAID = 5  # rows of silence
_ORDER = 1  # tells the stream of a pair's positives from the others


class TrainBatch(NamedTuple):
    """What one step of one process trains on.

    Attributes:
        queries: b reads. targets: b positives, then M further targets of each: hard negatives, further positives, and
            empty places where a pair has fewer.
        extras: named tensors of the batch, as losses read them; of this process's rows.
        rows: which pairs they are. negatives: M.
        numbers: of the contents of the queries and the targets `(2b + b·M,)`, -1 for an empty place; `answers` tells
            which of them are right for which. None where the feed masks by hand.
        part: which loss of the stage it has (`Loss.of`).
    """

    queries: list[Read]
    targets: list[Read]
    extras: dict[str, Tensor]
    rows: list[int]
    negatives: int
    numbers: Tensor | None = None
    answers: Answers | None = None
    part: int = 0

    @property
    def told(self) -> str:
        """What is in it, for people."""
        return f"{len(self.queries)} queries, {len(self.targets)} targets"

    @property
    def reads(self) -> list[Read]:
        """What the model reads, in the order of the vectors that `sides` takes."""
        return [*self.queries, *self.targets]

    def sides(self, vectors: Tensor) -> list[tuple[Tensor, int]]:
        """What the loss is given of the vectors of `reads`, and how `gather_rows` joins each: queries and targets."""
        count = len(self.queries)
        return [(vectors[:count], 0), (vectors[count:], self.negatives)]


class Drawn(NamedTuple):
    """A pair as a step trains it: query, the positive that stands for all, and the further targets, -1 an empty place."""

    row: int
    pair: Pair
    items: list[Item]
    numbers: list[int]
    reads: list[Any]
    scores: list[float] | None


class Batch(Protocol):
    """What a step reads of a batch: `TrainBatch`, or a reranker's `GroupBatch`."""

    extras: dict[str, Tensor]
    rows: list[int]
    negatives: int
    numbers: Tensor | None
    answers: Answers | None
    part: int
    reads: list[Read]
    told: str

    def sides(self, vectors: Tensor) -> list[tuple[Tensor, int]]:
        """See `TrainBatch.sides`."""


class Feed(Protocol):
    """Where the trainer gets its batches from, as the `sampler` puts them together.

    Attributes:
        answers: what is right for what. told: what else is to be said of the batches, "" for nothing.
    """

    answers: Answers
    sampler: BatchSampler
    told: str

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of the steps from `start` to before `stop`, each a function of seed and step alone."""

    def numbers(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the queries and of the targets of a step, of all processes; nothing is read."""


class RowFeed:
    """What all feeds of pairs have in common: which items of which rows a step reads, and that threads read them ahead.

    Args:
        pairs: what to learn. recipe: negatives, seed.
        sampler: which rows make a batch. skipped: where unreadable pairs are noted; another pair takes their place.
        answers: what is right for what, by these pairs or by more; read from the pairs by default.
        parts: which loss of the stage every row has `(n,)`, None for one.
        negatives: places for hard negatives; by default what the recipe asks for of these pairs.
        rank, world: which part of every batch is read.
    """

    further = 0  # places for further positives
    told = ""

    def __init__(
        self,
        pairs: Sequence[Pair] | PairTable,
        recipe: Recipe,
        sampler: BatchSampler,
        skipped: Skipped,
        *,
        answers: Answers | None = None,
        parts: np.ndarray | None = None,
        negatives: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.pairs, self.recipe, self.sampler, self.skipped = pairs, recipe, sampler, skipped
        self.rank, self.world, self.parts = rank, world, parts
        self._silent: set[str] = set()
        self.answers = known_answers(pairs) if answers is None else answers
        counts = count_negatives(self.answers)
        self.negatives = negatives_each(counts, recipe) if negatives is None else negatives

    @property
    def places_each(self) -> int:
        """Further targets of a query, beside its positive."""
        return self.negatives + self.further

    def read(self, items: Sequence[Item], slot: int, place: int, seed: tuple[int, ...]) -> Any:
        """What the model reads of an item of a pair.

        Args:
            items: of the pair, its query first. slot: which of them. place: 0 for the query, 1 for the positive, and so on.
            seed: of what is random in it.

        Raises:
            InputError: it cannot be read.
        """
        raise NotImplementedError(f"{type(self).__name__} must define read")

    def together(self, step: int, drawn: list[Drawn]) -> Batch:
        """The batch of a step, of its pairs."""
        raise NotImplementedError(f"{type(self).__name__} must define together")

    def candidates(self, pair: Pair, row: int, step: int, place: int) -> tuple[list[Item], list[int], list[int]]:
        """The items of a pair that a step may train, their numbers, and which of them it trains, in order.

        Raises:
            InputError: the pair is another than when the contents were compared.
        """
        items, numbers = list(pair.items()), self.answers.of(row).tolist()
        if len(items) != len(numbers):
            raise InputError("the pair could not be read, or was another, when the contents were compared")
        return items, numbers, self.places(row, step)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """See `Feed`; some steps ahead are read in threads."""
        with ThreadPoolExecutor(4, thread_name_prefix="zoo-feed") as pool:
            ahead: deque[tuple[int, list[Future]]] = deque()
            try:
                for step in range(start, stop):
                    ahead.append((step, self._submit(pool, step)))
                    # Filled before the first is taken: while one step trains, three are read.
                    if len(ahead) > _AHEAD:
                        yield self._gather(*ahead.popleft())
                while ahead:
                    yield self._gather(*ahead.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        return next(self.batches(step, step + 1))

    def numbers(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Feed`; pairs that cannot be read are left out."""
        lines = []
        for row in map(int, self.sampler.rows(step)):
            if self.answers.sizes[row]:
                lines.append(self.answers.of(row)[self.places(row, step)])
        flat = np.array(in_order(lines), dtype=np.int64)
        return flat[: len(lines)], flat[len(lines) :]

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> list[Future]:
        rows = self.sampler.rows(step)
        if len(rows) % self.world:
            # Equal parts: a gather needs as many rows of every process.
            rows = rows[: len(rows) // self.world * self.world]
        each = len(rows) // self.world
        mine = rows[self.rank * each : (self.rank + 1) * each]
        place = self.rank * each
        return [
            pool.submit(self._read_pairs, step, place + i, mine[i : i + _TOGETHER]) for i in range(0, each, _TOGETHER)
        ]

    def _gather(self, step: int, futures: list[Future]) -> Batch:
        return self.together(step, [one for future in futures for one in future.result()])

    def part(self, step: int) -> int:
        """Which loss a step has, determined by the whole batch: all processes say the same."""
        found = np.unique(self.parts[self.sampler.rows(step)]) if self.parts is not None else [0]
        if len(found) > 1:
            raise SamplerError(f"the batch of step {step} holds rows of several losses; take sampler='homogeneous'")
        return int(found[0])

    # ------------------------------------------------------------------------------------------------- one pair

    def _read_pairs(self, step: int, place: int, rows: Sequence[int]) -> list[Drawn]:
        return [self._read_pair(step, place + i, int(row)) for i, row in enumerate(rows)]

    def _read_pair(self, step: int, place: int, row: int) -> Drawn:
        """A pair and its reads; where it cannot be read, another takes its place, determined by the step and the place."""
        # By step and place, not by a generator that goes on: threads finish in any order, and a resumed
        # run starts in the middle.
        rng = np.random.default_rng((self.recipe.seed, step, place))
        for _ in range(_TRIES):
            try:
                return self._draw(step, place, row)
            except InputError as error:
                self.skipped.add(place_of(self.pairs, row), str(error))
            datasets = datasets_of(self.pairs)[0]
            alike = np.flatnonzero(datasets == datasets[row])  # a batch of one data set stays so
            row = int(alike[rng.integers(len(alike))])
        raise TooManyBadItemsError(f"{_TRIES} pairs in a row cannot be read; the last is {place_of(self.pairs, row)}")

    def _draw(self, step: int, place: int, row: int) -> Drawn:
        pair = self.pairs[row]
        items, numbers, slots = self.candidates(pair, row, step, place)
        seed, chosen, reads = (self.recipe.seed, step, place), [], []
        for i, slot in enumerate(slots):
            try:
                with noticing() as silences:
                    reads.append(self.read(items, slot, i, (*seed, i)))
                if silences and all(silences):
                    self._silence(row)
            except InputError as error:
                # Without its query or positive a pair is none; without one of its negatives it still is.
                if i < 2:
                    raise
                self.skipped.add(place_of(self.pairs, row), f"{error}; {WITHOUT_IT}")
            else:
                chosen.append(slot)
        empty = 2 + self.places_each - len(chosen)  # nobody's candidates
        return Drawn(
            row,
            pair,
            [items[slot] for slot in chosen] + empty * [items[chosen[1]]],
            [numbers[slot] for slot in chosen] + empty * [-1],
            reads + empty * [reads[1]._replace(empty=True)],
            self._scores(pair, chosen),
        )

    def _silence(self, row: int) -> None:
        """Says of the first rows whose audio is silence that it is: they are trained on all the same."""
        where = place_of(self.pairs, row)
        if where not in self._silent and len(self._silent) < _SAID:
            self._silent.add(where)
            more = "; of further ones nothing is said" if len(self._silent) == _SAID else ""
            warn(f"{where}: its audio is silence, from which there is nothing to learn{more}")

    def _scores(self, pair: Pair, chosen: Sequence[int]) -> list[float] | None:
        """A teacher's scores `1 + M` of the positive and the chosen hard negatives, -inf where there is none; None for a
        pair whose negatives have none."""
        if not pair.negatives:
            found = [*(pair.teacher_scores or (0.0,))][:1]  # of a positive alone they rank nothing
        elif len(pair.teacher_scores) == 1 + len(pair.negatives):
            count = 1 + len(pair.extra_positives)
            found = [pair.teacher_scores[0], *(pair.teacher_scores[slot - count] for slot in chosen if slot > count)]
        else:
            return None
        # -inf: a softmax over the scores gives an empty place no mass.
        return found + [-math.inf] * (1 + self.negatives - len(found))

    def places(self, row: int, step: int) -> list[int]:
        """Which items of a pair a step trains: the query, a positive, the hard negatives, further positives.

        Of more hard negatives than `negatives` the first are taken; of fewer, those that there are. A pair's positives
        come in an order of its own, another one when all have come; each epoch begins with the next.
        """
        count, size = int(self.answers.counts[row]), int(self.answers.sizes[row])
        epoch = step // self.sampler.steps_per_epoch
        order = [0]
        if count > 1:
            # One order for `count` epochs, turned by one place each: every positive comes first
            # once before any does twice.
            rng = np.random.default_rng((self.recipe.seed, row, epoch // count, _ORDER))
            order = np.roll(rng.permutation(count), -(epoch % count)).tolist()
        first, *more = (1 + i for i in order)
        chosen = range(1 + count, min(size, 1 + count + self.negatives))
        return [0, first, *chosen, *more[: self.further]]


class PairFeed(RowFeed):
    """Batches of any pairs for any embedder: each item goes to its tower.

    Args:
        model: its encoders read the items. recipe: prompts, negatives, augmentation, seed.
        vectors: embeddings by key of the towers that do not learn, by position of the tower. pooled: what the heads read that
            learn alone, in the same way.
        teacher: the teacher's embeddings by key and its prompts, None without one.
        all_positives: whether all positives of a pair are targets; else one is drawn, each once before any comes again.
        pairs, sampler, skipped, shared: as of `RowFeed`.
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
        pooled: dict[int, VectorCache] | None = None,
        teacher: Teacher | None = None,
        all_positives: bool = False,
        **shared: Any,
    ) -> None:
        super().__init__(pairs, recipe, sampler, skipped, **shared)
        self.model, self.vectors, self.pooled, self.teacher = model, vectors or {}, pooled or {}, teacher
        self.decoded = ReadCache(_DECODED_BYTES)
        self.prefixes = role_prefixes(model, recipe)
        self.views = Views(recipe)
        self.further = most(self.answers.counts - 1) if all_positives else 0

    def read(self, items: Sequence[Item], slot: int, place: int, seed: tuple[int, ...]) -> Read:
        """See `RowFeed`."""
        item, side = items[slot], place > 0
        view = self.views.draw(item, seed)
        return self._known_pooled(item, side, view) or self._read(item, self.prefixes[side], seed, view)

    def together(self, step: int, drawn: list[Drawn]) -> TrainBatch:
        """See `RowFeed`."""
        reads, numbers = in_order([one.reads for one in drawn]), in_order([one.numbers for one in drawn])
        rows, count = [one.row for one in drawn], len(drawn)
        extras = self._extras(drawn)
        contents, part = torch.tensor(numbers), self.part(step)
        return TrainBatch(reads[:count], reads[count:], extras, rows, self.places_each, contents, self.answers, part)

    def _known_pooled(self, item: Item, side: bool, view: int) -> Read | None:
        """A view of an item of which the head reads what is known; None for others."""
        if not self.pooled or (cache := self.pooled.get(position := self.model.route_index(item))) is None:
            return None
        found = cache.vector(self.views.key(item, self.prefixes[side], view))
        return None if found is None else Read(position, pooled=found)

    def _read(self, item: Item, prefix: str, seed: tuple[int, ...], view: int) -> Read:
        position = self.model.route_index(item)
        if (cache := self.vectors.get(position)) is not None:
            found = cache.vector(self.views.key(item, prefix, view))
            if found is not None:
                return Read(position, vector=found)
        encoder = self.model.routes[position].encoder
        if parts := encoder.parts(item):
            seeds = [(*seed, i) for i in range(len(parts))]
            reads = [self._read(p, prefix, own, self.views.draw(p, own)) for p, own in zip(parts, seeds, strict=True)]
            return Read(position, encoder.joined([(read.value, read.vector) for read in reads]))
        return Read(position, self.views.read(encoder, item, prefix, seed, view, self.decoded))

    # ------------------------------------------------------------------------------------------------- the extras

    def _extras(self, drawn: list[Drawn]) -> dict[str, Tensor]:
        extras, pairs = {}, [one.pair for one in drawn]
        if all(pair.score is not None for pair in pairs):
            extras["scores"] = torch.tensor([pair.score for pair in pairs], dtype=torch.float32)
        if all(one.scores is not None for one in drawn) and (self.negatives or pairs[0].teacher_scores):
            extras["teacher_scores"] = torch.tensor([one.scores for one in drawn], dtype=torch.float32)
        if self.teacher is not None:
            taught = [self._taught(item, i >= len(drawn)) for i, item in enumerate(in_order([d.items for d in drawn]))]
            extras["teacher_queries"] = torch.stack(taught[: len(drawn)])
            extras["teacher_targets"] = torch.stack(taught[len(drawn) :])
        return extras

    def _taught(self, item: Item, side: int) -> Tensor:
        vector = self.teacher.vectors.vector(item_key(item, self.teacher.prefixes[side]))
        if vector is None:
            raise PairsError(
                f"the teacher {self.recipe.teacher} could not embed an item of the batch ({sorted(item.modalities)}); take "
                "a teacher that reads these, or leave the pair out"
            )
        return vector


def in_order(lines: Sequence[Sequence[Any]]) -> list[Any]:
    """Entries of several pairs as a batch has them: all first ones, all second ones, then the others pair by pair."""
    return [line[0] for line in lines] + [line[1] for line in lines] + [entry for line in lines for entry in line[2:]]


def sample_of(pairs: Sequence[Pair] | PairTable, size: int = 256) -> list[Pair]:
    """Some pairs from all over the table, without those that cannot be read."""
    found = []
    for row in np.unique(np.linspace(0, len(pairs) - 1, min(size, len(pairs))).astype(int)):
        try:
            found.append(pairs[int(row)])
        except InputError:
            continue
    return found
