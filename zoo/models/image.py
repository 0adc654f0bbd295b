"""Image encoders of timm: DINOv2 and DINOv3 (self-supervised), and small convolutional networks trained on ImageNet.

The vector is what timm's `forward_head(..., pre_logits=True)` gives: the class token for DINOv2, the mean over patches
for DINOv3, the layer before the classifier for the others. Resize and crop are each model's own.
"""

from typing import TYPE_CHECKING, Any

from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

DINOV2 = "arxiv:2304.07193"
DINOV3 = "arxiv:2508.10104"
IMAGE: dict[str, Any] = {"modalities": {"image"}, "demo": "search"}


def timm_tower(spec: ModelSpec, arch: str | None = None) -> "Embedder":
    """A timm architecture, by default the one that `spec.source` names, with random weights."""
    from zoo.formats.timm import image_tower

    model = image_tower(arch or spec.source.removeprefix("timm:"), spec.name, None, {})
    model.spec = spec
    return model


@register_model(
    name="dinov2-vit-s14",
    dim=384,
    params=22_056_192,
    license="apache-2.0",
    paper=DINOV2,
    hub_id="timm/vit_small_patch14_dinov2.lvd142m",
    source="timm:vit_small_patch14_dinov2.lvd142m",
    image_size=518,
    **IMAGE,
)
def dinov2_vit_s14(spec: ModelSpec) -> "Embedder":
    return timm_tower(spec)


@register_model(
    name="dinov2-vit-b14",
    dim=768,
    params=86_579_712,
    license="apache-2.0",
    paper=DINOV2,
    hub_id="timm/vit_base_patch14_dinov2.lvd142m",
    source="timm:vit_base_patch14_dinov2.lvd142m",
    image_size=518,
    **IMAGE,
)
def dinov2_vit_b14(spec: ModelSpec) -> "Embedder":
    return timm_tower(spec)


@register_model(
    name="dinov3-vit-s16",
    dim=384,
    params=21_586_944,
    license="other: dinov3-license",
    paper=DINOV3,
    hub_id="timm/vit_small_patch16_dinov3.lvd1689m",
    source="timm:vit_small_patch16_dinov3.lvd1689m",
    image_size=256,
    **IMAGE,
)
def dinov3_vit_s16(spec: ModelSpec) -> "Embedder":
    return timm_tower(spec)


@register_model(
    name="dinov3-vit-b16",
    dim=768,
    params=85_641_216,
    license="other: dinov3-license",
    paper=DINOV3,
    hub_id="timm/vit_base_patch16_dinov3.lvd1689m",
    source="timm:vit_base_patch16_dinov3.lvd1689m",
    image_size=256,
    **IMAGE,
)
def dinov3_vit_b16(spec: ModelSpec) -> "Embedder":
    return timm_tower(spec)


@register_model(
    name="dinov3-convnext-tiny",
    dim=768,
    params=27_820_128,
    license="other: dinov3-license",
    paper=DINOV3,
    hub_id="timm/convnext_tiny.dinov3_lvd1689m",
    source="timm:convnext_tiny.dinov3_lvd1689m",
    image_size=224,
    **IMAGE,
)
def dinov3_convnext_tiny(spec: ModelSpec) -> "Embedder":
    return timm_tower(spec)


@register_model(
    name="convnext-tiny-in12k",
    dim=768,
    params=27_820_128,
    license="apache-2.0",
    paper="arxiv:2201.03545",
    hub_id="timm/convnext_tiny.in12k_ft_in1k",
    source="timm:convnext_tiny.in12k_ft_in1k",
    image_size=224,
    **IMAGE,
)
def convnext_tiny_in12k(spec: ModelSpec) -> "Embedder":
    return timm_tower(spec)


@register_model(
    name="mobilenetv4-conv-small-in1k",
    dim=1280,
    params=2_493_024,
    license="apache-2.0",
    paper="arxiv:2404.10518",
    hub_id="timm/mobilenetv4_conv_small.e2400_r224_in1k",
    source="timm:mobilenetv4_conv_small.e2400_r224_in1k",
    image_size=224,
    **IMAGE,
)
def mobilenetv4_conv_small_in1k(spec: ModelSpec) -> "Embedder":
    return timm_tower(spec)


@register_model(
    name="image-test",
    dim=64,
    params=306_240,
    license="apache-2.0",
    image_size=160,
    **IMAGE,
)
def image_test(spec: ModelSpec) -> "Embedder":
    return timm_tower(spec, "test_vit")
