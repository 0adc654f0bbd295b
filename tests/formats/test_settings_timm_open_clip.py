"""Every setting of timm and open_clip: followed as their own libraries do, or refused by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import zoo
from tests.formats.settings_support import difference, photo
from tests.reference.open_clip_models import open_clip_reference
from tests.reference.timm_models import timm_reference
from zoo.errors import UnreadSettingError, UnrecognisedCheckpointError

TEXTS = ["a red bicycle", "two dogs in the snow, a lighthouse and the sea"]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    photo().save(path)
    return [path]


# --------------------------------------------------------------------------------------------------------------- timm

TIMM: list[dict[str, Any]] = [
    {"interpolation": "lanczos"},
    {"interpolation": "box"},
    {"interpolation": "hamming"},
    {"interpolation": "nearest"},
    {"interpolation": "bicubic"},
    {"crop_mode": "squash"},
    {"crop_mode": "border"},
    {"crop_pct": 0.7},
    {"crop_pct": 1.1},
    {"mean": [0.1, 0.2, 0.3]},
    {"std": [0.3, 0.2, 0.1]},
    {"input_size": [3, 128, 128]},
    {"input_size": [3, 144, 176]},
]


@pytest.mark.parametrize(
    "changes", [*TIMM[:1], *(pytest.param(more, marks=pytest.mark.slow) for more in TIMM[1:])], ids=str
)
def test_timms_settings_are_followed(
    changes: dict[str, Any],
    changed: Callable[..., Path],
    good: Callable[[str], Path],
    paths: list[Path],
    tmp_path: Path,
) -> None:
    name = "timm-resnet"
    folder = changed(name, "config.json", **{f"pretrained_cfg__{key}": value for key, value in changes.items()})
    expected = timm_reference(folder).images(paths)
    if changes != {"crop_mode": "squash"}:
        assert difference(expected, timm_reference(good(name)).images(paths)) > 1e-4
    model = zoo.load_model(folder).set_pixel_engine("pillow")
    assert difference(model.encode(paths), expected) < 1e-5
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert difference(again.encode(paths), expected) < 1e-5


def test_a_size_that_stands_in_pretrained_cfg_alone(
    changed: Callable[..., Path], paths: list[Path], tmp_path: Path
) -> None:
    """timm builds the tower by it; a saved folder of ours must too."""
    folder = tmp_path / "small"
    backbone = timm.create_model("test_vit", num_classes=0, img_size=96)
    timm.models.save_for_hf(backbone, folder, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config.pop("model_args", None)
    config["pretrained_cfg"] |= {"input_size": [3, 96, 96], "fixed_input_size": True}
    (folder / "config.json").write_text(json.dumps(config))
    expected = timm_reference(folder).images(paths)
    model = zoo.load_model(folder).set_pixel_engine("pillow")
    assert difference(model.encode(paths), expected) < 1e-5
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert difference(again.encode(paths), expected) < 1e-5


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"pretrained_cfg__interpolation": "random"}, "pretrained_cfg.interpolation"),
        ({"pretrained_cfg__crop_mode": "corner"}, "pretrained_cfg.crop_mode"),
        ({"pretrained_cfg__crop_rounding": 3}, "pretrained_cfg.crop_rounding"),
        ({"normalise": False}, "normalise"),
    ],
    ids=str,
)
def test_timms_settings_refused(
    changes: dict[str, Any], key: str, changed: Callable[..., Path], paths: list[Path]
) -> None:
    folder = changed("timm-resnet", "config.json", **changes)
    with pytest.raises(UnreadSettingError, match=key) as caught:
        zoo.load_model(folder)
    assert caught.value.keys == (key,)
    assert zoo.load_model(folder, ignore=[key]).encode(paths).isfinite().all()


@pytest.mark.parametrize("channels", [1, 4])
def test_a_timm_model_of_other_channels(channels: int, tmp_path: Path) -> None:
    backbone = timm.create_model("test_resnet", num_classes=0, in_chans=channels)
    timm.models.save_for_hf(backbone, tmp_path, model_args={"in_chans": channels}, safe_serialization=True)
    with pytest.raises(UnrecognisedCheckpointError, match=f"images of {channels} channels"):
        zoo.load_model(tmp_path)


def test_a_timm_model_without_pooling(tmp_path: Path) -> None:
    backbone = timm.create_model("test_resnet", num_classes=0, global_pool="")
    timm.models.save_for_hf(backbone, tmp_path / "map", model_args={"global_pool": ""}, safe_serialization=True)
    with pytest.raises(UnrecognisedCheckpointError, match="not one vector"):
        zoo.load_model(tmp_path / "map")


# ----------------------------------------------------------------------------------------------------------- open_clip

OPEN_CLIP: list[dict[str, Any]] = [
    {"interpolation": "bilinear"},
    {"resize_mode": "squash"},
    {"resize_mode": "longest"},
    {"resize_mode": "longest", "fill_color": 200},
    {"mean": [0.1, 0.2, 0.3]},
    {"mean": 0.2},
    {"std": [0.3, 0.2, 0.1]},
]


@pytest.mark.parametrize(
    "changes", [*OPEN_CLIP[:1], *(pytest.param(more, marks=pytest.mark.slow) for more in OPEN_CLIP[1:])], ids=str
)
def test_open_clips_preprocessing_is_followed(
    changes: dict[str, Any], changed: Callable[..., Path], good: Callable[[str], Path], paths: list[Path]
) -> None:
    folder = changed(
        "open_clip-clip", "open_clip_config.json", **{f"preprocess_cfg__{key}": value for key, value in changes.items()}
    )
    expected = reference_images(folder, paths)
    assert difference(expected, reference_images(good("open_clip-clip"), paths)) > 1e-4
    assert difference(zoo.load_model(folder).set_pixel_engine("pillow").encode(paths), expected) < 1e-5


def reference_images(folder: Path, paths: list[Path]) -> torch.Tensor:
    return open_clip_reference(folder).images(paths)


# Another value of each setting of the towers that changes no shape: the same weights, another vector.
TOWERS: list[tuple[str, Any]] = [
    ("quick_gelu", False),
    ("text_cfg__no_causal_mask", True),
    ("text_cfg__pool_type", "first"),
    ("text_cfg__pool_type", "last"),
    ("text_cfg__context_length", 12),
    ("text_cfg__heads", 4),
    ("text_cfg__norm_kwargs", {"eps": 0.1}),
    ("text_cfg__act_kwargs", {}),
    ("text_cfg__tokenizer_kwargs", {"clean": "canonicalize"}),
    ("vision_cfg__head_width", 8),
    ("vision_cfg__pool_type", "avg"),
    ("vision_cfg__final_ln_after_pool", True),
    ("vision_cfg__image_size", 80),
    ("vision_cfg__norm_kwargs", {"eps": 0.1}),
]


@pytest.mark.parametrize(
    ("key", "value"), [*TOWERS[:2], *(pytest.param(*more, marks=pytest.mark.slow) for more in TOWERS[2:])], ids=str
)
def test_open_clips_towers_are_followed(
    key: str, value: Any, changed: Callable[..., Path], good: Callable[[str], Path], paths: list[Path]
) -> None:
    changes = {f"model_cfg__{key}": value} | ({"preprocess_cfg__size": value} if "image_size" in key else {})
    if "final_ln" in key:  # the last norm and the choice of the first token may be in either order
        changes["model_cfg__vision_cfg__pool_type"] = "avg"
    folder = changed("open_clip-clip", "open_clip_config.json", **changes)
    expected, before = open_clip_reference(folder), open_clip_reference(good("open_clip-clip"))
    model = zoo.load_model(folder).set_pixel_engine("pillow")
    texts = [*TEXTS, "Hello, World! (it's 9 o'clock)"]
    moved = [
        difference(expected.images(paths), before.images(paths)),
        difference(expected.texts(texts), before.texts(texts)),
    ]
    assert max(moved) > 1e-4 or "act_kwargs" in key
    assert difference(model.encode(paths), expected.images(paths)) < 1e-5
    assert difference(model.encode(texts), expected.texts(texts)) < 1e-5


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"preprocess_cfg__interpolation": "lanczos"}, "preprocess_cfg.interpolation"),
        ({"preprocess_cfg__resize_mode": "crop"}, "preprocess_cfg.resize_mode"),
        ({"preprocess_cfg__mode": "L"}, "preprocess_cfg.mode"),
        ({"preprocess_cfg__size": 48}, "preprocess_cfg.size"),
        ({"preprocess_cfg__crop": 1}, "preprocess_cfg.crop"),
        ({"model_cfg__text_cfg__pad_idx": 1}, "model_cfg.text_cfg.pad_idx"),
        ({"model_cfg__vision_cfg__rope": True}, "model_cfg.vision_cfg.rope"),
        ({"model_cfg__cast_dtype": "fp16"}, "model_cfg.cast_dtype"),
        ({"text": {}}, "text"),
    ],
    ids=str,
)
def test_open_clips_settings_refused(changes: dict[str, Any], key: str, changed: Callable[..., Path]) -> None:
    folder = changed("open_clip-clip", "open_clip_config.json", **changes)
    with pytest.raises(UnreadSettingError) as caught:
        zoo.load_model(folder)
    assert caught.value.keys == (key,)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_cfg__text_cfg": None}, "no text_cfg"),
        ({"model_cfg__vision_cfg": None}, "no vision_cfg"),
        ({"model_cfg__text_cfg__pool_type": "none"}, "not one vector"),
        ({"model_cfg__vision_cfg__pool_type": "none"}, "not one vector"),
        ({"model_cfg__text_cfg__tokenizer_kwargs": {"strip_sep_token": True}}, "strip_sep_token"),
        ({"preprocess_cfg__fill_color": 999, "preprocess_cfg__resize_mode": "longest"}, "fill"),
        ({"preprocess_cfg__mean": ["a", "b", "c"]}, "no sense"),
    ],
    ids=str,
)
def test_open_clips_values_that_make_no_sense(
    changes: dict[str, Any], match: str, changed: Callable[..., Path]
) -> None:
    folder = changed("open_clip-clip", "open_clip_config.json", **changes)
    with pytest.raises(UnrecognisedCheckpointError, match=match):
        zoo.load_model(folder)


def test_open_clips_end_token_is_followed(changed: Callable[..., Path]) -> None:
    """Pooled where it stands, else at the first token; the vector of a text does not depend on the others of its batch."""
    folder = changed("open_clip-clip", "open_clip_config.json", model_cfg__text_cfg__pool_type="eos")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["eos_id"] = 320  # "a"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    expected, model = open_clip_reference(folder).texts(TEXTS), zoo.load_model(folder)
    assert difference(model.encode(TEXTS), expected) < 1e-5
    assert difference(torch.stack([model.encode(text) for text in TEXTS]), expected) < 1e-5


def test_timms_filters_are_exported_and_what_it_has_not_is_named(
    changed: Callable[..., Path], paths: list[Path], tmp_path: Path
) -> None:
    from zoo.errors import NotExportableError
    from zoo.publishing.exports import timm as exported

    model = zoo.load_model(changed("timm-resnet", "config.json", pretrained_cfg__interpolation="hamming"))
    exported.write(model, tmp_path / "exported")
    expected = model.set_pixel_engine("pillow").encode(paths)
    assert difference(timm_reference(tmp_path / "exported").images(paths), expected) < 1e-5
    encoder = model.towers[0].encoder
    for change in ({"scale": 0.01}, {"resize": "none"}):
        encoder.transform = dataclasses.replace(encoder.transform, **change)
        with pytest.raises(NotExportableError, match="timm's preprocessing knows no"):
            exported.write(model, tmp_path / "refused")
