"""PE-AV: Meta's Perception Encoder for audio, video, both together and text (Vyas et al., 2025, arxiv:2512.19687).

A text has a vector for each that it may be compared with: `encode(texts, against="video")`, "audio", or "audio+video", the usual one. Audio
or video with a text is one vector that was trained to find the other. Names that end in f16 read 16 frames of a video, the others all of them.
"""

from typing import Any

from zoo.models.backbones import byte_tokenizer
from zoo.models.parts import Cls, Embedder, Identity, PeAv, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

PE_AV: Facts = {
    "modalities": {"text", "audio", "video"},
    "dim": 1024,
    "license": "apache-2.0",
    "paper": "arxiv:2512.19687",
    "languages": ("en",),
    "image_size": 336,
    "max_tokens": 512,
    "targets": ("audio+video", "video", "audio"),
    "demo": "omni",
}
SMALL: Facts = {**PE_AV, "params": 846_990_272}
BASE: Facts = {**PE_AV, "params": 1_033_700_544}
LARGE: Facts = {**PE_AV, "params": 2_234_699_712}


def pe_av_tower(spec: ModelSpec, config: dict[str, Any], frames: int = 0, **others: Any) -> Embedder:
    """One tower for every kind of item, with random weights.

    Args:
        config: of transformers' PeAudioVideoModel. frames: how many of a video are read; 0 for all of them.
    """
    from zoo.encoders.image_transform import PixelTransform

    half, side = (0.5,) * 3, (spec.image_size,) * 2
    pixels = PixelTransform(side, resize="squash", interpolation="bilinear", engine="torch", mean=half, std=half)
    sampled = {"frames": frames, "exact": True} if frames else {}
    encoder = PeAv(config, pixels, max_tokens=spec.max_tokens, **sampled, **others)
    return Embedder(spec, [Tower(encoder, Cls(), Identity())])


def _layers(width: int, inner: int, heads: int, layers: int) -> dict[str, Any]:
    shape = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads, "head_dim": width // heads}
    return {**shape, "num_hidden_layers": layers}


def pe_av(width: int, inner: int, heads: int, audio_layers: int) -> dict[str, Any]:
    """A size of PE-AV: layers over a codec of audio, over PE-Core L/14's vectors of frames, over both, and ModernBERT's first 22."""
    text = {"hidden_size": 1024, "intermediate_size": 2624, "num_hidden_layers": 22, "num_attention_heads": 16}
    codec = {
        "downsampling_ratios": [2, 8, 10, 12],
        "encoder_hidden_size": 64,
        "codebook_dim": 128,
        "sampling_rate": 48_000,
    }
    vision = {"model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336", "num_labels": 1024}
    audio = _layers(width, inner, heads, audio_layers)
    video = _layers(width, inner, heads, 4)
    return {
        "text_config": {"model_type": "modernbert", **text},
        "audio_video_config": {
            **_layers(width, inner, heads, 6),
            "audio_config": {"model_type": "pe_audio_encoder", **audio, "dac_config": {"model_type": "dac", **codec}},
            "video_config": {"model_type": "pe_video_encoder", **video, "vision_config": vision},
        },
    }


def small() -> dict[str, Any]:
    """Width 768."""
    return pe_av(768, 2048, 6, 12)


def base() -> dict[str, Any]:
    """Width 1024."""
    return pe_av(1024, 2752, 8, 16)


def large() -> dict[str, Any]:
    """Width 1792."""
    return pe_av(1792, 4800, 14, 28)


@register_model(hub_id="facebook/pe-av-small", revision="dd050762bb9704ae9cd996ca45532a98f81d817e", **SMALL)
def pe_av_small(spec: ModelSpec) -> Embedder:
    return pe_av_tower(spec, small())


@register_model(hub_id="facebook/pe-av-base", revision="1c4c329b78d80a18d860ebfb05daebff4bc44518", **BASE)
def pe_av_base(spec: ModelSpec) -> Embedder:
    return pe_av_tower(spec, base())


@register_model(hub_id="facebook/pe-av-large", revision="0d24878d4107d64bef49e53602fc34ce6f94f6d8", **LARGE)
def pe_av_large(spec: ModelSpec) -> Embedder:
    return pe_av_tower(spec, large())


@register_model(hub_id="facebook/pe-av-small-16-frame", revision="9f888eea95c83622212bb742e91bf01d3b46fe96", **SMALL)
def pe_av_small_f16(spec: ModelSpec) -> Embedder:
    return pe_av_tower(spec, small(), frames=16)


@register_model(hub_id="facebook/pe-av-base-16-frame", revision="3fd870e60a1099fb99367b240d41926e183d7112", **BASE)
def pe_av_base_f16(spec: ModelSpec) -> Embedder:
    return pe_av_tower(spec, base(), frames=16)


@register_model(hub_id="facebook/pe-av-large-16-frame", revision="446d823f089b1301a0ff37175ab283b6927db757", **LARGE)
def pe_av_large_f16(spec: ModelSpec) -> Embedder:
    return pe_av_tower(spec, large(), frames=16)


def tiny() -> dict[str, Any]:
    """A PE-AV of 150 thousand weights, which reads the bytes of a text."""
    config = pe_av(32, 48, 4, 2)
    both = config["audio_video_config"]
    both["audio_config"]["dac_config"] |= {"encoder_hidden_size": 4, "codebook_dim": 16, "hidden_size": 64}
    args = {"img_size": 32, "depth": 2, "embed_dim": 32, "num_heads": 4}
    vision = {"architecture": "vit_pe_core_tiny_patch16_384", "model_args": args, "num_labels": 24}
    both["video_config"] |= {"num_hidden_layers": 2}
    both["video_config"]["vision_config"] |= vision
    text = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    ends = dict.fromkeys(("pad_token_id", "cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"), 0)
    return {
        "text_config": {"model_type": "modernbert", **text, **ends},
        "audio_video_config": {**both, "num_hidden_layers": 2},
    }


@register_model(**{**PE_AV, "dim": 32, "params": 292_620, "image_size": 32, "max_tokens": 64, "languages": ()})
def pe_av_test(spec: ModelSpec) -> Embedder:
    return pe_av_tower(spec, tiny(), frames=4, tokenizer=byte_tokenizer())
