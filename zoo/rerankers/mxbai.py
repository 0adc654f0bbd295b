"""Mixedbread's rerankers: cross-encoders on DeBERTa-v3 (He et al., 2021, arxiv:2111.09543), and Qwen2.5 asked for "1" or "0" (v2).

The second is read as mxbai_rerank/mxbai_rerank_v2.py of mixedbread-ai/mxbai-rerank does, which makes tokens of the query, of the document and of
the question after them each by itself.
"""

from typing import TYPE_CHECKING, Any

from zoo.models.gte_qwen2 import qwen2
from zoo.reranking.parts import cross_encoder, random_reranker
from zoo.reranking.registry import Facts, register_reranker
from zoo.reranking.spec import RerankerFormat, RerankerSpec
from zoo.sequences import SequenceFormat

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


BETWEEN = "\x1e"  # a control character, which no text has
V2 = RerankerFormat(
    SequenceFormat(
        prompt=(
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
            "{% if instruction %}instruction: {{ instruction }}\n{% endif %}{{ content }}"
            f"{BETWEEN}\nYou are a search relevance expert who evaluates how well documents match search queries. For each query-document "
            "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment (0 for not "
            "relevant, 1 for relevant).\nRelevance:<|im_end|>\n<|im_start|>assistant\n"
        ),
        backbone="qwen2",
        join="",
        truncation="inside",
        divided_at=BETWEEN,
    ),
    query="query: ",
    document=f"{BETWEEN}\ndocument: ",
    yes="1",
    no="0",
    kinds=("text",),
)
V2_FACTS: Facts = {
    "modalities": {"text"},
    "license": "apache-2.0",
    "languages": ("multilingual",),
    "max_tokens": 8192,
    "judge": V2,
    "activation": "identity",
}
QWEN = {"pairs": 2, "is_causal": True, "vocab_size": 151_936}


@register_reranker(
    hub_id="mixedbread-ai/mxbai-rerank-base-v2",
    revision="3ea9d4dffa7d12a4f366be8e275c349de9fc9865",
    base="Qwen/Qwen2.5-0.5B",
    params=494_032_768,
    **V2_FACTS,
)
def mxbai_rerank_base_v2(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, qwen2(layers=24, width=896, hidden=4864, heads=14, **QWEN))


@register_reranker(
    hub_id="mixedbread-ai/mxbai-rerank-large-v2",
    revision="ca7e1ee484c37c0ddd8d178a9a5c33cec575c5e6",
    base="Qwen/Qwen2.5-1.5B",
    params=1_543_714_304,
    **V2_FACTS,
)
def mxbai_rerank_large_v2(spec: RerankerSpec) -> "Reranker":
    return random_reranker(spec, qwen2(layers=28, width=1536, hidden=8960, heads=12, **QWEN))
