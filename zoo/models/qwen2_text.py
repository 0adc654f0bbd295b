"""Text embedders on Qwen2: KaLM (Hu et al., 2025, arxiv:2501.01028; v2: Zhao et al., arxiv:2506.20923) and QZhou (arxiv:2508.21632).

The mean of all tokens; a task described in words stands before queries, and nothing before documents. Code of the authors' own lies
beside most of these weights, by which tokens see each other both ways; each spec states what its model does.
"""

from typing import Any

from zoo.models.parts import Embedder, Identity, Mean, Tower, TransformersText
from zoo.models.text import byte_tokenizer
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec


def qwen2(*, layers: int, width: int, hidden: int, heads: int, vocab: int = 151936, **changes: Any) -> dict[str, Any]:
    """Configuration of a Qwen2 or Qwen2.5 backbone."""
    return {
        "model_type": "qwen2",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        **changes,
    }


KALM = qwen2(layers=24, width=896, hidden=4864, heads=14, num_key_value_heads=2)
QZHOU = qwen2(layers=28, width=3584, hidden=18944, heads=28, vocab=152064, num_key_value_heads=4)
BOTH_WAYS = {"is_causal": False}
# To the letter, spaces around the line break included.
KALM_INSTRUCTION, QZHOU_INSTRUCTION = "Instruct: {task} \n Query: ", "Instruct: {task}\nQuery:"
WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
TEXT: Facts = {"modalities": {"text"}, "languages": ("en", "zh"), "demo": "search"}
KALM_FACTS: Facts = {**TEXT, "dim": 896, "params": 494_032_768, "instruction": KALM_INSTRUCTION}
# Its queries of a search stand as they are; tasks were given to classification and clustering alone.
KALM_V1: Facts = {
    **KALM_FACTS,
    "license": "mit",
    "paper": "arxiv:2501.01028",
    "max_tokens": 512,
    "attention": "causal",
}
KALM_V2: Facts = {
    **KALM_FACTS,
    "paper": "arxiv:2506.20923",
    "max_tokens": 32768,
    "dims": (896, 512, 256, 128, 64),
    "attention": "bidirectional",
}
V1, V2 = "HIT-TMG/KaLM-embedding-multilingual-mini", "embedding-multilingual-mini-instruct-v2"


def _mean(spec: ModelSpec, config: dict[str, Any]) -> Embedder:
    return Embedder(spec, [Tower(TransformersText(config, spec.max_tokens), Mean(), Identity())])


@register_model(
    name="kalm-embedding-multilingual-mini-v1",
    hub_id=f"{V1}-v1",
    revision="8a82a0cd2b322b91723e252486f7cce6fd8ac9d3",
    **{**KALM_V1, "instruction": ""},
)
def kalm_v1(spec: ModelSpec) -> Embedder:
    return _mean(spec, KALM)


@register_model(
    name="kalm-embedding-multilingual-mini-instruct-v1",
    hub_id=f"{V1}-instruct-v1",
    revision="45e42c89990c40aca042659133fc8b13c28634b5",
    **KALM_V1,
)
def kalm_instruct_v1(spec: ModelSpec) -> Embedder:
    return _mean(spec, KALM)


@register_model(
    name="kalm-embedding-multilingual-mini-instruct-v1.5",
    hub_id=f"{V1}-instruct-v1.5",
    revision="fcff2f8a54e4cd96b7766fef1ee960a43d42bb3c",
    **KALM_V1,
)
def kalm_instruct_v1_5(spec: ModelSpec) -> Embedder:
    return _mean(spec, KALM)


@register_model(
    name=f"kalm-{V2}",
    hub_id=f"HIT-TMG/KaLM-{V2}",
    revision="d2a21c232dc712ae8230af56d1027cf21b7864bf",
    license="mit",
    **KALM_V2,
)
def kalm_instruct_v2(spec: ModelSpec) -> Embedder:
    return _mean(spec, KALM | BOTH_WAYS)


@register_model(
    name=f"kalm-{V2}.5",
    hub_id=f"KaLM-Embedding/KaLM-{V2}.5",
    revision="6a4cfc1084cb459ebd4729b53a8656a61448c720",
    license="apache-2.0",
    **KALM_V2,
)
def kalm_instruct_v2_5(spec: ModelSpec) -> Embedder:
    return _mean(spec, KALM | BOTH_WAYS)


@register_model(
    hub_id="Kingsoft-LLM/QZhou-Embedding",
    revision="f1e6c03ee3882e7b9fa5cec91217715272e433b8",
    dim=3584,
    params=7_070_619_136,
    max_tokens=8192,
    license="apache-2.0",
    paper="arxiv:2508.21632",
    attention="bidirectional",
    instruction=QZHOU_INSTRUCTION,
    prompts={"query": QZHOU_INSTRUCTION.replace("{task}", WEB_SEARCH)},
    **TEXT,
)
def qzhou_embedding(spec: ModelSpec) -> Embedder:
    return _mean(spec, QZHOU | BOTH_WAYS)


@register_model(
    dim=32,
    params=23_968,
    max_tokens=64,
    license="apache-2.0",
    attention="bidirectional",
    instruction=KALM_INSTRUCTION,
    example="Query: {query}\nAnswer: {response}\n\n",
    dims=(32, 16),
    **{**TEXT, "languages": ()},
)
def kalm_test(spec: ModelSpec) -> Embedder:
    config = qwen2(layers=2, width=32, hidden=48, heads=4, vocab=260, num_key_value_heads=2, **BOTH_WAYS)
    encoder = TransformersText(config, spec.max_tokens, padding_side="left", tokenizer=byte_tokenizer())
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])
