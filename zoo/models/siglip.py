"""SigLIP dual towers: a sigmoid loss per pair (Zhai et al., 2023, arxiv:2303.15343; SigLIP 2: 2025, arxiv:2502.14786).

Images are squashed to a square, texts lower-cased, stripped of punctuation and filled to 64 tokens. SigLIP 2 reads
about a hundred languages. Weights are Google's in open_clip's layout.
"""

from zoo.models.clip import DUAL, open_clip_towers, tiny_towers
from zoo.models.parts import Embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

PAPER = "arxiv:2303.15343"
SIGLIP: Facts = {**DUAL, "max_tokens": 64, "license": "apache-2.0", "paper": PAPER, "languages": ("en",)}
SIGLIP2: Facts = {**SIGLIP, "paper": "arxiv:2502.14786", "languages": ("multilingual",)}


def webli(arch: str, revision: str | None = None) -> Facts:
    """Where Google's weights of an architecture lie, both papers' being trained on WebLI."""
    return {"source": f"open_clip:{arch}/webli", "hub_id": f"timm/{arch}", "revision": revision}


@register_model(
    dim=768,
    params=203_155_968,
    image_size=224,
    **webli("ViT-B-16-SigLIP", "41f575766f40e752fdd1383e9565b7f02388c1c4"),
    **SIGLIP,
)
def siglip_vit_b16_224(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(dim=768, params=203_202_048, image_size=256, **webli("ViT-B-16-SigLIP-256"), **SIGLIP)
def siglip_vit_b16_256(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(dim=768, params=203_447_808, image_size=384, **webli("ViT-B-16-SigLIP-384"), **SIGLIP)
def siglip_vit_b16_384(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(
    dim=1152,
    params=877_960_496,
    image_size=384,
    **webli("ViT-SO400M-14-SigLIP-384", "9a9cf937c9944727bd49787baa7ea78c1363a999"),
    **SIGLIP,
)
def siglip_vit_so400m_384(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(dim=768, params=376_856_064, image_size=256, **webli("ViT-B-32-SigLIP2-256"), **SIGLIP2)
def siglip2_vit_b32_256(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(dim=768, params=375_187_968, image_size=224, **webli("ViT-B-16-SigLIP2"), **SIGLIP2)
def siglip2_vit_b16_224(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(dim=768, params=375_234_048, image_size=256, **webli("ViT-B-16-SigLIP2-256"), **SIGLIP2)
def siglip2_vit_b16_256(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(dim=768, params=375_479_808, image_size=384, **webli("ViT-B-16-SigLIP2-384"), **SIGLIP2)
def siglip2_vit_b16_384(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(
    dim=1152,
    params=1_136_008_496,
    image_size=378,
    **webli("ViT-SO400M-14-SigLIP2-378", "93e0e6ad1063507a7777d0b570292a29a3d94c5f"),
    **SIGLIP2,
)
def siglip2_vit_so400m_378(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(dim=64, params=1_146_368, license="apache-2.0", paper=PAPER, image_size=160, max_tokens=16, **DUAL)
def siglip_test(spec: ModelSpec) -> Embedder:
    vision = {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"}
    text = {
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    }
    half = (0.5, 0.5, 0.5)
    return tiny_towers(spec, vision, text, mean=half, std=half, interpolation="bicubic", resize_mode="squash")
