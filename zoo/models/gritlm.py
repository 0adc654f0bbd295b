"""GritLM's embedding side: Mistral and Mixtral that read in both directions, the mean of a text's own tokens (arxiv:2402.09906).

A query has an instruction, a document an empty one; both are read and left out of the mean. The same weights write text, causally,
which is not done here.
"""

from typing import Any

from zoo.models.mistral_embedding import mistral
from zoo.models.parts import Embedder, Mean
from zoo.models.text import TEXT, Backbone, piece_tokenizer, text_embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

INSTRUCTION = "<|user|>\n{task}\n<|embed|>\n"
SEARCH = "Given a web search query, retrieve relevant passages that answer the query"  # MS MARCO's in the authors' evaluation
FACTS: Facts = {
    **TEXT,
    "license": "apache-2.0",
    "paper": "arxiv:2402.09906",
    "instruction": INSTRUCTION,
    "prompts": {"query": INSTRUCTION.replace("{task}", SEARCH), "document": "<|embed|>\n"},
    "pool_prompt": False,
    "attention": "bidirectional",
    "pooling": "Mean",
}
LANGUAGES = ("en", "fr", "de", "it", "es")
BOTH_WAYS = {"is_causal": False, "sliding_window": None}
LARGE: dict[str, Any] = {
    "model_type": "mixtral",
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14_336,
    "max_position_embeddings": 32_768,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    **BOTH_WAYS,
}
MISTRAL = Backbone(mistral(layers=32, width=4096, hidden=14_336, heads=32, vocab=32_000, **BOTH_WAYS), 7_110_660_096)
MIXTRAL = Backbone(LARGE, 46_571_720_704)


@register_model(
    hub_id="GritLM/GritLM-7B",
    revision="13f00a0e36500c80ce12870ea513846a066004af",
    languages=LANGUAGES,
    **MISTRAL.facts,
    **FACTS,
)
def gritlm_7b(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, MISTRAL.config, Mean(), pool_prompt=False)


@register_model(
    hub_id="GritLM/GritLM-8x7B",
    revision="7f089b13e3345510281733ca1e6ff871b5b4bc76",
    languages=LANGUAGES,
    **MIXTRAL.facts,
    **FACTS,
)
def gritlm_8x7b(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, MIXTRAL.config, Mean(), pool_prompt=False)


@register_model(**FACTS, dim=32, params=23_840, max_tokens=256)
def gritlm_test(spec: ModelSpec) -> Embedder:
    sizes = {"num_key_value_heads": 2, "max_position_embeddings": 256, **BOTH_WAYS}
    config = mistral(layers=2, width=32, hidden=48, heads=4, vocab=260, **sizes)
    tokenizer = piece_tokenizer(("<unk>", "<s>", "</s>"), "<s> $A", spaced=True)
    return text_embedder(spec, config, Mean(), tokenizer=tokenizer, pool_prompt=False)
