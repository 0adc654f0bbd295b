"""ColQwen2: a vector for every token of a page or a query, by Qwen2-VL and one projection; compared by late interaction.

Faysse et al., 2024, arxiv:2407.01449. Queries and pages are told apart by what an item holds: text is a query, a picture a
page. An instruction takes the place of "Query: ".
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.models.backbones import QWEN_MEDIA, TINY_PIXELS, byte_processor, qwen2_vl, tiny_qwen2_vl, vlm_tower
from zoo.reading import Reading
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

PAPER = "arxiv:2407.01449"
# As in colpali-engine 0.3.4, the release of the day before v1.0 was named in its README; from 0.3.13 on its processor leaves
# "Query: " out. The ten tokens behind a query are its room to think.
PIXELS = (4 * 28 * 28, 768 * 28 * 28)
COLQWEN2 = Reading(
    prompt=(
        "{% if media %}<|im_start|>user\n{{ media }}Describe the image.<|im_end|><|endoftext|>"
        "{% else %}{{ instruction or 'Query: ' }}{{ text }}" + 10 * "<|endoftext|>" + "{% endif %}"
    ),
    backbone="qwen2_vl",
    image=QWEN_MEDIA["image"],
    positions="mrope",
    pooling="tokens",
    pixels=PIXELS,
    projection="custom_text_proj",
    mixed=False,
    pre_resize=(28, *PIXELS),  # `smart_resize_helper`, before the processor; later versions leave it to that
)
# As transformers' ColQwen2Processor, which ends queries with a line break. Its ColQwen2ForRetrieval gave pictures their rows
# and columns until version 4, as here; version 5 lost them when it began to compute positions from ids that this class
# does not hand on (positions="sequential" gives its vectors).
NATIVE = replace(COLQWEN2, prompt=COLQWEN2.prompt.replace("{% endif %}", "\n{% endif %}"), pixels=(), pre_resize=())
FACTS = {
    "modalities": {"text", "image"},
    "license": "apache-2.0",
    "paper": PAPER,
    "base": "vidore/colqwen2-base",
    "demo": "search",
    "similarity": "maxsim",
}


@register_model(
    name="colqwen2-v1.0",
    dim=128,
    params=2_209_182_336,
    hub_id="vidore/colqwen2-v1.0",
    max_tokens=32768,
    reading=COLQWEN2,
    languages=("en",),
    **FACTS,
)
def colqwen2_v1(spec: ModelSpec) -> "Embedder":
    """An adapter on the backbone and the projection of its base; published by its authors for colpali-engine."""
    return vlm_tower(spec, qwen2_vl("2b"))


@register_model(
    name="colqwen2-v1.0-hf",
    dim=128,
    params=2_209_182_336,
    hub_id="vidore/colqwen2-v1.0-hf",
    max_tokens=32768,
    reading=NATIVE,
    languages=("en",),
    **FACTS,
)
def colqwen2_v1_hf(spec: ModelSpec) -> "Embedder":
    """The same, merged and in the layout of transformers."""
    return vlm_tower(spec, qwen2_vl("2b"))


@register_model(
    name="colqwen2-test",
    dim=16,
    params=113_232,
    max_tokens=512,
    reading=replace(COLQWEN2, pixels=TINY_PIXELS, pre_resize=(28, *TINY_PIXELS)),
    **{**FACTS, "base": None},
)
def colqwen2_test(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, tiny_qwen2_vl(), byte_processor())
