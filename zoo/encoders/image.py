"""timm vision towers, and the images that they read."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch, Encoder, one_token
from zoo.encoders.config_checks import Refuse, check_timm, refuse_setting
from zoo.encoders.dense import LastStage, timm_stage
from zoo.encoders.efficientnet import LITE, EfficientNetLite
from zoo.encoders.folding import Folding, has_norms
from zoo.encoders.image_transform import INTERPOLATIONS, Normalize, PixelTransform, as_transform
from zoo.encoders.program import Program
from zoo.errors import UnrecognisedCheckpointError
from zoo.inputs.item import Item, Tokens

_CROPS = {"center": "shortest", "squash": "squash", "border": "longest"}


class TimmImage(Encoder):
    """A timm backbone.

    Args:
        arch: timm architecture ("vit_small_patch14_dinov2").
        transform: resize, crop, mean and std.
        tokens: "pooled" gives timm's own pooled vector as the only token, "patches" all states: class and register
            tokens first, then `(height * width)` patches.
        args: further arguments of `timm.create_model` (`img_size`, `global_pool`, ...).
        backbone: a loaded backbone; None builds one with random weights.
    """

    modalities = frozenset({"image"})

    def __init__(
        self,
        arch: str,
        transform: PixelTransform | dict[str, Any],
        tokens: Literal["pooled", "patches"] = "pooled",
        args: dict[str, Any] | None = None,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_timm(arch, args or {})
        self.arch, self.transform, self.tokens, self.args = arch, as_transform(transform), tokens, dict(args or {})
        self.backbone = backbone or timm_backbone(arch, self.args)
        self.width = self.backbone.head_hidden_size if tokens == "pooled" else self.backbone.num_features
        self.normalize = Normalize(self.transform)
        self._convolutional = any(isinstance(module, nn.BatchNorm2d) for module in self.backbone.modules())
        self._folding = Folding()

    @property
    def batch_budget(self) -> int:  # type: ignore[override]
        """Few images where the states of a convolution's many channels would leave a CPU's caches."""
        on_cpu = next(self.backbone.parameters()).device.type == "cpu"
        return 8 if self._convolutional and on_cpu else Encoder.batch_budget

    def prepare_item(self, item: Item) -> Tensor:
        return self.transform.read(item.image)

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        return {"pixels": torch.stack(list(reads))}

    def _features(self, pixels: Tensor) -> Tensor:
        """The backbone's states of normalised pixels `(B, 3, H, W)`."""
        backbone = self.backbone
        if self._convolutional and pixels.device.type == "cpu":
            # Convolutions are half as fast again so.
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            followed = torch.compiler.is_compiling() or torch.jit.is_tracing()
            if not (self.training or torch.is_grad_enabled() or followed):
                backbone = self._folding.of(backbone, pixels)
        return backbone.forward_features(pixels)

    def last_stage(self) -> LastStage | str:
        if self.tokens != "pooled":
            return "it gives all of its states to a pooler"
        return timm_stage(self.backbone, features=self._features)

    def forward(self, batch: Batch) -> Tokens:
        states = self._features(self.normalize(batch["pixels"]))
        if self.tokens == "pooled":
            return one_token(self.backbone.forward_head(states, pre_logits=True))
        if states.ndim == 4:  # convolutional: (B, W, H, W') or channels last (B, H, W', W)
            channels_last = states.shape[-1] == self.width and states.shape[1] != self.width
            states = states.flatten(1, 2) if channels_last else states.flatten(2).transpose(1, 2)
        return _all_tokens(states)

    def foldable(self) -> nn.Module | None:
        return self.backbone if has_norms(self.backbone) else None

    def program(self) -> Program | str:
        return Program({"pixels": ("batch",)}, _all_tokens)

    def config(self) -> dict[str, Any]:
        return {
            "arch": self.arch,
            "transform": self.transform.to_dict(),
            "tokens": self.tokens,
            "args": self.args,
        }

    def preprocessing(self) -> dict[str, Any]:
        return self.transform.to_dict()


def _all_tokens(states: Tensor, batch: Batch | None = None) -> Tokens:
    return Tokens(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))


def timm_backbone(arch: str, args: dict[str, Any] | None = None) -> nn.Module:
    """A timm architecture with random weights and no classifier; importing timm takes longer than opening zoo-mini, which needs none of it.

    Args:
        args: as of `TimmImage`.
    """
    if arch in LITE and not args:
        return EfficientNetLite(arch)
    import timm

    return timm.create_model(arch, pretrained=False, **{"num_classes": 0, **(args or {})})


def timm_image(
    arch: str,
    args: dict[str, Any] | None = None,
    backbone: nn.Module | None = None,
    transform: PixelTransform | None = None,
) -> TimmImage:
    """The encoder around one of timm's backbones, which says itself how images are prepared.

    Args:
        args: as of `TimmImage`. backbone: a loaded one; None builds one with random weights. transform: where it is known.
    """
    import timm

    backbone = backbone or timm.create_model(arch, pretrained=False, num_classes=0, **(args or {}))
    return TimmImage(arch, transform or transform_of(backbone), args=args, backbone=backbone)


def transform_of(backbone: nn.Module, where: Path | str = "timm", refuse: Refuse = refuse_setting) -> PixelTransform:
    """The evaluation transform that timm would build for this backbone.

    Args:
        where: begins the messages. refuse: what happens to a setting that is not followed.

    Raises:
        UnreadSettingError: a filter or crop that timm does not know, or takes at random.
        UnrecognisedCheckpointError: values that make no sense, or other channels than RGB.
    """
    from timm.data import resolve_model_data_config

    data = resolve_model_data_config(backbone)
    for key, usual, good in (("interpolation", "bicubic", INTERPOLATIONS), ("crop_mode", "center", _CROPS)):
        if data[key] not in good:
            why = f"the zoo knows {', '.join(good)}; timm takes others at random, or for its usual one"
            refuse(where, f"pretrained_cfg.{key}", data[key], why)
            data[key] = usual
    mode = _CROPS[data["crop_mode"]]
    try:
        check_channels(data["input_size"][0], where)
        size = tuple(data["input_size"][1:])
        if not 0.05 < data["crop_pct"] < 20:
            raise ValueError(f"a crop_pct of {data['crop_pct']}")
        # timm resizes to side / crop_pct and crops the middle: at 0.9 and 224 pixels, 248 first.
        scaled = tuple(math.floor(side / data["crop_pct"]) for side in size)
        return PixelTransform(
            size=size,
            resize=mode,
            resize_size=None if scaled == size else scaled,
            interpolation=data["interpolation"],
            mean=data["mean"],
            std=data["std"],
            # timm pads with the mean, which is 0 after normalisation.
            fill=tuple(round(255 * mean) for mean in data["mean"]) if mode == "longest" else 0,
        )
    except (TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: its pretrained_cfg makes no sense: {error}") from error


def check_channels(channels: Any, where: Path | str) -> None:
    """Raises UnrecognisedCheckpointError for images of other channels than RGB."""
    if channels != 3:
        raise UnrecognisedCheckpointError(
            f"{where}: this model reads images of {channels} channels, and the zoo gives RGB, 3 of them; for grey images take a "
            "model that reads them as RGB"
        )
