"""Adapters in peft's format (LoRA, Hu et al., 2021; DoRA, Liu et al., 2024), held to the model and merged into its weights."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError

from .files import CONFIG, PREFIX, WEIGHTS, AdapterMismatchError, Settings, map_names, read_settings, read_tensors
from .layers import NAME, exact, fill, import_peft, inject, unload
from .placing import Layer, named_tensors, place

if TYPE_CHECKING:
    from peft import LoraConfig

__all__ = [
    "CONFIG",
    "NAME",
    "PREFIX",
    "WEIGHTS",
    "AdapterMismatchError",
    "exact",
    "fill",
    "inject",
    "map_names",
    "merge_adapter",
    "read_settings",
    "read_tensors",
    "unload",
]


def merge_adapter(
    root: nn.Module,
    folder: Path,
    *,
    key_mapping: Mapping[str, str],
    allow_pickle: bool = False,
    adapter: str | None = None,
    unused: str | None = None,
) -> None:
    """Adds a saved LoRA or DoRA to the weights of `root`, in place: layers and parameters stay the same objects.

    Which layers are adapted is said by the names of the tensors, not by the configuration's target_modules, which may be
    older than the model's names. The outputs equal those of peft's unmerged model to about 1e-6 in float32.

    Args:
        root: the module that the adapter was made for, or any with the adapted layers under the same names.
        folder: has adapter_config.json, and adapter_model.safetensors or, with `allow_pickle`, adapter_model.bin.
        key_mapping: regular expressions and what replaces them in the names of tensors, one after the other, once
            "base_model.model." is taken off: `{r"^model\\.layers": "model.language_model.layers"}` (Qwen2-VL before
            transformers 5).
        adapter: which one of several in a file whose names are like `lora_A.retrieval.weight` (jina-embeddings-v4).
        unused: a regular expression; tensors whose mapped names begin with it are left out, such as those of a head that
            `root` is built without.

    Raises:
        AdapterMismatchError: a tensor is missing, left over, of another shape or not finite, or would make a weight so.
        UnrecognisedCheckpointError: another kind of adapter than LoRA and DoRA, or sizes that no adapter has.
        UnsafeCheckpointError: a pickle that was not allowed, or that holds more than tensors.
        MissingWeightsError: a file is missing, damaged or cut off.
        Whichever it is, `root` is as it was.
    """
    settings = read_settings(folder / CONFIG)
    tensors, where = read_tensors(folder, allow_pickle)
    layers, full = place(root, tensors, settings, where, key_mapping=key_mapping, adapter=adapter, unused=unused)
    import_peft()
    own = named_tensors(root)
    before = {name: own[name].detach().clone() for name in full}
    learns = [(parameter, parameter.requires_grad) for parameter in root.parameters()]
    fits = False
    try:
        for name, tensor in full.items():
            own[name].data.copy_(tensor)
        if layers:
            inject(root, _config(layers, settings))
            fill(root, {f"{layer.name}.{part}": t for layer in layers for part, t in layer.tensors.items()}, where)
            _check_sums(root, where)
        fits = True
    except (ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, ZooError):
            raise
        raise AdapterMismatchError(f"{where} does not fit the model: {error}") from error
    finally:
        unload(root, merge=fits)
        for name, tensor in before.items() if not fits else ():
            own[name].data.copy_(tensor)
        for parameter, learned in learns:
            parameter.requires_grad_(learned)


def _config(layers: list[Layer], settings: Settings) -> "LoraConfig":
    """peft's configuration for these layers and no others, whatever the adapter's own says of their names."""
    peft = import_peft()

    def whole(name: str) -> str:
        return f"^{re.escape(name)}"  # peft puts "(.*\.)?" before it and "$" behind

    return peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules="|".join(re.escape(layer.name) for layer in layers),
        rank_pattern={whole(layer.name): layer.rank for layer in layers if layer.rank != settings.rank},
        alpha_pattern={whole(layer.name): layer.alpha for layer in layers if layer.alpha != settings.alpha},
        use_dora=settings.dora,
        use_rslora=settings.rslora,
        lora_bias=settings.bias,
        inference_mode=True,
    )


@torch.no_grad()
def _check_sums(root: nn.Module, where: Path) -> None:
    """Raises AdapterMismatchError where a weight would overflow, or DoRA divide by a row of zeros, before any is changed."""
    from peft.tuners.lora import LoraLayer

    for name, layer in root.named_modules():
        if isinstance(layer, LoraLayer) and not torch.isfinite(_sum(layer)).all():
            raise AdapterMismatchError(
                f"{where}: the sum of {name} and its adapter is not finite; one of them is damaged"
            )


def _sum(layer: Any) -> Tensor:
    weight = layer.get_base_layer().weight.data
    if variant := layer.lora_variant.get(NAME):  # DoRA
        return variant.merge_safe(layer, NAME, weight)
    return weight + layer.get_delta_weight(NAME).to(weight.dtype)
