"""UNITE: one chat turn that asks for a summary in one word, and the state of the end token (Kong et al., 2025, arxiv:2505.19650)."""

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.models.backbones import (
    ON_QWEN2_VL,
    QWEN_MEDIA,
    TINY_PIXELS,
    byte_processor,
    qwen2_vl,
    tiny_qwen2_vl,
    vlm_tower,
)
from zoo.reading import Reading
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

# unite/prompt_template.py, inference/batch_inference_demo.py and unite/model/qwen_vl_utils of friedrichor/UNITE. Its authors give
# no place to an instruction; here it stands before the text. Images and frames are resized twice: by qwen-vl-utils 0.0.8, frames
# of a list like images, and by transformers 4.47's processor, which had one budget for both.
UNITE = Reading(
    prompt=(
        "{% set words = instruction ~ (' ' if instruction and text else '') ~ text %}"
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "{{ media ~ words if content == media ~ text else instruction ~ (' ' if instruction else '') ~ content }}\n"
        "Summary above {{ 'sentence and ' if words and media else 'sentence' if words else '' }}"
        "{{ 'video' if videos else 'image' if images else '' }} in one word:<|im_end|>\n"
        "<|im_start|>assistant\n<|endoftext|>"
    ),
    backbone="qwen2_vl",
    image=QWEN_MEDIA["image"],
    video=QWEN_MEDIA["video"],
    positions="sequential",  # the decoder is called without positions
    pixels=(256 * 28 * 28, 1280 * 28 * 28),
    frame_pixels=(128 * 28 * 28, 360 * 420),
    frames=32,
    fps=1.0,
    join="",
    pre_resize=(28, 4 * 28 * 28, 16384 * 28 * 28),
    pre_frames=(28, 4 * 28 * 28, 360 * 420),
    frames_twice=True,
)


@register_model(
    name="unite-base-qwen2vl-2b",
    modalities={"text", "image", "video"},
    license="apache-2.0",
    paper="arxiv:2505.19650",
    hub_id="friedrichor/Unite-Base-Qwen2-VL-2B",
    revision="850056e7a4b4129768e1c76795eac3c4331de76d",
    max_tokens=32768,
    demo="compose",
    reading=UNITE,
    languages=("en",),
    **ON_QWEN2_VL["2b"],
)
def unite_base_qwen2vl_2b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_vl("2b"))


@register_model(
    name="unite-test",
    dim=32,
    params=112_704,
    modalities={"text", "image", "video"},
    license="apache-2.0",
    max_tokens=512,
    demo="compose",
    reading=replace(
        UNITE,
        pixels=TINY_PIXELS,
        frame_pixels=TINY_PIXELS,
        pre_resize=(28, 28 * 28, 64 * 28 * 28),
        pre_frames=(28, *TINY_PIXELS),
    ),
)
def unite_test(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, tiny_qwen2_vl(), byte_processor())
