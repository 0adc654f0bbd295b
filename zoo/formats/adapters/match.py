"""Which tensor of an adapter belongs beside which layer of a model: everything has its place, or nothing is touched."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from zoo.errors import AdapterMismatchError

from .files import CONFIG, NAME, Settings, map_names

_PART = re.compile(
    r"(?P<layer>.+)\.(?P<part>lora_(?:embedding_)?[AB]|lora_magnitude_vector)"
    r"(?:\.(?!(?:weight|bias)$)(?P<task>[^.]+))?(?P<what>\.weight|\.bias)?"
)
# Where peft puts a module that is trained whole, and a layer with an adapter beside it.
_WRAPPERS = re.compile(rf"\.(?:modules_to_save(?:\.{NAME})?|base_layer)(?=\.)")


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Layer(NamedTuple):
    """An adapted layer: its name in the model, and peft's tensors beside it (lora_A.weight, lora_magnitude_vector, ...).

    B·A is multiplied by `scale`, which comes of rank and alpha.
    """

    name: str
    rank: int
    alpha: float
    scale: float
    tensors: dict[str, Tensor]


class Placed(NamedTuple):
    """An adapter that fits: tensors beside layers, and tensors that replace whole parameters of the model."""

    layers: list[Layer]
    full: dict[str, Tensor]


def place(
    root: nn.Module,
    tensors: Mapping[str, Tensor],
    settings: Settings,
    where: Path,
    *,
    key_mapping: Mapping[str, str],
    adapter: str | None = None,
    unused: str | None = None,
) -> Placed:
    """Finds the place of every tensor below `root`, which stays as it is; arguments as of `merge_adapter`.

    Raises:
        AdapterMismatchError: it names the first tensors that are missing, left over or of another shape.
    """
    names = map_names(tensors, key_mapping, where)
    tensors = {old: tensor for old, tensor in tensors.items() if not (unused and re.match(unused, names[old]))}
    _check_adapter(tensors, adapter, where)
    beside, was, full = _sorted(tensors, names, adapter, where)
    wrong = _Misfits([], [], [])
    first = {id(module): name for name, module in root.named_modules()}
    layers: dict[int, Layer] = {}
    for name, parts in beside.items():
        module = _submodule(root, name)
        rank, alpha = settings.of(was[name])
        wrong.compare(f"{name}.", _expected(module, name, rank, settings, where), parts)
        own = first.get(id(module), name)
        key = id(getattr(module, "weight", name))  # of layers that share their weights, too
        if key in layers:
            raise AdapterMismatchError(f"{where} adapts one weight twice, as {name} and as {layers[key].name}")
        layers[key] = Layer(own, rank, alpha, settings.scale(rank, alpha), parts)
    own_tensors = named_tensors(root)
    for name, tensor in full.items():
        wrong.compare("", {name: tuple(own_tensors[name].shape)} if name in own_tensors else {}, {name: tensor})
    for module_name in settings.full:
        there = re.compile(rf"(.+\.)?{re.escape(module_name)}\.[^.]+")
        wrong.missing.extend(name for name, _ in root.named_parameters() if there.fullmatch(name) and name not in full)
        if not any(there.fullmatch(_WRAPPERS.sub("", name)) for name in (*names, *full)):
            wrong.missing.append(f"{module_name} (modules_to_save)")
    wrong.check(where)
    _check_selection(settings, was.values(), where)
    return Placed(list(layers.values()), full)


def _check_selection(settings: Settings, layers: Iterable[str], where: Path) -> None:
    """Raises AdapterMismatchError where tensors are beside layers that the adapter's own configuration leaves alone.

    Where it selects none of them, it speaks of a model with other names, and the tensors count.
    """
    against = {layer: settings.selection.against(layer) for layer in layers}
    if all(key == "target_modules" for key in against.values()):
        return
    if wrong := [(layer, key) for layer, key in against.items() if key]:
        layer, key = wrong[0]
        raise AdapterMismatchError(
            f"{where} adapts {layer}, which {key} of {where.with_name(CONFIG)} leaves alone: peft would not read its tensors. "
            f'Correct the one or the other; to take the tensors as they are: load_model(..., ignore=["{key}"])'
        )


def _sorted(
    tensors: Mapping[str, Tensor], names: Mapping[str, str], adapter: str | None, where: Path
) -> tuple[dict[str, dict[str, Tensor]], dict[str, str], dict[str, Tensor]]:
    """Tensors beside each layer, the layers' names before key_mapping, and tensors of whole parameters."""
    beside: dict[str, dict[str, Tensor]] = {}
    was: dict[str, str] = {}
    full: dict[str, Tensor] = {}
    for old, tensor in tensors.items():
        found, before = _PART.fullmatch(names[old]), _PART.fullmatch(old)
        if not found:
            target, key = full, _WRAPPERS.sub("", names[old])
        else:
            layer = _WRAPPERS.sub("", found["layer"] + ".")[:-1]
            target = beside.setdefault(layer, {})  # also where all is another task's: then it is missing
            was[layer] = before["layer"] if before else layer
            if found["task"] not in (adapter, NAME, None):
                continue
            # peft saves magnitudes without ".weight", its first versions with it
            key = found["part"] + ((found["what"] or "") if found["part"] in ("lora_A", "lora_B") else "")
        if key in target:
            raise AdapterMismatchError(f"{where} holds one tensor twice; {old} is the second")
        target[key] = tensor
    return beside, was, full


def named_tensors(root: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under all of their names."""
    return {**dict(root.named_parameters(remove_duplicate=False)), **dict(root.named_buffers(remove_duplicate=False))}


def _check_adapter(tensors: Mapping[str, Tensor], adapter: str | None, where: Path) -> None:
    have = {found["task"] for name in tensors if (found := _PART.fullmatch(name))} - {NAME, None}
    if adapter is None and have:
        raise AdapterMismatchError(
            f"{where} holds several adapters; choose one: adapter={min(have)!r} (of {sorted(have)})"
        )
    if adapter is not None and adapter not in have:
        what = f"the adapters {sorted(have)}" if have else "one adapter without a name; leave adapter= out"
        raise AdapterMismatchError(f"{where} has no adapter {adapter!r}, but {what}")


def _submodule(root: nn.Module, name: str) -> nn.Module | None:
    try:
        return root.get_submodule(name)
    except AttributeError:
        return None


def _expected(
    module: nn.Module | None, name: str, rank: int, settings: Settings, where: Path
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors beside a layer; none where there is no such layer."""
    if module is None:
        return {}
    magnitude: tuple[int, ...] = ()
    if isinstance(module, (nn.Linear, *CONVOLUTIONS)) and module.weight.is_floating_point():
        if reason := unfit(module):
            raise AdapterMismatchError(f"{where} adapts {name}, which is {reason}: its adapter has no sum with it")
        outs, ins, *kernel = module.weight.shape
        ones = (1,) * len(kernel)
        shapes = {"lora_A.weight": (rank, ins, *kernel), "lora_B.weight": (outs, rank, *ones)}
        magnitude = (1, outs, *ones) if kernel else ()
        if settings.bias:
            shapes["lora_B.bias"] = (outs,)
    elif isinstance(module, nn.Embedding) and module.weight.is_floating_point():
        rows, outs = module.weight.shape
        shapes = {"lora_embedding_A": (rank, rows), "lora_embedding_B": (outs, rank)}
    else:
        raise AdapterMismatchError(
            f"{where} adapts {name}, a {type(module).__name__}; the zoo adapts linear, embedding and convolution layers of "
            "floating-point numbers. Merge the adapter into its base model with peft, and load the sum"
        )
    if settings.bias and getattr(module, "bias", None) is None:
        raise AdapterMismatchError(f"{where} has biases (lora_bias), and {name} has none to add them to")
    return {**shapes, "lora_magnitude_vector": magnitude or (outs,)} if settings.dora else shapes


def unfit(layer: nn.Module, dora: bool = False) -> str:
    """Why peft's adapter does not fit a layer, "" where it does: what it would compute beside it is not what it adds to it."""
    if isinstance(layer, nn.MultiheadAttention):
        return "an attention layer of torch, which DoRA cannot adapt" if dora else ""
    if not isinstance(layer, CONVOLUTIONS):
        return ""
    if type(layer) not in CONVOLUTIONS and type(layer).__name__ != "Conv2dSame":  # timm's, which pads by itself
        return f"a {type(layer).__name__}, which computes otherwise than torch's convolutions"
    if layer.groups > 1:
        return f"a convolution in {layer.groups} groups, whose adapter cannot be merged"
    if any(step != 1 for step in layer.dilation) or layer.padding_mode != "zeros":
        return "a convolution that is dilated or does not pad with zeros, as peft's adapter would"
    return ""


class _Misfits(NamedTuple):
    """Names of tensors that are missing, have no place, or have another shape."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]

    def compare(self, prefix: str, expected: Mapping[str, tuple[int, ...]], have: Mapping[str, Tensor]) -> None:
        self.missing.extend(prefix + name for name in expected if name not in have)
        self.unexpected.extend(prefix + name for name in have if name not in expected)
        for name, shape in expected.items():
            if name in have and tuple(have[name].shape) != shape:
                self.shapes.append(f"{prefix}{name}: {tuple(have[name].shape)}, not {shape}")

    def check(self, where: Path) -> None:
        kinds = {"are missing": self.missing, "have no place in it": self.unexpected, "have another shape": self.shapes}
        if wrong := [
            f"{len(names)} tensors {what} ({', '.join(name[:120] for name in names[:3])})"
            for what, names in kinds.items()
            if names
        ]:
            raise AdapterMismatchError(
                f"{where} does not fit the model: {'; '.join(wrong)}. Where layers were only renamed, pass key_mapping; else "
                "load the base model that adapter_config.json names"
            )
