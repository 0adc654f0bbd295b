"""Fine-tuning on a CSV, as the README shows it, from Python and from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zoo.training import open_pairs, recipes, train

import zoo
from zoo.cli import main

COLOURS = {"red": (220, 20, 20), "green": (20, 180, 40), "blue": (20, 40, 220), "yellow": (240, 220, 20)}


@pytest.fixture
def table(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["image,text"]
    for name, colour in COLOURS.items():
        for i in range(6):
            pixels = np.clip(np.array(colour) + rng.normal(0, 25, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{name}{i}.png")
            lines.append(f"{name}{i}.png,a {name} tile")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def accuracy(model, pairs) -> float:
    labels = sorted({pair.positive.text for pair in pairs})
    scores = model.similarity(model.encode([pair.query for pair in pairs]), model.encode(labels))
    return np.mean([labels[best] == pair.positive.text for best, pair in zip(scores.argmax(1), pairs, strict=True)])


@pytest.mark.slow
def test_a_csv_teaches_the_model_and_the_folder_loads_by_name(table, tmp_path):
    pairs = open_pairs(table)
    model = zoo.build_model("mini-test")
    before = accuracy(model, pairs)
    recipe = recipes.finetune(epochs=40, batch_size=12, lr=3e-3, holdout=0)
    train(model, pairs, recipe, tmp_path / "run", progress=False, trackers=())
    again = zoo.load_model(tmp_path / "run")
    assert accuracy(again, pairs) > max(0.9, before)
    assert again.spec.name == "run"
    assert again.spec.base == "mini-test"


def test_the_command_does_the_same_and_a_second_run_goes_on(table, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", str(table), "--model", "mini-test", "--from-scratch", "--out", str(out), "--steps", "4"]
    assert main([*command, "--batch-size", "8", "--log", "none"]) == 0
    said = capsys.readouterr().out
    assert "query     image  column image" in said
    assert "positive  text   column text" in said
    assert (out / "report.html").is_file()
    assert "held-out pairs" in (out / "README.md").read_text()
    (out / "model.safetensors").unlink()
    assert main([*command, "--batch-size", "8", "--log", "none"]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main([*command, "--batch-size", "8", "--log", "none", "--resume"]) == 0
    assert zoo.load_model(out).encode("a red tile").shape == (32,)


def test_a_dry_run_checks_everything_and_writes_nothing(table, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", str(table), "--model", "mini-test", "--from-scratch", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "loss of the first step" in said
    assert "queries" in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "fintune"], "no recipe is called 'fintune'; nearest: finetune"),
        (["--loss", "infonse"], "no loss is called 'infonse'"),
        (["--batch-size", "500"], "a batch of 500 is larger than the"),
        (["--freeze", "txt"], "has no parameter 'txt'"),
        (["--model", "zoo-miny"], "nearest: zoo-mini"),
        (["--column", "image"], "is not written NAME=VALUE"),
        (["--column", "query_image=photo"], "photo"),
        (["--log", "mlflo"], "no tracker is called 'mlflo'"),
        (["--held-out", "gone.csv"], "gone.csv does not exist"),
    ],
)
def test_wrong_options_are_named_before_any_work(options, message, table, tmp_path, capsys):
    command = ["train", str(table), "--model", "mini-test", "--from-scratch", "--out", str(tmp_path / "run"), *options]
    assert main([c for c in command if c != "--from-scratch"] if "zoo-miny" in options else command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_lists_and_shows(capsys):
    assert main(["train", "--list"]) == 0
    said = capsys.readouterr().out
    for name in ("finetune", "infonce", "no_duplicates", "retrieval-first"):
        assert name in said
    assert main(["train", "--show", "--recipe", "retrieval-first", "--lr", "0.1"]) == 0
    stages = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in stages] == ["retrieval", "all-tasks"]
    assert {stage["lr"] for stage in stages} == {0.1}


def test_missing_packs_name_the_variable(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "gone"))
    assert main(["train", "--recipe", "zoo-mini", "--out", str(tmp_path / "run")]) == 2
    assert "ZOO_DATA" in capsys.readouterr().err
