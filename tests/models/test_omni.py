"""Embedders on Qwen2.5-Omni's thinker: equal to the library's own class, called as mteb and the authors call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import zoo
from zoo import errors
from zoo.models.backbones import TINY_PIXELS, omni_processor, tiny_omni_thinker

CLOSE = 1e-5
RATE = 16_000
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
ASSISTANT = "<|im_end|>\n<|im_start|>assistant\n"
IMAGE_MARK, VIDEO_MARK = "<|vision_bos|><|IMAGE|><|vision_eos|>", "<|vision_bos|><|VIDEO|><|vision_eos|>"
AUDIO_MARK = "<|audio_bos|><|AUDIO|><|audio_eos|>"


def wave(samples: int, pitch: float = 9.0) -> zoo.Waveform:
    return zoo.Waveform(np.sin(np.arange(samples) / pitch).astype(np.float32), RATE)


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


IMAGE, VIDEO, AUDIO = pixels(60, 90, 3), pixels(5, 40, 60, 3, seed=1), wave(17_003)
ITEMS = {
    "text": zoo.Item(text="hello"),
    "image": zoo.Item(image=IMAGE),
    "video": zoo.Item(video=VIDEO),
    "audio": zoo.Item(audio=AUDIO),
    "text and audio": zoo.Item(text="a bell", audio=AUDIO),
    "all": zoo.Item(text="a cat", image=IMAGE, video=VIDEO, audio=AUDIO),
    "parts": zoo.Item(parts=[zoo.Item(audio=AUDIO), "and", zoo.Item(image=IMAGE), zoo.Item(audio=wave(9_000))]),
}
WORDS = {
    "text": "text",
    "image": "image",
    "video": "video",
    "audio": "audio",
    "text and audio": "audio",
    "all": "image",
}
LCO = {
    "text": "hello",
    "image": IMAGE_MARK,
    "video": VIDEO_MARK,
    "audio": AUDIO_MARK,
    "text and audio": f"{AUDIO_MARK}a bell",
    "all": f"{VIDEO_MARK}{AUDIO_MARK}{IMAGE_MARK}a cat",
    "parts": f"{AUDIO_MARK}and{IMAGE_MARK}{AUDIO_MARK}",
}
NEMOTRON = {
    **LCO,
    "text and audio": f"a bell{AUDIO_MARK}",
    "all": f"a cat{VIDEO_MARK}{AUDIO_MARK}{IMAGE_MARK}",
}
# model → item → the sequence, as the chat template of Qwen2.5-Omni makes it.
SEQUENCES = {
    "omni-test": {
        kind: f"{SYSTEM}{words}\nSummarize the above {WORDS.get(kind, 'image')} in one word:{ASSISTANT}"
        for kind, words in LCO.items()
    },
    "omni-mean-test": {kind: f"{SYSTEM}{words}<|im_end|>\n" for kind, words in NEMOTRON.items()},
    "omni-end-test": {kind: f"{SYSTEM}{words}{ASSISTANT}<|endoftext|>" for kind, words in LCO.items()},
}


def their_processor() -> Any:
    processor = omni_processor()
    size = {"shortest_edge": TINY_PIXELS[0], "longest_edge": TINY_PIXELS[1]}
    processor.image_processor.size = processor.video_processor.size = size
    processor.tokenizer.padding_side = "left"
    return processor


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, Any]:
    """A checkpoint with a head, as LCO-Embedding's, and the library's base model of it."""
    from transformers import AutoConfig, Qwen2_5OmniThinkerForConditionalGeneration

    folder = tmp_path_factory.mktemp("thinker")
    torch.manual_seed(0)
    model = Qwen2_5OmniThinkerForConditionalGeneration(AutoConfig.for_model(**tiny_omni_thinker())).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.15)
    model.save_pretrained(folder)
    their_processor().save_pretrained(folder)
    return folder, model.model


@pytest.fixture(scope="module")
def models(published) -> dict[str, zoo.Embedder]:
    return {name: zoo.load_model(published[0], like=name, device="cpu") for name in SEQUENCES}


def theirs(model: Any, name: str, rendered: list[str], **media: Any) -> torch.Tensor:
    """Vectors of the library: one call of its processor and its model, padded on the left, pooled as the model's authors do."""
    size = {"shortest_edge": TINY_PIXELS[0], "longest_edge": TINY_PIXELS[1]}
    inputs = their_processor()(
        text=rendered,
        padding=True,
        return_tensors="pt",
        videos_kwargs={"do_sample_frames": False, "size": size},
        **({"audio_kwargs": {"max_length": 5 * RATE}} if "audio" in media else {}),
        **media,
    )
    model.config.text_config.is_causal = name != "omni-mean-test"
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    pooled = (states * mask).sum(1) / mask.sum(1) if name == "omni-mean-test" else states[:, -1]
    return F.normalize(pooled, dim=-1)


def given(kind: str) -> dict[str, Any]:
    image, video = torch.from_numpy(IMAGE).permute(2, 0, 1), torch.from_numpy(VIDEO).permute(0, 3, 1, 2)
    media = {"images": [image], "videos": [video], "audio": [AUDIO.samples]}
    names = {"image": ("images",), "video": ("videos",), "audio": ("audio",), "text and audio": ("audio",), "text": ()}
    if kind == "parts":
        return {"images": [image], "audio": [AUDIO.samples, wave(9_000).samples]}
    return {name: media[name] for name in names.get(kind, tuple(media))}


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_kind_of_item_is_as_in_the_library(published, models, name):
    vectors = dict(zip(ITEMS, models[name].encode(list(ITEMS.values())), strict=True))
    for kind, rendered in SEQUENCES[name].items():
        (reference,) = theirs(published[1], name, [rendered], **given(kind))
        assert (vectors[kind] - reference).abs().max() < CLOSE, kind


@pytest.mark.parametrize("name", SEQUENCES)
def test_neither_padding_nor_the_rest_of_a_batch_changes_a_vector(models, name):
    model = models[name]
    encoder = model.towers[0].encoder
    reads = [encoder.prepare_item(item) for item in ITEMS.values()]
    alone = torch.cat([model.encode([item]) for item in ITEMS.values()])
    with torch.no_grad():
        for side in ("right", "left"):
            together = model.towers[0](encoder.collate(reads, side))
            assert (together - alone).abs().max() < CLOSE, side
    assert torch.equal(model.encode([ITEMS["all"]]), model.encode([ITEMS["all"]]))


def test_nemotron_reads_both_ways_and_the_others_do_not(models):
    """The switch lies in the text layers' configuration; on the thinker's own it would change nothing."""
    moved = {}
    for name, model in models.items():
        encoder, states = model.towers[0].encoder, []
        for end in "bc":
            with torch.no_grad():
                states.append(encoder(encoder.prepare([zoo.Item(text="a" * 20 + end)])).states[0, 0])
        moved[name] = float((states[0] - states[1]).abs().max())
    assert moved["omni-mean-test"] > 1e-3
    assert moved["omni-test"] == moved["omni-end-test"] == 0


def test_prompts_stand_where_their_authors_put_them(models):
    rendered = {}
    for name, model in models.items():
        encoder = model.towers[0].encoder
        item = zoo.Item(text="a cat", audio=AUDIO)
        ids = encoder.prepare_item(encoder.prompted(item, "query: ")).ids
        rendered[name] = encoder.tokenizer.decode(ids).replace("<|AUDIO|>", "")
    assert rendered["omni-test"].startswith("<|im_start|>system\nquery: <|im_end|>")
    assert "user\nquery: a cat<|audio_bos|><|audio_eos|><|im_end|>\n" in rendered["omni-mean-test"]
    assert "user\n<|audio_bos|><|audio_eos|>query: a cat<|im_end|>\n" in rendered["omni-end-test"]


def test_audio_of_any_length_gives_the_processors_frames(models):
    """Silence up to 300 s, as the processor has it, changes nothing that is kept; here audio is filled by a window alone."""
    reader = models["omni-test"].towers[0].encoder.readers["audio"]
    for samples in (481, 4_321, 16_001):
        audio = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
        medium = reader.read(zoo.Waveform(audio, RATE))
        whole = their_processor().feature_extractor(
            audio, sampling_rate=RATE, padding="max_length", return_attention_mask=True, return_tensors="pt"
        )
        real = whole["attention_mask"][0].bool()
        # To the last place: a product over fewer frames may be added up in another order (MKL, by the processor).
        expected = whole["input_features"][..., real]
        torch.testing.assert_close(medium.inputs["input_features"], expected, atol=3e-7, rtol=0)
        assert medium.tokens == ((int(real.sum()) - 1) // 2 + 1 - 2) // 2 + 1
    with pytest.raises(errors.InvalidAudioError, match="fewer than one token"):
        reader.read(wave(320))


@pytest.mark.parametrize("prefix", ["", "thinker."])
def test_names_of_tensors_of_before_transformers_5(published, models, tmp_path, prefix):
    """Thinkers of 2025: text layers under `model`, the rest beside it; with the whole of Qwen2.5-Omni before each."""
    folder, _ = published
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        part = name.removeprefix("model.").removeprefix("language_model.")
        beside = part.startswith(("audio_tower.", "visual.", "lm_head."))
        tensors[f"{prefix}{'' if beside else 'model.'}{part}"] = tensor
    assert {f"{prefix}lm_head.weight", f"{prefix}model.norm.weight", f"{prefix}visual.merger.ln_q.weight"} <= set(
        tensors
    )
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    again = zoo.load_model(tmp_path, like="omni-test", device="cpu")
    assert torch.equal(again.encode(["hello"]), models["omni-test"].encode(["hello"]))


def test_omni_embed_nemotrons_own_type_is_the_thinkers(published, models, tmp_path):
    folder, _ = published
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "nvomniembed", "architectures": ["NVOmniEmbedModel"]}
    config["auto_map"] = {"AutoModel": "modeling_omni_embed_nemotron.NVOmniEmbedModel"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = zoo.load_model(tmp_path, like="omni-mean-test", device="cpu")
    assert torch.equal(again.encode([ITEMS["all"]]), models["omni-mean-test"].encode([ITEMS["all"]]))


def test_what_was_saved_opens_again(models, tmp_path):
    model = models["omni-mean-test"]
    model.save_pretrained(tmp_path / "saved")
    again = zoo.load_model(tmp_path / "saved", device="cpu")
    items = list(ITEMS.values())
    assert torch.equal(again.encode(items), model.encode(items))
    assert again.fingerprint() == model.fingerprint()


def test_an_adapter_on_a_base(published, models, tmp_path):
    """OmniEmbed: LoRA of the text layers, under the names that peft knew them by in transformers 4."""
    torch.manual_seed(1)
    layers = [f"base_model.model.model.layers.{i}.self_attn.{part}_proj" for i in (0, 1) for part in "qv"]
    tensors, wide = {}, {"q": 32, "v": 16}
    for layer in layers:
        out = wide[layer[-6]]
        tensors[f"{layer}.lora_A.weight"] = torch.randn(4, 32) * 0.3
        tensors[f"{layer}.lora_B.weight"] = torch.randn(out, 4) * 0.3
    save_file(tensors, tmp_path / "adapter_model.safetensors", {"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(published[0]),
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "FEATURE_EXTRACTION",
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    model = zoo.load_model(tmp_path, like="omni-end-test", device="cpu")
    plain, merged = models["omni-end-test"].towers[0].encoder.backbone, model.towers[0].encoder.backbone
    for layer in layers:
        place = layer.removeprefix("base_model.model.model.")
        change = 2 * tensors[f"{layer}.lora_B.weight"] @ tensors[f"{layer}.lora_A.weight"]
        weights = [one.get_submodule(f"language_model.{place}").weight for one in (plain, merged)]
        assert torch.allclose(weights[1], weights[0] + change, atol=1e-6), place


def test_the_base_of_omniembed_is_pinned(monkeypatch, tmp_path):
    """Its adapter names no revision of its base; the registered one is asked for, and for other adapters the newest."""
    from zoo.formats import fetching, vlm

    asked = []

    class Asked(Exception):
        pass

    def snapshot(repo: str, revision: str | None, wanted: Any) -> Path:
        asked.append((repo, revision))
        raise Asked

    monkeypatch.setattr(fetching, "snapshot", snapshot)
    spec = zoo.get_spec("omniembed-v0.1")
    for base, revision in ((spec.base, None), (spec.base, "main"), ("someone/else", None)):
        settings = {"base_model_name_or_path": base} | ({"revision": revision} if revision else {})
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        with pytest.raises(Asked):
            vlm._base(tmp_path, spec, False, False)
    assert asked == [
        ("Tevatron/Qwen2.5-Omni-7B-Thinker", "8876e9bc7e6af2ecbdfb14e0416e2c1105f0f7bb"),
        ("Tevatron/Qwen2.5-Omni-7B-Thinker", "main"),
        ("someone/else", None),
    ]
    assert zoo.ModelSpec.from_json(spec.to_json()) == spec
    assert "base_revision" not in zoo.get_spec("e5-omni-7b").to_dict()


COLQWEN = {
    "text": f"Query: hello{10 * '<|endoftext|>'}",
    "image": f"{IMAGE_MARK}Describe the content.",
    "video": f"{VIDEO_MARK}Describe the content.",
    "audio": f"{AUDIO_MARK}Describe the content.",
}


def test_colqwen_omni_gives_every_token_of_any_medium(published, tmp_path):
    """The backbone of its base, a projection beside it, and a processor that transformers has no class for."""
    folder, backbone = published
    torch.manual_seed(2)
    layer = torch.nn.Linear(32, 16)
    tensors = load_file(folder / "model.safetensors")
    tensors |= {f"custom_text_proj.{name}": value.detach() for name, value in layer.named_parameters()}
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    settings = json.loads((folder / "processor_config.json").read_text()) | {
        "processor_class": "ColQwen2_5OmniProcessor"
    }
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    words = json.loads((folder / "tokenizer_config.json").read_text()) | {"processor_class": "ColQwen2_5OmniProcessor"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(words))
    model = zoo.load_model(tmp_path, like="colqwen-omni-test", device="cpu")
    system = SYSTEM.replace(
        "a helpful assistant.",
        "Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory and visual inputs, as "
        "well as generating text and speech.",
    )
    backbone.config.text_config.is_causal = True
    for kind, rendered in COLQWEN.items():
        (vectors,) = model.encode([ITEMS[kind]])
        size = {"shortest_edge": TINY_PIXELS[0], "longest_edge": TINY_PIXELS[1]}
        inputs = their_processor()(
            text=[system + rendered + ASSISTANT],
            return_tensors="pt",
            videos_kwargs={"do_sample_frames": False, "size": size},
            **given(kind),
        )
        with torch.no_grad():
            reference = F.normalize(layer(backbone(**inputs).last_hidden_state[0]), dim=-1)
        assert vectors.shape == reference.shape, kind
        assert (vectors - reference).abs().max() < CLOSE, kind
    with pytest.raises(errors.UnsupportedModalityError):
        model.encode([ITEMS["text and audio"]])


def test_registered_facts():
    for name, dim, pooling, seconds in (
        ("lco-embedding-omni-3b", 2048, "last", 300),
        ("lco-embedding-omni-7b", 3584, "last", 300),
        ("omni-embed-nemotron-3b", 2048, "mean", 128),
        ("e5-omni-3b", 2048, "last", 300),
        ("omniembed-v0.1", 3584, "last", 300),
    ):
        spec = zoo.get_spec(name)
        assert (spec.dim, spec.pooling, spec.media["audio"].seconds) == (dim, pooling, seconds)
        assert spec.modalities == {"text", "image", "video", "audio"}
    assert zoo.get_spec("omni-embed-nemotron-3b").non_commercial
    assert zoo.get_spec("omni-embed-nemotron-3b").format.attention == "bidirectional"
