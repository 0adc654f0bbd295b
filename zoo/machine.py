"""This machine: the cores and memory that this process has, the rates that it can reach, and whether others are at work on it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

_SIDE = 2048  # of the matrices whose product is timed: large enough to run at the full rate, some tens of milliseconds on two cores
_READ = 2**28  # bytes that are read to time it: more than any cache holds
_SECONDS = 0.5  # for each of the two
_LOAD, _SHARE, _STEAL = 0.5, 0.1, 0.02  # from where on others are said to be at work


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def peak_mb() -> float | None:
    """The largest resident memory of this process so far, in MB; None where the system does not tell it (it does on Linux)."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    # VmHWM begins anew with the program; getrusage would still count the process that forked it.
    line = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def product_rate(device: str = "cpu") -> float:
    """Floating-point operations a second of a product of two large float32 matrices: the most that a model can reach here."""
    import torch

    a = torch.randn(_SIDE, _SIDE, device=device)
    return 2 * _SIDE**3 / _quickest(lambda: (a @ a)[0, 0].item())  # `item` waits for a GPU


def read_rate(device: str = "cpu") -> float:
    """Bytes a second at which memory that no cache holds is read."""
    import torch

    values = torch.ones(_READ // 4, device=device)
    return _READ / _quickest(lambda: values.sum().item())


def _quickest(call: Callable[[], object]) -> float:
    """Seconds of the quickest call: whatever else the machine does only makes one slower."""
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < _SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


class Others:
    """Whether others are at work on this machine, from when it is made: figures that were measured meanwhile say little.

    Attributes:
        load: processes that ran or waited in the last minute before (`os.getloadavg`); 0 where the system does not tell it.
    """

    def __init__(self) -> None:
        self.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        self._before = _ticks(), _own_seconds()

    def at_first(self) -> str:
        """One line where something ran before; "" where the machine was quiet."""
        if self.load < _LOAD:
            return ""
        return (
            f"others are at work on this machine (load average {self.load:.1f}): figures may be too low, ratios less so"
        )

    def meanwhile(self) -> str:
        """One line where others have taken from the processor since; "" where they have not, or where the system does not tell it."""
        (ticks, own), now = self._before, _ticks()
        if ticks is None or now is None:
            return ""
        return told(
            dict(zip(_KINDS, (b - a for a, b in zip(ticks, now, strict=True)), strict=True)), _own_seconds() - own
        )


_KINDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def told(ticks: dict[str, int], own: float) -> str:
    """What others took of the processor, in one line; "" where that is little.

    Args:
        ticks: hundredths of a second (`SC_CLK_TCK`) of all cores together by what they were for, as in /proc/stat.
        own: seconds of the processor that were ours.
    """
    total = sum(ticks.values())
    if total <= 0:
        return ""
    stolen = ticks["steal"] / total
    busy = total - ticks["idle"] - ticks["iowait"] - ticks["steal"]
    others = busy / total - own * os.sysconf("SC_CLK_TCK") / total
    if stolen < _STEAL and others < _SHARE:
        return ""
    return (
        f"others took {max(others, 0):.0%} of the processor meanwhile, and other virtual machines {stolen:.0%}: figures may be too "
        "low, ratios less so"
    )


def _ticks() -> list[int] | None:
    try:
        first = Path("/proc/stat").read_text("ascii").splitlines()[0].split()
    except (OSError, IndexError):
        return None
    return [int(number) for number in first[1 : 1 + len(_KINDS)]] if len(first) > len(_KINDS) else None


def _own_seconds() -> float:
    """Of the processor, by this process and by those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
