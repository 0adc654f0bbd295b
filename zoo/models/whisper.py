"""Whisper's encoders: speech in a hundred languages, without the decoder that writes it down (Radford et al., 2022, arxiv:2212.04356).

A vector is the mean of the encoder's last states over what is audio, thirty seconds at a time.
"""

from typing import Any

from zoo.models.ast import AUDIO
from zoo.models.parts import Embedder, Identity, Mean, Tower, WhisperAudio
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

WHISPER: Facts = {**AUDIO, "license": "mit", "paper": "arxiv:2212.04356"}
LARGE: Facts = {**WHISPER, "dim": 1280, "params": 636_968_960}


def whisper_tower(
    spec: ModelSpec, layers: int, heads: int, mels: int = 80, features: dict[str, Any] | None = None, **config: Any
) -> Embedder:
    """transformers' encoder with random weights."""
    shape = {
        "d_model": spec.dim,
        "encoder_layers": layers,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * spec.dim,
    }
    encoder = WhisperAudio({**shape, "num_mel_bins": mels, **config}, {"feature_size": mels, **(features or {})})
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])


@register_model(
    dim=384,
    params=8_208_384,
    hub_id="openai/whisper-tiny",
    revision="169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
    **WHISPER,
)
def whisper_tiny(spec: ModelSpec) -> Embedder:
    return whisper_tower(spec, 4, 6)


@register_model(
    dim=512,
    params=20_590_592,
    hub_id="openai/whisper-base",
    revision="e37978b90ca9030d5170a5c07aadb050351a65bb",
    **WHISPER,
)
def whisper_base(spec: ModelSpec) -> Embedder:
    return whisper_tower(spec, 6, 8)


@register_model(
    dim=768,
    params=88_154_112,
    hub_id="openai/whisper-small",
    revision="973afd24965f72e36ca33b3055d56a652f456b4d",
    **WHISPER,
)
def whisper_small(spec: ModelSpec) -> Embedder:
    return whisper_tower(spec, 12, 12)


@register_model(
    dim=1024,
    params=307_216_384,
    hub_id="openai/whisper-medium",
    revision="abdf7c39ab9d0397620ccaea8974cc764cd0953e",
    **WHISPER,
)
def whisper_medium(spec: ModelSpec) -> Embedder:
    return whisper_tower(spec, 24, 16)


@register_model(hub_id="openai/whisper-large-v3", revision="06f233fe06e710322aca913c1bc4249a0d71fce1", **LARGE)
def whisper_large_v3(spec: ModelSpec) -> Embedder:
    return whisper_tower(spec, 32, 20, 128)


@register_model(hub_id="openai/whisper-large-v3-turbo", revision="41f01f3fe87f28c78e2fbf8b568835947dd65ed9", **LARGE)
def whisper_large_v3_turbo(spec: ModelSpec) -> Embedder:
    return whisper_tower(spec, 32, 20, 128)


@register_model(dim=32, params=31_680, **WHISPER)
def whisper_test(spec: ModelSpec) -> Embedder:
    small = {"chunk_length": 1, "sampling_rate": 16_000}
    return whisper_tower(spec, 2, 2, 16, small, max_source_positions=50)
