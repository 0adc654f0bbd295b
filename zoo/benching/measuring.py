"""The measurement in one process: opens all candidates, says how long it will take, and times them in turn."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zoo.benching.beside import opened, pooling_of, where
from zoo.benching.job import ROUNDS, Alone, Job
from zoo.benching.material import MADE, inputs_of, kinds_of
from zoo.benching.opening import Open, Opened, calls_of, keep_the_same, load, open_all
from zoo.benching.results import Bench, Row, shares
from zoo.benching.timing import percentile, rounds, seconds, singles, speed
from zoo.benching.work import Work, passes_of, run_passes, tokens_of, weights_read, work_of
from zoo.machine import Others, peak_mb, product_rate, read_rate

_TRIED = 8  # inputs by which it is estimated how long a kind takes
_SECONDS = 12.0  # for the rounds of one kind, where no count is asked for, about
_FEWEST, _MOST = 2, {"images": 256, "texts": 1024, "recordings": 64, "videos": 16}
_FEW_ROUNDS = 3  # where even the fewest inputs take longer
_SINGLES, _SINGLE_SECONDS = 40, 5.0
_IMPORTS = 3.0  # seconds in which a process has imported torch and the like, about
_FORWARD, _READING = "forward of ", "reading"
Ticking = Callable[[int], Callable[[], object]]


@dataclass(frozen=True)
class Measured:
    """What the process that times hands on: the figures but for memory, and what is to be measured by itself for that."""

    bench: Bench
    alone: list[Alone]


@dataclass(frozen=True)
class _Timed:
    """The times of one kind, by the names of candidates."""

    kind: str
    count: int
    tokens: int | None
    work: Work
    weights: dict[str, float]  # candidate of the zoo → bytes that its passes read
    whole: dict[str, list[float]]
    single: dict[str, list[float]]


def measure(job: Job, folder: Path, say: Callable[[str], object], ticking: Ticking) -> Measured:
    """Times all candidates of a job.

    Args:
        folder: for files that are made. say: is told how long it will take. ticking: number of rounds → what is called after each.

    Raises:
        ZooError: as `open_all`; the model does not read what the job brings.
    """
    others = Others()
    found = open_all(job)
    reads = found.reference.spec.max_tokens
    kinds = kinds_of(found.reference, job)
    for kind in kinds:
        _try(kind, inputs_of(kind, _TRIED, job, reads, folder), found)
    plan = {kind: job.count or _count(kind, found.ready) for kind in kinds}
    repeat = job.rounds or (
        ROUNDS if all(_seconds(*one, found.ready, ROUNDS) < 2 * _SECONDS for one in plan.items()) else _FEW_ROUNDS
    )
    if said := others.at_first():
        say(said)
    say(announced(plan, repeat, found.ready))
    device = str(found.reference.device)
    rates = [(product_rate(device), read_rate(device))]
    tick = ticking((repeat + 1) * len(plan))
    timed = [
        _timed(kind, inputs_of(kind, count, job, reads, folder), found, repeat, tick) for kind, count in plan.items()
    ]
    rates.append((product_rate(device), read_rate(device)))
    best = max(rate[0] for rate in rates), max(rate[1] for rate in rates)  # a busy moment only makes one lower
    bench = Bench(
        model=found.reference.spec.name,
        machine=_machine(device),
        products=best[0],
        memory=best[1],
        inputs={one.kind: _described(one, job) for one in timed},
        flop={one.kind: one.work.flop / one.count for one in timed},
        rounds=repeat,
        rows=[row for one in timed for row in _rows(one, best)],
        left_out=found.left_out,
        busy=others.meanwhile(),
    )
    here, pooling = replace(job, device=device), pooling_of(found.reference)
    counts = [({kind: plan[kind] for kind in plan if kind in one.calls}, one) for one in found.ready]
    return Measured(bench, [Alone(here, one.candidate, some, pooling, reads) for some, one in counts if some])


def remember(alone: Alone, folder: Path) -> float | None:
    """Embeds with one candidate alone, and gives the largest memory of this process, MB."""
    job, candidate = alone.job, alone.candidate
    if candidate.by == "zoo":
        calls = calls_of(load(job, candidate))
    else:
        calls = opened(candidate, where(job, alone.pooling), job.device or "cpu")
    for kind, count in alone.counts.items():
        calls[kind](inputs_of(kind, count, job, alone.max_tokens, folder))
    return peak_mb()


def _try(kind: str, inputs: list[Any], found: Opened) -> None:
    """Leaves out what embeds otherwise, and notes how long each candidate takes for one input."""
    keep_the_same(found, kind, inputs)
    for one in found.ready:
        if kind in one.calls:
            times = [seconds(lambda one=one: one.calls[kind](inputs)) for _ in range(3)]
            one.each[kind] = min(times) / len(inputs)  # the first of all is slower


def _count(kind: str, ready: list[Open]) -> int:
    """How many inputs the rounds of a kind can have within their time."""
    each = _seconds(kind, 1, ready, ROUNDS)
    return max(_FEWEST, min(_MOST[kind], int(_SECONDS / each)))


def _seconds(kind: str, count: int, ready: list[Open], repeat: int) -> float:
    """That all rounds of a kind take, about: every candidate, and of the zoo's the forward pass by itself."""
    each = sum(one.each[kind] * (1 if one.model is None else 2) for one in ready if kind in one.each)
    return max(1e-6, each * count * (repeat + 1))


def announced(plan: dict[str, int], repeat: int, ready: list[Open]) -> str:
    """How long it will take, in one line."""
    rounds_take = sum(_seconds(kind, count, ready, repeat) for kind, count in plan.items())
    singles_take = sum(min(_SINGLE_SECONDS, _SINGLES * each) for one in ready for each in one.each.values())
    alone = sum(_IMPORTS + one.took + sum(one.each[kind] * plan[kind] for kind in one.each) for one in ready)
    what = " and ".join(f"{count:,} {kind}" for kind, count in plan.items())
    of = f"{len(ready)} candidates" if len(ready) > 1 else str(ready[0].candidate)
    return (
        f"about {rounds_take + singles_take + alone:.0f} s: {of}, {repeat} round{'s' if repeat > 1 else ''} of {what}, then a process each for its memory; "
        "--count and --rounds say otherwise"
    )


def _timed(kind: str, inputs: list[Any], found: Opened, repeat: int, tick: Callable[[], object]) -> _Timed:
    ready = [one for one in found.ready if kind in one.calls]
    calls = {str(one.candidate): one.calls[kind] for one in ready}
    passes = {str(one.candidate): (one.model, passes_of(one.model, inputs)) for one in ready if one.model is not None}
    counted = passes_of(found.reference, inputs)
    work = work_of(found.reference, counted)
    runs: dict[str, Callable[[], object]] = {}
    for name, call in calls.items():
        runs[name] = lambda call=call: call(inputs)
        if name in passes:
            runs[_FORWARD + name] = lambda name=name: run_passes(*passes[name])
    runs[_READING] = lambda: passes_of(found.reference, inputs)
    whole = rounds(runs, repeat, tick=tick)
    each = sum(one.each[kind] for one in ready)
    single = singles(calls, inputs, max(5, min(_SINGLES, int(_SINGLE_SECONDS / max(each, 1e-6)))))
    tokens = tokens_of(counted) if kind == "texts" else None
    weights = {name: weights_read(some) for name, (_, some) in passes.items()}
    return _Timed(kind, len(inputs), tokens, work, weights, whole, single)


def _rows(timed: _Timed, rates: tuple[float, float]) -> list[Row]:
    """A row for each candidate; `ratio` is of the first."""
    found, reading = [], min(timed.whole[_READING])
    baseline = next(iter(timed.single))
    for name, alone in timed.single.items():
        median = percentile(timed.whole[name], 0.5)
        of_ours: dict[str, float] = {}
        if name in timed.weights:
            forward = percentile(timed.whole[_FORWARD + name], 0.5)
            of_ours = shares(median, reading, forward, (timed.work.flop, timed.weights[name]), rates)
        found.append(
            Row(
                of=timed.kind,
                by=name,
                rate=timed.count / median,
                ratio=speed(timed.whole, name, baseline),
                p50=1000 * percentile(alone, 0.5),
                p95=1000 * percentile(alone, 0.95),
                tokens=None if timed.tokens is None else timed.tokens / median,
                **of_ours,
            )
        )
    return found


def _described(timed: _Timed, job: Job) -> str:
    """What was embedded, in words."""
    own = {"images": job.images, "texts": job.texts}.get(timed.kind)
    what = "of yours" if own else MADE[timed.kind]
    tokens = "" if timed.tokens is None else f", {timed.tokens / timed.count:,.0f} tokens on average"
    return f"{timed.count:,} {what}{tokens}"


def _machine(device: str) -> str:
    """What computed, in words."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{platform.processor() or platform.machine()}, {threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}"
