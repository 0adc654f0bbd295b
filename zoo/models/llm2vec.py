"""LLM2Vec: Llama and Mistral taught to read in both directions by one adapter, and to embed by a second (arxiv:2404.05961).

A text is read as one turn of a conversation, after its instruction; the mean is of the text and of what closes the turn. The
supervised models learned from E5's pairs, the others from texts alone, by SimCSE.
"""

from typing import Any

from zoo.encoders.wraps import LONGEST, WRAPS
from zoo.models.mistral_embedding import mistral
from zoo.models.parts import Embedder, Identity, Mean, Tower, WrappedText
from zoo.models.text import TEXT, Backbone, piece_tokenizer
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

INSTRUCTION = "{task}: "
SEARCH = "Given a web search query, retrieve relevant passages that answer the query"  # MS MARCO's in the authors' evaluation
FACTS: Facts = {
    **TEXT,
    "license": "mit",
    "paper": "arxiv:2404.05961",
    "instruction": INSTRUCTION,
    "prompts": {"query": INSTRUCTION.replace("{task}", SEARCH), "document": ""},
    "pool_prompt": False,
    "attention": "bidirectional",
    "max_tokens": LONGEST,
}
ON_LLAMA_3, ON_MISTRAL, ON_LLAMA_2, ON_SHEARED = WRAPS
BOTH_WAYS = {"is_causal": False}


def llama(*, layers: int, width: int, hidden: int, heads: int, vocab: int, **changes: Any) -> dict[str, Any]:
    """Configuration of a Llama backbone (arxiv:2302.13971)."""
    return {
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        **BOTH_WAYS,
        **changes,
    }


THREE = {
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
}
LLAMA_3 = Backbone(llama(layers=32, width=4096, hidden=14_336, heads=32, vocab=128_256, **THREE), 7_504_924_672)
LLAMA_2 = Backbone(
    llama(layers=32, width=4096, hidden=11_008, heads=32, vocab=32_000, max_position_embeddings=4096), 6_607_343_616
)
SHEARED = Backbone(
    llama(layers=24, width=2048, hidden=5504, heads=16, vocab=32_000, max_position_embeddings=4096), 1_279_887_360
)
SEVEN = {"sliding_window": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}, **BOTH_WAYS}
MISTRAL = Backbone(mistral(layers=32, width=4096, hidden=14_336, heads=32, vocab=32_000, **SEVEN), 7_110_660_096)


def on(base: str, backbone: Backbone, base_revision: str | None = None) -> Facts:
    """The facts of every model over one first adapter."""
    return {**backbone.facts, **FACTS, "languages": ("en",), "base": base, "base_revision": base_revision}


ON: dict[str, Facts] = {
    ON_LLAMA_3: on(ON_LLAMA_3, LLAMA_3, "31474e395ada192e8ed1586db6be79fb3b70c9c0"),
    ON_MISTRAL: on(ON_MISTRAL, MISTRAL),
    ON_LLAMA_2: on(ON_LLAMA_2, LLAMA_2),
    ON_SHEARED: on(ON_SHEARED, SHEARED, "eb4ee4c1f922be3c5961d26eb954d0755aa9b77c"),
}


def wrapped(spec: ModelSpec, config: dict[str, Any], base: str, tokenizer: Any = None) -> Embedder:
    """One tower, whose texts are written as those of the models over this first adapter."""
    encoder = WrappedText(config, spec.max_tokens, **WRAPS[base]._asdict(), padding_side="left", tokenizer=tokenizer)
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])


@register_model(
    hub_id=f"{ON_LLAMA_3}-supervised",
    revision="baa8ebf04a1c2500e61288e7dad65e8ae42601a7",
    **ON[ON_LLAMA_3],
)
def llm2vec_meta_llama_3_8b_instruct_mntp_supervised(spec: ModelSpec) -> Embedder:
    return wrapped(spec, LLAMA_3.config, ON_LLAMA_3)


@register_model(
    hub_id=f"{ON_LLAMA_3}-unsup-simcse",
    revision="1cb7b735326d13a8541db8f57f35da5373f5e9c6",
    **ON[ON_LLAMA_3],
)
def llm2vec_meta_llama_3_8b_instruct_mntp_unsup_simcse(spec: ModelSpec) -> Embedder:
    return wrapped(spec, LLAMA_3.config, ON_LLAMA_3)


@register_model(
    hub_id=f"{ON_MISTRAL}-supervised",
    revision="0ae69bdd5816105778b971c3138e8f8a18eaa3ae",
    **ON[ON_MISTRAL],
)
def llm2vec_mistral_7b_instruct_v2_mntp_supervised(spec: ModelSpec) -> Embedder:
    return wrapped(spec, MISTRAL.config, ON_MISTRAL)


@register_model(
    hub_id=f"{ON_MISTRAL}-unsup-simcse",
    revision="2c055a5d77126c0d3dc6cd8ffa30e2908f4f45f8",
    **ON[ON_MISTRAL],
)
def llm2vec_mistral_7b_instruct_v2_mntp_unsup_simcse(spec: ModelSpec) -> Embedder:
    return wrapped(spec, MISTRAL.config, ON_MISTRAL)


@register_model(hub_id=f"{ON_LLAMA_2}-supervised", **ON[ON_LLAMA_2])
def llm2vec_llama_2_7b_chat_hf_mntp_supervised(spec: ModelSpec) -> Embedder:
    return wrapped(spec, LLAMA_2.config, ON_LLAMA_2)


@register_model(
    hub_id=f"{ON_LLAMA_2}-unsup-simcse",
    revision="a76944871d169ebe7c97eb921764cd063afed785",
    **ON[ON_LLAMA_2],
)
def llm2vec_llama_2_7b_chat_hf_mntp_unsup_simcse(spec: ModelSpec) -> Embedder:
    return wrapped(spec, LLAMA_2.config, ON_LLAMA_2)


@register_model(
    hub_id=f"{ON_SHEARED}-supervised",
    revision="a5943d406c6b016fef3f07906aac183cf1a0b47d",
    **ON[ON_SHEARED],
)
def llm2vec_sheared_llama_mntp_supervised(spec: ModelSpec) -> Embedder:
    return wrapped(spec, SHEARED.config, ON_SHEARED)


@register_model(hub_id=f"{ON_SHEARED}-unsup-simcse", **ON[ON_SHEARED])
def llm2vec_sheared_llama_mntp_unsup_simcse(spec: ModelSpec) -> Embedder:
    return wrapped(spec, SHEARED.config, ON_SHEARED)


@register_model(**FACTS, dim=32, params=25_888)
def llm2vec_test(spec: ModelSpec) -> Embedder:
    config = llama(layers=2, width=32, hidden=48, heads=4, vocab=260, max_position_embeddings=512)
    tokenizer = piece_tokenizer(("<unk>", "<s>", "</s>"), "<s> $A", spaced=True)
    return wrapped(spec, config, ON_LLAMA_2, tokenizer)
