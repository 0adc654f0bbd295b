"""EfficientNet-Lite (Tan and Le, 2019) as timm has it, to the digit: zoo-mini opens in half the time where timm need not be imported."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Architecture of timm → how much wider and how much deeper than Lite0 it is.
LITE: dict[str, tuple[float, float]] = {
    "tf_efficientnet_lite0": (1.0, 1.0),
    "tf_efficientnet_lite1": (1.0, 1.1),
    "tf_efficientnet_lite2": (1.1, 1.2),
    "tf_efficientnet_lite3": (1.2, 1.4),
    "tf_efficientnet_lite4": (1.4, 1.8),
}
# Of each stage: blocks, kernel, stride, how many times as wide a block is inside, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280


class EfficientNetLite(nn.Module):
    """The network up to its classifier. Names and weights are those of timm's.

    Args:
        arch: of `LITE`.
    """

    def __init__(self, arch: str) -> None:
        super().__init__()
        wider, deeper = LITE[arch]
        self.conv_stem, self.bn1 = SameConv(3, _STEM, 3, stride=2), NormAct(_STEM)
        channels, stages = _STEM, []
        for number, (blocks, kernel, stride, expansion, width) in enumerate(_STAGES):
            blocks = blocks if number in (0, len(_STAGES) - 1) else math.ceil(blocks * deeper)
            width, stage = _eighths(width * wider), []
            for place in range(blocks):
                stage.append(_block(channels, width, kernel, stride if place == 0 else 1, expansion))
                channels = width
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = _point(channels, _HEAD), NormAct(_HEAD)
        self.global_pool = Average()
        self.num_features = self.head_hidden_size = _HEAD
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Normalised pixels `(B, 3, H, W)` to states `(B, 1280, H/32, W/32)`."""
        return self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(pixels)))))

    def forward_head(self, states: Tensor, pre_logits: bool = True) -> Tensor:
        """States to their mean `(B, 1280)`; there is no classifier after it."""
        return self.global_pool(states)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(pixels))


class NormAct(nn.BatchNorm2d):
    """A batch norm, and ReLU6 after it where it is not a block's last."""

    def __init__(self, channels: int, act: bool = True) -> None:
        super().__init__(channels, eps=1e-3)  # TensorFlow's, by whose weights these networks are known
        self.act = nn.ReLU6(inplace=True) if act else nn.Identity()

    def forward(self, states: Tensor) -> Tensor:
        return self.act(super().forward(states))


class SameConv(nn.Conv2d):
    """A convolution of stride 2 padded as TensorFlow's "SAME": an odd pixel of it at the right and at the bottom."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(channels, width, kernel, stride, groups=groups, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        return super().forward(same_padded(states, self.kernel_size, self.stride))


def same_padded(states: Tensor, kernel: Sequence[int], strides: Sequence[int]) -> Tensor:
    """A map `(B, C, H, W)` with the zeros around it by which a convolution gives one position for each stride."""
    height, width = (
        max((math.ceil(side / stride) - 1) * stride + extent - side, 0)
        for side, stride, extent in zip(map(int, states.shape[-2:]), strides, kernel, strict=True)
    )
    return F.pad(states, (width // 2, width - width // 2, height // 2, height - height // 2))


class DepthwiseSeparable(nn.Module):
    """Each channel by itself, then all together."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.skips = stride == 1 and channels == width
        self.conv_dw, self.bn1 = _depth(channels, kernel, stride), NormAct(channels)
        self.conv_pw, self.bn2 = _point(channels, width), NormAct(width, act=False)

    def forward(self, states: Tensor) -> Tensor:
        found = self.bn2(self.conv_pw(self.bn1(self.conv_dw(states))))
        return found + states if self.skips else found


class InvertedResidual(nn.Module):
    """Wider, each channel by itself, narrow again (Sandler et al., 2018)."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.skips, inner = stride == 1 and channels == width, channels * expansion
        self.conv_pw, self.bn1 = _point(channels, inner), NormAct(inner)
        self.conv_dw, self.bn2 = _depth(inner, kernel, stride), NormAct(inner)
        self.conv_pwl, self.bn3 = _point(inner, width), NormAct(width, act=False)

    def forward(self, states: Tensor) -> Tensor:
        found = self.bn1(self.conv_pw(states))
        found = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(found))))
        return found + states if self.skips else found


class Average(nn.Module):
    """The mean of a map, `(B, C, H, W)` to `(B, C)`."""

    pool_type = "avg"  # as timm's says it

    def forward(self, states: Tensor) -> Tensor:
        return torch.flatten(F.adaptive_avg_pool2d(states, 1), 1)


def _block(channels: int, width: int, kernel: int, stride: int, expansion: int) -> nn.Module:
    if expansion == 1:
        return DepthwiseSeparable(channels, width, kernel, stride)
    return InvertedResidual(channels, width, kernel, stride, expansion)


def _point(channels: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 1, bias=False)


def _depth(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    if stride > 1:
        return SameConv(channels, channels, kernel, stride, groups=channels)
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)


def _eighths(channels: float) -> int:
    """The nearest multiple of 8, and none that is a tenth less."""
    found = max(8, int(channels + 4) // 8 * 8)
    return found if found >= 0.9 * channels else found + 8
