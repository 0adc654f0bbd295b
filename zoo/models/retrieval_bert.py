"""BERT embedders for retrieval: LLM-Embedder, with a prompt for each of six tasks (arxiv:2310.07554), and PEG (arxiv:2311.11691).

LLM-Embedder finds what a language model needs: `encode_query(…, task="tool")` and `encode_document(…, task="tool")`.
"""

from zoo.models.parts import Cls, Embedder, Identity, Tower, TransformersText
from zoo.models.text import BERT_BASE, bert, byte_tokenizer
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

TEXT: Facts = {"modalities": {"text"}, "demo": "search"}
# Task → what is put before a query and before what is found, as the authors' README has them.
TASKS = {
    "qa": (
        "Represent this query for retrieving relevant documents: ",
        "Represent this document for retrieval: ",
    ),
    "convsearch": (
        "Encode this query and context for searching relevant passages: ",
        "Encode this passage for retrieval: ",
    ),
    "chat": (
        "Embed this dialogue to find useful historical dialogues: ",
        "Embed this historical dialogue for retrieval: ",
    ),
    "lrlm": (
        "Embed this text chunk for finding useful historical chunks: ",
        "Embed this historical text chunk for retrieval: ",
    ),
    "icl": (
        "Convert this example into vector to look for useful examples: ",
        "Convert this example into vector for retrieval: ",
    ),
    "tool": (
        "Transform this user request for fetching helpful tool descriptions: ",
        "Transform this tool description for retrieval: ",
    ),
}
PROMPTS = {
    f"{task}-{role}": prompt
    for task, two in TASKS.items()
    for role, prompt in zip(("query", "document"), two, strict=True)
}
LLM_EMBEDDER: Facts = {
    **TEXT,
    "languages": ("en",),
    "paper": "arxiv:2310.07554",
    "prompts": PROMPTS,
    "roles": {role: f"qa-{role}" for role in ("query", "document")},  # where no task is named
}


@register_model(
    hub_id="BAAI/llm-embedder",
    revision="c3e8ac86ff4859012570d6b59341fe67b88e55ad",
    license="mit",
    **BERT_BASE.facts,
    **LLM_EMBEDDER,
)
def llm_embedder(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(BERT_BASE.config, spec.max_tokens), Cls(), Identity())])


@register_model(
    hub_id="TownsWu/PEG",
    dim=1024,
    params=324_472_832,
    max_tokens=512,
    license="apache-2.0",
    paper="arxiv:2311.11691",
    languages=("zh",),
    pooling="Cls",  # its repository holds a plain backbone, and its card says the pooling
    **TEXT,
)
def peg(spec: ModelSpec) -> Embedder:
    config = bert(layers=24, width=1024, vocab=21128, heads=16)
    return Embedder(spec, [Tower(TransformersText(config, spec.max_tokens), Cls(), Identity())])


@register_model(dim=32, params=35_904, max_tokens=64, license="apache-2.0", **{**LLM_EMBEDDER, "languages": ()})
def llm_embedder_test(spec: ModelSpec) -> Embedder:
    config = bert(layers=2, width=32, vocab=260, heads=4, positions=64)
    encoder = TransformersText(config, spec.max_tokens, tokenizer=byte_tokenizer())
    return Embedder(spec, [Tower(encoder, Cls(), Identity())])
