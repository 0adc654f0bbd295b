"""MobileCLIP dual towers: small and fast (Vasu et al., 2024, arxiv:2311.17049; Faghri et al., 2025, arxiv:2508.20691).

The S sizes are convolutional hybrids (FastViT), B is a ViT with a convolutional stem. Apple's licence allows
research only.
"""

from typing import TYPE_CHECKING

from zoo.models.clip import DUAL, open_clip_towers, tiny_towers
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

MOBILECLIP = "arxiv:2311.17049"
MOBILECLIP2 = "arxiv:2508.20691"


@register_model(
    name="mobileclip-s1",
    dim=512,
    params=84_969_728,
    license="apple-amlr",
    paper=MOBILECLIP,
    hub_id="apple/MobileCLIP-S1-OpenCLIP",
    source="open_clip:MobileCLIP-S1/datacompdr",
    image_size=256,
    max_tokens=77,
    languages=("en",),
    **DUAL,
)
def mobileclip_s1(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="mobileclip-s2",
    dim=512,
    params=99_243_328,
    license="apple-amlr",
    paper=MOBILECLIP,
    hub_id="apple/MobileCLIP-S2-OpenCLIP",
    source="open_clip:MobileCLIP-S2/datacompdr",
    image_size=256,
    max_tokens=77,
    languages=("en",),
    **DUAL,
)
def mobileclip_s2(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="mobileclip-b",
    dim=512,
    params=149_777_152,
    license="apple-amlr",
    paper=MOBILECLIP,
    hub_id="apple/MobileCLIP-B-OpenCLIP",
    source="open_clip:MobileCLIP-B/datacompdr",
    image_size=224,
    max_tokens=77,
    languages=("en",),
    **DUAL,
)
def mobileclip_b(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="mobileclip2-s0",
    dim=512,
    params=74_835_072,
    license="apple-amlr",
    paper=MOBILECLIP2,
    hub_id="timm/MobileCLIP2-S0-OpenCLIP",
    source="open_clip:MobileCLIP2-S0/dfndr2b",
    image_size=256,
    max_tokens=77,
    languages=("en",),
    **DUAL,
)
def mobileclip2_s0(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="mobileclip2-s2",
    dim=512,
    params=99_243_328,
    license="apple-amlr",
    paper=MOBILECLIP2,
    hub_id="timm/MobileCLIP2-S2-OpenCLIP",
    source="open_clip:MobileCLIP2-S2/dfndr2b",
    image_size=256,
    max_tokens=77,
    languages=("en",),
    **DUAL,
)
def mobileclip2_s2(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="mobileclip2-b",
    dim=512,
    params=149_777_152,
    license="apple-amlr",
    paper=MOBILECLIP2,
    hub_id="timm/MobileCLIP2-B-OpenCLIP",
    source="open_clip:MobileCLIP2-B/dfndr2b",
    image_size=224,
    max_tokens=77,
    languages=("en",),
    **DUAL,
)
def mobileclip2_b(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="mobileclip-test",
    dim=16,
    params=900_924,
    license="apache-2.0",
    paper=MOBILECLIP,
    image_size=64,
    max_tokens=16,
    **DUAL,
)
def mobileclip_test(spec: ModelSpec) -> "Embedder":
    vision = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear"}
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return tiny_towers(spec, vision, {"no_causal_mask": True}, mean=zero, std=one, interpolation="bilinear")
