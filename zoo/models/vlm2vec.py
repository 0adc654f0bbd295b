"""VLM2Vec: a bare image token, the instruction, the text, and the state of the last token (Jiang et al., 2024, arxiv:2410.05160).

No chat template, no vision-start mark, and for that tokens counted on all axes. V2 (Meng et al., 2025, arxiv:2507.04590) adds
videos and documents. B3 (Thirukovalluru et al., 2025, arxiv:2505.11293) was trained in the same code and is read the same way.
TIGER-Lab/VLM2Vec-Full and -LoRA are Phi-3.5-vision models, for which transformers has no class (see `zoo.formats.vlm`).
"""

from zoo.models.backbones import ON_QWEN2_VL, TINY_PIXELS, TINY_QWEN2_VL, byte_processor, qwen2_vl, tiny_qwen2_vl
from zoo.models.llava_backbones import ON_LLAVA_NEXT, llava_next
from zoo.models.parts import Embedder, Identity, LastToken, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import ImageLimits, SequenceFormat, VideoLimits
from zoo.spec import ModelSpec

PAPER, PAPER_V2, PAPER_B3 = "arxiv:2410.05160", "arxiv:2507.04590", "arxiv:2505.11293"
# With images " \n" becomes "\n", as in the authors' evaluation (src/data/eval_dataset/image_*.py), where a break stands
# directly after the image; see `zoo.evaluation.instructions.mmeb_query`.
BARE_TOKEN = (
    "{% set words = media ~ instruction ~ (' ' if instruction and text else '') ~ text if content == media ~ text "
    "else instruction ~ (' ' if instruction else '') ~ content %}"
    "{{ words | replace(' \\n', '\\n') if images else words }}"
)
IMAGE, VIDEO = "<|image_pad|> ", "<|video_pad|> "
BARE = SequenceFormat(prompt=BARE_TOKEN, backbone="qwen2_vl", marks={"image": IMAGE})
BARE_VIDEO = SequenceFormat(prompt=BARE_TOKEN, backbone="qwen2_vl", marks={"image": IMAGE, "video": VIDEO})
# LLaVA-NeXT's processor cuts images into crops, of any size; its tokenizer begins with "<s>". The authors' figures come
# from images resized to 1344 x 1344 pixels before (--image_resolution high), their demo from images as they are.
BARE_LLAVA = SequenceFormat(prompt=BARE_TOKEN, backbone="llava_next", marks={"image": "<image> "}, special_tokens=True)
IMAGES = ImageLimits(pixels=(4 * 28 * 28, 1280 * 28 * 28), smallest_side=28)
# Videos of files are cut to 8 frames evenly; the authors cut 8 of at most 64 that they had saved before.
VIDEOS = VideoLimits(frames=8)
# Of the authors' demos (experiments/examples); a text alone has none. MMEB's are in `zoo.evaluation.instructions`.
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


VIDEO_PROMPTS = {**PROMPTS, "video": "Represent the given video."}
READS_IMAGES: Facts = {
    "modalities": {"text", "image"},
    "languages": ("en",),
    "max_tokens": 4096,
    "demo": "compose",
    "format": BARE,
    "media": {"image": IMAGES},
}
VLM2VEC: Facts = {**READS_IMAGES, "license": "apache-2.0", "paper": PAPER, "prompts": PROMPTS}
VLM2VEC_V2: Facts = {
    **VLM2VEC,
    "modalities": {"text", "image", "video"},
    "paper": PAPER_V2,
    "prompts": VIDEO_PROMPTS,
    "format": BARE_VIDEO,
    "media": {"image": IMAGES, "video": VIDEOS},
}
# The code of B3 is apache-2.0; the weights' own licence could not be checked.
B3: Facts = {**READS_IMAGES, "license": "unknown", "paper": PAPER_B3, "prompts": B3_PROMPTS}


@register_model(hub_id="TIGER-Lab/VLM2Vec-Qwen2VL-2B", **ON_QWEN2_VL["2b"], **VLM2VEC)
def vlm2vec_qwen2vl_2b(spec: ModelSpec) -> Embedder:
    """An adapter, published as a pickle: `load_model` asks for allow_pickle=True (only tensors are read from it)."""
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("2b")), LastToken(), Identity())])


@register_model(hub_id="TIGER-Lab/VLM2Vec-Qwen2VL-7B", **ON_QWEN2_VL["7b"], **VLM2VEC)
def vlm2vec_qwen2vl_7b(spec: ModelSpec) -> Embedder:
    """Its repository holds an adapter and a merged copy. The copy gives bad vectors (TIGER-AI-Lab/VLM2Vec#44): never read."""
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("7b")), LastToken(), Identity())])


@register_model(
    hub_id="VLM2Vec/VLM2Vec-V2.0",
    revision="e39ff079b8275ef876d3656da8c0bddbff3c4dde",
    **ON_QWEN2_VL["2b"],
    **{**VLM2VEC_V2, "max_tokens": 32768},
)
def vlm2vec_v2_qwen2vl_2b(spec: ModelSpec) -> Embedder:
    """A DoRA adapter on Qwen2-VL."""
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("2b")), LastToken(), Identity())])


@register_model(
    hub_id="TIGER-Lab/VLM2Vec-LLaVa-Next",
    **ON_LLAVA_NEXT["mistral-7b"],
    **{**VLM2VEC, "format": BARE_LLAVA, "media": {}},
)
def vlm2vec_llava_next_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, llava_next("mistral-7b")), LastToken(), Identity())])


@register_model(hub_id="raghavlite/B3_Qwen2_2B", **ON_QWEN2_VL["2b"], **B3)
def b3_qwen2vl_2b(spec: ModelSpec) -> Embedder:
    """An adapter; its figures on MMEB have a prompt before targets that are texts, too."""
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("2b")), LastToken(), Identity())])


@register_model(hub_id="raghavlite/B3_Qwen2_7B", **ON_QWEN2_VL["7b"], **B3)
def b3_qwen2vl_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, qwen2_vl("7b")), LastToken(), Identity())])


TINY_MEDIA = {"image": ImageLimits(pixels=TINY_PIXELS, smallest_side=28), "video": VIDEOS}


@register_model(**{**VLM2VEC_V2, "paper": None, "languages": (), "media": TINY_MEDIA, **TINY_QWEN2_VL})
def vlm2vec_test(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, tiny_qwen2_vl(), byte_processor()), LastToken(), Identity())])
