"""peft's layers inside any module: put in, filled without a tensor too few or too many, taken out or merged."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zoo.errors import ZooError

from .files import AdapterMismatchError

NAME = "default"  # what peft calls the one adapter of a model


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
