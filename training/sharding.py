"""FSDP2: each process keeps a part of every weight, its gradient and its moments; forward passes gather block by block."""

import copy
import os

import torch
from torch import nn

from .errors import ProcessesError
from .gather import world


def wanted() -> bool:
    """Whether the launcher's configuration asks for FSDP (`training/launch/fsdp2.yaml`)."""
    return world()[1] > 1 and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def shard(module: nn.Module) -> nn.Module:
    """Shards a module's weights in place: every block of a list of blocks by itself, and the rest together.

    Raises:
        ProcessesError: a launcher that asks for the first version of FSDP.
    """
    if os.environ.get("FSDP_VERSION", "2") == "1":
        raise ProcessesError("the trainer shards with FSDP2; set fsdp_version: 2 in the launcher's configuration")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(module.parameters()).device.type
    mesh = init_device_mesh(device, (world()[1],))
    reshard = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() == "true"
    lists = [m for name, m in module.named_modules() if isinstance(m, nn.ModuleList) and not name.endswith("towers")]
    for block in {id(block): block for blocks in lists for block in blocks}.values():
        if any(True for _ in block.parameters()):
            fully_shard(block, mesh=mesh, reshard_after_forward=reshard)
    return fully_shard(module, mesh=mesh, reshard_after_forward=reshard)


def reshard(module: nn.Module) -> None:
    """Drops the whole weights that forward passes without a backward leave behind: what is written next is read again."""
    from torch.distributed.fsdp import FSDPModule

    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def without_weights(module: nn.Module) -> nn.Module:
    """A copy of a module whose parameters are shapes only: what whole weights are put into when the run is over."""
    shapes = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in module.parameters()
    }
    return copy.deepcopy(module, shapes)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded tensor whole, on every process; anything else as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def like(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A whole tensor sharded as `target` is, or on its device and in its order in memory where that is whole."""
    value = value.to(target.device)
    if not hasattr(target, "full_tensor"):
        # Fused optimisers read weights and moments side by side: both channels last, or neither.
        return torch.empty_like(target, dtype=value.dtype).copy_(value)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, target.device_mesh, target.placements)
