"""Granite Embedding (IBM): the first generation on RoBERTa and XLM-R (arxiv:2502.20204), and multilingual R2 on ModernBERT.

The first token's state; no prompts. English R2 is in `zoo/models/text.py`.
"""

from typing import Any

from zoo.models.parts import Cls, Embedder, Identity, Tower, TransformersText
from zoo.models.text import byte_tokenizer, modernbert
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec


def roberta(
    *, layers: int, width: int, vocab: int, types: int, kind: str = "roberta", **changes: Any
) -> dict[str, Any]:
    """Configuration of a RoBERTa or XLM-R backbone of 512 tokens; its positions begin after two that no token has."""
    return {
        "model_type": kind,
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 12,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 514,
        "type_vocab_size": types,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        **changes,
    }


TEXT: Facts = {"modalities": {"text"}, "license": "apache-2.0", "demo": "search"}
# The twelve languages of its first generation.
LANGUAGES = ("ar", "cs", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pt", "zh")
FIRST: Facts = {**TEXT, "paper": "arxiv:2502.20204", "max_tokens": 512}
R2: Facts = {**TEXT, "paper": "arxiv:2605.13521", "max_tokens": 8192, "languages": ("multilingual",)}


def _cls(spec: ModelSpec, config: dict[str, Any], tokenizer: Any = None) -> Embedder:
    encoder = TransformersText(config, spec.max_tokens, tokenizer=tokenizer)
    return Embedder(spec, [Tower(encoder, Cls(), Identity())])


@register_model(
    name="granite-embedding-30m-english",
    hub_id="ibm-granite/granite-embedding-30m-english",
    revision="eddbb57470f896b5f8e2bfcb823d8f0e2d2024a5",
    dim=384,
    params=30_147_456,
    languages=("en",),
    **FIRST,
)
def granite_30m(spec: ModelSpec) -> Embedder:
    return _cls(spec, roberta(layers=6, width=384, vocab=50265, types=2))


@register_model(
    name="granite-embedding-125m-english",
    hub_id="ibm-granite/granite-embedding-125m-english",
    revision="e48d3a5b47eaa18e3fe07d4676e187fd80f32730",
    dim=768,
    params=124_055_040,
    languages=("en",),
    **FIRST,
)
def granite_125m(spec: ModelSpec) -> Embedder:
    return _cls(spec, roberta(layers=12, width=768, vocab=50265, types=1))


@register_model(
    name="granite-embedding-107m-multilingual",
    hub_id="ibm-granite/granite-embedding-107m-multilingual",
    revision="47db56afe692f731540413c67dd818ff492277e7",
    dim=384,
    params=106_846_464,
    languages=LANGUAGES,
    **FIRST,
)
def granite_107m(spec: ModelSpec) -> Embedder:
    return _cls(spec, roberta(layers=6, width=384, vocab=250_002, types=2, kind="xlm-roberta"))


@register_model(
    name="granite-embedding-278m-multilingual",
    hub_id="ibm-granite/granite-embedding-278m-multilingual",
    revision="84e3546b88b0cb69f8078608a1df558020bcbf1f",
    dim=768,
    params=277_453_056,
    languages=LANGUAGES,
    **FIRST,
)
def granite_278m(spec: ModelSpec) -> Embedder:
    return _cls(spec, roberta(layers=12, width=768, vocab=250_002, types=1, kind="xlm-roberta"))


@register_model(
    name="granite-embedding-97m-multilingual-r2",
    hub_id="ibm-granite/granite-embedding-97m-multilingual-r2",
    revision="c61e626a6255c490879d0af885078b61929d51f6",
    dim=384,
    params=97_441_152,
    **R2,
)
def granite_97m_r2(spec: ModelSpec) -> Embedder:
    return _cls(spec, modernbert(layers=12, width=384, hidden=1536, vocab_size=180_000))


@register_model(
    name="granite-embedding-311m-multilingual-r2",
    hub_id="ibm-granite/granite-embedding-311m-multilingual-r2",
    revision="dba7b0ee9d789f330fecfb85df57699f9e7d9c42",
    dim=768,
    dims=(768, 512, 384, 256, 128),
    params=311_664_384,
    **R2,
)
def granite_311m_r2(spec: ModelSpec) -> Embedder:
    return _cls(spec, modernbert(layers=22, width=768, hidden=1152, vocab_size=262_152))


@register_model(dim=32, params=35_968, **{**FIRST, "max_tokens": 64})
def granite_test(spec: ModelSpec) -> Embedder:
    small = {"max_position_embeddings": 66, "num_attention_heads": 4, "pad_token_id": 0}
    config = roberta(layers=2, width=32, vocab=260, types=2, kind="xlm-roberta", **small)
    return _cls(spec, config, byte_tokenizer())
