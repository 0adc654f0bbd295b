"""Qwen3-VL-Reranker: the probability of "yes" after one turn that holds instruction, query and document.

Li et al., 2026, arxiv:2601.04720; read as src/models/qwen3_vl_reranker.py of QwenLM/Qwen3-VL-Embedding does.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.models.backbones import ON_QWEN3_VL, byte_processor, qwen3_vl, tiny_qwen3_vl
from zoo.models.qwen3vl_embedding import IMAGES, PAPER, TINY_MEDIA, VIDEOS
from zoo.reranking.parts import of_backbone, random_reranker
from zoo.reranking.registry import Facts, register_reranker
from zoo.reranking.spec import RerankerFormat, RerankerSpec
from zoo.sequences import SequenceFormat

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker

# Media as the embedders read them; an instruction gets no full stop here.
QWEN3VL = RerankerFormat(
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
    media={"image": IMAGES, "video": VIDEOS},
    query="<Query>:",
    document="\n<Document>:",
    yes="yes",
    no="no",
    kinds=("video", "image", "text"),
)
FACTS: Facts = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "languages": ("multilingual",),
    "paper": PAPER,
    "max_tokens": 10_240,  # of the authors' code; the backbone reads 32,768
    "judge": QWEN3VL,
}


@register_reranker(hub_id="Qwen/Qwen3-VL-Reranker-2B", **of_backbone(ON_QWEN3_VL["2b"]), **FACTS)
def qwen3vl_reranker_2b(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, qwen3_vl("2b"))


@register_reranker(hub_id="Qwen/Qwen3-VL-Reranker-8B", **of_backbone(ON_QWEN3_VL["8b"]), **FACTS)
def qwen3vl_reranker_8b(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, qwen3_vl("8b"))


TINY_FACTS: Facts = {**FACTS, "languages": (), "paper": None, "max_tokens": 1024}


@register_reranker(params=143_424, **{**TINY_FACTS, "judge": replace(QWEN3VL, media=TINY_MEDIA)})
def qwen3vl_reranker_test(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, tiny_qwen3_vl(), byte_processor("qwen3_vl"))
