"""Snowflake's Arctic-Embed, first generation and m-v1.5: BERT encoders for English retrieval, the first token's state.

Merrick et al., 2024, arxiv:2405.05374. Queries have a prompt, documents have none. m-long is on nomic-embed-text's backbone.
"""

from zoo.models.nomic import NOMIC, nomic_bert
from zoo.models.parts import Cls, Embedder
from zoo.models.text import (
    BERT_BASE,
    BERT_SMALL,
    BGE_PROMPTS,
    ENGLISH,
    MINILM,
    Backbone,
    bert,
    byte_tokenizer,
    text_embedder,
)
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

# BGE's prompt to the letter, as config_sentence_transformers.json has it.
FACTS: Facts = {**ENGLISH, "license": "apache-2.0", "paper": "arxiv:2405.05374", "prompts": BGE_PROMPTS}
BERT_LARGE = Backbone(bert(layers=24, width=1024, heads=16), 334_092_288)


@register_model(
    hub_id="Snowflake/snowflake-arctic-embed-xs",
    revision="742da4f66e1823b5b4dbe6c320a1375a1fd85f9e",
    **MINILM.facts,
    **FACTS,
)
def snowflake_arctic_embed_xs(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, MINILM.config, Cls())


@register_model(
    hub_id="Snowflake/snowflake-arctic-embed-s",
    revision="d3c1d2d433dd0fdc8e9ca01331a5f225639e798f",
    **BERT_SMALL.facts,
    **FACTS,
)
def snowflake_arctic_embed_s(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_SMALL.config, Cls())


@register_model(
    hub_id="Snowflake/snowflake-arctic-embed-m",
    revision="cc17beacbac32366782584c8752220405a0f3f40",
    **BERT_BASE.facts,
    **FACTS,
)
def snowflake_arctic_embed_m(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_BASE.config, Cls())


@register_model(
    hub_id="Snowflake/snowflake-arctic-embed-m-long",
    revision="89d0f6ab196eead40b90cb6f9fefec01a908d2d1",
    **{**NOMIC.facts, **FACTS, "max_tokens": 2048},
)
def snowflake_arctic_embed_m_long(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, NOMIC.config, Cls())


@register_model(
    hub_id="Snowflake/snowflake-arctic-embed-l",
    revision="9a9e5834d2e89cdd8bb72b64111dde496e4fe78c",
    **BERT_LARGE.facts,
    **FACTS,
)
def snowflake_arctic_embed_l(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_LARGE.config, Cls())


@register_model(
    name="snowflake-arctic-embed-m-v1.5",
    hub_id="Snowflake/snowflake-arctic-embed-m-v1.5",
    revision="97eab2e17fcb7ccb8bb94d6e547898fa1a6a0f47",
    dims=(768, 256),
    **BERT_BASE.facts,
    **FACTS,
)
def snowflake_arctic_embed_m_v1_5(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_BASE.config, Cls())


@register_model(**{**FACTS, "languages": ()}, dim=32, params=41_472, max_tokens=128)
def arctic_test(spec: ModelSpec) -> Embedder:
    config = nomic_bert(layers=2, width=32, heads=4, vocab=260, max_position_embeddings=128, pad_token_id=0)
    return text_embedder(spec, config, Cls(), tokenizer=byte_tokenizer())
