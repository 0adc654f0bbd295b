"""FG-CLIP 2: SigLIP 2 trained on captions of whole images, long ones, and of regions, in English and Chinese (2025, arxiv:2510.10921).

Images keep their proportions, 128 to 1,024 patches by their size; regions are pooled from states of a head of their own. Texts are
lower-cased and filled up to 64 tokens, or 196 against="image-long", and have a head each for images, long captions and regions.
"""

from typing import Any

from zoo.models.backbones import byte_tokenizer
from zoo.models.parts import Cls, Embedder, FgClip2Image, FgClip2Text, Identity, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

FG_CLIP2: Facts = {
    "modalities": {"image", "regions", "text"},
    "license": "apache-2.0",
    "paper": "arxiv:2510.10921",
    "languages": ("en", "zh"),
    "max_tokens": 64,
    "targets": ("image", "image-long", "regions"),
    "demo": "search",
}


def fg_clip2_towers(spec: ModelSpec, sizes: dict[str, Any], text: dict[str, Any], **others: Any) -> Embedder:
    """Both towers with random weights.

    Args:
        sizes: of both. text: of the text tower alone. others: as `FgClip2Text` takes them.
    """
    image = FgClip2Image({"hidden_size": spec.dim, **sizes})
    words = FgClip2Text(
        {"hidden_size": spec.dim, "max_position_embeddings": spec.max_tokens, **sizes, **text}, **others
    )
    return Embedder(spec, [Tower(image, Cls(), Identity()), Tower(words, Cls(), Identity())])


def _blocks(layers: int, heads: int, inner: int) -> dict[str, Any]:
    return {"num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner}


GEMMA = {"vocab_size": 256_000}


@register_model(
    dim=768,
    params=383_803_392,
    hub_id="qihoo360/fg-clip2-base",
    revision="430fbc8a912c86fd4de601381b6245a0edab22f0",
    **FG_CLIP2,
)
def fgclip2_vit_b16(spec: ModelSpec) -> Embedder:
    return fg_clip2_towers(spec, _blocks(12, 12, 3072), GEMMA)


@register_model(
    dim=1024,
    params=896_622_592,
    hub_id="qihoo360/fg-clip2-large",
    revision="4d1d5dc35c716902f07c172dbfc23b82a7bc6bf3",
    **FG_CLIP2,
)
def fgclip2_vit_l16(spec: ModelSpec) -> Embedder:
    return fg_clip2_towers(spec, _blocks(24, 16, 4096), GEMMA)


@register_model(
    dim=1152,
    params=1_154_017_408,
    hub_id="qihoo360/fg-clip2-so400m",
    revision="d57d30fe94a107dd6a2610eb4e9a135004d823a4",
    **FG_CLIP2,
)
def fgclip2_vit_so400m16(spec: ModelSpec) -> Embedder:
    return fg_clip2_towers(spec, _blocks(27, 16, 4304), GEMMA)


@register_model(**{**FG_CLIP2, "dim": 32, "params": 96_416, "max_tokens": 32, "languages": ()})
def fgclip2_test(spec: ModelSpec) -> Embedder:
    return fg_clip2_towers(
        spec,
        _blocks(2, 4, 48),
        {"vocab_size": 320, "bos_token_id": None, "eos_token_id": None},
        long_tokens=64,
        keep=8,
        tokenizer=byte_tokenizer(),
    )
