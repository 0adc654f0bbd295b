"""U-MARVEL's reranker: "Yes" against "No" after a query and a candidate (Li et al., 2025, arxiv:2507.14902)."""

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.models.backbones import QWEN_MEDIA, TINY_PIXELS, byte_processor, qwen2_vl, tiny_qwen2_vl
from zoo.reranking.parts import random_reranker
from zoo.reranking.registry import register_reranker
from zoo.reranking.spec import Judge, RerankerSpec
from zoo.sequences import ImageLimits, SequenceFormat

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker

PIXELS = (4 * 28 * 28, 300 * 28 * 28)  # collators/qwen2_vision_process.py
IMAGES = ImageLimits(pixels=PIXELS, pre_resize=(28, *PIXELS), pre_ratio="both")
# dataset/datasets_mbeir_eval_rerank.py of chaxjli/U-MARVEL, whose line goes on in the middle of a string, so that the
# indentation is part of the prompt; the misspelling is theirs.
UMARVEL = Judge(
    SequenceFormat(
        prompt=(
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
            "I will provide you with a query and a candidate. Please evaluate whether the candidate"
            "                        meets the requirements of the query. If it does, respond with 'Yes'; if it doesn't, "
            "responed with 'No'.{{ content }}<|im_end|>\n<|im_start|>assistant\n"
        ),
        backbone="qwen2_vl",
        marks={"image": QWEN_MEDIA["image"]},
        positions="mrope",
        join="",
    ),
    media={"image": IMAGES},
    query="Query:",
    document="Candidate:",
    yes="Yes",
    no="No",
    asked="query",
)


# The authors publish how they train and call it, and no weights; those that one trains so are opened `like` this.
@register_reranker(
    name="u-marvel-reranker-qwen2vl-7b",
    modalities={"text", "image"},
    license="mit",  # of the code
    languages=("en",),
    paper="arxiv:2507.14902",
    base="Qwen/Qwen2-VL-7B-Instruct",
    params=7_746_378_240,
    max_tokens=2048,
    judge=UMARVEL,
)
def u_marvel_reranker_qwen2vl_7b(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, qwen2_vl("7b"))


@register_reranker(
    name="u-marvel-reranker-test",
    modalities={"text", "image"},
    license="mit",
    max_tokens=1024,
    params=112_704,
    judge=replace(UMARVEL, media={"image": replace(IMAGES, pixels=TINY_PIXELS, pre_resize=(28, *TINY_PIXELS))}),
)
def u_marvel_reranker_test(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, tiny_qwen2_vl(), byte_processor())
