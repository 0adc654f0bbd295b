"""Killed at random moments and resumed each time, a run ends in the bits of one that was never stopped."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import warm

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def zygote():
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    process = warm.Popen(
        [sys.executable, "-m", "tests.training.train_zygote"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=environment,
    )
    assert process.stdout.readline() == "ready\n"

    def run(seconds: float, kind: str, folder: Path) -> str:
        process.stdin.write(f"{seconds} {kind} {folder}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield run
    process.stdin.close()
    process.wait()
    process.stdout.close()


def curve(folder: Path) -> list[tuple]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    return [(entry["step"], entry["loss"], entry["grad_norm"], entry["lr"]) for entry in lines]


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "kind"), [(10, "embedder"), (50, "embedder"), (10, "reranker")])
def test_kills(kills, kind, zygote, tmp_path):
    begun = time.perf_counter()
    assert zygote(0, kind, tmp_path / "whole") == "done"
    whole_run = time.perf_counter() - begun
    weights, steps = load_file(tmp_path / "whole" / "model.safetensors"), curve(tmp_path / "whole")
    assert [step for step, *_ in steps] == list(range(1, 13))
    evaluations = (tmp_path / "whole" / "evaluations.jsonl").read_text()
    scores = json.loads((tmp_path / "whole" / "scores.json").read_text())
    assert scores["kept"]["quick"]["measure"]
    rng, killed, rounds = random.Random(kills), 0, 0
    while killed < kills:
        folder = tmp_path / f"run-{rounds}"
        rounds += 1
        # Early and late moments alike: each attempt is killed within what is left of a whole run, or comes through.
        while (answer := zygote(rng.uniform(0.002, whole_run), kind, folder)) == "killed":
            killed += 1
        assert answer == "done"
        assert curve(folder) == steps
        found = load_file(folder / "model.safetensors")
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], weights[name]) for name in weights)
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000012"]
        assert (folder / "evaluations.jsonl").read_text() == evaluations
        assert json.loads((folder / "scores.json").read_text()) == scores
