"""qwen-vl-utils' public preprocessing, as authors' code calls it between an opened file and the processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from qwen_vl_utils import vision_process as utils
from torch import Tensor


def fetched(image: Image.Image, factor: int, least: int, most: int) -> Image.Image:
    """`fetch_image`, whose factor is twice the patch that it is told."""
    return utils.fetch_image({"image": image, "min_pixels": least, "max_pixels": most}, image_patch_size=factor // 2)


def listed(frames: np.ndarray | Sequence[Any], **options: Any) -> tuple[Tensor, dict[str, Any]]:
    """Frames as a list of images through `process_vision_info`, as Qwen3-VL-Embedding and WeMM call it: `(n, 3, h, w)`
    as floats of 0 to 255, and the metadata for the processor."""
    images = [Image.fromarray(frame) for frame in frames]
    turn = [{"role": "user", "content": [{"type": "video", "video": images, **options}]}]
    _, videos, _ = utils.process_vision_info(
        turn, image_patch_size=16, return_video_kwargs=True, return_video_metadata=True
    )
    return videos[0]
