"""UNITE: one chat turn that asks for a summary in one word, and the state of the end token (Kong et al., 2025, arxiv:2505.19650)."""

from zoo.models.backbones import (
    ON_QWEN2_VL,
    QWEN_MEDIA,
    TINY_PIXELS,
    TINY_QWEN2_VL,
    byte_processor,
    qwen2_vl,
    tiny_qwen2_vl,
)
from zoo.models.parts import Embedder, Identity, LastToken, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import ImageLimits, SequenceFormat, VideoLimits
from zoo.spec import ModelSpec

# unite/prompt_template.py, inference/batch_inference_demo.py and unite/model/qwen_vl_utils of friedrichor/UNITE. Its authors give
# no place to an instruction; here it stands before the text. Images and frames are resized twice: by qwen-vl-utils 0.0.8, frames
# of a list like images, and by transformers 4.47's processor, which had one budget for both.
UNITE = SequenceFormat(
    prompt=(
        "{% set words = instruction ~ (' ' if instruction and text else '') ~ text %}"
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "{{ media ~ words if content == media ~ text else instruction ~ (' ' if instruction else '') ~ content }}\n"
        "Summary above {{ 'sentence and ' if words and media else 'sentence' if words else '' }}"
        "{{ 'video' if videos else 'image' if images else '' }} in one word:<|im_end|>\n"
        "<|im_start|>assistant\n<|endoftext|>"
    ),
    backbone="qwen2_vl",
    marks=QWEN_MEDIA,
    positions="sequential",  # the decoder is called without positions
    join="",
)
MOST = 360 * 420  # pixels of a frame
IMAGES = ImageLimits(pixels=(256 * 28 * 28, 1280 * 28 * 28), pre_resize=(28, 4 * 28 * 28, 16384 * 28 * 28))
VIDEOS = VideoLimits(frames=32, fps=1.0, pixels=(128 * 28 * 28, MOST), pre_resize=(28, 4 * 28 * 28, MOST), twice=True)
FACTS: Facts = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "demo": "compose",
    "format": UNITE,
}


@register_model(
    hub_id="friedrichor/Unite-Base-Qwen2-VL-2B",
    revision="850056e7a4b4129768e1c76795eac3c4331de76d",
    paper="arxiv:2505.19650",
    max_tokens=32768,
    languages=("en",),
    media={"image": IMAGES, "video": VIDEOS},
    **ON_QWEN2_VL["2b"],
    **FACTS,
)
def unite_base_qwen2vl_2b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("2b")), LastToken(), Identity())])


TINY_MEDIA = {
    "image": ImageLimits(pixels=TINY_PIXELS, pre_resize=(28, 28 * 28, 64 * 28 * 28)),
    "video": VideoLimits(frames=32, fps=1.0, pixels=TINY_PIXELS, pre_resize=(28, *TINY_PIXELS), twice=True),
}


@register_model(media=TINY_MEDIA, **{**FACTS, **TINY_QWEN2_VL})
def unite_test(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, tiny_qwen2_vl(), byte_processor()), LastToken(), Identity())])
