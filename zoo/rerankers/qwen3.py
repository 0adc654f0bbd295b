"""Qwen3-Reranker: language models that are asked whether a document meets the requirements, "yes" or "no" (arxiv:2506.05176).

Read as examples/qwen3_reranker_transformers.py of QwenLM/Qwen3-Embedding does: an empty thought stands before the answer, and of too long
a pair the end of the document is left out.
"""

from typing import TYPE_CHECKING

from zoo.models.qwen3_embedding import LARGE, MIDDLE, SEARCH, SMALL, qwen3
from zoo.models.text import byte_tokenizer
from zoo.reranking.parts import random_reranker, wrapped
from zoo.reranking.registry import Facts, register_reranker
from zoo.reranking.spec import RerankerFormat, RerankerSpec
from zoo.sequences import SequenceFormat

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker

QWEN3 = RerankerFormat(
    SequenceFormat(
        prompt=(
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
            f"<Instruct>: {{{{ instruction or '{SEARCH}' }}}}\n{{{{ content }}}}<|im_end|>\n<|im_start|>assistant\n"
            "<think>\n\n</think>\n\n"
        ),
        backbone="qwen3",
        join="",
        truncation="inside",
    ),
    query="<Query>: ",
    document="\n<Document>: ",
    yes="yes",
    no="no",
    kinds=("text",),
)
FACTS: Facts = {
    "modalities": {"text"},
    "license": "apache-2.0",
    "languages": ("multilingual",),
    "paper": "arxiv:2506.05176",
    "max_tokens": 8192,  # of the authors' code; the backbone reads 40,960
    "judge": QWEN3,
}
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")


@register_reranker(
    name="qwen3-reranker-0.6b",
    hub_id="Qwen/Qwen3-Reranker-0.6B",
    revision="6e9e69830b95c52b5fd889b7690dda3329508de3",
    base="Qwen/Qwen3-0.6B-Base",
    params=SMALL.params,
    **FACTS,
)
def qwen3_reranker_600m(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, {**SMALL.config, "max_position_embeddings": 40_960})


@register_reranker(
    hub_id="Qwen/Qwen3-Reranker-4B",
    revision="f16fc5d5d2b9b1d0db8280929242745d79794ef5",
    base="Qwen/Qwen3-4B-Base",
    params=4_021_784_576,
    **FACTS,
)
def qwen3_reranker_4b(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, {**MIDDLE.config, "vocab_size": 151_669})


@register_reranker(
    hub_id="Qwen/Qwen3-Reranker-8B",
    revision="5fa94080caafeaa45a15d11f969d7978e087a3db",
    base="Qwen/Qwen3-8B-Base",
    params=7_567_311_872,
    **FACTS,
)
def qwen3_reranker_8b(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, {**LARGE.config, "vocab_size": 151_669})


@register_reranker(params=23_936, **{**FACTS, "languages": (), "paper": None, "max_tokens": 400})
def qwen3_reranker_test(spec: RerankerSpec) -> "Reranker":
    sizes = {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "pad_token_id": 0}
    config = qwen3(layers=2, width=32, hidden=48, heads=4, vocab=262, **sizes)
    return random_reranker(spec, config, wrapped(byte_tokenizer(MARKS, "$A", None)))
