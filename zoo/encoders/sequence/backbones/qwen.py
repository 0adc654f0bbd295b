"""Qwen's vision-language backbones: Qwen2-VL to Qwen3.5."""

from dataclasses import dataclass
from typing import Any

from zoo.encoders.sequence.backbones import Backbone

RENAMED = {
    r"^language_model\.(layers|norm|embed_tokens)\b": r"model.language_model.\1",  # made for the base class, as ours
    r"^model\.(layers|norm|embed_tokens)\b": r"model.language_model.\1",
    r"^visual\.": "model.visual.",
}


@dataclass(frozen=True)
class _Qwen25(Backbone):
    def video_times(self, processor: Any, total: int, fps: float, frames: int) -> dict[str, float]:
        """Seconds from one patch of frames to the next, by which its positions count."""
        return {"second_per_grid_ts": getattr(processor, "temporal_patch_size", 2) * total / fps / frames}


QWEN = Backbone(("qwen2_vl", "qwen3_vl", "qwen3_5"), retrieval={"colqwen2": "qwen2_vl"}, renamed=RENAMED)
QWEN25 = _Qwen25(("qwen2_5_vl",), renamed=RENAMED)
