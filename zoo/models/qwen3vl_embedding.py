"""Qwen3-VL-Embedding: an instruction as system text, one turn of videos, images and text, and the state of the last token.

Li et al., 2026, arxiv:2601.04720; read as src/models/qwen3_vl_embedding.py of QwenLM/Qwen3-VL-Embedding does. There an
empty input becomes the word NULL; here it is an error (EmptyItemError).
"""

from dataclasses import replace

from zoo.models.backbones import ON_QWEN3_VL, TINY, TINY_PIXELS, byte_processor, qwen3_vl, tiny_qwen3_vl
from zoo.models.parts import Embedder, Identity, LastToken, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import ImageLimits, SequenceFormat, VideoLimits
from zoo.spec import ModelSpec

PAPER = "arxiv:2601.04720"
TOKEN = 32 * 32  # pixels
# Videos first, then images, whatever their order in the item, unless a text stands before one of them. A video's token becomes all its frames, each with its time
# and its own marks, so that it stands without marks here. Budgets: MIN_PIXELS, MAX_PIXELS, MAX_TOTAL_PIXELS of the
# authors; of one frame VIDEO_MIN_TOKEN_NUM and VIDEO_MAX_TOKEN_NUM of qwen-vl-utils.
# What the tokenizer adds at the end, if anything (Qwen3-Embedding's adds <|endoftext|>), it adds here as in their call.
QWEN3VL = SequenceFormat(
    prompt=(
        '<|im_start|>system\n{{ instruction or "Represent the user\'s input." }}<|im_end|>\n'
        "<|im_start|>user\n{{ videos ~ images ~ text if content == media ~ text else content }}<|im_end|>\n<|im_start|>assistant\n"
    ),
    backbone="qwen3_vl",
    marks={"image": "<|vision_start|><|image_pad|><|vision_end|>", "video": "<|video_pad|>"},
    special_tokens=True,
    positions="mrope",
    punctuate=True,
    join="",
)
IMAGES = ImageLimits(pixels=(4 * TOKEN, 1800 * TOKEN), pre_resize=(32, 4 * TOKEN, 1800 * TOKEN))
VIDEOS = VideoLimits(
    frames=64,
    fps=1.0,
    pixels=(128 * TOKEN, 768 * TOKEN),
    total_pixels=10 * 768 * TOKEN,
    # qwen-vl-utils hands `fetch_image` the side of a token where it takes that of a patch, and doubles it.
    pre_resize=(64, 4 * 64 * 64, 16384 * 64 * 64),
)
# By default queries have "Represent the user's input.", as documents; the words of the authors' example go by a name.
PROMPTS = {"retrieve": "Retrieve images or text relevant to the user's query."}
FACTS: Facts = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "languages": ("multilingual",),
    "paper": PAPER,
    "max_tokens": 8192,  # what the authors' code cuts at; the backbone reads 32,768
    "prompts": PROMPTS,
    "demo": "compose",
    "format": QWEN3VL,
    "media": {"image": IMAGES, "video": VIDEOS},
}


@register_model(hub_id="Qwen/Qwen3-VL-Embedding-2B", dims=(2048, 1024, 512, 256, 128, 64), **ON_QWEN3_VL["2b"], **FACTS)
def qwen3vl_embedding_2b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen3_vl("2b")), LastToken(), Identity())])


@register_model(
    hub_id="Qwen/Qwen3-VL-Embedding-8B", dims=(4096, 2048, 1024, 512, 256, 128, 64), **ON_QWEN3_VL["8b"], **FACTS
)
def qwen3vl_embedding_8b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen3_vl("8b")), LastToken(), Identity())])


TINY_VIDEOS = replace(VIDEOS, frames=8, pixels=(4 * TOKEN, 6 * TOKEN), total_pixels=32 * TOKEN)
TINY_MEDIA = {"image": ImageLimits(pixels=TINY_PIXELS, pre_resize=(32, *TINY_PIXELS)), "video": TINY_VIDEOS}
TINY_FACTS: Facts = {**FACTS, **TINY, "languages": (), "paper": None, "max_tokens": 1024, "media": TINY_MEDIA}


@register_model(dims=(32, 16), params=143_424, **TINY_FACTS)
def qwen3vl_test(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, tiny_qwen3_vl(), byte_processor("qwen3_vl"))
    return Embedder(spec, [Tower(encoder, LastToken(), Identity())])
