"""jina-embeddings-v4: prefixed texts and images through Qwen2.5-VL, one of three adapters for a task, the mean of the states.

Günther et al., 2025, arxiv:2506.18902; read as modeling_jina_embeddings_v4.py of the repository does, in float32 (there the
passes run in bfloat16, on CPUs too). Texts and images are encoded apart; weights are for non-commercial use.
"""

from dataclasses import replace

from zoo.models.backbones import ON_QWEN25_VL, TINY, TINY_PIXELS, byte_processor, qwen2_5_vl, tiny_qwen2_5_vl
from zoo.models.parts import Embedder, EveryToken, Identity, Linear, Mean, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import ImageLimits, SequenceFormat
from zoo.spec import ModelSpec

PAPER = "arxiv:2506.18902"
# Texts without a prefix are queries. Of an image its marks and tokens are pooled, and not "Describe the image.".
RETRIEVAL = SequenceFormat(
    prompt=(
        "{% if media %}<|im_start|>user\n{{ media }}Describe the image.<|im_end|>\n"
        "{% else %}{{ instruction or 'Query: ' }}{{ text }}{% endif %}"
    ),
    backbone="qwen2_5_vl",
    marks={"image": "<|vision_start|><|image_pad|><|vision_end|>"},
    special_tokens=True,
    positions="mrope",
    span="vision",
    mixed=False,
)
PREFIXES = {"query": "Query: ", "document": "Passage: "}
FACTS: Facts = {
    **ON_QWEN25_VL["3b"],
    "modalities": {"text", "image"},
    "license": "cc-by-nc-4.0",
    "languages": ("multilingual",),
    "paper": PAPER,
    "hub_id": "jinaai/jina-embeddings-v4",
    "max_tokens": 32_768,
    "demo": "search",
    "prompts": PREFIXES,
    "format": RETRIEVAL,
    "pooling": "mean",
}
SINGLE: Facts = {**FACTS, "dims": (2048, 1024, 512, 256, 128)}


@register_model(adapter="retrieval", **SINGLE)
def jina_embeddings_v4(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_5_vl("3b")), Mean(), Identity())])


@register_model(adapter="text-matching", **{**SINGLE, "prompts": {"query": "Query: ", "document": "Query: "}})
def jina_embeddings_v4_text_matching(spec: ModelSpec) -> Embedder:
    """Both sides are queries, as its authors have it for this task."""
    return Embedder(spec, [Tower(sequence(spec, qwen2_5_vl("3b")), Mean(), Identity())])


@register_model(adapter="code", **SINGLE)
def jina_embeddings_v4_code(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_5_vl("3b")), Mean(), Identity())])


# The projection of 2048 dimensions and its bias.
MULTI: Facts = {
    **FACTS,
    "dim": 128,
    "params": FACTS["params"] + 2048 * 128 + 128,
    "pooling": "tokens",
    "similarity": "maxsim",
}


@register_model(
    adapter="retrieval",
    projection="multi_vector_projector",
    **{**MULTI, "format": replace(RETRIEVAL, span="all")},
)
def jina_embeddings_v4_multivector(spec: ModelSpec) -> Embedder:
    """A vector for every token, those of "Describe the image." too."""
    encoder = sequence(spec, qwen2_5_vl("3b"))
    return Embedder(spec, [Tower(encoder, EveryToken(), Linear(encoder.width, spec.dim, bias=True))])


TINY_FACTS: Facts = {**FACTS, **TINY, "languages": (), "paper": None, "hub_id": "", "max_tokens": 1024}


@register_model(
    **{**TINY_FACTS, "dims": (32, 16), "params": 105_312, "media": {"image": ImageLimits(pixels=TINY_PIXELS)}}
)
def jina_v4_test(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, tiny_qwen2_5_vl(), byte_processor("qwen2_5_vl"))
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])
