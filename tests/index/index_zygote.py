"""A process that has the stores loaded and forks writers and builders for every line it reads, which the kernel kills.

A line is JSON: what they do ("write" or "build"), where, and for each of them a seed, the calls that it lives for, and
the seconds from then to its death. The answer is a line with what became of each: "killed", "done" or "failed" (with its
words on stderr).

A writer tells what it does in a log, a line in one write: `begin` before a call, `done` after it.
"""

import json
import os
import random
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch  # noqa: F401  (loads everything before the first fork)

from tests.index.index_support import BACKENDS, put
from zoo.index import building, open_index


def die_in(seconds: float) -> None:
    """SIGALRM, left to the kernel: ends the process anywhere."""
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))


def write(folder: str, backend: str, log: str, seed: int, calls: int, seconds: float) -> None:
    """Upserts and deletes without end. Rows called `s…` are everybody's."""
    told = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    chance = random.Random(seed)
    names = [*(f"{seed}-{number}" for number in range(12)), *(f"s{number}" for number in range(6))]
    index = BACKENDS[backend].open(folder)
    for turn in range(10**6):
        if turn == calls:
            die_in(seconds)
        some = chance.sample(names, chance.randint(1, 5))
        version = None if chance.random() < 0.3 else seed * 10**6 + turn
        what = {"who": seed, "turn": turn, "names": some, "version": version}
        os.write(told, json.dumps({"begin": True, **what}).encode() + b"\n")
        if version is None:
            index.delete(some)
        else:
            put(index, some, version)
        os.write(told, json.dumps({"begin": False, **what}).encode() + b"\n")


def build(folder: str, backend: str, seconds: float, **_: Any) -> None:
    """Brings the index of a folder of `zoo embed` up to date."""
    die_in(seconds)
    building.ROWS_PER_COMMIT = 10
    open_index(folder, backend=backend)


def main() -> None:
    warnings.simplefilter("ignore")  # lancedb is not sure of forks; nothing of it runs yet
    if len(sys.argv) > 1:
        import lancedb  # noqa: F401
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        work, lives = {"write": write, "build": build}[order.pop("work")], order.pop("lives")
        children = []
        for seed, calls, seconds in lives:
            if (pid := os.fork()) == 0:
                try:
                    work(seed=seed, calls=calls, seconds=seconds, **order)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
            children.append(pid)
        ends = [os.waitpid(pid, 0)[1] for pid in children]
        words = ["killed" if os.WIFSIGNALED(end) else "done" if end == 0 else "failed" for end in ends]
        print(json.dumps(words), flush=True)


if __name__ == "__main__":
    assert Path("tests").is_dir()
    main()
