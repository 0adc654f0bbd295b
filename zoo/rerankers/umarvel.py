"""U-MARVEL's reranker: "Yes" against "No" after a query and a candidate (Li et al., 2025, arxiv:2507.14902)."""

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.models.backbones import ON_QWEN2_VL, QWEN_MEDIA, byte_processor, qwen2_vl, tiny_qwen2_vl
from zoo.models.umarvel import IMAGES, PAPER, TINY_IMAGES
from zoo.reranking.parts import of_backbone, random_reranker
from zoo.reranking.registry import Facts, register_reranker
from zoo.reranking.spec import RerankerFormat, RerankerSpec
from zoo.sequences import SequenceFormat

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker

# dataset/datasets_mbeir_eval_rerank.py of chaxjli/U-MARVEL, whose line goes on in the middle of a string, so that the
# indentation is part of the prompt; the misspelling is theirs.
UMARVEL = RerankerFormat(
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


FACTS: Facts = {
    "modalities": {"text", "image"},
    "license": "mit",  # of the code
    "languages": ("en",),
    "paper": PAPER,
    "max_tokens": 2048,
    "judge": UMARVEL,
}


# The authors publish how they train and call it, and no weights; those that one trains so are opened `like` this.
@register_reranker(**of_backbone(ON_QWEN2_VL["7b"]), **FACTS)
def u_marvel_reranker_qwen2vl_7b(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, qwen2_vl("7b"))


TINY_FACTS: Facts = {**FACTS, "languages": (), "paper": None, "max_tokens": 1024}


@register_reranker(params=112_704, **{**TINY_FACTS, "judge": replace(UMARVEL, media={"image": TINY_IMAGES})})
def u_marvel_reranker_test(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, tiny_qwen2_vl(), byte_processor())
