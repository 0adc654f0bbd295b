"""Every setting of transformers' image processors and two towers: followed as the library does, or refused by name.

The keys are listed from the libraries' own classes: one that a new version adds fails here until somebody has looked at it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from timm.models import PretrainedCfg

import zoo
from tests.formats.settings_support import difference, photo
from tests.reference import LONG_TEXT
from tests.reference.open_clip_models import open_clip_reference
from tests.reference.transformers_models import dual_reference
from zoo.encoders.image_transform import Normalize
from zoo.errors import MissingWeightsError, UnreadSettingError, UnrecognisedCheckpointError
from zoo.formats.known import images, open_clip
from zoo.formats.known import timm as known_timm
from zoo.formats.processors import open_images, transform_of
from zoo.formats.settings import Ignore, read

SIDE = 64
TEXTS = ["a red bicycle", "two dogs in the snow, a lighthouse and the sea"]
BASE = {
    "clip": {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}},
    "siglip": {"size": {"height": SIDE, "width": SIDE}},
}
# Another value for every setting of a processor; None in place of the way: it is refused.
CHANGED: list[tuple[str, dict[str, Any]]] = [
    ("clip", {"do_resize": False}),
    ("clip", {"size": 80}),
    ("clip", {"size": {"shortest_edge": 71}}),
    ("clip", {"size": {"height": 70, "width": 90}}),
    ("clip", {"size": 80, "default_to_square": True}),
    ("clip", {"crop_size": SIDE, "size": 100}),
    ("clip", {"resample": 0}),
    ("clip", {"resample": 1}),
    ("clip", {"resample": 2}),
    ("clip", {"do_rescale": False}),
    ("clip", {"rescale_factor": 0.01}),
    ("clip", {"do_normalize": False}),
    ("clip", {"do_rescale": False, "do_normalize": False}),
    ("clip", {"image_mean": [0.1, 0.2, 0.3]}),
    ("clip", {"image_mean": 0.3}),
    ("clip", {"image_std": [0.1, 0.2, 0.3]}),
    ("clip", {"image_processor_type": "SiglipImageProcessor", "size": SIDE, "do_center_crop": True}),
    ("clip", {"feature_extractor_type": "CLIPFeatureExtractor", "do_rescale": False}),
    ("clip", {"image_processor_type": "ViTImageProcessor", "do_center_crop": False, "size": SIDE}),
    ("clip", {"image_processor_type": "CLIPImageProcessorFast", "resample": 2}),
    ("clip", {"size": {"height": SIDE, "width": SIDE}, "do_center_crop": False}),
    ("siglip", {"do_center_crop": True, "crop_size": SIDE, "size": {"height": 90, "width": 80}}),
    ("siglip", {"resample": 2}),
    ("siglip", {"do_normalize": False}),
    ("siglip", {"do_rescale": False}),
    ("siglip", {"image_processor_type": "CLIPImageProcessor", "size": 70, "crop_size": SIDE}),
]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("clip", {"resample": 4}, "resample"),
    ("clip", {"resample": 5}, "resample"),
    ("clip", {"do_center_crop": False}, "do_center_crop"),
    ("clip", {"do_center_crop": False, "do_resize": False}, "do_resize"),
    ("clip", {"crop_size": 60}, "crop_size"),
    ("siglip", {"size": 60}, "size"),
    ("siglip", {"size": {"longest_edge": SIDE}}, "size"),
    ("clip", {"size": {"shortest_edge": SIDE, "longest_edge": 90}}, "size"),
    ("clip", {"do_pad": True, "pad_size": {"height": 80, "width": 80}}, "pad_size"),
    ("clip", {"image_processor_type": "ConvNextImageProcessor"}, "image_processor_type"),
    ("clip", {"image_processor_type": "VivitImageProcessor"}, "image_processor_type"),
    ("clip", {"image_processor_type": "Siglip2ImageProcessor"}, "image_processor_type"),
    ("clip", {"image_processor_type": "MyOwnImageProcessor"}, "image_processor_type"),
    ("clip", {"feature_extractor_type": "ConvNextFeatureExtractor"}, "feature_extractor_type"),
    ("clip", {"offset": True}, "offset"),
    ("clip", {"crop_pct": 0.9}, "crop_pct"),
    ("clip", {"auto_map": {"AutoImageProcessor": "own.Own"}}, "auto_map"),
]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    photo().save(path)
    return [path]


def ours(kind: str, settings: dict[str, Any], ignore: Ignore | None = None) -> torch.Tensor:
    """What our transform makes of the photo, as a tower is given it."""
    ignore = ignore or Ignore()
    settings = read(settings, images.IMAGES, "preprocessor_config.json", ignore)
    where = Path("preprocessor_config.json")
    transform = transform_of(open_images(settings, kind, where, ignore), SIDE, where, ignore)
    return Normalize(transform)(transform.read(photo())[None])


def theirs(kind: str, settings: dict[str, Any], folder: Path) -> torch.Tensor:
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return transformers.AutoImageProcessor.from_pretrained(folder)(photo(), return_tensors="pt")["pixel_values"].float()


@pytest.mark.parametrize(("kind", "changes"), CHANGED, ids=str)
def test_an_image_processors_settings_are_followed(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    expected = theirs(kind, {**BASE[kind], **changes}, tmp_path)
    assert expected.shape[2:] == (SIDE, SIDE)
    if "Fast" not in str(changes):
        assert (theirs(kind, BASE[kind], tmp_path) - expected).abs().max() > 1e-3  # else agreement would prove nothing
    found = ours(kind, {**BASE[kind], **changes})
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize(("kind", "changes", "key"), REFUSED, ids=str)
def test_or_refused_by_name_with_the_way_on(kind: str, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(UnreadSettingError) as caught:
        ours(kind, {**BASE[kind], **changes})
    assert caught.value.keys == (key,)
    for said in ("preprocessor_config.json", f'"{key}"', "ignore=["):
        assert said in str(caught.value)
    assert ours(kind, {**BASE[kind], **changes}, Ignore({key, *changes})).shape == (1, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    "changes",
    [{"image_std": [0, 1, 1]}, {"rescale_factor": 0}, {"image_mean": [0.5, 0.5]}, {"size": "large"}],
    ids=str,
)
def test_values_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(UnrecognisedCheckpointError, match="make no sense"):
        ours("clip", {**BASE["clip"], **changes})


@pytest.mark.parametrize("key", [key for key in images.IMAGES.inert if key not in ("device", "return_tensors")])
def test_settings_without_effect_change_no_pixel(key: str, tmp_path: Path) -> None:
    value = {"processor_class": "CLIPProcessor", "data_format": "channels_first", "input_data_format": "channels_last"}
    settings = {**BASE["clip"], key: value.get(key, 7 if key == "image_seq_length" else False)}
    assert torch.equal(theirs("clip", settings, tmp_path), theirs("clip", BASE["clip"], tmp_path))
    torch.testing.assert_close(ours("clip", settings), ours("clip", BASE["clip"]), atol=0, rtol=0)


# ------------------------------------------------------------------------------------------- what the libraries can say


def keys_of(table: Any) -> set[str]:
    return {*table.followed, *table.inert, *table.held}


def test_every_setting_that_the_libraries_have_is_in_a_table() -> None:
    """A version with a new one fails here."""
    from open_clip.coca_model import MultimodalCfg
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg
    from open_clip.transform import PreprocessCfg
    from transformers.processing_utils import ImagesKwargs

    def names(cls: Any) -> set[str]:
        return {field.name for field in dataclasses.fields(cls)}

    assert set(ImagesKwargs.__annotations__) <= keys_of(images.IMAGES)
    assert set(transformers.Siglip2ImageProcessor.valid_kwargs.__annotations__) <= keys_of(images.PATCHES) | {
        "do_resize"
    }
    assert names(PretrainedCfg) == keys_of(known_timm.PRETRAINED)
    assert names(CLIPVisionCfg) == keys_of(open_clip.VISION)
    assert names(CLIPTextCfg) == keys_of(open_clip.TEXT)
    assert names(MultimodalCfg) == keys_of(open_clip.MULTIMODAL)
    assert names(PreprocessCfg) == keys_of(open_clip.PREPROCESS)


# --------------------------------------------------------------------------------------------------- whole checkpoints


@pytest.mark.parametrize(
    "changes",
    [
        {"do_normalize": False},
        *(pytest.param(more, marks=pytest.mark.slow) for kind, more in CHANGED if kind == "clip"),
    ],
    ids=str,
)
def test_a_dual_encoder_of_transformers(
    changes: dict[str, Any], changed: Callable[..., Path], paths: list[Path], tmp_path: Path
) -> None:
    folder = changed("transformers-clip-2021", "preprocessor_config.json", **changes)
    expected = dual_reference_images(folder, paths)
    model = zoo.load_model(folder)
    assert difference(model.encode(paths), expected) < 1e-5
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert again.fingerprint() == model.fingerprint()
    assert difference(again.encode(paths), expected) < 1e-5


def dual_reference_images(folder: Path, paths: list[Path]) -> torch.Tensor:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(
        [Image.open(p) for p in paths], return_tensors="pt"
    )
    with torch.inference_mode():
        vectors = model.get_image_features(pixel_values=pixels["pixel_values"].float()).pooler_output
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_the_newer_of_two_files_counts(changed: Callable[..., Path], paths: list[Path]) -> None:
    """transformers reads image_processor of processor_config.json first."""
    folder = changed("transformers-clip-2021", "preprocessor_config.json", resample=2)
    inner = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 80}, "crop_size": 64}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    assert difference(zoo.load_model(folder).encode(paths), dual_reference_images(folder, paths)) < 1e-5


@pytest.mark.parametrize("part", ["vision_config", "text_config"])
@pytest.mark.parametrize("name", ["transformers-clip", "transformers-siglip", "transformers-siglip2-naflex"])
def test_a_tower_that_is_not_there(name: str, part: str, changed: Callable[..., Path]) -> None:
    folder = changed(name, "config.json", **{part: None})
    with pytest.raises(UnrecognisedCheckpointError, match=rf"{part} = null.*whole checkpoint"):
        zoo.load_model(folder)


DUAL = ["transformers-clip", "transformers-siglip", "transformers-siglip2-naflex"]


@pytest.mark.parametrize("part", ["vision_config", "text_config"])
@pytest.mark.parametrize("name", DUAL)
def test_more_layers_in_the_file_than_in_the_configuration(name: str, part: str, changed: Callable[..., Path]) -> None:
    folder = changed(name, "config.json", **{f"{part}__num_hidden_layers": 1})
    with pytest.raises(MissingWeightsError, match="more layers than the configuration"):
        zoo.load_model(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text_config__residual_scale", 2),
        ("vision_config__register_tokens", 4),
        ("residual_scale", 2),
        ("architectures", ["CLIPForImageClassification"]),
        ("auto_map", {"AutoModel": "own.OwnCLIP"}),
    ],
)
def test_settings_of_a_dual_encoder_that_nothing_reads(key: str, value: Any, changed: Callable[..., Path]) -> None:
    folder = changed("transformers-clip", "config.json", **{key: value})
    with pytest.raises(UnreadSettingError) as caught:
        zoo.load_model(folder)
    assert caught.value.keys == (key.replace("__", "."),)
    assert zoo.load_model(folder, ignore=list(caught.value.keys)).encode("kitty").isfinite().all()


def test_a_clip_of_one_channel(tmp_path: Path, good: Callable[[str], Path]) -> None:
    folder = shutil.copytree(good("transformers-clip"), tmp_path / "grey")
    config = transformers.CLIPConfig.from_pretrained(folder)
    config.vision_config.num_channels = 1
    transformers.CLIPModel(config).save_pretrained(folder)
    with pytest.raises(UnrecognisedCheckpointError, match="1 channels"):
        zoo.load_model(folder)


@pytest.mark.parametrize("name", ["transformers-siglip", "transformers-siglip2-naflex"])
def test_a_siglip_without_its_head(name: str, changed: Callable[..., Path]) -> None:
    folder = changed(name, "config.json", vision_config__vision_use_head=False)
    with pytest.raises(UnrecognisedCheckpointError, match="vision_use_head"):
        zoo.load_model(folder)


@pytest.mark.parametrize(("key", "value"), [("do_rescale", False), ("resample", 0), ("image_std", [0.1, 0.2, 0.3])])
def test_siglip_2s_own_processor(key: str, value: Any, changed: Callable[..., Path], paths: list[Path]) -> None:
    folder = changed("transformers-siglip2-naflex", "preprocessor_config.json", **{key: value})
    expected = dual_reference(folder, fill=True, max_tokens=32).images(paths)
    assert difference(zoo.load_model(folder).encode(paths), expected) < 1e-5


@pytest.mark.parametrize(
    ("key", "value"),
    [("do_resize", False), ("patch_size", 8), ("resample", 4), ("image_processor_type", "CLIPImageProcessor")],
)
def test_siglip_2s_own_processor_refused(key: str, value: Any, changed: Callable[..., Path]) -> None:
    folder = changed("transformers-siglip2-naflex", "preprocessor_config.json", **{key: value})
    with pytest.raises(UnreadSettingError, match=f'"{key}"'):
        zoo.load_model(folder)


# ----------------------------------------------------------------------------------------------------------- CLIP's text


@pytest.mark.parametrize("eos", [2, None])
def test_clips_text_vector_does_not_depend_on_the_batch(eos: int | None, changed: Callable[..., Path]) -> None:
    """An old configuration (eos 2) pools at the highest id, where a filler above the end token would win."""
    folder = changed("transformers-clip", "config.json", **({"text_config__eos_token_id": eos} if eos else {}))
    core = json.loads((folder / "tokenizer.json").read_text())
    rows = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    ends = max(core["added_tokens"], key=lambda token: token["id"])["content"]
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    # The end token gets a lower id, the filler the highest.
    swapped = {ends: 5, next(t for t, i in core["model"]["vocab"].items() if i == 5): rows - 1}
    core["model"]["vocab"].update(swapped)
    for token in core["added_tokens"]:
        token["id"] = core["model"]["vocab"].get(token["content"], token["id"])
    text = json.dumps(core)
    (folder / "tokenizer.json").write_text(text)
    settings["pad_token"] = next(t for t, i in core["model"]["vocab"].items() if i == rows - 1)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = eos or 5
    (folder / "config.json").write_text(json.dumps(config))
    reference = dual_reference(folder, fill=False, max_tokens=77)
    alone = torch.cat([reference.texts([text]) for text in TEXTS])
    model = zoo.load_model(folder)
    assert difference(model.encode(TEXTS), alone) < 1e-5
    assert difference(torch.stack([model.encode(text) for text in TEXTS]), alone) < 1e-5


@pytest.mark.parametrize("name", ["transformers-siglip", "transformers-siglip2-naflex"])
def test_siglips_filler_on_the_left(
    name: str, changed: Callable[..., Path], good: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its last position is pooled: there stands the end of the text then, and not filler."""
    folder = changed(name, "tokenizer_config.json", padding_side="left")
    expected = dual_reference(folder, fill=True, max_tokens=32).texts(TEXTS)
    assert difference(expected, dual_reference(good(name), fill=True, max_tokens=32).texts(TEXTS)) > 1e-4
    model = zoo.load_model(folder)
    assert difference(model.encode(TEXTS), expected) < 1e-5
    assert difference(zoo.load_model(model.save_pretrained(tmp_path / "saved")).encode(TEXTS), expected) < 1e-5


@pytest.mark.parametrize("name", [*DUAL, "open_clip-siglip"])
def test_a_setting_of_the_tokenizer_that_nothing_reads(name: str, changed: Callable[..., Path]) -> None:
    folder = changed(name, "tokenizer_config.json", drop_accents=True)
    with pytest.raises(UnreadSettingError, match="drop_accents") as caught:
        zoo.load_model(folder)
    assert caught.value.keys == ("drop_accents",)


@pytest.mark.parametrize("name", ["transformers-clip", "transformers-siglip", "open_clip-siglip"])
def test_long_texts_lose_their_beginning_where_the_tokenizer_says_so(name: str, changed: Callable[..., Path]) -> None:
    folder = changed(name, "tokenizer_config.json", truncation_side="left")
    texts = [LONG_TEXT, f"{LONG_TEXT} and a red bicycle"]
    if name.startswith("open_clip"):
        expected = open_clip_reference(folder).texts(texts)
    else:
        fill = "siglip" in name
        expected = dual_reference(folder, fill=fill, max_tokens=32 if fill else 77).texts(texts)
    assert difference(expected[:1], expected[1:]) > 1e-4
    assert difference(zoo.load_model(folder).encode(texts), expected) < 1e-5


# ------------------------------------------------------------------------------------------------------------ exports


def test_what_is_followed_is_exported_too(changed: Callable[..., Path], paths: list[Path], tmp_path: Path) -> None:
    from zoo.publishing.exports import dual

    settings = {"do_normalize": False, "rescale_factor": 0.01, "resample": 1, "do_resize": True, "size": 90}
    model = zoo.load_model(changed("transformers-clip-2021", "preprocessor_config.json", **settings))
    assert dual.unfit(model) == ""
    (tmp_path / "exported").mkdir()
    dual.write(model, tmp_path / "exported")
    assert difference(dual_reference_images(tmp_path / "exported", paths), model.encode(paths)) < 1e-5
