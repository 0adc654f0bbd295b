"""VLM2Vec: a bare picture token, the instruction, the text, and the state of the last token (Jiang et al., 2024, arxiv:2410.05160).

No chat template, no vision-start mark, and for that tokens counted on all axes. V2 (Meng et al., 2025, arxiv:2507.04590) adds
films and documents. B3 (Thirukovalluru et al., 2025, arxiv:2505.11293) was trained in the same code and is read the same way.
TIGER-Lab/VLM2Vec-Full and -LoRA are Phi-3.5-vision models, for which transformers has no class (see `zoo.formats.vlm`).
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo.models.backbones import ON_QWEN2_VL, TINY_PIXELS, byte_processor, qwen2_vl, tiny_qwen2_vl, vlm_tower
from zoo.models.llava_backbones import llava_next
from zoo.reading import Reading
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

PAPER, PAPER_V2, PAPER_B3 = "arxiv:2410.05160", "arxiv:2507.04590", "arxiv:2505.11293"
# With pictures " \n" becomes "\n", as in the authors' evaluation (src/data/eval_dataset/image_*.py), where a break stands
# directly behind the picture; see `zoo.instructions.mmeb_query`.
BARE_TOKEN = (
    "{% set words = media ~ instruction ~ (' ' if instruction and text else '') ~ text if content == media ~ text "
    "else instruction ~ (' ' if instruction else '') ~ content %}"
    "{{ words | replace(' \\n', '\\n') if images else words }}"
)
# Films of files are cut to 8 frames evenly; the authors cut 8 of at most 64 that they had saved before.
VLM2VEC = Reading(
    prompt=BARE_TOKEN,
    backbone="qwen2_vl",
    image="<|image_pad|> ",
    video="<|video_pad|> ",
    positions="sequential",
    pixels=(4 * 28 * 28, 1280 * 28 * 28),
    smallest_side=28,
    frames=8,
)
VLM2VEC_IMAGES = replace(VLM2VEC, video="")
# LLaVA-NeXT's processor cuts pictures into crops, of any size; its tokenizer begins with "<s>". The authors' figures come
# from pictures pressed into 1344 x 1344 pixels before (--image_resolution high), their demo from pictures as they are.
VLM2VEC_LLAVA = replace(
    VLM2VEC_IMAGES,
    backbone="llava_next",
    image="<image> ",
    special_tokens=True,
    pixels=(),
    smallest_side=0,
)
# Of the authors' demos (experiments/examples); a text alone has none. MMEB's are in `zoo.instructions`.
PROMPTS = {
    "image": "Represent the given image.",
    "question": "Represent the given image with the following question:",
}
# B3's targets of MMEB (--tgt_prefix_mod of its eval_mmeb.py): labels, answers and captions.
B3_PROMPTS = {
    **PROMPTS,
    "label": "Represent the class label:",
    "answer": "Represent the answer:",
    "caption": "Represent the image caption:",
}


FACTS: dict[str, Any] = {
    "modalities": {"text", "image"},
    "license": "apache-2.0",
    "languages": ("en",),
    "paper": PAPER,
    "max_tokens": 4096,
    "prompts": PROMPTS,
    "demo": "compose",
    "reading": VLM2VEC_IMAGES,
}


@register_model(
    name="vlm2vec-qwen2vl-2b",
    hub_id="TIGER-Lab/VLM2Vec-Qwen2VL-2B",
    **ON_QWEN2_VL["2b"],
    **FACTS,
)
def vlm2vec_qwen2vl_2b(spec: ModelSpec) -> "Embedder":
    """An adapter, published as a pickle: `load_model` asks for allow_pickle=True (only tensors are read from it)."""
    return vlm_tower(spec, qwen2_vl("2b"))


@register_model(
    name="vlm2vec-qwen2vl-7b",
    hub_id="TIGER-Lab/VLM2Vec-Qwen2VL-7B",
    **ON_QWEN2_VL["7b"],
    **FACTS,
)
def vlm2vec_qwen2vl_7b(spec: ModelSpec) -> "Embedder":
    """Its repository holds an adapter and a merged copy. The copy gives bad vectors (TIGER-AI-Lab/VLM2Vec#44): never read."""
    return vlm_tower(spec, qwen2_vl("7b"))


@register_model(
    name="vlm2vec-v2-qwen2vl-2b",
    modalities={"text", "image", "video"},
    license="apache-2.0",
    paper=PAPER_V2,
    hub_id="VLM2Vec/VLM2Vec-V2.0",
    revision="e39ff079b8275ef876d3656da8c0bddbff3c4dde",
    max_tokens=32768,
    prompts={**PROMPTS, "video": "Represent the given video."},
    demo="compose",
    reading=VLM2VEC,
    languages=("en",),
    **ON_QWEN2_VL["2b"],
)
def vlm2vec_v2_qwen2vl_2b(spec: ModelSpec) -> "Embedder":
    """A DoRA adapter on Qwen2-VL."""
    return vlm_tower(spec, qwen2_vl("2b"))


@register_model(
    name="vlm2vec-llava-next-7b",
    dim=4096,
    params=7_435_413_504,
    modalities={"text", "image"},
    license="apache-2.0",
    paper=PAPER,
    hub_id="TIGER-Lab/VLM2Vec-LLaVa-Next",
    base="llava-hf/llava-v1.6-mistral-7b-hf",
    max_tokens=4096,
    prompts=PROMPTS,
    demo="compose",
    reading=VLM2VEC_LLAVA,
    languages=("en",),
)
def vlm2vec_llava_next_7b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, llava_next("mistral-7b"))


B3_FACTS: dict[str, Any] = {
    "modalities": {"text", "image"},
    "languages": ("en",),
    "paper": PAPER_B3,
    "max_tokens": 4096,
    "prompts": B3_PROMPTS,
    "demo": "compose",
    "reading": VLM2VEC_IMAGES,
}


@register_model(
    name="b3-qwen2vl-2b",
    license="unknown",  # its code is apache-2.0; the weights' own licence could not be checked
    hub_id="raghavlite/B3_Qwen2_2B",
    **ON_QWEN2_VL["2b"],
    **B3_FACTS,
)
def b3_qwen2vl_2b(spec: ModelSpec) -> "Embedder":
    """An adapter; its figures on MMEB have a prompt before targets that are texts, too."""
    return vlm_tower(spec, qwen2_vl("2b"))


@register_model(
    name="b3-qwen2vl-7b",
    license="unknown",  # its code is apache-2.0; the weights' own licence could not be checked
    hub_id="raghavlite/B3_Qwen2_7B",
    **ON_QWEN2_VL["7b"],
    **B3_FACTS,
)
def b3_qwen2vl_7b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, qwen2_vl("7b"))


@register_model(
    name="vlm2vec-test",
    dim=32,
    params=112_704,
    modalities={"text", "image", "video"},
    license="apache-2.0",
    max_tokens=512,
    prompts={**PROMPTS, "video": "Represent the given video."},
    demo="compose",
    reading=replace(VLM2VEC, pixels=TINY_PIXELS),
)
def vlm2vec_test(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, tiny_qwen2_vl(), byte_processor())
