"""What a checkpoint's configuration may not say: it is data, and never names other code, repositories or files."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from zoo.encoders.places import check_config_places
from zoo.errors import OversizedError, UnreadSettingError, UnrecognisedCheckpointError, UnsafeCheckpointError

_PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
_TIMM_FACTORY = frozenset({"checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "features_only"})
_TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token", "language", "additional_special_tokens"})
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# The largest number that a configuration may give, by the end of its dotted name; the first that matches counts. No model
# of today comes near; what is allowed and still too much is caught by comparing with the weights (zoo.formats.checks.safetensors_checks).
LIMITS: tuple[tuple[str, float], ...] = (
    (r"theta$|scale\w*$|(^|\.)base$", 1e15),
    (r"(^|\.)params$", 1e13),
    (r"vocab_size$|num_embeddings$", 4_194_304),
    (r"hidden_groups$|group_num$", 16),
    (r"multiplier$", 64),
    (r"embed_dim_per_stage$", 65_536),
    (r"(layers?|blocks?|depths?|experts|stages?)$", 512),
    (r"num_labels$|num_classes$", 100_000),
    (r"(image|img|input|crop|resize|patch)_size(\.\w+)?$|(^|\.)size(\.\w+)?$|_edge$|(^|\.)height$", 4_096),
    (r"patches$", 65_536),
    (r"pre_(resize|frames)$", 67_108_864),  # areas; a reading holds them to more
)
LARGEST = 16_777_216  # any other whole number


# file, setting, value, why it is not followed → an error, unless the caller wants the setting ignored
Refuse = Callable[[object, str, Any, str], None]


def refuse_setting(where: object, key: str, value: Any, why: str) -> None:
    """Raises UnreadSettingError for a setting that is not followed; for those who ignore none."""
    raise UnreadSettingError(f"{where}: {key} is {value!r}, which the zoo does not follow: {why}", (key,))


def check_numbers(config: Any, where: str, name: str = "") -> None:
    """Refuses numbers that no model has, before anything is built by them: layers, vocabulary, image size, ...

    Raises:
        OversizedError: it names the key.
    """
    if isinstance(config, Mapping):
        for key, value in config.items():
            check_numbers(value, where, f"{name}.{key}" if name else str(key))
        return
    numbers = config if isinstance(config, list | tuple) else [config]
    for value in numbers:
        if isinstance(value, Mapping | list | tuple):
            check_numbers(value, where, name)
    numbers = [value for value in numbers if isinstance(value, int | float) and not isinstance(value, bool)]
    if not numbers:
        return
    limit = next((most for pattern, most in LIMITS if re.search(pattern, name)), None)
    if limit is None:
        numbers, limit = [value for value in numbers if isinstance(value, int)], LARGEST
    elif re.search(r"(layers?|blocks?|depths?)$", name):
        numbers = [sum(map(abs, numbers)), len(numbers)]  # blocks of several stages add up
    if wrong := [value for value in numbers if abs(value) > limit]:
        raise OversizedError(f"{where} has {name} = {wrong[0]:,}; no model has over {limit:,.0f}")


def check_transformers(config: Mapping[str, Any], where: str = "config.json") -> None:
    """Refuses a configuration of transformers that names a repository to fetch kernels or code from (CVE-2026-4372).

    Raises:
        UnsafeCheckpointError: it names the key. OversizedError: a number that no model has.
    """
    check_numbers(config, where)
    check_config_places(config, where)
    _check_places(config, where)


def _check_places(config: Any, where: str) -> None:
    if isinstance(config, list | tuple):
        for value in config:
            _check_places(value, where)
    if not isinstance(config, Mapping):
        return
    for key, value in config.items():
        _check_places(value, where)
        if key == "trust_remote_code" and value:
            raise UnsafeCheckpointError(
                f"{where} has trust_remote_code = {value!r}; only the caller can trust code, by load_model's argument"
            )
        # timm's models may be named by a repository or a folder ("hf-hub:org/name").
        if key in ("architecture", "backbone") and isinstance(value, str) and re.search(r"[/:]", value):
            raise UnsafeCheckpointError(f"{where} has {key} = {value[:80]!r}, a model of another place; remove it")
        if key == "model_args" and isinstance(value, Mapping):  # of a timm model inside
            check_timm("timm", value)
        private = str(key).startswith("_") and key not in ("_name_or_path", "_commit_hash")
        # transformers takes one kernel for all, or a mapping from parts to kernels.
        if (private or "implementation" in str(key)) and any(re.search(r"[/:]", text) for text in _texts(value)):
            raise UnsafeCheckpointError(
                f"{where} has {key} = {value!r}, which would fetch code from elsewhere; remove the key if you trust the rest"
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _texts(part)


def check_open_clip(model_cfg: Mapping[str, Any]) -> None:
    """Refuses an open_clip model_cfg that reaches for code or weights outside the checkpoint.

    Raises:
        UnsafeCheckpointError: it names the key. OversizedError: a number that no model has.
    """
    check_numbers(model_cfg, "open_clip_config.json", "model_cfg")
    vision, text = model_cfg.get("vision_cfg") or {}, model_cfg.get("text_cfg") or {}
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise UnrecognisedCheckpointError(
            "open_clip_config.json: the vision_cfg and text_cfg of its model_cfg must be objects"
        )
    if "timm_model_name" in vision:
        check_timm(vision["timm_model_name"], {})
    if options := set(text.get("tokenizer_kwargs") or {}) - _TOKENIZER_OPTIONS:
        raise UnsafeCheckpointError(
            f"open_clip_config.json sets the tokenizer options {sorted(options)}; only {sorted(_TOKENIZER_OPTIONS)} are read"
        )
    for key in ("hf_model_name", "hf_tokenizer_name"):
        name = text.get(key)
        if name and not (isinstance(name, str) and _REPOSITORY.fullmatch(name)):
            raise UnsafeCheckpointError(f"open_clip_config.json has {key} = {name!r}, which is no Hub repository")
    check_open_clip_name(text, "hf_model_name", "open_clip_config.json")


def check_open_clip_name(text_cfg: Mapping[str, Any], key: str, where: str) -> None:
    """Refuses the name of another repository that is none of those which open_clip's own configurations name.

    Args:
        key: "hf_model_name" or "hf_tokenizer_name".

    Raises:
        UnsafeCheckpointError: it is another one.
    """
    name = text_cfg.get(key)
    if name and name not in _open_clip_names(key):
        what = {"hf_model_name": "its text tower's shape", "hf_tokenizer_name": "its tokenizer"}[key]
        remedy = "" if key == "hf_model_name" else "; put the tokenizer's files beside the weights"
        raise UnsafeCheckpointError(
            f"{where} takes {what} from {str(name)[:80]!r}, a repository that open_clip does not name{remedy}"
        )


@cache
def _open_clip_names(key: str) -> frozenset[str]:
    import open_clip

    configs = (open_clip.get_model_config(arch)["text_cfg"] for arch in open_clip.list_models())
    return frozenset(name for cfg in configs if (name := cfg.get(key)))


def check_timm(arch: Any, args: Mapping[str, Any]) -> None:
    """Refuses a timm architecture or argument that would load weights or configuration from elsewhere.

    Raises:
        UnsafeCheckpointError: it names the value. OversizedError: a number that no model has.
    """
    if not isinstance(arch, str) or not _PLAIN.fullmatch(arch):
        raise UnsafeCheckpointError(f"{arch!r} is no plain timm architecture; a checkpoint may not name another place")
    if bad := sorted(key for key in args if key in _TIMM_FACTORY or key.startswith("pretrained")):
        raise UnsafeCheckpointError(f"the timm arguments {bad} would load other weights; remove them")
    check_numbers(args, "config.json", "model_args")


# Text backbones whose first position is the one after the filler's id.
COUNTS_AFTER_FILLER = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})


def positions_of(config: Any) -> int | None:
    """Tokens that a backbone's position table has room for; RoBERTa and related models begin to count after the filler."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in COUNTS_AFTER_FILLER:
        return positions - 1 - (config.pad_token_id or 0)
    return positions
