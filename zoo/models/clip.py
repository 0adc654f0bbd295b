"""CLIP dual towers: contrastive image-text pretraining at scale (Radford et al., 2021, arxiv:2103.00020).

Shapes, preprocessing and weights are open_clip's. Names say the backbone, then the data. Weights trained with OpenAI's
QuickGELU name an architecture that ends in "-quickgelu": with the other activation they lose accuracy.
"""

from typing import TYPE_CHECKING, Any

from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

OPENAI = "arxiv:2103.00020"
DATACOMP = "arxiv:2304.14108"
DUAL: dict[str, Any] = {"modalities": {"image", "text"}, "demo": "search"}
CLIP: dict[str, Any] = {**DUAL, "max_tokens": 77, "languages": ("en",)}


def open_clip_towers(spec: ModelSpec) -> "Embedder":
    """Both towers of the architecture that `spec.source` names, preprocessed as its tag was trained; random weights."""
    from zoo.formats.open_clip import dual_towers, parse_name, tag_config, transform_of

    model_cfg, tag_cfg = tag_config(*parse_name(spec.source.removeprefix("open_clip:")))
    model = dual_towers(model_cfg, transform_of(model_cfg, tag_cfg), spec.name)
    model.spec = spec
    return model


def tiny_towers(spec: ModelSpec, vision_cfg: dict[str, Any], text_cfg: dict[str, Any], **preprocess: Any) -> "Embedder":
    """The towers of a test model, of open_clip's parts: its BPE tokenizer comes with the package."""
    from zoo.formats.open_clip import dual_towers, transform_of

    text_cfg = {
        "context_length": spec.max_tokens,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
        **text_cfg,
    }
    vision_cfg = {"image_size": spec.image_size, **vision_cfg}
    model_cfg = {"embed_dim": spec.dim, "vision_cfg": vision_cfg, "text_cfg": text_cfg}
    model = dual_towers(model_cfg, transform_of(model_cfg, preprocess), spec.name)
    model.spec = spec
    return model


@register_model(
    name="clip-vit-b32-openai",
    dim=512,
    params=151_277_312,
    license="mit",
    paper=OPENAI,
    hub_id="timm/vit_base_patch32_clip_224.openai",
    revision="ab5b8ef490e86faa07d3523926b842c765de1de5",
    source="open_clip:ViT-B-32-quickgelu/openai",
    image_size=224,
    **CLIP,
)
def clip_vit_b32_openai(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="clip-vit-b16-openai",
    dim=512,
    params=149_620_736,
    license="mit",
    paper=OPENAI,
    hub_id="timm/vit_base_patch16_clip_224.openai",
    source="open_clip:ViT-B-16-quickgelu/openai",
    image_size=224,
    **CLIP,
)
def clip_vit_b16_openai(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="clip-vit-l14-openai",
    dim=768,
    params=427_616_512,
    license="mit",
    paper=OPENAI,
    hub_id="timm/vit_large_patch14_clip_224.openai",
    source="open_clip:ViT-L-14-quickgelu/openai",
    image_size=224,
    **CLIP,
)
def clip_vit_l14_openai(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="clip-vit-b32-laion2b",
    dim=512,
    params=151_277_312,
    license="mit",
    paper="arxiv:2212.07143",
    hub_id="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    source="open_clip:ViT-B-32/laion2b_s34b_b79k",
    image_size=224,
    **CLIP,
)
def clip_vit_b32_laion2b(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="clip-vit-b32-datacomp",
    dim=512,
    params=151_277_312,
    license="mit",
    paper=DATACOMP,
    hub_id="laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
    revision="f0e2ffa09cbadab3db6a261ec1ec56407ce42912",
    source="open_clip:ViT-B-32/datacomp_xl_s13b_b90k",
    image_size=224,
    **CLIP,
)
def clip_vit_b32_datacomp(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="clip-vit-b32-256-datacomp",
    dim=512,
    params=151_288_832,
    license="mit",
    paper=DATACOMP,
    hub_id="laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
    source="open_clip:ViT-B-32-256/datacomp_s34b_b86k",
    image_size=256,
    **CLIP,
)
def clip_vit_b32_256_datacomp(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="clip-vit-b16-datacomp",
    dim=512,
    params=149_620_736,
    license="mit",
    paper=DATACOMP,
    hub_id="laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
    revision="d110532e8d4ff91c574ee60a342323f28468b287",
    source="open_clip:ViT-B-16/datacomp_xl_s13b_b90k",
    image_size=224,
    **CLIP,
)
def clip_vit_b16_datacomp(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="clip-vit-l14-datacomp",
    dim=768,
    params=427_616_512,
    license="mit",
    paper=DATACOMP,
    hub_id="laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    revision="84c9828e63dc9a9351d1fe637c346d4c1c4db341",
    source="open_clip:ViT-L-14/datacomp_xl_s13b_b90k",
    image_size=224,
    **CLIP,
)
def clip_vit_l14_datacomp(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


# DFN-2B's ViT-B/16 is left out: open_clip 3.3 marks it QuickGELU, its own configuration on the Hub and timm do not.
@register_model(
    name="clip-vit-l14-dfn2b",
    dim=768,
    params=427_616_512,
    license="apple-amlr",
    paper="arxiv:2309.17425",
    hub_id="apple/DFN2B-CLIP-ViT-L-14",
    source="open_clip:ViT-L-14-quickgelu/dfn2b",
    image_size=224,
    **CLIP,
)
def clip_vit_l14_dfn2b(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="clip-vit-b16-metaclip",
    dim=512,
    params=149_620_736,
    license="cc-by-nc-4.0",
    paper="arxiv:2309.16671",
    hub_id="timm/vit_base_patch16_clip_224.metaclip_2pt5b",
    source="open_clip:ViT-B-16-quickgelu/metaclip_fullcc",
    image_size=224,
    **CLIP,
)
def clip_vit_b16_metaclip(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="clip-eva02-b16-merged2b",
    dim=512,
    params=149_691_136,
    license="mit",
    paper="arxiv:2303.15389",
    hub_id="timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
    source="open_clip:EVA02-B-16/merged2b_s8b_b131k",
    image_size=224,
    **CLIP,
)
def clip_eva02_b16_merged2b(spec: ModelSpec) -> "Embedder":
    return open_clip_towers(spec)


@register_model(
    name="clip-test",
    dim=16,
    params=848_448,
    license="apache-2.0",
    paper=OPENAI,
    image_size=32,
    max_tokens=16,
    **DUAL,
)
def clip_test(spec: ModelSpec) -> "Embedder":
    return tiny_towers(spec, {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16}, {})
