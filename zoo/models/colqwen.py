"""ColQwen2: a vector for every token of a page or a query, by Qwen2-VL and one projection; compared by late interaction.

Faysse et al., 2024, arxiv:2407.01449. Queries and pages are told apart by what an item holds: text is a query, an image a
page. An instruction takes the place of "Query: ". ColQwen-Omni is the same on Qwen2.5-Omni's thinker, for audio and video too.
"""

from dataclasses import replace

from zoo.models.backbones import (
    LATE,
    OMNI_MEDIA,
    QWEN_MEDIA,
    TINY,
    TINY_PIXELS,
    byte_processor,
    omni_processor,
    omni_thinker,
    qwen2_vl,
    tiny_omni_thinker,
    tiny_qwen2_vl,
)
from zoo.models.parts import Embedder, EveryToken, Linear, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import AudioLimits, ImageLimits, SequenceFormat, VideoLimits
from zoo.spec import ModelSpec

PAPER = "arxiv:2407.01449"
# As in colpali-engine 0.3.4, the release of the day before v1.0 was named in its README; from 0.3.13 on its processor leaves
# "Query: " out. The ten tokens after a query are its room to think.
PIXELS = (4 * 28 * 28, 768 * 28 * 28)
COLQWEN2 = SequenceFormat(
    prompt=(
        "{% if media %}<|im_start|>user\n{{ media }}Describe the image.<|im_end|><|endoftext|>"
        "{% else %}{{ instruction or 'Query: ' }}{{ text }}" + 10 * "<|endoftext|>" + "{% endif %}"
    ),
    backbone="qwen2_vl",
    marks={"image": QWEN_MEDIA["image"]},
    positions="mrope",
    mixed=False,
)
# `smart_resize_helper`, before the processor; later versions leave it to that.
IMAGES = ImageLimits(pixels=PIXELS, pre_resize=(28, *PIXELS))
# As transformers' ColQwen2Processor, which ends queries with a line break. Its ColQwen2ForRetrieval gave images their rows
# and columns until version 4, as here; version 5 lost them when it began to compute positions from ids that this class
# does not hand on (positions="sequential" gives its vectors).
NATIVE = replace(COLQWEN2, prompt=COLQWEN2.prompt.replace("{% endif %}", "\n{% endif %}"))
FACTS: Facts = {**LATE, "license": "apache-2.0", "paper": PAPER, "base": "vidore/colqwen2-base"}
ON_2B: Facts = {**FACTS, "params": 2_209_182_336, "max_tokens": 32768, "languages": ("en",)}


@register_model(name="colqwen2-v1.0", hub_id="vidore/colqwen2-v1.0", format=COLQWEN2, media={"image": IMAGES}, **ON_2B)
def colqwen2_v1(spec: ModelSpec) -> Embedder:
    """An adapter on the backbone and the projection of its base; published by its authors for colpali-engine."""
    encoder = sequence(spec, qwen2_vl("2b"))
    return Embedder(spec, [Tower(encoder, EveryToken(), Linear(encoder.width, spec.dim, bias=True))])


@register_model(name="colqwen2-v1.0-hf", hub_id="vidore/colqwen2-v1.0-hf", format=NATIVE, **ON_2B)
def colqwen2_v1_hf(spec: ModelSpec) -> Embedder:
    """The same, merged and in the layout of transformers."""
    encoder = sequence(spec, qwen2_vl("2b"))
    return Embedder(spec, [Tower(encoder, EveryToken(), Linear(encoder.width, spec.dim, bias=True))])


TINY_IMAGES = ImageLimits(pixels=TINY_PIXELS, pre_resize=(28, *TINY_PIXELS))


@register_model(params=113_232, format=COLQWEN2, media={"image": TINY_IMAGES}, **{**FACTS, **TINY, "dim": 16})
def colqwen2_test(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, tiny_qwen2_vl(), byte_processor())
    return Embedder(spec, [Tower(encoder, EveryToken(), Linear(encoder.width, spec.dim, bias=True))])


# ColQwen2_5OmniProcessor of colpali-engine 0.3.18, whose `process_queries` mteb's wrapper spells out.
COLQWEN_OMNI = SequenceFormat(
    prompt=(
        "<|im_start|>system\nYou are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory "
        "and visual inputs, as well as generating text and speech.<|im_end|>\n<|im_start|>user\n"
        "{% if media %}{{ media }}Describe the content."
        "{% else %}{{ instruction or 'Query: ' }}{{ text }}" + 10 * "<|endoftext|>" + "{% endif %}"
        "<|im_end|>\n<|im_start|>assistant\n"
    ),
    backbone="qwen2_5_omni_thinker",
    marks=OMNI_MEDIA,
    positions="mrope",
    mixed=False,
)
# One frame per second, as its own files say; at most 64 is mteb's choice.
OMNI_FACTS: Facts = {
    **LATE,
    "modalities": {"text", "image", "video", "audio"},
    "demo": "omni",
    "license": "mit",
    "paper": PAPER,
    "format": COLQWEN_OMNI,
    "media": {"video": VideoLimits(frames=64, fps=1.0), "audio": AudioLimits(seconds=300.0)},
}


@register_model(
    name="colqwen-omni-v0.1",
    hub_id="vidore/colqwen-omni-v0.1",
    revision="61e78ef2f9c826cac588a01e44df51672ce957bd",
    base="vidore/colqwen2.5omni-base",
    base_revision="59289e054b63a1164c0f26c33f3550f3cde7399b",
    params=4_392_561_792,
    max_tokens=32768,
    languages=("en",),
    **OMNI_FACTS,
)
def colqwen_omni(spec: ModelSpec) -> Embedder:
    """An adapter on the backbone and the projection of its base, which it names without a revision; that is pinned here."""
    encoder = sequence(spec, omni_thinker("3b"))
    return Embedder(spec, [Tower(encoder, EveryToken(), Linear(encoder.width, spec.dim, bias=True))])


TINY_MEDIA = {
    "image": ImageLimits(pixels=TINY_PIXELS),
    "video": VideoLimits(frames=8, fps=1.0, pixels=TINY_PIXELS),
    "audio": AudioLimits(seconds=4.0),
}


@register_model(params=137_392, **{**OMNI_FACTS, **TINY, "max_tokens": 1024, "media": TINY_MEDIA, "dim": 16})
def colqwen_omni_test(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, tiny_omni_thinker(), omni_processor())
    return Embedder(spec, [Tower(encoder, EveryToken(), Linear(encoder.width, spec.dim, bias=True))])
