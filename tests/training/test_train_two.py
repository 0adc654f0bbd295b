"""Several processes learn what one would: loss and gradients of a shared batch, and a whole run by accelerate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from zoo.training.gather import say
from zoo.training.logs import device_of, make_accelerator

from tests import warm
from tests.ports import free_port
from tests.training.train_support import PAINTS, SHAPES, make_image
from zoo import load_model
from zoo.cli import main
from zoo.errors import ArgumentError

PROJECT = Path(__file__).resolve().parents[2]


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
    child = [sys.executable, "-m", "tests.training.train_two"]
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


def shapes(tmp_path: Path) -> list[str]:
    """A table of images and the options of a short run on it."""
    lines = ["image,text"]
    for shape in SHAPES:
        for paint in PAINTS:
            Image.fromarray(make_image(shape, paint)).save(tmp_path / f"{paint}-{shape}.png")
            lines.append(f"{paint}-{shape}.png,a {paint} {shape}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    options = [str(tmp_path / "pairs.csv"), "--holdout", "4", "--steps", "3", "--batch-size", "8", "--log", "none"]
    options += ["--evaluate-every", "1"]
    # A locked tower too; running statistics that move would be each process's own.
    return [*options, "--checkpoint-every", "3", "--model", "mini-test", "--from-scratch", "--freeze", "text"]


def compare(two: Path, one: Path) -> None:
    """The run in `two` had two processes, and what it learned is what the one of `one` did."""
    counts = [json.loads((folder / "timing.json").read_text())["processes"] for folder in (two, one)]
    assert counts == [2, 1]
    curves = [[json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in (two, one)]
    assert [entry["step"] for entry in curves[0]] == [entry["step"] for entry in curves[1]] == [1, 2, 3]
    judged = [[json.loads(line) for line in (folder / "evaluations.jsonl").open()] for folder in (two, one)]
    assert judged[0] == judged[1]
    assert [row["step"] for row in judged[0]] == [0, 1, 2, 3]
    for name in ("loss", "temperature", "grad_norm"):
        assert [e[name] for e in curves[0]] == pytest.approx([e[name] for e in curves[1]], rel=1e-5), name
    pair, alone = (load_model(folder).state_dict() for folder in (two, one))
    for name, value in alone.items():
        torch.testing.assert_close(pair[name], value, atol=1e-5, rtol=1e-4, msg=name)


def begin_two(options: list[str], **environment: str) -> list:
    """The command in two processes, with what launchers set for each."""
    common = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [
        warm.Popen(
            [sys.executable, "-m", "zoo.training", *options],
            cwd=PROJECT,
            env={**common, **environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_end_with_the_best_weights_and_stop_together(sharded, tmp_path):
    """Averaged weights, whole and sharded: what was ranked during the run is what was written."""
    adjectives, nouns = ("red", "blue", "green", "black", "small", "old"), ("cat", "dog", "cow", "hen", "fox", "owl")
    rows = [f"what of the {a} {n},{n} {a} it runs" for a in adjectives for n in nouns]
    (tmp_path / "pairs.csv").write_text("query,positive\n" + "\n".join(rows) + "\n")
    options = [str(tmp_path / "pairs.csv"), "--model", "text-test", "--from-scratch", "--out", str(tmp_path / "run")]
    options += [
        "--holdout",
        "12",
        "--steps",
        "12",
        "--lr",
        "0.5",
        "--schedule",
        "constant",
        "--ema",
        "0.5",
        "--log",
        "none",
    ]
    options += ["--batch-size", "8", "--evaluate-every", "1", "--patience", "4"]
    fsdp = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"} if sharded else {}
    children = begin_two(options, **fsdp)
    outputs = [child.communicate(timeout=300)[0] for child in children]
    assert not any(child.returncode for child in children), "\n\n".join(outputs)
    rows = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").open()]
    best = max(rows[1:], key=lambda row: (row["figure"], row["step"]))
    assert best["step"] < rows[-1]["step"] < 12
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["verdict"]["after"] == pytest.approx(best["figure"], abs=1e-6)
    assert scores["kept"]["finetune"]["early"]


@pytest.mark.slow
def test_the_command_in_two_processes_learns_what_one_does_and_speaks_once(tmp_path):
    """With what launchers set for each process."""
    options = shapes(tmp_path)
    children = begin_two([*options, "--out", str(tmp_path / "two")])
    assert main(["train", *options, "--out", str(tmp_path / "one")]) == 0
    first, other = outputs = [child.communicate(timeout=300)[0] for child in children]
    assert not any(child.returncode for child in children), "\n\n".join(outputs)
    assert first.count("model written to") == first.count("pairs.csv: 12 pairs") == 1
    assert other.strip() == ""
    compare(tmp_path / "two", tmp_path / "one")


def test_one_process_speaks_before_they_have_met(monkeypatch, capsys):
    for rank, heard in (("", "hello\n"), ("0", "hello\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank) if rank else monkeypatch.delenv("RANK", raising=False)
        say("hello")
        assert capsys.readouterr().out == heard


def test_the_device_is_the_one_asked_for_or_an_error_before_any_work(tmp_path, capsys):
    accelerator = make_accelerator((), tmp_path)
    assert device_of(accelerator, None) == accelerator.device
    assert device_of(accelerator, "cpu") == torch.device("cpu")
    wrong = ["gpu", "cuda:99", "meta"] + ([] if torch.backends.mps.is_available() else ["mps"])
    for device in wrong:
        with pytest.raises(ArgumentError, match=r"^device must be"):
            device_of(accelerator, device)
    options = shapes(tmp_path)
    assert main(["train", *options, "--device", "cuda:99", "--out", str(tmp_path / "run")]) == 2
    assert "--device must be" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("config", ["ddp", "fsdp2"])
def test_accelerate_launches_the_command(config, tmp_path):
    options = shapes(tmp_path)
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", str(free_port())]
    launcher += ["--config_file", f"training/launch/{config}.yaml", "-m", "zoo.training"]
    # The launcher's own --cpu starts one process; its processes are told one by one.
    run_children([[*launcher, *options, "--out", str(tmp_path / "two")]], ACCELERATE_USE_CPU="true")
    run_children([[sys.executable, "-m", "zoo", "train", *options, "--out", str(tmp_path / "one")]])
    compare(tmp_path / "two", tmp_path / "one")
