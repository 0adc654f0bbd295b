"""The files of an adapter, read as data of a stranger: what its configuration says, and its tensors."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.encoders.config_checks import check_numbers
from zoo.errors import AdapterMismatchError, MissingWeightsError, UnrecognisedCheckpointError
from zoo.formats import check_weights, read_object
from zoo.formats.known import peft as known
from zoo.formats.settings import NOTHING, Ignore, read
from zoo.formats.tensors import read_pickle, read_safetensors

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
NAME, PREFIX = "default", "base_model.model."  # what peft calls a model's one adapter, and the model inside its wrapper
MOST_RANK, MOST_PATTERNS = 8_192, 4_096  # peft's EVA and AdaLoRA write a pattern for each layer
# Expressions that take forever on a name: a repeated group, repeats in a row, something that may be left out.
_ENDLESS = re.compile(r"\)[*+{?]|[*+}?][*+{]|(?<!\()\?")
_LAYER = re.compile(r"[^.]*\.(\d+)\.")


@dataclass(frozen=True)
class Selection:
    """Which layers an adapter_config.json selects, by their names as they were when the adapter was made.

    Attributes:
        targets, excluded: ends of names, or one expression for whole names; None where anything may be meant.
        layers, patterns: numbers of blocks, and names of the lists that they are counted in.
    """

    targets: tuple[str, ...] | re.Pattern[str] | None = None
    excluded: tuple[str, ...] | re.Pattern[str] | None = None
    layers: tuple[int, ...] | None = None
    patterns: tuple[str, ...] = ()

    def against(self, layer: str) -> str:
        """The setting by which peft would leave a layer alone, "" where it adapts it."""
        if self.targets is not None and not _names(self.targets, layer):
            return "target_modules"
        if self.excluded is not None and _names(self.excluded, layer):
            return "exclude_modules"
        if self.layers is None or isinstance(self.targets, re.Pattern):
            return ""
        lists = [re.compile(rf"(?:^|\.){re.escape(name)}\.(\d+)\.") for name in self.patterns] or [_LAYER]
        number = next((int(found[1]) for pattern in lists if (found := pattern.search(layer))), None)
        return "" if number in self.layers else "layers_to_transform"


def _names(ends: tuple[str, ...] | re.Pattern[str], layer: str) -> bool:
    if isinstance(ends, re.Pattern):
        return ends.fullmatch(layer) is not None
    return any(layer == end or layer.endswith(f".{end}") for end in ends)


@dataclass(frozen=True)
class Settings:
    """What an adapter_config.json says of its matrices.

    Attributes:
        rank, alpha: of layers that no pattern names.
        ranks, alphas: expressions for layers' names, as they were when the adapter was made → rank, alpha.
        dora, rslora, bias: peft's use_dora, use_rslora and lora_bias.
        full: modules that were trained whole (modules_to_save).
        selection: which layers are adapted, as the file says; the tensors' names must not say otherwise.
    """

    rank: int
    alpha: float
    ranks: Mapping[re.Pattern[str], int] = field(default_factory=dict)
    alphas: Mapping[re.Pattern[str], float] = field(default_factory=dict)
    dora: bool = False
    rslora: bool = False
    bias: bool = False
    full: tuple[str, ...] = ()
    selection: Selection = Selection()

    def of(self, layer: str) -> tuple[int, float]:
        """Rank and alpha of a layer, by its name in the file; the first pattern that matches counts, as in peft."""
        values = []
        for patterns, default in ((self.ranks, self.rank), (self.alphas, self.alpha)):
            hit = next((value for pattern, value in patterns.items() if pattern.match(layer)), default)
            values.append(hit)
        return values[0], values[1]

    def scale(self, rank: int, alpha: float) -> float:
        """What B·A is multiplied by; rsLoRA (Kalajdzievski, 2023) divides by the root of the rank."""
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def read_settings(path: Path, ignore: Ignore = NOTHING) -> Settings:
    """The settings of an adapter_config.json; nothing that it names is fetched or run.

    Raises:
        UnrecognisedCheckpointError: it is no LoRA, or has sizes that no adapter has (OversizedError), or a setting that is not
            followed (UnreadSettingError).
    """
    config = read_object(path)
    if config.get("peft_type") != "LORA":
        raise UnrecognisedCheckpointError(
            f"{path} is an adapter of the kind {config.get('peft_type')!r}; the zoo reads LORA (with or without DoRA). Merge "
            "it into its base model with peft, and load the sum"
        )
    check_numbers(config, str(path))
    # A setting that is not set says nothing: peft writes all that it has, and every version has more of them.
    config = read({key: value for key, value in config.items() if value is not None}, known.ADAPTER, path, ignore)
    full = config.get("modules_to_save") or ()
    settings = Settings(
        rank=config.get("r", 8),
        alpha=config.get("lora_alpha", 8),
        ranks=_patterns(config, "rank_pattern", path),
        alphas=_patterns(config, "alpha_pattern", path),
        dora=config.get("use_dora") is True,
        rslora=config.get("use_rslora") is True,
        bias=config.get("lora_bias") is True,
        full=(full,) if isinstance(full, str) else tuple(full),
        selection=_selection({key: value for key, value in config.items() if key not in ignore}),
    )
    _check_values(settings, path)
    return settings


def _selection(config: Mapping[str, Any]) -> Selection:
    """What a file selects, as far as it can be compared: "all-linear" and long expressions may mean any layer."""

    def ends(key: str) -> tuple[str, ...] | re.Pattern[str] | None:
        value = config.get(key) or None
        if not isinstance(value, str):
            return tuple(map(str, value)) if isinstance(value, list) else None
        if value == "all-linear" or len(value) > 1_000 or _is_endless(value):
            return None
        try:
            return re.compile(value)
        except (re.error, RecursionError, OverflowError):
            return None

    numbers, patterns = config.get("layers_to_transform"), config.get("layers_pattern") or ()
    numbers = [numbers] if isinstance(numbers, int) else numbers or None
    return Selection(
        targets=ends("target_modules"),
        excluded=ends("exclude_modules"),
        layers=tuple(numbers) if isinstance(numbers, list) else None,
        patterns=(patterns,) if isinstance(patterns, str) else tuple(map(str, patterns)),
    )


def _check_values(settings: Settings, path: Path) -> None:
    if wrong := [name for name in settings.full if not isinstance(name, str) or not name]:
        raise UnrecognisedCheckpointError(f"{path}: modules_to_save holds {wrong[0]!r}, which is no name")
    for rank in (settings.rank, *settings.ranks.values()):
        if type(rank) is not int or not 1 <= rank <= MOST_RANK:
            raise UnrecognisedCheckpointError(
                f"{path} has the rank {rank!r}; adapters have ranks from 1 to {MOST_RANK:,}"
            )
    for alpha in (settings.alpha, *settings.alphas.values()):
        if type(alpha) not in (int, float) or not math.isfinite(alpha):
            raise UnrecognisedCheckpointError(f"{path} has the alpha {alpha!r}, which is no number")


def _patterns(config: Mapping[str, Any], key: str, path: Path) -> dict[re.Pattern[str], Any]:
    """peft's patterns, each of which must match the end of a layer's name, as expressions that do so."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict) or len(patterns) > MOST_PATTERNS:
        raise UnrecognisedCheckpointError(f"{path}: {key} must be an object of at most {MOST_PATTERNS:,} layers")
    compiled = {}
    for pattern, value in patterns.items():
        if len(pattern) > 10_000 or _is_endless(pattern):
            raise UnrecognisedCheckpointError(f"{path}: {key} has {pattern[:60]!r}, which takes too long to compare")
        try:
            compiled[re.compile(rf"(.*\.)?({pattern})$")] = value
        except (re.error, RecursionError, OverflowError) as error:
            raise UnrecognisedCheckpointError(
                f"{path}: {pattern[:60]!r} is no expression for layers: {error}"
            ) from error
    return compiled


def _is_endless(pattern: str) -> bool:
    """Whether an expression may go back too often: each repeat tries every length, each group all of its alternatives."""
    repeats, choices = sum(map(pattern.count, "*+{")), pattern.count("|")
    most = 2 if choices else 3
    return bool(_ENDLESS.search(pattern)) or repeats > most or pattern.count("(") > 2 or choices > 64


def read_tensors(folder: Path, allow_pickle: bool = False) -> tuple[dict[str, Tensor], Path]:
    """Tensors of an adapter by their names without "base_model.model.", and the file that they are from.

    Raises:
        MissingWeightsError: no file, or a damaged or empty one; AdapterMismatchError for numbers that are not finite.
        UnsafeCheckpointError: a pickle that was not allowed, or that holds more than tensors.
    """
    files = [name for name in (WEIGHTS, PICKLE) if (folder / name).is_file()][:1]
    check_weights(files, str(folder), WEIGHTS, allow_pickle)
    path = folder / files[0]
    tensors = read_safetensors(path) if files[0] == WEIGHTS else read_pickle(path)
    if not tensors:
        raise MissingWeightsError(f"{path} holds no tensors; fetch it again")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise AdapterMismatchError(f"{path}: {name} holds NaN, infinity or whole numbers; fetch it again")
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}, path


def map_names(names: Mapping[str, Any], key_mapping: Mapping[str, str], where: Path) -> dict[str, str]:
    """Each name and what the expressions of `key_mapping` make of it, one after the other.

    Raises:
        AdapterMismatchError: two names become one.
    """
    new: dict[str, str] = {}
    for name in names:
        new[name] = name
        for pattern, replacement in key_mapping.items():
            new[name] = re.sub(pattern, replacement, new[name])
    back = {mapped: name for name, mapped in new.items()}
    if twice := [name for name, mapped in new.items() if back[mapped] != name]:
        mapped = new[twice[0]]
        raise AdapterMismatchError(f"{where}: key_mapping makes {mapped} of both {twice[0]} and {back[mapped]}")
    return new
