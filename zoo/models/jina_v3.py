"""jina-embeddings-v3: an XLM-RoBERTa with rotary positions, the mean of its states, an adapter for each of five tasks.

Sturua et al., 2024, arxiv:2409.10173. Queries and documents of a search have a prompt and an adapter each, which the prompt brings
along: `encode_query`, `encode_document`. The three other tasks, whose texts have no prompt, are models of their own. Without any
prompt jina-embeddings-v3 reads without an adapter, as its authors' code without a task. Weights are for non-commercial use.
"""

from typing import Any

from zoo.models.parts import AdaptedText, Embedder, Identity, Mean, Tower
from zoo.models.text import TEXT, Backbone, byte_tokenizer, text_embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

# task_instructions of the repository's config.json.
PROMPTS = {
    "retrieval.query": "Represent the query for retrieving evidence documents: ",
    "retrieval.passage": "Represent the document for retrieval: ",
}
RANK, SCALE = 4, 1 / 4


def rotary_xlm_roberta(*, layers: int, width: int, heads: int, vocab: int = 250_002, **changes: Any) -> dict[str, Any]:
    """Configuration of jina-embeddings-v3's backbone, as transformers has it."""
    return {
        "model_type": "jina_embeddings_v3",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 8194,
        "rope_parameters": {"rope_type": "default", "rope_theta": 20_000.0},
        **changes,
    }


LARGE = Backbone(rotary_xlm_roberta(layers=24, width=1024, heads=16), 558_314_496)
FACTS: Facts = {
    **TEXT,
    **LARGE.facts,
    "hub_id": "jinaai/jina-embeddings-v3",
    "revision": "215a6e121fa0183376388ac6b1ae230326bfeaed",
    "license": "cc-by-nc-4.0",
    "languages": ("multilingual",),
    "paper": "arxiv:2409.10173",
    "dims": (1024, 768, 512, 256, 128, 64, 32),
}
SEARCH: Facts = {
    "prompts": PROMPTS,
    "roles": {"query": "retrieval.query", "document": "retrieval.passage"},
}


@register_model(**{**FACTS, **SEARCH, "params": 563_869_848})
def jina_embeddings_v3(spec: ModelSpec) -> Embedder:
    encoder = AdaptedText(LARGE.config, spec.max_tokens, list(PROMPTS.values()), RANK, SCALE)
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])


@register_model(adapter="separation", **FACTS)
def jina_embeddings_v3_separation(spec: ModelSpec) -> Embedder:
    """For clustering, and for telling apart what a search found."""
    return text_embedder(spec, LARGE.config, Mean())


@register_model(adapter="classification", **FACTS)
def jina_embeddings_v3_classification(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, LARGE.config, Mean())


@register_model(adapter="text-matching", **FACTS)
def jina_embeddings_v3_text_matching(spec: ModelSpec) -> Embedder:
    """For texts that say the same, such as duplicates and translations."""
    return text_embedder(spec, LARGE.config, Mean())


@register_model(**{**TEXT, **SEARCH}, dim=32, dims=(32, 16), params=45_640, max_tokens=130, license="apache-2.0")
def jina_v3_test(spec: ModelSpec) -> Embedder:
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 130}
    config = rotary_xlm_roberta(layers=2, width=32, heads=4, vocab=260, **ids)
    tokenizer = byte_tokenizer(("<s>", "<pad>", "</s>", "<unk>"), "<s> $A </s>", "<unk>")
    encoder = AdaptedText(config, spec.max_tokens, list(PROMPTS.values()), RANK, SCALE, tokenizer=tokenizer)
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])
