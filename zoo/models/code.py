"""Embedders of code: UniXcoder, CodeBERT, GraphCodeBERT, CodeRankEmbed, nomic-embed-code, jina-code-embeddings.

UniXcoder (Guo et al., 2022, arxiv:2203.03850) reads a token before each text that says how, <encoder-only>; `encode` puts it
there too. CodeBERT (arxiv:2002.08155) and GraphCodeBERT (arxiv:2009.08366) were trained to fill in and to tell, not to embed: the
first token's state is where fine-tuning begins. CodeRankEmbed and nomic-embed-code were trained on CoRNStack (arxiv:2412.01007).
jina-code-embeddings (arxiv:2508.21290) has a prompt for each of five tasks and both roles: `encode_query(…, task="code2nl")`.
"""

import json
from typing import Any

from zoo.models.nomic import NOMIC
from zoo.models.parts import AroundText, Cls, Embedder, Identity, LastToken, Mean, Tower
from zoo.models.qwen2_text import KALM, QZHOU, qwen2
from zoo.models.text import ENGLISH, Backbone, bert, byte_tokenizer, text_embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

MODE = "<encoder-only></s>"
UNIXCODER: Facts = {
    **ENGLISH,
    "license": "apache-2.0",
    "paper": "arxiv:2203.03850",
    "max_tokens": 512,
    "pooling": "Mean",  # its repository holds a plain backbone, and the authors' unixcoder.py the pooling
    "prompts": {"encoder-only": MODE},
    "default_prompt_name": "encoder-only",
    "roles": {"query": "encoder-only", "document": "encoder-only"},
    "around": {MODE: "<encoder-only> </s> $A"},
}
CODEBERT: Facts = {**ENGLISH, "license": "mit", "max_tokens": 512, "pooling": "Cls"}
CORNSTACK: Facts = {
    **ENGLISH,
    "paper": "arxiv:2412.01007",
    "prompts": {"query": "Represent this query for searching relevant code: "},
}
# Task → what is put before a query and before what is found, as the authors' README has them.
TASKS = {
    "nl2code": ("Find the most relevant code snippet given the following query:\n", "Candidate code snippet:\n"),
    "qa": ("Find the most relevant answer given the following question:\n", "Candidate answer:\n"),
    "code2code": (
        "Find an equivalent code snippet given the following code snippet:\n",
        "Candidate code snippet:\n",
    ),
    "code2nl": ("Find the most relevant comment given the following code snippet:\n", "Candidate comment:\n"),
    "code2completion": (
        "Find the most relevant completion given the following start of code snippet:\n",
        "Candidate completion:\n",
    ),
}
JINA: Facts = {
    **ENGLISH,
    "license": "cc-by-nc-4.0",
    "paper": "arxiv:2508.21290",
    "max_tokens": 32_768,
    "attention": "causal",
    "prompts": {
        f"{task}_{role}": prompt
        for task, two in TASKS.items()
        for role, prompt in zip(("query", "document"), two, strict=True)
    },
    "roles": {"query": "nl2code_query", "document": "nl2code_document"},  # where no task is named
}


def roberta(*, layers: int, width: int, heads: int, vocab: int, positions: int, **changes: Any) -> dict[str, Any]:
    """Configuration of a RoBERTa backbone (arxiv:1907.11692), whose first two positions are no token's."""
    shape = bert(layers=layers, width=width, heads=heads, vocab=vocab, positions=positions)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    return {**shape, "model_type": "roberta", "type_vocab_size": 1, "layer_norm_eps": 1e-5, **ids, **changes}


UNIXCODER_BASE = Backbone(
    roberta(layers=12, width=768, heads=12, vocab=51_416, positions=1026, type_vocab_size=10), 125_339_136
)
ROBERTA_BASE = Backbone(roberta(layers=12, width=768, heads=12, vocab=50_265, positions=514), 124_055_040)
QWEN_1500M = Backbone(qwen2(layers=28, width=1536, hidden=8960, heads=12, num_key_value_heads=2), 1_543_714_304)


def unixcoder(spec: ModelSpec, config: dict[str, Any], **options: Any) -> Embedder:
    """One tower whose texts begin with the mode's token."""
    encoder = AroundText(config, spec.max_tokens, dict(spec.around), **options)
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])


@register_model(hub_id="microsoft/unixcoder-base", dim=768, params=UNIXCODER_BASE.params, **UNIXCODER)
def unixcoder_base(spec: ModelSpec) -> Embedder:
    return unixcoder(spec, UNIXCODER_BASE.config)


@register_model(hub_id="microsoft/unixcoder-base-nine", dim=768, params=UNIXCODER_BASE.params, **UNIXCODER)
def unixcoder_base_nine(spec: ModelSpec) -> Embedder:
    return unixcoder(spec, UNIXCODER_BASE.config)


@register_model(
    hub_id="microsoft/codebert-base", dim=768, params=ROBERTA_BASE.params, paper="arxiv:2002.08155", **CODEBERT
)
def codebert_base(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, ROBERTA_BASE.config, Cls())


@register_model(
    hub_id="microsoft/graphcodebert-base", dim=768, params=ROBERTA_BASE.params, paper="arxiv:2009.08366", **CODEBERT
)
def graphcodebert_base(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, ROBERTA_BASE.config, Cls())


@register_model(hub_id="nomic-ai/CodeRankEmbed", license="mit", **NOMIC.facts, **CORNSTACK)
def coderankembed(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, NOMIC.config, Cls())


@register_model(
    hub_id="nomic-ai/nomic-embed-code",
    revision="11114029805cee545ef111d5144b623787462a52",
    dim=3584,
    params=7_070_619_136,
    max_tokens=32_768,
    license="apache-2.0",
    attention="causal",
    **CORNSTACK,
)
def nomic_embed_code(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, QZHOU, LastToken())  # of the shape of QZhou's, Qwen2.5 7B


@register_model(
    name="jina-code-embeddings-0.5b",
    hub_id="jinaai/jina-code-embeddings-0.5b",
    dim=896,
    dims=(896, 512, 256, 128, 64),
    params=494_032_768,
    **JINA,
)
def jina_code_embeddings_500m(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, KALM, LastToken())  # of the shape of KaLM's, Qwen2.5 0.5B


@register_model(
    name="jina-code-embeddings-1.5b",
    hub_id="jinaai/jina-code-embeddings-1.5b",
    dim=1536,
    dims=(1536, 1024, 512, 256, 128),
    params=QWEN_1500M.params,
    **JINA,
)
def jina_code_embeddings_1500m(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, QWEN_1500M.config, LastToken())


def unixcoder_tokenizer() -> Any:
    """A `tokenizers.Tokenizer` of the bytes as RoBERTa's, with <encoder-only> an entry like any other, which no text gives."""
    from tokenizers import Tokenizer

    specials = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<encoder-only>")
    core = json.loads(byte_tokenizer(specials, "<s> $A </s>", "<unk>").to_str())
    core["added_tokens"] = [token for token in core["added_tokens"] if token["content"] != "<encoder-only>"]
    return Tokenizer.from_str(json.dumps(core))


@register_model(**{**UNIXCODER, "languages": (), "dim": 32, "params": 38_336, "max_tokens": 120})
def unixcoder_test(spec: ModelSpec) -> Embedder:
    config = roberta(layers=2, width=32, heads=4, vocab=262, positions=130, type_vocab_size=10)
    return unixcoder(spec, config, tokenizer=unixcoder_tokenizer())
