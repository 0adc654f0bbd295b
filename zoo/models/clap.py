"""CLAP dual towers: audio and captions in one space (Wu et al., 2022, arxiv:2211.06687), trained by LAION.

Audio is heard at 48 kHz in windows of ten seconds whose vectors are averaged; the fused model hears a clip as a whole. Texts
have 77 tokens, as in LAION's code.
"""

from typing import Any

from zoo.models.backbones import byte_tokenizer
from zoo.models.parts import ClapAudio, Cls, Embedder, HfText, Identity, Mean, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

CLAP: Facts = {
    "modalities": {"audio", "text"},
    "demo": "omni",
    "license": "mit",
    "paper": "arxiv:2211.06687",
    "languages": ("en",),
    "max_tokens": 77,
    "dim": 512,
}
LARGER: Facts = {**CLAP, "params": 193_913_880}
_LARGER: dict[str, Any] = {"patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2], "hidden_size": 1024}


def clap_towers(
    spec: ModelSpec, audio: dict[str, Any], text: dict[str, Any], tokenizer: Any = None, **features: Any
) -> Embedder:
    """transformers' two towers with random weights.

    Args:
        audio, text: what tells the towers of one size from those of another. features: of the spectrograms.
    """
    fused = audio.get("enable_fusion", False)
    spectrogram = {"frequency_min": 50, "truncation": "fusion" if fused else "rand_trunc", **features}
    ears = ClapAudio({"projection_dim": spec.dim, **audio}, spectrogram)
    words = HfText("clap", {"projection_dim": spec.dim, **text}, spec.max_tokens, pad_id=1, tokenizer=tokenizer)
    return Embedder(spec, [Tower(ears, Mean(), Identity()), Tower(words, Cls(), Identity())])


@register_model(
    params=153_492_888, hub_id="laion/clap-htsat-unfused", revision="8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a", **CLAP
)
def clap_htsat_unfused(spec: ModelSpec) -> Embedder:
    return clap_towers(spec, {}, {})


@register_model(
    params=153_507_528, hub_id="laion/clap-htsat-fused", revision="cca9e288ab447cee67d9ada1f85ddb46500f1401", **CLAP
)
def clap_htsat_fused(spec: ModelSpec) -> Embedder:
    return clap_towers(spec, {"enable_fusion": True}, {})


@register_model(hub_id="laion/larger_clap_general", revision="ada0c23a36c4e8582805bb38fec3905903f18b41", **LARGER)
def clap_larger_general(spec: ModelSpec) -> Embedder:
    return clap_towers(spec, _LARGER, {})


@register_model(hub_id="laion/larger_clap_music", revision="a0b4534a14f58e20944452dff00a22a06ce629d1", **LARGER)
def clap_larger_music(spec: ModelSpec) -> Embedder:
    return clap_towers(spec, _LARGER, {})


@register_model(
    hub_id="laion/larger_clap_music_and_speech", revision="195c3a3e68faebb3e2088b9a79e79b43ddbda76b", **LARGER
)
def clap_larger_music_and_speech(spec: ModelSpec) -> Embedder:
    return clap_towers(spec, _LARGER, {})


@register_model(**{**CLAP, "dim": 24, "params": 49_220, "max_tokens": 32, "languages": ()})
def clap_test(spec: ModelSpec) -> Embedder:
    small = {"hidden_size": 32, "num_hidden_layers": 2}
    audio = {
        **small,
        "spec_size": 64,
        "num_mel_bins": 16,
        "window_size": 4,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
    }
    audio |= {"patch_embeds_hidden_size": 16}
    text = {
        **small,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 320,
        "max_position_embeddings": 40,
    }
    return clap_towers(
        spec, audio, text, byte_tokenizer(), feature_size=16, sampling_rate=8000, max_length_s=1, frequency_max=4000
    )
