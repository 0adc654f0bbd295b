"""Positions of Alibaba's text encoder (mGTE, arxiv:2407.19669), whose repositories came before transformers' class, `gte`."""

from collections.abc import Mapping
from typing import Any

from zoo.encoders.ntk import ntk_positions
from zoo.errors import UnrecognisedCheckpointError
from zoo.formats.settings import Ignore, Only, Table, read

_STRETCHED = frozenset({"gte"})  # types of which some repositories have such positions
_NTK = Table(
    followed={"type", "rope_type", "factor"},
    held={"mixed_b": Only((None,), "transformers' class stretches all frequencies by one factor")},
)


def stretched(settings: Mapping[str, Any], where: object, ignore: Ignore) -> dict[str, Any]:
    """The settings of a config.json with `"ntk"` positions, which transformers has not, in transformers' words.

    Args:
        settings: of any text backbone; those of others come back as they are.

    Raises:
        UnreadSettingError: a setting of the positions that has no such words. UnrecognisedCheckpointError: no number over 0.
    """
    scaling = settings.get("rope_scaling")
    if settings["model_type"] not in _STRETCHED or not isinstance(scaling, Mapping):
        return dict(settings)
    if "ntk" not in (scaling.get("type"), scaling.get("rope_type")):
        return dict(settings)
    read(scaling, _NTK, where, ignore, "rope_scaling.")
    shape = {
        "hidden_size": settings.get("hidden_size", 768),
        "num_attention_heads": settings.get("num_attention_heads", 12),
    }
    numbers = {"rope_theta": settings.get("rope_theta"), "rope_scaling.factor": scaling.get("factor"), **shape}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UnrecognisedCheckpointError(f"{where}: {key} is {value!r}; ntk positions need a number over 0")
    theta, factor, width, heads = numbers.values()
    rest = {key: value for key, value in settings.items() if key not in ("rope_scaling", "rope_theta")}
    return {**rest, "rope_parameters": ntk_positions(theta, factor, width // heads)}
