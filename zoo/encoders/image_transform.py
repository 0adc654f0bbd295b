"""Pixels → the square a vision tower reads, equal to the usual PIL transform and 2.3 times faster per core."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.inputs.image import load_pixels
from zoo.inputs.scaled import Fraction, load_scaled

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_LARGEST_UPSCALE = 16  # resized area, in crops, above which only the wanted part is resized
UNIT = 1 / 255  # what pixels are multiplied by before normalisation, almost everywhere
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")  # Pillow's six
PIXELS = ("exact", "scaled")
_FAST = ("bilinear", "bicubic")  # torch's are within a step of Pillow's, and four times as fast
Box = tuple[float, float, float, float]  # left, top, right, bottom
# What torch resizes by, and under which name.
_TORCH = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos"}


@dataclass(frozen=True)
class PixelTransform:
    """Resize and crop of one model; part of the model as much as its weights.

    Args:
        size: (height, width) that the tower reads, in pixels.
        resize: "shortest" scales the short side to `resize_size` and crops the middle; "squash" ignores the aspect
            ratio; "longest" fits the long side and pads; "none" only crops the middle.
        resize_size: (height, width) to scale to before cropping, `size` if None.
        interpolation: one of `INTERPOLATIONS`, antialiased as in PIL.
        crop_rounding: torchvision rounds the crop's offset ("round"), transformers floors it ("floor").
        fill: grey level of the padding, or one level for each channel, 0..255.
        engine: "torch" resizes uint8 with 16-bit weights, four times as fast as "pillow", PIL's own resize: when
            scaling down one pixel in 400 differs by 1/255, when scaling up some by 2. So "auto" takes torch to scale
            down and pillow to scale up; the other two are for equality with a reference to the last digit. What torch does
            not have, and what is rare, is always Pillow's.
        mean, std: of normalisation, which happens on the device: batches stay uint8 until then.
        scale: what pixels are multiplied by before it.
        pixels: "scaled" decodes JPEG files at 1/2, 1/4 or 1/8 where both sides stay at least twice as long as they are scaled to
            (`zoo.inputs.scaled`): a 12-megapixel photo at 1/4 for 224 pixels. All other images are the same. The mean error of a photo
            was at most 0.9/255 (tests/encoders/test_scaled.py).
    """

    size: tuple[int, int]
    resize: Literal["shortest", "squash", "longest", "none"] = "shortest"
    resize_size: tuple[int, int] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = "bicubic"
    crop_rounding: Literal["round", "floor"] = "round"
    fill: int | tuple[int, ...] = 0
    engine: Literal["auto", "torch", "pillow"] = "auto"
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    scale: float = UNIT
    pixels: Literal["exact", "scaled"] = "exact"

    def __post_init__(self) -> None:
        for name in ("size", "resize_size"):
            value = getattr(self, name)
            if isinstance(value, int):
                value = (value, value)
            object.__setattr__(self, name, tuple(value) if value is not None else None)
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        if isinstance(self.fill, list):
            object.__setattr__(self, "fill", tuple(self.fill))
        for name, known in (
            ("resize", ("shortest", "squash", "longest", "none")),
            ("interpolation", INTERPOLATIONS),
            ("engine", ("auto", "torch", "pillow")),
            ("pixels", PIXELS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.pixels == "scaled" and (self.resize == "none" or self.interpolation == "nearest"):
            raise ValueError(
                f"pixels='scaled' is for images that are scaled by averaging, not by resize={self.resize!r}, "
                f"interpolation={self.interpolation!r}: write 'exact'"
            )
        if len(self.mean) not in (1, 3) or len(self.std) not in (1, 3):
            raise ValueError(f"mean and std have one value for each of the 3 channels, not {self.mean} and {self.std}")
        levels = self.fill if isinstance(self.fill, tuple) else (self.fill,)
        if len(levels) not in (1, 3) or not all(isinstance(level, int) and 0 <= level <= 255 for level in levels):
            raise ValueError(f"fill is one level or three, whole numbers from 0 to 255, not {self.fill!r}")
        if not all(map(math.isfinite, (*self.mean, *self.std, self.scale))) or not all((*self.std, self.scale)):
            raise ValueError(
                f"mean, std and scale must be finite, the last two not 0: {self.mean}, {self.std}, {self.scale}"
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; `PixelTransform(**d)` reads it. What there was no other of before is left out: the usual scale, exact pixels."""
        facts = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        usual = {"scale": UNIT, "pixels": "exact"}
        return {k: v for k, v in facts.items() if k not in usual or v != usual[k]}

    def read(self, source: Any) -> Tensor:
        """Any image (see `zoo.inputs.image.load_pixels`) as uint8 `(3, height, width)` of `size`."""
        pixels, fraction = load_scaled(source, self.target) if self.pixels == "scaled" else (load_pixels(source), None)
        image = torch.from_numpy(pixels).permute(2, 0, 1)  # (3, H, W) with channels last in memory: torch's fast path
        return self.apply(image, fraction).contiguous()

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of this size is scaled to, before the crop."""
        target = self.resize_size or self.size
        if self.resize == "none":
            return height, width
        if self.resize == "squash":
            return target
        if self.resize == "longest":
            ratio = max(height / target[0], width / target[1])
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        if target[0] != target[1]:  # timm rounds both sides here, where torchvision's own resize floors the long one
            ratio = min(height / target[0], width / target[1])
            return round(height / ratio), round(width / ratio)
        short = target[0]
        # The long side is floored from the ORIGINAL size; rounding it costs up to 7/255.
        long = max(1, int(short * max(height, width) / min(height, width)))
        return (long, short) if height >= width else (short, long)

    def apply(self, image: Tensor, fraction: Fraction | None = None) -> Tensor:
        """Resize and crop of uint8 `(3, H, W)`.

        Args:
            fraction: what it is of, where it was decoded to a fraction of its size (see `zoo.inputs.scaled`).
        """
        # From the original size, and of the part that is filled: by those of the decoded pixels the error would be five times as large.
        scaled = self.target(*(fraction.whole if fraction else image.shape[1:]))
        box = fraction.box if fraction else None
        asked = self.resize_size or self.size
        upscaled = scaled[0] * scaled[1] > _LARGEST_UPSCALE * self.size[0] * self.size[1]
        if self.resize == "shortest" and asked[0] == asked[1] and upscaled:
            return self._scale_middle(image, scaled, box)
        return self._crop(self._scale(image, scaled, box))

    def _scale(self, image: Tensor, size: tuple[int, int], box: Box | None = None) -> Tensor:
        if tuple(image.shape[1:]) == tuple(size):
            return image
        larger = size[0] > image.shape[1] or size[1] > image.shape[2]
        by_torch = _TORCH if self.engine == "torch" else () if self.engine == "pillow" or larger else _FAST
        if self.interpolation not in by_torch:
            return self._pillow(image, size, box)
        smooth = {} if self.interpolation == "nearest" else {"antialias": True, "align_corners": False}
        mode = _TORCH[self.interpolation]
        if box is None:
            return F.interpolate(image[None], size=size, mode=mode, **smooth)[0]
        # torch measures from the first pixel: what begins within it is turned round for as long.
        turned = [side for side, start in ((1, box[1]), (2, box[0])) if start > 0]
        filled = (box[3] - box[1], box[2] - box[0])
        # It floors what comes of the factors: a hair more than they are, so that no size is one pixel short.
        factors = [want / have * (1 + 1e-9) for want, have in zip(size, filled, strict=True)]
        resized = F.interpolate(
            image.flip(turned)[None] if turned else image[None],
            scale_factor=factors,
            recompute_scale_factor=False,
            mode=mode,
            **smooth,
        )[0]
        return resized.flip(turned) if turned else resized

    def _pillow(self, image: Tensor, size: tuple[int, int], box: Box | None = None) -> Tensor:
        import numpy as np
        from PIL import Image

        method = Image.Resampling[self.interpolation.upper()]
        opened = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        return torch.from_numpy(np.array(opened.resize((size[1], size[0]), method, box=box))).permute(2, 0, 1)

    def _offset(self, have: int, want: int) -> int:
        # Python rounds halves to even, and so does torchvision.
        return round((have - want) / 2.0) if self.crop_rounding == "round" else (have - want) // 2

    def _crop(self, image: Tensor) -> Tensor:
        (height, width), (want_h, want_w) = image.shape[1:], self.size
        if height < want_h or width < want_w:
            pad_h, pad_w = max(want_h - height, 0), max(want_w - width, 0)
            fill = torch.tensor(self.fill, dtype=image.dtype).view(-1, 1, 1)
            canvas = fill.expand(image.shape[0], height + pad_h, width + pad_w).clone()
            canvas[:, pad_h // 2 : pad_h // 2 + height, pad_w // 2 : pad_w // 2 + width] = image
            image, height, width = canvas, height + pad_h, width + pad_w
        top, left = self._offset(height, want_h), self._offset(width, want_w)
        return image[:, top : top + want_h, left : left + want_w]

    def _scale_middle(self, image: Tensor, scaled: tuple[int, int], box: Box | None = None) -> Tensor:
        """An image of extreme aspect ratio: resizes the part around the crop only (1x5000 would fill 750 MB)."""
        margin = 8  # more than a bicubic kernel reaches, in resized pixels
        starts, stops, edges = [], [], []
        first_column, first_row, last_column, last_row = box or (0, 0, image.shape[2], image.shape[1])
        sides = ((first_row, last_row - first_row), (first_column, last_column - first_column))
        for (first, have), whole, want in zip(sides, scaled, self.size, strict=True):
            offset = self._offset(whole, want)
            starts.append(max(0, offset - margin))
            stops.append(min(whole, offset + want + margin))
            edges.append((first + starts[-1] * have / whole, first + stops[-1] * have / whole))
        (top, bottom), (left, right) = edges
        part = self._pillow(image, (stops[0] - starts[0], stops[1] - starts[1]), (left, top, right, bottom))
        y, x = (self._offset(whole, want) - s for whole, want, s in zip(scaled, self.size, starts, strict=True))
        return part[:, y : y + self.size[0], x : x + self.size[1]]


def as_transform(value: PixelTransform | dict[str, Any]) -> PixelTransform:
    """A transform, also from its JSON form."""
    return value if isinstance(value, PixelTransform) else PixelTransform(**value)


class Normalize(nn.Module):
    """uint8 `(B, 3, H, W)` → float `(pixels * scale - mean) / std`, on the device, in the dtype of the model.

    Mean and standard deviation stay float32 whatever that dtype is: bfloat16 would round them by up to 0.2 %, and every pixel is cast
    once, when all is computed.
    """

    def __init__(self, transform: PixelTransform) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros(()), persistent=False)  # of the model's dtype
        self.register_buffer("mean", torch.tensor(transform.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(transform.std).view(1, -1, 1, 1), persistent=False)
        self.unit = 255.0 if transform.scale == UNIT else 1 / transform.scale

    def _apply(self, fn: Any, recurse: bool = True) -> "Normalize":
        exact = self.mean, self.std
        super()._apply(fn, recurse)
        if self.mean.dtype != torch.float32:
            self.mean, self.std = (one.to(self.like.device) for one in exact)
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        mean, std = self.mean, self.std
        whole = pixels.dtype == torch.uint8
        # (x · unit - mean) / std as x · (unit / std) - mean / std: one pass, in float32, cast once at the end.
        values = torch.addcmul(-mean / std, pixels.float(), 1 / (self.unit * std)) if whole else pixels
        return values.to(self.like.dtype)
