"""Qwen3-VL-Reranker: the probability of "yes" after one turn that holds instruction, query and document.

Li et al., 2026, arxiv:2601.04720; read as src/models/qwen3_vl_reranker.py of QwenLM/Qwen3-VL-Embedding does.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.models.backbones import TINY_PIXELS, byte_processor, qwen3_vl, tiny_qwen3_vl
from zoo.reranking.parts import random_reranker
from zoo.reranking.registry import register_reranker
from zoo.reranking.spec import Judge, RerankerSpec
from zoo.sequences import ImageLimits, SequenceFormat, VideoLimits

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker

TOKEN = 32 * 32  # pixels
# Budgets as those of the embedders (zoo/models/qwen3vl_embedding.py); an instruction gets no full stop here.
QWEN3VL = Judge(
    SequenceFormat(
        prompt=(
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: '
            "{{ instruction or 'Given a search query, retrieve relevant candidates that answer the query.' }}"
            "{{ content }}<|im_end|>\n<|im_start|>assistant\n"
        ),
        backbone="qwen3_vl",
        marks={"image": "<|vision_start|><|image_pad|><|vision_end|>", "video": "<|video_pad|>"},
        special_tokens=True,
        positions="mrope",
        join="",
    ),
    media={
        "image": ImageLimits(pixels=(4 * TOKEN, 1800 * TOKEN), pre_resize=(32, 4 * TOKEN, 1800 * TOKEN)),
        "video": VideoLimits(
            frames=64,
            fps=1.0,
            pixels=(128 * TOKEN, 768 * TOKEN),
            total_pixels=10 * 768 * TOKEN,
            pre_resize=(64, 4 * 64 * 64, 16384 * 64 * 64),
        ),
    },
    query="<Query>:",
    document="\n<Document>:",
    yes="yes",
    no="no",
    kinds=("video", "image", "text"),
)
FACTS = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "languages": ("multilingual",),
    "paper": "arxiv:2601.04720",
    "max_tokens": 10_240,  # of the authors' code; the backbone reads 32,768
    "judge": QWEN3VL,
}


@register_reranker(
    name="qwen3vl-reranker-2b",
    hub_id="Qwen/Qwen3-VL-Reranker-2B",
    base="Qwen/Qwen3-VL-2B-Instruct",
    params=2_127_532_032,
    **FACTS,
)
def qwen3vl_reranker_2b(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, qwen3_vl("2b"))


@register_reranker(
    name="qwen3vl-reranker-8b",
    hub_id="Qwen/Qwen3-VL-Reranker-8B",
    base="Qwen/Qwen3-VL-8B-Instruct",
    params=8_144_793_840,
    **FACTS,
)
def qwen3vl_reranker_8b(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, qwen3_vl("8b"))


TINY_IMAGES = ImageLimits(pixels=TINY_PIXELS, pre_resize=(32, *TINY_PIXELS))
TINY_VIDEOS = VideoLimits(
    frames=8,
    fps=1.0,
    pixels=(4 * TOKEN, 6 * TOKEN),
    total_pixels=32 * TOKEN,
    pre_resize=(64, 4 * 64 * 64, 16384 * 64 * 64),
)


@register_reranker(
    name="qwen3vl-reranker-test",
    modalities={"text", "image", "video"},
    license="apache-2.0",
    max_tokens=1024,
    params=143_424,
    judge=replace(QWEN3VL, media={"image": TINY_IMAGES, "video": TINY_VIDEOS}),
)
def qwen3vl_reranker_test(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, tiny_qwen3_vl(), byte_processor("qwen3_vl"))
