"""peft's layers beside those of any module, to train them on: put in, filled without a tensor too few, taken out, merged."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zoo.errors import AdapterMismatchError, ZooError

from .files import CONFIG, Settings, read_settings, read_tensors
from .match import Layer, named_tensors, place

if TYPE_CHECKING:
    from peft import LoraConfig


def add_adapter(
    root: nn.Module,
    folder: Path,
    *,
    key_mapping: Mapping[str, str],
    allow_pickle: bool = False,
    adapter: str | None = None,
    unused: str | None = None,
) -> None:
    """Puts a saved LoRA or DoRA beside the layers of `root` through peft; it learns, and all other weights are frozen.

    What was trained whole (modules_to_save) replaces the weights of `root`, and learns. `unload(root, merge=True)` adds the
    adapter to the weights. Arguments and errors are those of `merge_adapter`.

    Raises:
        ZooError: peft is not installed.
    """
    import_peft()
    settings = read_settings(folder / CONFIG)
    tensors, where = read_tensors(folder, allow_pickle)
    layers, full = place(root, tensors, settings, where, key_mapping=key_mapping, adapter=adapter, unused=unused)
    own = named_tensors(root)
    before = {name: own[name].detach().clone() for name in full}
    learned = [(parameter, parameter.requires_grad) for parameter in root.parameters()]
    root.requires_grad_(False)
    try:
        for name, tensor in full.items():
            own[name].data.copy_(tensor)
            own[name].requires_grad_(isinstance(own[name], nn.Parameter))
        if layers:
            inject(root, _config(layers, settings))
            fill(root, {f"{layer.name}.{part}": t for layer in layers for part, t in layer.tensors.items()}, where)
            for name in full:  # peft has frozen them
                own[name].requires_grad_(isinstance(own[name], nn.Parameter))
    except BaseException as error:
        unload(root, merge=False)
        for name, tensor in before.items():
            own[name].data.copy_(tensor)
        for parameter, learns in learned:
            parameter.requires_grad_(learns)
        if isinstance(error, ValueError | RuntimeError | KeyError) and not isinstance(error, ZooError):
            raise AdapterMismatchError(f"{where} does not fit the model: {error}") from error
        raise


def _config(layers: list[Layer], settings: Settings) -> "LoraConfig":
    """peft's configuration for these layers and no others, whatever the adapter's own says of their names."""
    peft = import_peft()

    def whole(name: str) -> str:
        return f"^{re.escape(name)}"  # peft puts "(.*\\.)?" before it and "$" after

    return peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules="|".join(re.escape(layer.name) for layer in layers),
        rank_pattern={whole(layer.name): layer.rank for layer in layers if layer.rank != settings.rank},
        alpha_pattern={whole(layer.name): layer.alpha for layer in layers if layer.alpha != settings.alpha},
        use_dora=settings.dora,
        use_rslora=settings.rslora,
        lora_bias=settings.bias,
    )


def inject(root: nn.Module, config: Any) -> None:
    """Puts peft's layers (of a LoraConfig) beside those that it names; all of `root`'s own weights are frozen.

    Adapters are float32 beside half-precision weights.

    Raises:
        ZooError: peft is not installed. ValueError, as peft raises it: no layer has such a name, or it cannot be adapted.
    """
    peft = import_peft()

    from .lora_attention import LoraAttention

    config._register_custom_module({nn.MultiheadAttention: LoraAttention})
    peft.inject_adapter_in_model(config, root)
    for name, parameter in root.named_parameters():
        if "lora_" in name and parameter.itemsize < 4:
            parameter.data = parameter.data.float()
    for layer in root.modules():
        if isinstance(layer, LoraAttention):
            for adapter in (layer.get_base_layer().out_proj.lora_A, layer.get_base_layer().out_proj.lora_B):
                adapter.requires_grad_(False)


def fill(root: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Fills injected layers with saved tensors, by peft's names below `root` ("layers.0.q_proj.lora_A.weight").

    Raises:
        AdapterMismatchError: one is missing or left over (peft itself only warns, and goes on with an adapter that does
            nothing). RuntimeError, as torch raises it: one has another shape.
    """
    peft = import_peft()

    result = peft.set_peft_model_state_dict(root, dict(tensors))
    missing = [name for name in result.missing_keys if "lora_" in name]
    kinds = {"are missing": missing, "have no place": list(result.unexpected_keys)}
    if wrong := [f"{len(names)} tensors {what}, such as {names[0]}" for what, names in kinds.items() if names]:
        raise AdapterMismatchError(
            f"{where} does not fit the backbone: {'; '.join(wrong)}. Where layers were only renamed, pass key_mapping"
        )
    for name, tensor in tensors.items():
        if name.endswith(".out_proj.lora_B.weight") and ".base_layer." in name and tensor.any():
            raise AdapterMismatchError(
                f"{where}: {name} adapts the output of torch's attention, which peft counts twice; merge it there"
            )


def unload(root: nn.Module, merge: bool) -> None:
    """Takes peft's layers out again, the adapters added to the weights or thrown away; the layers are those from before.

    As peft's merge_and_unload, which needs peft's wrapper around the model.
    """
    from peft.tuners.lora import LoraLayer

    layers: dict[str, nn.Module] = {}
    for name, module in root.named_modules():
        if isinstance(module, LoraLayer) and not any(name.startswith(f"{outer}.") for outer in layers):
            layers[name] = module
    for name, layer in layers.items():
        if hasattr(layer, "unload_and_optionally_merge_module"):
            plain = layer.unload_and_optionally_merge_module(merge=merge, safe_merge=True, adapter_names=None)
        else:
            if merge:
                layer.merge(safe_merge=True)
            plain = layer.get_base_layer()
        parent, _, last = name.rpartition(".")
        setattr(root.get_submodule(parent), last, plain)
    if hasattr(root, "peft_config"):
        del root.peft_config


def exact(root: nn.Module, names: list[str]) -> list[str] | str:
    """Names as peft reads them: it takes a name for the end of others too, unless they are one expression."""
    chosen = set(names)
    ends = {name[i + 1 :] for name, _ in root.named_modules() if name not in chosen for i in _dots(name)}
    if chosen & ends:
        return "|".join(re.escape(name) for name in names)
    return names


def _dots(name: str) -> list[int]:
    return [i for i, letter in enumerate(name) if letter == "."]


def import_peft() -> Any:
    """The library peft, or a ZooError that says how to get it."""
    try:
        import peft
    except ImportError as error:
        raise ZooError(f'adapters need {error.name}: pip install "embedding-zoo[train]"') from error
    return peft
