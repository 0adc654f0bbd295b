"""Samplers that know which data set a row comes from."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..errors import SamplerError
from ..spec_strings import what_there_is
from .base import BatchSampler, Rows, register_sampler


@register_sampler("homogeneous")
class Homogeneous(BatchSampler):
    """Every batch comes from one data set, so that its negatives are of the same kind (LLM-Embedder, NV-Embed, QZhou).

    Args:
        mode: "epoch" draws the members of a batch anew each epoch; "epoch-static" keeps them and changes the order of
            the batches; "random" draws a data set for each batch, by its size (LLM-Embedder's three).
        exchange: share of every batch that is exchanged with other batches: 1 - rho of KaLM's semi-homogeneous ones.
        tails: what fills no batch of its own: "mix" makes batches of it, as KaLM does, "drop" leaves it out.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        mode: Literal["epoch", "epoch-static", "random"] = "epoch",
        exchange: float = 0.0,
        tails: Literal["mix", "drop"] = "drop",
        **given: Any,
    ) -> None:
        super().__init__(rows, **given)
        if mode not in ("epoch", "epoch-static", "random") or tails not in ("mix", "drop"):
            raise ValueError(f"mode must be epoch, epoch-static or random, tails mix or drop, not {mode!r}, {tails!r}")
        if not 0 <= exchange <= 1:
            raise ValueError(f"exchange must be from 0 to 1, not {exchange}")
        self.mode, self.tails, self.exchanged = mode, tails, int(self.batch_size * exchange + 1e-9)
        if tails == "drop" or mode == "random":
            remedy = 'lower batch_size, leave it out (`datasets` of the recipe), or take homogeneous(tails="mix")'
            _check_sizes(rows, self.batch_size, "batch", remedy)
        if mode != "random" and tails == "drop":
            self.steps_per_epoch = sum(len(members) // self.batch_size for members in rows.members)

    def draw(self, epoch: int) -> np.ndarray:
        rng = self._random(epoch)
        if self.mode == "random":
            batches = self._by_size(rng)
        else:
            fixed = self._random(0) if self.mode == "epoch-static" else rng
            orders = [fixed.permutation(members) for members in self.data.members]
            tails = [order[len(order) // self.batch_size * self.batch_size :] for order in orders]
            parts = [self._cut(order) for order in orders]
            if self.tails == "mix":
                parts.append(self._cut(fixed.permutation(np.concatenate(tails))))
            batches = rng.permutation(np.concatenate(parts))
        if self.exchanged:
            # KaLM's semi-homogeneous batches: the last places of all batches are dealt out anew, and no row is lost.
            batches[:, -self.exchanged :] = rng.permutation(batches[:, -self.exchanged :].ravel()).reshape(
                len(batches), self.exchanged
            )
        return batches

    def _by_size(self, rng: np.random.Generator) -> np.ndarray:
        sizes = np.array([len(members) for members in self.data.members])
        drawn = rng.choice(len(sizes), size=self.steps_per_epoch, p=sizes / sizes.sum())
        batches = np.empty((self.steps_per_epoch, self.batch_size), dtype=np.int64)
        for number, members in enumerate(self.data.members):
            mine = np.flatnonzero(drawn == number)
            # Whole shuffles of full batches, so that no batch holds a row twice.
            each = len(members) // self.batch_size
            shuffles = [self._cut(rng.permutation(members)) for _ in range(-(-len(mine) // each))]
            if shuffles:
                batches[mine] = np.concatenate(shuffles)[: len(mine)]
        return batches


class _Weighted(BatchSampler):
    """Samplers that draw data sets by size to the power of a temperature, times a weight of their own."""

    def __init__(self, rows: Rows, *, temperature: float, weights: Mapping[str, float] | None, **given: Any) -> None:
        super().__init__(rows, **given)
        if not 0 <= temperature <= 1:
            raise ValueError(f"temperature must be from 0 (all data sets alike) to 1 (by size), not {temperature}")
        self.sizes = np.array([len(members) for members in rows.members])
        own = np.array(by_pattern(rows.known, weights or {}, 1.0))
        if (own < 0).any() or not own.any():
            raise ValueError(f"weights must not be negative, nor all 0: {dict(weights or {})}")
        self.own, self.temperature = own, temperature

    def shares(self, sizes: np.ndarray) -> np.ndarray:
        """Share of every data set."""
        # p_d ∝ w_d · n_d^α: α = 1 draws by size, α = 0 all sets alike (mT5, Xue et al., 2021).
        shares = self.own * sizes.astype(float) ** self.temperature
        return shares / shares.sum()

    def endless(self, number: int, start: int, count: int) -> np.ndarray:
        """Rows `start` to `start + count` of a data set's endless row of shuffles: none comes twice before all came."""
        members = self.data.members[number]
        # Shuffle number `turn` depends on the set and the turn alone: any stretch can be had without those before it.
        first, last = start // len(members), -(-(start + count) // len(members))
        shuffles = [self._random(number, turn).permutation(members) for turn in range(first, last)]
        offset = start - first * len(members)
        return np.concatenate(shuffles or [members[:0]])[offset : offset + count]


@register_sampler("mixed")
class Mixed(_Weighted):
    """Every batch a mix of the data sets, small ones drawn more often than their size says (mT5; BGE-M3).

    An epoch holds so many rows of a set: in proportion to its weight times its size to the power of the temperature.
    Small sets repeat rows, large ones leave some for the next epoch; over the epochs all rows of a set come alike.

    Args:
        temperature: 1 draws by size, 0 all sets alike. weights: factors of data sets by shell pattern, else 1.
        caps: most rows of a data set in an epoch, by shell pattern; it then counts as no larger than that.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        temperature: float = 0.5,
        weights: Mapping[str, float] | None = None,
        caps: Mapping[str, int] | None = None,
        **given: Any,
    ) -> None:
        super().__init__(rows, temperature=temperature, weights=weights, **given)
        caps = np.array(by_pattern(rows.known, caps or {}, math.inf))
        if (caps < 1).any():
            raise ValueError(f"caps must be at least 1, not {caps.min()}; leave a data set out by a weight of 0")
        sizes = np.minimum(self.sizes, caps)
        self.steps_per_epoch = int(sizes[self.own > 0].sum()) // self.batch_size
        if self.steps_per_epoch == 0:
            raise SamplerError(
                f"with these caps an epoch has {int(sizes[self.own > 0].sum())} rows and a batch {self.batch_size}; raise "
                "the caps or lower batch_size"
            )
        self.counts = _apportion(self.steps_per_epoch * self.batch_size, self.shares(sizes), caps)

    def draw(self, epoch: int) -> np.ndarray:
        parts = [self.endless(i, epoch * count, count) for i, count in enumerate(self.counts.tolist())]
        return self._cut(self._random(epoch).permutation(np.concatenate(parts)))


@register_sampler("interleaved")
class Interleaved(_Weighted):
    """Every batch a few runs of one data set each: a data set is drawn by weight and gives a run (VLM2Vec-V2).

    A small set begins again with another shuffle, so that no row comes twice before all of its set came.

    Args:
        sub_batch: rows of a run; below 1 a share of the batch.
        temperature, weights: as of `mixed`; VLM2Vec's own weights are temperature=0 and a weight for each set.
        stop: an epoch lasts until every data set has been seen whole ("all"), or until the first has ("first").
        order: "even" gives every set its share of an epoch's runs exactly, in an order drawn anew; "drawn" draws the set
            of each run by itself, as VLM2Vec does, so that shares hold on average. The first epoch, drawn, lasts until
            `stop` says so, and the others as long.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        sub_batch: float = 64,
        temperature: float = 1.0,
        weights: Mapping[str, float] | None = None,
        stop: Literal["all", "first"] = "all",
        order: Literal["even", "drawn"] = "even",
        **given: Any,
    ) -> None:
        super().__init__(rows, temperature=temperature, weights=weights, **given)
        self.run = round(sub_batch * self.batch_size) if sub_batch < 1 else int(sub_batch)
        if self.run < 1 or self.batch_size % self.run:
            raise ValueError(f"sub_batch {sub_batch} does not divide a batch of {self.batch_size} into equal runs")
        if stop not in ("all", "first"):
            raise ValueError(f"stop must be all or first, not {stop!r}")
        if order not in ("even", "drawn"):
            raise ValueError(f"order must be even or drawn, not {order!r}")
        _check_sizes(rows, self.run, "run", "lower sub_batch, or leave it out (`datasets` of the recipe)")
        self.portions, self.order = self.shares(self.sizes), order
        if order == "drawn":
            runs = self._runs_until(stop)
        else:
            needed = self.sizes[self.portions > 0] / self.run / self.portions[self.portions > 0]
            runs = math.ceil(needed.max() - 1e-9) if stop == "all" else math.floor(needed.min() + 1e-9)
        each = self.batch_size // self.run
        self.steps_per_epoch = max(1, -(-runs // each) if stop == "all" else runs // each)
        self.runs = self.steps_per_epoch * each

    def _runs_until(self, stop: str) -> int:
        """Runs of the first epoch until all sets, or the first of them, have been seen whole."""
        needed = -(-self.sizes // self.run)
        count = int((needed / np.maximum(self.portions, 1e-12))[self.portions > 0].max())
        while True:
            drawn = self._drawn(0, count)
            # Where each set's last new row comes; a set that is not drawn that often needs more runs.
            places = [np.flatnonzero(drawn == n) for n in np.flatnonzero(self.portions > 0)]
            wanted = needed[self.portions > 0]
            ends = [p[w - 1] + 1 if len(p) >= w else math.inf for p, w in zip(places, wanted, strict=True)]
            end = max(ends) if stop == "all" else min(ends)
            if end < math.inf:
                return int(end)
            count *= 2

    def _drawn(self, epoch: int, count: int) -> np.ndarray:
        """The data sets of an epoch's first runs; more of them begin with the same."""
        edges = self.portions.cumsum()
        return np.searchsorted(edges / edges[-1], self._random(epoch).random(count), side="right")

    def draw(self, epoch: int) -> np.ndarray:
        if self.order == "drawn":
            order = self._drawn(epoch, self.runs)
        else:
            counts = _apportion(self.runs, self.portions)
            order = self._random(epoch).permutation(np.repeat(np.arange(len(counts)), counts))
        runs = np.empty((len(order), self.run), dtype=np.int64)
        for number, size in enumerate(self.sizes.tolist()):
            mine = np.flatnonzero(order == number)
            most = len(mine) if self.order == "even" else self.runs
            turns = -(-most * self.run // size)  # an epoch begins with a shuffle of its own
            rows = self.endless(number, epoch * turns * size, len(mine) * self.run)
            runs[mine] = rows.reshape(len(mine), self.run)
        return runs.reshape(self.steps_per_epoch, self.batch_size)


def _check_sizes(rows: Rows, least: int, what: str, remedy: str) -> None:
    for name, members in zip(rows.known, rows.members, strict=True):
        if len(members) < least:
            raise SamplerError(
                f"the data set {name!r} has {len(members)} rows, fewer than the {least} of a {what} of its own; {remedy}"
            )


def by_pattern(names: Sequence[str], values: Mapping[str, float], otherwise: float) -> list[float]:
    """The value of the first pattern that a name matches; raises SamplerError for one that matches none."""
    for pattern in values:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise SamplerError(f"no data set is called {pattern!r}; {what_there_is(pattern, names)}")
    return [next((v for p, v in values.items() if fnmatch.fnmatchcase(name, p)), otherwise) for name in names]


def _apportion(total: int, shares: np.ndarray, caps: np.ndarray | None = None) -> np.ndarray:
    """Whole numbers that add up to `total` and lie nearest to the shares, none above its cap."""
    wanted, caps = total * shares, np.full(len(shares), np.inf) if caps is None else caps
    while (wanted > caps + 1e-6).any():
        full = wanted >= caps
        wanted = np.where(full, caps, wanted)
        # What capped sets cannot give, the others give in proportion; that may fill another cap, hence the loop.
        wanted[~full] *= (total - wanted[full].sum()) / wanted[~full].sum()
    # Largest remainders: rounding each by itself would miss the total. 1e-6 so that 2.9999999 counts as 3.
    counts = np.floor(wanted + 1e-6).astype(np.int64)
    rest = np.where(counts < caps, wanted - counts, -np.inf)
    counts[np.argsort(-rest, kind="stable")[: total - counts.sum()]] += 1
    return counts
