"""Qwen3-VL-Embedding: an instruction as system text, one turn of films, pictures and words, and the state of the last token.

Li et al., 2026, arxiv:2601.04720; read as src/models/qwen3_vl_embedding.py of QwenLM/Qwen3-VL-Embedding does. There an
empty input becomes the word NULL; here it is an error (EmptyItemError).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.models.backbones import TINY_PIXELS, byte_processor, qwen3_vl, tiny_qwen3_vl, vlm_tower
from zoo.reading import Reading
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

PAPER = "arxiv:2601.04720"
TOKEN = 32 * 32  # pixels
# Films first, then pictures, whatever their order in the item, unless a text stands before one of them. A film's token becomes all its frames, each with its time
# and its own marks, so that it stands without marks here. Budgets: MIN_PIXELS, MAX_PIXELS, MAX_TOTAL_PIXELS of the
# authors; of one frame VIDEO_MIN_TOKEN_NUM and VIDEO_MAX_TOKEN_NUM of qwen-vl-utils.
# What the tokenizer adds at the end, if anything (Qwen3-Embedding's adds <|endoftext|>), it adds here as in their call.
QWEN3VL = Reading(
    prompt=(
        '<|im_start|>system\n{{ instruction or "Represent the user\'s input." }}<|im_end|>\n'
        "<|im_start|>user\n{{ videos ~ images ~ text if content == media ~ text else content }}<|im_end|>\n<|im_start|>assistant\n"
    ),
    backbone="qwen3_vl",
    image="<|vision_start|><|image_pad|><|vision_end|>",
    video="<|video_pad|>",
    special_tokens=True,
    positions="mrope",
    pixels=(4 * TOKEN, 1800 * TOKEN),
    frame_pixels=(128 * TOKEN, 768 * TOKEN),
    total_pixels=10 * 768 * TOKEN,
    frames=64,
    fps=1.0,
    punctuate=True,
    join="",
    pre_resize=(32, 4 * TOKEN, 1800 * TOKEN),
    # qwen-vl-utils hands `fetch_image` the side of a token where it takes that of a patch, and doubles it.
    pre_frames=(64, 4 * 64 * 64, 16384 * 64 * 64),
)
# By default queries have "Represent the user's input.", as documents; the words of the authors' example go by a name.
PROMPTS = {"retrieve": "Retrieve images or text relevant to the user's query."}
FACTS = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "languages": ("multilingual",),
    "paper": PAPER,
    "max_tokens": 8192,  # what the authors' code cuts at; the backbone reads 32,768
    "prompts": PROMPTS,
    "demo": "compose",
    "reading": QWEN3VL,
}


@register_model(
    name="qwen3vl-embedding-2b",
    dim=2048,
    dims=(2048, 1024, 512, 256, 128, 64),
    params=2_127_532_032,
    hub_id="Qwen/Qwen3-VL-Embedding-2B",
    base="Qwen/Qwen3-VL-2B-Instruct",
    **FACTS,
)
def qwen3vl_embedding_2b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen3_vl("2b"))


@register_model(
    name="qwen3vl-embedding-8b",
    dim=4096,
    dims=(4096, 2048, 1024, 512, 256, 128, 64),
    params=8_144_793_840,
    hub_id="Qwen/Qwen3-VL-Embedding-8B",
    base="Qwen/Qwen3-VL-8B-Instruct",
    **FACTS,
)
def qwen3vl_embedding_8b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen3_vl("8b"))


@register_model(
    name="qwen3vl-test",
    dim=32,
    dims=(32, 16),
    params=143_424,
    modalities={"text", "image", "video"},
    license="apache-2.0",
    max_tokens=1024,
    prompts=PROMPTS,
    demo="compose",
    reading=replace(
        QWEN3VL,
        pixels=TINY_PIXELS,
        frame_pixels=(4 * TOKEN, 6 * TOKEN),
        total_pixels=32 * TOKEN,
        frames=8,
        pre_resize=(32, *TINY_PIXELS),
    ),
)
def qwen3vl_test(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, tiny_qwen3_vl(), byte_processor("qwen3_vl"))
