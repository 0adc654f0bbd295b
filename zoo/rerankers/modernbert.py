"""Cross-encoders on ModernBERT: Granite's English R2 (IBM, 2025, arxiv:2508.21085) and GTE's (arxiv:2407.19669)."""

from typing import TYPE_CHECKING

from zoo.models.text import MODERNBERT_BASE
from zoo.reranking.parts import cross_encoder
from zoo.reranking.registry import Facts, register_reranker
from zoo.reranking.spec import RerankerSpec

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker

FACTS: Facts = {
    "modalities": {"text"},
    "license": "apache-2.0",
    "languages": ("en",),
    "max_tokens": 8192,
    "params": 149_605_633,
}


@register_reranker(
    hub_id="ibm-granite/granite-embedding-reranker-english-r2",
    revision="d09d3d6971b689bf9c23839e45a470874d46e13a",
    base="ibm-granite/granite-embedding-english-r2",
    paper="arxiv:2508.21085",
    **FACTS,
)
def granite_embedding_reranker_english_r2(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, MODERNBERT_BASE.config)


@register_reranker(
    hub_id="Alibaba-NLP/gte-reranker-modernbert-base",
    revision="f7481e6055501a30fb19d090657df9ec1f79ab2c",
    base="answerdotai/ModernBERT-base",
    paper="arxiv:2407.19669",
    **FACTS,
)
def gte_reranker_modernbert_base(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, MODERNBERT_BASE.config)
