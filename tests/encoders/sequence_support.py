"""Switches of a sequence by one flat name each, as checkpoints tell them from one another: read, changed, and encoders of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from zoo import ModelSpec
from zoo.encoders.sequence import SequenceEncoder
from zoo.sequences import from_reading, to_reading


def switches(spec: ModelSpec) -> SimpleNamespace:
    """All switches of a model's sequence: prompt, image, pixels, pooling, ..."""
    names = {"pooling": spec.pooling, "projection": spec.projection, "adapter": spec.adapter}
    usual = {"join": " ", "pre_resize": [], "pre_ratio": "refuse", "pre_frames": [], "frames_twice": False, "truncation": "text"}  # fmt: skip
    facts = usual | to_reading(spec.format, spec.media, **names)
    return SimpleNamespace(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
    )


def changed(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """The facts with some switches otherwise."""
    layout, media, names = from_reading({**vars(switches(spec)), **changes})
    return replace(spec, format=layout, media=media, **names)


def encoder_of(
    config: dict[str, Any], flat: dict[str, Any], max_tokens: int, backbone: Any = None, processor: Any = None
) -> SequenceEncoder:
    """The encoder of these switches."""
    layout, media, _ = from_reading(flat)
    return SequenceEncoder(config, layout, media, max_tokens, backbone=backbone, processor=processor)


def read_otherwise(encoder: SequenceEncoder, max_tokens: int, processor: Any = None, **changes: Any) -> SequenceEncoder:
    """The same backbone read with some switches otherwise."""
    flat = {**to_reading(encoder.format, encoder.media, pooling="last"), **changes}
    pooling = "mean" if flat["attention"] == "bidirectional" else "last"
    return encoder_of(
        encoder.settings, {**flat, "pooling": pooling}, max_tokens, encoder.backbone, processor or encoder.processor
    )
