"""jina-embeddings-v4: prefixed texts and pictures through Qwen2.5-VL, one of three adapters for a task, the mean of the states.

Günther et al., 2025, arxiv:2506.18902; read as modeling_jina_embeddings_v4.py of the repository does, in float32 (there the
passes run in bfloat16, on CPUs too). Texts and pictures are encoded apart; weights are for non-commercial use.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.models.backbones import TINY_PIXELS, byte_processor, qwen2_5_vl, tiny_qwen2_5_vl, vlm_tower
from zoo.reading import Reading
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

PAPER = "arxiv:2506.18902"
# Texts without a prefix are queries. Of a picture its marks and tokens are pooled, and not "Describe the image.".
RETRIEVAL = Reading(
    prompt=(
        "{% if media %}<|im_start|>user\n{{ media }}Describe the image.<|im_end|>\n"
        "{% else %}{{ instruction or 'Query: ' }}{{ text }}{% endif %}"
    ),
    backbone="qwen2_5_vl",
    image="<|vision_start|><|image_pad|><|vision_end|>",
    special_tokens=True,
    positions="mrope",
    pooling="mean",
    span="vision",
    mixed=False,
    adapter="retrieval",
)
PREFIXES = {"query": "Query: ", "document": "Passage: "}
PROJECTOR = 2048 * 128 + 128
FACTS = {
    "modalities": {"text", "image"},
    "license": "cc-by-nc-4.0",
    "languages": ("multilingual",),
    "paper": PAPER,
    "hub_id": "jinaai/jina-embeddings-v4",
    "base": "Qwen/Qwen2.5-VL-3B-Instruct",
    "max_tokens": 32_768,
    "demo": "search",
}
SINGLE = {**FACTS, "dim": 2048, "dims": (2048, 1024, 512, 256, 128), "params": 3_754_622_976}


@register_model(name="jina-embeddings-v4", prompts=PREFIXES, reading=RETRIEVAL, **SINGLE)
def jina_embeddings_v4(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_5_vl("3b"))


@register_model(
    name="jina-embeddings-v4-text-matching",
    prompts={"query": "Query: ", "document": "Query: "},
    reading=replace(RETRIEVAL, adapter="text-matching"),
    **SINGLE,
)
def jina_embeddings_v4_text_matching(spec: ModelSpec) -> "Embedder":
    """Both sides are queries, as its authors have it for this task."""
    return vlm_tower(spec, qwen2_5_vl("3b"))


@register_model(name="jina-embeddings-v4-code", prompts=PREFIXES, reading=replace(RETRIEVAL, adapter="code"), **SINGLE)
def jina_embeddings_v4_code(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_5_vl("3b"))


@register_model(
    name="jina-embeddings-v4-multivector",
    dim=128,
    params=3_754_622_976 + PROJECTOR,
    prompts=PREFIXES,
    similarity="maxsim",
    reading=replace(RETRIEVAL, pooling="tokens", span="all", projection="multi_vector_projector"),
    **FACTS,
)
def jina_embeddings_v4_multivector(spec: ModelSpec) -> "Embedder":
    """A vector for every token, those of "Describe the image." too."""
    return vlm_tower(spec, qwen2_5_vl("3b"))


@register_model(
    name="jina-v4-test",
    dim=32,
    dims=(32, 16),
    params=105_312,
    modalities={"text", "image"},
    license="apache-2.0",
    max_tokens=1024,
    prompts=PREFIXES,
    demo="search",
    reading=replace(RETRIEVAL, pixels=TINY_PIXELS, adapter=""),
)
def jina_v4_test(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, tiny_qwen2_5_vl(), byte_processor("qwen2_5_vl"))
