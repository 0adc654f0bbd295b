"""A last layer for each of several lengths of vectors, as Stella has: the one of `load_model(dim=…)` is taken, nothing is cut."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import zoo
from tests.every import standing_for
from tests.hub import LoopbackHub
from tests.reference.text_published import CASES, each_alone, write
from zoo import registry
from zoo.errors import ArgumentError, UnrecognisedCheckpointError

CASE = replace(CASES["stella-en-1.5b-v5"], dense=("2_Dense_32",))
TEXTS = ["a cat", "Two DOGS playing in the snow!", "a long text " * 40]
DIMS = (16, 32, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stella's repository: 2_Dense_16, 2_Dense_32, which modules.json names, and 2_Dense_64."""
    folder = write(CASE, tmp_path_factory.mktemp("heads") / "stella")
    torch.manual_seed(5)
    for dim in DIMS:
        place = folder / f"2_Dense_{dim}"
        place.mkdir(exist_ok=True)
        settings = json.loads((folder / "2_Dense_32" / "config.json").read_text())
        (place / "config.json").write_text(json.dumps({**settings, "out_features": dim}))
        save_file({"linear.weight": torch.randn(dim, 32), "linear.bias": torch.randn(dim)}, place / "model.safetensors")
    return folder


def expected(folder: Path, dim: int) -> torch.Tensor:
    dense = load_file(folder / f"2_Dense_{dim}" / "model.safetensors")
    with torch.inference_mode():
        pooled = each_alone(folder, TEXTS, end=0, limit=256, both_ways=True, mean=True)
    return F.normalize(F.linear(pooled, dense["linear.weight"], dense["linear.bias"]), dim=-1)


@pytest.fixture
def name(client_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    """The registered Stella, but for its sizes."""
    zoo.list_models()
    monkeypatch.setattr(registry.MODELS, "_found", dict(registry.MODELS._found))
    spec = zoo.get_spec(CASE.name)
    sizes = {"dim": 32, "params": 0, "max_tokens": 256, "head_dims": list(DIMS)}
    zoo.register_model(**{**spec.to_dict(), **sizes, "name": "stella-tiny", "revision": None})(CASE.build)
    client_hub.add(folder, spec.hub_id)
    return "stella-tiny"


@pytest.mark.parametrize("dim", standing_for([None, *DIMS], [None, 64]))
def test_by_name_each_length_has_its_layer(name: str, folder: Path, dim: int | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a cut would say that it loses accuracy
        model = zoo.load_model(name, dim=dim, device="cpu")
    assert (model.spec.name, model.spec.dim, model.spec.head_dims) == (name, dim or 32, ())
    assert model.spec.params == sum(weight.numel() for weight in model.parameters()) or dim is None
    assert (model.encode(TEXTS) - expected(folder, dim or 32)).abs().max() < 1e-5


def test_a_length_without_a_layer_is_refused_before_anything_is_fetched(name: str, client_hub: LoopbackHub) -> None:
    asked = len(client_hub.requests)
    with pytest.raises(ArgumentError, match=r"dim=24: stella-tiny has a last layer each for vectors of 16, 32, 64"):
        zoo.load_model(name, dim=24)
    assert len(client_hub.requests) == asked
    with pytest.raises(ArgumentError, match="256, 768, 1024, 2048, 4096, 6144, 8192"):
        zoo.load_model("stella-en-1.5b-v5", dim=512)


def test_a_folder_tells_its_lengths_by_itself(folder: Path, tmp_path: Path) -> None:
    like = {"like": CASE.name, "device": "cpu"}
    model = zoo.load_model(folder, dim=64, **like)
    assert (model.encode(TEXTS) - expected(folder, 64)).abs().max() < 1e-5
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert torch.equal(again.encode(TEXTS), model.encode(TEXTS))
    with pytest.raises(ArgumentError, match=r"dim=24: .* has a dense layer each for vectors of 16, 32, 64 dimensions"):
        zoo.load_model(folder, dim=24, **like)


def test_a_layer_of_another_length_than_its_folder_says(folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for path in folder.rglob("*"):
        if path.is_file():
            target = wrong / path.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    (wrong / "2_Dense_16").rename(wrong / "2_Dense_8")
    with pytest.raises(UnrecognisedCheckpointError, match="gives 16 dimensions, and its folder is named for 8"):
        zoo.load_model(wrong, dim=8, like=CASE.name)
