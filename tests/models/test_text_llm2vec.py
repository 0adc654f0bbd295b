"""LLM2Vec by name, from the files of three repositories: equal to its authors' `encode`, written out; their adapters by peft."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import zoo
from tests.hub import LoopbackHub
from tests.reference.base import TEXTS
from tests.reference.llm2vec import DOCUMENT, KINDS, LIMIT, put, repositories, write
from tests.reference.tiny import Tiny
from zoo.errors import TooManyTokensError, UnrecognisedCheckpointError

BOUND, TELLS = 1e-5, 1e-3
LONG = "a lighthouse on the pier\n\n and  gulls above it, " * 40
FIRST = "llm2vec-meta-llama-3-8b-instruct-mntp-supervised"


@pytest.fixture
def tiny(client_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    return Tiny(client_hub, monkeypatch)


def furthest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.mark.parametrize(
    "name", [name if name == "Mistral-7B-Instruct-v2" else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]
)
def test_by_name_as_the_authors(name: str, tiny: Tiny, tmp_path: Path) -> None:
    """Short texts, those of more than 400 tokens and with space around; with an instruction and without."""
    embed = write(tmp_path, name)
    for part, repo in repositories(name).items():
        tiny.hub.add(tmp_path / part, repo)
    registered = f"llm2vec-{name.lower()}-mntp-supervised"
    model = tiny.load(registered, tmp_path / "second", lambda spec: zoo.build_model("llm2vec-test"))
    assert model.spec.max_tokens == LIMIT
    texts = [*TEXTS[:8], LONG, LONG + "x" * LIMIT, " kitty\n"]
    assert len(LONG) > DOCUMENT
    for instruction, how in {
        "": {"prompt": ""},
        "Find pets:": {"task": "Find pets"},
        model.spec.prompts["query"]: {},
    }.items():
        expected = embed(texts, instruction)
        assert torch.pdist(expected[:8]).min() > TELLS
        assert furthest(model.encode_query(texts, batch_size=5, **how), expected) < BOUND
    assert furthest(model.encode_document(texts[0]), embed(texts[:1])[0]) < BOUND
    model.save_pretrained(tmp_path / "own")
    again = zoo.load_model(tmp_path / "own", device="cpu")
    assert furthest(again.encode_query(texts[-2:]), expected[-2:]) < BOUND


def test_where_a_text_is_cut() -> None:
    """By words to 400 tokens; one word without end, of which the authors' code reads nothing, where the tokens end."""
    model = zoo.build_model("llm2vec-test")
    encoder = model.towers[0].encoder
    assert encoder.cut(zoo.Item(text="a b")) is None
    assert encoder.cut(zoo.Item(text=LONG)).tokens == DOCUMENT
    assert encoder.cut(zoo.Item(text="x" * 600)).tokens == LIMIT
    word, more = encoder.prepare_item(zoo.Item(text="x" * 600)), encoder.prepare_item(zoo.Item(text="x" * 601))
    assert word == more
    assert len(word) == LIMIT
    assert LIMIT // 2 < len(encoder.prepare_item(zoo.Item(text=LONG * 200))) < DOCUMENT + len("[INST]  [/INST]") + 2
    model.encode("a b", prompt="p" * 300 + ": ")
    with pytest.raises(TooManyTokensError, match="prompt alone"):
        model.encode("a b", prompt="p" * 600 + ": ")


def test_folders_of_ones_own(tmp_path: Path) -> None:
    """Adapters that name folders; without a model that says how they are read, or without a base, they are refused by name."""
    embed = write(tmp_path, "Llama-2-7b-chat-hf", places=True)
    model = zoo.load_model(tmp_path / "second", like="llm2vec-llama-2-7b-chat-hf-mntp-supervised", device="cpu")
    assert furthest(model.encode(["a b", "kitty"], prompt="Pets: "), embed(["a b", "kitty"], "Pets:")) < BOUND
    with pytest.raises(UnrecognisedCheckpointError, match=FIRST):
        zoo.load_model(tmp_path / "second")
    with pytest.raises(UnrecognisedCheckpointError, match=FIRST):
        zoo.load_model(tmp_path / "second", like="gritlm-7b")
    config = tmp_path / "first" / "adapter_config.json"
    put(config, {**json.loads(config.read_text()), "base_model_name_or_path": ""})
    with pytest.raises(zoo.errors.MissingWeightsError, match="names no language model"):
        zoo.load_model(tmp_path / "second", like="llm2vec-llama-2-7b-chat-hf-mntp-supervised")
