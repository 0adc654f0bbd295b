"""Mixedbread's first rerankers, cross-encoders on DeBERTa-v3 (He et al., 2021, arxiv:2111.09543)."""

from typing import TYPE_CHECKING, Any

from zoo.reranking.parts import cross_encoder
from zoo.reranking.registry import Facts, register_reranker
from zoo.reranking.spec import RerankerSpec

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker

FACTS: Facts = {"modalities": {"text"}, "license": "apache-2.0", "languages": ("en",), "max_tokens": 512}


def deberta_v3(*, layers: int, width: int, heads: int, **changes: Any) -> dict[str, Any]:
    """Configuration of a DeBERTa-v3 backbone: positions are relative, in 256 buckets that the layers share."""
    return {
        "model_type": "deberta-v2",
        "vocab_size": 128_100,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 512,
        "type_vocab_size": 0,
        "relative_attention": True,
        "max_relative_positions": -1,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "layer_norm_eps": 1e-7,
        "pooler_hidden_size": width,
        **changes,
    }


@register_reranker(
    hub_id="mixedbread-ai/mxbai-rerank-xsmall-v1",
    revision="b5c6e9da73abc3711f593f705371cdbe9e0fe422",
    params=70_830_337,
    **FACTS,
)
def mxbai_rerank_xsmall_v1(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, deberta_v3(layers=12, width=384, heads=6))


@register_reranker(
    hub_id="mixedbread-ai/mxbai-rerank-base-v1",
    revision="800f24c113213a187e65bde9db00c15a2bb12738",
    params=184_422_913,
    **FACTS,
)
def mxbai_rerank_base_v1(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, deberta_v3(layers=12, width=768, heads=12))


@register_reranker(
    hub_id="mixedbread-ai/mxbai-rerank-large-v1",
    revision="98f655841d5caf0b16eaff79c2b4ca109d920d17",
    params=435_062_785,
    **FACTS,
)
def mxbai_rerank_large_v1(spec: RerankerSpec) -> "Reranker":
    return cross_encoder(spec, deberta_v3(layers=24, width=1024, heads=16))
