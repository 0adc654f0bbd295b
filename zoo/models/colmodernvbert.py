"""ColModernVBERT: late interaction in 250 million weights: SigLIP's patches and a ModernBERT that attends in both directions.

Teiletche et al., 2025, arxiv:2510.01149, as transformers' ColModernVBertProcessor and ColModernVBertForRetrieval have it.
Text is a query, one image per page, cut into tiles and one small copy of the whole; an instruction stands before the query.
"""

from typing import Any

from zoo.models.backbones import LATE, byte_tokenizer
from zoo.models.parts import Embedder, EveryToken, Linear, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import SequenceFormat
from zoo.spec import ModelSpec

PAPER = "arxiv:2510.01149"
COLMODERNVBERT = SequenceFormat(
    prompt=(
        "{% if media %}<|begin_of_text|>User:{{ media }}Describe the image.<end_of_utterance>\nAssistant:"
        "{% else %}{{ instruction }}{{ text }}" + 10 * "<end_of_utterance>" + "{% endif %}"
    ),
    backbone="modernvbert",
    marks={"image": "<image>"},
    special_tokens=True,
    attention="bidirectional",
    mixed=False,
)
FACTS: Facts = {**LATE, "paper": PAPER, "format": COLMODERNVBERT}
ON_MODERNVBERT: Facts = {"params": 252_100_736, "base": "ModernVBERT/colmodernvbert-base", "max_tokens": 8192}


def modernvbert() -> dict[str, Any]:
    """ModernVBERT: Ettin 150M with 40 tokens more, SigLIP base at 512 pixels, 16 patches to a token."""
    return {
        "model_type": "modernvbert",
        "text_config": {"model_type": "modernbert", "vocab_size": 50408},
        "vision_config": {"model_type": "siglip_vision_model", "image_size": 512, "patch_size": 16},
        "pixel_shuffle_factor": 4,
        "image_token_id": 50407,
    }


@register_model(hub_id="ModernVBERT/colmodernvbert-merged", license="mit", languages=("en",), **ON_MODERNVBERT, **FACTS)
def colmodernvbert(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, modernvbert())
    return Embedder(spec, [Tower(encoder, EveryToken(), Linear(encoder.width, spec.dim, bias=True))])


@register_model(params=61_392, license="apache-2.0", max_tokens=512, **{**FACTS, "dim": 16})
def colmodernvbert_test(spec: ModelSpec) -> Embedder:
    processor = _tiny_processor()
    encoder = sequence(spec, tiny_modernvbert(processor), processor)
    return Embedder(spec, [Tower(encoder, EveryToken(), Linear(encoder.width, spec.dim, bias=True))])


def tiny_modernvbert(processor: Any) -> dict[str, Any]:
    """A ModernVBERT that reads this processor's tokens and tiles of 32 x 32 pixels, four tokens each."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    tokenizer = processor.tokenizer
    text = {"model_type": "modernbert", "vocab_size": len(tokenizer), "num_hidden_layers": 3, "local_attention": 16}
    vision = {"model_type": "siglip_vision_model", "num_hidden_layers": 2, "image_size": 32, "patch_size": 8}
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return {
        "model_type": "modernvbert",
        "text_config": {**text, **shape, **ids, "cls_token_id": None, "sep_token_id": None},
        "vision_config": {**vision, **shape, "vision_use_head": False},
        "pixel_shuffle_factor": 2,
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
    }


def _tiny_processor() -> Any:
    from transformers import ColModernVBertProcessor, Idefics3ImageProcessor

    images = Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    return ColModernVBertProcessor(image_processor=images, tokenizer=byte_tokenizer(), image_seq_len=4)
