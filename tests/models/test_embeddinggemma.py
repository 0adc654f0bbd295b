"""EmbeddingGemma 2: equal to the library's own class and to sentence-transformers, tower by tower, on a checkpoint that they wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import zoo
from zoo import errors
from zoo.models.embeddinggemma import PROMPTS, tiny_embedding_gemma2, tiny_processor
from zoo.sequences import EMBEDDING_GEMMA2, AudioLimits, SequenceFormat, VideoLimits, to_reading

CLOSE = 1e-5
RATE = 16_000
HOW = {"method": "forward", "method_output_name": "last_hidden_state"}
SENTENCE = {
    "transformer_task": "feature-extraction",
    "modality_config": {
        **dict.fromkeys(("text", "image", "audio", "video"), HOW),
        "message": {**HOW, "format": "structured"},
    },
    "module_output_name": "token_embeddings",
}
# What the published template does, by the library's test of the processor: every message's parts, with nothing between.
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}"
    "{% else %}{{ '<|' + c['type'] + '|>' }}{% endif %}{% endfor %}{% endfor %}"
)
_NAME = "sentence_transformers"
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": f"{_NAME}.base.modules.transformer.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{_NAME}.sentence_transformer.modules.pooling.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{_NAME}.base.modules.normalize.Normalize"},
]


def wave(samples: int, pitch: float = 9.0) -> zoo.Waveform:
    return zoo.Waveform(np.sin(np.arange(samples) / pitch).astype(np.float32), RATE)


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


IMAGE, VIDEO, AUDIO = pixels(40, 61, 3), pixels(3, 40, 60, 3, seed=1), wave(20_000)
ITEMS = {
    "text": "hello there, 犬",
    "image": zoo.Item(image=IMAGE),
    "video": zoo.Item(video=VIDEO),
    "audio": zoo.Item(audio=AUDIO),
    "text and image": zoo.Item(text="a cat", image=IMAGE),
    "all": zoo.Item(text="a cat", image=IMAGE, video=VIDEO, audio=AUDIO),
    "parts": zoo.Item(parts=[zoo.Item(audio=AUDIO), "and", zoo.Item(image=IMAGE)]),
}


def write(folder: Path, config: dict[str, Any] | None = None) -> Any:
    """A checkpoint in the published layout, its weights by the library; returns the library's model."""
    from transformers import AutoConfig, EmbeddingGemma2Model

    if config is None:
        config = tiny_embedding_gemma2()
        config["audio_config"] |= {"use_clipped_linears": True}
    torch.manual_seed(0)
    model = EmbeddingGemma2Model(AutoConfig.for_model(**config)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.15)  # else all vectors are much the same
        for name, buffer in model.named_buffers():
            if name.endswith(("put_min", "put_max")):
                buffer.fill_(1.5 if name.endswith("max") else -1.5)
    processor = tiny_processor()
    processor.chat_template = TEMPLATE
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    put(folder / "modules.json", MODULES)
    put(folder / "sentence_bert_config.json", SENTENCE)
    put(
        folder / "1_Pooling" / "config.json",
        {"embedding_dimension": 24, "pooling_mode": "mean", "include_prompt": True},
    )
    put(
        folder / "config_sentence_transformers.json",
        {
            "prompts": PROMPTS,
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
            "model_type": "SentenceTransformer",
        },
    )
    (folder / "2_Normalize").mkdir()
    return model


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def edited(folder: Path, copy: Path, file: str, **changes: Any) -> Path:
    """The folder once more, with other values in one of its files."""
    shutil.copytree(folder, copy)
    put(copy / file, json.loads((folder / file).read_text()) | changes)
    return copy


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "gemma"
    folder.mkdir()
    return folder, write(folder)


@pytest.fixture(scope="module")
def ours(published) -> zoo.Embedder:
    return zoo.load_model(published[0], device="cpu")


def theirs(model: Any, **given: Any) -> torch.Tensor:
    """The library's vector: its processor, its model, the mean of the tokens that its mask has."""
    inputs = tiny_processor()(**given, videos_kwargs={"do_sample_frames": False}, return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)[0]


def test_every_kind_of_item_is_as_in_the_library(published, ours):
    image, video = torch.from_numpy(IMAGE).permute(2, 0, 1), torch.from_numpy(VIDEO).permute(0, 3, 1, 2)
    media = {"images": [[image]], "videos": [video], "audio": [AUDIO.samples]}
    wanted = {
        "text": {"text": ["hello there, 犬"]},
        "image": {"images": [[image]]},
        "video": {"videos": [video]},
        "audio": {"audio": [AUDIO.samples]},
        "text and image": {"text": ["a cat<|image|>"], "images": [[image]]},
        "all": {"text": ["a cat<|image|><|video|><|audio|>"], **media},
        "parts": {"text": ["<|audio|>and<|image|>"], "images": [[image]], "audio": [AUDIO.samples]},
    }
    vectors = dict(zip(ITEMS, ours.encode(list(ITEMS.values())), strict=True))
    for kind, given in wanted.items():
        reference = theirs(published[1], **given)
        assert (vectors[kind] - reference).abs().max() < CLOSE, kind
        assert max(float(vectors[kind] @ vectors[other]) for other in vectors if other != kind) < 0.999, kind


@pytest.mark.slow
def test_sentence_transformers_gives_the_same_with_prompts(published, ours):
    from PIL import Image
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(published[0]), device="cpu")
    assert np.abs(model.encode_query(["when?"]) - ours.encode_query(["when?"]).numpy()).max() < CLOSE
    given = {
        "text and image": {"text": "a cat", "image": Image.fromarray(IMAGE)},
        "audio": {"audio": {"array": AUDIO.samples, "sampling_rate": RATE}},
    }
    for kind, value in given.items():
        (reference,), (vector,) = model.encode_document([value]), ours.encode_document([ITEMS[kind]])
        assert np.abs(reference - vector.numpy()).max() < CLOSE, kind


@pytest.mark.parametrize("kind", ITEMS)
def test_neither_padding_nor_the_rest_of_a_batch_changes_a_vector(ours, kind):
    alone = ours.encode([ITEMS[kind]])
    encoder = ours.towers[0].encoder
    others = [
        "a much longer text than any of the other ones here",
        zoo.Item(audio=wave(33_000, 7.0)),
        zoo.Item(image=IMAGE.swapaxes(0, 1)),
    ]
    read = [
        encoder.prepare_item(item if isinstance(item, zoo.Item) else zoo.Item(text=item))
        for item in (ITEMS[kind], *others)
    ]
    with torch.no_grad():
        for side in ("right", "left"):
            vectors = ours.towers[0](encoder.collate(read, side))
            assert (vectors[0] - alone[0]).abs().max() < CLOSE, side
    assert torch.equal(alone, ours.encode([ITEMS[kind]]))


def test_the_window_is_a_radius_and_looks_both_ways(ours):
    """Three layers of which two see four tokens to either side: what is farther reaches a token through the third alone."""
    encoder = ours.towers[0].encoder
    assert encoder.backbone.config.text_config.sliding_window == 4
    states = []
    for end in "bc":
        with torch.no_grad():
            states.append(encoder(encoder.prepare([zoo.Item(text="a" * 40 + end)])).states[0])
    assert (states[0][0] - states[1][0]).abs().max() > 1e-6  # the first token has read the last


@pytest.mark.parametrize(
    ("towers", "reads"),
    [
        (["text"], {"text"}),
        (["image"], {"text", "image"}),
        (["text", "audio"], {"text", "audio"}),
        (["text", "image", "video"], {"text", "image", "video"}),
    ],
)
def test_towers_may_be_left_out_and_texts_stay_equal_to_the_bit(published, ours, towers, reads):
    model = zoo.load_model(published[0], device="cpu", towers=towers)
    assert model.spec.modalities == reads == model.towers[0].encoder.modalities
    assert model.spec.params == sum(weight.numel() for weight in model.parameters()) < ours.spec.params
    texts = ["hello", "a longer one than that"]
    assert torch.equal(model.encode(texts), ours.encode(texts))
    for kind in reads - {"text"}:
        assert torch.equal(model.encode([ITEMS[kind]]), ours.encode([ITEMS[kind]])), kind
    for kind in {"image", "video", "audio"} - reads:
        with pytest.raises(errors.UnsupportedModalityError, match=kind):
            model.encode([ITEMS[kind]])


def test_a_checkpoint_without_towers_opens_and_saves(published, tmp_path):
    config = tiny_embedding_gemma2() | {"vision_config": None, "audio_config": None}
    reference = write(tmp_path, config)
    model = zoo.load_model(tmp_path, device="cpu")
    assert model.spec.modalities == {"text"}
    assert (model.encode(["one text"])[0] - theirs(reference, text=["one text"])).abs().max() < CLOSE
    with pytest.raises(errors.MissingWeightsError, match="no tower for audio"):
        zoo.load_model(tmp_path, device="cpu", towers=["audio"])


def test_what_was_saved_opens_again(ours, published, tmp_path):
    for name, towers in (("whole", None), ("text", ["text"])):
        model = zoo.load_model(published[0], device="cpu", towers=towers)
        items = list(ITEMS.values()) if towers is None else ["hello"]
        model.save_pretrained(tmp_path / name)
        again = zoo.load_model(tmp_path / name, device="cpu")
        assert again.spec.modalities == model.spec.modalities
        assert torch.equal(again.encode(items), model.encode(items))


def test_towers_are_refused_where_there_are_none(tmp_path):
    zoo.build_model("gme-test").save_pretrained(tmp_path)
    with pytest.raises(errors.NotOfferedError, match="no towers that can be left out"):
        zoo.load_model(tmp_path, device="cpu", towers=["text"])
    with pytest.raises(errors.ArgumentError, match="towers are among text, image, video, audio, not 'photo'"):
        zoo.load_model("embeddinggemma-2", towers=["photo"])
    with pytest.raises(errors.NotOfferedError, match="no towers"):
        zoo.load_model("zoo-mini", towers=["text"])


def test_float16_is_refused_by_name(published, ours):
    with pytest.raises(errors.NotOfferedError, match="does not run in float16: its activations"):
        zoo.load_model(published[0], dtype="float16", device="cpu")
    half = zoo.load_model(published[0], dtype="bfloat16", device="cpu")
    assert float(half.encode(["hello"])[0] @ ours.encode(["hello"])[0]) > 0.99
    with pytest.raises(errors.NotOfferedError, match="take bfloat16 or float32"):
        half.half().encode(["hello"])


def test_dims_are_cut_and_made_unit_length_again(ours):
    whole, cut = ours.encode(["hello"]), ours.encode(["hello"], dim=8)
    assert torch.allclose(cut, F.normalize(whole[:, :8], dim=-1), atol=1e-6)
    spec = zoo.get_spec("embeddinggemma-2")
    assert (spec.dims, spec.pooling, spec.max_tokens) == ((768, 512, 256, 128), "mean", 8192)
    assert spec.media["video"] == VideoLimits(frames=56, fps=1.0, sampling="steps")
    assert spec.media["audio"] == AudioLimits(seconds=30.0)


# ------------------------------------------------------------------------------------------------ followed or refused


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("sentence_bert_config.json", {"modality_config": {"text": HOW, "smell": HOW}}, "modality_config.smell"),
        ("sentence_bert_config.json", {"modality_config": {"text": HOW | {"method": "other"}}}, "modality_config.text"),
        (
            "sentence_bert_config.json",
            {"modality_config": {"message": {**HOW, "format": "flat"}}},
            "modality_config.message",
        ),
        ("sentence_bert_config.json", {"modality_config": {"image": HOW}}, "modality_config"),
        ("sentence_bert_config.json", {"processing_kwargs": {"video": {"fps": 2}}}, "processing_kwargs"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt"),
        ("config.json", {"some_new_thing": 3}, "some_new_thing"),
        ("processor_config.json", {"video_processor": {"add_timestamps": True}}, "video_processor"),
        ("processor_config.json", {"video_processor": {"overflow_strategy": "truncate"}}, "video_processor"),
        ("processor_config.json", {"feature_extractor": {"frame_length": 640}}, "feature_extractor.frame_length"),
        ("processor_config.json", {"feature_extractor": {"smell": 1}}, "feature_extractor.smell"),
    ],
)
def test_settings_that_are_not_followed_are_refused(published, tmp_path, file, changes, said):
    if file == "processor_config.json":
        settings = json.loads((published[0] / file).read_text())
        changes = {part: settings[part] | values for part, values in changes.items()}
    copy = edited(published[0], tmp_path / "copy", file, **changes)
    with pytest.raises(errors.UnreadSettingError) as refused:
        zoo.load_model(copy, device="cpu")
    assert said in refused.value.keys


@pytest.mark.parametrize(
    ("part", "changes", "error", "said"),
    [
        ("feature_extractor", {"dither": 1e-5}, errors.UnrecognisedCheckpointError, "noise in every audio"),
        ("feature_extractor", {"feature_size": 64}, errors.MissingWeightsError, "feature_size = 64"),
        ("feature_extractor", {"feature_size": 10**9}, errors.OversizedError, "feature_size = 1000000000"),
        (
            "feature_extractor",
            {"feature_extractor_type": "WhisperFeatureExtractor"},
            errors.UnsafeCheckpointError,
            "is not the Gemma4",
        ),
        ("image_processor", {"patch_size": 16}, errors.MissingWeightsError, "patch_size = 16"),
        ("video_processor", {"pooling_kernel_size": 3}, errors.MissingWeightsError, "pooling_kernel_size = 3"),
    ],
)
def test_processors_that_do_not_fit_are_refused(published, tmp_path, part, changes, error, said):
    settings = json.loads((published[0] / "processor_config.json").read_text())
    copy = edited(published[0], tmp_path / "copy", "processor_config.json", **{part: settings[part] | changes})
    with pytest.raises(error, match=said):
        zoo.load_model(copy, device="cpu")


def test_settings_that_are_followed(published, ours, tmp_path):
    short = zoo.load_model(
        edited(published[0], tmp_path / "short", "sentence_bert_config.json", max_seq_length=12), device="cpu"
    )
    assert short.spec.max_tokens == 12
    assert torch.equal(short.encode(["a" * 50]), ours.encode(["a" * 10]))  # the tokenizer's own ends stay
    less = edited(
        published[0], tmp_path / "less", "sentence_bert_config.json", modality_config={"text": HOW, "audio": HOW}
    )
    assert zoo.load_model(less, device="cpu").spec.modalities == {"text", "audio"}
    cut = edited(published[0], tmp_path / "cut", "config_sentence_transformers.json", truncate_dim=8)
    assert torch.allclose(zoo.load_model(cut, device="cpu").encode(["hello"]), ours.encode(["hello"], dim=8), atol=1e-6)
    settings = json.loads((published[0] / "processor_config.json").read_text())["video_processor"]
    frames = edited(
        published[0],
        tmp_path / "frames",
        "processor_config.json",
        video_processor=settings | {"max_frames": 7, "fps": 2},
    )
    assert zoo.load_model(frames, device="cpu").spec.media["video"] == VideoLimits(frames=7, fps=2.0, sampling="steps")


def test_like_the_registered_model(published, tmp_path):
    model = zoo.load_model(published[0], device="cpu", like="embeddinggemma-2")
    assert model.spec.media["video"].frames == 56
    pooled = edited(published[0], tmp_path / "cls", "1_Pooling/config.json", pooling_mode="cls")
    with pytest.raises(errors.UnrecognisedCheckpointError, match="pools by 'Cls'"):
        zoo.load_model(pooled, device="cpu", like="embeddinggemma-2")
    with pytest.raises(errors.UnrecognisedCheckpointError, match="weights do not fit"):
        zoo.load_model(published[0], device="cpu", like="gme-qwen2vl-2b")


# ------------------------------------------------------------------------------------------------------ video, audio


def test_frames_are_those_that_the_librarys_processor_takes():
    from transformers.video_utils import VideoMetadata

    from zoo.inputs.sampling import Choice, stepped_indices

    processor = tiny_processor().video_processor
    for total in (1, 2, 24, 25, 61, 300, 1799, 5000):
        for rate in (1.0, 12.5, 24_000 / 1001, 30.0):
            for fps, most in ((1.0, 56), (1.0, 6), (0.5, 32)):
                metadata = VideoMetadata(total_num_frames=total, fps=rate, duration=total / rate)
                theirs = processor.sample_frames(metadata, fps=fps, max_frames=most, overflow_strategy="uniform")
                assert stepped_indices(total, most, fps, rate).tolist() == theirs.tolist(), (total, rate, fps, most)
    assert stepped_indices(2, 8, 4.0, 1.0).tolist() == [0, 1]  # none twice
    unknown = Choice(6, 1.0, "steps").indices(np.full(9, np.nan), np.ones(9, bool), 0.0, "frames")
    assert unknown.tolist() == [0, 1, 3, 4, 6, 8]  # without times, evenly spread
    for wrong in (Choice, VideoLimits):
        with pytest.raises(ValueError, match="fps"):
            wrong(sampling="steps")


def test_audio_is_cut_at_the_limit_with_a_warning():
    model = zoo.build_model("embeddinggemma-test")
    with pytest.warns(UserWarning, match="audio over 4 s is cut there"):
        long = model.encode([zoo.Item(audio=wave(5 * RATE))])
    assert torch.equal(long, model.encode([zoo.Item(audio=wave(4 * RATE))]))
    reader = model.towers[0].encoder.readers["audio"]
    assert reader.read(wave(RATE)).tokens == 25  # 40 ms each


@pytest.mark.parametrize(
    ("audio", "error"),
    [
        (wave(100), errors.InvalidAudioError),
        (zoo.Waveform(np.full(RATE, np.nan, np.float32), RATE), errors.InvalidAudioError),
        (np.zeros(RATE, np.float32), errors.InputError),
        (b"RIFF but no more", errors.InputError),
    ],
)
def test_audio_that_cannot_be_read_is_an_error_of_its_item(audio, error):
    with pytest.raises(error):
        zoo.build_model("embeddinggemma-test").encode([zoo.Item(audio=audio)])


def test_another_rate_and_two_channels_are_the_same_audio():
    """A tone at 44.1 kHz in both channels is nearly that at 16 kHz: the rate is that of the processor, not of the file."""
    model = zoo.build_model("embeddinggemma-test")
    time = np.arange(2 * 44_100) / 44_100
    stereo = np.stack([np.sin(2 * np.pi * 440 * time)] * 2).astype(np.float32)
    mono = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
    vectors = model.encode([zoo.Item(audio=zoo.Waveform(stereo, 44_100)), zoo.Item(audio=zoo.Waveform(mono, RATE))])
    assert float(vectors[0] @ vectors[1]) > 0.9999


def test_marks_of_audio_in_a_text_are_refused():
    model = zoo.build_model("embeddinggemma-test")
    with pytest.raises(errors.InvalidTextError, match="audio"):
        model.encode(["a text with <|audio|> in it"])


def test_the_order_of_text_and_media_is_a_fact_of_the_format():
    assert EMBEDDING_GEMMA2.to_dict()["media_first"] is False
    assert SequenceFormat.from_dict(EMBEDDING_GEMMA2.to_dict()) == EMBEDDING_GEMMA2
    plain = SequenceFormat(prompt="{{ content }}")
    assert "media_first" not in plain.to_dict()
    assert "media_first" not in to_reading(plain, {}, pooling="last")
    assert to_reading(EMBEDDING_GEMMA2, {"audio": AudioLimits(seconds=3.0)}, pooling="mean")["media"] == {
        "audio": {"seconds": 3.0}
    }
    with pytest.raises(ValueError, match="seconds of audio must be from 0"):
        AudioLimits(seconds=-1.0)
