"""The resize that authors' code makes before its processor does: qwen-vl-utils' `fetch_image` and `fetch_video`, and the like.

It decides the grid of tokens: rounding a side twice is not rounding it once, and the least of the first resize is not that of
the second. Images are resized by Pillow here, frames of a file by torchvision, as there.
"""

import math

import torch
from torch import Tensor

WIDEST = 200  # a longer side over a shorter one


def fetched_size(
    height: int, width: int, factor: int, least: float, most: float, ratio: str = "refuse"
) -> tuple[int, int]:
    """Height and width as `smart_resize` of qwen-vl-utils rounds them: multiples of `factor`, between `least` and `most` pixels.

    It is not transformers' `smart_resize`: a side under half a factor becomes one factor before the area is compared.

    Args:
        ratio: see `zoo.sequences.ImageLimits`.

    Raises:
        ValueError: one side is over 200 times the other.
    """
    if ratio != "clamp" and max(height, width) / min(height, width) > WIDEST:
        raise ValueError(
            f"absolute aspect ratio must be smaller than {WIDEST}, got {max(height, width) / min(height, width)}"
        )
    high, wide = (max(factor, round(side / factor) * factor) for side in (height, width))
    if high * wide > most:
        # Both sides by the root of how much the area is too large; rounded down, so that it stays below.
        scale = math.sqrt(height * width / most)
        # Theirs may come out as 0, and fails then; transformers' takes one factor.
        high, wide = (max(factor, math.floor(side / scale / factor) * factor) for side in (height, width))
    elif high * wide < least:
        # The other way round, and rounded up.
        scale = math.sqrt(least / (height * width))
        high, wide = (math.ceil(side * scale / factor) * factor for side in (height, width))
    if ratio != "refuse":
        high, wide = min(high, wide * WIDEST), min(wide, high * WIDEST)
    return high, wide


def by_pillow(pixels: Tensor, height: int, width: int) -> Tensor:
    """An image uint8 `(3, height, width)` in another size, bicubic, by Pillow."""
    import numpy as np
    from PIL import Image

    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    resized = np.array(image.resize((width, height), Image.Resampling.BICUBIC))
    return torch.from_numpy(resized).permute(2, 0, 1)


def by_torchvision(frames: Tensor, height: int, width: int) -> Tensor:
    """Frames uint8 `(n, 3, height, width)` in another size, bicubic, one after the other, since it makes floats of them."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize  # as theirs; v2 rounds between rows and columns

    size, way = [height, width], InterpolationMode.BICUBIC
    return torch.stack([resize(frame, size, interpolation=way, antialias=True) for frame in frames])
