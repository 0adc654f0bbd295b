"""WeMM-Embedding: one turn of images, videos and texts, and the state of the token <embedding> after it.

Zhou et al., 2026, arxiv:2608.24053; read as examples/transformers_inference.py of Tencent/WeMM-Embedding does, with at most
64 frames of a video (the authors' evaluation; the checkpoint's own limit is 768). Instructions are words of the turn.
"""

from dataclasses import replace

from zoo.models.backbones import ON_QWEN35, TINY, TINY_PIXELS, byte_processor, qwen3_5, tiny_qwen3_5
from zoo.models.parts import Embedder, Identity, LastToken, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import ImageLimits, SequenceFormat, VideoLimits
from zoo.spec import ModelSpec

PAPER = "arxiv:2608.24053"
TOKEN = 32 * 32  # pixels
VOCABULARY = 248_078  # Qwen3.5's without its unused end, and <embedding>
# What lies between two marks loses a line break at its end ("user" before an image): a rule of the checkpoint's
# tokenizer, which `open_processor` keeps. An instruction stands before the words as mteb puts it there (the card has none).
# Images and frames are resized twice, by qwen-vl-utils to its own defaults and by the processor as its files say (of a video
# 25,165,824 pixels at most, Qwen3.5's; not verified).
WEMM = SequenceFormat(
    prompt=(
        "<|im_start|>user\n"
        "{% if not instruction %}{{ content }}"
        "{% elif content == media ~ text %}{{ media }}{{ instruction }}{{ ' ' if text else '' }}{{ text }}"
        "{% else %}{{ instruction }} {{ content }}{% endif %}"
        "<|im_end|><embedding>"
    ),
    backbone="qwen3_5",
    marks={"image": "<|vision_start|><|image_pad|><|vision_end|>", "video": "<|video_pad|>"},
    special_tokens=True,
    positions="mrope",
    join="",
)
IMAGES = ImageLimits(pre_resize=(32, 4 * TOKEN, 16384 * TOKEN))
VIDEOS = VideoLimits(
    frames=64,
    fps=2.0,
    pixels=(128 * TOKEN, 768 * TOKEN),
    pre_resize=(64, 4 * 64 * 64, 16384 * 64 * 64),
    twice=True,
)
FACTS: Facts = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "languages": ("en", "zh"),
    "paper": PAPER,
    "max_tokens": 262_144,
    "demo": "compose",
    "format": WEMM,
    "media": {"image": IMAGES, "video": VIDEOS},
}


@register_model(
    hub_id="tencent/WeMM-Embedding-2B",
    dims=(2048, 1024, 512, 256, 128, 64),
    params=2_212_746_048,
    **ON_QWEN35["2b"],
    **FACTS,
)
def wemm_embedding_2b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen3_5("2b", VOCABULARY)), LastToken(), Identity())])


@register_model(
    hub_id="tencent/WeMM-Embedding-4B",
    dims=(2560, 1024, 512, 256, 128, 64),
    params=4_538_646_016,
    **ON_QWEN35["4b"],
    **FACTS,
)
def wemm_embedding_4b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen3_5("4b", VOCABULARY)), LastToken(), Identity())])


@register_model(
    hub_id="tencent/WeMM-Embedding-9B",
    dims=(4096, 2048, 1024, 512, 256, 128, 64),
    params=8_391_703_792,
    **ON_QWEN35["9b"],
    **FACTS,
)
def wemm_embedding_9b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen3_5("9b", VOCABULARY)), LastToken(), Identity())])


TINY_MEDIA = {
    "image": replace(IMAGES, pixels=TINY_PIXELS),
    "video": replace(VIDEOS, frames=8, pixels=(4 * TOKEN, 6 * TOKEN)),
}
TINY_FACTS: Facts = {**FACTS, **TINY, "languages": (), "paper": None, "max_tokens": 1024}


@register_model(dims=(32, 16), params=144_688, **{**TINY_FACTS, "media": TINY_MEDIA})
def wemm_test(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, tiny_qwen3_5(), byte_processor("qwen3_vl"))
    return Embedder(spec, [Tower(encoder, LastToken(), Identity())])
