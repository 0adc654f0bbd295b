"""What a checkpoint's configuration may say, held before anything is built by it.

The schema is the zoo itself: the facts of `ModelSpec`, and the constructor arguments of encoders, poolers and heads with
their type hints. `zoo.encoders.config_checks` bounds the numbers, `zoo.formats.checks.safetensors_checks` compares them with the weights.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from pathlib import PurePosixPath
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from zoo.encoders.config_checks import check_numbers, check_open_clip_name
from zoo.errors import UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.modalities import MODALITIES
from zoo.registry.parts import part_named
from zoo.registry.plugins import discover
from zoo.spec import OUTPUTS, Calibration, LogitScale, ModelSpec
from zoo.strangers.schema import check_keys

FORMAT = 1
# What lets transformers find its classes in the installed zoo (see zoo.publishing.exports.code); other code is never named.
AUTO_MAP = {
    "AutoConfig": "configuration_zoo.ZooConfig",
    "AutoModel": "modeling_zoo.ZooModel",
    "AutoProcessor": "modeling_zoo.ZooProcessor",
}
FOR_TRANSFORMERS: dict[str, Any] = {"architectures": ["ZooModel"], "auto_map": AUTO_MAP}
CONFIG: dict[str, Any] = {
    "model_type": Literal["zoo"],
    "format": int,
    "spec": ModelSpec,
    "towers": list[dict[str, Any]],
}
EXTRA: dict[str, Any] = {
    "fusion": dict[str, Any],
    "region": dict[str, Any],
    "logit_scale": dict[str, float],
    "calibration": dict[str, dict[str, float | None]],
    "quantized": dict[str, Any],
    "recipe": dict[str, Any],
    "architectures": list[str],
    "auto_map": dict[str, str],
}
RERANKER = "reranker"  # key of the config.json of those, which `zoo.reranking` reads
PARTS = ("encoder", "pooler", "head")
MOST_TOWERS = 10
# Role of a part → how the names of the zoo's own parts of this role begin.
ROOMS = {
    "encoder": "encoders.",
    "pooler": "pooling",
    "head": "heads:",
    "output": "outputs:",
    "fusion": "fusion:",
    "region": "regions.",
}
FACTS: dict[str, Any] = {"format": int, "spec": ModelSpec}
# Of the other layouts only what the zoo reads; further keys are theirs.
MODULE: dict[str, Any] = {"type": str, "path": str}
SETTINGS: dict[str, Any] = {
    "model_type": str | None,
    "prompts": dict[str, str | None] | None,
    "default_prompt_name": str | None,
    "similarity_fn_name": str | None,
    "truncate_dim": int | None,
}
POOLING: dict[str, Any] = {"pooling_mode": str | list[str] | None, "include_prompt": bool | None}
DENSE: dict[str, Any] = {"in_features": int, "out_features": int}
_KIND = re.compile(r"((encoders|regions|pooling)\.[a-z0-9_]+|pooling|heads|outputs|fusion):[A-Z][A-Za-z0-9]*")
# transformers writes these beside the shape of a backbone; nothing reads them.
_INERT = ("_name_or_path", "_commit_hash")
# Parts of the shape that transformers' own configurations keep under private names, all of them numbers.
_SHAPE = ("_sliding_window_pattern", "_remove_final_layer_norm", "_pad_token_id", "_frame_rate")
_ASSETS = re.compile(r"\.|tower\d")


def check_config(config: Any, where: str) -> None:
    """Holds the config.json of our own layout to its schema: keys, types, ranges, parts and their arguments.

    Raises:
        UnrecognisedCheckpointError: a key, type, part or argument that this zoo does not know; OversizedError, of the same
            kind, for numbers that no model has.
        UnsafeCheckpointError: it names other code, other repositories or files outside the checkpoint.
    """
    if not isinstance(config, dict):
        raise UnrecognisedCheckpointError(f"{where} holds a {type(config).__name__}, not a JSON object")
    refuse_private(config, where)
    if foreign := sorted(key for key, value in FOR_TRANSFORMERS.items() if config.get(key, value) != value):
        raise UnsafeCheckpointError(f"{where}: {', '.join(foreign)} names code that is not the zoo's")
    check_format(config, where)
    if RERANKER in config:
        raise UnrecognisedCheckpointError(
            f"{where} is of a reranker, which gives scores and no vectors; zoo.load_reranker opens it"
        )
    check_keys(config, CONFIG, where, optional=EXTRA)
    check_facts({"format": FORMAT, "spec": config["spec"]}, where)
    if not 1 <= len(config["towers"]) <= MOST_TOWERS:
        raise UnrecognisedCheckpointError(f"{where} has {len(config['towers'])} towers; a model has 1 to {MOST_TOWERS}")
    for position, tower in enumerate(config["towers"]):
        _check_tower(tower, f"{where}: towers[{position}]")
    for role in ("fusion", "region"):
        if role in config:
            _check_part(config[role], role, f"{where}: {role}")
    scale_of(config, where)
    calibration_of(config, where)


def scale_of(config: Mapping[str, Any], where: str) -> LogitScale | None:
    """The temperature that config.json states, None where it states none; raises UnrecognisedCheckpointError."""
    try:
        return LogitScale(**config["logit_scale"]) if "logit_scale" in config else None
    except (TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: logit_scale: {error}") from error


def calibration_of(config: Mapping[str, Any], where: str) -> dict[str, Calibration]:
    """What config.json says the similarities mean, by modalities; raises UnrecognisedCheckpointError."""
    found = {}
    for pair, numbers in config.get("calibration", {}).items():
        sides = pair.split(">")
        if len(sides) != 2 or not all(set(side.split("+")) <= set(MODALITIES) for side in sides):
            raise UnrecognisedCheckpointError(
                f"{where}: calibration is by modalities, like text>image, not {pair!r:.40}"
            )
        try:
            found[pair] = Calibration(**numbers)
        except (TypeError, ValueError) as error:
            raise UnrecognisedCheckpointError(f"{where}: calibration of {pair}: {error}") from error
    return found


def check_facts(value: Any, where: str) -> None:
    """Holds a zoo.json to its schema, `{"format": 1, "spec": {...facts of ModelSpec...}}`.

    Raises:
        UnrecognisedCheckpointError: a key or type that this zoo does not know; OversizedError: an absurd number.
    """
    if not isinstance(value, dict):
        raise UnrecognisedCheckpointError(f"{where} holds a {type(value).__name__}, not a JSON object")
    check_format(value, where)
    check_keys(value, FACTS, where, optional={})
    check_numbers(value["spec"], where, "spec")
    try:
        ModelSpec.from_dict(value["spec"])
    except (TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: bad spec: {error}") from error


def check_modules(rows: Any, where: str) -> list[dict[str, Any]]:
    """The rows of a modules.json, once each names a class and a place inside the folder.

    Raises:
        UnrecognisedCheckpointError: it is no such list. UnsafeCheckpointError: a path that leads outside.
    """
    if not isinstance(rows, list) or not 0 < len(rows) <= 64 or not all(isinstance(row, dict) for row in rows):
        raise UnrecognisedCheckpointError(f"{where} is no list of modules")
    for position, row in enumerate(rows):
        check_keys(row, MODULE, f"{where}: row {position}")
        place = row.get("path", "")
        parts = PurePosixPath(place.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or "\\" in place or "\0" in place:
            raise UnsafeCheckpointError(f"{where}: the path {place!r} lies outside the checkpoint")
    return rows


def part_class(kind: Any, role: str, where: str) -> type:
    """The class that a part's "kind" names: the zoo's own, such as "pooling:Mean", or one that an installed package registered.

    No other code can be named.

    Args:
        role: "encoder", "pooler", "head", "output", "fusion" or "region".

    Raises:
        UnrecognisedCheckpointError: there is no such part, or it is none of this role.
    """
    from torch import nn

    from zoo.encoders.base import Encoder
    from zoo.fusion import RULES
    from zoo.regions import RegionRule

    discover("encoders")  # which may also bring what reads a medium for an encoder of the zoo's own
    room = ROOMS[role]
    if isinstance(kind, str) and (theirs := part_named(role, kind)) is not None:
        return theirs
    if not isinstance(kind, str) or not _KIND.fullmatch(kind) or not kind.startswith(room):
        raise UnrecognisedCheckpointError(
            f"{where} names the part {kind!r}, which is none of the zoo's {role}s, nor of those that an installed package "
            "registers; is the package installed that brings it?"
        )
    module_name, _, class_name = kind.partition(":")
    known = {"pooling", "heads", "outputs", "fusion"}.union(*map(_modules_of, ("encoders", "regions", "pooling")))
    module = importlib.import_module(f"zoo.{module_name}") if module_name in known else None
    cls = getattr(module, class_name, None)
    base = {"encoder": Encoder, "fusion": RULES, "region": RegionRule}.get(role, nn.Module)
    if not inspect.isclass(cls) or cls.__module__ != f"zoo.{module_name}" or not issubclass(cls, base) or cls is base:
        raise UnrecognisedCheckpointError(
            f"{where} names the part {kind!r}, which this zoo does not have; is it new enough?"
        )
    return cls


@cache
def _modules_of(room: str) -> frozenset[str]:
    path = importlib.import_module(f"zoo.{room}").__path__
    return frozenset(f"{room}.{module.name}" for module in pkgutil.iter_modules(path))


@cache
def arguments_of(cls: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Constructor arguments that JSON can hold, with their type hints: those that must be there, and the others."""
    from torch import nn

    if cls.__init__ is nn.Module.__init__:
        return {}, {}
    try:
        hints = get_type_hints(cls.__init__)
    except NameError as error:  # of another package: a hint that is imported for type checkers alone
        raise UnrecognisedCheckpointError(
            f"the arguments of {cls.__module__}.{cls.__qualname__} have type hints that cannot be read ({error}); import what "
            "they name outside TYPE_CHECKING"
        ) from error
    required, optional = {}, {}
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        hint = _json_part(hints.get(name))
        if hint is not None:
            (required if parameter.default is inspect.Parameter.empty else optional)[name] = hint
    return required, optional


def _json_part(hint: Any) -> Any:
    """A type hint without what JSON cannot hold; None where nothing is left: files, modules, tokenizers."""
    if get_origin(hint) in (Union, UnionType):
        kept = [part for arg in get_args(hint) if (part := _json_part(arg)) is not None]
        if any(is_dataclass(part) for part in kept):  # its JSON form is an object with its fields, not any object
            kept = [part for part in kept if get_origin(part) is not dict]
        return Union[tuple(kept)] if any(part is not NoneType for part in kept) else None  # noqa: UP007
    if get_origin(hint) is not None or hint in (int, float, bool, str, NoneType) or is_dataclass(hint):
        return hint
    return None


def check_format(value: Mapping[str, Any], where: str) -> None:
    """Raises UnrecognisedCheckpointError for a format of our own layout that this zoo does not read."""
    if type(value.get("format")) is not int or value["format"] != FORMAT:
        raise UnrecognisedCheckpointError(
            f"{where} has format {value.get('format')!r}; this zoo reads {FORMAT}: install a newer one"
        )


def _check_tower(tower: dict[str, Any], where: str) -> None:
    check_keys(tower, dict.fromkeys(PARTS, dict[str, Any]), where, optional={"assets": Any, "outputs": dict[str, Any]})
    assets = tower.get("assets")
    if assets is not None and (not isinstance(assets, str) or not _ASSETS.fullmatch(assets)):
        raise UnsafeCheckpointError(f"{where}: assets {assets!r} lie outside the checkpoint")
    for role in PARTS:
        _check_part(tower[role], role, f"{where}.{role}")
    outputs = tower.get("outputs", {})
    check_keys(outputs, {}, f"{where}.outputs", optional=dict.fromkeys(OUTPUTS, dict[str, Any]))
    for name, entry in outputs.items():
        _check_part(entry, "output", f"{where}.outputs.{name}")
    _check_places(tower["encoder"].get("model_cfg"), f"{where}.encoder", assets)


def _check_part(entry: dict[str, Any], role: str, where: str) -> None:
    required, optional = arguments_of(part_class(entry.get("kind"), role, where))
    check_keys(entry, required, where, optional={**optional, "kind": str})
    check_numbers(entry, where)


def _check_places(model_cfg: Any, where: str, assets: str | None) -> None:
    """open_clip's two names of other repositories: what is saved here must not need them."""
    text = model_cfg.get("text_cfg") if isinstance(model_cfg, dict) else None
    if not isinstance(text, dict):
        return
    if text.get("hf_tokenizer_name") and assets is None:
        raise UnsafeCheckpointError(
            f"{where} takes its tokenizer from {text['hf_tokenizer_name']!r}, another repository; save the model again"
        )
    check_open_clip_name(text, "hf_model_name", where)


def refuse_private(value: Any, where: str, name: str = "") -> None:
    """Keys that begin with "_" switch on what libraries keep to themselves, such as kernels from other repositories."""
    if isinstance(value, list):
        for item in value:
            refuse_private(item, where, name)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        shape = key in _SHAPE and isinstance(inner, int | float | None)
        if (key.startswith("_") and key not in _INERT and not shape) or key == "trust_remote_code":
            raise UnsafeCheckpointError(
                f"{where} has the key {name}{key}, which a configuration of the zoo never has; it could fetch or run code"
            )
        refuse_private(inner, where, f"{name}{key}.")
