"""GME and its kin (Qwen-embed): one chat turn with the instruction as system text, and the state of the end token behind it.

GME: Zhang et al., 2024, arxiv:2412.16855. Ops-MM-embedding and RzenEmbed (Jian et al., 2025, arxiv:2510.27350) differ in
positions, pixel budgets and films; GVE (Guo et al., 2025, arxiv:2510.27571) in its backbone, Qwen2.5-VL.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo.models.backbones import (
    ON_QWEN2_VL,
    QWEN_MEDIA,
    TINY_PIXELS,
    byte_processor,
    qwen2_5_vl,
    qwen2_vl,
    tiny_qwen2_vl,
    vlm_tower,
)
from zoo.reading import Reading
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

PAPER = "arxiv:2412.16855"
PIXELS = (256 * 28 * 28, 1280 * 28 * 28)
# The end token behind the assistant's header is what is pooled.
QWEN_EMBED = (
    "<|im_start|>system\n{{ instruction or 'You are a helpful assistant.' }}<|im_end|>\n"
    "<|im_start|>user\n{{ content }}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
)
# Instructions are read as they are given: the authors' gme_inference.py adds no full stop, and has 256 tokens as the least
# of a picture; mteb's wrapper has 4. Before the processor its `fetch_image` resizes to 4 to 16,384 tokens, and clamps sides
# that come out over 200 : 1. The decoder is called without positions, so that tokens are counted.
GME = Reading(
    prompt=QWEN_EMBED,
    backbone="qwen2_vl",
    image=QWEN_MEDIA["image"],
    positions="sequential",
    pixels=PIXELS,
    join="",
    pre_resize=(28, 4 * 28 * 28, 16384 * 28 * 28),
    pre_ratio="clamp",
)
# Called as a whole model, which gives pictures their rows and columns; films are read as eight pictures. Its `fetch_image`
# (ops_mm_embedding_v1.py) has the processor's own budget.
OPS_MM = replace(GME, positions="mrope", video=QWEN_MEDIA["image"], frames=8, pre_resize=(28, *PIXELS))
# rzen_embed_inference.py: GME's `fetch_image`, for frames too. The instruction stands before the text, without a space; the
# system text is always the same.
RZEN_EMBED = replace(
    GME,
    prompt="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "{% if content == media ~ text %}{{ media }}{{ instruction }}{{ text }}{% else %}{{ instruction }}{{ content }}{% endif %}"
    "<|im_end|>\n<|im_start|>assistant\n<|endoftext|>",
    video=QWEN_MEDIA["image"],
    frames=8,
    frame_pixels=(160 * 28 * 28, 180 * 28 * 28),
)
# Qwen2.5-VL called as a whole; films before pictures, one frame a second and at most eight; pictures as its processor has them.
GVE = replace(
    GME,
    prompt=QWEN_EMBED.replace("{{ content }}", "{{ videos ~ images ~ text if content == media ~ text else content }}"),
    backbone="qwen2_5_vl",
    positions="mrope",
    video=QWEN_MEDIA["video"],
    pixels=(4 * 28 * 28, 16384 * 28 * 28),
    frame_pixels=(128 * 28 * 28, 200 * 28 * 28),
    frames=8,
    fps=1.0,
    pre_resize=(),
    pre_ratio="refuse",
)
# By default queries have the system text, as documents always do; the words of the authors' example go by a name.
PROMPTS = {"find-image": "Find an image that matches the given text."}


GME_FACTS: dict[str, Any] = {
    "modalities": {"text", "image"},
    "license": "apache-2.0",
    "languages": ("en", "zh"),
    "paper": PAPER,
    "max_tokens": 1800,
    "prompts": PROMPTS,
    "demo": "compose",
    "reading": GME,
}


@register_model(
    name="gme-qwen2vl-2b",
    hub_id="Alibaba-NLP/gme-Qwen2-VL-2B-Instruct",
    revision="ce765ae71b8cdb208203cd8fb64a170b1b84293a",  # plain Qwen2-VL, as mteb has it; later ones bring code
    **ON_QWEN2_VL["2b"],
    **GME_FACTS,
)
def gme_qwen2vl_2b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_vl("2b"))


@register_model(
    name="gme-qwen2vl-7b",
    hub_id="Alibaba-NLP/gme-Qwen2-VL-7B-Instruct",
    revision="477027a6480f8630363be77751f169cc3434b673",
    **ON_QWEN2_VL["7b"],
    **GME_FACTS,
)
def gme_qwen2vl_7b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_vl("7b"))


OPS_MM_FACTS: dict[str, Any] = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "languages": ("multilingual",),
    "max_tokens": 32768,
    "demo": "compose",
    "reading": OPS_MM,
}


@register_model(
    name="ops-mm-embedding-v1-2b",
    hub_id="OpenSearch-AI/Ops-MM-embedding-v1-2B",
    revision="69c23ac5595bb7fb3a9959df96fe155b3650c01e",
    **ON_QWEN2_VL["2b"],
    **OPS_MM_FACTS,
)
def ops_mm_embedding_v1_2b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_vl("2b"))


@register_model(
    name="ops-mm-embedding-v1-7b",
    hub_id="OpenSearch-AI/Ops-MM-embedding-v1-7B",
    revision="e9179f601f9bf21d2fd20136c11eb4ae2ea42859",
    **ON_QWEN2_VL["7b"],
    **OPS_MM_FACTS,
)
def ops_mm_embedding_v1_7b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_vl("7b"))


@register_model(
    name="rzenembed-qwen2vl-7b",
    modalities={"text", "image", "video"},
    license="mit",
    paper="arxiv:2510.27350",
    hub_id="qihoo360/RzenEmbed",
    revision="ea95c339008f9639420fcb33ba2ba606ea94be78",
    max_tokens=2000,
    demo="compose",
    reading=RZEN_EMBED,
    languages=("en", "zh"),
    **ON_QWEN2_VL["7b"],
)
def rzenembed_qwen2vl_7b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_vl("7b"))


GVE_FACTS: dict[str, Any] = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "languages": ("en",),
    "paper": "arxiv:2510.27571",
    "max_tokens": 4096,
    "demo": "compose",
    "reading": GVE,
}


@register_model(
    name="gve-qwen2.5vl-3b",
    dim=2048,
    params=3_754_622_976,
    hub_id="Alibaba-NLP/GVE-3B",
    revision="2c2962d4bb1503b478b8a0d975d7b9fdcefbd3f3",
    base="Qwen/Qwen2.5-VL-3B-Instruct",
    **GVE_FACTS,
)
def gve_qwen25vl_3b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_5_vl("3b"))


@register_model(
    name="gve-qwen2.5vl-7b",
    dim=3584,
    params=7_747_169_280,
    hub_id="Alibaba-NLP/GVE-7B",
    revision="3046045eeed08e1d8731c3b943827b81b2b20817",
    base="Qwen/Qwen2.5-VL-7B-Instruct",
    **GVE_FACTS,
)
def gve_qwen25vl_7b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_5_vl("7b"))


@register_model(
    name="gme-test",
    dim=32,
    params=112_704,
    modalities={"text", "image"},
    license="apache-2.0",
    max_tokens=512,
    prompts=PROMPTS,
    demo="compose",
    reading=replace(GME, pixels=TINY_PIXELS, pre_resize=(28, 28 * 28, 64 * 28 * 28), pre_ratio="refuse"),
)
def gme_test(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, tiny_qwen2_vl(), byte_processor())
