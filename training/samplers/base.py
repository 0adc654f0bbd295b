"""What every sampler is, what it may know of the pairs, and how samplers are named.

A batch is the whole one, of all processes: each computes the same rows and takes its part of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from zoo.arguments import checked, text
from zoo.registry.plugins import discover, ours_first
from zoo.tables.pairs import Pair, PairTable, datasets_of

from ..errors import SamplerError
from ..spec_strings import check_options, read_call, what_there_is


@dataclass(frozen=True, eq=False)
class Rows:
    """What samplers may know of the pairs.

    Attributes:
        datasets: `(n,)` number of the data set of every row. names: the data sets' names, by number.
        pairs: the pairs themselves, read only where a sampler needs keys, labels or difficulties that are not given.
        keys: `(n,)` or `(n, m)` numbers; rows that share one must not meet in a batch. By default those of the query
            and the positive.
        labels: `(n,)` class of every row; by default the positive's text.
        difficulty: `(n,)`, higher is harder; by default the length of the texts.
        blocks: `(n,)` number of the shard or row group of every row, or the rows of one where all are alike.
    """

    datasets: np.ndarray
    names: Sequence[str]
    pairs: Sequence[Pair] | PairTable | None = None
    keys: np.ndarray | None = None
    labels: np.ndarray | None = None
    difficulty: np.ndarray | None = None
    blocks: np.ndarray | int | None = None

    def __len__(self) -> int:
        return len(self.datasets)

    @cached_property
    def members(self) -> list[np.ndarray]:
        """The rows of every data set, in order; sets without rows are left out (see `known`)."""
        return np.split(by_number(self.datasets), np.cumsum(self._sizes)[:-1])

    @cached_property
    def known(self) -> list[str]:
        """Names of the data sets of `members`."""
        return [str(self.names[number]) for number in np.flatnonzero(np.bincount(self.datasets))]

    @cached_property
    def _sizes(self) -> np.ndarray:
        counts = np.bincount(self.datasets)
        return counts[counts > 0]

    def read(self, what: str, of: Callable[[Pair], Any]) -> list[Any]:
        """Something of every pair, in order; raises SamplerError where there are no pairs to read it from."""
        if self.pairs is None:
            raise SamplerError(f"this sampler needs {what} of the rows; give {what}=, or pairs= to read them from")
        return [of(self.pairs[row]) for row in range(len(self))]


def by_number(numbers: np.ndarray) -> np.ndarray:
    """The order that puts equal numbers, from 0, together; those that fit 16 bits are sorted ten times as fast."""
    return np.argsort(numbers.astype(np.min_scalar_type(numbers.max(initial=0))), kind="stable")


class BatchSampler:
    """Base of all samplers.

    Args:
        rows: what is known of the pairs. batch_size: rows of a batch, over all processes. seed: of the order.
        steps: of the whole run, for samplers whose batches change as it goes on; None for one pass.

    Attributes:
        reads: what it reads of the pairs beside their items, in the names of `Loss.reads`.
        steps_per_epoch: batches of an epoch; the same for every epoch.

    Raises:
        SamplerError: the batch is larger than the data, or there are none.
    """

    reads: frozenset[str] = frozenset()

    def __init__(self, rows: Rows, *, batch_size: int, seed: int, steps: int | None = None) -> None:
        if not len(rows):
            raise SamplerError(
                "there are no pairs to draw a batch from; look at the data, or at `datasets` of the recipe"
            )
        if batch_size > len(rows):
            raise SamplerError(
                f"a batch of {batch_size} is larger than the data, {len(rows)} pairs; set batch_size to at most {len(rows)}"
            )
        self.data, self.batch_size, self.seed, self.steps = rows, batch_size, seed, steps
        self.steps_per_epoch = len(rows) // batch_size
        self._now: tuple[int, np.ndarray] | None = None

    def draw(self, epoch: int) -> np.ndarray:
        """The batches of an epoch `(steps_per_epoch, batch_size)`, computed anew."""
        raise NotImplementedError(f"{type(self).__name__} must define draw")

    def batches(self, epoch: int) -> np.ndarray:
        """The batches of an epoch `(steps_per_epoch, batch_size)`; those of the last epoch asked for are kept."""
        now = self._now
        if now is None or now[0] != epoch:
            now = self._now = (epoch, self.draw(epoch))
        return now[1]

    def rows(self, step: int) -> np.ndarray:
        """The rows of a step `(batch_size,)`, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.batches(epoch)[place]

    def composition(self, epoch: int) -> dict[str, int]:
        """Rows of every data set in an epoch."""
        counts = np.bincount(self.data.datasets[self.batches(epoch).ravel()], minlength=len(self.data.names))
        return {str(name): int(count) for name, count in zip(self.data.names, counts, strict=True)}

    def _random(self, *place: int) -> np.random.Generator:
        # The length is part of it, for numpy takes numbers that are missing for zeros.
        return np.random.default_rng((abs(self.seed), int(self.seed < 0), *place, len(place)))

    def _cut(self, order: np.ndarray) -> np.ndarray:
        return order[: len(order) // self.batch_size * self.batch_size].reshape(-1, self.batch_size)


# ---------------------------------------------------------------------------------------------------- names


class _Registry:
    makers: ClassVar[dict[str, type[BatchSampler]]] = {}


@checked(name=text)
def register_sampler(name: str) -> Callable[[type], type]:
    """Names a sampler for recipes and `--sampler`."""

    def register(cls: type) -> type:
        ours_first(cls.__module__, __package__)
        if name in _Registry.makers:
            raise ValueError(f"two samplers are called {name!r}")
        _Registry.makers[name] = cls
        return cls

    return register


def describe_samplers() -> list[tuple[str, str]]:
    """Names of all samplers, and what each does in a line; a file dropped into `training/samplers` is enough, or an entry point."""
    discover("samplers", __package__)
    return [(name, str(cls.__doc__).strip().splitlines()[0]) for name, cls in sorted(_Registry.makers.items())]


def sampler_reads(text: str) -> frozenset[str]:
    """What the sampler of a recipe reads of the pairs, in the names of `Loss.reads`; of an unknown one nothing."""
    describe_samplers()
    return getattr(_Registry.makers.get(text.partition("(")[0].strip()), "reads", frozenset())


def build_sampler(
    text: str,
    datasets: np.ndarray | None = None,
    *,
    batch_size: int,
    seed: int,
    steps: int | None = None,
    pairs: Sequence[Pair] | PairTable | None = None,
    names: Sequence[str] | None = None,
    keys: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    difficulty: np.ndarray | None = None,
    blocks: np.ndarray | int | None = None,
) -> BatchSampler:
    """A sampler from how a recipe writes it: `shuffled`, `no_duplicates`, `interleaved(sub_batch=64)`.

    Args:
        text: name and options. datasets: `(n,)` number of the data set of every row; by default determined by the pairs.
        batch_size, seed, steps: see `BatchSampler`. The other arguments are those of `Rows`.

    Raises:
        SamplerError: no such name or option, or these pairs cannot be put into such batches.
    """
    try:
        name, options = read_call(text)
    except ValueError as error:
        raise SamplerError(f"{error}; write a sampler like interleaved(sub_batch=64)") from error
    samplers = [known for known, _ in describe_samplers()]
    if name not in samplers:
        raise SamplerError(f"no sampler is called {name!r}; {what_there_is(name, samplers)}")
    if pairs is not None and (datasets is None or names is None):
        numbers, names = datasets_of(pairs)
        datasets = numbers if datasets is None else datasets
    datasets = np.asarray(datasets if datasets is not None else (), dtype=np.int64)
    names = names if names is not None else [str(number) for number in range(datasets.max(initial=-1) + 1)]
    rows = Rows(datasets, names, pairs, keys, labels, difficulty, blocks)
    maker = _Registry.makers[name]
    try:
        check_options(maker, options, given=("rows", "batch_size", "seed", "steps"))
        return maker(rows, batch_size=batch_size, seed=seed, steps=steps, **options)
    except SamplerError:
        raise
    except (TypeError, ValueError) as error:
        raise SamplerError(f"{name}: {error}") from error
