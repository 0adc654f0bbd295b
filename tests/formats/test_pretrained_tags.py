"""Every pretrained name that open_clip and timm list is understood as they understand it, without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

import zoo
from tests.reference.photos import open_rgb, paint
from zoo.encoders.config_checks import check_open_clip, check_timm
from zoo.encoders.open_clip_config import parse_name, tag_config, transform_of
from zoo.errors import UnsafeCheckpointError

TAGS = [tuple(pair) for pair in open_clip.list_pretrained()]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    paint(447, 333, 1).save(path, quality=92)
    return path


def test_every_tag_preprocesses_as_open_clip_does(photo: Path) -> None:
    """Resize, crop, mean and std of each tag, on one photo, to the last digit."""
    assert len(TAGS) > 150
    pixels: dict[str, torch.Tensor] = {}
    for arch, tag in TAGS:
        settings = merge_preprocess_dict(PreprocessCfg(), open_clip.get_pretrained_cfg(arch, tag))
        settings["size"] = open_clip.get_model_config(arch)["vision_cfg"].get("image_size", 224)
        key = str(settings)
        if key not in pixels:
            mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("mean", "std"))
            theirs = image_transform_v2(PreprocessCfg(**settings), is_train=False)(open_rgb(photo))
            pixels[key] = ((theirs * std + mean) * 255).round()
        model_cfg, pretrained = tag_config(arch, tag)
        transform = replace(transform_of(model_cfg, pretrained), engine="pillow")
        assert torch.equal(transform.read(photo).float(), pixels[key]), f"{arch}/{tag}"
        assert (transform.mean, transform.std) == (tuple(settings["mean"]), tuple(settings["std"])), f"{arch}/{tag}"


def test_every_tag_has_its_activation() -> None:
    """open_clip only warns where a tag was trained with QuickGELU and the architecture says GELU, or the other way."""
    for arch, tag in TAGS:
        trained = open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu")
        model_cfg, _ = tag_config(arch, tag)
        if trained is not None:
            assert bool(model_cfg.get("quick_gelu", False)) == bool(trained), f"{arch}/{tag}"


def test_every_tag_is_a_name() -> None:
    for arch, tag in TAGS:
        assert parse_name(f"{arch}/{tag}") == (arch, tag)


def test_no_architecture_is_taken_for_a_hostile_one() -> None:
    for arch in open_clip.list_models():
        check_open_clip(open_clip.get_model_config(arch))
    for arch in timm.list_models(pretrained=True):
        check_timm(arch, {})


def test_weights_at_a_bare_address_are_refused_without_asking_the_network() -> None:
    """Such weights are pickles (.pt): 'open_clip:' takes them from a Hub repository or not at all."""
    bare = [(arch, tag) for arch, tag in TAGS if not open_clip.get_pretrained_cfg(arch, tag).get("hf_hub")]
    for arch, tag in bare:
        with pytest.raises(UnsafeCheckpointError, match="pickle"):
            zoo.load_model(f"open_clip:{arch}/{tag}")
    without_repository = [
        name for name in timm.list_models(pretrained=True) if not timm.get_pretrained_cfg(name).hf_hub_id
    ]
    assert without_repository
    for name in without_repository:
        with pytest.raises(UnsafeCheckpointError, match="pickle"):
            zoo.load_model(f"timm:{name}")


def test_timm_asks_for_no_resize_that_the_zoo_lacks() -> None:
    """An interpolation or crop unknown to `zoo.encoders.image.transform_of` would silently become another."""
    settings = [timm.get_pretrained_cfg(name) for name in timm.list_models(pretrained=True)]
    assert {cfg.interpolation for cfg in settings} <= {"bicubic", "bilinear"}
    assert {cfg.crop_mode for cfg in settings} <= {"center", "squash", "border"}
    assert {cfg.input_size[0] for cfg in settings} == {3}
