"""Judges of text by name, Qwen3-Reranker and mxbai-rerank v2, from the files of their repositories: scores of the authors' code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import zoo
from tests.hub import LoopbackHub
from tests.reference.judges import LIMIT, QWEN2, QWEN3, by_mixedbread, by_qwen, write
from zoo.errors import (
    InvalidTextError,
    MissingWeightsError,
    UnreadSettingError,
    UnrecognisedCheckpointError,
    UnsupportedModalityError,
)
from zoo.reranking import registry

BOUND = 1e-5
TASK = "Find the page of the manual."
PAIRS = [
    ("a red bicycle", "A bicycle in the rain, a café and 山の上の白い雲. " * 20),  # truncated
    ("how do I reset it?", "Hold the button?\n"),
    ("x", "how now brown cow"),
    ("what is it? " * 30, "a bicycle"),  # of which the end and the document are lost
    ("hello there ", " Hold the button."),
]
SMALL, LARGE, MXBAI = NAMES = ("qwen3-reranker-0.6b", "qwen3-reranker-8b", "mxbai-rerank-base-v2")
ST = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_LogitScore", "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"},
    ],
    "1_LogitScore/config.json": {"true_token_id": 262, "false_token_id": 263},
    "config_sentence_transformers.json": {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"},
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name; the largest has a projection to the vocabulary of its own."""
    root = tmp_path_factory.mktemp("judges")
    return {name: write(root / name, QWEN2 if name == MXBAI else QWEN3, tied=name != LARGE) for name in NAMES}


@pytest.fixture
def by_name(
    client_hub: LoopbackHub, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], zoo.Reranker]:
    zoo.list_rerankers()
    monkeypatch.setattr(registry.RERANKERS, "_found", dict(registry.RERANKERS._found))

    def load(name: str) -> zoo.Reranker:
        spec = zoo.get_reranker_spec(name)
        facts = {**spec.to_dict(), "name": f"{name}-tiny", "revision": None, "max_tokens": LIMIT}
        zoo.register_reranker(**facts)(registry.RERANKERS.builder(name))
        client_hub.add(folders[name], spec.hub_id)
        return zoo.load_reranker(f"{name}-tiny", device="cpu")

    return load


def furthest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


def asked(pairs: list[tuple[str, str]], instruction: str) -> list[tuple[zoo.Item, str]]:
    return [(zoo.Item(text=query, instruction=instruction), document) for query, document in pairs]


@pytest.mark.parametrize("name", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow), MXBAI])
def test_by_name_as_the_authors_code(
    name: str, by_name: Callable[[str], zoo.Reranker], folders: dict[str, Path]
) -> None:
    """Short and truncated, one and many, with and without an instruction; padded on either side."""
    by_authors = by_mixedbread if name == MXBAI else by_qwen
    model, expected = by_name(name), by_authors(folders[name], PAIRS)
    assert torch.pdist(expected[:, None]).min() > 1e-4, "or agreement would prove nothing"
    assert furthest(model.score(PAIRS), expected) < BOUND
    assert furthest(model.score(PAIRS, batch_size=1), expected) < BOUND
    assert furthest(model.score(asked(PAIRS, TASK)), by_authors(folders[name], PAIRS, TASK)) < BOUND
    reads = [model.prepare(*pair) for pair in PAIRS]
    assert max(len(read.ids) for read in reads) == LIMIT
    with torch.inference_mode():
        left = model.activate(model.logits(model.encoder.collate(reads, side="left")))
    assert furthest(left, expected) < BOUND
    assert model.logits(model.collate(reads)).requires_grad


def test_parts_of_the_prompt_become_tokens_each_by_itself(folders: dict[str, Path]) -> None:
    """A question mark and the line break after it are one token, but not where the query ends."""
    model = zoo.load_reranker(folders[MXBAI], like="mxbai-rerank-base-v2", device="cpu")
    joined = model.encoder.tokenizer.convert_tokens_to_ids("?Ċ")
    assert joined not in model.prepare("what?", "that?").ids
    assert joined in model.prepare("what?\nor", "that?").ids
    with pytest.raises(InvalidTextError, match="at which this model divides"):
        model.prepare("what\x1e", "that")


def test_saved_and_opened_again(folders: dict[str, Path], tmp_path: Path) -> None:
    model = zoo.load_reranker(folders[SMALL], device="cpu")
    again = zoo.load_reranker(model.save_pretrained(tmp_path / "saved"), device="cpu")
    assert again.spec == model.spec
    assert furthest(again.score(PAIRS), model.score(PAIRS)) < BOUND
    built = zoo.build_reranker("qwen3-reranker-test")
    again = zoo.load_reranker(built.save_pretrained(tmp_path / "built"), device="cpu")
    assert furthest(again.score(PAIRS), built.score(PAIRS)) < BOUND


def test_what_sentence_transformers_wrote_beside_it_counts(tmp_path: Path) -> None:
    """The answers and the activation are followed; its chat template is not read, so that `like` must say how it is asked."""
    place = write(tmp_path / "st", files=ST)
    with pytest.raises(UnrecognisedCheckpointError, match="LogitScore, which ask by a chat template"):
        zoo.load_reranker(place)
    model = zoo.load_reranker(place, like="qwen3-reranker", device="cpu")
    assert model.spec.activation == "identity"
    short = PAIRS[1:3]
    assert furthest(model.score(short).sigmoid(), by_qwen(place, short)) < BOUND
    (place / "1_LogitScore" / "config.json").write_text(json.dumps({"true_token_id": 5, "false_token_id": 263}))
    with pytest.raises(UnrecognisedCheckpointError, match="compares"):
        zoo.load_reranker(place, like="qwen3-reranker")


def test_what_it_is_not_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    model = zoo.load_reranker(folders[SMALL], device="cpu")
    with pytest.raises(UnsupportedModalityError, match="reads text, not image"):
        model.score("a", [zoo.Item(image=torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())])
    with pytest.raises(UnrecognisedCheckpointError, match="a reranker of its own family"):
        other = shutil.copytree(folders[SMALL], tmp_path / "other")
        facts = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps({**facts, "model_type": "qwen2"}))
        zoo.load_reranker(other, like="qwen3-reranker")
    odd = shutil.copytree(folders[SMALL], tmp_path / "odd")
    facts = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**facts, "rerank_head": "sum"}))
    with pytest.raises(UnreadSettingError, match="rerank_head"):
        zoo.load_reranker(odd)
    (odd / "config.json").write_text(json.dumps({**facts, "tie_word_embeddings": False}))
    with pytest.raises(MissingWeightsError, match="no projection to the vocabulary"):
        zoo.load_reranker(odd)
    embedder = shutil.copytree(folders[SMALL], tmp_path / "embedder")
    rows = [
        *ST["modules.json"][:1],
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (embedder / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(UnrecognisedCheckpointError, match="is an embedder"):
        zoo.load_reranker(embedder)
