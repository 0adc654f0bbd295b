"""Text embedders: one tower of a BERT or ModernBERT backbone, trained with contrastive losses on pairs of texts.

Sentence-BERT (Reimers and Gurevych, 2019, arxiv:1908.10084) began the line; each model names its own paper. Prompts are
the authors', to the letter: where a model has them, `encode_query` and `encode_document` put them before the text.
"""

from dataclasses import dataclass
from typing import Any

from zoo.models.parts import Cls, Embedder, Identity, Mean, Tower, TransformersText
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

TEXT: Facts = {"modalities": {"text"}, "demo": "search"}
ENGLISH: Facts = {**TEXT, "languages": ("en",)}
E5_PROMPTS = {"query": "query: ", "document": "passage: "}
BGE_PROMPTS = {"query": "Represent this sentence for searching relevant passages: "}
NOMIC_PROMPTS = {"query": "search_query: ", "document": "search_document: "}
BGE: Facts = {**ENGLISH, "license": "mit", "paper": "arxiv:2309.07597", "prompts": BGE_PROMPTS}
E5: Facts = {**ENGLISH, "license": "mit", "paper": "arxiv:2212.03533", "prompts": E5_PROMPTS}
GTE: Facts = {**ENGLISH, "license": "mit", "paper": "arxiv:2308.03281"}
GRANITE: Facts = {**ENGLISH, "license": "apache-2.0", "paper": "arxiv:2508.21085"}


def bert(*, layers: int, width: int, vocab: int = 30522, heads: int = 12, positions: int = 512) -> dict[str, Any]:
    """Configuration of a BERT backbone (Devlin et al., 2018)."""
    return {
        "model_type": "bert",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": positions,
    }


def modernbert(*, layers: int, width: int, hidden: int, heads: int = 12, **changes: Any) -> dict[str, Any]:
    """Configuration of a ModernBERT backbone (Warner et al., 2024, arxiv:2412.13663)."""
    return {
        "model_type": "modernbert",
        "vocab_size": 50368,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        "max_position_embeddings": 8192,
        **changes,
    }


@dataclass(frozen=True)
class Backbone:
    """A pretrained network: what transformers builds it of, and the facts of every model that keeps its width and length."""

    config: dict[str, Any]
    params: int

    @property
    def facts(self) -> Facts:
        """What follows from it."""
        dim, longest = self.config["hidden_size"], self.config["max_position_embeddings"]
        return {"dim": dim, "params": self.params, "max_tokens": longest}


MINILM = Backbone(bert(layers=6, width=384), params=22_565_376)
BERT_SMALL = Backbone(bert(layers=12, width=384), params=33_212_160)
BERT_SMALL_MULTILINGUAL = Backbone(bert(layers=12, width=384, vocab=250_037), params=117_505_920)
BERT_BASE = Backbone(bert(layers=12, width=768), params=108_891_648)
MODERNBERT_SMALL = Backbone(modernbert(layers=12, width=384, hidden=1536), params=47_662_464)
MODERNBERT_BASE = Backbone(modernbert(layers=22, width=768, hidden=1152), params=149_014_272)


BERT_SPECIALS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")


def byte_tokenizer(
    specials: tuple[str, ...] = BERT_SPECIALS, around: str = "[CLS] $A [SEP]", unknown: str | None = "[UNK]"
) -> Any:
    """A `tokenizers.Tokenizer` of the special tokens and the 256 bytes: reads any text, needs no file.

    Args:
        around: what is put around a text, "$A", of the special tokens.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocab = {token: i for i, token in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=unknown))
    tokenizer.add_special_tokens(list(specials))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = [token for token in around.split() if token != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[(token, vocab[token]) for token in ends]
    )
    return tokenizer


def pair_tokenizer() -> Any:
    """`byte_tokenizer` of two texts too, as BERT's: `[CLS] $A [SEP] $B [SEP]`, the second text with tokens of the type 1."""
    from tokenizers import processors

    tokenizer = byte_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def piece_tokenizer(specials: tuple[str, ...], around: str, *, spaced: bool) -> Any:
    """As `byte_tokenizer`, laid out like SentencePiece's: a space is "▁", what is in no vocabulary falls back to its bytes.

    Args:
        spaced: whether a text gets a space before it, as Llama's and Mistral's do and Gemma's don't.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    unknown = "<unk>" if "<unk>" in specials else None
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=unknown, byte_fallback=True, fuse_unk=True))
    tokenizer.add_special_tokens(list(specials))
    if spaced:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    ends = [token for token in around.split() if token != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[(token, vocab[token]) for token in ends]
    )
    return tokenizer


def text_embedder(spec: ModelSpec, config: dict[str, Any], pooler: Any, head: Any = None, **options: Any) -> Embedder:
    """One tower of this backbone; `options` are further arguments of `TransformersText`."""
    encoder = TransformersText(config, spec.max_tokens, **options)
    return Embedder(spec, [Tower(encoder, pooler, Identity() if head is None else head)])


@register_model(
    hub_id="sentence-transformers/all-MiniLM-L6-v2",
    revision="e4ce9877abf3edfe10b0d82785e83bdcb973e22e",
    license="apache-2.0",
    paper="arxiv:1908.10084",
    **{**MINILM.facts, "max_tokens": 256},
    **ENGLISH,
)
def all_minilm_l6_v2(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(MINILM.config, spec.max_tokens), Mean(), Identity())])


@register_model(
    name="bge-small-en-v1.5",
    hub_id="BAAI/bge-small-en-v1.5",
    revision="5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
    **BERT_SMALL.facts,
    **BGE,
)
def bge_small_en_v1_5(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(BERT_SMALL.config, spec.max_tokens), Cls(), Identity())])


@register_model(
    name="bge-base-en-v1.5",
    hub_id="BAAI/bge-base-en-v1.5",
    revision="a5beb1e3e68b9ab74eb54cfd186867f64f240e1a",
    **BERT_BASE.facts,
    **BGE,
)
def bge_base_en_v1_5(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(BERT_BASE.config, spec.max_tokens), Cls(), Identity())])


@register_model(hub_id="intfloat/e5-small-v2", **BERT_SMALL.facts, **E5)
def e5_small_v2(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(BERT_SMALL.config, spec.max_tokens), Mean(), Identity())])


@register_model(hub_id="intfloat/e5-base-v2", **BERT_BASE.facts, **E5)
def e5_base_v2(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(BERT_BASE.config, spec.max_tokens), Mean(), Identity())])


@register_model(
    hub_id="intfloat/multilingual-e5-small",
    **BERT_SMALL_MULTILINGUAL.facts,
    **{**E5, "paper": "arxiv:2402.05672", "languages": ("multilingual",)},
)
def multilingual_e5_small(spec: ModelSpec) -> Embedder:
    encoder = TransformersText(BERT_SMALL_MULTILINGUAL.config, spec.max_tokens)
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])


@register_model(
    hub_id="thenlper/gte-small", revision="17e1f347d17fe144873b1201da91788898c639cd", **BERT_SMALL.facts, **GTE
)
def gte_small(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(BERT_SMALL.config, spec.max_tokens), Mean(), Identity())])


@register_model(
    hub_id="thenlper/gte-base", revision="c078288308d8dee004ab72c6191778064285ec0c", **BERT_BASE.facts, **GTE
)
def gte_base(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(BERT_BASE.config, spec.max_tokens), Mean(), Identity())])


@register_model(hub_id="Alibaba-NLP/gte-modernbert-base", **MODERNBERT_BASE.facts, **{**GTE, "license": "apache-2.0"})
def gte_modernbert_base(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(MODERNBERT_BASE.config, spec.max_tokens), Cls(), Identity())])


@register_model(
    hub_id="nomic-ai/modernbert-embed-base",
    revision="5960f1566fb7cb1adf1eb6e816639cf4646d9b12",
    license="apache-2.0",
    paper="arxiv:2402.01613",
    dims=(768, 256),
    prompts=NOMIC_PROMPTS,
    **MODERNBERT_BASE.facts,
    **ENGLISH,
)
def modernbert_embed_base(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(MODERNBERT_BASE.config, spec.max_tokens), Mean(), Identity())])


@register_model(
    hub_id="ibm-granite/granite-embedding-english-r2",
    revision="6e7b8ce0e76270394ac4669ba4bbd7133b60b7f9",
    **MODERNBERT_BASE.facts,
    **GRANITE,
)
def granite_embedding_english_r2(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(MODERNBERT_BASE.config, spec.max_tokens), Cls(), Identity())])


@register_model(
    hub_id="ibm-granite/granite-embedding-small-english-r2",
    revision="54a8d2616a0844355a5164432d3f6dafb37b17a3",
    **MODERNBERT_SMALL.facts,
    **GRANITE,
)
def granite_embedding_small_english_r2(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(MODERNBERT_SMALL.config, spec.max_tokens), Cls(), Identity())])


@register_model(dim=32, params=35_904, license="apache-2.0", max_tokens=64, prompts=E5_PROMPTS, dims=(32, 16), **TEXT)
def text_test(spec: ModelSpec) -> Embedder:
    config = bert(layers=2, width=32, vocab=260, heads=4, positions=64)
    encoder = TransformersText(config, spec.max_tokens, tokenizer=byte_tokenizer())
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])


@register_model(dim=32, params=43_424, license="apache-2.0", max_tokens=256, **TEXT)
def modernbert_test(spec: ModelSpec) -> Embedder:
    ids = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    config = modernbert(layers=4, width=32, hidden=48, heads=4, vocab_size=260, local_attention=16, **ids)
    encoder = TransformersText(config, spec.max_tokens, tokenizer=byte_tokenizer())
    return Embedder(spec, [Tower(encoder, Cls(), Identity())])
