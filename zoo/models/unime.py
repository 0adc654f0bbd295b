"""UniME (Gu et al., 2025, arxiv:2504.17432) and UniME-V2 (arxiv:2510.13515): E5-V's one word, then MMEB's instructions; LLaVA.

UniME-Phi3.5-V is a Phi-3.5-vision model, for which transformers has no class (see `zoo.formats.vlm`).
"""

from typing import TYPE_CHECKING

from zoo.models.backbones import vlm_tower
from zoo.models.llava_backbones import llava_next, llava_onevision, llava_processor, tiny_llava
from zoo.reading import Reading
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

PAPER, PAPER_V2 = "arxiv:2504.17432", "arxiv:2510.13515"
# Without an instruction the README's words. MMEB's rows go through VLM2Vec's code as they are: no [INST], a line break
# behind the picture, instruction and text one after the other.
UNIME_LLAVA = Reading(
    prompt="{% set words = instruction ~ (' ' if instruction and text else '') ~ text %}"
    "{% if content != media ~ text %}{{ instruction ~ (' ' if instruction else '') ~ content }}"
    "{% elif instruction or (media and text) %}{{ media }}{{ '\n' if media else '' }}{{ words }}"
    "{% elif media %}[INST] {{ media }}\nSummary above image in one word: [/INST]"
    "{% else %}[INST] {{ text }}\nSummary above sentence in one word: [/INST]{% endif %}",
    backbone="llava_next",
    image="<image>",
    special_tokens=True,
)
# LLaVA-OneVision's template: a space behind "user", pictures first, then films, each text on a line of its own. The words are
# those of the model card as its users copied them; instructions are read as UniME-V2 reads them.
ONEVISION = "<|im_start|>user {{ images }}{{ videos }}\n%s<|im_end|><|im_start|>assistant\n"
UNIME_ONEVISION = Reading(
    prompt=ONEVISION
    % (
        "{% if instruction or (media and text) %}"
        "{{ (instruction ~ (' ' if instruction and text else '') ~ text) | trim }}"
        "{% elif media %}Summary above image in one word:\n{% else %}{{ text }}\nSummary above sentence in one word:\n{% endif %}"
    ),
    backbone="llava_onevision",
    image="<image>",
    join="\n",
)
# Stripped text as it comes (Llava_OV_process of the authors' model_utils.py); media alone by a sentence of their own. Pictures
# are pressed into squares before they are cut into crops. Films: two frames a second, at most 64, are mteb's choice.
UNIME_V2 = Reading(
    prompt=ONEVISION
    % (
        "{% set words = (instruction ~ (' ' if instruction and text else '') ~ text) | trim %}"
        "{{ words or ('Find an image caption describing the given image.' if images else 'Describe this video in detail.') }}"
    ),
    backbone="llava_onevision",
    image="<image>",
    video="<video>",
    square=1344,
    frames=64,
    fps=2.0,
    join="\n",
)


@register_model(
    name="unime-llava-1.6-7b",
    dim=4096,
    params=7_435_413_504,
    modalities={"text", "image"},
    license="unknown",
    paper=PAPER,
    hub_id="DeepGlint-AI/UniME-LLaVA-1.6-7B",
    base="llava-hf/llava-v1.6-mistral-7b-hf",
    max_tokens=4096,
    demo="compose",
    reading=UNIME_LLAVA,
    languages=("en",),
)
def unime_llava_1_6_7b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, llava_next("mistral-7b"))


@register_model(
    name="unime-llava-onevision-7b",
    dim=3584,
    params=7_485_580_832,
    modalities={"text", "image"},
    license="unknown",
    paper=PAPER,
    hub_id="DeepGlint-AI/UniME-LLaVA-OneVision-7B",
    base="llava-hf/llava-onevision-qwen2-7b-ov-hf",
    max_tokens=32768,
    demo="compose",
    reading=UNIME_ONEVISION,
    languages=("en",),
)
def unime_llava_onevision_7b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, llava_onevision())


@register_model(
    name="unime-v2-llava-onevision-8b",
    dim=3584,
    params=7_485_580_832,
    modalities={"text", "image", "video"},
    license="apache-2.0",
    paper=PAPER_V2,
    hub_id="TianchengGu/UniME-V2-LLaVA-OneVision-8B",
    revision="36ef54da9f3dc3a2bfba115c4fb403b1a1f7cb0c",  # that mteb measured
    base="llava-hf/llava-onevision-qwen2-7b-ov-hf",
    max_tokens=32768,
    demo="compose",
    reading=UNIME_V2,
    languages=("en",),
)
def unime_v2_llava_onevision_8b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, llava_onevision())


@register_model(
    name="unime-test",
    dim=32,
    params=67_232,
    modalities={"text", "image", "video"},
    license="apache-2.0",
    max_tokens=512,
    demo="compose",
    reading=UNIME_V2,
)
def unime_test(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, tiny_llava("llava_onevision"), llava_processor("llava_onevision"))
