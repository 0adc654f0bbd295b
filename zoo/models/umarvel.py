"""U-MARVEL: every token reads every other, and the mean is taken outside the instruction (Li et al., 2025, arxiv:2507.14902).

LamRA, which it comes from, asks for a summary in one word and takes the state before the answer (Liu et al., 2024,
arxiv:2412.01720).
"""

from dataclasses import replace

from zoo.models.backbones import (
    ON_QWEN2_VL,
    ON_QWEN3_VL,
    QWEN_MEDIA,
    TINY_PIXELS,
    TINY_QWEN2_VL,
    byte_processor,
    qwen2_vl,
    qwen3_vl,
    tiny_qwen2_vl,
)
from zoo.models.parts import Embedder, Identity, LastToken, Mean, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import ImageLimits, SequenceFormat
from zoo.spec import ModelSpec

PAPER = "arxiv:2507.14902"
MARKS = ("<instruction_start>", "<instruction_end>")
# The answer "<emb>." is a turn of its own, and the header of another follows, as the authors' collators render it. A query
# that is an image alone ends in a full stop, because M-BEIR's sentences do (`zoo.evaluation.instructions.sentence`).
TURNS = (
    "<|im_start|>user\n{% if not instruction %}{{ content }}{% elif content == media ~ text %}"
    "{{ media }}<instruction_start>{{ instruction }}<instruction_end>{{ ' ' ~ text if text else '.' }}"
    "{% else %}<instruction_start>{{ instruction }}<instruction_end> {{ content }}{% endif %}<|im_end|>\n"
    "<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n"
)
# `fetch_image` of collators/qwen2_vision_process.py, for training and the evaluation that the figures come from; the last
# stage of training had 224 * 224 pixels at most (set_max_pixels), and their demo takes up to 16,384 tokens.
PIXELS = (4 * 28 * 28, 300 * 28 * 28)
IMAGES = ImageLimits(pixels=PIXELS, pre_resize=(28, *PIXELS), pre_ratio="both")
UMARVEL = SequenceFormat(
    prompt="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + TURNS,
    backbone="qwen2_vl",
    marks={"image": QWEN_MEDIA["image"]},
    positions="sequential",
    attention="bidirectional",
    span="outside_instruction",
    instruction_marks=MARKS,
    added_tokens=("<emb>", *MARKS),
    join="",
)
# Qwen3-VL's template has no system text of its own. The authors hand the decoder embeddings alone: no rows and columns of
# images, and what the inner vision layers found (deepstack) is left out. Their collators resize as for Qwen2-VL, to multiples
# of 28 pixels (qwen3_vision_process.py), and the processor of Qwen3-VL once more, to its own of 32.
UMARVEL_QWEN3 = replace(UMARVEL, prompt=TURNS, backbone="qwen3_vl", deepstack=False)
LAMRA = SequenceFormat(
    prompt=(
        "{% set words = instruction ~ (' ' if instruction and text else '') ~ text %}"
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "{{ media ~ words if content == media ~ text else instruction ~ (' ' if instruction else '') ~ content }}\n"
        "Summarize above {{ 'image' if media else '' }}{{ ' and ' if media and words else '' }}"
        "{{ 'sentence' if words else '' }} in one word: <|im_end|>\n<|im_start|>assistant\n"
    ),  # the authors go on with "<emb>.", which no token before it reads
    backbone="qwen2_vl",
    marks={"image": QWEN_MEDIA["image"]},
    positions="sequential",  # of models/qwen2_vl.py, in training and evaluation; their demo.py has rows and columns
    join="",
)
FACTS: Facts = {
    "modalities": {"text", "image"},
    "license": "mit",  # of the code; the weights' own card was not seen
    "languages": ("en",),
    "paper": PAPER,
    "max_tokens": 1024,
    "demo": "compose",
    "media": {"image": IMAGES},
}


@register_model(
    hub_id="TencentBAC/U-MARVEL-Qwen2VL-7B-Instruct", format=UMARVEL, pooling="mean", **ON_QWEN2_VL["7b"], **FACTS
)
def u_marvel_qwen2vl_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("7b")), Mean(), Identity())])


@register_model(
    hub_id="TencentBAC/U-MARVEL-Qwen3VL-4B-Instruct",
    format=UMARVEL_QWEN3,
    pooling="mean",
    **ON_QWEN3_VL["4b"],
    **{**FACTS, "media": {"image": replace(IMAGES, pixels=())}},
)
def u_marvel_qwen3vl_4b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen3_vl("4b")), Mean(), Identity())])


@register_model(
    hub_id="code-kunkun/LamRA-Ret", format=LAMRA, **ON_QWEN2_VL["7b"], **{**FACTS, "paper": "arxiv:2412.01720"}
)
def lamra_ret_qwen2vl_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("7b")), LastToken(), Identity())])


TINY_IMAGES = replace(IMAGES, pixels=TINY_PIXELS, pre_resize=(28, *TINY_PIXELS))
TINY_FACTS: Facts = {**FACTS, **TINY_QWEN2_VL, "license": "mit", "languages": (), "paper": None}


@register_model(format=UMARVEL, pooling="mean", **{**TINY_FACTS, "media": {"image": TINY_IMAGES}})
def u_marvel_test(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, tiny_qwen2_vl(), byte_processor()), Mean(), Identity())])
