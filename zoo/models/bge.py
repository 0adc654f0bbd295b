"""BGE beyond its first line: BGE-M3, whose one pass gives a vector, lexical weights and token vectors (Chen et al., arxiv:2402.03216)."""

from typing import Any

from zoo.models.parts import Cls, Embedder, Identity, LexicalWeights, TokenVectors, Tower, TransformersText
from zoo.models.text import byte_tokenizer
from zoo.models.text_encoders import MANY, XLMR_LONG, xlm_roberta
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
