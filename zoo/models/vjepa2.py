"""V-JEPA 2: video encoders trained to predict the states of what is masked (Assran et al., 2025, arxiv:2506.09985).

A video is 64 frames, its vector the mean of all states; the predictor is left out. Checkpoints of classifiers, which read 16 to 64
frames, have the attentive pooler that they were trained with, whose vector is taken.
"""

from typing import Any

from zoo.models.image import IMAGE
from zoo.models.parts import Cls, Embedder, HfVideo, Identity, Mean, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

VJEPA2: Facts = {
    **IMAGE,
    "demo": "omni",
    "modalities": {"video"},
    "license": "mit",
    "paper": "arxiv:2506.09985",
    "image_size": 256,
}
LARGE: dict[str, Any] = {"num_attention_heads": 16, "num_hidden_layers": 24}
HUGE: dict[str, Any] = {"num_attention_heads": 16, "num_hidden_layers": 32}
GIANT: dict[str, Any] = {"num_attention_heads": 22, "num_hidden_layers": 40, "mlp_ratio": 48 / 11}


def vjepa2_tower(spec: ModelSpec, shape: dict[str, Any], frames: int = 64, attentive: bool = False) -> Embedder:
    """transformers' encoder with random weights.

    Args:
        shape: what tells one size from another. attentive: with the pooler of a classifier, in place of the mean.
    """
    from zoo.encoders.image_transform import IMAGENET_MEAN, IMAGENET_STD, PixelTransform

    side, scaled = spec.image_size, spec.image_size * 256 // 224
    crop = PixelTransform(
        (side, side),
        resize_size=(scaled, scaled),
        interpolation="bilinear",
        engine="torch",
        crop_rounding="floor",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    config = {"hidden_size": spec.dim, "crop_size": side, "frames_per_clip": frames, **shape}
    encoder = HfVideo("vjepa2_attentive" if attentive else "vjepa2", config, crop)
    return Embedder(spec, [Tower(encoder, Cls() if attentive else Mean(), Identity())])


@register_model(
    dim=1024,
    params=303_885_312,
    hub_id="facebook/vjepa2-vitl-fpc64-256",
    revision="b3c1679b7c34d3255ef3547f27c7b226aefab26f",
    **VJEPA2,
)
def vjepa2_vit_l(spec: ModelSpec) -> Embedder:
    return vjepa2_tower(spec, LARGE)


@register_model(
    dim=1280,
    params=631_648_000,
    hub_id="facebook/vjepa2-vith-fpc64-256",
    revision="b5eac8703e3efdc1547fbb6ddfbeb133dc0bdee5",
    **VJEPA2,
)
def vjepa2_vit_h(spec: ModelSpec) -> Embedder:
    return vjepa2_tower(spec, HUGE)


@register_model(
    dim=1408,
    params=1_012_173_952,
    hub_id="facebook/vjepa2-vitg-fpc64-256",
    revision="875c192b7b704b87d1e1d99345769632dd5f739a",
    **{**VJEPA2, "license": "apache-2.0"},
)
def vjepa2_vit_g(spec: ModelSpec) -> Embedder:
    return vjepa2_tower(spec, GIANT)


@register_model(
    dim=1408,
    params=1_012_173_952,
    hub_id="facebook/vjepa2-vitg-fpc64-384",
    revision="12ca91694b230e0d4b5b0078af6f4ae1d51e933d",
    **{**VJEPA2, "license": "apache-2.0", "image_size": 384},
)
def vjepa2_vit_g_384(spec: ModelSpec) -> Embedder:
    return vjepa2_tower(spec, GIANT)


@register_model(
    dim=1024,
    params=353_221_632,
    hub_id="facebook/vjepa2-vitl-fpc16-256-ssv2",
    revision="4aa02df83918538fc21cfaf576382fa20e489a80",
    **VJEPA2,
)
def vjepa2_vit_l_ssv2(spec: ModelSpec) -> Embedder:
    return vjepa2_tower(spec, LARGE, frames=16, attentive=True)


@register_model(
    dim=1408,
    params=1_105_422_976,
    hub_id="facebook/vjepa2-vitg-fpc64-384-ssv2",
    revision="9f5fd615cb6f79065a28edcf1cc3ef25010dddfa",
    **{**VJEPA2, "image_size": 384},
)
def vjepa2_vit_g_384_ssv2(spec: ModelSpec) -> Embedder:
    return vjepa2_tower(spec, GIANT, attentive=True)


@register_model(
    dim=1024,
    params=353_221_632,
    hub_id="facebook/vjepa2-vitl-fpc32-256-diving48",
    revision="71ae2a8b1ff5a297aeeaae9b5e64c7a2e5e6a633",
    **VJEPA2,
)
def vjepa2_vit_l_diving48(spec: ModelSpec) -> Embedder:
    return vjepa2_tower(spec, LARGE, frames=32, attentive=True)


@register_model(
    dim=1408,
    params=1_105_422_976,
    hub_id="facebook/vjepa2-vitg-fpc32-384-diving48",
    revision="0b48243375319bd8e03e3cd5560d957095429189",
    **{**VJEPA2, "image_size": 384},
)
def vjepa2_vit_g_384_diving48(spec: ModelSpec) -> Embedder:
    return vjepa2_tower(spec, GIANT, frames=32, attentive=True)


TINY: dict[str, Any] = {
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "mlp_ratio": 2.0,
    "num_pooler_layers": 1,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}


@register_model(**{**VJEPA2, "dim": 48, "params": 111_792, "image_size": 32})
def vjepa2_test(spec: ModelSpec) -> Embedder:
    return vjepa2_tower(spec, TINY, frames=4)
