"""config.json of a model of several parts (vision, text): every setting of every part followed, without effect, or refused."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from zoo.errors import UnrecognisedCheckpointError
from zoo.formats.known import composite as known
from zoo.formats.known import config as of_text
from zoo.formats.settings import NOTHING, Ignore, Table, read

# Settings that `check_transformers`, `refuse_code` and `refuse_quantised` look at by themselves, and those that name the class.
_OWN = ("model_type", "architectures", "auto_map", "quantization_config", "compression_config")


def check_parts(settings: Mapping[str, Any], where: Path, ignore: Ignore = NOTHING) -> None:
    """Holds a config.json and the configurations inside it to what transformers' own classes of them read.

    Raises:
        UnreadSettingError: a setting that nothing reads. UnrecognisedCheckpointError: a part that is null.
    """
    _check_part(settings, _class_of(str(settings.get("model_type"))), where, ignore, "")


def _check_part(settings: Mapping[str, Any], cls: Any, where: Path, ignore: Ignore, prefix: str) -> None:
    parts = dict(cls.sub_configs or {}) if cls is not None else {}
    # As Qwen2-VL's first files: the settings of the text part beside the others.
    beside = _own_class(parts.get("text_config")) if settings.get("text_config") is None else None
    said = {key: value for key, value in settings.items() if value is not None}  # what is not set says nothing
    read(said, _table(cls, beside), where, ignore, prefix)
    for name, part in parts.items():
        value = settings.get(name)
        if isinstance(value, Mapping):
            inner = _own_class(part) or _class_of(str(value.get("model_type"))) or type(getattr(cls(), name))
            if inner is type(None):  # a part that may be absent has no default class
                raise UnrecognisedCheckpointError(
                    f"{where} has {prefix}{name} without a model_type that transformers knows, so that nothing says what it is; take "
                    "the whole checkpoint, or set it to null"
                )
            _check_part(value, inner, where, ignore, f"{prefix}{name}.")
        elif name in settings and value is None and not settings.get(f"{name}_dict"):
            if (name == "text_config" and "num_hidden_layers" in settings) or _optional(cls, name):
                continue
            raise UnrecognisedCheckpointError(
                f"{where} has {prefix}{name} = null: this {settings.get('model_type')} lacks one of its parts, and transformers "
                "would build a default one in its place; take the whole checkpoint"
            )


def _optional(cls: Any, name: str) -> bool:
    """Whether a model of this class is whole without the part."""
    return bool(getattr(getattr(cls, "sub_configs_defaults", {}).get(name), "optional", False))


def _own_class(part: Any) -> Any:
    """The class of a part that is always of one; None for parts of any type (`AutoConfig`)."""
    return part if is_dataclass(part) and part.__name__ != "AutoConfig" else None


def _class_of(model_type: str) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        return CONFIG_MAPPING[model_type]
    except KeyError:
        return None


@cache
def _table(cls: Any, beside: Any = None) -> Table:
    """What a class of configurations reads, with the fields of a second one where a file is flat."""
    own = {*_OWN, *of_text.READ_BESIDE[""], "original_max_position_embeddings"}
    inert, held = dict(known.INERT), dict(known.HELD)
    for part in (cls, beside):
        if part is None:
            continue
        inert |= known.INERT_OF.get(part.model_type, {})
        held |= known.HELD_OF.get(part.model_type, {})
        names = {field.name for field in fields(part)}
        own |= names | set(part.attribute_map) | set(part.sub_configs or {})
        own |= set(of_text.ROPE if "rope_parameters" in names else ())
        own |= {f"{name}_dict" for name in part.sub_configs or {}}
        own |= set(of_text.READ_BESIDE.get(part.model_type.removesuffix("_model"), ()))
    return Table(
        own,
        {key: why for key, why in inert.items() if key not in own and key not in held},
        {key: only for key, only in held.items() if key not in own},
    )
