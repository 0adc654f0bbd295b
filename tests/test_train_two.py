"""Several processes learn what one would: loss and gradients of a shared batch, and a whole run by accelerate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests import warm
from tests.ports import free_port
from tests.train_support import PAINTS, SHAPES, picture
from zoo import load_model

PROJECT = Path(__file__).resolve().parents[1]


def run_children(commands: list[list[str]], **environment: str) -> None:
    """All at once; the words of those that failed."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", **environment}
    children = [
        warm.Popen(command, cwd=PROJECT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    outputs = [child.communicate(timeout=300)[0] for child in children]
    assert all(child.returncode == 0 for child in children), "\n\n".join(outputs)


def gradients(tmp_path: Path, world: int, kind: str) -> dict[str, torch.Tensor]:
    out = tmp_path / f"{kind}-{world}.pt"
    child = [sys.executable, "-m", "tests.train_two"]
    run_children([[*child, str(rank), str(world), str(out) + ".meet", str(out), kind] for rank in range(world)])
    return torch.load(out)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return gradients(tmp_path_factory.mktemp("alone"), 1, "replicated")


@pytest.mark.parametrize("kind", ["replicated", pytest.param("sharded", marks=pytest.mark.slow)])
def test_two_processes_equal_one(kind, alone, tmp_path):
    """Every loss, in micro-batches, with weights replicated and with weights sharded by FSDP2."""
    shared = gradients(tmp_path, 2, kind)
    assert shared.keys() == alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, atol=1e-9, rtol=1e-5, msg=name)
    assert {name.split("/")[0] for name in alone} >= {"infonce", "sigmoid", "gist", "distillation", "matryoshka"}


@pytest.mark.slow
@pytest.mark.parametrize("config", ["ddp", "fsdp2"])
def test_accelerate_launches_the_command(config, tmp_path):
    lines = ["image,text"]
    for shape in SHAPES:
        for paint in PAINTS:
            Image.fromarray(picture(shape, paint)).save(tmp_path / f"{paint}-{shape}.png")
            lines.append(f"{paint}-{shape}.png,a {paint} {shape}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    options = [str(tmp_path / "pairs.csv"), "--holdout", "0", "--steps", "3", "--batch-size", "8", "--log", "none"]
    options += ["--freeze", "text"]  # a locked tower too
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", str(free_port())]
    launcher += ["--config_file", f"training/launch/{config}.yaml", "-m", "zoo.training"]
    # The launcher's own --cpu starts one process; its processes are told one by one.
    run_children([[*launcher, *options, "--out", str(tmp_path / "two")]], ACCELERATE_USE_CPU="true")
    run_children([[sys.executable, "-m", "zoo", "train", *options, "--out", str(tmp_path / "one")]])
    curves = [[json.loads(line)["loss"] for line in (tmp_path / n / "metrics.jsonl").open()] for n in ("two", "one")]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    words = ["a red circle", "a blue bar"]
    two, one = (load_model(tmp_path / name).encode(words) for name in ("two", "one"))
    torch.testing.assert_close(two, one, atol=1e-4, rtol=1e-3)
