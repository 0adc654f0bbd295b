"""UniME (Gu et al., 2025, arxiv:2504.17432) and UniME-V2 (arxiv:2510.13515): E5-V's one word, then MMEB's instructions; LLaVA.

UniME-Phi3.5-V is a Phi-3.5-vision model, for which transformers has no class (see `zoo.formats.vlm`).
"""

from zoo.models.backbones import TINY
from zoo.models.llava_backbones import (
    ON_LLAVA_NEXT,
    ON_LLAVA_ONEVISION,
    llava_next,
    llava_onevision,
    llava_processor,
    tiny_llava,
)
from zoo.models.parts import Embedder, Identity, LastToken, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import ImageLimits, SequenceFormat, VideoLimits
from zoo.spec import ModelSpec

PAPER, PAPER_V2 = "arxiv:2504.17432", "arxiv:2510.13515"
# Without an instruction the README's words. MMEB's rows go through VLM2Vec's code as they are: no [INST], a line break
# after the image, instruction and text one after the other.
UNIME_LLAVA = SequenceFormat(
    prompt="{% set words = instruction ~ (' ' if instruction and text else '') ~ text %}"
    "{% if content != media ~ text %}{{ instruction ~ (' ' if instruction else '') ~ content }}"
    "{% elif instruction or (media and text) %}{{ media }}{{ '\n' if media else '' }}{{ words }}"
    "{% elif media %}[INST] {{ media }}\nSummary above image in one word: [/INST]"
    "{% else %}[INST] {{ text }}\nSummary above sentence in one word: [/INST]{% endif %}",
    backbone="llava_next",
    marks={"image": "<image>"},
    special_tokens=True,
)
# LLaVA-OneVision's template: a space after "user", images first, then videos, each text on a line of its own. The words are
# those of the model card as its users copied them; instructions are read as UniME-V2 reads them.
ONEVISION = "<|im_start|>user {{ images }}{{ videos }}\n%s<|im_end|><|im_start|>assistant\n"
UNIME_ONEVISION = SequenceFormat(
    prompt=ONEVISION
    % (
        "{% if instruction or (media and text) %}"
        "{{ (instruction ~ (' ' if instruction and text else '') ~ text) | trim }}"
        "{% elif media %}Summary above image in one word:\n{% else %}{{ text }}\nSummary above sentence in one word:\n{% endif %}"
    ),
    backbone="llava_onevision",
    marks={"image": "<image>"},
    join="\n",
)
# Stripped text as it comes (Llava_OV_process of the authors' model_utils.py); media alone by a sentence of their own. Images
# are resized to squares before they are cut into crops. Videos: two frames a second, at most 64, are mteb's choice.
UNIME_V2 = SequenceFormat(
    prompt=ONEVISION
    % (
        "{% set words = (instruction ~ (' ' if instruction and text else '') ~ text) | trim %}"
        "{{ words or ('Find an image caption describing the given image.' if images else 'Describe this video in detail.') }}"
    ),
    backbone="llava_onevision",
    marks={"image": "<image>", "video": "<video>"},
    join="\n",
)
V2: Facts = {
    "modalities": {"text", "image", "video"},
    "license": "apache-2.0",
    "demo": "compose",
    "format": UNIME_V2,
    "media": {"image": ImageLimits(square=1344), "video": VideoLimits(frames=64, fps=2.0)},
}
V1: Facts = {
    "modalities": {"text", "image"},
    "license": "unknown",
    "languages": ("en",),
    "paper": PAPER,
    "demo": "compose",
}


@register_model(
    hub_id="DeepGlint-AI/UniME-LLaVA-1.6-7B",
    name="unime-llava-1.6-7b",
    max_tokens=4096,
    format=UNIME_LLAVA,
    **ON_LLAVA_NEXT["mistral-7b"],
    **V1,
)
def unime_llava_1_6_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, llava_next("mistral-7b")), LastToken(), Identity())])


@register_model(
    hub_id="DeepGlint-AI/UniME-LLaVA-OneVision-7B",
    max_tokens=32768,
    format=UNIME_ONEVISION,
    **ON_LLAVA_ONEVISION,
    **V1,
)
def unime_llava_onevision_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, llava_onevision()), LastToken(), Identity())])


@register_model(
    hub_id="TianchengGu/UniME-V2-LLaVA-OneVision-8B",
    revision="36ef54da9f3dc3a2bfba115c4fb403b1a1f7cb0c",  # that mteb measured
    paper=PAPER_V2,
    max_tokens=32768,
    languages=("en",),
    **ON_LLAVA_ONEVISION,
    **V2,
)
def unime_v2_llava_onevision_8b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, llava_onevision()), LastToken(), Identity())])


@register_model(params=67_232, **{**V2, **TINY})
def unime_test(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, tiny_llava("llava_onevision"), llava_processor("llava_onevision"))
    return Embedder(spec, [Tower(encoder, LastToken(), Identity())])
