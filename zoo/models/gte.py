"""Alibaba's GTE encoders of long texts (mGTE, Zhang et al., 2024, arxiv:2407.19669), and what others trained from them.

A BERT with turned positions and a gated feed-forward part. The code beside the weights, Alibaba-NLP/new-impl, came before transformers'
class, which computes the same: the zoo takes the class. gte-multilingual-base also weighs each token, for sparse search. Arctic m v2.0
(arxiv:2412.04506) began as gte-multilingual-base, Stella 400M (arxiv:2412.19048) as gte-large-en-v1.5.
"""

from typing import Any

from zoo.encoders.ntk import ntk_positions
from zoo.models.gte_qwen2 import STELLA, stella_head
from zoo.models.parts import Cls, Embedder, Identity, LexicalWeights, Mean, Tower, TransformersText
from zoo.models.text import ENGLISH, TEXT, Backbone, byte_tokenizer, text_embedder
from zoo.models.text_encoders import MANY, published
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

GTE: Facts = {"license": "apache-2.0", "paper": "arxiv:2407.19669"}
ARCTIC_EMBED: Facts = {"license": "apache-2.0", "paper": "arxiv:2412.04506", "prompts": {"query": "query: "}}
SPECIAL = (0, 1, 2, 3)  # <s>, <pad>, </s> and <unk> of XLM-RoBERTa's vocabulary, which have no lexical weight


def gte(
    *, layers: int, width: int, heads: int, vocab: int, types: int, theta: float, ntk: float = 1.0
) -> dict[str, Any]:
    """Configuration of a GTE backbone.

    Args:
        types: token types, 0 for none. theta, ntk: base of the turned positions, and the factor that stretches them.
    """
    return {
        "model_type": "gte",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 8192,
        "type_vocab_size": types,
        "rope_parameters": ntk_positions(theta, ntk, width // heads),
    }


def _weighing(spec: ModelSpec, config: dict[str, Any], **options: Any) -> Embedder:
    """A tower that also weighs each token, for sparse search."""
    outputs = {"sparse": LexicalWeights(config["hidden_size"], config["vocab_size"], list(SPECIAL))}
    return Embedder(spec, [Tower(TransformersText(config, spec.max_tokens, **options), Cls(), Identity(), outputs)])


_BASE = {"layers": 12, "width": 768, "heads": 12}
MULTILINGUAL = Backbone(gte(**_BASE, vocab=250_048, types=1, theta=20_000.0, ntk=8.0), 305_368_320)
ARCTIC = Backbone(gte(**_BASE, vocab=250_048, types=1, theta=160_000.0), 305_368_320)
BASE_EN = Backbone(gte(**_BASE, vocab=30_528, types=0, theta=500_000.0, ntk=2.0) | {"pad_token_id": 0}, 136_776_192)
LARGE_EN = Backbone(
    gte(layers=24, width=1024, heads=16, vocab=30_528, types=2, theta=160_000.0, ntk=2.0) | {"pad_token_id": 0},
    434_139_136,
)


@register_model(
    **published("Alibaba-NLP/gte-multilingual-base", "9bbca17d9273fd0d03d5725c7a4b0f6b45142062"),
    **{**MANY, **GTE, **MULTILINGUAL.facts, "params": 305_369_089},
    dims=(768, 512, 256, 128),
    outputs=("sparse",),
)
def gte_multilingual_base(spec: ModelSpec) -> Embedder:
    return _weighing(spec, MULTILINGUAL.config)


@register_model(
    **published("Alibaba-NLP/gte-base-en-v1.5", "a829fd0e060bb84554da0dfd354d0de0f7712b7f"),
    **{**ENGLISH, **GTE, **BASE_EN.facts},
)
def gte_base_en_v1_5(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BASE_EN.config, Cls())


@register_model(
    **published("Alibaba-NLP/gte-large-en-v1.5", "104333d6af6f97649377c2afbde10a7704870c7b"),
    **{**ENGLISH, **GTE, **LARGE_EN.facts},
)
def gte_large_en_v1_5(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, LARGE_EN.config, Cls())


@register_model(
    **published("NovaSearch/stella_en_400M_v5", "1bb50bc7bb726810eac2140e62155b88b0df198f"),
    **{**STELLA, "attention": None, "params": 435_188_736, "max_tokens": 512},
)
def stella_en_400m_v5(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, LARGE_EN.config, Mean(), stella_head(1024, 1024))


@register_model(
    **published("Snowflake/snowflake-arctic-embed-m-v2.0", "f2a7d59d80dfda5b1d14f096f3ce88bb6bf9ebdc"),
    **{**MANY, **ARCTIC.facts, **ARCTIC_EMBED, "dims": (768, 256)},
)
def snowflake_arctic_embed_m_v2_0(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, ARCTIC.config, Cls())


@register_model(
    **{**TEXT, **GTE, "dim": 32, "dims": (32, 16), "outputs": ("sparse",), "params": 41_793, "max_tokens": 256}
)
def gte_test(spec: ModelSpec) -> Embedder:
    config = gte(layers=2, width=32, heads=4, vocab=260, types=1, theta=20_000.0, ntk=8.0)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 256}
    tokenizer = byte_tokenizer(("<s>", "<pad>", "</s>", "<unk>"), "<s> $A </s>", "<unk>")
    return _weighing(spec, config | ids, tokenizer=tokenizer)
