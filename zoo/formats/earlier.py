"""Files of before 0.2 in today's words: what people have saved goes on opening.

Until then a vision-language model had one flat record of switches, its "reading", in its encoder and in its facts; the encoder
was `encoders.vlm:VlmEncoder`.
"""

from collections.abc import Mapping
from typing import Any

from zoo.errors import UnrecognisedCheckpointError
from zoo.sequences import from_reading, limits_to_dict

ENCODER = "encoders.vlm:VlmEncoder"
NOW = "encoders.sequence:SequenceEncoder"


def current(value: Any, where: str) -> Any:
    """A config.json of our own layout, or a zoo.json, as it would be written today; what is no such file comes back as it is.

    Raises:
        UnrecognisedCheckpointError: a switch that a reading never had, or a value that it could not have.
    """
    if not isinstance(value, dict):
        return value
    spec, towers = value.get("spec"), value.get("towers")
    try:
        if isinstance(spec, dict) and "reading" in spec:
            value = {**value, "spec": _spec(spec)}
        if isinstance(towers, list):
            value = {**value, "towers": [_tower(tower) for tower in towers]}
    except (TypeError, ValueError, AttributeError) as error:
        raise UnrecognisedCheckpointError(f"{where}: bad reading: {error}") from error
    return value


def _spec(facts: Mapping[str, Any]) -> dict[str, Any]:
    layout, media, pooled = from_reading(facts["reading"])
    others = {name: fact for name, fact in facts.items() if name != "reading"}
    names = {name: value for name, value in pooled.items() if value}
    limits = limits_to_dict(media)
    return {**others, "format": layout.to_dict(), **({"media": limits} if limits else {}), **names}


def _tower(tower: Any) -> Any:
    encoder = tower.get("encoder") if isinstance(tower, dict) else None
    if not isinstance(encoder, dict) or encoder.get("kind") != ENCODER or "reading" not in encoder:
        return tower
    layout, media, _ = from_reading(encoder["reading"])
    others = {name: fact for name, fact in encoder.items() if name != "reading"}
    return {**tower, "encoder": {**others, "kind": NOW, "format": layout.to_dict(), "media": limits_to_dict(media)}}
