"""More text embedders on BERT and XLM-RoBERTa: BGE large and Chinese, GIST, mxbai, UAE, multilingual E5, Arctic v2, LaBSE."""

from typing import Any

from zoo.models.parts import Cls, DenseStack, Embedder, Mean
from zoo.models.text import (
    BERT_BASE,
    BERT_SMALL,
    BGE,
    BGE_PROMPTS,
    E5_PROMPTS,
    ENGLISH,
    MINILM,
    TEXT,
    Backbone,
    bert,
    byte_tokenizer,
    text_embedder,
)
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

MANY: Facts = {**TEXT, "languages": ("multilingual",)}
CHINESE: Facts = {**BGE, "languages": ("zh",), "prompts": {"query": "为这个句子生成表示以用于检索相关文章："}}
ANGLE: Facts = {**ENGLISH, "paper": "arxiv:2309.12871", "prompts": BGE_PROMPTS}  # trained by AnglE's loss
GIST: Facts = {**ENGLISH, "license": "mit", "paper": "arxiv:2402.16829"}
E5: Facts = {**MANY, "license": "mit", "paper": "arxiv:2402.05672", "prompts": E5_PROMPTS}
E5_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
E5_INSTRUCT: Facts = {"prompts": {"query": E5_SEARCH, "document": ""}, "instruction": "Instruct: {task}\nQuery: "}
REVISIONS = {
    "BAAI/bge-large-en-v1.5": "d4aa6901d3a41ba39fb536a557fa166f842b0e09",
    "BAAI/bge-small-zh-v1.5": "7999e1d3359715c523056ef9478215996d62a620",
    "BAAI/bge-base-zh-v1.5": "f03589ceff5aac7111bd60cfc7d497ca17ecac65",
    "BAAI/bge-large-zh-v1.5": "79e7739b6ab944e86d6171e44d24c997fc1e0116",
    "mixedbread-ai/mxbai-embed-large-v1": "990580e27d329c7408b3741ecff85876e128e203",
    "WhereIsAI/UAE-Large-V1": "369c368f70f16a613f19f5598d4f12d9f44235d4",
    "avsolatorio/GIST-all-MiniLM-L6-v2": "ea89dfad053bba14677bb784a4269898abbdce44",
    "avsolatorio/GIST-small-Embedding-v0": "d6c4190f9e01b9994dc7cac99cf2f2b85cfb57bc",
    "avsolatorio/GIST-Embedding-v0": "bf6b2e55e92f510a570ad4d7d2da2ec8cd22590c",
    "avsolatorio/GIST-large-Embedding-v0": "7831200e2f7819b994490c091cf3258a2b821f0c",
    "intfloat/multilingual-e5-base": "d13f1b27baf31030b7fd040960d60d909913633f",
    "intfloat/multilingual-e5-large": "ab10c1a7f42e74530fe7ae5be82e6d4f11a719eb",
    "intfloat/multilingual-e5-large-instruct": "baa7be480a7de1539afce709c8f13f833a510e0a",
    "Snowflake/snowflake-arctic-embed-l-v2.0": "edc2df7b6c25794b340229ca082e7c78782e6374",
    "sentence-transformers/LaBSE": "e34fab64a3011d2176c99545a93d5cbddc9a91b7",
}


def published(repository: str, revision: str = "") -> Facts:
    """The facts that follow from where a model is published: its name is the repository's, in lower case.

    Args:
        revision: by default that of `REVISIONS`.
    """
    name = repository.rpartition("/")[2].lower().replace("_", "-")
    return {"name": name, "hub_id": repository, "revision": revision or REVISIONS[repository]}


def xlm_roberta(*, layers: int, width: int, heads: int, positions: int = 514, **changes: Any) -> dict[str, Any]:
    """Configuration of an XLM-RoBERTa backbone (arxiv:1911.02116), whose first two positions are no token's."""
    shape = bert(layers=layers, width=width, heads=heads, vocab=250_002, positions=positions)
    return {**shape, "model_type": "xlm-roberta", "type_vocab_size": 1, **changes}


def labse_head(width: int) -> Any:
    """LaBSE's dense layer after the pooling."""
    return DenseStack([{"kind": "dense", "width": width, "dim": width, "bias": True, "activation": "Tanh"}])


BERT_LARGE = Backbone(bert(layers=24, width=1024, heads=16), 334_092_288)
ZH_SMALL = Backbone(bert(layers=4, width=512, heads=8, vocab=21_128), 23_691_264)
ZH_BASE = Backbone(bert(layers=12, width=768, vocab=21_128), 101_677_056)
ZH_LARGE = Backbone(bert(layers=24, width=1024, heads=16, vocab=21_128), 324_472_832)
XLMR_BASE = Backbone(xlm_roberta(layers=12, width=768, heads=12), 277_453_056)
XLMR_LARGE = Backbone(xlm_roberta(layers=24, width=1024, heads=16), 558_840_832)
XLMR_LONG = Backbone(xlm_roberta(layers=24, width=1024, heads=16, positions=8194), 566_705_152)
LABSE = Backbone(bert(layers=12, width=768, vocab=501_153), 470_926_848)


@register_model(**published("BAAI/bge-large-en-v1.5"), **BERT_LARGE.facts, **BGE)
def bge_large_en_v1_5(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_LARGE.config, Cls())


@register_model(**published("BAAI/bge-small-zh-v1.5"), **ZH_SMALL.facts, **CHINESE)
def bge_small_zh_v1_5(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, ZH_SMALL.config, Cls())


@register_model(**published("BAAI/bge-base-zh-v1.5"), **ZH_BASE.facts, **CHINESE)
def bge_base_zh_v1_5(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, ZH_BASE.config, Cls())


@register_model(**published("BAAI/bge-large-zh-v1.5"), **ZH_LARGE.facts, **CHINESE)
def bge_large_zh_v1_5(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, ZH_LARGE.config, Cls())


@register_model(
    **published("mixedbread-ai/mxbai-embed-large-v1"),
    **{**ANGLE, **BERT_LARGE.facts, "license": "apache-2.0", "dims": (1024, 512)},
)
def mxbai_embed_large_v1(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_LARGE.config, Cls())


@register_model(**published("WhereIsAI/UAE-Large-V1"), **{**ANGLE, **BERT_LARGE.facts, "license": "mit"})
def uae_large_v1(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_LARGE.config, Cls())


@register_model(**published("avsolatorio/GIST-all-MiniLM-L6-v2"), **MINILM.facts, **GIST)
def gist_all_minilm_l6_v2(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, MINILM.config, Mean())


@register_model(**published("avsolatorio/GIST-small-Embedding-v0"), **BERT_SMALL.facts, **GIST)
def gist_small_embedding_v0(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_SMALL.config, Cls())


@register_model(**published("avsolatorio/GIST-Embedding-v0"), **BERT_BASE.facts, **GIST)
def gist_embedding_v0(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_BASE.config, Cls())


@register_model(**published("avsolatorio/GIST-large-Embedding-v0"), **BERT_LARGE.facts, **GIST)
def gist_large_embedding_v0(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, BERT_LARGE.config, Cls())


@register_model(**published("intfloat/multilingual-e5-base"), **{**E5, **XLMR_BASE.facts, "max_tokens": 512})
def multilingual_e5_base(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, XLMR_BASE.config, Mean())


@register_model(**published("intfloat/multilingual-e5-large"), **{**E5, **XLMR_LARGE.facts, "max_tokens": 512})
def multilingual_e5_large(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, XLMR_LARGE.config, Mean())


@register_model(
    **published("intfloat/multilingual-e5-large-instruct"),
    **{**E5, **XLMR_LARGE.facts, "max_tokens": 512, **E5_INSTRUCT},
)
def multilingual_e5_large_instruct(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, XLMR_LARGE.config, Mean())


@register_model(
    **published("Snowflake/snowflake-arctic-embed-l-v2.0"),
    **{**MANY, **XLMR_LONG.facts, "max_tokens": 8192, "dims": (1024, 256), "license": "apache-2.0"},
    prompts={"query": "query: "},
    paper="arxiv:2412.04506",
)
def snowflake_arctic_embed_l_v2_0(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, XLMR_LONG.config, Cls())


@register_model(
    **published("sentence-transformers/LaBSE"),
    **{**MANY, **LABSE.facts, "max_tokens": 256, "license": "apache-2.0", "paper": "arxiv:2007.01852"},
)
def labse(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, LABSE.config, Cls(), labse_head(768))


@register_model(**{**MANY, "languages": (), "dim": 32, "params": 37_984, "max_tokens": 128, "license": "apache-2.0"})
def text_encoders_test(spec: ModelSpec) -> Embedder:
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = xlm_roberta(layers=2, width=32, heads=4, positions=130, **ids) | {"vocab_size": 260}
    tokenizer = byte_tokenizer(("<s>", "<pad>", "</s>", "<unk>"), "<s> $A </s>", "<unk>")
    return text_embedder(spec, config, Cls(), tokenizer=tokenizer)
