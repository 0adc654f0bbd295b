"""BGE rerankers on XLM-RoBERTa (Xiao et al., 2023, arxiv:2309.07597; v2-m3: Chen et al., 2024, arxiv:2402.03216)."""

from typing import TYPE_CHECKING

from zoo.models.text_encoders import xlm_roberta
from zoo.reranking.parts import cross_encoder
from zoo.reranking.registry import Facts, register_reranker
from zoo.reranking.spec import RerankerSpec

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker

FIRST: Facts = {
    "modalities": {"text"},
    "license": "mit",
    "languages": ("en", "zh"),
    "paper": "arxiv:2309.07597",
    "max_tokens": 512,
}


@register_reranker(
    hub_id="BAAI/bge-reranker-base",
    revision="2cfc18c9415c912f9d8155881c133215df768a70",
    params=278_044_417,
    **FIRST,
)
def bge_reranker_base(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, xlm_roberta(layers=12, width=768, heads=12))


@register_reranker(
    hub_id="BAAI/bge-reranker-large",
    revision="55611d7bca2a7133960a6d3b71e083071bbfc312",
    params=559_891_457,
    **FIRST,
)
def bge_reranker_large(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, xlm_roberta(layers=24, width=1024, heads=16))


@register_reranker(
    hub_id="BAAI/bge-reranker-v2-m3",
    revision="953dc6f6f85a1b2dbfca4c34a2796e7dde08d41e",
    base="BAAI/bge-m3",
    params=567_755_777,
    **{
        **FIRST,
        "license": "apache-2.0",
        "languages": ("multilingual",),
        "paper": "arxiv:2402.03216",
        "max_tokens": 8192,
    },
)
def bge_reranker_v2_m3(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, xlm_roberta(layers=24, width=1024, heads=16, positions=8194))
