"""Image encoders of timm: DINOv2 and DINOv3 (self-supervised), and small convolutional networks trained on ImageNet.

The vector is what timm's `forward_head(..., pre_logits=True)` gives: the class token for DINOv2, the mean over patches
for DINOv3, the layer before the classifier for the others. Resize and crop are each model's own.
"""

from zoo.models.parts import Cls, Embedder, Identity, Tower, timm_image
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

IMAGE: Facts = {"modalities": {"image"}, "demo": "search"}
DINOV2: Facts = {**IMAGE, "license": "apache-2.0", "paper": "arxiv:2304.07193"}
DINOV3: Facts = {**IMAGE, "license": "other: dinov3-license", "paper": "arxiv:2508.10104"}
CONVNEXT_TINY: Facts = {"dim": 768, "params": 27_820_128, "image_size": 224}


def timm_tower(spec: ModelSpec, arch: str | None = None) -> Embedder:
    """A timm architecture, by default the one that `spec.source` names, with random weights."""
    encoder = timm_image(arch or spec.source.removeprefix("timm:"))
    return Embedder(spec, [Tower(encoder, Cls(), Identity())])


def of_timm(name: str) -> Facts:
    """Where one of timm's pretrained models lies."""
    return {"source": f"timm:{name}", "hub_id": f"timm/{name}"}


@register_model(dim=384, params=22_056_192, image_size=518, **of_timm("vit_small_patch14_dinov2.lvd142m"), **DINOV2)
def dinov2_vit_s14(spec: ModelSpec) -> Embedder:
    return timm_tower(spec)


@register_model(dim=768, params=86_579_712, image_size=518, **of_timm("vit_base_patch14_dinov2.lvd142m"), **DINOV2)
def dinov2_vit_b14(spec: ModelSpec) -> Embedder:
    return timm_tower(spec)


@register_model(dim=384, params=21_586_944, image_size=256, **of_timm("vit_small_patch16_dinov3.lvd1689m"), **DINOV3)
def dinov3_vit_s16(spec: ModelSpec) -> Embedder:
    return timm_tower(spec)


@register_model(dim=768, params=85_641_216, image_size=256, **of_timm("vit_base_patch16_dinov3.lvd1689m"), **DINOV3)
def dinov3_vit_b16(spec: ModelSpec) -> Embedder:
    return timm_tower(spec)


@register_model(**CONVNEXT_TINY, **of_timm("convnext_tiny.dinov3_lvd1689m"), **DINOV3)
def dinov3_convnext_tiny(spec: ModelSpec) -> Embedder:
    return timm_tower(spec)


@register_model(
    license="apache-2.0", paper="arxiv:2201.03545", **CONVNEXT_TINY, **of_timm("convnext_tiny.in12k_ft_in1k"), **IMAGE
)
def convnext_tiny_in12k(spec: ModelSpec) -> Embedder:
    return timm_tower(spec)


@register_model(
    dim=1280,
    params=2_493_024,
    image_size=224,
    license="apache-2.0",
    paper="arxiv:2404.10518",
    **of_timm("mobilenetv4_conv_small.e2400_r224_in1k"),
    **IMAGE,
)
def mobilenetv4_conv_small_in1k(spec: ModelSpec) -> Embedder:
    return timm_tower(spec)


@register_model(dim=64, params=306_240, license="apache-2.0", image_size=160, **IMAGE)
def image_test(spec: ModelSpec) -> Embedder:
    return timm_tower(spec, "test_vit")
