"""Every setting of a model of several parts and of its processor: followed as transformers does, or refused by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor

import zoo
from tests.reference.qwen2_vl import Published, write_qwen2_vl
from zoo.errors import UnreadSettingError, UnrecognisedCheckpointError
from zoo.formats.composites import check_parts
from zoo.formats.settings import Ignore

LIKE = "vlm2vec-v2-qwen2vl-2b"
# What published files say, without their sizes: all of it is followed, or has no effect.
SUB = {"model_type": "clip_vision_model", "hidden_size": 32, "vocab_size": 32000, "projection_dim": 24, "dropout": 0.0}
LLAMA = {
    "model_type": "llama",
    "_name_or_path": "x",
    "architectures": ["LlamaForCausalLM"],
    "rms_norm_eps": 1e-5,
    "top_k": 50,
}
SIGLIP = {
    "model_type": "siglip_vision_model",
    "vision_use_head": False,
    "num_image_tokens": 4,
    "projector_hidden_act": "gelu",
}
PUBLISHED: list[dict[str, Any]] = [
    {
        "model_type": "llava",
        "text_config": LLAMA,
        "vision_config": SUB,
        "ignore_index": -100,
        "vision_feature_layer": -2,
    },
    {"model_type": "llava_next", "text_config": LLAMA, "vision_config": SUB, "use_image_newline_parameter": True},
    {
        "model_type": "clip",
        "projection_dim": 24,
        "text_config_dict": None,
        "vision_config": SUB,
        "text_config": {"dropout": 0},
    },
    {"model_type": "siglip", "text_config": {"model_type": "siglip_text_model"}, "vision_config": SIGLIP},
    {
        "model_type": "colpali",
        "embedding_dim": 128,
        "vlm_config": {
            "model_type": "paligemma",
            "ignore_index": -100,
            "_vocab_size": 99,
            "text_config": {"model_type": "gemma", "num_image_tokens": 4},
            "vision_config": SIGLIP,
        },
    },
]


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda config: config["model_type"])
def test_a_setting_that_nothing_reads_is_refused_in_every_part(config: dict[str, Any]) -> None:
    where = Path("config.json")
    check_parts(config, where)

    def paths(part: dict[str, Any], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        return [
            before,
            *(p for key, inner in part.items() if isinstance(inner, dict) for p in paths(inner, (*before, key))),
        ]

    for path in paths(config):
        changed = json.loads(json.dumps(config))
        part = changed
        for key in path:
            part = part[key]
        part["residual_scale"] = 2.0
        name = ".".join((*path, "residual_scale"))
        with pytest.raises(UnreadSettingError) as caught:
            check_parts(changed, where)
        assert caught.value.keys == (name,)
        check_parts(changed, where, Ignore([name]))


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda config: config["model_type"])
def test_a_part_that_is_null_is_named(config: dict[str, Any]) -> None:
    for part in [key for key, value in config.items() if isinstance(value, dict) and key.endswith("_config")]:
        with pytest.raises(UnrecognisedCheckpointError, match=f"{part} = null"):
            check_parts({**config, part: None}, Path("config.json"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_qwen2_vl(tmp_path_factory.mktemp("base") / "qwen2-vl")


@pytest.fixture
def changed(base: Published, tmp_path: Path) -> Any:
    def change(file: str, **changes: Any) -> Published:
        folder = shutil.copytree(base.folder, tmp_path / "checkpoint")
        settings = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**settings, **changes}))
        return replace(base, folder=folder)

    return change


@pytest.mark.parametrize(
    "changes",
    [
        {"do_normalize": False},
        *(
            pytest.param(more, marks=pytest.mark.slow)
            for more in (
                {"do_rescale": False},
                {"rescale_factor": 0.01},
                {"image_mean": [0.1, 0.2, 0.3]},
                {"image_std": [0.5, 0.2, 0.3]},
                {"resample": 2},
                {"resample": 0},
            )
        ),
    ],
    ids=str,
)
def test_the_processors_settings_are_followed(changes: dict[str, Any], base: Published, changed: Any) -> None:
    """What a tower is given equals what transformers' own class makes of the same file."""
    published = changed("preprocessor_config.json", **changes)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 90, 120), dtype=np.uint8))
    theirs = AutoImageProcessor.from_pretrained(published.folder)
    found = []
    for folder in (base.folder, published.folder):
        encoder = zoo.load_model(folder, like=LIKE).towers[0].encoder
        found.append(encoder.readers["image"].probe(pixels)["pixel_values"])
        theirs.size = encoder.processor.image_processor.size  # the registered model's
    expected = theirs(images=[pixels], return_tensors="pt")["pixel_values"]
    assert (found[0] - expected).abs().max() > 1e-3
    torch.testing.assert_close(found[1], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("config.json", "attention_scale"),
        ("preprocessor_config.json", "offset"),
        ("preprocessor_config.json", "crop_pct"),
    ],
)
def test_settings_that_nothing_reads_are_refused(file: str, key: str, changed: Any) -> None:
    published = changed(file, **{key: 2})
    with pytest.raises(UnreadSettingError) as caught:
        zoo.load_model(published.folder, like=LIKE)
    assert caught.value.keys == (key,)
    assert file in str(caught.value)


def test_a_setting_that_the_caller_ignores(changed: Any) -> None:
    published = changed("preprocessor_config.json", offset=2)
    assert zoo.load_model(published.folder, like=LIKE, ignore=["offset"]).encode("kitty").isfinite().all()


def test_a_tower_that_is_not_there(changed: Any) -> None:
    published = changed("config.json", vision_config=None)
    with pytest.raises(UnrecognisedCheckpointError, match="vision_config = null"):
        zoo.load_model(published.folder, like=LIKE)


def test_the_text_part_of_a_flat_file_may_be_null(base: Published, changed: Any) -> None:
    """Its settings stand beside the others, where transformers looks for them."""
    published = changed("config.json", text_config=None)
    expected = zoo.load_model(base.folder, like=LIKE).encode("kitty")
    assert (zoo.load_model(published.folder, like=LIKE).encode("kitty") - expected).abs().max() < 1e-6
