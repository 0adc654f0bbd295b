"""What the processes of `zoo.benching.run` do: read a job from stdin, and write one line of JSON to stdout."""

import contextlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.allocator import keep_freed
from zoo.benching.job import Alone, Job
from zoo.errors import ZooError
from zoo.machine import cores
from zoo.strangers.terminal import clean_output


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """The answer to {"job": …} or {"alone": …}; {"error": …} where that fails."""
    job = Job.from_dict(asked["job"]) if "job" in asked else Alone.from_dict(asked["alone"]).job
    keep_freed()  # as the command `zoo` does, whose speed this is
    threads = job.threads or len(cores())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores()[:threads])  # before any library starts its threads
    import torch

    torch.set_num_threads(threads)
    from zoo.benching.measuring import measure, remember

    with tempfile.TemporaryDirectory() as folder:
        try:
            if "alone" in asked:
                return {"mb": remember(Alone.from_dict(asked["alone"]), Path(folder))}
            found = measure(job, Path(folder), lambda line: print(line, file=sys.stderr, flush=True), _bar)
        except ZooError as error:
            return {"error": [type(error).__name__, str(error)]}
    return {"bench": found.bench.to_dict(), "alone": [one.to_dict() for one in found.alone]}


def _bar(total: int) -> Callable[[], object]:
    from tqdm import tqdm

    bar = tqdm(total=total, desc="rounds", unit=" rounds", disable=None, leave=False)  # None: on terminals only

    def step() -> None:
        bar.update()
        if bar.n >= total:
            bar.close()

    return step


@clean_output()
def answer() -> None:
    """Reads one job, and answers it."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    with contextlib.closing(answers):
        print(json.dumps(main(json.load(sys.stdin))), file=answers, flush=True)


if __name__ == "__main__":
    answer()
