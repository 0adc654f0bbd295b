"""Qwen2 read in both directions: GTE-Qwen2 (arxiv:2308.03281) and Stella 1.5B, distilled from it (arxiv:2412.19048).

Their repositories bring Python code whose one difference from transformers' Qwen2 is that every token sees every other; the spec says
it, and the zoo runs none of that code. Their tokenizer_config.json asks for the <|endoftext|> that ends each text. Queries have an
instruction, documents have none: `encode_query(texts, task=…)` for another task.
"""

from typing import Any

from zoo.models.parts import DenseStack, Embedder, LastToken, Mean
from zoo.models.text import TEXT, Backbone, byte_tokenizer, text_embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

QWEN2: Facts = {**TEXT, "attention": "bidirectional", "instruction": "Instruct: {task}\nQuery: "}
SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
GTE: Facts = {
    **QWEN2,
    "license": "apache-2.0",
    "paper": "arxiv:2308.03281",
    "languages": ("en", "zh"),  # its authors report MTEB in both
    "prompts": {"query": SEARCH, "document": ""},
}
STELLA: Facts = {
    **QWEN2,
    "license": "mit",
    "paper": "arxiv:2412.19048",
    "languages": ("en",),
    "prompts": {
        "s2p_query": SEARCH.replace("query\n", "query.\n"),
        "s2s_query": "Instruct: Retrieve semantically similar text.\nQuery: ",
        "document": "",
    },
    "roles": {"query": "s2p_query"},
    "dim": 1024,
    "head_dims": (256, 768, 1024, 2048, 4096, 6144, 8192),
}


def qwen2(*, layers: int, width: int, hidden: int, heads: int, pairs: int, **changes: Any) -> dict[str, Any]:
    """Configuration of a Qwen2 backbone (arxiv:2407.10671) without its causal mask; `pairs` of keys and values."""
    return {
        "model_type": "qwen2",
        "vocab_size": 151_646,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": pairs,
        "intermediate_size": hidden,
        "max_position_embeddings": 131_072,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "is_causal": False,
        **changes,
    }


def stella_head(width: int, dim: int) -> Any:
    """The dense layer after Stella's pooling: a bias, no activation."""
    return DenseStack([{"kind": "dense", "width": width, "dim": dim, "bias": True, "activation": "Identity"}])


SMALL = Backbone(qwen2(layers=28, width=1536, hidden=8960, heads=12, pairs=2), 1_543_268_864)
LARGE = Backbone(qwen2(layers=28, width=3584, hidden=18_944, heads=28, pairs=4), 7_069_121_024)


@register_model(
    name="gte-qwen2-1.5b-instruct",
    hub_id="Alibaba-NLP/gte-Qwen2-1.5B-instruct",
    revision="c6c1b92f4a3e1b92b326ad29dd3c8433457df8dd",
    **{**GTE, **SMALL.facts, "max_tokens": 32_768},
)
def gte_qwen2_1500m_instruct(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, SMALL.config, LastToken())


@register_model(
    hub_id="Alibaba-NLP/gte-Qwen2-7B-instruct",
    revision="e26182b2122f4435e8b3ebecbf363990f409b45b",
    **{**GTE, **LARGE.facts, "max_tokens": 32_768},
)
def gte_qwen2_7b_instruct(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, LARGE.config, LastToken())


@register_model(
    name="stella-en-1.5b-v5",
    hub_id="NovaSearch/stella_en_1.5B_v5",
    revision="d03be74b361d4eb24f42a2fe5bd2e29917df4604",
    **{**SMALL.facts, **STELLA, "params": 1_544_842_752, "max_tokens": 512},
)
def stella_en_1500m_v5(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, SMALL.config, Mean(), stella_head(1536, 1024))


@register_model(**{**GTE, "languages": (), "dim": 32, "params": 23_904, "max_tokens": 256})
def gte_qwen2_test(spec: ModelSpec) -> Embedder:
    config = qwen2(layers=2, width=32, hidden=48, heads=4, pairs=2, vocab_size=258, max_position_embeddings=256)
    tokenizer = byte_tokenizer(("<|endoftext|>", "<|im_end|>"), "$A <|endoftext|>", None)
    return text_embedder(spec, config | {"pad_token_id": 0}, LastToken(), tokenizer=tokenizer)
