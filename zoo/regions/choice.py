"""Rules by name, and what files say of one."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import ArgumentError
from zoo.regions.base import RegionRule
from zoo.regions.crop import MaskedCrop
from zoo.regions.dense import Dense
from zoo.regions.dense_hd import DenseHd
from zoo.regions.ensemble import Ensemble

NAMES: dict[str, type[RegionRule]] = {
    "masked-crop": MaskedCrop,
    "dense": Dense,
    "dense-hd": DenseHd,
    "ensemble": Ensemble,
}


def rule_of(value: RegionRule | str | Mapping[str, Any]) -> RegionRule:
    """A rule, also by its name with its defaults, or as `described` says one of the zoo's own.

    Raises:
        ArgumentError: no such rule.
    """
    if isinstance(value, RegionRule):
        return value
    if isinstance(value, Mapping):
        settings = {key: setting for key, setting in value.items() if key != "kind"}
        kind = next((kind for kind in NAMES.values() if kind.__name__ == value.get("kind")), None)
        try:
            if kind is not None:
                return kind(**settings)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"no rule of regions has the settings {settings}: {error}") from error
        raise ArgumentError(
            f"the rule of regions {value.get('kind')!r} is none of the zoo's own; set it: model.region_rule = …"
        )
    if not isinstance(value, str) or value not in NAMES:
        raise ArgumentError(f"region must be one of {', '.join(NAMES)}, or a rule of zoo.regions, not {value!r}")
    return NAMES[value]()


def name_of(rule: RegionRule) -> str:
    """The name of a rule's kind, "masked-crop"; of one of another package its class."""
    return next((name for name, kind in NAMES.items() if type(rule) is kind), type(rule).__name__)


def described(rule: RegionRule) -> dict[str, Any]:
    """A rule's kind and arguments."""
    return {"kind": type(rule).__name__, **rule.config()}


def is_default(rule: RegionRule | None) -> bool:
    """Whether a model with this rule needs no word about it."""
    return rule is None or rule == MaskedCrop()
