"""`--task` and `--example` of encode, embed and search: for models that take a task in words or by name, refused by others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import zoo
from zoo.cli import main

TEXTS = ["a red motorbike", "two dogs in the snow", "gulls above the harbour"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models in words with examples (kalm), in words for both roles (instructor), by name (llm-embedder) and without (text)."""
    root = tmp_path_factory.mktemp("tasks")
    for name in ("kalm-test", "instructor-test", "llm-embedder-test", "text-test"):
        torch.manual_seed(0)
        zoo.build_model(name).save_pretrained(root / name)
    (root / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    return root


def encoded(capsys: pytest.CaptureFixture[str], *words: str | Path) -> torch.Tensor:
    assert main(["encode", "a cat", "--json", *map(str, words)]) == 0
    return torch.tensor(json.loads(capsys.readouterr().out)["vectors"][0]["vector"])


def test_encode(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = zoo.load_model(place / "kalm-test")
    pairs = [("a dog?", "the brown one"), ("a gull?", "at sea")]
    shown = [word for pair in pairs for word in ("--example", *pair)]
    for words, asked in ((["--task", "Find pets"], {}), (["--task", "Find pets", *shown], {"examples": pairs})):
        found = encoded(capsys, "--model", place / "kalm-test", *words)
        assert (found - model.encode_query("a cat", task="Find pets", **asked)).abs().max() < 1e-6
    assert (found - model.encode("a cat")).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["llm-embedder-test", "instructor-test"])
def test_embed_and_search(name: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = zoo.load_model(place / name), tmp_path / "out"
    embed = ["embed", str(place / "texts.txt"), "--model", str(place / name), "--quiet"]
    assert main([*embed, "--out", str(out), "--task", "tool"]) == 0
    from zoo.index import open_index

    index = open_index(out, model=model, backend="exact", adopt=False)
    capsys.readouterr()
    for task in ("tool", "chat"):
        search = [
            "search",
            str(out),
            "a motorbike",
            "--task",
            task,
            "--json",
            "--backend",
            "exact",
            "-k",
            "3",
            "--plain",
        ]
        assert main([*search, "--model", str(place / name)]) == 0
        found = [row["score"] for row in json.loads(capsys.readouterr().out)]
        asked = model.encode_query("a motorbike", task=task)
        assert found == pytest.approx([hit.score for hit in index.search(asked, 3)], abs=1e-5)
        scores = (model.encode_document(TEXTS, task="tool") @ asked).sort(descending=True).values
        assert found == pytest.approx(scores.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["encode", "a cat", "--model", "./text-test", "--task", "Find pets"], "no prompt for a query of the task"),
        (["encode", "a cat", "--model", "./llm-embedder-test", "--task", "cooking"], "its prompts are"),
        (["encode", "a cat", "--model", "./kalm-test", "--task", "x", "--prompt", "y: "], "give one of them"),
        (["encode", "a cat", "--model", "./kalm-test", "--example", "a", "b"], "task must be a text"),
        (["encode", "a cat", "--model", "./kalm-test", "--task", "x", "--example", "a", " "], "has no answer"),
        (["encode", " ", "--model", "./kalm-test", "--task", "x"], "no visible character"),
        (
            ["encode", "a cat", "--model", "./instructor-test", "--task", "x", "--example", "a", "b"],
            "no examples of it",
        ),
        (["embed", "texts.txt", "--out", "never", "--model", "./kalm-test", "--task", "x"], "stand without a task"),
    ],
)
def test_what_is_refused(
    words: list[str], said: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not (place / "never").exists()
