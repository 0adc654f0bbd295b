"""MobileCLIP dual towers: small and fast (Vasu et al., 2024, arxiv:2311.17049; Faghri et al., 2025, arxiv:2508.20691).

The S sizes are convolutional hybrids (FastViT), B is a ViT with a convolutional stem. Apple's licence allows
research only.
"""

from zoo.models.clip import CLIP, DUAL, open_clip_towers, tiny_towers
from zoo.models.parts import Embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

PAPER = "arxiv:2311.17049"
MOBILECLIP: Facts = {**CLIP, "license": "apple-amlr", "paper": PAPER}
MOBILECLIP2: Facts = {**MOBILECLIP, "paper": "arxiv:2508.20691"}
# Of both papers' models of a size.
S0: Facts = {"dim": 512, "params": 74_835_072, "image_size": 256}
S1: Facts = {"dim": 512, "params": 84_969_728, "image_size": 256}
S2: Facts = {"dim": 512, "params": 99_243_328, "image_size": 256}
B: Facts = {"dim": 512, "params": 149_777_152, "image_size": 224}


@register_model(source="open_clip:MobileCLIP-S1/datacompdr", hub_id="apple/MobileCLIP-S1-OpenCLIP", **S1, **MOBILECLIP)
def mobileclip_s1(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(source="open_clip:MobileCLIP-S2/datacompdr", hub_id="apple/MobileCLIP-S2-OpenCLIP", **S2, **MOBILECLIP)
def mobileclip_s2(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(source="open_clip:MobileCLIP-B/datacompdr", hub_id="apple/MobileCLIP-B-OpenCLIP", **B, **MOBILECLIP)
def mobileclip_b(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(source="open_clip:MobileCLIP2-S0/dfndr2b", hub_id="timm/MobileCLIP2-S0-OpenCLIP", **S0, **MOBILECLIP2)
def mobileclip2_s0(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(source="open_clip:MobileCLIP2-S2/dfndr2b", hub_id="timm/MobileCLIP2-S2-OpenCLIP", **S2, **MOBILECLIP2)
def mobileclip2_s2(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(source="open_clip:MobileCLIP2-B/dfndr2b", hub_id="timm/MobileCLIP2-B-OpenCLIP", **B, **MOBILECLIP2)
def mobileclip2_b(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(dim=16, params=900_924, license="apache-2.0", paper=PAPER, image_size=64, max_tokens=16, **DUAL)
def mobileclip_test(spec: ModelSpec) -> Embedder:
    vision = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear"}
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return tiny_towers(spec, vision, {"no_causal_mask": True}, mean=zero, std=one, interpolation="bilinear")
