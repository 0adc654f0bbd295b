"""What a checkpoint's configuration may not say: it is data, and never names other code, repositories or files."""

import re
from collections.abc import Mapping
from typing import Any

from zoo.errors import UnsafeCheckpointError

_PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
_TIMM_FACTORY = frozenset({"checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "features_only"})
_TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token", "language", "additional_special_tokens"})
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def check_transformers(config: Mapping[str, Any], where: str = "config.json") -> None:
    """Refuses a configuration of transformers that names a repository to fetch kernels or code from (CVE-2026-4372).

    Raises:
        UnsafeCheckpointError: it names the key.
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            check_transformers(value, where)
        private = str(key).startswith("_") and key not in ("_name_or_path", "_commit_hash")
        if isinstance(value, str) and (private or "implementation" in str(key)) and re.search(r"[/:]", value):
            raise UnsafeCheckpointError(
                f"{where} has {key} = {value!r}, which would fetch code from elsewhere; remove the key if you trust the rest"
            )


def check_open_clip(model_cfg: Mapping[str, Any]) -> None:
    """Refuses an open_clip model_cfg that reaches for code or weights outside the checkpoint.

    Raises:
        UnsafeCheckpointError: it names the key.
    """
    vision, text = model_cfg.get("vision_cfg") or {}, model_cfg.get("text_cfg") or {}
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


def check_timm(arch: Any, args: Mapping[str, Any]) -> None:
    """Refuses a timm architecture or argument that would load weights or configuration from elsewhere.

    Raises:
        UnsafeCheckpointError: it names the value.
    """
    if not isinstance(arch, str) or not _PLAIN.fullmatch(arch):
        raise UnsafeCheckpointError(f"{arch!r} is no plain timm architecture; a checkpoint may not name another place")
    if bad := sorted(key for key in args if key in _TIMM_FACTORY or key.startswith("pretrained")):
        raise UnsafeCheckpointError(f"the timm arguments {bad} would load other weights; remove them")
