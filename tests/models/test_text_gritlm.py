"""GritLM's embedding side by name, from the files of its repositories: equal to its authors' `encode`, written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import zoo
from tests.hub import LoopbackHub
from tests.reference.base import TEXTS
from tests.reference.gritlm import LIMIT, WINDOW, write
from tests.reference.tiny import Tiny

BOUND, TELLS = 1e-5, 1e-3


@pytest.fixture
def tiny(client_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    return Tiny(client_hub, monkeypatch)


def furthest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gritlm-7b", False),
        pytest.param("gritlm-7b", True, marks=pytest.mark.slow),
        pytest.param("gritlm-8x7b", False, marks=pytest.mark.slow),
    ],
)
def test_by_name_as_the_authors(name: str, sentence: bool, tiny: Tiny, tmp_path: Path) -> None:
    """Texts longer than the window too; an instruction is read and not pooled; an empty one of documents; and none."""
    embed = write(tmp_path / name, name, sentence=sentence)
    model = tiny.load(name, tmp_path / name, lambda spec: zoo.build_model("gritlm-test"))
    texts = list(TEXTS[:-1])
    assert max(map(len, texts)) > 4 * WINDOW
    for instruction, how in {
        "": {"prompt": ""},
        "<|embed|>\n": {"prompt_name": "document"},
        "<|user|>\nFind pets\n<|embed|>\n": {"task": "Find pets"},
        model.spec.prompts["query"]: {},
    }.items():
        expected = embed(texts, instruction)
        assert torch.pdist(expected).min() > TELLS
        for size in (1, 4):
            assert furthest(model.encode_query(texts, batch_size=size, **how), expected) < BOUND
    assert furthest(model.encode_document(texts), embed(texts, "<|embed|>\n")) < BOUND
    long = TEXTS[-1]
    assert len(long) > LIMIT
    assert furthest(model.encode(long, prompt=""), embed([long])[0]) < BOUND
