"""GME and related models (Qwen-embed): one chat turn with the instruction as system text, and the state of the end token after it.

GME: Zhang et al., 2024, arxiv:2412.16855. Ops-MM-embedding and RzenEmbed (Jian et al., 2025, arxiv:2510.27350) differ in
positions, pixel budgets and videos; GVE (Guo et al., 2025, arxiv:2510.27571) in its backbone, Qwen2.5-VL.
"""

from dataclasses import replace

from zoo.models.backbones import (
    ON_QWEN2_VL,
    ON_QWEN25_VL,
    QWEN_MEDIA,
    TINY_PIXELS,
    TINY_QWEN2_VL,
    byte_processor,
    qwen2_5_vl,
    qwen2_vl,
    tiny_qwen2_vl,
)
from zoo.models.parts import Embedder, Identity, LastToken, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import ImageLimits, SequenceFormat, VideoLimits
from zoo.spec import ModelSpec

PAPER = "arxiv:2412.16855"
PIXELS = (256 * 28 * 28, 1280 * 28 * 28)
IMAGE, VIDEO = QWEN_MEDIA["image"], QWEN_MEDIA["video"]
# The end token after the assistant's header is what is pooled.
QWEN_EMBED = (
    "<|im_start|>system\n{{ instruction or 'You are a helpful assistant.' }}<|im_end|>\n"
    "<|im_start|>user\n{{ content }}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
)
# By default queries have the system text, as documents always do; the words of the authors' example go by a name.
PROMPTS = {"find-image": "Find an image that matches the given text."}
# Instructions are read as they are given: the authors' gme_inference.py adds no full stop, and has 256 tokens as the least
# of an image; mteb's wrapper has 4. Before the processor its `fetch_image` resizes to 4 to 16,384 tokens, and clamps sides
# that come out over 200 : 1. The decoder is called without positions, so that tokens are counted.
CHAT = SequenceFormat(prompt=QWEN_EMBED, backbone="qwen2_vl", marks={"image": IMAGE}, join="")
IMAGES = ImageLimits(pixels=PIXELS, pre_resize=(28, 4 * 28 * 28, 16384 * 28 * 28), pre_ratio="clamp")
GME: Facts = {
    "modalities": {"text", "image"},
    "license": "apache-2.0",
    "languages": ("en", "zh"),
    "paper": PAPER,
    "max_tokens": 1800,
    "prompts": PROMPTS,
    "demo": "compose",
    "format": CHAT,
    "media": {"image": IMAGES},
}
# Called as a whole model, which gives images their rows and columns; videos are read as eight images. Its `fetch_image`
# (ops_mm_embedding_v1.py) has the processor's own budget.
OPS_MM: Facts = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "languages": ("multilingual",),
    "max_tokens": 32768,
    "demo": "compose",
    "format": replace(CHAT, positions="mrope", marks={"image": IMAGE, "video": IMAGE}),
    "media": {"image": replace(IMAGES, pre_resize=(28, *PIXELS)), "video": VideoLimits(frames=8)},
}
# rzen_embed_inference.py: GME's `fetch_image`, for frames too. The instruction stands before the text, without a space; the
# system text is always the same.
RZEN_EMBED: Facts = {
    "format": replace(
        CHAT,
        prompt="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "{% if content == media ~ text %}{{ media }}{{ instruction }}{{ text }}"
        "{% else %}{{ instruction }}{{ content }}{% endif %}"
        "<|im_end|>\n<|im_start|>assistant\n<|endoftext|>",
        marks={"image": IMAGE, "video": IMAGE},
    ),
    "media": {"image": IMAGES, "video": VideoLimits(frames=8, pixels=(160 * 28 * 28, 180 * 28 * 28))},
}
# Qwen2.5-VL called as a whole; videos before images, one frame per second and at most eight; images as its processor has them.
GVE: Facts = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "languages": ("en",),
    "paper": "arxiv:2510.27571",
    "max_tokens": 4096,
    "demo": "compose",
    "format": replace(
        CHAT,
        prompt=QWEN_EMBED.replace(
            "{{ content }}", "{{ videos ~ images ~ text if content == media ~ text else content }}"
        ),
        backbone="qwen2_5_vl",
        positions="mrope",
        marks={"image": IMAGE, "video": VIDEO},
    ),
    "media": {
        "image": ImageLimits(pixels=(4 * 28 * 28, 16384 * 28 * 28)),
        "video": VideoLimits(frames=8, fps=1.0, pixels=(128 * 28 * 28, 200 * 28 * 28)),
    },
}


@register_model(
    hub_id="Alibaba-NLP/gme-Qwen2-VL-2B-Instruct",
    revision="ce765ae71b8cdb208203cd8fb64a170b1b84293a",  # plain Qwen2-VL, as mteb has it; later ones bring code
    **ON_QWEN2_VL["2b"],
    **GME,
)
def gme_qwen2vl_2b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("2b")), LastToken(), Identity())])


@register_model(
    hub_id="Alibaba-NLP/gme-Qwen2-VL-7B-Instruct",
    revision="477027a6480f8630363be77751f169cc3434b673",
    **ON_QWEN2_VL["7b"],
    **GME,
)
def gme_qwen2vl_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("7b")), LastToken(), Identity())])


@register_model(
    hub_id="OpenSearch-AI/Ops-MM-embedding-v1-2B",
    revision="69c23ac5595bb7fb3a9959df96fe155b3650c01e",
    **ON_QWEN2_VL["2b"],
    **OPS_MM,
)
def ops_mm_embedding_v1_2b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("2b")), LastToken(), Identity())])


@register_model(
    hub_id="OpenSearch-AI/Ops-MM-embedding-v1-7B",
    revision="e9179f601f9bf21d2fd20136c11eb4ae2ea42859",
    **ON_QWEN2_VL["7b"],
    **OPS_MM,
)
def ops_mm_embedding_v1_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("7b")), LastToken(), Identity())])


@register_model(
    modalities={"text", "image", "video"},
    license="mit",
    paper="arxiv:2510.27350",
    hub_id="qihoo360/RzenEmbed",
    revision="ea95c339008f9639420fcb33ba2ba606ea94be78",
    max_tokens=2000,
    demo="compose",
    languages=("en", "zh"),
    **ON_QWEN2_VL["7b"],
    **RZEN_EMBED,
)
def rzenembed_qwen2vl_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("7b")), LastToken(), Identity())])


@register_model(
    name="gve-qwen2.5vl-3b",
    hub_id="Alibaba-NLP/GVE-3B",
    revision="2c2962d4bb1503b478b8a0d975d7b9fdcefbd3f3",
    **ON_QWEN25_VL["3b"],
    **GVE,
)
def gve_qwen25vl_3b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_5_vl("3b")), LastToken(), Identity())])


@register_model(
    name="gve-qwen2.5vl-7b",
    hub_id="Alibaba-NLP/GVE-7B",
    revision="3046045eeed08e1d8731c3b943827b81b2b20817",
    **ON_QWEN25_VL["7b"],
    **GVE,
)
def gve_qwen25vl_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_5_vl("7b")), LastToken(), Identity())])


TINY_IMAGES = ImageLimits(pixels=TINY_PIXELS, pre_resize=(28, 28 * 28, 64 * 28 * 28))


@register_model(**{**GME, "languages": (), "paper": None, "media": {"image": TINY_IMAGES}, **TINY_QWEN2_VL})
def gme_test(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, tiny_qwen2_vl(), byte_processor()), LastToken(), Identity())])
