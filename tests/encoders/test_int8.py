"""int8 layers: the arithmetic of torch's own quantised layers, the ranges that are chosen, and what a layer refuses."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders.folding import drop_norms, folded
from zoo.encoders.int8 import Int8Conv2d, Int8Linear, Int8Tower, SelfAttention, check_values, shape_as
from zoo.errors import ArgumentError
from zoo.quantizing.calibrating import ranges_of

pytestmark = pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def integers(layer: nn.Module, values: Tensor) -> tuple[Tensor, Tensor]:
    """Weights per channel and an input, as torch quantises them."""
    step, zero = float(layer.input_scale), int(layer.input_zero)
    scales, zeros = layer.weight_scale.double(), torch.zeros(len(layer.weight_scale), dtype=torch.long)
    weight = torch.quantize_per_channel(layer.weight, scales, zeros, 0, torch.qint8)
    return weight, torch.quantize_per_tensor(values, step, zero, torch.quint8)


def test_a_linear_layer_is_that_of_torch_in_integers() -> None:
    plain, values = nn.Linear(40, 24), torch.randn(3, 7, 40)
    layer = Int8Linear.like(plain).take(plain, -2.0, 3.0)
    weight, rounded = integers(layer, values)
    assert torch.equal(weight.int_repr(), layer.weight_int8)
    assert torch.equal(rounded.dequantize(), layer.rounded(values))
    with torch.no_grad():
        assert torch.equal(rounded.dequantize(), layer.rounded(values))
    assert ((layer.weight - plain.weight).abs() <= layer.weight_scale[:, None] / 2 + 1e-7).all()
    wanted = F.linear(rounded.dequantize(), weight.dequantize(), plain.bias)
    with torch.inference_mode():
        by_kernel = layer(values)  # where the processor has one
    assert (layer(values) - wanted).abs().max() < 1e-5  # with gradients: the definition
    assert (by_kernel - wanted).abs().max() < 1e-5
    packed = torch.ops.quantized.linear_prepack(weight, plain.bias)
    theirs = torch.ops.quantized.linear(
        rounded, packed, 0.05, 128
    )  # whose result is rounded once more, to steps of 0.05
    inside = wanted.abs() < 0.05 * 126
    assert (theirs.dequantize() - wanted)[inside].abs().max() <= 0.05 / 2 + 1e-5


@pytest.mark.parametrize("groups", [1, 6])
def test_a_convolution_is_that_of_torch_in_integers(groups: int) -> None:
    plain, values = nn.Conv2d(6, 12, 3, stride=2, padding=1, groups=groups), torch.rand(2, 6, 9, 9)
    layer = Int8Conv2d.like(plain).take(plain, 0.0, 1.0)
    weight, rounded = integers(layer, values)
    wanted = F.conv2d(rounded.dequantize(), weight.dequantize(), plain.bias, 2, 1, 1, groups)
    assert (layer(values) - wanted).abs().max() < 1e-6
    assert int(layer.input_zero) == 0


def test_timms_padding_of_any_size_is_kept() -> None:
    from timm.layers import Conv2dSame

    plain, values = Conv2dSame(3, 4, 3, stride=2), torch.rand(1, 3, 10, 7)
    layer = Int8Conv2d.like(plain).take(plain, 0.0, 1.0)
    assert layer(values).shape == plain(values).shape
    assert (layer(values) - plain(values)).abs().max() < 0.05


def test_an_attention_to_itself_keeps_its_vectors() -> None:
    states, causal = torch.randn(2, 5, 16), torch.full((5, 5), -torch.inf).triu(1)
    for first in (True, False):
        plain = nn.MultiheadAttention(16, 4, batch_first=first).eval()
        opened = SelfAttention.like(plain)
        for mask in (None, causal, causal < 0):
            given = states if first else states.transpose(0, 1)
            wanted, _ = plain(given, given, given, need_weights=False, attn_mask=mask)
            assert torch.allclose(opened(given, given, given, attn_mask=mask)[0], wanted, atol=1e-6)


def test_changed_weights_are_packed_anew_and_copies_begin_without() -> None:
    plain, values = nn.Linear(8, 8), torch.randn(4, 8)
    layer = Int8Linear.like(plain).take(plain, -3.0, 3.0)
    with torch.inference_mode():
        before = layer(values)
        layer.weight_int8.zero_()
        assert torch.allclose(layer(values), plain.bias.expand(4, 8), atol=1e-6)
        for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(again(values), layer(values))
            assert not torch.equal(again(values), before)


def test_the_range_has_the_least_error_and_holds_zero() -> None:
    layer = nn.Linear(4, 4)
    values = torch.randn(40_000, 4).abs()
    values[0, 0] = 60.0  # one value that would cost all others their digits
    low, high = ranges_of({"layer": layer}, lambda: layer(values))["layer"]
    assert low == 0.0
    assert 10 < high < 60
    for given, zero in (((2.0, 3.0), 0), ((-3.0, -2.0), 255), ((0.0, 0.0), 0), ((-1.0, 1.0), 128)):
        assert int(Int8Linear.like(layer).take(layer, *given).input_zero) == zero


def test_the_folded_shape_takes_the_folded_weights() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
    made, shape = folded(plain), copy.deepcopy(plain)
    drop_norms(shape)
    shape.load_state_dict(made.state_dict())
    values = torch.rand(1, 3, 8, 8)
    assert torch.allclose(shape(values), plain(values), atol=1e-6)


def test_other_numbers_and_devices_are_refused() -> None:
    layer = Int8Linear(4, 4)
    for how in (lambda: layer.half(), lambda: layer.to(torch.bfloat16), lambda: layer.double()):
        with pytest.raises(ArgumentError, match="an int8 model computes in float32 beside its integers"):
            how()
    assert layer.to("meta").weight_int8.is_meta
    layer = Int8Linear(4, 4)
    layer.weight_scale[1] = -1.0
    with pytest.raises(ValueError, match=r"here:  has a step that is not finite and above 0"):
        check_values(layer, "here")
    layer.weight_scale[1], layer.input_zero = 1.0, torch.tensor(300, dtype=torch.int32)
    with pytest.raises(ValueError, match="integers out of their range"):
        check_values(layer, "here")
    with pytest.raises(ValueError, match=r"there: Sequential has no layer '1' that can be int8"):
        shape_as(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), Int8Tower(("1",)), "there")
