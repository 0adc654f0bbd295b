"""BGE beside version 1.5: BGE-M3, whose one pass gives three outputs (Chen et al., arxiv:2402.03216), version 1, and language models.

Version 1 (arxiv:2309.07597) has the shapes and prompts of 1.5. bge-multilingual-gemma2 takes the state of the <eos> that ends a
text; its queries have a task in words, `encode_query(texts, task=…)`, and documents stand alone. bge-en-icl (arxiv:2409.15700) also
takes examples of the task, `encode_query(texts, task=…, examples=[(query, answer), …])`.
"""

from typing import Any

from zoo.models.mistral_embedding import mistral
from zoo.models.parts import (
    Cls,
    Embedder,
    Identity,
    InContextText,
    LastToken,
    LexicalWeights,
    TokenVectors,
    Tower,
    TransformersText,
)
from zoo.models.text import (
    BERT_BASE,
    BERT_SMALL,
    BGE,
    ENGLISH,
    TEXT,
    Backbone,
    byte_tokenizer,
    piece_tokenizer,
    text_embedder,
)
from zoo.models.text_encoders import (
    BERT_LARGE,
    CHINESE,
    MANY,
    XLMR_LONG,
    ZH_BASE,
    ZH_LARGE,
    ZH_SMALL,
    xlm_roberta,
)
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

M3: Facts = {
    **MANY,
    "license": "mit",
    "paper": "arxiv:2402.03216",
    "outputs": ("sparse", "tokens"),
}
SPECIAL = (0, 1, 2, 3)  # <s>, <pad>, </s> and <unk> of XLM-RoBERTa's vocabulary


def _m3(spec: ModelSpec, config: dict[str, Any], **options: Any) -> Embedder:
    width, vocab = config["hidden_size"], config["vocab_size"]
    outputs = {"sparse": LexicalWeights(width, vocab, list(SPECIAL)), "tokens": TokenVectors(width, width)}
    return Embedder(spec, [Tower(TransformersText(config, spec.max_tokens, **options), Cls(), Identity(), outputs)])


@register_model(
    hub_id="BAAI/bge-m3",
    revision="5617a9f61b028005a4858fdac845db406aefb181",
    **{**M3, **XLMR_LONG.facts, "max_tokens": 8192, "params": 567_755_777},
)
def bge_m3(spec: ModelSpec) -> Embedder:
    return _m3(spec, XLMR_LONG.config)


@register_model(**{**M3, "languages": (), "dim": 32, "params": 39_073, "max_tokens": 128, "license": "apache-2.0"})
def bge_m3_test(spec: ModelSpec) -> Embedder:
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = xlm_roberta(layers=2, width=32, heads=4, positions=130, **ids) | {"vocab_size": 260}
    tokenizer = byte_tokenizer(("<s>", "<pad>", "</s>", "<unk>"), "<s> $A </s>", "<unk>")
    return _m3(spec, config, tokenizer=tokenizer)


@register_model(
    hub_id="BAAI/bge-m3-unsupervised",
    revision="46f03bc86361cf88102b0b517b36c8259f2946b1",
    **{**M3, **XLMR_LONG.facts, "max_tokens": 8192, "outputs": ()},
)
def bge_m3_unsupervised(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, XLMR_LONG.config, Cls())


# -------------------------------------------------------------------------------------------------------------- version 1


@register_model(
    hub_id="BAAI/bge-small-en", revision="2275a7bdee235e9b4f01fa73aa60d3311983cfea", **BERT_SMALL.facts, **BGE
)
def bge_small_en(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_SMALL.config, Cls())


@register_model(
    hub_id="BAAI/bge-base-en", revision="b737bf5dcc6ee8bdc530531266b4804a5d77b5d8", **BERT_BASE.facts, **BGE
)
def bge_base_en(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_BASE.config, Cls())


@register_model(
    hub_id="BAAI/bge-large-en", revision="abe7d9d814b775ca171121fb03f394dc42974275", **BERT_LARGE.facts, **BGE
)
def bge_large_en(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_LARGE.config, Cls())


@register_model(
    hub_id="BAAI/bge-small-zh", revision="1d2363c5de6ce9ba9c890c8e23a4c72dce540ca8", **ZH_SMALL.facts, **CHINESE
)
def bge_small_zh(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, ZH_SMALL.config, Cls())


@register_model(
    hub_id="BAAI/bge-base-zh", revision="0e5f83d4895db7955e4cb9ed37ab73f7ded339b6", **ZH_BASE.facts, **CHINESE
)
def bge_base_zh(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, ZH_BASE.config, Cls())


@register_model(
    hub_id="BAAI/bge-large-zh", revision="b5d9f5c027e87b6f0b6fa4b614f8f9cdc45ce0e8", **ZH_LARGE.facts, **CHINESE
)
def bge_large_zh(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, ZH_LARGE.config, Cls())


# ----------------------------------------------------------------------------------------------------- language models

INSTRUCTION = "<instruct>{task}\n<query>"
SEARCH = "Given a web search query, retrieve relevant passages that answer the query."  # of the authors' usage
GEMMA2_FACTS: Facts = {
    **TEXT,
    "paper": "arxiv:2402.03216",
    "prompts": {"query": INSTRUCTION.replace("{task}", SEARCH), "document": ""},
    "instruction": INSTRUCTION,
}


def gemma2(
    *, layers: int, width: int, hidden: int, heads: int, pairs: int, vocab: int, **changes: Any
) -> dict[str, Any]:
    """Configuration of a Gemma 2 backbone (arxiv:2408.00118): every other block sees a window; `pairs` of keys and values."""
    return {
        "model_type": "gemma2",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": pairs,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "intermediate_size": hidden,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
        **changes,
    }


GEMMA2 = Backbone(gemma2(layers=42, width=3584, hidden=14_336, heads=16, pairs=8, vocab=256_002), 9_241_713_152)


@register_model(
    hub_id="BAAI/bge-multilingual-gemma2",
    revision="992e13d8984fde2c31ef8a3cb2c038aeec513b8a",
    **GEMMA2.facts,
    **GEMMA2_FACTS,
    license="gemma",
    languages=("en", "zh", "fr", "ja", "ko"),
)
def bge_multilingual_gemma2(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, GEMMA2.config, LastToken())


@register_model(**GEMMA2_FACTS, dim=32, params=24_064, max_tokens=128, license="apache-2.0")
def bge_gemma2_test(spec: ModelSpec) -> Embedder:
    sizes = {"head_dim": 8, "query_pre_attn_scalar": 8, "max_position_embeddings": 128, "sliding_window": 32}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    config = gemma2(layers=2, width=32, hidden=48, heads=4, pairs=2, vocab=263, **sizes, **ids)
    specials = ("<pad>", "<eos>", "<bos>", "<unk>", "<instruct>", "<query>")
    tokenizer = piece_tokenizer(specials, "<bos> $A <eos>", spaced=False)
    return text_embedder(spec, config, LastToken(), tokenizer=tokenizer)


ICL: Facts = {
    **ENGLISH,
    "license": "apache-2.0",
    "paper": "arxiv:2409.15700",
    "prompts": {"query": INSTRUCTION.replace("{task}", SEARCH), "document": ""},
    "instruction": INSTRUCTION,
    "example": "<instruct>{task}\n<query>{query}\n<response>{response}\n\n",
    "closing": "\n<response>",
}
# Mistral 7B with three more tokens.
MISTRAL = Backbone(mistral(layers=32, width=4096, hidden=14_336, heads=32, vocab=32_003), 7_110_672_384)


def _icl(spec: ModelSpec, config: dict[str, Any], **options: Any) -> Embedder:
    encoder = InContextText(config, spec.max_tokens, spec.closing, "<instruct>", **options)
    return Embedder(spec, [Tower(encoder, LastToken(), Identity())])


@register_model(
    hub_id="BAAI/bge-en-icl", revision="971c7e1445cc86656ca0bd85ed770b8675a40bb5", **{**ICL, **MISTRAL.facts}
)
def bge_en_icl(spec: ModelSpec) -> Embedder:
    return _icl(spec, MISTRAL.config)


@register_model(**{**ICL, "languages": (), "dim": 32, "params": 23_936, "max_tokens": 200})
def bge_icl_test(spec: ModelSpec) -> Embedder:
    from tokenizers import decoders

    sizes = {"num_key_value_heads": 2, "max_position_embeddings": 256, "sliding_window": 64}
    config = mistral(layers=2, width=32, hidden=48, heads=4, vocab=263, **sizes)
    specials = ("<unk>", "<s>", "</s>", "<instruct>", "<query>", "<response>")
    tokenizer = piece_tokenizer(specials, "<s> $A </s>", spaced=True)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)  # as Llama's
    return _icl(spec, config, tokenizer=tokenizer)
