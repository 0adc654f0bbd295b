"""Qwen3-Embedding: Qwen3 language models as text embedders, the last token, an instruction before queries (arxiv:2506.05176).

Every text ends in <|endoftext|>, whose state is the vector. The prompt "query" is that of the repositories' files; other tasks have
other instructions: `encode_query(texts, task="Given a claim, find documents that refute the claim")`, without a
space after the colon. Documents have none.
"""

from typing import Any

from zoo.models.parts import Embedder, LastToken
from zoo.models.text import TEXT, Backbone, byte_tokenizer, text_embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
QWEN3: Facts = {
    **TEXT,
    "license": "apache-2.0",
    "paper": "arxiv:2506.05176",
    "languages": ("multilingual",),
    "prompts": {"query": f"Instruct: {SEARCH}\nQuery:", "document": ""},
    "instruction": "Instruct: {task}\nQuery:",
}


def qwen3(*, layers: int, width: int, hidden: int, heads: int, vocab: int = 151_665, **changes: Any) -> dict[str, Any]:
    """Configuration of a Qwen3 backbone (arxiv:2505.09388)."""
    return {
        "model_type": "qwen3",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": hidden,
        "max_position_embeddings": 40_960,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        **changes,
    }


SMALL = Backbone(
    qwen3(layers=28, width=1024, hidden=3072, heads=16, vocab=151_669, max_position_embeddings=32_768), 595_776_512
)
MIDDLE = Backbone(qwen3(layers=36, width=2560, hidden=9728, heads=32), 4_021_774_336)
LARGE = Backbone(qwen3(layers=36, width=4096, hidden=12_288, heads=32), 7_567_295_488)


@register_model(
    name="qwen3-embedding-0.6b",
    hub_id="Qwen/Qwen3-Embedding-0.6B",
    revision="b22da495047858cce924d27d76261e96be6febc0",
    dims=(1024, 768, 512, 256, 128, 64, 32),
    **SMALL.facts,
    **QWEN3,
)
def qwen3_embedding_600m(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, SMALL.config, LastToken())


@register_model(
    hub_id="Qwen/Qwen3-Embedding-4B",
    revision="636cd9bf47d976946cdbb2b0c3ca0cb2f8eea5ff",
    dims=(2560, 2048, 1024, 512, 256, 128, 64, 32),
    **MIDDLE.facts,
    **QWEN3,
)
def qwen3_embedding_4b(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, MIDDLE.config, LastToken())


@register_model(
    hub_id="Qwen/Qwen3-Embedding-8B",
    revision="4e423935c619ae4df87b646a3ce949610c66241c",
    dims=(4096, 2048, 1024, 512, 256, 128, 64, 32),
    **LARGE.facts,
    **QWEN3,
)
def qwen3_embedding_8b(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, LARGE.config, LastToken())


@register_model(**{**QWEN3, "languages": (), "dim": 32, "dims": (32, 16), "params": 23_808, "max_tokens": 256})
def qwen3_embedding_test(spec: ModelSpec) -> Embedder:
    sizes = {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "pad_token_id": 0}
    config = qwen3(layers=2, width=32, hidden=48, heads=4, vocab=258, **sizes)
    tokenizer = byte_tokenizer(("<|endoftext|>", "<|im_end|>"), "$A <|endoftext|>", None)
    return text_embedder(spec, config, LastToken(), tokenizer=tokenizer)
