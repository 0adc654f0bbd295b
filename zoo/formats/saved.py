"""Our own layout: config.json with `"model_type": "zoo"`, model.safetensors and the tokenizer's files."""

import importlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats import TOKENIZER_FILES, read_json
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.embedder import Embedder

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_TYPE = "zoo"
# What lets transformers find its classes in the installed zoo (see zoo.exports.code); other code is never named.
AUTO_MAP = {
    "AutoConfig": "configuration_zoo.ZooConfig",
    "AutoModel": "modeling_zoo.ZooModel",
    "AutoProcessor": "modeling_zoo.ZooProcessor",
}
FOR_TRANSFORMERS = {"architectures": ["ZooModel"], "auto_map": AUTO_MAP}
KEYS = {"model_type", "format", "spec", "towers", "recipe", *FOR_TRANSFORMERS}
_KIND = re.compile(r"(encoders\.[a-z0-9_]+|pooling|heads):[A-Z][A-Za-z0-9]*")
ORDER = 0
LOOKED_FOR = 'the zoo\'s own: config.json with "model_type": "zoo", and model.safetensors'


def recognises(names: set[str], read: Callable[[str], Any]) -> bool:
    """Whether these files are a folder of `save_pretrained`."""
    if CONFIG not in names:
        return False
    config = read(CONFIG)
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


def wanted(names: set[str]) -> list[str]:
    """Configuration, weights and tokenizer."""
    known = {CONFIG, WEIGHTS, *TOKENIZER_FILES}
    return sorted(n for n in names if n in known or (n.startswith("tower") and Path(n).name in TOKENIZER_FILES))


def load(folder: Path, *, name: str, trust_remote_code: bool, allow_pickle: bool) -> "Embedder":
    """The model saved there; the configuration names only parts of the zoo."""
    return load_saved(folder)


def save_pretrained(model: "Embedder", folder: Path, dtype: "torch.dtype | None" = None) -> Path:
    """Writes config.json, model.safetensors and the tokenizer's files; `load_model(folder)` reads them.

    Args:
        dtype: floating-point type of the stored weights, e.g. torch.float16; by default as they are.
    """
    from safetensors.torch import save_file

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        towers = []
        for position, tower in enumerate(model.towers):
            assets = temporary / f"tower{position}"
            assets.mkdir()
            tower.encoder.save_assets(assets)
            files = sorted(assets.iterdir())
            entry = {part: _describe(getattr(tower, part)) for part in ("encoder", "pooler", "head")}
            if files and not any((temporary / file.name).exists() for file in files):
                # The first tokenizer lies in the root, where other libraries look for it.
                for file in files:
                    file.rename(temporary / file.name)
                entry["assets"] = "."
            elif files:
                entry["assets"] = assets.name
            if not any(assets.iterdir()):
                assets.rmdir()
            towers.append(entry)
        weights, seen = {}, {}
        for name, tensor in model.state_dict().items():
            if tensor.data_ptr() in seen and tensor.numel() and tensor.shape == seen[tensor.data_ptr()]:
                tensor = tensor.clone()  # tied weights are stored twice: simple, and every loader reads it
            seen[tensor.data_ptr()] = tensor.shape
            weights[name] = (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).contiguous().cpu()
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        config = {"model_type": MODEL_TYPE, "format": 1, "spec": model.spec.to_dict(), "towers": towers}
        (temporary / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _move_into(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _move_into(temporary: Path, folder: Path) -> None:
    """Each file whole or not at all, config.json last: without it the folder is no checkpoint."""
    os.chmod(temporary, 0o755)
    for path in sorted(temporary.rglob("*"), key=lambda p: p.name == CONFIG):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            target = folder / path.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.chmod(path, 0o644)  # safetensors writes for its owner only
            os.replace(path, target)


def _describe(part: "nn.Module") -> dict[str, Any]:
    kind = f"{type(part).__module__.removeprefix('zoo.')}:{type(part).__name__}"
    if not _KIND.fullmatch(kind):
        raise TypeError(f"{kind} cannot be saved: parts of a model live in zoo.encoders, zoo.pooling or zoo.heads")
    return {"kind": kind, **(part.config() if hasattr(part, "config") else {})}


def _rebuild(entry: dict[str, Any], where: Path, **extra: Any) -> "nn.Module":
    """A part from its description. Only classes of the zoo's own rooms: a configuration cannot name other code."""
    arguments = dict(entry)
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise UnrecognisedCheckpointError(f"{where} names the part {kind!r}, which is none of the zoo's")
    module_name, _, class_name = kind.partition(":")
    try:
        module = importlib.import_module(f"zoo.{module_name}")
        cls = getattr(module, class_name)
        if cls.__module__ != module.__name__:
            raise AttributeError(class_name)
        return cls(**arguments, **extra)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: cannot build {kind}: {error}; is the zoo new enough?") from error


def load_saved(folder: Path) -> "Embedder":
    """A folder of `save_pretrained`.

    Raises:
        UnrecognisedCheckpointError: config.json does not describe a model of the zoo.
        MissingWeightsError: weights are missing, damaged, or of another shape.
    """
    from zoo.embedder import Embedder, Tower

    config = read_json(folder / CONFIG)
    if unknown := set(config) - KEYS:
        raise UnrecognisedCheckpointError(f"{folder / CONFIG} has unknown keys {sorted(unknown)}")
    if foreign := sorted(key for key, value in FOR_TRANSFORMERS.items() if config.get(key, value) != value):
        raise UnsafeCheckpointError(f"{folder / CONFIG}: {', '.join(foreign)} names code that is not the zoo's")
    if config.get("format") != 1 or not isinstance(config.get("towers"), list):
        raise UnrecognisedCheckpointError(f"{folder / CONFIG} has format {config.get('format')!r}; this zoo reads 1")
    try:
        spec = ModelSpec.from_dict(config["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{folder / CONFIG}: bad spec: {error}") from error
    parts = ("encoder", "pooler", "head")
    towers = []
    for entry in config["towers"]:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(part), dict) for part in parts):
            raise UnrecognisedCheckpointError(f"{folder / CONFIG}: each of its towers must have {', '.join(parts)}")
        assets = entry.get("assets")
        if assets is not None and (
            not isinstance(assets, str) or (assets != "." and not re.fullmatch(r"tower\d", assets))
        ):
            raise UnsafeCheckpointError(f"{folder / CONFIG}: assets {assets!r} lie outside the checkpoint")
        extra = {} if assets is None else {"assets": folder / assets}
        encoder = _rebuild(entry["encoder"], folder / CONFIG, **extra)
        towers.append(Tower(encoder, *(_rebuild(entry[part], folder / CONFIG) for part in ("pooler", "head"))))
    model = Embedder(spec, towers)
    load_weights(model, folder / WEIGHTS)
    return model


def load_weights(model: "nn.Module", path: Path) -> None:
    """All tensors of a safetensors file into a model whose every tensor must be there, with its shape."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingWeightsError(f"{path} does not exist; a model is never loaded with random weights")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise MissingWeightsError(f"{path} is damaged or cut off: {error}") from error
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise MissingWeightsError(f"{path} does not fit: {str(error).splitlines()[1].strip()}") from error
    if missing or unexpected:
        raise MissingWeightsError(
            f"{path} lacks {len(missing)} tensors {missing[:3]} and has {len(unexpected)} unknown {unexpected[:3]}"
        )
