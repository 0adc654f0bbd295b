"""Rerankers on the Hub: saved, their scores compared, also by sentence-transformers, a card, one commit, and opened again by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, hf_hub_download

import zoo
from tests.hub import LoopbackHub
from tests.reference.cross_encoders import CASES, PAIRS, by_sentence_transformers, write
from zoo.cli import main
from zoo.errors import NameTakenError, NotPublishableError
from zoo.publishing.rerankers import stage_reranker

BOUND = 1e-5
REPO = "me/my-reranker"


@pytest.fixture
def hub(client_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", client_hub.token)
    return client_hub


def furthest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.mark.parametrize("name", ["ms-marco-test", "qwen3-reranker-test"])
def test_published_and_opened_again(name: str, hub: LoopbackHub) -> None:
    model = zoo.build_reranker(name)
    before = model.spec
    model.push_to_hub(REPO)
    assert model.spec == before
    again = zoo.load_reranker(f"hf:{REPO}", device="cpu")
    assert furthest(again.score(PAIRS), model.score(PAIRS)) < BOUND
    assert (again.spec.name, again.spec.license) == ("my-reranker", before.license)
    assert main(["verify", f"hf:{REPO}", "--quick"]) == 0
    card = Path(hf_hub_download(REPO, "README.md")).read_text()
    assert "license: apache-2.0" in card
    assert "pipeline_tag: text-ranking" in card
    assert f'load_reranker("hf:{REPO}")' in card
    assert (f'CrossEncoder("{REPO}")' in card) == (before.judge is None)
    with pytest.raises(NameTakenError):
        model.push_to_hub(REPO)


def test_the_command_needs_a_licence_and_tries_without_sending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a checkpoint nobody says it; what is kept of a dry run has the scores of the folder that it came from."""
    folder = write(CASES["bge-reranker-v2-m3"], tmp_path / "mine")
    command = ["publish", str(folder), "--to", REPO, "--dry-run", "--keep", str(tmp_path / "kept"), "--json"]
    assert main(command) == 2
    assert "--license" in capsys.readouterr().err
    assert main([*command, "--license", "mit"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "my-reranker"
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(told["files"])
    expected = by_sentence_transformers(folder, PAIRS)[0]
    assert furthest(by_sentence_transformers(tmp_path / "kept" / "model", PAIRS)[0], expected) < BOUND
    assert zoo.load_reranker(tmp_path / "kept" / "model", device="cpu").spec.license == "mit"


def test_other_scores_of_sentence_transformers_stop_it(tmp_path: Path) -> None:
    from zoo.publishing import rerankers

    model = zoo.build_reranker("ms-marco-test")
    stage_reranker(model, REPO, tmp_path / "staged")
    with torch.no_grad():
        model.head.out.bias += 0.1
    with pytest.raises(NotPublishableError, match="off the model"):
        rerankers._try_sentence_transformers(model, tmp_path / "staged")
