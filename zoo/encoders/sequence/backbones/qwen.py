"""Qwen's vision-language backbones: Qwen2-VL to Qwen3.5."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.encoders.sequence.backbones import Backbone

if TYPE_CHECKING:
    from torch import Tensor

RENAMED = {
    r"^language_model\.(layers|norm|embed_tokens)\b": r"model.language_model.\1",  # made for the base class, as ours
    r"^model\.(layers|norm|embed_tokens)\b": r"model.language_model.\1",
    r"^visual\.": "model.visual.",
}


@dataclass(frozen=True)
class _Qwen(Backbone):
    def unpatched(self, patches: "Tensor", grids: Sequence[Sequence[int]], vision: Any) -> "list[Tensor]":
        """Patches come in groups of those that one token holds, each of colours, frames, rows and columns of pixels."""
        side, merge, images = vision.patch_size, vision.spatial_merge_size, []
        each = patches.split([frames * rows * columns for frames, rows, columns in grids])
        for some, (_, rows, columns) in zip(each, grids, strict=True):
            down, right = rows // merge, columns // merge
            # (down, right, merge, merge, 3, frames, side, side): an image is the same frame several times over,
            # so the first is all of it.
            pixels = some.view(down, right, merge, merge, 3, -1, side, side)[:, :, :, :, :, 0]
            # → (3, down, merge, side, right, merge, side): rows of pixels, then columns.
            images.append(pixels.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * side, columns * side))
        return images


@dataclass(frozen=True)
class _Qwen25(_Qwen):
    def video_times(self, processor: Any, total: int, fps: float, frames: int) -> dict[str, float]:
        """Seconds from one patch of frames to the next, by which its positions count."""
        # One patch of a video spans `temporal_patch_size` frames of those that are read, evenly spread over all.
        return {"second_per_grid_ts": getattr(processor, "temporal_patch_size", 2) * total / fps / frames}


QWEN = _Qwen(("qwen2_vl", "qwen3_vl", "qwen3_5"), retrieval={"colqwen2": "qwen2_vl"}, renamed=RENAMED)
QWEN25 = _Qwen25(("qwen2_5_vl",), renamed=RENAMED)
