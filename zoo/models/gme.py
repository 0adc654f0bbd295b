"""GME: text, images and both in one space, by one chat turn and the state of an end token (Zhang et al., 2024, arxiv:2412.16855)."""

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.models.backbones import QWEN_MEDIA, TINY_PIXELS, byte_processor, qwen2_vl, tiny_qwen2_vl, vlm_tower
from zoo.reading import Reading
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

PAPER = "arxiv:2412.16855"
# The end token behind the assistant's header is what is pooled.
QWEN_EMBED = (
    "<|im_start|>system\n{{ instruction or 'You are a helpful assistant.' }}<|im_end|>\n"
    "<|im_start|>user\n{{ media }}{{ text }}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
)
GME = Reading(
    prompt=QWEN_EMBED,
    backbone="qwen2_vl",
    image=QWEN_MEDIA["image"],
    positions="sequential",
    pixels=(4 * 28 * 28, 1280 * 28 * 28),
    punctuate=True,
)


@register_model(
    name="gme-qwen2vl-2b",
    dim=1536,
    params=2_208_985_600,
    modalities={"text", "image"},
    license="apache-2.0",
    paper=PAPER,
    hub_id="Alibaba-NLP/gme-Qwen2-VL-2B-Instruct",
    base="Qwen/Qwen2-VL-2B-Instruct",
    max_tokens=1800,
    demo="compose",
    reading=GME,
)
def gme_qwen2vl_2b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_vl("2b"))


@register_model(
    name="gme-qwen2vl-7b",
    dim=3584,
    params=8_291_375_616 - 152064 * 3584,
    modalities={"text", "image"},
    license="apache-2.0",
    paper=PAPER,
    hub_id="Alibaba-NLP/gme-Qwen2-VL-7B-Instruct",
    base="Qwen/Qwen2-VL-7B-Instruct",
    max_tokens=1800,
    demo="compose",
    reading=GME,
)
def gme_qwen2vl_7b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_vl("7b"))


@register_model(
    name="gme-test",
    dim=32,
    params=112_704,
    modalities={"text", "image"},
    license="apache-2.0",
    max_tokens=512,
    demo="compose",
    reading=replace(GME, pixels=TINY_PIXELS),
)
def gme_test(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, tiny_qwen2_vl(), byte_processor())
