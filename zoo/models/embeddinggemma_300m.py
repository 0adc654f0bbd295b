"""EmbeddingGemma 300M: Gemma 3 reading in both directions, the mean of all tokens, two dense layers (arxiv:2509.20354).

Every text has a prompt: `encode_query` and `encode_document` put the authors' own before it, and their other tasks have theirs by
name (`prompt_name="Clustering"`). A document with a title is `title: {title} | text: `, as the item's instruction.
"""

from itertools import pairwise
from typing import Any

from zoo.models.parts import DenseStack, Embedder, Mean
from zoo.models.text import TEXT, Backbone, piece_tokenizer, text_embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

_TASKS = {
    "query": "search result",
    "BitextMining": "search result",
    "Clustering": "clustering",
    "Classification": "classification",
    "InstructionRetrieval": "code retrieval",
    "MultilabelClassification": "classification",
    "PairClassification": "sentence similarity",
    "Reranking": "search result",
    "Retrieval": "search result",
    "Retrieval-query": "search result",
    "STS": "sentence similarity",
    "Summarization": "summarization",
}
# config_sentence_transformers.json of the repository.
PROMPTS = {
    **{name: f"task: {task} | query: " for name, task in _TASKS.items()},
    **dict.fromkeys(("document", "Retrieval-document"), "title: none | text: "),
}
FACTS: Facts = {**TEXT, "license": "gemma", "paper": "arxiv:2509.20354", "prompts": PROMPTS}


def gemma3(*, layers: int, width: int, hidden: int, vocab: int, **changes: Any) -> dict[str, Any]:
    """Configuration of a Gemma 3 backbone that reads in both directions: five blocks with a window to one without."""
    return {
        "model_type": "gemma3_text",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "intermediate_size": hidden,
        "max_position_embeddings": 2048,
        "sliding_window": 512,
        "use_bidirectional_attention": True,
        **changes,
    }


def dense(*widths: int) -> Any:
    """Dense layers from width to width, without bias and with nothing between them."""
    same = {"kind": "dense", "bias": False, "activation": "Identity"}
    return DenseStack([{**same, "width": width, "dim": dim} for width, dim in pairwise(widths)])


GEMMA = Backbone(gemma3(layers=24, width=768, hidden=1152, vocab=262_144), 307_581_696)


@register_model(
    name="embeddinggemma-300m",
    hub_id="google/embeddinggemma-300m",
    revision="64614b0b8b64f0c6c1e52b07e4e9a4e8fe4d2da2",
    dims=(768, 512, 256, 128),
    languages=("multilingual",),
    **GEMMA.facts,
    **FACTS,
)
def embeddinggemma_300m(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, GEMMA.config, Mean(), dense(768, 3072, 768))


@register_model(**{**FACTS, "dim": 32, "dims": (32, 16), "params": 56_384, "max_tokens": 256, "license": "apache-2.0"})
def embeddinggemma_300m_test(spec: ModelSpec) -> Embedder:
    sizes = {"num_attention_heads": 4, "head_dim": 8, "max_position_embeddings": 256, "sliding_window": 16}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    config = gemma3(layers=6, width=32, hidden=48, vocab=262, **sizes, **ids)
    tokenizer = piece_tokenizer(("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"), "<bos> $A <eos>", spaced=False)
    return text_embedder(spec, config, Mean(), dense(32, 64, 32), tokenizer=tokenizer)
