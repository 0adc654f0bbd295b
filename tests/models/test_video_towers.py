"""X-CLIP, VideoPrism, V-JEPA 2 and VideoMAE: their folders give transformers' own vectors, and what is refused of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import zoo
from tests.conftest import data_pack
from tests.reference.video_models import WRITERS, Clips
from zoo.encoders.transformers_video import canonical
from zoo.errors import (
    MissingWeightsError,
    UnreadableTextError,
    UnreadSettingError,
    UnrecognisedCheckpointError,
    UnsupportedModalityError,
)
from zoo.inputs.video import load_video
from zoo.tables.pack_files import read_pack

BOUND = 1e-5
NAMES = tuple(WRITERS)
WITH_TEXT = ("xclip", "videoprism-lvt")
TEXTS = ["two dogs", "a red motorbike in the snow", "dogs " * 90]
Load = Callable[[str], tuple[Clips, zoo.Embedder]]


def video(frames: int, seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    """Frames `(frames, height, width, 3)` that differ much, so that another order or choice is another vector."""
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


# One frame, fewer than a tower reads, an odd number, as many, more; of several sizes.
VIDEOS = [video(1, 1), video(3, 2), video(4, 3, 64, 36), video(5, 4), video(8, 5, 33, 33), video(23, 6, 36, 90)]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    root = tmp_path_factory.mktemp("videos")

    @cache
    def load(name: str) -> tuple[Clips, zoo.Embedder]:
        clips = WRITERS[name](root / name)
        return clips, zoo.load_model(clips.folder)

    return load


def items(videos: list[np.ndarray]) -> list[zoo.Item]:
    return [zoo.Item(video=frames) for frames in videos]


@pytest.mark.parametrize("name", NAMES)
def test_videos_get_transformers_own_vectors_alone_and_in_any_batch(load: Load, name: str) -> None:
    clips, model = load(name)
    theirs, ours = clips.videos(VIDEOS), model.encode(items(VIDEOS))
    torch.testing.assert_close(ours, theirs, atol=BOUND, rtol=0)
    assert (model.spec.dim, model.spec.image_size, model.spec.max_tokens) == tuple(clips.facts.values())
    # Alone, the other way round, and twice: none changes another.
    alone = torch.stack([model.encode(item) for item in items(VIDEOS)])
    torch.testing.assert_close(alone, ours, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.encode(items(VIDEOS)[::-1]).flip(0), ours, atol=1e-6, rtol=0)
    assert torch.equal(model.encode(items(VIDEOS)), ours)
    gram = ours @ ours.T - 2 * torch.eye(len(ours))
    assert gram.max() < 0.999, "two videos have one vector: the test could not fail"


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_frames_counts(load: Load, name: str) -> None:
    _, model = load(name)
    frames = VIDEOS[3]
    there, back = model.encode(items([frames, frames[::-1].copy()]))
    assert (there - back).abs().max() > 1e-3


@pytest.mark.parametrize("name", WITH_TEXT)
def test_texts_get_transformers_own_vectors(load: Load, name: str) -> None:
    clips, model = load(name)
    plain = [canonical(text) for text in TEXTS] if name == "videoprism-lvt" else TEXTS
    ours = model.encode(TEXTS)
    torch.testing.assert_close(ours, clips.of_texts(plain), atol=BOUND, rtol=0)
    torch.testing.assert_close(torch.stack([model.encode(text) for text in TEXTS]), ours, atol=1e-6, rtol=0)
    assert model.similarity(ours, model.encode(items(VIDEOS))).shape == (3, len(VIDEOS))


def test_texts_of_videoprism_are_made_plain(load: Load) -> None:
    _, model = load("videoprism-lvt")
    vectors = model.encode(["Two DOGS -- in the snow!", "two dogs in the snow.", "two dogs in the snow"])
    assert torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[1], vectors[2])
    assert canonical("A dog's  e-mail,\tTWICE?!") == "a dog s e mail twice."
    with pytest.raises(UnreadableTextError, match="punctuation"):
        model.encode("?!...")


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_opened_again_they_are_the_same(load: Load, name: str, tmp_path: Path) -> None:
    _, model = load(name)
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert torch.equal(again.encode(items(VIDEOS[:4])), model.encode(items(VIDEOS[:4])))
    assert again.fingerprint() == model.fingerprint()
    if name in WITH_TEXT:
        assert torch.equal(again.encode(TEXTS), model.encode(TEXTS))
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    unused = ("predictor", "decoder", "classifier", "prompts_", "mask_token")
    assert not [key for key in saved if any(part in key for part in unused)], "what no vector needs is left out"


@pytest.mark.parametrize("name", NAMES)
def test_images_are_refused_by_name(load: Load, name: str) -> None:
    _, model = load(name)
    with pytest.raises(UnsupportedModalityError, match=r"reads .*video, not image"):
        model.encode(zoo.Item(image=VIDEOS[0][0]))


def test_q_and_v_biases_of_old_files_are_read(load: Load, tmp_path: Path) -> None:
    """Published files of VideoMAE name them as transformers 4 did; an early transformers 5 left them at zero without a word."""
    clips, model = load("videomae")
    weights = load_file(clips.folder / "model.safetensors")
    old = {
        key.replace("attention.query.bias", "attention.q_bias").replace(
            "attention.value.bias", "attention.v_bias"
        ): value
        for key, value in weights.items()
    }
    renamed = [key for key in old if key.endswith(("q_bias", "v_bias"))]
    assert renamed
    assert all(old[key].abs().max() > 0.01 for key in renamed)
    bare = {key.removeprefix("videomae."): value for key, value in old.items() if key.startswith("videomae.")}
    for number, state in enumerate((old, bare)):
        folder = copied(clips.folder, tmp_path / str(number))
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        vectors = zoo.load_model(folder).encode(items(VIDEOS))
        torch.testing.assert_close(vectors, model.encode(items(VIDEOS)), atol=0, rtol=0)


def test_the_temperature_of_xclip_is_read(load: Load) -> None:
    clips, model = load("xclip")
    assert model.logit_scale.log == transformers.XCLIPModel.from_pretrained(clips.folder).logit_scale.item()


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def changed(folder: Path, to: Path, file: str, part: str = "", **settings: object) -> Path:
    """A copy of a folder with other settings in one file."""
    content = json.loads((copied(folder, to) / file).read_text())
    (content[part] if part else content).update(settings)
    (to / file).write_text(json.dumps(content))
    return to


@pytest.mark.parametrize(
    ("name", "file", "part", "settings", "refused"),
    [
        ("vjepa2", "video_preprocessor_config.json", "", {"size": {"shortest_edge": 40}}, "size"),
        ("vjepa2", "video_preprocessor_config.json", "", {"fps": 4}, "fps"),
        ("vjepa2", "video_preprocessor_config.json", "", {"crop_size": 48, "size": None}, "crop_size"),
        (
            "videomae",
            "preprocessor_config.json",
            "",
            {"image_processor_type": "ViTImageProcessor"},
            "image_processor_type",
        ),
        ("videomae", "preprocessor_config.json", "", {"frame_jitter": 1}, "frame_jitter"),
        ("xclip", "processor_config.json", "image_processor", {"resample": 4}, "resample"),
        ("videomae-tuned", "config.json", "", {"use_mean_pooling": False}, "use_mean_pooling"),
        ("videoprism", "config.json", "", {"architectures": ["VideoPrismForVideoClassification"]}, "architectures"),
        ("xclip", "config.json", "", {"clip_loss": 2}, "clip_loss"),
        ("vjepa2", "config.json", "", {"use_SiLU": True}, "use_SiLU"),
    ],
)
def test_settings_are_followed_or_refused(
    load: Load, tmp_path: Path, name: str, file: str, part: str, settings: dict[str, object], refused: str
) -> None:
    folder = changed(load(name)[0].folder, tmp_path / "changed", file, part, **settings)
    with pytest.raises(UnreadSettingError) as error:
        zoo.load_model(folder)
    assert refused in error.value.keys


def test_other_pixels_are_followed(load: Load, tmp_path: Path) -> None:
    clips, model = load("vjepa2")
    folder = changed(clips.folder, tmp_path / "mean", "video_preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    assert (zoo.load_model(folder).encode(items(VIDEOS)) - model.encode(items(VIDEOS))).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("name", "part", "settings", "error", "words"),
    [
        ("vjepa2", "", {"frames_per_clip": 7}, UnrecognisedCheckpointError, "multiple of 2 frames"),
        ("vjepa2-classifier", "", {"num_pooler_layers": 2}, MissingWeightsError, "lacks"),
        ("vjepa2", "", {"num_hidden_layers": 1}, MissingWeightsError, "more layers"),
        ("videoprism", "", {"num_frames": 8}, MissingWeightsError, "shape"),
        ("xclip", "", {"projection_dim": 16}, UnrecognisedCheckpointError, "mit_hidden_size"),
        ("xclip", "vision_config", {"num_hidden_layers": 3}, MissingWeightsError, "lacks"),
    ],
)
def test_weights_of_another_shape_are_refused(
    load: Load, tmp_path: Path, name: str, part: str, settings: dict[str, object], error: type[Exception], words: str
) -> None:
    folder = changed(load(name)[0].folder, tmp_path / "changed", "config.json", part, **settings)
    with pytest.raises(error, match=words):
        zoo.load_model(folder)


# What transformers 4 wrote into every part's settings, and the drafts of V-JEPA 2's class into theirs.
OF_2022 = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "architectures": None,
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "dropout": 0.0,
    "early_stopping": False,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "num_beams": 1,
    "output_attentions": False,
    "problem_type": None,
    "pruned_heads": {},
    "tie_word_embeddings": True,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.23.0.dev0",
    "typical_p": 1.0,
    "use_bfloat16": False,
}
DRAFTS = {
    "use_SiLU": False,
    "wide_SiLU": True,
    "uniform_power": True,
    "use_sdpa": True,
    "use_rope": True,
    "image_size": 32,
}


def test_files_of_earlier_versions_are_read(load: Load, tmp_path: Path) -> None:
    for name, parts, added in (("xclip", ("text_config", "vision_config"), OF_2022), ("vjepa2", (), DRAFTS)):
        clips, model = load(name)
        folder = copied(clips.folder, tmp_path / name)
        content = json.loads((folder / "config.json").read_text())
        for part in parts:
            content[part] = {**added, **content[part]}
        content |= {"text_config_dict": None, "vision_config_dict": None} if parts else added
        (folder / "config.json").write_text(json.dumps(content))
        assert torch.equal(zoo.load_model(folder).encode(items(VIDEOS)), model.encode(items(VIDEOS)))
    # The frames' settings under their old names, a number for both sides.
    folder = copied(load("videomae")[0].folder, tmp_path / "videomae")
    old = {"feature_extractor_type": "VideoMAEFeatureExtractor", "size": 32, "crop_size": 32}
    old |= {"do_normalize": True, "do_resize": True, "resample": 2, "num_frames": 16}
    old |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    vectors = zoo.load_model(folder).encode(items(VIDEOS))
    assert torch.equal(vectors, load("videomae")[1].encode(items(VIDEOS)))


def test_files_give_the_vectors_of_their_frames(load: Load) -> None:
    data_pack("video")
    rows = read_pack("video", "val")[:3]
    whole = [load_video(row["video"], frames=10_000).frames for row in rows]
    for name in ("xclip", "vjepa2"):
        clips, model = load(name)
        vectors = model.encode([zoo.Item(video=row["video"]) for row in rows])
        torch.testing.assert_close(vectors, clips.videos(whole), atol=BOUND, rtol=0)


def test_a_lost_pooler_or_processor_is_said(load: Load, tmp_path: Path) -> None:
    folder = copied(load("vjepa2-classifier")[0].folder, tmp_path / "poolerless")
    weights = load_file(folder / "model.safetensors")
    rest = {key: value for key, value in weights.items() if not key.startswith("pooler.")}
    assert len(rest) < len(weights)
    save_file(rest, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MissingWeightsError, match="pooler"):
        zoo.load_model(folder)
    bare = copied(load("videomae")[0].folder, tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(UnrecognisedCheckpointError, match="nothing says how frames are read"):
        zoo.load_model(bare)


@pytest.mark.parametrize("name", ["xclip-vit-b32", "vjepa2-vit-l-ssv2"])
def test_registered_sizes_are_those_of_their_towers(name: str) -> None:
    with torch.device("meta"):
        model = zoo.build_model(name)
    assert sum(weight.numel() for weight in model.parameters()) == zoo.get_spec(name).params


def test_videomae_says_that_it_is_not_for_business() -> None:
    names = [name for name in zoo.list_models("videomae-*") if zoo.get_spec(name).hub_id]
    assert names
    assert all(zoo.get_spec(name).non_commercial for name in names)
