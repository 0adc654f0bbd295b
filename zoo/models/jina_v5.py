"""jina-embeddings-v5-text: Qwen3 (small) or EuroBERT (nano), the state of the last token, an adapter merged for one of four tasks.

Akram et al., 2026, arxiv:2602.15547. Every text has a prompt, `encode` without one takes that of documents. The name without a task
is the one for retrieval. Weights are for non-commercial use.
"""

from typing import Any

from zoo.models.parts import Embedder, LastToken
from zoo.models.qwen3_embedding import qwen3
from zoo.models.text import TEXT, Backbone, byte_tokenizer, text_embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

# config_sentence_transformers.json of the repositories, default_prompt_name too.
PROMPTS: Facts = {"prompts": {"query": "Query: ", "document": "Document: "}, "default_prompt_name": "document"}
FACTS: Facts = {
    **TEXT,
    **PROMPTS,
    "license": "cc-by-nc-4.0",
    "languages": ("multilingual",),
    "paper": "arxiv:2602.15547",
}


def eurobert(
    *, layers: int, width: int, hidden: int, heads: int, vocab: int = 128_256, **changes: Any
) -> dict[str, Any]:
    """Configuration of a EuroBERT backbone (arxiv:2503.05500)."""
    return {
        "model_type": "eurobert",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": hidden,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        **changes,
    }


QWEN3 = Backbone(
    qwen3(layers=28, width=1024, hidden=3072, heads=16, vocab=151_936, max_position_embeddings=32_768), 596_049_920
)
EUROBERT = Backbone(eurobert(layers=12, width=768, hidden=3072, heads=12), 211_766_016)
SMALL: Facts = {
    **FACTS,
    **QWEN3.facts,
    "hub_id": "jinaai/jina-embeddings-v5-text-small",
    "revision": "dd76d535f5447ca3897a9c893fb1e612ead98192",
    "dims": (1024, 768, 512, 256, 128, 64, 32),
}
NANO: Facts = {
    **FACTS,
    **EUROBERT.facts,
    "hub_id": "jinaai/jina-embeddings-v5-text-nano",
    "revision": "4c1f9846bb85490df1d9e535834cf00ceb33823b",
    "dims": (768, 512, 256, 128, 64, 32),
}


@register_model(adapter="retrieval", **SMALL)
def jina_embeddings_v5_text_small(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, QWEN3.config, LastToken())


@register_model(adapter="text-matching", **SMALL)
def jina_embeddings_v5_text_small_text_matching(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, QWEN3.config, LastToken())


@register_model(adapter="clustering", **SMALL)
def jina_embeddings_v5_text_small_clustering(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, QWEN3.config, LastToken())


@register_model(adapter="classification", **SMALL)
def jina_embeddings_v5_text_small_classification(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, QWEN3.config, LastToken())


@register_model(adapter="retrieval", **NANO)
def jina_embeddings_v5_text_nano(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, EUROBERT.config, LastToken())


@register_model(adapter="text-matching", **NANO)
def jina_embeddings_v5_text_nano_text_matching(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, EUROBERT.config, LastToken())


@register_model(adapter="clustering", **NANO)
def jina_embeddings_v5_text_nano_clustering(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, EUROBERT.config, LastToken())


@register_model(adapter="classification", **NANO)
def jina_embeddings_v5_text_nano_classification(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, EUROBERT.config, LastToken())


@register_model(**{**TEXT, **PROMPTS}, dim=32, dims=(32, 16), params=23_808, max_tokens=256, license="apache-2.0")
def jina_v5_test(spec: ModelSpec) -> Embedder:
    sizes = {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "pad_token_id": 0}
    config = qwen3(layers=2, width=32, hidden=48, heads=4, vocab=258, **sizes)
    tokenizer = byte_tokenizer(("<|endoftext|>", "<|im_end|>"), "$A <|endoftext|>", None)
    return text_embedder(spec, config, LastToken(), tokenizer=tokenizer)
