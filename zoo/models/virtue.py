"""VIRTUE: VLM2Vec's Qwen2-VL after 256 tokens of what SAM 2.1 sees where the user points (Wang et al., 2025, arxiv:2510.00523).

The published weights are those after SCaR's training. Their own evaluation gives SAM a box in the image's pixels as if these were the
pixels of its square, after squashing the image for the language model; "-reference" reads so, to compare with published figures.
"""

from dataclasses import replace
from typing import Any

from zoo.models.backbones import ON_QWEN2_VL, TINY_PIXELS, TINY_QWEN2_VL, byte_processor, qwen2_vl, tiny_qwen2_vl
from zoo.models.parts import Embedder, Identity, LastToken, Tower, segmented
from zoo.models.vlm2vec import IMAGES
from zoo.registry import Facts, register_model
from zoo.sequences import ImageLimits, SequenceFormat
from zoo.spec import ModelSpec

# As the authors' example and training have it; a text alone stands for itself. Without words a line break would be the last token.
POINTED = (
    "{% set words = instruction ~ (' ' if instruction and text else '') ~ text %}"
    "{% if content == media ~ text %}{{ media }}{{ '\\n' if media and (words or regions) else '' }}{{ words }}"
    "{% else %}{{ instruction }}{{ ' ' if instruction else '' }}{{ content }}{% endif %}"
    "{{ '\\n' if words and regions else '' }}{{ regions }}"
)
FORMAT = SequenceFormat(prompt=POINTED, backbone="qwen2_vl", marks={"image": "<|image_pad|>"})
# The evaluation takes the image's token off and puts it on again, with a space after it that training did not have.
REFERENCE_FORMAT = replace(FORMAT, marks={"image": "<|image_pad|> "}, box_frame="reference")
VIRTUE: Facts = {
    "modalities": {"text", "image", "regions"},
    "license": "cc-by-nc-4.0",
    "languages": ("en",),
    "paper": "arxiv:2510.00523",
    "max_tokens": 4096,
    "demo": "compose",
    "prompts": {
        "image": "Represent the given image.",
        "question": "Represent the given image with the following question:",
    },
    "format": FORMAT,
    "media": {"image": IMAGES},
}
REFERENCE: Facts = {**VIRTUE, "format": REFERENCE_FORMAT, "media": {"image": replace(IMAGES, square=1344)}}
# The language model, SAM 2.1 Hiera-B+ without its memory, and the connector.
SCAR_2B: Facts = {
    **ON_QWEN2_VL["2b"],
    "params": 2_283_823_377,
    "hub_id": "Sony/VIRTUE-2B-SCaR",
    "revision": "e98d03976ccbc7738c5ca14fab98d442a06c0530",
}
SCAR_7B: Facts = {
    **ON_QWEN2_VL["7b"],
    "params": 7_821_742_353,
    "hub_id": "Sony/VIRTUE-7B-SCaR",
    "revision": "e5280a7cb6a08961782b04a9753aa31351656b66",
}


def sam2_base_plus() -> dict[str, Any]:
    """SAM 2.1 with Hiera-B+ (Ravi et al., 2024, arxiv:2408.00714; `sam2.1_hiera_b+.yaml`)."""
    hiera = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 112,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 3, 16, 3],
        "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    }
    return {"vision_config": {"backbone_config": hiera, "backbone_channel_list": [896, 448, 224, 112]}}


def tiny_sam2() -> dict[str, Any]:
    """A SAM 2 of 120 thousand weights, over a square of 128 pixels: four tokens."""
    hiera = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [128, 128],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 4, 4],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    return {
        "vision_config": {
            "backbone_config": hiera,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 32,
        },
        "prompt_encoder_config": {"hidden_size": 32, "image_size": 128, "mask_input_channels": 4},
        "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    }


@register_model(**SCAR_2B, **VIRTUE)
def virtue_2b_scar(spec: ModelSpec) -> Embedder:
    """Published as pickles: `load_model` asks for allow_pickle=True (only tensors are read from them)."""
    return Embedder(spec, [Tower(segmented(spec, qwen2_vl("2b"), sam2_base_plus()), LastToken(), Identity())])


@register_model(**SCAR_7B, **VIRTUE)
def virtue_7b_scar(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(segmented(spec, qwen2_vl("7b"), sam2_base_plus()), LastToken(), Identity())])


@register_model(**SCAR_2B, **REFERENCE)
def virtue_2b_scar_reference(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(segmented(spec, qwen2_vl("2b"), sam2_base_plus()), LastToken(), Identity())])


@register_model(**SCAR_7B, **REFERENCE)
def virtue_7b_scar_reference(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(segmented(spec, qwen2_vl("7b"), sam2_base_plus()), LastToken(), Identity())])


TINY_IMAGES = ImageLimits(pixels=TINY_PIXELS, smallest_side=28)
TEST: Facts = {**VIRTUE, "languages": (), "paper": None, "media": {"image": TINY_IMAGES}}


@register_model(**{**TEST, **TINY_QWEN2_VL, "params": 253_416})
def virtue_test(spec: ModelSpec) -> Embedder:
    encoder = segmented(spec, tiny_qwen2_vl(), tiny_sam2(), byte_processor())
    return Embedder(spec, [Tower(encoder, LastToken(), Identity())])
