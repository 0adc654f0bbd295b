"""ColPali: a vector for every patch of a page and every token of a query, by PaliGemma and one projection.

Faysse et al., 2024, arxiv:2407.01449, as transformers' ColPaliProcessor and ColPaliForRetrieval have it. Text is a query, a
image a page; an instruction takes the place of "Question: ". PaliGemma attends in both directions. colpali-engine itself had
"Query: " before queries when v1.3 was published (0.3.4 to 0.3.12), "Question: " before that, and nothing from 0.3.13 on.
"""

from typing import Any

from zoo.models.backbones import LATE, TINY, byte_tokenizer
from zoo.models.parts import Embedder, EveryToken, Linear, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import SequenceFormat
from zoo.spec import ModelSpec

PAPER = "arxiv:2407.01449"
COLPALI = SequenceFormat(
    prompt=(
        "{% if media %}{{ media }}<bos>Describe the image.\n"
        "{% else %}<bos>{{ instruction or 'Question: ' }}{{ text }}" + 10 * "<pad>" + "\n{% endif %}"
    ),
    backbone="paligemma",
    marks={"image": "<image>"},
    attention="bidirectional",
    mixed=False,
)
FACTS: Facts = {**LATE, "paper": PAPER, "format": COLPALI}
ON_PALIGEMMA: Facts = {"params": 2_924_613_488, "base": "vidore/colpaligemma-3b-pt-448-base", "max_tokens": 8192}


def paligemma() -> dict[str, Any]:
    """PaliGemma 3B at 448 pixels (Beyer et al., 2024, arxiv:2407.07726), its token table padded to a multiple of 64."""
    return {
        "model_type": "paligemma",
        "text_config": {
            "model_type": "gemma",
            "vocab_size": 257216,
            "hidden_size": 2048,
            "intermediate_size": 16384,
            "num_hidden_layers": 18,
            "num_attention_heads": 8,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 448,
            "patch_size": 14,
            "vision_use_head": False,
        },
        "image_token_index": 257152,
        "projection_dim": 2048,
        "hidden_size": 2048,
    }


@register_model(
    name="colpali-v1.3", hub_id="vidore/colpali-v1.3-hf", license="gemma", languages=("en",), **ON_PALIGEMMA, **FACTS
)
def colpali_v13(spec: ModelSpec) -> Embedder:
    """In the layout of transformers; weights on the terms of Gemma, the authors' adapter in them under MIT."""
    encoder = sequence(spec, paligemma())
    return Embedder(spec, [Tower(encoder, EveryToken(), Linear(encoder.width, spec.dim, bias=True))])


@register_model(params=96_688, **{**FACTS, **TINY, "dim": 16})
def colpali_test(spec: ModelSpec) -> Embedder:
    processor = _tiny_processor()
    encoder = sequence(spec, tiny_paligemma(processor), processor)
    return Embedder(spec, [Tower(encoder, EveryToken(), Linear(encoder.width, spec.dim, bias=True))])


def tiny_paligemma(processor: Any) -> dict[str, Any]:
    """A PaliGemma that reads this processor's tokens and images of 28 x 28 pixels, four patches each."""
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = paligemma()
    return {
        **config,
        "text_config": {**config["text_config"], **text, "vocab_size": len(processor.tokenizer), "head_dim": 16},
        "vision_config": {**config["vision_config"], **text, "image_size": 28},
        "image_token_index": processor.tokenizer.convert_tokens_to_ids("<image>"),
        "projection_dim": 32,
        "hidden_size": 32,
    }


def _tiny_processor() -> Any:
    from transformers import ColPaliProcessor, SiglipImageProcessor

    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<bos>", "pad_token": "<pad>"})
    images = SiglipImageProcessor(size={"height": 28, "width": 28}, image_seq_length=4)
    return ColPaliProcessor(image_processor=images, tokenizer=tokenizer)
