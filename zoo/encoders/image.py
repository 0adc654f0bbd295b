"""timm vision towers."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch, Encoder, one_token
from zoo.encoders.checking import check_timm
from zoo.encoders.pixels import Normalize, PixelTransform, as_transform
from zoo.inputs.item import Item, Tokens


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

    reads = frozenset({"image"})

    def __init__(
        self,
        arch: str,
        transform: PixelTransform | dict[str, Any],
        tokens: Literal["pooled", "patches"] = "pooled",
        args: dict[str, Any] | None = None,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        import timm

        check_timm(arch, args or {})
        self.arch, self.transform, self.tokens, self.args = arch, as_transform(transform), tokens, dict(args or {})
        self.backbone = backbone or timm.create_model(arch, pretrained=False, **{"num_classes": 0, **self.args})
        self.width = self.backbone.head_hidden_size if tokens == "pooled" else self.backbone.num_features
        self.normalize = Normalize(self.transform)

    def read(self, item: Item) -> Tensor:
        return self.transform.read(item.image)

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        return {"pixels": torch.stack(list(reads))}

    def forward(self, batch: Batch) -> Tokens:
        pixels = self.normalize(batch["pixels"])
        states = self.backbone.forward_features(pixels)
        if self.tokens == "pooled":
            return one_token(self.backbone.forward_head(states, pre_logits=True))
        if states.ndim == 4:  # convolutional: (B, W, H, W') or channels last (B, H, W', W)
            channels_last = states.shape[-1] == self.width and states.shape[1] != self.width
            states = states.flatten(1, 2) if channels_last else states.flatten(2).transpose(1, 2)
        return Tokens(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))

    def config(self) -> dict[str, Any]:
        return {
            "arch": self.arch,
            "transform": self.transform.to_dict(),
            "tokens": self.tokens,
            "args": self.args,
        }

    def preprocessing(self) -> dict[str, Any]:
        return self.transform.to_dict()
