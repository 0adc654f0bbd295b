"""A process that has torch loaded and one thread, forks a child for every line it reads, and lets chance kill it.

A line is `SECONDS KIND FOLDER`: the child trains an embedder or a reranker in FOLDER (going on where it was) and is killed by the kernel after SECONDS,
0 for never. The answer is `killed` or `done`, or `failed` with the child's words on stderr.
"""

import os
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from zoo.training import train
from zoo.training.trainer import make_feed  # noqa: F401  (loads everything before the first fork)

from tests.training.train_support import fresh, fresh_reranker, quick, shape_pairs, text_pairs

RECIPE = quick(
    steps=12,
    batch_size=6,
    checkpoint_every=3,
    evaluate_every=2,  # between the checkpoints, at them, and between an evaluation and the next checkpoint
    keep_checkpoints="last",
    ema=0.9,
    micro_batch=4,
    holdout=0.25,
)


def child(seconds: float, kind: str, folder: Path) -> None:
    if seconds:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM, left to the kernel: ends the process anywhere
    model, pairs, recipe = fresh(), shape_pairs(), RECIPE
    if kind == "reranker":
        model, pairs, recipe = fresh_reranker(), text_pairs(12), replace(RECIPE, loss="binary")
    train(model, pairs, recipe, folder, resume=True, progress=False, trackers=(), report=False)


def main() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, kind, folder = line.split(maxsplit=2)
        if (pid := os.fork()) == 0:
            try:
                child(float(seconds), kind, Path(folder.strip()))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        status = os.waitpid(pid, 0)[1]
        word = "killed" if os.WIFSIGNALED(status) else "done" if status == 0 else "failed"
        print(word, flush=True)


if __name__ == "__main__":
    main()
