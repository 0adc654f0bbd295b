"""Speech encoders over the waveform, trained without labels: wav2vec 2.0 (2020), HuBERT (2021), WavLM (2021), data2vec (2022).

A vector is the mean of the last states, thirty seconds at a time. Checkpoints that were fine-tuned to write speech down lose that
head.
"""

from typing import Any

from zoo.models.ast import AUDIO
from zoo.models.parts import Embedder, Identity, Mean, SpeechAudio, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

WAV2VEC2: Facts = {**AUDIO, "license": "apache-2.0", "paper": "arxiv:2006.11477"}
XLS_R: Facts = {**WAV2VEC2, "paper": "arxiv:2111.09296"}
HUBERT: Facts = {**AUDIO, "license": "apache-2.0", "paper": "arxiv:2106.07447"}
WAVLM: Facts = {
    **AUDIO,
    "license": "cc-by-sa-3.0",  # of microsoft/UniSpeech, which its card points to
    "paper": "arxiv:2110.13900",
}
DATA2VEC: Facts = {**AUDIO, "license": "apache-2.0", "paper": "arxiv:2202.03555"}
_LARGE: dict[str, Any] = {"num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_NORMED: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


def speech_tower(spec: ModelSpec, kind: str, **shape: Any) -> Embedder:
    """transformers' encoder with random weights; `shape` is what tells one size from another."""
    return Embedder(spec, [Tower(SpeechAudio(kind, {"hidden_size": spec.dim, **shape}), Mean(), Identity())])


@register_model(
    dim=768,
    params=94_370_944,
    hub_id="facebook/wav2vec2-base",
    revision="0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
    **WAV2VEC2,
)
def wav2vec2_base(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "wav2vec2")


@register_model(
    dim=768,
    params=94_370_944,
    hub_id="facebook/wav2vec2-base-960h",
    revision="22aad52d435eb6dbaf354bdad9b0da84ce7d6156",
    **WAV2VEC2,
)
def wav2vec2_base_960h(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "wav2vec2")


@register_model(
    dim=1024,
    params=315_427_968,
    hub_id="facebook/wav2vec2-large",
    revision="312b2410566b698c7a649068d413b2067848bd75",
    **WAV2VEC2,
)
def wav2vec2_large(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "wav2vec2", **_LARGE)


@register_model(
    dim=1024,
    params=315_437_696,
    hub_id="facebook/wav2vec2-large-xlsr-53",
    revision="c3f9d884181a224a6ac87bf8885c84d1cff3384f",
    **{**WAV2VEC2, "paper": "arxiv:2006.13979"},
)
def wav2vec2_large_xlsr_53(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "wav2vec2", **_LARGE, **_NORMED, conv_bias=True)


@register_model(
    dim=1024,
    params=315_437_696,
    hub_id="facebook/wav2vec2-xls-r-300m",
    revision="1a640f32ac3e39899438a2931f9924c02f080a54",
    **XLS_R,
)
def wav2vec2_xls_r_300m(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "wav2vec2", **_LARGE, **_NORMED, conv_bias=True)


@register_model(
    dim=1280,
    params=962_496_128,
    hub_id="facebook/wav2vec2-xls-r-1b",
    revision="35eaea9a0ed0f97592277d79208e40ab8917d1e3",
    **XLS_R,
)
def wav2vec2_xls_r_1b(spec: ModelSpec) -> Embedder:
    return speech_tower(
        spec, "wav2vec2", **{**_LARGE, "num_hidden_layers": 48, "intermediate_size": 5120}, **_NORMED, conv_bias=True
    )


@register_model(
    dim=1920,
    params=2_159_257_728,
    hub_id="facebook/wav2vec2-xls-r-2b",
    revision="3b6d89d0fabead7da552eaaa07549c7c9c36d303",
    **XLS_R,
)
def wav2vec2_xls_r_2b(spec: ModelSpec) -> Embedder:
    return speech_tower(
        spec, "wav2vec2", **{**_LARGE, "num_hidden_layers": 48, "intermediate_size": 7680}, **_NORMED, conv_bias=True
    )


@register_model(
    dim=768,
    params=94_370_944,
    hub_id="facebook/hubert-base-ls960",
    revision="dba3bb02fda4248b6e082697eee756de8fe8aa8a",
    **HUBERT,
)
def hubert_base_ls960(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "hubert")


@register_model(
    dim=1024,
    params=315_437_696,
    hub_id="facebook/hubert-large-ls960-ft",
    revision="ece5fabbf034c1073acae96d5401b25be96709d8",
    **HUBERT,
)
def hubert_large_ls960_ft(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "hubert", **_LARGE, **_NORMED, conv_bias=True)


@register_model(
    dim=768,
    params=94_381_168,
    hub_id="microsoft/wavlm-base",
    revision="efa81aae7ff777e464159e0f877d54eac5b84f81",
    **WAVLM,
)
def wavlm_base(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "wavlm")


@register_model(
    dim=768,
    params=94_381_168,
    hub_id="microsoft/wavlm-base-plus",
    revision="4c66d4806a428f2e922ccfa1a962776e232d487b",
    **WAVLM,
)
def wavlm_base_plus(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "wavlm")


@register_model(
    dim=1024,
    params=315_452_096,
    hub_id="microsoft/wavlm-large",
    revision="c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c",
    **WAVLM,
)
def wavlm_large(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "wavlm", **_LARGE, **_NORMED)


@register_model(
    dim=768,
    params=93_163_520,
    hub_id="facebook/data2vec-audio-base-960h",
    revision="32331f3123e703528918aa688a9a38232d58c872",
    **DATA2VEC,
)
def data2vec_audio_base_960h(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "data2vec-audio")


@register_model(
    dim=1024,
    params=313_275_392,
    hub_id="facebook/data2vec-audio-large-960h",
    revision="27aba26eed532b86dcd0f17284a0307de4b51f39",
    **DATA2VEC,
)
def data2vec_audio_large_960h(spec: ModelSpec) -> Embedder:
    return speech_tower(spec, "data2vec-audio", **_LARGE)


@register_model(dim=32, params=24_072, **WAV2VEC2)
def speech_test(spec: ModelSpec) -> Embedder:
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "conv_dim": [16] * 7}
    return speech_tower(spec, "wav2vec2", **small, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)
