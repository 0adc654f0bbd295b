"""VideoPrism: frames by themselves, then each place over time (Zhao et al., 2024, arxiv:2402.13217); LVT reads texts too.

A video is 16 frames (base) or 8 (large), squashed to 288 px and not normalised; its vector the mean of all states, and of LVT what
its pooling head sees. Texts of LVT are small letters without punctuation that end in a full stop (see `hf_video.canonical`).
"""

from typing import Any

from zoo.models.backbones import byte_tokenizer
from zoo.models.image import IMAGE
from zoo.models.parts import CanonicalText, Cls, Embedder, HfVideo, Identity, Mean, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

VIDEOPRISM: Facts = {
    **IMAGE,
    "demo": "omni",
    "modalities": {"video"},
    "license": "apache-2.0",
    "paper": "arxiv:2402.13217",
    "image_size": 288,
}
LVT: Facts = {**VIDEOPRISM, "modalities": {"video", "text"}, "languages": ("en",), "max_tokens": 64}
BASE: dict[str, Any] = {"num_attention_heads": 12, "intermediate_size": 3072}
LARGE: dict[str, Any] = {"num_attention_heads": 16, "intermediate_size": 4096}


def video_tower(spec: ModelSpec, family: str, vision: dict[str, Any]) -> Tower:
    """transformers' video tower with random weights.

    Args:
        family: "videoprism" or "videoprism_vision_model". vision: what tells one size from another.
    """
    from zoo.encoders.image_transform import PixelTransform

    size = (spec.image_size, spec.image_size)
    plain = PixelTransform(size, resize="squash", engine="torch", mean=(0.0,) * 3, std=(1.0,) * 3)
    vision = {"hidden_size": spec.dim, "image_size": spec.image_size, **vision}
    encoder = HfVideo(family, vision, plain)
    return Tower(encoder, Cls() if family == "videoprism" else Mean(), Identity())


def videoprism(spec: ModelSpec, vision: dict[str, Any]) -> Embedder:
    """The encoder of videos alone."""
    return Embedder(spec, [video_tower(spec, "videoprism_vision_model", vision)])


def lvt_towers(spec: ModelSpec, vision: dict[str, Any], text: dict[str, Any], tokenizer: Any = None) -> Embedder:
    """The tower of videos with its pooling head, and the tower of texts."""
    text = {"hidden_size": spec.dim, "max_position_embeddings": spec.max_tokens, **text}
    texts = CanonicalText("videoprism", text, spec.max_tokens, pad_id=0, tokenizer=tokenizer)
    return Embedder(spec, [video_tower(spec, "videoprism", vision), Tower(texts, Cls(), Identity())])


# transformers' form of the weights lies in commits of the Hub's pull requests, not yet on its main branches.
@register_model(
    dim=768,
    params=114_365_184,
    hub_id="google/videoprism-base-f16r288",
    revision="2be2ef51d0d611d0fadf21a6d1470a4ad4af9249",
    **VIDEOPRISM,
)
def videoprism_vit_b(spec: ModelSpec) -> Embedder:
    return videoprism(spec, BASE)


@register_model(
    dim=1024,
    params=353_965_056,
    hub_id="google/videoprism-large-f8r288",
    revision="2e20e540e1cb89e734e2f2477590b7f8197250ca",
    **VIDEOPRISM,
)
def videoprism_vit_l(spec: ModelSpec) -> Embedder:
    return videoprism(spec, {**LARGE, "num_frames": 8, "num_spatial_layers": 24})


@register_model(
    dim=768,
    params=247_623_424,
    hub_id="google/videoprism-lvt-base-f16r288",
    revision="fb6de9f0eb7bc285be86bdca1cf7daa3e3ef51ff",
    **LVT,
)
def videoprism_lvt_vit_b(spec: ModelSpec) -> Embedder:
    return lvt_towers(spec, BASE, BASE)


@register_model(
    dim=1024,
    params=579_877_120,
    hub_id="google/videoprism-lvt-large-f8r288",
    revision="03900b4ecc0b278b30abdc5953c575bb5f083865",
    **LVT,
)
def videoprism_lvt_vit_l(spec: ModelSpec) -> Embedder:
    return lvt_towers(spec, {**LARGE, "num_frames": 8, "num_spatial_layers": 24}, LARGE)


SMALL: dict[str, Any] = {
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_spatial_layers": 2,
    "num_temporal_layers": 1,
    "num_auxiliary_layers": 1,
    "num_frames": 4,
    "tubelet_size": [1, 12, 12],
}


@register_model(**{**LVT, "dim": 32, "params": 76_200, "image_size": 36, "max_tokens": 32, "languages": ()})
def videoprism_test(spec: ModelSpec) -> Embedder:
    text = {"intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 320}
    return lvt_towers(spec, SMALL, text, byte_tokenizer())
