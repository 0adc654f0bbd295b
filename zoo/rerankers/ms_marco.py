"""Cross-encoders of sentence-transformers trained on MS MARCO: TinyBERT, MiniLM (arxiv:2002.10957) and ELECTRA (arxiv:2003.10555).

Their score is the logit itself, below and above 0, as their repositories say.
"""

from typing import TYPE_CHECKING, Any

from zoo.models.text import bert, pair_tokenizer
from zoo.reranking.parts import cross_encoder
from zoo.reranking.registry import Facts, register_reranker
from zoo.reranking.spec import RerankerSpec

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker

FACTS: Facts = {
    "modalities": {"text"},
    "license": "apache-2.0",
    "languages": ("en",),
    "max_tokens": 512,
    "activation": "identity",
}


def minilm(layers: int) -> dict[str, Any]:
    return bert(layers=layers, width=384)


@register_reranker(
    name="ms-marco-tinybert-l2-v2",
    hub_id="cross-encoder/ms-marco-TinyBERT-L2-v2",
    revision="81d1926f67cb8eee2c2be17ca9f793c7c3bd20cc",
    params=4_386_049,
    **FACTS,
)
def tinybert_2(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, bert(layers=2, width=128, heads=2))


@register_reranker(
    name="ms-marco-minilm-l2-v2",
    hub_id="cross-encoder/ms-marco-MiniLM-L2-v2",
    revision="1b5cd67b15209f24824c50370e0397743aa9b787",
    params=15_615_745,
    **FACTS,
)
def minilm_2(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, minilm(2))


@register_reranker(
    name="ms-marco-minilm-l4-v2",
    hub_id="cross-encoder/ms-marco-MiniLM-L4-v2",
    revision="777b2f369bc1c2f850df8bd367ed1654bda4497b",
    params=19_164_673,
    **FACTS,
)
def minilm_4(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, minilm(4))


@register_reranker(
    name="ms-marco-minilm-l6-v2",
    hub_id="cross-encoder/ms-marco-MiniLM-L6-v2",
    revision="c5ee24cb16019beea0893ab7796b1df96625c6b8",
    params=22_713_601,
    **FACTS,
)
def minilm_6(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, minilm(6))


@register_reranker(
    name="ms-marco-minilm-l12-v2",
    hub_id="cross-encoder/ms-marco-MiniLM-L12-v2",
    revision="7b0235231ca2674cb8ca8f022859a6eba2b1c968",
    params=33_360_385,
    **FACTS,
)
def minilm_12(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, minilm(12))


@register_reranker(
    name="ms-marco-electra-base", hub_id="cross-encoder/ms-marco-electra-base", params=109_483_009, **FACTS
)
def electra_base(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, {**bert(layers=12, width=768), "model_type": "electra", "embedding_size": 768})


@register_reranker(params=39_041, **{**FACTS, "languages": (), "max_tokens": 128})
def ms_marco_test(spec: RerankerSpec) -> "Reranker":
    config = {**bert(layers=2, width=32, vocab=260, heads=4, positions=128), "pad_token_id": 0}
    return cross_encoder(spec, config, pair_tokenizer())
