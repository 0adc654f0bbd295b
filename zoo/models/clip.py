"""CLIP dual towers: contrastive image-text pretraining at scale (Radford et al., 2021, arxiv:2103.00020).

Shapes, preprocessing and weights are open_clip's. Names say the backbone, then the data. Weights trained with OpenAI's
QuickGELU name an architecture that ends in "-quickgelu": with the other activation they lose accuracy.
"""

from typing import Any

from zoo.models.parts import Cls, Embedder, Identity, OpenClipImage, OpenClipText, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

PAPER = "arxiv:2103.00020"
DUAL: Facts = {"modalities": {"image", "text"}, "demo": "search"}
CLIP: Facts = {**DUAL, "max_tokens": 77, "languages": ("en",)}
# Of every model on a backbone, whatever it was trained on.
VIT_B32: Facts = {**CLIP, "dim": 512, "params": 151_277_312, "image_size": 224}
VIT_B32_256: Facts = {**CLIP, "dim": 512, "params": 151_288_832, "image_size": 256}
VIT_B16: Facts = {**CLIP, "dim": 512, "params": 149_620_736, "image_size": 224}
VIT_L14: Facts = {**CLIP, "dim": 768, "params": 427_616_512, "image_size": 224}
EVA02_B16: Facts = {**CLIP, "dim": 512, "params": 149_691_136, "image_size": 224}
# Of every model that was trained on a data set, whatever its backbone.
OPENAI: Facts = {"license": "mit", "paper": PAPER}
LAION: Facts = {"license": "mit", "paper": "arxiv:2212.07143"}
DATACOMP: Facts = {"license": "mit", "paper": "arxiv:2304.14108"}
DFN: Facts = {"license": "apple-amlr", "paper": "arxiv:2309.17425"}
METACLIP: Facts = {"license": "cc-by-nc-4.0", "paper": "arxiv:2309.16671"}
EVA: Facts = {"license": "mit", "paper": "arxiv:2303.15389"}


def dual_towers(spec: ModelSpec, model_cfg: dict[str, Any], preprocess: dict[str, Any]) -> Embedder:
    """open_clip's two towers with random weights, images prepared as `preprocess` says."""
    from zoo.encoders.open_clip_config import transform_of

    image = OpenClipImage(model_cfg, transform_of(model_cfg, preprocess))
    text = OpenClipText(model_cfg)
    return Embedder(spec, [Tower(image, Cls(), Identity()), Tower(text, Cls(), Identity())])


def open_clip_towers(spec: ModelSpec) -> Embedder:
    """Both towers of the architecture that `spec.source` names, images prepared as its tag was trained."""
    from zoo.encoders.open_clip_config import parse_name, tag_config

    return dual_towers(spec, *tag_config(*parse_name(spec.source.removeprefix("open_clip:"))))


def tiny_towers(spec: ModelSpec, vision_cfg: dict[str, Any], text_cfg: dict[str, Any], **preprocess: Any) -> Embedder:
    """The towers of a test model, of open_clip's parts: its BPE tokenizer comes with the package."""
    text_cfg = {
        "context_length": spec.max_tokens,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
        **text_cfg,
    }
    vision_cfg = {"image_size": spec.image_size, **vision_cfg}
    return dual_towers(spec, {"embed_dim": spec.dim, "vision_cfg": vision_cfg, "text_cfg": text_cfg}, preprocess)


def openai(arch: str, repository: str, revision: str | None = None) -> Facts:
    """Where OpenAI's weights lie: open_clip's name of the architecture, and timm's of the copy on the Hub."""
    return {
        "source": f"open_clip:{arch}-quickgelu/openai",
        "hub_id": f"timm/{repository}_clip_224.openai",
        "revision": revision,
        **OPENAI,
    }


def datacomp_xl(arch: str, revision: str | None = None) -> Facts:
    """Where the weights of DataComp's largest pool lie, 13 billion samples seen."""
    return {
        "source": f"open_clip:{arch}/datacomp_xl_s13b_b90k",
        "hub_id": f"laion/CLIP-{arch}-DataComp.XL-s13B-b90K",
        "revision": revision,
        **DATACOMP,
    }


@register_model(**VIT_B32, **openai("ViT-B-32", "vit_base_patch32", "ab5b8ef490e86faa07d3523926b842c765de1de5"))
def clip_vit_b32_openai(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(**VIT_B16, **openai("ViT-B-16", "vit_base_patch16"))
def clip_vit_b16_openai(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(**VIT_L14, **openai("ViT-L-14", "vit_large_patch14"))
def clip_vit_l14_openai(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(
    source="open_clip:ViT-B-32/laion2b_s34b_b79k", hub_id="laion/CLIP-ViT-B-32-laion2B-s34B-b79K", **VIT_B32, **LAION
)
def clip_vit_b32_laion2b(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(**VIT_B32, **datacomp_xl("ViT-B-32", "f0e2ffa09cbadab3db6a261ec1ec56407ce42912"))
def clip_vit_b32_datacomp(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(
    source="open_clip:ViT-B-32-256/datacomp_s34b_b86k",
    hub_id="laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
    **VIT_B32_256,
    **DATACOMP,
)
def clip_vit_b32_256_datacomp(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(**VIT_B16, **datacomp_xl("ViT-B-16", "d110532e8d4ff91c574ee60a342323f28468b287"))
def clip_vit_b16_datacomp(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(**VIT_L14, **datacomp_xl("ViT-L-14", "84c9828e63dc9a9351d1fe637c346d4c1c4db341"))
def clip_vit_l14_datacomp(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


# DFN-2B's ViT-B/16 is left out: open_clip 3.3 marks it QuickGELU, its own configuration on the Hub and timm do not.
@register_model(source="open_clip:ViT-L-14-quickgelu/dfn2b", hub_id="apple/DFN2B-CLIP-ViT-L-14", **VIT_L14, **DFN)
def clip_vit_l14_dfn2b(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(
    source="open_clip:ViT-B-16-quickgelu/metaclip_fullcc",
    hub_id="timm/vit_base_patch16_clip_224.metaclip_2pt5b",
    **VIT_B16,
    **METACLIP,
)
def clip_vit_b16_metaclip(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(
    source="open_clip:EVA02-B-16/merged2b_s8b_b131k",
    hub_id="timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
    **EVA02_B16,
    **EVA,
)
def clip_eva02_b16_merged2b(spec: ModelSpec) -> Embedder:
    return open_clip_towers(spec)


@register_model(dim=16, params=848_448, license="apache-2.0", paper=PAPER, image_size=32, max_tokens=16, **DUAL)
def clip_test(spec: ModelSpec) -> Embedder:
    return tiny_towers(spec, {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16}, {})
