"""X-CLIP: CLIP's towers, whose frames send each other messages (Ni et al., 2022, arxiv:2208.02816); videos and texts.

A video is an exact number of frames. Texts are embedded by themselves: the prompt that the authors' classifier adds to a text
for each video would make a text's vector depend on what it is compared with.
"""

from typing import Any

from zoo.models.backbones import byte_tokenizer
from zoo.models.clip import DUAL
from zoo.models.parts import Cls, Embedder, HfText, HfVideo, Identity, Linear, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

XCLIP: Facts = {
    **DUAL,
    "modalities": {"video", "text"},
    "demo": "omni",
    "license": "mit",
    "paper": "arxiv:2208.02816",
    "languages": ("en",),
    "image_size": 224,
    "max_tokens": 77,
}
BASE: Facts = {**XCLIP, "dim": 512}
LARGE: Facts = {**XCLIP, "dim": 768}


def xclip_towers(spec: ModelSpec, vision: dict[str, Any], text: dict[str, Any], tokenizer: Any = None) -> Embedder:
    """transformers' video and text tower with random weights; frames resized and cut as the published files say.

    Args:
        vision, text: what tells the towers of one size from those of another.
    """
    from zoo.encoders.image_transform import IMAGENET_MEAN, IMAGENET_STD, PixelTransform

    vision = {"image_size": spec.image_size, "mit_hidden_size": spec.dim, "projection_dim": spec.dim, **vision}
    text = {"hidden_size": spec.dim, "max_position_embeddings": spec.max_tokens, **text}
    frames = PixelTransform(
        (spec.image_size, spec.image_size),
        interpolation="bilinear",
        engine="torch",
        crop_rounding="floor",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    video = Tower(HfVideo("xclip", vision, frames), Cls(), Identity())
    texts = HfText("xclip", text, spec.max_tokens, pad_id=0, tokenizer=tokenizer)
    return Embedder(spec, [video, Tower(texts, Cls(), Linear(texts.width, spec.dim))])


@register_model(
    params=189_887_744,
    hub_id="microsoft/xclip-base-patch32",
    revision="a2e27a78a2b5d802e894b8a1ef14f3a8ce490963",
    **BASE,
)
def xclip_vit_b32(spec: ModelSpec) -> Embedder:
    return xclip_towers(spec, {"patch_size": 32}, {})


@register_model(params=189_891_840, hub_id="microsoft/xclip-base-patch32-16-frames", **BASE)
def xclip_vit_b32_f16(spec: ModelSpec) -> Embedder:
    return xclip_towers(spec, {"patch_size": 32, "num_frames": 16}, {})


@register_model(
    params=188_231_168,
    hub_id="microsoft/xclip-base-patch16",
    revision="d6184e3fd8780d04c85d0f1eabe5f94bf44d98f6",
    **BASE,
)
def xclip_vit_b16(spec: ModelSpec) -> Embedder:
    return xclip_towers(spec, {"patch_size": 16}, {})


@register_model(params=188_235_264, hub_id="microsoft/xclip-base-patch16-16-frames", **BASE)
def xclip_vit_b16_f16(spec: ModelSpec) -> Embedder:
    return xclip_towers(spec, {"patch_size": 16, "num_frames": 16}, {})


@register_model(params=188_243_456, hub_id="microsoft/xclip-base-patch16-zero-shot", **BASE)
def xclip_vit_b16_zero_shot(spec: ModelSpec) -> Embedder:
    return xclip_towers(spec, {"patch_size": 16, "num_frames": 32}, {})


_LARGE: dict[str, Any] = {
    "patch_size": 14,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "mit_intermediate_size": 3072,
}
_LARGE_TEXT = {"intermediate_size": 3072, "num_attention_heads": 12}


@register_model(
    params=560_711_680,
    hub_id="microsoft/xclip-large-patch14",
    revision="a9dd1429a16cf305df2aaea232d5e8dceba1c675",
    **LARGE,
)
def xclip_vit_l14(spec: ModelSpec) -> Embedder:
    return xclip_towers(spec, _LARGE, _LARGE_TEXT)


@register_model(params=561_045_504, hub_id="microsoft/xclip-large-patch14-16-frames", **{**LARGE, "image_size": 336})
def xclip_vit_l14_336_f16(spec: ModelSpec) -> Embedder:
    return xclip_towers(spec, {**_LARGE, "num_frames": 16}, _LARGE_TEXT)


@register_model(**{**XCLIP, "dim": 24, "params": 83_432, "image_size": 32, "max_tokens": 32, "languages": ()})
def xclip_test(spec: ModelSpec) -> Embedder:
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**small, "patch_size": 16, "num_frames": 4, "mit_intermediate_size": 48, "mit_num_attention_heads": 2}
    return xclip_towers(spec, vision, {**small, "vocab_size": 320}, _ended(byte_tokenizer()))


def _ended(tokenizer: Any) -> Any:
    """With an end of its own after every text: the tower's state is taken at the highest id, as CLIP's end has it."""
    from tokenizers.processors import TemplateProcessing

    end = tokenizer.eos_token
    core = tokenizer.backend_tokenizer
    core.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, core.token_to_id(end))])
    return tokenizer
