"""Models made int8: near the float32 ones, the same when opened again, themselves by fingerprint, and refused where they are malformed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.encoders.int8 import int8_layers
from zoo.errors import (
    ArgumentError,
    MissingWeightsError,
    NotOfferedError,
    UnrecognisedCheckpointError,
    ZooError,
)
from zoo.formats.shortening import shorten
from zoo.loading import int8_form
from zoo.quantizing import left_float

pytestmark = pytest.mark.filterwarnings("ignore:torch computes int8 convolutions", "ignore:this processor has no")

WORDS = ["a", "cat", "two", "dogs", "in", "the", "snow", "why", "not", "sleeps", "on", "blue", "windowsill"]
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 6)) for i in range(24)]
IMAGES = [np.random.default_rng(i).integers(0, 255, (40 + i, 30, 3), np.uint8) for i in range(10)]


def made(name: str) -> tuple[zoo.Embedder, zoo.Embedder, list[Any]]:
    """A model with random weights, the same in int8, and inputs of both."""
    torch.manual_seed(0)
    model = zoo.build_model(name)
    inputs = [
        *(TEXTS if "text" in model.spec.modalities else []),
        *(IMAGES if "image" in model.spec.modalities else []),
    ]
    return model, zoo.quantize(model, inputs, source="made for tests"), inputs


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small int8 model of images and texts as a folder."""
    return made("clip-test")[1].save_pretrained(tmp_path_factory.mktemp("models") / "clip-int8")


def check(name: str, folder: Path, layers: int) -> None:
    """Near the model in float32, which is as it was; and the same once it is saved and opened."""
    model, quantized, inputs = made(name)
    before = model.encode(inputs)
    found = quantized.encode(inputs)
    again = zoo.load_model(quantized.save_pretrained(folder))
    assert len(list(int8_layers(again))) == layers, name
    assert 0 < (found - before).abs().max() < 0.1, name
    assert torch.equal(again.encode(inputs), found), name
    assert torch.equal(zoo.quantize(model, inputs).encode(inputs), found), f"{name}: not the same twice"
    assert again.spec.name == f"{name}-int8"
    assert again.quantized == quantized.quantized
    assert again.quantized.of["name"] == name
    assert again.fingerprint() == quantized.fingerprint() != model.fingerprint()
    assert again.fingerprint()["weights"] != model.fingerprint()["weights"]
    assert not list(int8_layers(model))


def test_two_towers_near_float32_and_the_same_when_opened(tmp_path: Path) -> None:
    check("clip-test", tmp_path, 17)


def test_batch_norms_are_folded_first(tmp_path: Path) -> None:
    check("mini-test", tmp_path, 17)
    model = zoo.load_model(tmp_path)
    assert left_float(model) == ["text"]
    assert "int8" in repr(model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layers"), [("text-test", 12), ("siglip-test", 39), ("image-test", 25), ("qwen3vl-test", 26)]
)
def test_other_families(name: str, layers: int, tmp_path: Path) -> None:
    check(name, tmp_path, layers)


def test_what_needs_float32_is_refused_by_name(saved: Path, tmp_path: Path) -> None:
    from zoo.training import Pair, Recipe, train
    from zoo.training.adapters import Lora, add_lora
    from zoo.training.merging import uniform

    model = zoo.load_model(saved)
    pairs = [Pair(query=text, positive=text) for text in TEXTS]
    refusals = {
        "training": lambda: train(model, pairs, Recipe(steps=1, batch_size=4), tmp_path / "run"),
        "an adapter": lambda: add_lora(model, Lora()),
        "merging": lambda: uniform([model, model]),
        "keeping a part of its layers": lambda: shorten(model, dim=8),
        "quantising": lambda: zoo.quantize(model, TEXTS),
        "storing it as bfloat16": lambda: model.save_pretrained(tmp_path / "half", dtype="bfloat16"),
    }
    for what, how in refusals.items():
        with pytest.raises(NotOfferedError, match=rf"clip-test-int8 is int8, and {what} needs weights in float32"):
            how()
    with pytest.raises(NotOfferedError, match=r"clip-int8 is int8, and merging needs"):
        uniform([saved, saved])
    assert not list(tmp_path.iterdir())


def test_dtype_and_device_are_followed_or_refused(saved: Path, tmp_path: Path) -> None:
    assert zoo.load_model(saved, dtype="int8", device="cpu").quantized
    assert zoo.load_model(saved, dtype="auto").quantized
    with pytest.raises(
        ArgumentError, match=r"an int8 model computes in float32 beside its integers, not in torch\.bfloat16"
    ):
        zoo.load_model(saved, dtype="bfloat16")
    with pytest.raises(ArgumentError, match=r'dtype="int8" computes on the CPU, not on cuda'):
        int8_form(saved, "cuda")
    plain = zoo.build_model("clip-test").save_pretrained(tmp_path / "plain")
    for name in (plain, "all-minilm-l6-v2"):
        with pytest.raises(
            NotOfferedError, match=r"has no int8 form; `zoo quantize .* --calibrate SOURCE --measure PAIRS --out"
        ):
            zoo.load_model(name, dtype="int8")


def test_too_few_inputs_and_other_numbers_are_refused() -> None:
    model = zoo.build_model("clip-test")
    with pytest.raises(ArgumentError, match=r"at least 8 real inputs of a tower.*there were 0 for image, 3 for text"):
        zoo.quantize(model, TEXTS[:3])
    with pytest.raises(ArgumentError, match="is quantised from float32 on the CPU"):
        zoo.quantize(model.half(), TEXTS)


def with_config(folder: Path, change: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config["quantized"])
    (folder / "config.json").write_text(json.dumps(config))


def with_tensors(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def first(tensors: dict[str, torch.Tensor], ends: str) -> str:
    return next(name for name in tensors if name.endswith(ends))


MALFORMED = {
    "scheme": (
        with_config,
        lambda told: told.update(scheme="int4"),
        "the scheme 'int4' is none that this zoo computes",
    ),
    "key": (with_config, lambda told: told.update(bits=8), "the key 'bits', which this zoo does not know"),
    "towers": (with_config, lambda told: told["towers"].pop(), "is of 1 towers; the model has 2"),
    "layer": (
        with_config,
        lambda told: told["towers"][0]["layers"].append("nowhere"),
        "no layer 'nowhere' that can be int8",
    ),
    "folded": (with_config, lambda told: told["towers"][0].update(folded=True), "no batch norms that are folded"),
    "lost": (with_config, lambda told: told["towers"][0]["layers"].pop(), "lacks 1 tensors"),
    "share": (with_config, lambda told: told.update(calibrated=3), "calibrated"),
    "step": (with_tensors, lambda t: t[first(t, "weight_scale")].mul_(0), "a step that is not finite and above 0"),
    "nan": (with_tensors, lambda t: t[first(t, "input_scale")].fill_(torch.nan), "NaN or infinite"),
    "zero": (with_tensors, lambda t: t[first(t, "input_zero")].fill_(-1), "integers out of their range"),
    "type": (
        with_tensors,
        lambda t: t.update({name: t[name].long() for name in [first(t, "weight_int8")]}),
        "is stored as I64, and has to be I8",
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_folder_is_refused(what: str, saved: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    write, change, said = MALFORMED[what]
    write(folder, change)
    with pytest.raises(ZooError, match=said) as caught:
        zoo.load_model(folder)
    assert isinstance(caught.value, UnrecognisedCheckpointError | MissingWeightsError)
