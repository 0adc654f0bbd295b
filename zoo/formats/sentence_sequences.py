"""sentence-transformers' files around a backbone of text and media whose layout they imply: EmbeddingGemma 2."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders.sequence.backbones import Backbone
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.formats.layout import Opening
from zoo.formats.settings import Ignore
from zoo.formats.vlm import VisionLanguage, load_sequence
from zoo.sequences import LIMITS, SequenceFormat
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.encoders.sequence import SequenceEncoder

_HOW = {"method": "forward", "method_output_name": "last_hidden_state"}
_STRUCTURED = {**_HOW, "format": "structured"}


def open_encoder(
    path: Path, first: Mapping[str, Any], family: Backbone, opening: Opening, where: Path
) -> tuple["SequenceEncoder", ModelSpec]:
    """The encoder of a folder, and its facts as if the mean of its tokens were the vector.

    Args:
        path: of the first module. first: its settings. where: their file.

    Raises:
        UnreadSettingError: a setting that is not followed. MissingWeightsError: a tower that is wanted, and not there.
    """
    from zoo.encoders.sequence import SequenceEncoder

    read = modalities(first.get("modality_config"), where, opening.ignore)
    if opening.towers is not None and (missing := sorted(opening.towers - read)):
        raise MissingWeightsError(f"{where} reads no {' and no '.join(missing)}; it reads {', '.join(sorted(read))}")
    like = opening.like or ModelSpec(
        name=opening.name,
        modalities=frozenset({"text"}),
        dim=1,  # of the backbone, told below
        license="unknown",
        format=family.sentence,
        pooling="mean",
    )
    assert like.format is not None
    marks = {kind: mark for kind, mark in like.format.marks.items() if kind in read}
    media = {kind: limits for kind, limits in like.media.items() if kind in marks}
    longest = first.get("max_seq_length") or like.max_tokens or family.longest
    like = replace(like, format=replace(like.format, marks=marks), media=media, max_tokens=longest)

    def build(
        config: dict[str, Any], layout: SequenceFormat, told: Any, longest: int, **parts: Any
    ) -> "SequenceEncoder":
        if opening.like is None and layout.marks:
            told = _own_limits(family, parts["processor"], layout, path, opening.ignore)
        return SequenceEncoder(config, layout, dict(told), longest, **parts)

    model = load_sequence(path, replace(opening, like=like), VisionLanguage(), build)
    encoder = model.towers[0].encoder
    spec = replace(model.spec, media=encoder.media, max_tokens=encoder.max_tokens)
    return encoder, spec


def modalities(config: Any, where: Path, ignore: Ignore) -> frozenset[str]:
    """What `modality_config` lets in: text, and the media that it names.

    Raises:
        UnreadSettingError: an entry of another medium, or read by another method than `forward`.
    """
    if config is None:
        return frozenset({"text"})
    if not isinstance(config, Mapping):
        raise UnrecognisedCheckpointError(f"{where}: modality_config is a {type(config).__name__}, no object")
    found = set()
    for name, how in config.items():
        if name == "message":
            if how not in (_HOW, _STRUCTURED):
                ignore.refuse(
                    where, "modality_config.message", how, "messages go through `forward`, as a list of parts"
                )
        elif name not in ("text", *LIMITS):
            ignore.refuse(
                where, f"modality_config.{name}", how, f"the zoo reads text, {', '.join(LIMITS)} in a sequence"
            )
        elif how != _HOW:
            ignore.refuse(where, f"modality_config.{name}", how, "the zoo pools the last layer's token states")
        else:
            found.add(name)
    if "text" not in found:
        ignore.refuse(where, "modality_config", sorted(config), "every prompt is text, and text is not among them")
    return frozenset({"text", *found})


def _own_limits(family: Backbone, processor: Any, layout: SequenceFormat, path: Path, ignore: Ignore) -> dict[str, Any]:
    try:
        limits = family.limits(processor)
    except ValueError as error:
        ignore.refuse(path / "processor_config.json", "video_processor", str(error), "the zoo samples in another way")
        return {}
    return {kind: one for kind, one in limits.items() if kind in layout.marks}
