"""The sum of a model's weights and an adapter, by the formulas of the papers: no library, no second copy of the model."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import AdapterMismatchError
from zoo.formats.settings import NOTHING, Ignore

from .files import CONFIG, read_settings, read_tensors
from .match import Layer, named_tensors, place


@torch.no_grad()
def merge_adapter(
    root: nn.Module,
    folder: Path,
    *,
    key_mapping: Mapping[str, str],
    allow_pickle: bool = False,
    adapter: str | None = None,
    unused: str | None = None,
    ignore: Ignore = NOTHING,
) -> None:
    """Adds a saved LoRA or DoRA to the weights of `root`, in place: layers and parameters stay the same objects.

    Which layers are adapted is said by the names of the tensors; the configuration's target_modules may be of other names
    than the model's, but not of fewer layers. The outputs equal those of peft's unmerged model to about 1e-6 in float32; half-precision
    weights are summed in float32 and rounded once.

    Args:
        root: the module that the adapter was made for, or any with the adapted layers under the same names.
        folder: has adapter_config.json, and adapter_model.safetensors or, with `allow_pickle`, adapter_model.bin.
        key_mapping: regular expressions and what replaces them in the names of tensors, one after the other, once
            "base_model.model." is taken off: `{r"^model\\.layers": "model.language_model.layers"}` (Qwen2-VL before
            transformers 5).
        adapter: which one of several in a file whose names are like `lora_A.retrieval.weight` (jina-embeddings-v4).
        unused: a regular expression; tensors whose mapped names begin with it are left out, such as those of a head that
            `root` is built without.
        ignore: settings of adapter_config.json that are read as if they were not there.

    Raises:
        AdapterMismatchError: a tensor is missing, left over, of another shape or not finite, or would make a weight so.
        UnrecognisedCheckpointError: another kind of adapter than LoRA and DoRA, or sizes that no adapter has.
        UnsafeCheckpointError: a pickle that was not allowed, or that holds more than tensors.
        MissingWeightsError: a file is missing, damaged or cut off.
        Whichever it is, `root` is as it was.
    """
    settings = read_settings(folder / CONFIG, ignore)
    tensors, where = read_tensors(folder, allow_pickle)
    layers, full = place(root, tensors, settings, where, key_mapping=key_mapping, adapter=adapter, unused=unused)
    own = named_tensors(root)
    bases = {layer.name: full.get(f"{layer.name}.weight", own[f"{layer.name}.weight"]) for layer in layers}
    room = _room([own[f"{layer.name}.weight"] for layer in layers])
    for layer in layers:  # all sums before any is kept: that costs less than a copy of the model to go back to
        weight = own[f"{layer.name}.weight"]
        low, high = _sum(bases[layer.name].to(weight.device), layer, room).aminmax()
        if not max(-low, high) <= torch.finfo(weight.dtype).max:  # nor is NaN
            raise AdapterMismatchError(
                f"{where}: the sum of {layer.name} and its adapter is not finite; one of them is damaged"
            )
    for name, tensor in full.items():
        own[name].copy_(tensor)
    for layer in layers:
        weight = own[f"{layer.name}.weight"]
        weight.copy_(_sum(weight, layer, room))
        if "lora_B.bias" in layer.tensors:
            own[f"{layer.name}.bias"].add_(layer.tensors["lora_B.bias"].to(weight), alpha=layer.scale)


def _room(weights: list[Tensor]) -> dict[torch.device, Tensor]:
    """Memory for one sum on each device, used again for all: a new block for each takes ten times as long as the sum."""
    sizes: dict[torch.device, int] = {}
    for weight in weights:
        sizes[weight.device] = max(sizes.get(weight.device, 0), weight.numel())
    dtype = torch.float64 if any(weight.dtype == torch.float64 for weight in weights) else torch.float32
    return {device: torch.empty(size, dtype=dtype, device=device) for device, size in sizes.items()}


def _sum(weight: Tensor, layer: Layer, room: Mapping[torch.device, Tensor]) -> Tensor:
    """The adapted weight: W + s·BA (LoRA, eq. 3); with magnitudes m·(W + s·BA) / ‖W + s·BA‖ (DoRA, eq. 5). Lies in `room`."""
    total = room[weight.device][: weight.numel()].view(weight.shape).copy_(weight)
    beside = {name: tensor.to(total) for name, tensor in layer.tensors.items()}
    whole = total
    if "lora_A.weight" in beside:  # (out, in), of a convolution (out, in · kernel): a vector an output
        axis, left, right = 1, beside["lora_B.weight"].flatten(1), beside["lora_A.weight"].flatten(1)
        total = total.view(len(total), -1)
    else:  # (rows, out): peft's BA is turned for embeddings, and has a magnitude for each column
        axis, left, right = 0, beside["lora_embedding_A"].T, beside["lora_embedding_B"].T
    total.addmm_(left, right, alpha=layer.scale)
    if "lora_magnitude_vector" in beside:
        norms = torch.linalg.vector_norm(total, dim=axis)
        total *= (beside["lora_magnitude_vector"].flatten() / norms).unsqueeze(axis)
    return whole
