"""SigLIP dual towers: a sigmoid loss per pair (Zhai et al., 2023, arxiv:2303.15343; SigLIP 2: 2025, arxiv:2502.14786).

Pictures are squashed to a square, texts lower-cased, stripped of punctuation and filled to 64 tokens. SigLIP 2 reads
about a hundred languages. Weights are Google's in open_clip's layout.
"""

from typing import TYPE_CHECKING, Any

from zoo.models.clip import DUAL, open_clip_towers, tiny_towers
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

SIGLIP = "arxiv:2303.15343"
SIGLIP2 = "arxiv:2502.14786"
SIGLIP_DUAL: dict[str, Any] = {**DUAL, "max_tokens": 64, "languages": ("en",)}
SIGLIP2_DUAL: dict[str, Any] = {**SIGLIP_DUAL, "languages": ("multilingual",)}


@register_model(
    name="siglip-vit-b16-224",
    dim=768,
    params=203_155_968,
    license="apache-2.0",
    paper=SIGLIP,
    hub_id="timm/ViT-B-16-SigLIP",
    revision="41f575766f40e752fdd1383e9565b7f02388c1c4",
    source="open_clip:ViT-B-16-SigLIP/webli",
    image_size=224,
    **SIGLIP_DUAL,
)
def siglip_vit_b16_224(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="siglip-vit-b16-256",
    dim=768,
    params=203_202_048,
    license="apache-2.0",
    paper=SIGLIP,
    hub_id="timm/ViT-B-16-SigLIP-256",
    source="open_clip:ViT-B-16-SigLIP-256/webli",
    image_size=256,
    **SIGLIP_DUAL,
)
def siglip_vit_b16_256(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="siglip-vit-b16-384",
    dim=768,
    params=203_447_808,
    license="apache-2.0",
    paper=SIGLIP,
    hub_id="timm/ViT-B-16-SigLIP-384",
    source="open_clip:ViT-B-16-SigLIP-384/webli",
    image_size=384,
    **SIGLIP_DUAL,
)
def siglip_vit_b16_384(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="siglip-vit-so400m-384",
    dim=1152,
    params=877_960_496,
    license="apache-2.0",
    paper=SIGLIP,
    hub_id="timm/ViT-SO400M-14-SigLIP-384",
    revision="9a9cf937c9944727bd49787baa7ea78c1363a999",
    source="open_clip:ViT-SO400M-14-SigLIP-384/webli",
    image_size=384,
    **SIGLIP_DUAL,
)
def siglip_vit_so400m_384(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="siglip2-vit-b32-256",
    dim=768,
    params=376_856_064,
    license="apache-2.0",
    paper=SIGLIP2,
    hub_id="timm/ViT-B-32-SigLIP2-256",
    source="open_clip:ViT-B-32-SigLIP2-256/webli",
    image_size=256,
    **SIGLIP2_DUAL,
)
def siglip2_vit_b32_256(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="siglip2-vit-b16-224",
    dim=768,
    params=375_187_968,
    license="apache-2.0",
    paper=SIGLIP2,
    hub_id="timm/ViT-B-16-SigLIP2",
    source="open_clip:ViT-B-16-SigLIP2/webli",
    image_size=224,
    **SIGLIP2_DUAL,
)
def siglip2_vit_b16_224(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="siglip2-vit-b16-256",
    dim=768,
    params=375_234_048,
    license="apache-2.0",
    paper=SIGLIP2,
    hub_id="timm/ViT-B-16-SigLIP2-256",
    source="open_clip:ViT-B-16-SigLIP2-256/webli",
    image_size=256,
    **SIGLIP2_DUAL,
)
def siglip2_vit_b16_256(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="siglip2-vit-b16-384",
    dim=768,
    params=375_479_808,
    license="apache-2.0",
    paper=SIGLIP2,
    hub_id="timm/ViT-B-16-SigLIP2-384",
    source="open_clip:ViT-B-16-SigLIP2-384/webli",
    image_size=384,
    **SIGLIP2_DUAL,
)
def siglip2_vit_b16_384(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="siglip2-vit-so400m-378",
    dim=1152,
    params=1_136_008_496,
    license="apache-2.0",
    paper=SIGLIP2,
    hub_id="timm/ViT-SO400M-14-SigLIP2-378",
    revision="93e0e6ad1063507a7777d0b570292a29a3d94c5f",
    source="open_clip:ViT-SO400M-14-SigLIP2-378/webli",
    image_size=378,
    **SIGLIP2_DUAL,
)
def siglip2_vit_so400m_378(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="siglip-test",
    dim=64,
    params=1_146_368,
    license="apache-2.0",
    paper=SIGLIP,
    image_size=160,
    max_tokens=16,
    **DUAL,
)
def siglip_test(spec: ModelSpec) -> "Embedder":
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
