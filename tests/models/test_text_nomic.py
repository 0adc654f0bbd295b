"""nomic-embed-text v1, v1.5 and v2-moe, Arctic m-long and CodeRankEmbed on their backbone, by name, from the files of their repositories: equal to the authors' computation, written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import zoo
from tests.every import standing_for
from tests.hub import LoopbackHub
from tests.reference.base import TEXTS
from tests.reference.nomic import Embed, write
from tests.reference.tiny import Tiny
from zoo.encoders.experts import Experts
from zoo.errors import MissingWeightsError, UnreadSettingError

BOUND, TELLS = 1e-5, 1e-3
# Registered name → how its files are written, and a model of its parts.
NAMES: dict[str, tuple[dict[str, bool], str]] = {
    "nomic-embed-text-v1": ({}, ""),
    "nomic-embed-text-v1.5": ({"normed": True, "newer": True}, "nomic-test"),
    "nomic-embed-text-v2-moe": ({"moe": True}, "nomic-moe-test"),
    "snowflake-arctic-embed-m-long": ({"cls": True}, "arctic-test"),
    "coderankembed": ({"cls": True}, "arctic-test"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Embed]]:
    root = tmp_path_factory.mktemp("nomic")
    return {name: (root / name, write(root / name, **how)) for name, (how, _) in NAMES.items()}


@pytest.fixture
def tiny(client_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    return Tiny(client_hub, monkeypatch)


def _mean(spec: zoo.ModelSpec) -> zoo.Embedder:
    from zoo.models.parts import Mean
    from zoo.models.text import bert, text_embedder

    return text_embedder(spec, bert(layers=1, width=32, heads=4, vocab=260, positions=spec.max_tokens), Mean())


def furthest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.mark.parametrize("name", standing_for(NAMES, set(NAMES) - {"coderankembed"}))
def test_by_name_as_the_authors(name: str, tiny: Tiny, written: dict[str, Any]) -> None:
    """Short and long texts, one and many, and cut; each task's prompt."""
    folder, embed = written[name]
    parts = NAMES[name][1]
    model = tiny.load(name, folder, (lambda spec: zoo.build_model(parts)) if parts else _mean)
    texts, expected = list(TEXTS), embed(TEXTS)
    assert torch.pdist(expected).min() > TELLS
    for size in (1, 4):
        assert furthest(model.encode(texts, batch_size=size), expected) < BOUND
    assert furthest(model.encode(texts[3]), expected[3]) < BOUND
    for call, role in ((model.encode_query, "query"), (model.encode_document, "document")):
        prompt = model.spec.prompts.get(role, "")
        assert furthest(call(texts[:2]), embed([prompt + text for text in texts[:2]])) < BOUND
    if "clustering" not in model.spec.prompts:
        return
    clustered = embed(["clustering: kitty"])[0]
    assert furthest(model.encode_query("kitty", task="clustering"), clustered) < BOUND
    assert furthest(model.encode_document("kitty", task="clustering"), clustered) < BOUND


def test_v1_5_is_normed_before_it_is_cut(tiny: Tiny, written: dict[str, Any]) -> None:
    """As the card has it: layer norm, cut, length 1; its folder alone says nothing of the norm."""
    folder, embed = written["nomic-embed-text-v1.5"]
    model = tiny.load("nomic-embed-text-v1.5", folder, lambda spec: zoo.build_model("nomic-test"))
    assert furthest(model.encode(list(TEXTS), dim=16), F.normalize(embed(TEXTS)[:, :16], dim=-1)) < BOUND
    plain = zoo.load_model(folder, device="cpu").encode(list(TEXTS))
    assert furthest(plain, embed(TEXTS)) > TELLS
    told = zoo.load_model(folder, like="nomic-embed-text-v1.5", device="cpu")
    assert furthest(told.encode(list(TEXTS)), embed(TEXTS)) < BOUND


def test_texts_longer_than_it_was_trained_on_are_read(written: dict[str, Any]) -> None:
    """max_position_embeddings says 64 and n_positions 128: positions are turned, and no table ends."""
    encoder = zoo.load_model(written["nomic-embed-text-v1.5"][0], device="cpu").towers[0].encoder
    assert encoder.max_tokens == len(encoder.tokenize("a " * 200)) == 128


def test_experts_saved_and_opened(written: dict[str, Any], tmp_path: Path) -> None:
    model = zoo.load_model(written["nomic-embed-text-v2-moe"][0], device="cpu")
    before = model.encode(list(TEXTS[:3]))
    model.save_pretrained(tmp_path / "saved")
    assert torch.equal(zoo.load_model(tmp_path / "saved", device="cpu").encode(list(TEXTS[:3])), before)


def test_an_expert_that_no_token_takes() -> None:
    layer = Experts(8, 16, experts=4, top=1)
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[2] = 1.0
    x = torch.rand(2, 3, 8)
    share = layer.router(x).softmax(-1)[..., 2:3]
    expected = (F.gelu(x @ layer.into[2].T) @ layer.back[2]) * share + layer.bias
    assert torch.allclose(layer(x), expected, atol=1e-6)
    layer(x).sum().backward()
    assert layer.into.grad[2].abs().max() > 0
    assert layer.into.grad[0].abs().max() == 0


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"moe_normalize_expert_weights": True}, UnreadSettingError, "their weights stay as they are"),
        ({"num_shared_experts": 1}, UnreadSettingError, "num_shared_experts"),
        ({"rotary_scaling_factor": 2}, UnreadSettingError, "rotary_scaling_factor"),
        ({"mlp_fc1_bias": False}, UnreadSettingError, "bias"),
        ({"moe_new": 1}, UnreadSettingError, "moe_new"),
        ({"num_experts": 2}, MissingWeightsError, "should have the shape"),
        ({"moe_every_n_layers": 1}, MissingWeightsError, "should have the shape"),
        ({"n_layer": 1}, MissingWeightsError, r"layers\.1"),
    ],
)
def test_experts_that_are_not_followed(
    change: dict[str, Any], error: type[Exception], said: str, written: dict[str, Any], tmp_path: Path
) -> None:
    import shutil

    folder = shutil.copytree(written["nomic-embed-text-v2-moe"][0], tmp_path / "changed")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(error, match=said):
        zoo.load_model(folder, device="cpu")
