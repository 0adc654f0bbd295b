"""transformers' classes around every kind of encoder: all tensors that an encoder makes of its inputs reach it again under names of theirs."""

from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.errors import UnsupportedModalityError
from zoo.inputs.waveform import Waveform
from zoo.publishing.exports.automodel import ZooConfig, ZooModel, ZooProcessor

RNG = np.random.default_rng(0)
INPUTS: dict[str, list[Any]] = {
    "text": ["a cat", "two dogs in the snow, and a boat"],
    "image": [RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((40, 60), (64, 48))],
    "video": [RNG.integers(0, 256, (4, 32, 48, 3), dtype=np.uint8) for _ in range(2)],
    "audio": [Waveform(RNG.normal(0, 0.1, n).astype(np.float32), 16_000) for n in (9_000, 16_000)],
}
ARGUMENTS = {"text": "text", "image": "images", "video": "videos", "audio": "audio"}


def wrapped(name: str) -> tuple[zoo.Embedder, ZooModel, ZooProcessor]:
    """A test model, and transformers' classes around it."""
    model = zoo.build_model(name).eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    outside = ZooModel(ZooConfig(), model).eval()
    # transformers calls a backbone's own rule for weights that it did not load; ours are all there.
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    return model, outside, ZooProcessor([tower.encoder for tower in model.towers], {"spec": model.spec.to_dict()})


def one_of_each() -> list[str]:
    """Names of test models, the first of those whose encoders have the same classes and pool the same tokens."""
    found: dict[Any, str] = {}
    for name in zoo.list_models("*-test"):
        if zoo.get_spec(name).similarity != "maxsim":
            encoders = [tower.encoder for tower in zoo.build_model(name).towers]
            found.setdefault(tuple((type(one), getattr(one, "pool_prompt", None)) for one in encoders), name)
    return list(found.values())


def test_batches_of_every_kind_of_encoder():
    names = one_of_each()
    assert len(names) > 20
    for name in names:
        model, outside, processor = wrapped(name)
        together: dict[str, Any] = {}
        for kind in (kind for kind in INPUTS if kind in model.spec.modalities):
            for prompt in ({}, *({"prompt_name": one} for one in list(model.spec.prompts)[:1] if kind == "text")):
                batch = processor(**{ARGUMENTS[kind]: INPUTS[kind]}, **prompt)
                expected = model.encode([zoo.Item(**{kind: value}) for value in INPUTS[kind]], **prompt)
                with torch.inference_mode():
                    found = getattr(outside, f"get_{kind}_features")(**batch).pooler_output
                assert (found - expected).abs().max() < 1e-5, (name, kind, prompt)
            if kind in ("text", "image"):
                together |= processor(**{ARGUMENTS[kind]: INPUTS[kind]})
        if {"text", "image"} <= model.spec.modalities:
            with torch.inference_mode():
                out = outside(**together)
            assert out.similarity.shape == (2, 2), name
            assert (out.image_embeds - model.encode(INPUTS["image"])).abs().max() < 1e-5, name
            assert (out.text_embeds - model.encode(INPUTS["text"])).abs().max() < 1e-5, name


@pytest.mark.parametrize("name", ["gme-test", "omni-test"])
def test_a_text_with_its_image_is_one_vector(name: str):
    model, outside, processor = wrapped(name)
    batch = processor(text=INPUTS["text"], images=INPUTS["image"])
    expected = model.encode([zoo.Item(text=t, image=i) for t, i in zip(INPUTS["text"], INPUTS["image"], strict=True)])
    with torch.inference_mode():
        for found in (outside(**batch).embeds, outside.get_fused_features(**batch).pooler_output):
            assert (found - expected).abs().max() < 1e-5


def test_what_is_missing_or_not_read_is_named():
    _, outside, processor = wrapped("alpha-clip-test")
    batch = processor(images=INPUTS["image"])
    with pytest.raises(TypeError, match="'alpha' is missing; pass all that the processor makes"):
        outside.get_image_features(batch["pixel_values"])
    with pytest.raises(TypeError, match="position_ids is not read by this model"):
        outside.get_image_features(**batch, position_ids=torch.arange(3))
    with pytest.raises(TypeError, match="get_text_features takes what the processor makes"):
        outside.get_text_features(**batch)
    with pytest.raises(UnsupportedModalityError):
        outside.get_audio_features(input_values=torch.zeros(4))
