"""What the vectors of a vision-language model were held equal to, and what was not: for cards, by the names of models."""

from fnmatch import fnmatchcase
from typing import NamedTuple

from zoo.spec import ModelSpec

_FILES = (
    "Before all this images are turned upright by their tag, and transparency is composited on white; the authors' code turns "
    "nothing, and composites at most RGBA"
)
_ONE_STEP = (
    "same grid of tokens as the first resize there; pixels are resized once, by torchvision where the authors have Pillow (up to "
    "two steps of 255 apart, vectors by about 0.0005)"
)
_NO_CUT = "the authors' code cuts nothing off at the lengths of their figures"
_CUT = (
    "the authors' code cuts the end of the whole sequence at {tokens:,} tokens, what is pooled with it: a published figure needs "
    '`load_model(…, truncation="reference")` where texts are longer'
)


class Held(NamedTuple):
    """What was compared with what: to the letter (prompt), to the pixel or token (preprocessing), to 0.00001 (forward).

    Attributes:
        truncation: how over-long sequences are cut there.
    """

    prompt: str
    preprocessing: str
    forward: str
    truncation: str = _NO_CUT


_PLAIN = "transformers' classes of the backbone, with positions, mask and pooling of the authors' code written out anew"
_BOTH = (
    "the authors' own code (sam2, their modeling_qwen2_vl.py under transformers 4.52.3), run beside ours with the same weights: no "
    "prompt, a point, a box, texts, and batches of these but for their texts beside images, which they pool at filling"
)
_THINKER = (
    "transformers 5.23's Qwen2_5OmniThinkerModel, called by its processor with padding on the left, with mask and pooling of the "
    "authors' code written out anew"
)
_OMNI = (
    "transformers 5.23's Qwen2_5OmniProcessor; equal for images, lists of frames and waveforms at its rate, audio to the bit. Of video "
    "files the frames are qwen-vl-utils' choice where mteb has its own; audio at other rates is resampled by soxr"
)
_AS_TEVATRON = (
    "README.md of Haon-Chen/e5-omni-7B, adapted from OmniEmbed's, and mteb's wrapper of OmniEmbed of before 2.20, in Qwen2.5-Omni's "
    "chat template"
)
_512 = "mteb cuts items of text alone at 512 tokens; here 32,768 are read"
# Patterns of names, the first that fits. Sources are repositories and files, or packages.
HELD: dict[str, Held] = {
    "gme-*": Held(
        "gme_inference.py (in TIGER-AI-Lab/VLM2Vec, src/model/baseline_backbone/gme)",
        "its `fetch_image`, by qwen-vl-utils 0.0.14's for sides up to 200 : 1, and transformers 5.23's processor; equal",
        _PLAIN,
        _CUT,
    ),
    "ops-mm-*": Held(
        "ops_mm_embedding_v1.py and mteb 2.26's ops_mm_models.py",
        f"its `fetch_image`, by qwen-vl-utils 0.0.14's: {_ONE_STEP}",
        _PLAIN,
    ),
    "rzenembed-*": Held(
        "rzen_embed_inference.py of 360CVGroup/RzenEmbed",
        "its `fetch_image`, by qwen-vl-utils 0.0.14's for sides up to 200 : 1, frames of videos too, and transformers 5.23's "
        "processor; equal",
        _PLAIN,
        _CUT,
    ),
    "gve-*": Held(
        "mteb 2.26's gve_models.py",
        "transformers 5.23's processor as mteb calls it; equal. The authors' own code could not be read: by its example it puts "
        "qwen-vl-utils before the processor, which changes the grid of images with a side under 14 pixels, and of lists of frames",
        _PLAIN,
        _CUT,
    ),
    "u-marvel-qwen3vl-*": Held(
        "dataset/datasets_mbeir.py and collators/mbeir_eval.py of chaxjli/U-MARVEL, in Qwen3-VL's chat template",
        "collators/qwen3_vision_process.py, by qwen-vl-utils 0.0.14's `fetch_image`, and transformers 5.23's processor; equal",
        "transformers' text and vision layers, called as models/qwen3_vl_finetune.py calls them",
        _CUT,
    ),
    "u-marvel-*": Held(
        "dataset/datasets_mbeir.py and collators/mbeir_eval.py of chaxjli/U-MARVEL, in Qwen2-VL's chat template",
        f"collators/qwen2_vision_process.py, the evaluation's: {_ONE_STEP}. demo.py, which the figures do not come from, takes "
        "up to 16,384 tokens of an image",
        "transformers' text and vision layers, called as models/qwen2_vl_finetune.py calls them",
        _CUT,
    ),
    "embeddinggemma-2*": Held(
        "transformers 5.23's EmbeddingGemma2Processor and sentence-transformers 6.2, and mteb 2.26's google_embeddinggemma.py",
        "transformers 5.23's processor; equal for images, for the frames that it takes of a video, and for waveforms at its rate; audio at "
        "other rates is resampled by soxr",
        "transformers 5.23's EmbeddingGemma2Model, with all of its towers and without some",
        "sentence-transformers cuts the end of the text and keeps the tokenizer's own end, as is done here",
    ),
    "lco-embedding-*": Held(
        "mteb 2.26's lco_embedding_models.py and README.md of LCO-Embedding/LCO-Embedding, in Qwen2.5-Omni's chat template",
        _OMNI,
        _THINKER,
        "the authors' evaluation cuts each text at 300 tokens, before the words after it; here 32,768 tokens are read",
    ),
    "omni-embed-nemotron-*": Held(
        "README.md of nvidia/omni-embed-nemotron-3b and mteb 2.26's omni_embed_nemotron_models.py, in Qwen2.5-Omni's chat template",
        _OMNI,
        f"{_THINKER}. Its text layers read in both directions, as they were trained; its own code under transformers 5 reads padded "
        "batches causally, which mteb mends too",
    ),
    "e5-omni-*": Held(_AS_TEVATRON, f"{_OMNI}. The audio track of a video is not read", _THINKER, _512),
    "omniembed-*": Held(
        _AS_TEVATRON, f"{_OMNI}. The audio track of a video is not read", f"{_THINKER}, an adapter added up", _512
    ),
    "colqwen-omni-*": Held(
        "ColQwen2_5OmniProcessor of colpali-engine 0.3.18, as mteb 2.26's colqwen_models.py calls it",
        _OMNI,
        f"{_THINKER} and a projection, as `ColQwen2_5Omni.forward`, an adapter added up",
    ),
    "lamra-*": Held(
        "dataset/datasets_mbeir.py of Code-kunkun/LamRA",
        f"collators/qwen2_vision_process.py, by qwen-vl-utils 0.0.14's `fetch_image` for sides up to 200 : 1: {_ONE_STEP}",
        "transformers' layers, called as models/qwen2_vl.py calls them; demo.py gives images rows and columns",
        _CUT,
    ),
    "unite-*": Held(
        "unite/prompt_template.py and inference/batch_inference_demo.py of friedrichor/UNITE",
        "unite/model/qwen_vl_utils (version 0.0.8), by 0.0.14's `fetch_image`, and transformers 5.23's processor with one budget "
        "for images and frames, as transformers 4.47 had; equal for images and lists of frames. Of files the frames that 0.0.8 "
        "takes may be others by one or two",
        _PLAIN,
    ),
    "qwen3vl-embedding-*": Held(
        "src/models/qwen3_vl_embedding.py of QwenLM/Qwen3-VL-Embedding",
        "qwen-vl-utils 0.0.14's `process_vision_info`: videos, as files and as lists of frames, equal; images: "
        + _ONE_STEP,
        _PLAIN,
        _CUT,
    ),
    "wemm-*": Held(
        "examples/transformers_inference.py of Tencent/WeMM-Embedding; an instruction as mteb 2.26 puts it",
        "qwen-vl-utils 0.0.14's `process_vision_info` and transformers 5.23's processor; equal for images and videos of up to 64 "
        "frames",
        _PLAIN,
    ),
    "vlm2vec-llava-*": Held(
        "src/model/processor.py of TIGER-AI-Lab/VLM2Vec",
        "transformers 5.23's processor; the published figures come from images resized to 1,344 x 1,344 before it "
        "(--image_resolution high), which is not done here",
        _PLAIN,
        _CUT,
    ),
    "vlm2vec-*": Held(
        "src/model/processor.py and src/data/eval_dataset of TIGER-AI-Lab/VLM2Vec",
        "images with a side under 28 pixels to 56 x 56 as there, and transformers 5.23's processor; equal",
        _PLAIN,
        "VLM2Vec-V2's figures cut nothing; V1's cut the end of the whole sequence at 4,096 tokens (256 in mteb's wrapper): "
        '`load_model(…, truncation="reference")` where texts are longer',
    ),
    "virtue-*-reference": Held(
        "scar_image_i2t.py of sony/virtue (commit 36d8a8b), which puts a space after the image that its training does not have",
        "images to 1,344 x 1,344 as its evaluation does, and transformers 5.23's processor; equal. SAM gets what that makes, before "
        "patches, and a box as pixels of its square",
        _BOTH,
    ),
    "virtue-*": Held(
        "virtue-example.py of sony/virtue (commit 36d8a8b)",
        "images with a side under 28 pixels to 56 x 56 as there, and transformers 5.23's processor; equal for images whose size it "
        "keeps. Others are resized by torchvision where the authors have Pillow (vectors by about 0.0003). SAM gets what that makes, "
        "before patches, and the prompt scaled to its square",
        _BOTH,
    ),
    "b3-*": Held(
        "src/model/processor.py of TIGER-AI-Lab/VLM2Vec, on which raghavlite/B3 is built",
        "as VLM2Vec: images with a side under 28 pixels to 56 x 56, and transformers 5.23's processor; equal",
        _PLAIN,
        _CUT,
    ),
    "jina-*": Held(
        "modeling_jina_embeddings_v4.py of the repository",
        "transformers 5.23's processor, called as `process_images` calls it; equal",
        "transformers' layers, one task's adapter added up, in float32 where the authors' code runs in bfloat16",
        _CUT,
    ),
    "colqwen2-v1.0-hf": Held(
        "transformers 5.23's ColQwen2Processor",
        "the same; equal",
        "transformers 5.23's ColQwen2ForRetrieval, handed the rows and columns of images that it computed itself until version 5",
    ),
    "colqwen2-*": Held(
        'ColQwen2Processor of colpali-engine 0.3.4, released the day before the weights were named. "Query: " stood before '
        "queries from 0.3.4 to 0.3.12; from 0.3.13 on nothing does, and vectors of queries by such a version are others",
        f"`smart_resize_helper` of 0.3.4: {_ONE_STEP}; from 0.3.9 on the processor alone resizes, to the same sizes but of images "
        "with a side under 14 pixels",
        "transformers' backbone with the projection, as `ColQwen2.forward`",
    ),
    "colpali-*": Held(
        'transformers 5.23\'s ColPaliProcessor, "Question: " before queries. colpali-engine had "Query: " there when v1.3 was '
        "published (0.3.4 to 0.3.12; mteb has it too), and has nothing from 0.3.13 on: their figures are of "
        '`encode_query(…, prompt="Query: ")`',
        "the same; equal, and no resize before it in colpali-engine either",
        "transformers 5.23's ColPaliForRetrieval: every token attends to every other, as PaliGemma's do where nothing is generated",
    ),
    "colmodernvbert*": Held(
        "transformers 5.23's ColModernVBertProcessor",
        "the same; equal",
        "transformers 5.23's ColModernVBertForRetrieval",
    ),
    "e5-v-*": Held(
        "README.md and retrieval.py of kongds/E5-V; an item of a text before an image has no form there",
        "transformers 5.23's processor, called as there; equal",
        _PLAIN,
    ),
    "instructcir-*": Held(
        "generate_test_submission.py of zhwl2117/InstructCIR; an item of a text before an image has no form there",
        "transformers 5.23's processor, called as there; equal",
        "transformers' LLaVA, into which the authors' classes are converted",
    ),
    "unime-v2-*": Held(
        "Embedding/src/model_utils.py of GaryGuTC/UniME-v2, in LLaVA-OneVision's chat template: media first, each text on a line",
        "images to 1,344 x 1,344 as its evaluation does, and transformers 5.23's processor; equal. How videos are sampled is mteb's choice",
        _PLAIN,
    ),
    "unime-*": Held(
        "README.md of deepglint/UniME, and VLM2Vec's rows for instructions",
        "transformers 5.23's processor, called as there; equal",
        _PLAIN,
        "the authors' evaluation cuts the end of the whole sequence at 4,096 tokens: a published figure needs "
        '`load_model(…, truncation="reference")` where texts are longer',
    ),
}


def held(name: str) -> Held | None:
    """What a model of this name was held to; None for models that read no such sequences, and for test models."""
    if name.endswith("-test"):
        return None
    return next((found for pattern, found in HELD.items() if fnmatchcase(name, pattern)), None)


def held_rows(spec: ModelSpec) -> dict[str, str]:
    """What → against what, in words; {} where there is nothing to say."""
    found = held(spec.name)
    if spec.format is None or found is None:
        return {}
    return {
        "prompt, to the letter": found.prompt,
        "preprocessing": f"{found.preprocessing}. {_FILES}",
        "forward pass, to 0.00001": found.forward,
        "over-long sequences": found.truncation.format(tokens=spec.max_tokens or 0),
    }
