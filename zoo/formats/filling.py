"""Tensors of a checkpoint into the places of a backbone that is built without them, where transformers' own loading does not know them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import MissingWeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

_WHOLE, _PARTS = ".Wqkv.", (".q_proj.", ".k_proj.", ".v_proj.")


def renamed(
    tensors: "Mapping[str, Tensor]", names: Mapping[str, str], unread: Iterable[str] = ()
) -> "dict[str, Tensor]":
    """Tensors by our names; of queries, keys and values in one matrix ("Wqkv") each apart.

    Args:
        names: expressions of their names → what stands in their place, one after the other. unread: beginnings of our names of what
            nothing reads.
    """
    found: dict[str, Tensor] = {}
    for old, tensor in tensors.items():
        name = old
        for pattern, ours in names.items():
            name = re.sub(pattern, ours, name)
        if name.startswith(tuple(unread)) or name.endswith("inv_freq"):
            continue
        if _WHOLE not in name:
            found[name] = tensor
            continue
        # An adapter's A is of all three, its B (adapters, 3 · out, rank) has a part for each.
        axis = 1 if name.endswith(".lora_B") else 0
        shared = name.endswith(".lora_A") or tensor.ndim <= axis
        thirds = [tensor] * 3 if shared else tensor.chunk(3, axis)
        found |= {name.replace(_WHOLE, part): third for part, third in zip(_PARTS, thirds, strict=False)}
    return found


def fill(backbone: "nn.Module", found: "Mapping[str, Tensor]", folder: Path) -> None:
    """Makes these tensors the weights of a backbone, which has none.

    Raises:
        MissingWeightsError: one is missing, left over, or of another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()}
    there = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if wrong := sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name)):
        first = wrong[0]
        raise MissingWeightsError(
            f"{folder}: {len(wrong)} tensors are not as config.json says; {first[:80]} should have the shape {wanted.get(first)} and "
            f"has {there.get(first)}: fetch the files again"
        )
    backbone.load_state_dict(dict(found), strict=True, assign=True)
    backbone.requires_grad_(True)
