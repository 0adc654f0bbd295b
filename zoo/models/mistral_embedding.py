"""Mistral 7B as a text embedder: E5-Mistral and what was trained on from it, the state of the </s> that ends every text.

E5-Mistral (Wang et al., arxiv:2401.00368) began the line: queries have an instruction, documents have none, and attention stays
causal. Another task is `encode_query(texts, task=…)`. Their
tokenizer_config.json asks for </s>, which tokenizer.json does not add and transformers 5 leaves out; the zoo puts it there.
"""

from typing import Any

from zoo.models.parts import Embedder, LastToken
from zoo.models.text import ENGLISH, Backbone, piece_tokenizer, text_embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
# config_sentence_transformers.json of intfloat/e5-mistral-7b-instruct.
E5_PROMPTS = {
    "web_search_query": SEARCH,
    "sts_query": "Instruct: Retrieve semantically similar text.\nQuery: ",
    "summarization_query": "Instruct: Given a news summary, retrieve other semantically similar summaries\nQuery: ",
    "bitext_query": "Instruct: Retrieve parallel sentences.\nQuery: ",
}
E5: Facts = {
    **ENGLISH,
    "license": "mit",
    "paper": "arxiv:2401.00368",
    "prompts": {**E5_PROMPTS, "document": ""},
    "roles": {"query": "web_search_query"},
    "instruction": "Instruct: {task}\nQuery: ",
}
LATER: Facts = {
    **ENGLISH,
    "license": "cc-by-nc-4.0",
    "prompts": {"query": SEARCH, "document": ""},
    "instruction": "Instruct: {task}\nQuery: ",
}


def mistral(*, layers: int, width: int, hidden: int, heads: int, vocab: int, **changes: Any) -> dict[str, Any]:
    """Configuration of a Mistral backbone (arxiv:2310.06825)."""
    return {
        "model_type": "mistral",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "intermediate_size": hidden,
        "max_position_embeddings": 32_768,
        "sliding_window": 4096,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **changes,
    }


MISTRAL = Backbone(mistral(layers=32, width=4096, hidden=14_336, heads=32, vocab=32_000), 7_110_660_096)
AT_4096: Facts = {**MISTRAL.facts, "max_tokens": 4096}  # longest text that the authors' examples and figures read


@register_model(
    hub_id="intfloat/e5-mistral-7b-instruct", revision="07163b72af1488142a360786df853f237b1a3ca1", **AT_4096, **E5
)
def e5_mistral_7b_instruct(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, MISTRAL.config, LastToken())


@register_model(
    hub_id="Linq-AI-Research/Linq-Embed-Mistral",
    revision="0c1a0b0589177079acc552433cad51d7c9132379",
    **{**LATER, **AT_4096},
)
def linq_embed_mistral(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, MISTRAL.config, LastToken())


@register_model(
    hub_id="Salesforce/SFR-Embedding-Mistral",
    revision="938c560d1c236aa563b2dbdf084f28ab28bccb11",
    **{**LATER, **AT_4096},
)
def sfr_embedding_mistral(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, MISTRAL.config, LastToken())


@register_model(
    hub_id="Salesforce/SFR-Embedding-2_R", revision="91762139d94ed4371a9fa31db5551272e0b83818", **{**LATER, **AT_4096}
)
def sfr_embedding_2_r(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, MISTRAL.config, LastToken())


@register_model(**{**E5, "languages": (), "dim": 32, "params": 23_840, "max_tokens": 200})
def mistral_embedding_test(spec: ModelSpec) -> Embedder:
    sizes = {"num_key_value_heads": 2, "max_position_embeddings": 256, "sliding_window": 64}
    config = mistral(layers=2, width=32, hidden=48, heads=4, vocab=260, **sizes)
    tokenizer = piece_tokenizer(("<unk>", "<s>", "</s>"), "<s> $A </s>", spaced=True)
    return text_embedder(spec, config, LastToken(), tokenizer=tokenizer)
