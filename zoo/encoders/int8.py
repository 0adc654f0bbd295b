"""Layers in 8-bit integers: weights per output channel, inputs by a range that was measured; what any runtime can compute.

A layer is described by tensors alone (Jacob et al., 2018, arxiv:1712.05877): its weights are `weight_int8 · weight_scale`, and its input
is rounded to `(u - input_zero) · input_scale` with u from 0 to 255. Its forward pass in float32 is the definition; torch's own kernels for
integers, OpenVINO and ONNX Runtime compute the same sums faster.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.callers import warn
from zoo.encoders.efficientnet import SameConv, same_padded
from zoo.encoders.folding import drop_norms, version_of
from zoo.errors import ArgumentError, NotOfferedError
from zoo.precision import has_int8_kernels

SCHEME = "int8"  # of config.json: per-channel weights, one measured range for each input
# Of a unit vector's dimensions, between runtimes, machines or batches: a value that lies between two integers becomes one or the other by
# the last digit of a sum, and so on through all layers. Measured: 0.001 to 0.018; int8 itself moves vectors by as much.
TOLERANCE = 0.03
LEVELS = 255  # of an input: 0 to 255
LARGEST = 127  # of a weight: -127 to 127, so that 0 lies in the middle
# Tensors of a layer beside its bias → what safetensors calls their types.
TENSORS = {"weight_int8": "I8", "weight_scale": "F32", "input_scale": "F32", "input_zero": "I32"}


class _Int8(nn.Module):
    """What both kinds of layers are. They are subclasses of torch's own, by whose classes backbones tell their layers apart, and have
    none of the parameters of these.

    Args:
        shape: of the weights, output channels first. bias: whether there is one.
    """

    def __init__(self, shape: tuple[int, ...], bias: bool) -> None:
        nn.Module.__init__(self)
        self.register_buffer("weight_int8", torch.zeros(shape, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(shape[0]))
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("input_zero", torch.zeros((), dtype=torch.int32))
        self.bias = nn.Parameter(torch.zeros(shape[0]), requires_grad=False) if bias else None

    @property
    def weight(self) -> Tensor:
        """The weights in float32, for those who ask a layer for its type of numbers."""
        scale = self.weight_scale.view(-1, *[1] * (self.weight_int8.ndim - 1))
        weight = self.weight_int8 * scale
        if not torch.jit.is_tracing():
            return weight
        # The rounding of what is rounded already changes nothing, and tells exporters that the weights are integers.
        zeros = torch.zeros(len(scale), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, self.weight_scale, zeros, 0, -LARGEST - 1, LARGEST)

    def rounded(self, values: Tensor) -> Tensor:
        """An input as the 256 values that it can have, float32."""
        if not _is_followed():  # the same in a third of the time
            step, zero = self._range()
            return self._levels(values).sub_(zero).mul_(step)
        return torch.fake_quantize_per_tensor_affine(values, *self._range(), 0, LEVELS)

    def _levels(self, values: Tensor) -> Tensor:
        """An input as whole numbers from 0 to 255, still float32."""
        # By the inverse of the step, as torch's own rounding has it.
        return (values * (1 / self.input_scale)).round_().add_(self._range()[1]).clamp_(0, LEVELS)

    def _range(self) -> tuple[float, int]:
        return float(self.input_scale), int(self.input_zero)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """`to`, `half` and the like.

        Raises:
            ArgumentError: another type of numbers than float32 beside the integers, or another device than the CPU.
        """
        tried = fn(torch.zeros(0))
        if tried.dtype != torch.float32:
            raise ArgumentError(
                f"an int8 model computes in float32 beside its integers, not in {tried.dtype}; leave dtype out"
            )
        if tried.device.type not in ("cpu", "meta"):
            raise ArgumentError(f"an int8 model computes on the CPU, not on {tried.device}; leave device out")
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def take(self, layer: nn.Module, low: float, high: float) -> Self:
        """Fills this layer with the weights of the one whose place it takes.

        Args:
            low, high: of its inputs; what lies outside becomes the nearest end.
        """
        weight = layer.weight.detach().float()
        self.weight_scale.copy_(scales_of(weight))
        scale = self.weight_scale.view(-1, *[1] * (weight.ndim - 1))
        self.weight_int8.copy_((weight / scale).round().clamp(-LARGEST, LARGEST))
        # 0 has to be one of the values: it is what padding is, and what most activations give most often.
        low, high = min(low, 0.0), max(high, 0.0)
        step = max((high - low) / LEVELS, 1e-12)
        self.input_scale.fill_(step)
        self.input_zero.fill_(min(LEVELS, round(-low / step)))
        if self.bias is not None:
            self.bias.copy_(layer.bias)
        return self


def scales_of(weight: Tensor) -> Tensor:
    """The step between two integers of each output channel `(out,)`: the largest weight of a channel is 127 of them."""
    return (weight.flatten(1).abs().amax(1) / LARGEST).clamp(min=1e-12)


def _is_followed() -> bool:
    """Whether a pass is traced or may be differentiated, for which torch has operations of its own."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.is_grad_enabled()


class Int8Linear(_Int8, nn.Linear):
    """`nn.Linear`, by torch's kernel for integers where the processor has instructions for it."""

    def __init__(self, width: int, out: int, bias: bool = True) -> None:
        _Int8.__init__(self, (out, width), bias)
        self.in_features, self.out_features = width, out
        self._packed = _Packed()

    @classmethod
    def like(cls, layer: nn.Linear) -> Self:
        """A layer of the same shape, not yet filled."""
        return cls(layer.in_features, layer.out_features, layer.bias is not None)

    def forward(self, values: Tensor) -> Tensor:
        if _is_followed() or not values.numel() or values.dtype != torch.float32 or not has_int8_kernels():
            return F.linear(self.rounded(values), self.weight, self.bias)
        step, zero = self._range()
        levels = self._levels(values).to(torch.uint8)
        weight, zeros = self._packed.of(self.weight_int8)
        return torch.ops.onednn.qlinear_pointwise(
            levels, step, zero, weight, self.weight_scale, zeros, self.bias, 1.0, 0, torch.float32, "none", [], ""
        )


class _Packed:
    """Weights in the order in which the kernel reads them; made when first wanted, and anew for others. Copies begin without."""

    def __init__(self) -> None:
        self._key: tuple[int, int] | None = None
        self._weight = self._zeros = torch.zeros(0)

    def of(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The packed weights, and a zero for each output channel."""
        key = (weight.data_ptr(), version_of(weight))
        if key != self._key:
            self._weight = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)
            self._zeros = torch.zeros(len(weight), dtype=torch.int32)
            self._key = key
        return self._weight, self._zeros

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Packed, ()


class Int8Conv2d(_Int8, nn.Conv2d):
    """`nn.Conv2d` with zeros as padding, and those whose padding depends on the size as TensorFlow's does.

    Args:
        stride, padding, dilation, groups: as of `nn.Conv2d`. same: pad as TensorFlow does, whatever `padding` is.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        bias: bool,
        stride: tuple[int, ...],
        padding: tuple[int, ...] | str,
        dilation: tuple[int, ...],
        groups: int,
        same: bool,
    ) -> None:
        _Int8.__init__(self, shape, bias)
        self.in_channels, self.out_channels, self.kernel_size = shape[1] * groups, shape[0], tuple(shape[2:])
        self.stride, self.padding, self.dilation, self.groups, self.same = stride, padding, dilation, groups, same
        self.output_padding, self.padding_mode = (0, 0), "zeros"

    @classmethod
    def like(cls, layer: nn.Conv2d) -> Self:
        """A layer of the same shape, not yet filled."""
        same = type(layer) is not nn.Conv2d
        rest = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return cls(tuple(layer.weight.shape), layer.bias is not None, *rest, same)

    def forward(self, values: Tensor) -> Tensor:
        values, padding = self.rounded(values), self.padding
        if self.same:
            values, padding = same_padded(values, self.kernel_size, self.stride), 0
        return F.conv2d(values, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of a sequence to itself, its two products as layers that can be quantised."""

    def __init__(self, width: int, heads: int, bias: bool, batch_first: bool) -> None:
        super().__init__()
        self.heads, self.batch_first = heads, batch_first
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width, bias), nn.Linear(width, width, bias)

    @classmethod
    def like(cls, layer: nn.MultiheadAttention) -> Self:
        """With the same weights."""
        found = cls(layer.embed_dim, layer.num_heads, layer.in_proj_bias is not None, layer.batch_first)
        found.in_proj.weight = layer.in_proj_weight
        found.out_proj.weight = layer.out_proj.weight
        if layer.in_proj_bias is not None:
            found.in_proj.bias, found.out_proj.bias = layer.in_proj_bias, layer.out_proj.bias
        return found

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """As torch's, but the weights of the attention are not given."""
        if query is not key or query is not value or key_padding_mask is not None:
            raise NotOfferedError("an int8 attention is of a sequence to itself, without padding")
        states = query if self.batch_first else query.transpose(0, 1)  # (B, T, width)
        rows, tokens, width = states.shape
        # (B, T, 3 · width) to three of (B, heads, T, width / heads).
        parts = self.in_proj(states).view(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = ~attn_mask  # torch's attention layer and its function mean the opposite
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.view(rows, self.heads, *attn_mask.shape[1:])
        seen = F.scaled_dot_product_attention(*parts, attn_mask=attn_mask)
        out = self.out_proj(seen.transpose(1, 2).reshape(rows, tokens, width))
        return (out if self.batch_first else out.transpose(0, 1)), None


@dataclass(frozen=True)
class Int8Tower:
    """Which layers of a tower's encoder are integers.

    Attributes:
        layers: by their names in the encoder; () of a tower that stays float32. folded: whether batch norms were folded into the
            convolutions before them first (`Encoder.foldable`).
    """

    layers: tuple[str, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Quantization:
    """What of a model is int8, and how that was found.

    Attributes:
        towers: one for each of the model's. of: the float32 model's name, revision and hash of weights.
        calibrated: modality → how many real inputs its ranges were measured on.
        source: what these inputs were, in words. measured: what it costs, of held-out pairs (see `zoo.quantizing.measuring`).
    """

    towers: tuple[Int8Tower, ...]
    of: Mapping[str, str | None]
    calibrated: Mapping[str, int]
    source: str = ""
    measured: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        towers = [{"layers": list(tower.layers), "folded": tower.folded} for tower in self.towers]
        told = {"of": dict(self.of), "calibrated": dict(self.calibrated), "source": self.source}
        return {"scheme": SCHEME, "towers": towers, **told, "measured": [dict(row) for row in self.measured]}


def need_float(model: Any, what: str) -> None:
    """Called where something changes weights, before any work is done.

    Raises:
        NotOfferedError: the model is int8; `what` names the thing ("training").
    """
    if getattr(model, "quantized", None) is not None:
        came = model.quantized.of["name"]
        raise NotOfferedError(
            f"{model.spec.name} is int8, and {what} needs weights in float32; take the model that it was made of, {came}, and "
            "quantise the result (zoo.quantize)"
        )


def _kind_of(layer: nn.Module) -> type[Int8Linear] | type[Int8Conv2d] | None:
    """What a layer becomes; None where it stays. Subclasses of torch's layers compute something else."""
    if type(layer) is nn.Linear:
        return Int8Linear
    if type(layer) is nn.Conv2d:
        return Int8Conv2d if layer.padding_mode == "zeros" else None
    theirs = type(layer).__name__ == "Conv2dSame" and type(layer).__module__.startswith("timm.")
    is_same = type(layer) is SameConv or (theirs and tuple(layer.dilation) == (1, 1))
    return Int8Conv2d if is_same else None


def candidates(encoder: nn.Module) -> dict[str, nn.Module]:
    """Layers that can become integers, by their names; those of an attention after `open_attention`."""
    return {name: layer for name, layer in encoder.named_modules() if _kind_of(layer) is not None}


def open_attention(encoder: nn.Module, names: Iterable[str] | None = None) -> list[str]:
    """Gives torch's attention layers the form of `SelfAttention`, in place; returns the names of those.

    Args:
        names: of those to change; by default all that can be.
    """
    opened = []
    for name, layer in list(encoder.named_modules()):
        if type(layer) is nn.MultiheadAttention and (names is None or name in names) and _is_plain(layer):
            _put(encoder, name, SelfAttention.like(layer).train(layer.training))
            opened.append(name)
    return opened


def _is_plain(layer: nn.MultiheadAttention) -> bool:
    extra = layer.bias_k is not None or layer.add_zero_attn
    return layer._qkv_same_embed_dim and not extra


def shape_as(encoder: nn.Module, tower: Int8Tower, where: str) -> None:
    """Gives an encoder the layers that a tower says, not yet filled; in place.

    Raises:
        ValueError: it has no such layer, or none that can be integers; `where` begins the message.
    """
    if tower.folded:
        if (backbone := encoder.foldable()) is None:
            raise ValueError(f"{where}: {type(encoder).__name__} has no batch norms that are folded")
        drop_norms(backbone)
    open_attention(encoder, {name.rpartition(".")[0] for name in tower.layers})
    known = candidates(encoder)
    for name in tower.layers:
        if name not in known:
            raise ValueError(f"{where}: {type(encoder).__name__} has no layer {name!r:.80} that can be int8")
        _put(encoder, name, _kind_of(known[name]).like(known[name]))


def replace(encoder: nn.Module, name: str, low: float, high: float) -> None:
    """Puts an int8 layer with the same weights in the place of a layer; its inputs lie between `low` and `high`."""
    layer = encoder.get_submodule(name)
    _put(encoder, name, _kind_of(layer).like(layer).take(layer, low, high).eval())


def int8_layers(module: nn.Module) -> Iterator[tuple[str, _Int8]]:
    """The int8 layers of a module by their names."""
    yield from ((name, layer) for name, layer in module.named_modules() if isinstance(layer, _Int8))


def check_values(model: nn.Module, where: str) -> None:
    """Holds the numbers of int8 layers to what they can be.

    Raises:
        ValueError: a step that is not finite and above 0, an integer out of its range; the message names the layer.
    """
    for name, layer in int8_layers(model):
        steps = torch.cat([layer.weight_scale, layer.input_scale[None]])
        if not steps.isfinite().all() or not (steps > 0).all():
            raise ValueError(f"{where}: {name} has a step that is not finite and above 0")
        if not 0 <= int(layer.input_zero) <= LEVELS or int(layer.weight_int8.min()) < -LARGEST:
            raise ValueError(f"{where}: {name} has integers out of their range")


def _put(root: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    root.get_submodule(parent)._modules[leaf] = layer  # as well where the parent is a list or a dictionary of layers


def say_if_slow(model: nn.Module) -> None:
    """One line where torch computes an int8 model no faster than float32."""
    if not has_int8_kernels():
        warn(
            "this processor has no instructions for int8 (VNNI) that torch uses: an int8 model may be slower here than float32"
        )
    elif any(isinstance(layer, Int8Conv2d) for _, layer in int8_layers(model)):
        warn(
            "torch computes int8 convolutions no faster than float32; pip install 'embedding-zoo[openvino]', then backend='openvino'"
        )
