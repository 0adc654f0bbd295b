"""TIPSv2 dual towers: patches that fit their words, by distillation and captions of several kinds (2026, arxiv:2604.12012).

Images are squashed to a square and not normalised; texts lower-cased, of 64 tokens without a beginning or an end, and averaged. The
image's vector is the class token that was trained with captions of web pages, not the second one of synthetic captions, a register.
"""

from typing import Any

from zoo.models.backbones import byte_tokenizer
from zoo.models.clip import DUAL
from zoo.models.parts import Cls, Embedder, HfImage, HfText, Identity, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

TIPS: Facts = {
    **DUAL,
    "license": "apache-2.0",
    "paper": "arxiv:2604.12012",
    "languages": ("en",),
    "image_size": 448,
    "max_tokens": 64,
}


def tips_towers(
    spec: ModelSpec, vision: dict[str, Any], text: dict[str, Any], patch: int = 14, tokenizer: Any = None
) -> Embedder:
    """transformers' two towers of a width, with random weights.

    Args:
        vision, text: what tells the towers of one size from those of another.
    """
    from zoo.encoders.image_transform import PixelTransform

    size = spec.image_size
    pixels = {"image_size": size, "patch_size": patch, "num_register_tokens": 1}
    plain = PixelTransform(
        (size, size), resize="squash", interpolation="bilinear", engine="torch", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    image = HfImage("tipsv2", {"hidden_size": spec.dim, **pixels, **vision}, plain)
    words = {"hidden_size": spec.dim, "max_position_embeddings": spec.max_tokens, **text}
    texts = HfText("tipsv2", words, spec.max_tokens, pad_id=0, tokenizer=tokenizer)
    return Embedder(spec, [Tower(image, Cls(), Identity()), Tower(texts, Cls(), Identity())])


def _blocks(layers: int, heads: int, **others: Any) -> dict[str, Any]:
    return {"num_hidden_layers": layers, "num_attention_heads": heads, **others}


@register_model(dim=768, params=195_948_288, hub_id="google/tipsv2-b14", **TIPS)
def tipsv2_vit_b14(spec: ModelSpec) -> Embedder:
    return tips_towers(spec, _blocks(12, 12), _blocks(12, 12, intermediate_size=3072))


@register_model(dim=1024, params=487_941_120, hub_id="google/tipsv2-l14", **TIPS)
def tipsv2_vit_l14(spec: ModelSpec) -> Embedder:
    return tips_towers(spec, _blocks(24, 16), _blocks(12, 16, intermediate_size=4096))


@register_model(dim=1152, params=861_726_816, hub_id="google/tipsv2-so400m14", **TIPS)
def tipsv2_vit_so400m14(spec: ModelSpec) -> Embedder:
    vision = _blocks(27, 16, mlp_ratio=4304 / 1152)
    return tips_towers(spec, vision, _blocks(27, 16, intermediate_size=4304))


@register_model(dim=1536, params=1_525_085_696, hub_id="google/tipsv2-g14", **TIPS)
def tipsv2_vit_g14(spec: ModelSpec) -> Embedder:
    vision = _blocks(40, 24, use_swiglu_ffn=True)
    return tips_towers(spec, vision, _blocks(12, 24, intermediate_size=6144))


@register_model(**{**TIPS, "dim": 32, "params": 70_400, "image_size": 56, "max_tokens": 32, "languages": ()})
def tipsv2_test(spec: ModelSpec) -> Embedder:
    text = _blocks(2, 4, intermediate_size=48, vocab_size=320)
    return tips_towers(spec, _blocks(2, 4), text, tokenizer=byte_tokenizer())
