"""Audio encoders: folders that transformers wrote give its vectors, whatever else is in the batch, and the traps of each family."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import zoo
from tests.every import standing_for
from tests.inputs.audio_files import sndfile, tones
from tests.reference.base import stir
from tests.reference.vocab import ROBERTA_SPECIALS, byte_bpe
from zoo.encoders.audio import AudioEncoder
from zoo.encoders.clap import ClapAudio
from zoo.errors import InvalidAudioError, MissingWeightsError, UnreadSettingError, UnrecognisedCheckpointError
from zoo.inputs.item import as_item

pytest.importorskip("soxr", reason="audio needs soundfile, soxr and av (extra 'audio')")
BOUND = 1e-5
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SPEECH = {**SMALL, "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
SPEECH_CLASSES = {
    "wav2vec2": (transformers.Wav2Vec2Model, transformers.Wav2Vec2Config, {}),
    "wav2vec2-layer": (
        transformers.Wav2Vec2Model, transformers.Wav2Vec2Config, {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    ),
    "hubert": (transformers.HubertModel, transformers.HubertConfig, {}),
    "wavlm": (transformers.WavLMModel, transformers.WavLMConfig, {}),
    "data2vec": (transformers.Data2VecAudioModel, transformers.Data2VecAudioConfig, {"num_conv_pos_embeddings": 2}),
}  # fmt: skip
FAMILIES = ["clap", "clap-fused", "ast", "whisper", *SPEECH_CLASSES]
EVERY = standing_for(FAMILIES, {"clap", "clap-fused", "ast", "whisper", "wav2vec2"})
FEW = standing_for(FAMILIES, {"clap-fused", "wav2vec2"})


def write_clap(folder: Path, fused: bool = False, **features: object) -> Path:
    """A CLAP of a second at 8 kHz, with the preprocessing of LAION's checkpoints otherwise."""
    vocab, merges = byte_bpe(ROBERTA_SPECIALS)
    tokenizer = transformers.RobertaTokenizer(vocab=vocab, merges=merges, model_max_length=512)
    audio = {"spec_size": 256 if fused else 64, "num_mel_bins": 64 if fused else 16, "window_size": 4, "depths": [1, 1]}
    audio |= {"num_attention_heads": [2, 2], "patch_embeds_hidden_size": 16, "hidden_size": 32, "enable_fusion": fused}
    text = {**SMALL, "vocab_size": len(vocab), "max_position_embeddings": 100}
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=24)
    stir(transformers.ClapModel(config)).save_pretrained(folder)
    settings = {
        "feature_size": audio["num_mel_bins"], "sampling_rate": 8000, "max_length_s": 1, "hop_length": 80, "fft_window_size": 256,
        "frequency_min": 50, "frequency_max": 3500, "truncation": "fusion" if fused else "rand_trunc", **features,
    }  # fmt: skip
    extractor = transformers.ClapFeatureExtractor(**settings)
    transformers.ClapProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def write(family: str, folder: Path) -> Path:
    if family.startswith("clap"):
        return write_clap(folder, family == "clap-fused")
    if family == "ast":
        shape = {"num_mel_bins": 32, "max_length": 96}
        stir(transformers.ASTForAudioClassification(transformers.ASTConfig(**SMALL, **shape))).save_pretrained(folder)
        transformers.ASTFeatureExtractor(**shape, mean=-3.0, std=2.0).save_pretrained(folder)
    elif family == "whisper":
        shape = {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
        }
        shape |= {
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "vocab_size": 100,
            "num_mel_bins": 16,
            "max_source_positions": 50,
        }
        shape |= {
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "begin_suppress_tokens": [2],
        }
        stir(transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**shape))).save_pretrained(folder)
        transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1).save_pretrained(folder)
    else:
        model, config, shape = SPEECH_CLASSES[family]
        stir(model(config(**{**SPEECH, **shape}))).save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=family != "wavlm").save_pretrained(folder)
    return folder


def rounded(samples: np.ndarray) -> np.ndarray:
    """laion_clap's int16_to_float32(float32_to_int16(x))."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16) / np.float32(32767.0)


def reference(family: str, folder: Path) -> Callable[[np.ndarray], torch.Tensor]:
    """The library's own reading of one window."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    rate = {"sampling_rate": extractor.sampling_rate, "return_tensors": "pt"}
    if family.startswith("clap"):
        clap = transformers.ClapModel.from_pretrained(folder).eval()

        def heard(samples: np.ndarray) -> torch.Tensor:
            features = extractor(rounded(samples), **rate)
            features["is_longer"][:] = False
            return clap.get_audio_features(**features).pooler_output[0]

        return heard
    if family == "ast":
        ast = transformers.ASTModel.from_pretrained(folder).eval()
        return lambda samples: F.normalize(ast(**extractor(samples, **rate)).pooler_output, dim=-1)[0]
    if family == "whisper":
        encoder = transformers.WhisperModel.from_pretrained(folder).eval().encoder

        def listened(samples: np.ndarray) -> torch.Tensor:
            features = extractor(samples, **rate, return_attention_mask=True)
            count = int(features["attention_mask"].sum()) // 2
            return F.normalize(encoder(features["input_features"]).last_hidden_state[0, :count].mean(0), dim=-1)

        return listened
    speech = transformers.AutoModel.from_pretrained(folder).eval()
    return lambda samples: F.normalize(speech(**extractor(samples, **rate)).last_hidden_state.mean(1), dim=-1)[0]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, zoo.Embedder]]:
    @cache
    def opened(family: str) -> tuple[Path, zoo.Embedder]:
        folder = write(family, tmp_path_factory.mktemp(family))
        return folder, zoo.load_model(folder, device="cpu")

    return opened


def encoder_of(model: zoo.Embedder) -> AudioEncoder:
    return model.towers[0].encoder


def clips(model: zoo.Embedder, *seconds: float) -> list[zoo.Waveform]:
    rate = encoder_of(model).rate
    rng = np.random.default_rng(0)
    return [
        zoo.Waveform(
            tones(length, rate, seed) + 0.05 * rng.standard_normal(round(length * rate)).astype(np.float32), rate
        )
        for seed, length in enumerate(seconds)
    ]


@pytest.mark.parametrize("family", EVERY)
@torch.no_grad()
def test_a_window_has_the_librarys_vector(family: str, opened: Callable) -> None:
    folder, model = opened(family)
    theirs = reference(family, folder)
    for clip in clips(model, 0.1, 0.73, 1.0):
        short = clip.samples[: round((encoder_of(model).window or 1.0) * clip.rate)]
        expected = theirs(short)
        torch.testing.assert_close(model.encode(zoo.Waveform(short, clip.rate)), expected, atol=BOUND, rtol=0)
    vectors = model.encode(clips(model, 0.5, 0.9, 0.7))
    assert torch.pdist(vectors).min() > 100 * BOUND, "agreement of vectors that are all alike would prove nothing"


@pytest.mark.parametrize("family", standing_for(FAMILIES, {"clap", "clap-fused", "wav2vec2"}))
def test_no_vector_depends_on_its_batch_and_two_runs_are_equal_to_the_bit(family: str, opened: Callable) -> None:
    _, model = opened(family)
    some = clips(model, 0.9, 0.2, 1.0, 2.3, 0.2, 1.001)
    together = model.encode(some, batch_size=8)
    assert torch.equal(together, model.encode(some, batch_size=8))
    alone = torch.stack([model.encode(clip) for clip in some])
    torch.testing.assert_close(together, alone, atol=BOUND, rtol=0)
    torch.testing.assert_close(model.encode(some[::-1]).flip(0), together, atol=BOUND, rtol=0)
    torch.testing.assert_close(model.encode([some[0], some[0]]), together[[0, 0]], atol=BOUND, rtol=0)


@pytest.mark.parametrize("family", standing_for(["clap", "ast", "whisper", "wav2vec2"], {"clap", "ast"}))
def test_long_audio_is_the_mean_of_its_windows(family: str, opened: Callable) -> None:
    _, model = opened(family)
    encoder = encoder_of(model)
    length = encoder.window if encoder.window < 5 else 2.0
    before = encoder.window, encoder.hop
    encoder.window, encoder.hop = length, length / 2
    try:
        (long,) = clips(model, 2.6 * length)
        count, rate = round(length * long.rate), long.rate
        starts = [0, count // 2, count, 3 * count // 2, len(long.samples) - count]
        parts = model.encode([zoo.Waveform(long.samples[start : start + count], rate) for start in starts])
        assert len(encoder.parts_of(len(long.samples))) == 5
        torch.testing.assert_close(model.encode(long), F.normalize(parts.mean(0), dim=-1), atol=BOUND, rtol=0)
    finally:
        encoder.window, encoder.hop = before


@pytest.mark.parametrize("family", FEW)
def test_it_is_saved_with_its_windows_and_opened_again(family: str, opened: Callable, tmp_path: Path) -> None:
    _, model = opened(family)
    encoder = encoder_of(model)
    before = encoder.hop
    encoder.hop = encoder.window / 4
    try:
        some = clips(model, 0.5, 2.2)
        again = zoo.load_model(model.save_pretrained(tmp_path / "saved"), device="cpu")
        assert encoder_of(again).hop == encoder.hop
        assert torch.equal(again.encode(some), model.encode(some))
        assert again.fingerprint() == model.fingerprint()
        encoder.hop = before
        assert family == "clap-fused" or again.fingerprint() != model.fingerprint()
    finally:
        encoder.hop = before


@pytest.mark.parametrize("family", standing_for(["clap", "ast", "whisper", "wav2vec2"], {"whisper"}))
def test_a_file_of_another_rate_and_stereo_is_heard(family: str, opened: Callable, tmp_path: Path) -> None:
    _, model = opened(family)
    rate = encoder_of(model).rate
    signal = tones(0.9, 48_000)
    (tmp_path / "stereo.wav").write_bytes(sndfile(np.stack([signal, 0.5 * signal], 1), 48_000, "WAV", "FLOAT"))
    found = model.encode(tmp_path / "stereo.wav")
    import soxr

    mono = zoo.Waveform(soxr.resample(0.75 * signal, 48_000, rate), rate)
    torch.testing.assert_close(found, model.encode(mono), atol=BOUND, rtol=0)


@pytest.mark.parametrize(("family", "shortest"), [("ast", 400), ("wav2vec2", 400)])
def test_audio_that_is_too_short_is_named(family: str, shortest: int, opened: Callable) -> None:
    _, model = opened(family)
    assert model.encode(zoo.Waveform(tones(1, 16_000)[:shortest], 16_000)).isfinite().all()
    with pytest.raises(InvalidAudioError, match="reads 25 ms or more"):
        model.encode(zoo.Waveform(tones(1, 16_000)[: shortest - 1], 16_000))


# CLAP's traps


@torch.no_grad()
def test_clap_texts_are_the_librarys_of_77_tokens(opened: Callable) -> None:
    folder, model = opened("clap")
    theirs = transformers.ClapModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["a dog barks", "Rain.", "thunder far away, " * 40]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
    assert model.spec.max_tokens == batch["input_ids"].shape[1] == 77
    torch.testing.assert_close(model.encode(texts), theirs.get_text_features(**batch).pooler_output, atol=BOUND, rtol=0)
    torch.testing.assert_close(model.encode(texts[1]), model.encode(texts)[1], atol=BOUND, rtol=0)
    assert model.logit_scale.log == pytest.approx(theirs.logit_scale_a.item())


@torch.no_grad()
def test_fused_clap_hears_the_beginning_the_middle_and_the_end(opened: Callable) -> None:
    folder, model = opened("clap-fused")
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    clap = transformers.ClapModel.from_pretrained(folder).eval()
    for seconds in (1.0, 1.00125, 1.01, 1.5, 7.3):  # up to a frame more than a second is no longer than one
        (clip,) = clips(model, seconds)
        whole = extractor._np_extract_fbank_features(rounded(clip.samples), extractor.mel_filters)
        longer, later = len(whole) > 101, len(whole) - 101
        shrunk = F.interpolate(torch.tensor(whole[None, None]), size=[101, 64], mode="bilinear", align_corners=False)[
            0, 0
        ]
        parts = [shrunk.numpy(), *(whole[start : start + 101] for start in (0, later // 2, later))]
        features = torch.tensor(np.stack(parts if longer else [whole[:101]] * 4))[None]
        expected = clap.get_audio_features(input_features=features, is_longer=torch.tensor([[longer]])).pooler_output[0]
        torch.testing.assert_close(model.encode(clip), expected, atol=BOUND, rtol=0)
    # transformers marks a random row of a batch without long clips: the same clip twice has two vectors there.
    twice = extractor([clips(model, 0.5)[0].samples] * 2, sampling_rate=8000, return_tensors="pt")
    assert twice["is_longer"].sum() == 1


def test_a_little_more_than_a_window_changes_a_little(opened: Callable) -> None:
    _, model = opened("clap")
    (clip,) = clips(model, 1.01)
    exactly, more = (zoo.Waveform(clip.samples[:count], 8000) for count in (8000, 8080))
    assert (model.encode(exactly) @ model.encode(more)).item() > 0.999


def test_waveforms_are_rounded_to_sixteen_bits(opened: Callable) -> None:
    _, model = opened("clap")
    (clip,) = clips(model, 1.0)
    steps = (np.clip(clip.samples, -1, 1) * 32767.0).astype(np.int16)
    middle = zoo.Waveform(((np.sign(steps) * (np.abs(steps) + 0.4)) / 32767.0).astype(np.float32), 8000)
    assert torch.equal(model.encode(middle), model.encode(zoo.Waveform(steps / np.float32(32767.0), 8000)))
    loud = zoo.Waveform(3 * clip.samples, 8000)
    cut = zoo.Waveform(np.clip(3 * clip.samples, -1, 1), 8000)
    assert torch.equal(model.encode(loud), model.encode(cut))


def test_training_leaves_the_batch_norm_as_it_is() -> None:
    model = zoo.build_model("clap-test").train()
    encoder: ClapAudio = encoder_of(model)
    norm = encoder.tower.audio_model.audio_encoder.batch_norm
    before = norm.running_mean.clone()
    batch = encoder.prepare([as_item(clip) for clip in clips(model, 0.5, 0.9)])
    alone = encoder.prepare([as_item(clips(model, 0.5)[0])])
    encoder.tower.audio_model.audio_encoder.layers.eval()
    together, apart = encoder(batch).states[0], encoder(alone).states[0]
    assert not norm.training
    assert encoder.tower.training
    torch.testing.assert_close(together, apart, atol=BOUND, rtol=0)
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("padding", ["repeat", "pad"])
@torch.no_grad()
def test_every_way_of_filling_a_short_clip_is_followed(padding: str, tmp_path: Path) -> None:
    folder = write_clap(tmp_path, padding=padding)
    model = zoo.load_model(folder, device="cpu")
    theirs = reference("clap", folder)
    (clip,) = clips(model, 0.3)
    torch.testing.assert_close(model.encode(clip), theirs(clip.samples), atol=BOUND, rtol=0)


# What files say


def changed(folder: Path, name: str, key: str = "", **values: object) -> None:
    settings = json.loads((folder / name).read_text())
    part = settings[key] if key else settings
    part |= values
    (folder / name).write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("family", "values", "match"),
    [
        ("whisper", {"dither": 0.1}, "another vector of every call"),
        ("whisper", {"new_setting": 1}, "new_setting"),
        ("ast", {"sampling_rate": 44_100}, "16,000 Hz"),
        ("wav2vec2", {"feature_extractor_type": "WhisperFeatureExtractor"}, "read by a Wav2Vec2FeatureExtractor"),
        ("ast", {"mel_scale": "htk"}, "mel_scale"),
    ],
)
def test_a_setting_that_is_not_followed_is_refused_by_name(
    family: str, values: dict, match: str, tmp_path: Path
) -> None:
    write(family, tmp_path)
    changed(tmp_path, "preprocessor_config.json", **values)
    with pytest.raises(UnreadSettingError, match=match) as error:
        zoo.load_model(tmp_path, device="cpu")
    assert error.value.keys == tuple(values)
    zoo.load_model(tmp_path, device="cpu", ignore=[*values])


@pytest.mark.parametrize(
    ("family", "values", "match"),
    [
        ("whisper", {"chunk_length": 2}, "reads 100 frames of 16 bands"),
        ("whisper", {"hop_length": 0}, "sizes"),
        ("ast", {"max_length": 64}, "reads 96 frames of 32 bands"),
        ("ast", {"std": 0}, "sizes"),
        ("whisper", {"n_fft": "400"}, "makes? no sense|no sense"),
    ],
)
def test_settings_that_contradict_the_weights_are_refused(
    family: str, values: dict, match: str, tmp_path: Path
) -> None:
    write(family, tmp_path)
    changed(tmp_path, "preprocessor_config.json", **values)
    with pytest.raises(UnrecognisedCheckpointError, match=match):
        zoo.load_model(tmp_path, device="cpu")


def test_a_fused_tower_and_windows_of_one_contradict(tmp_path: Path) -> None:
    write_clap(tmp_path)
    changed(tmp_path, "processor_config.json", "feature_extractor", truncation="fusion")
    with pytest.raises(UnrecognisedCheckpointError, match="enable_fusion = False"):
        zoo.load_model(tmp_path, device="cpu")
    changed(tmp_path, "processor_config.json", "feature_extractor", truncation="middle")
    with pytest.raises(UnrecognisedCheckpointError, match="'middle'"):
        zoo.load_model(tmp_path, device="cpu")


def test_a_folder_without_an_extractor_says_so(tmp_path: Path) -> None:
    write("hubert", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(UnrecognisedCheckpointError, match="nothing says how audio is read"):
        zoo.load_model(tmp_path, device="cpu")


def test_laions_first_files_are_read(tmp_path: Path) -> None:
    """config.json and preprocessor_config.json with the keys of laion/clap-htsat-fused."""
    write_clap(tmp_path)
    plain = zoo.load_model(tmp_path, device="cpu")
    settings = json.loads((tmp_path / "processor_config.json").read_text())["feature_extractor"]
    (tmp_path / "processor_config.json").unlink()
    more = {
        "chunk_length_s": 1,
        "n_fft": 256,
        "nb_max_frames": 100,
        "padding_side": "right",
        "processor_class": "ClapProcessor",
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**settings, **more}))
    old = {"enable_patch_fusion": False, "fusion_num_hidden_layers": 2, "projection_hidden_size": 32}
    changed(tmp_path, "config.json", "audio_config", **old)
    changed(tmp_path, "config.json", "text_config", fusion_hidden_size=32, fusion_num_hidden_layers=2)
    again = zoo.load_model(tmp_path, device="cpu")
    (clip,) = clips(plain, 0.6)
    assert torch.equal(again.encode(clip), plain.encode(clip))


def test_old_names_of_speech_weights_load_exactly_and_layers_are_never_lost(opened: Callable, tmp_path: Path) -> None:
    """`weight_g` and `weight_v` of checkpoints before torch's parametrisations, with and without the prefix of a head's model."""
    folder, model = opened("wav2vec2")
    (clip,) = clips(model, 0.4)
    expected = model.encode(clip)
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for prefix in ("", "wav2vec2."):
        place = tmp_path / (prefix or "bare")
        place.mkdir()
        for path in folder.iterdir():
            (place / path.name).write_bytes(path.read_bytes())
        weights = load_file(folder / "model.safetensors")
        for new, old in names.items():
            weights = {name.replace(new, old): value for name, value in weights.items()}
        weights = {prefix + name: value for name, value in weights.items()} | {"lm_head.weight": torch.zeros(3, 32)}
        save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
        torch.testing.assert_close(zoo.load_model(place, device="cpu").encode(clip), expected, atol=0, rtol=0)
    changed(place, "config.json", num_hidden_layers=1)
    with pytest.raises(MissingWeightsError, match="more layers"):
        zoo.load_model(place, device="cpu")
    changed(place, "config.json", num_hidden_layers=3)
    with pytest.raises(MissingWeightsError, match="lacks"):
        zoo.load_model(place, device="cpu")


def test_audio_and_text_find_each_other_by_their_own_towers(opened: Callable) -> None:
    _, model = opened("clap")
    (clip,) = clips(model, 0.5)
    assert model.spec.modalities == {"audio", "text"}
    mixed = model.encode([clip, "a bell", {"array": clip.samples, "sampling_rate": clip.rate}])
    assert torch.equal(mixed[0], mixed[2])
    assert not torch.allclose(mixed[0], mixed[1], atol=1e-2)
    both = model.encode(zoo.Item(text="a bell", audio=clip))
    torch.testing.assert_close(both, F.normalize(mixed[0] + mixed[1], dim=-1), atol=BOUND, rtol=0)
