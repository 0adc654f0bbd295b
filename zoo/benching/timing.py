"""Fair rounds: all candidates embed the same inputs in one process, one after the other, so that a busy moment hurts all alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def rounds(
    candidates: Mapping[str, Callable[[], object]],
    repeat: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of every candidate in every round, after one that warms up; `tick` is called after each round."""
    for run in candidates.values():
        run()
    tick()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeat):
        for name, run in candidates.items():
            times[name].append(seconds(run, clock))
        tick()
    return times


def singles(
    candidates: Mapping[str, Callable[[list[Any]], object]], inputs: Sequence[Any], count: int
) -> dict[str, list[float]]:
    """Seconds for one input by itself, `count` times for every candidate, in turn."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(count):
        for name, embed in candidates.items():
            times[name].append(seconds(lambda embed=embed, number=number: embed([inputs[number % len(inputs)]])))
    return times


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Of one call."""
    start = clock()
    run()
    return clock() - start


def speed(times: Mapping[str, Sequence[float]], name: str, baseline: str) -> float:
    """How many times as fast as the baseline: the median of the ratios in the same round."""
    return statistics.median(b / s for b, s in zip(times[baseline], times[name], strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that is no less than this share of them (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
