"""Batch norms folded into the convolutions before them: the same network for inference, in two thirds of the time on a CPU."""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

_KNOWN = ("torch.", "timm.", "zoo.encoders.efficientnet")
_CLOSE = 1e-3  # of the largest state: beyond it the order of a network's modules is not that of its computation


class Folding:
    """A backbone's folded copy, made when it is first wanted, and anew when its weights have changed since."""

    def __init__(self) -> None:
        self._copy: nn.Module | None = None
        self._key: tuple[tuple[int, ...], Tensor] | None = None

    def of(self, backbone: nn.Module, pixels: Tensor) -> nn.Module:
        """What to compute with: the folded copy, or the backbone itself where that gives other states, where a part of it is being
        trained or watched, or is an adapter's.

        Args:
            pixels: `(B, 3, H, W)`, the first of which is tried on a new copy.
        """
        modules = _all(backbone)
        if not all(map(_plain, modules)):
            return backbone
        key = _key(modules)
        if self._key is None or key[0] != self._key[0] or not torch.equal(key[1], self._key[1]):
            self._copy, self._key = _tried(backbone, pixels[:1]), key
        return backbone if self._copy is None else self._copy


def _plain(module: nn.Module) -> bool:
    """Whether it computes what its class says in evaluation, and the class is torch's, timm's or ours of a timm architecture."""
    watched = module._forward_hooks or module._forward_pre_hooks
    return not (module.training or watched) and type(module).__module__.startswith(_KNOWN)


def _all(backbone: nn.Module) -> list[nn.Module]:
    """A module and all in it; `modules()` takes several times as long, and this is asked before every pass."""
    found = [backbone]
    for module in found:  # which grows meanwhile
        found += [one for one in module._modules.values() if one is not None]
    return found


@torch.no_grad()
def _key(modules: list[nn.Module]) -> tuple[tuple[int, ...], Tensor]:
    """Tells weights that have been changed in place, and others in their place; by their norms too, since what is written through
    `weight.data` is counted nowhere.
    """
    held = (tensor for module in modules for tensor in (*module._parameters.values(), *module._buffers.values()))
    tensors = [tensor for tensor in held if tensor is not None and tensor.is_floating_point()]
    marks = tuple(number for tensor in tensors for number in (id(tensor), tensor.data_ptr(), version_of(tensor)))
    return marks, torch.stack(torch._foreach_norm(tensors))


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written into; 0 of those of inference mode, which do not count."""
    return 0 if tensor.is_inference() else tensor._version


def _tried(backbone: nn.Module, pixels: Tensor) -> nn.Module | None:
    made = folded(backbone)
    wanted, found = (module.forward_features(pixels) for module in (backbone, made))
    return made if float((wanted - found).abs().max()) <= _CLOSE * float(wanted.abs().max()) else None


def folded(backbone: nn.Module) -> nn.Module:
    """A copy without the batch norms that stand right after a convolution; its weights lie channels last."""
    return fold(copy.deepcopy(backbone))


@torch.no_grad()
def fold(backbone: nn.Module) -> nn.Module:
    """`folded` in place; returns what it was given."""
    for parent, conv, name, norm in _followed(backbone):
        # γ (W x + b - μ) / √(σ² + ε) + β = (γ / √(σ² + ε)) W x + …: one convolution with other weights.
        scale = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
        shift = (0 if norm.bias is None else norm.bias) - norm.running_mean * scale
        conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
        conv.bias = nn.Parameter(shift + (0 if conv.bias is None else conv.bias * scale), requires_grad=False)
        setattr(parent, name, _after(norm))
    return backbone.eval().to(memory_format=torch.channels_last)


def drop_norms(backbone: nn.Module) -> None:
    """Gives a backbone the layers of its folded copy, in place: what is filled with that one's weights."""
    for parent, conv, name, norm in _followed(backbone):
        if conv.bias is None:
            conv.bias = nn.Parameter(torch.zeros(conv.out_channels), requires_grad=False)
        setattr(parent, name, _after(norm))


def has_norms(backbone: nn.Module) -> bool:
    """Whether there is a batch norm to fold."""
    return any(True for _ in _followed(backbone))


def _followed(root: nn.Module) -> list[tuple[nn.Module, nn.Conv2d, str, nn.BatchNorm2d]]:
    """Convolutions with the batch norms right after them: where both are, and how the norm is called."""
    return [
        (parent, conv, name, norm)
        for parent in root.modules()
        for (_, conv), (name, norm) in pairwise(parent.named_children())
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
    ]


def _after(norm: nn.BatchNorm2d) -> nn.Sequential:
    """What of a batch norm is left: the activation that timm keeps in it."""
    return nn.Sequential(*(part for name in ("drop", "act") if (part := getattr(norm, name, None)) is not None))
