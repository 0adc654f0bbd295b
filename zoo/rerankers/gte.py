"""Alibaba's multilingual cross-encoder on its GTE backbone (mGTE, Zhang et al., 2024, arxiv:2407.19669)."""

from typing import TYPE_CHECKING

from zoo.models.gte import MULTILINGUAL
from zoo.reranking.parts import cross_encoder
from zoo.reranking.registry import register_reranker
from zoo.reranking.spec import RerankerSpec

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker


@register_reranker(
    hub_id="Alibaba-NLP/gte-multilingual-reranker-base",
    revision="8215cf04918ba6f7b6a62bb44238ce2953d8831c",
    modalities={"text"},
    license="apache-2.0",
    languages=("multilingual",),
    paper="arxiv:2407.19669",
    max_tokens=8192,
    params=305_959_681,
)
def gte_multilingual_reranker_base(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, MULTILINGUAL.config)
