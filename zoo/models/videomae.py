"""VideoMAE: masked autoencoders of videos (Tong et al., 2022, arxiv:2203.12602). Its weights are for non-commercial use alone.

A video is 16 frames, its vector the mean of all states; of a checkpoint that was fine-tuned to classify, that mean through the norm
before its classifier.
"""

from typing import Any

from zoo.models.image import IMAGE
from zoo.models.parts import DenseStack, Embedder, HfVideo, Identity, Mean, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

VIDEOMAE: Facts = {
    **IMAGE,
    "demo": "omni",
    "modalities": {"video"},
    "license": "cc-by-nc-4.0",
    "paper": "arxiv:2203.12602",
    "image_size": 224,
}
BASE: dict[str, Any] = {"num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
LARGE: dict[str, Any] = {"num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def videomae_tower(spec: ModelSpec, shape: dict[str, Any], tuned: bool = False) -> Embedder:
    """transformers' encoder with random weights.

    Args:
        shape: what tells one size from another. tuned: of a classifier, with its norm after the mean.
    """
    from zoo.encoders.image_transform import IMAGENET_MEAN, IMAGENET_STD, PixelTransform

    crop = PixelTransform(
        (spec.image_size, spec.image_size),
        interpolation="bilinear",
        engine="torch",
        crop_rounding="floor",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    config = {"hidden_size": spec.dim, "image_size": spec.image_size, "use_mean_pooling": tuned, **shape}
    head = DenseStack([{"kind": "layer_norm", "width": spec.dim}]) if tuned else Identity()
    return Embedder(spec, [Tower(HfVideo("videomae", config, crop), Mean(), head)])


@register_model(
    dim=768,
    params=86_227_200,
    hub_id="MCG-NJU/videomae-base",
    revision="dc740ceda42fce44faed2ea03c6d447db72f6af9",
    **VIDEOMAE,
)
def videomae_vit_b(spec: ModelSpec) -> Embedder:
    return videomae_tower(spec, BASE)


@register_model(
    dim=1024,
    params=303_860_736,
    hub_id="MCG-NJU/videomae-large",
    revision="12da269a02d3e1fbbb7011e610e591fea8061dca",
    **VIDEOMAE,
)
def videomae_vit_l(spec: ModelSpec) -> Embedder:
    return videomae_tower(spec, LARGE)


@register_model(
    dim=768,
    params=86_227_200,
    hub_id="MCG-NJU/videomae-base-finetuned-kinetics",
    revision="488eb9a0565f257b32866000305c8178965eb9f6",
    **VIDEOMAE,
)
def videomae_vit_b_kinetics(spec: ModelSpec) -> Embedder:
    return videomae_tower(spec, BASE, tuned=True)


TINY: dict[str, Any] = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_frames": 4,
    "patch_size": 16,
}


# Its weights are random: no one's licence is theirs.
@register_model(**{**VIDEOMAE, "dim": 32, "params": 64_192, "image_size": 32, "license": "apache-2.0"})
def videomae_test(spec: ModelSpec) -> Embedder:
    return videomae_tower(spec, TINY)
