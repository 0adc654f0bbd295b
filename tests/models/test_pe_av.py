"""PE-AV: folders that transformers writes, held to the parts of its own model, each item alone, as the authors' code puts them together."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn.functional import normalize

import zoo
from tests.reference.base import stir
from tests.reference.vocab import byte_bpe
from zoo.errors import (
    ArgumentError,
    AudioTooLongError,
    MissingWeightsError,
    UnreadSettingError,
    UnsupportedModalityError,
)

RATE, HOP, SIDE, POSITIONS = 48_000, 1920, 32, 60
LAYERS = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": POSITIONS,
}
DAC = {"downsampling_ratios": [2, 8, 10, 12], "encoder_hidden_size": 4, "codebook_dim": 16, "hidden_size": 64}
DAC |= {"model_type": "dac", "sampling_rate": RATE}
VISION = {
    "model_type": "timm_wrapper",
    "architecture": "vit_pe_core_tiny_patch16_384",
    "model_args": {
        "img_size": SIDE,
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 4,
        "global_pool": "map",
    },
    "num_labels": 24,
    "do_pooling": True,
}
TEXTS = ["a dog barks", "A car drives by, slowly and with a lot of noise from its old engine", "rain"]


def config(vocabulary: dict[str, int]) -> transformers.PeAudioVideoConfig:
    text = {"model_type": "modernbert", "vocab_size": len(vocabulary), **LAYERS, "max_position_embeddings": 128}
    del text["head_dim"]
    text |= {f"{kind}_token_id": vocabulary[f"[{kind.upper()}]"] for kind in ("pad", "cls", "sep")}
    text |= {"bos_token_id": text["cls_token_id"], "eos_token_id": text["sep_token_id"]}
    audio = {"model_type": "pe_audio_encoder", **LAYERS, "dac_config": DAC}
    video = {"model_type": "pe_video_encoder", **LAYERS, "vision_config": VISION}
    both = {"model_type": "pe_audio_video_encoder", **LAYERS, "audio_config": audio, "video_config": video}
    return transformers.PeAudioVideoConfig(text_config=text, audio_video_config=both)


def write(folder: Path, **sampling: Any) -> transformers.PeAudioVideoModel:
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    vocabulary, merges = byte_bpe(specials)
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.add_special_tokens([AddedToken(token) for token in specials])
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=128, **names)
    tokenizer.save_pretrained(folder)
    with contextlib.redirect_stdout(io.StringIO()):  # its class prints an error about its own documentation
        model = stir(transformers.PeAudioVideoModel(config(vocabulary))).eval()
    model.save_pretrained(folder)
    transformers.PeAudioFeatureExtractor().save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    how = {"do_resize": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    transformers.PeVideoVideoProcessor(size=size, **how, **sampling).save_pretrained(folder)
    model.text_model.final_norm = nn.Identity()  # the authors pool before it
    return model


class Reference:
    """Every item alone, without filler and without masks."""

    def __init__(self, folder: Path, model: transformers.PeAudioVideoModel) -> None:
        self.model = model
        self.tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        self.hear = transformers.PeAudioFeatureExtractor.from_pretrained(folder)
        self.see = transformers.PeVideoVideoProcessor.from_pretrained(folder)

    def text(self, text: str) -> Tensor:
        ids = self.tokenizer(text, return_tensors="pt")["input_ids"]
        return self.model.text_model(input_ids=ids).last_hidden_state[:, 0]

    def heard(self, samples: np.ndarray) -> Tensor:
        return self.hear(samples, sampling_rate=RATE, return_tensors="pt")["input_values"]

    def seen(self, frames: np.ndarray) -> Tensor:
        video = torch.from_numpy(frames).permute(0, 3, 1, 2)
        return self.see(videos=[video], do_sample_frames=False, return_tensors="pt")["pixel_values_videos"]

    def __call__(
        self, against: str = "", text: str = "", audio: np.ndarray | None = None, video: np.ndarray | None = None
    ) -> Tensor:
        model, parts = self.model, []
        if audio is not None and video is not None:
            out = model.audio_video_encoder(input_values=self.heard(audio), pixel_values_videos=self.seen(video))
            return normalize(model.audio_video_head(out.pooler_output), dim=-1)[0]
        if audio is not None:
            parts.append(model.audio_model.audio_encoder(input_values=self.heard(audio)).pooler_output)
            head = model.audio_plus_text_head if text else model.audio_model.audio_head
        if video is not None:
            parts.append(model.video_model.video_encoder(pixel_values_videos=self.seen(video)).pooler_output)
            head = model.video_plus_text_head if text else model.video_model.video_head
        if text:
            parts.append(self.text(text))
            if len(parts) == 1:
                heads = (
                    model.text_audio_video_head,
                    model.video_model.text_video_head,
                    model.audio_model.text_audio_head,
                )
                head = heads[("audio+video", "video", "audio").index(against)]
        return normalize(head(torch.cat(parts, -1)), dim=-1)[0]


def tone(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE)) / RATE
    return (0.4 * np.sin(2 * np.pi * random.uniform(200, 2000) * times) + 0.1 * random.normal(size=len(times))).astype(
        np.float32
    )


def clip(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (frames, 40, 56, 3), dtype=np.uint8)


def close(a: Tensor, b: Tensor, atol: float = 2e-6) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reference]:
    folder = tmp_path_factory.mktemp("pe_av")
    return folder, Reference(folder, write(folder))


@pytest.fixture(scope="module")
def model(written: tuple[Path, Reference]) -> zoo.Embedder:
    return zoo.load_model(written[0])


def items() -> list[dict[str, Any]]:
    """Of every kind, of several lengths, by what the reference takes."""
    return [
        {"text": TEXTS[0]},
        {"audio": tone(0.5)},
        {"video": clip(5)},
        {"audio": tone(0.33, 1), "video": clip(4, 1)},
        {"audio": tone(0.9, 2), "text": TEXTS[1]},
        {"video": clip(9, 2), "text": TEXTS[2]},
        {"audio": tone(0.21, 3)},
        {"video": clip(1, 3)},
        {"audio": tone(0.7, 4), "video": clip(30, 4)},
        {"text": TEXTS[1]},
    ]


def item(given: dict[str, Any]) -> zoo.Item:
    audio = {"audio": zoo.Waveform(given["audio"], RATE)} if "audio" in given else {}
    return zoo.Item(**{**given, **audio})


def test_every_kind_of_item_is_what_transformers_parts_give(
    written: tuple[Path, Reference], model: zoo.Embedder
) -> None:
    with torch.inference_mode():
        theirs = torch.stack([written[1](against="audio+video", **given) for given in items()])
    close(torch.stack([model.encode(item(given)) for given in items()]), theirs)
    assert (model.spec.dim, model.spec.modalities, model.spec.image_size) == (32, {"text", "audio", "video"}, SIDE)


def test_no_other_item_of_a_batch_changes_a_vector(model: zoo.Embedder) -> None:
    """Audio and video of other lengths, texts of other lengths, and other kinds; transformers' own batches differ by up to 3e-3."""
    given = [item(one) for one in items()]
    alone = torch.stack([model.encode(one) for one in given])
    together = model.encode(given, batch_size=len(given))
    close(together, alone)
    assert torch.equal(together, model.encode(given, batch_size=len(given)))
    close(model.encode(given[::-1], batch_size=3), alone.flip(0))
    assert (alone @ alone.T).triu(1).max() < 0.999


def test_a_text_has_a_vector_for_each_target(written: tuple[Path, Reference], model: zoo.Embedder) -> None:
    for target in ("audio+video", "video", "audio"):
        with torch.inference_mode():
            theirs = torch.stack([written[1](against=target, text=text) for text in TEXTS])
        close(model.encode(TEXTS, against=target), theirs)
        close(model.encode_query(TEXTS, against=target), theirs)
    assert model.against == "audio+video"  # as the authors' own forward pass of a text alone
    other = model.with_against("audio")
    close(other.encode(TEXTS), model.encode(TEXTS, against="audio"), atol=0)
    clip_one = item({"audio": tone(0.5)})
    close(other.encode(clip_one), model.encode(clip_one), atol=0)
    with pytest.raises(ArgumentError, match="'audio\\+video', 'video', 'audio'"):
        model.encode(TEXTS, against="image")
    assert {k for k, v in other.fingerprint().items() if v != model.fingerprint()[k]} == {"against"}


def test_the_norm_that_the_authors_leave_out_is_left_out(written: tuple[Path, Reference], model: zoo.Embedder) -> None:
    """With transformers' own final norm the vector is another one."""
    theirs = transformers.AutoModel.from_config(written[1].model.text_model.config)
    names = {
        name.removeprefix("text_model."): t
        for name, t in load_file(written[0] / "model.safetensors").items()
        if name.startswith("text_model.")
    }
    theirs.load_state_dict(names, strict=False)
    with torch.inference_mode():
        ids = written[1].tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
        normed = written[1].model.text_audio_video_head(theirs.eval()(input_ids=ids).last_hidden_state[:, 0])
    assert (normalize(normed, dim=-1)[0] @ model.encode(TEXTS[0])).item() < 0.9999


def test_checkpoints_of_sixteen_frames_read_sixteen(tmp_path: Path) -> None:
    reference = Reference(tmp_path, write(tmp_path, num_frames=16, do_sample_frames=True))
    model = zoo.load_model(tmp_path)
    for frames in (40, 16, 5):
        video = clip(frames, frames)
        taken = [int(i * (frames - 1) / 15) for i in range(16)]  # `_sample_frames` of the authors' VideoProcessor
        with torch.inference_mode():
            theirs = reference(video=video[taken])
        close(model.encode(zoo.Item(video=video)), theirs)
    assert model.towers[0].encoder.length(model.towers[0].encoder.prepare_item(zoo.Item(video=clip(3)))) == 16


def test_audio_of_other_rates_and_files_is_read(model: zoo.Embedder, tmp_path: Path) -> None:
    import soundfile

    samples = tone(0.5)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    close(model.encode(tmp_path / "a.wav"), model.encode(item({"audio": samples})), atol=1e-6)
    halved = model.encode(zoo.Waveform(tone(0.5)[::2].copy(), RATE // 2))
    assert (halved @ model.encode(item({"audio": samples}))).item() > 0.5
    longest = (POSITIONS - 1) * HOP
    assert model.encode(zoo.Waveform(tone(1.0)[:1].repeat(longest), RATE)).isfinite().all()
    with pytest.raises(AudioTooLongError, match="positions"):
        model.encode(zoo.Waveform(np.zeros(longest + 1, np.float32), RATE))


def test_what_it_has_no_head_for_is_refused(model: zoo.Embedder) -> None:
    with pytest.raises(UnsupportedModalityError, match="audio\\+text\\+video"):
        model.encode(zoo.Item(text="a", audio=zoo.Waveform(tone(0.3), RATE), video=clip(2)))
    with pytest.raises(UnsupportedModalityError, match="image"):
        model.encode(zoo.Item(image=clip(1)[0]))


def test_it_is_saved_and_opened(model: zoo.Embedder, tmp_path: Path) -> None:
    other = model.with_against("video")
    again = zoo.load_model(other.save_pretrained(tmp_path / "saved"))
    assert (again.against, again.spec.targets) == ("video", ("audio+video", "video", "audio"))
    given = [item(one) for one in items()]
    close(again.encode(given), other.encode(given), atol=1e-6)


def changed(folder: Path, other: Path, tensors: dict[str, Tensor] | None = None, **files: Any) -> Path:
    other.mkdir()
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    if tensors is not None:
        save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    for name, settings in files.items():
        path = other / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return other


def test_weights_and_settings_are_followed_or_refused(
    written: tuple[Path, Reference], model: zoo.Embedder, tmp_path: Path
) -> None:
    folder, _ = written
    tensors = load_file(folder / "model.safetensors")
    tied = {f"video_model.{name}": tensor.clone() for name, tensor in tensors.items() if name.startswith("text_model.")}
    close(
        zoo.load_model(changed(folder, tmp_path / "tied", {**tensors, **tied})).encode(TEXTS),
        model.encode(TEXTS),
        atol=0,
    )
    name = next(iter(tied))
    with pytest.raises(MissingWeightsError, match="tied"):
        zoo.load_model(changed(folder, tmp_path / "differs", {**tensors, name: tied[name] + 1}))
    lost = {name: tensor for name, tensor in tensors.items() if name != "audio_video_head.proj.weight"}
    with pytest.raises(MissingWeightsError, match="lacks 1 tensors"):
        zoo.load_model(changed(folder, tmp_path / "lost", lost))
    with pytest.raises(MissingWeightsError, match="more layers"):
        zoo.load_model(
            changed(folder, tmp_path / "spare", {**tensors, "audio_video_encoder.layers.7.x.weight": torch.ones(2)})
        )
    with pytest.raises(UnreadSettingError, match="pooling"):
        zoo.load_model(changed(folder, tmp_path / "setting", config={"pooling": "mean"}))
    with pytest.raises(UnreadSettingError, match="sampling_rate"):
        zoo.load_model(changed(folder, tmp_path / "rate", preprocessor_config={"sampling_rate": 16_000}))


def test_the_registered_sizes_have_the_weights_that_mteb_states() -> None:
    from zoo.formats.checks.safetensors_checks import no_memory
    from zoo.registry import get_spec, shape_of

    spec = get_spec("pe-av-small")
    with no_memory(spec.name):
        numel = sum(weight.numel() for weight in shape_of(spec).parameters())
    unread = 1024 + 12  # the text's final norm, and temperatures with their biases
    assert (numel, numel + unread) == (spec.params, 846_991_308)
