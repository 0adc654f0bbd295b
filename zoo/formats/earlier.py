"""Files of before 0.2 in today's words: what people have saved goes on opening.

Until then a vision-language model had one flat record of switches, its "reading", in its encoder and in its facts; the encoder
was `encoders.vlm:VlmEncoder`.
"""

from collections.abc import Mapping
from typing import Any

from zoo.errors import UnrecognisedCheckpointError
from zoo.sequences import limits_to_dict, spec_of_earlier

ENCODER = "encoders.vlm:VlmEncoder"
NOW = "encoders.sequence:SequenceEncoder"
# Modules whose encoders saved folders name, and what they are called since 0.2.
MOVED = {"encoders.hf_dual": "encoders.transformers_dual", "encoders.hf_video": "encoders.transformers_video"}


def current(value: Any, where: str) -> Any:
    """A config.json of our own layout, or a zoo.json, as it would be written today; what is no such file comes back as it is.

    Raises:
        UnrecognisedCheckpointError: a switch that a reading never had, or a value that it could not have.
    """
    if not isinstance(value, dict):
        return value
    spec, towers = value.get("spec"), value.get("towers")
    try:
        if isinstance(towers, list):
            value = {**value, "towers": [_tower(tower, spec) for tower in towers]}
        if isinstance(spec, dict) and "reading" in spec:
            value = {**value, "spec": _spec(spec)}
    except (TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: bad reading: {error}") from error
    return value


def _spec(facts: Mapping[str, Any]) -> dict[str, Any]:
    now = spec_of_earlier(facts)
    if facts["reading"] is None:
        return now
    limits = limits_to_dict(now.pop("media"))
    return {**now, "format": now["format"].to_dict(), **({"media": limits} if limits else {})}


def _tower(tower: Any, spec: Any) -> Any:
    """A tower, its encoder in today's words.

    Raises:
        ValueError: its encoder has facts in both words, or says of its pooler what the facts of the model do not.
    """
    encoder = tower.get("encoder") if isinstance(tower, dict) else None
    if isinstance(encoder, dict) and isinstance(kind := encoder.get("kind"), str):
        module, colon, name = kind.partition(":")
        tower = {**tower, "encoder": (encoder := {**encoder, "kind": f"{MOVED.get(module, module)}{colon}{name}"})}
    if not isinstance(encoder, dict) or encoder.get("kind") != ENCODER or encoder.get("reading") is None:
        return tower
    now = spec_of_earlier(encoder)
    told = spec.get("reading", spec) if isinstance(spec, dict) else {}
    for name in ("pooling", "projection", "adapter"):
        mine, theirs = now.pop(name, ""), told.get(name) if isinstance(told, dict) else None
        if (mine or "") != (theirs or ("last" if name == "pooling" else "")):
            raise ValueError(f"{name} is {mine!r:.60} in the encoder and {theirs!r:.60} in the facts of the model")
    return {
        **tower,
        "encoder": {**now, "kind": NOW, "format": now["format"].to_dict(), "media": limits_to_dict(now["media"])},
    }
