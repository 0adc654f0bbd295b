"""TIPSv2's folders: what is read of them, and what is refused (tests/formats holds its vectors to transformers' own)."""

import json
import math
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import zoo
from tests.reference.transformers_models import write_tipsv2
from zoo.errors import MissingWeightsError, UnreadSettingError

# The first form of google/tipsv2-b14's file, before transformers had a class of its own.
FIRST = {
    "model_type": "tipsv2",
    "architectures": ["TIPSv2Model"],
    "patch_size": 14,
    "img_size": 448,
    "init_values": 1.0,
    "num_register_tokens": 1,
    "vision_fn": "vit_base",
    "embed_dim": 768,
    "text_hidden_size": 768,
    "temperature": 0.005065968260169029,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tips")
    write_tipsv2(folder)
    return folder


def changed(folder: Path, other: Path, **config: object) -> Path:
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), **config}))
    return other


def test_its_authors_names_of_tensors_and_its_temperature_are_read(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    assert {"vision_encoder.blocks.0.attn.qkv.weight", "text_encoder.transformer.resblocks.0.ln_1.bias"} <= set(weights)
    names = {"AutoConfig": "configuration_tips.TIPSv2Config", "AutoModel": "modeling_tips.TIPSv2Model"}
    changed(folder, tmp_path, architectures=["TIPSv2Model"], auto_map=names, temperature_init_value=0.02)
    (tmp_path / "model.safetensors").unlink()
    save_file(
        {name: value for name, value in weights.items() if name != "temperature"},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    model, same = zoo.load_model(folder), zoo.load_model(tmp_path)
    torch.testing.assert_close(model.encode("a red motorbike"), same.encode("a red motorbike"), atol=0, rtol=0)
    assert same.logit_scale.log == pytest.approx(-math.log(0.02))
    theirs = transformers.Tipsv2Model.from_pretrained(folder)
    assert model.logit_scale.log == pytest.approx(-math.log(theirs.temperature.item()))
    assert (model.spec.dim, model.spec.image_size, model.spec.max_tokens) == (32, 56, 32)


def test_it_is_saved_and_opened_with_its_regions(folder: Path, tmp_path: Path) -> None:
    import numpy as np

    model = zoo.load_model(folder, region="dense")
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    boxes = [zoo.Box(0, 0, 40, 30), zoo.Box(50, 20, 90, 60)]
    vectors = model.encode_regions(pixels, boxes)
    assert not torch.allclose(*vectors, atol=1e-2)
    torch.testing.assert_close(again.encode_regions(pixels, boxes), vectors, atol=1e-6, rtol=0)
    torch.testing.assert_close(again.encode("Two DOGS"), model.encode("two dogs"), atol=1e-6, rtol=0)


def test_another_form_or_depth_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("first", "deep", "shallow", "second")]
    for place in places:
        place.mkdir()
    first, deep, shallow, second = places
    changed(folder, first)
    (first / "config.json").write_text(json.dumps(FIRST))
    with pytest.raises(UnreadSettingError, match="vision_fn"):
        zoo.load_model(first)
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    vision = {
        name: value for name, value in vision.items() if name not in ("out_features", "out_indices", "stage_names")
    }
    with pytest.raises(MissingWeightsError, match="lacks"):
        zoo.load_model(changed(folder, deep, vision_config={**vision, "num_hidden_layers": 3}))
    with pytest.raises(MissingWeightsError, match="more layers"):
        zoo.load_model(changed(folder, shallow, vision_config={**vision, "num_hidden_layers": 1}))
    with pytest.raises(MissingWeightsError, match="register"):
        zoo.load_model(changed(folder, second, vision_config={**vision, "num_register_tokens": 2}))
