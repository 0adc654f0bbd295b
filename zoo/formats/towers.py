"""Towers that a checkpoint of several may leave out: which of them a configuration has, and which are wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zoo.errors import ArgumentError, MissingWeightsError
from zoo.formats.layout import no_towers
from zoo.sequences import LIMITS
from zoo.spec import ModelSpec


def wanted(names: Sequence[str]) -> frozenset[str]:
    """The modalities whose towers are wanted; text is always among them.

    Raises:
        ArgumentError: there is no such modality.
    """
    known = ("text", *LIMITS)
    if not names or (wrong := [name for name in names if name not in known]):
        given = repr(wrong[0]) if names else "none of them"
        raise ArgumentError(f'towers are among {", ".join(known)}, not {given}; write towers=["text", "image"]')
    return frozenset({"text", *names})


def kept(
    config: Mapping[str, Any], like: ModelSpec, towers: frozenset[str] | None, where: str
) -> tuple[dict[str, Any], ModelSpec]:
    """A configuration without the towers that are not wanted, and the facts of what is left.

    Args:
        config: a config.json. like: what it is read like. towers: modalities that are wanted; None for all that are there.

    Raises:
        NotOfferedError: some are wanted, and this backbone has none to leave out. MissingWeightsError: it lacks one of them.
    """
    from zoo.encoders.sequence.backbones import backbone_of

    parts = backbone_of(str(config.get("model_type"))).towers
    if not parts or like.format is None:
        if towers is not None:
            raise no_towers(where)
        return dict(config), like
    # A part that is not mentioned is built by its defaults.
    there = {kind for part, kinds in parts.items() if part not in config or config[part] is not None for kind in kinds}
    if missing := sorted((towers or set()) - there - {"text"}):
        raise MissingWeightsError(
            f"{where} has no tower for {' and '.join(missing)}: its config.json leaves it out; take the whole checkpoint"
        )
    read = there if towers is None else there & towers
    left_out = {part: None for part, kinds in parts.items() if not read & set(kinds)}
    marks = {kind: mark for kind, mark in like.format.marks.items() if kind in read}
    media = {kind: limits for kind, limits in like.media.items() if kind in marks}
    facts = {"format": replace(like.format, marks=marks), "media": media}
    return {**config, **left_out}, replace(like, modalities=frozenset({"text", *marks}), **facts)
