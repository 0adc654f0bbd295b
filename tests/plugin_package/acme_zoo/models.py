"""Models: one decorated function each. Parts by way of `zoo.models.parts`, so that `zoo list` need not import torch."""

from dataclasses import replace

from zoo.models.backbones import byte_processor, tiny_qwen2_vl
from zoo.models.parts import Embedder, Identity, LastToken, Linear, Mean, Tower, sequence
from zoo.registry import get_spec, register_model
from zoo.spec import ModelSpec


@register_model(
    dim=16,
    params=8_448,
    license="mit",
    modalities={"text"},
    hub_id="me/acme-trigrams",
    demo="acme_letters",
)
def acme_trigrams(spec: ModelSpec) -> Embedder:
    from .encoder import Trigrams

    return Embedder(spec, [Tower(Trigrams(512, 16), Mean(), Linear(16, 16, bias=True))])


THEIRS = get_spec("vlm2vec-test")
FORMAT = replace(THEIRS.format, marks=dict.fromkeys(("image", "audio"), THEIRS.format.marks["image"]))


@register_model(
    dim=32,
    license="mit",
    modalities={"text", "image", "audio"},
    max_tokens=THEIRS.max_tokens,
    format=FORMAT,
    media={"image": THEIRS.media["image"]},
)
def acme_ear_test(spec: ModelSpec) -> Embedder:
    """Reads audio too, by the reader of `media.py`."""
    return Embedder(spec, [Tower(sequence(spec, tiny_qwen2_vl(), byte_processor()), LastToken(), Identity())])
