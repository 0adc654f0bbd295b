"""Augmentation of whole batches on tensors, and the colours that an image is plainly made of."""

import torch
from torch import Tensor
from torch.nn import functional as F

# What a colour word looks like, red, green, blue from 0 to 1.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.12, 0.12),
    "orange": (0.96, 0.52, 0.10),
    "yellow": (0.97, 0.84, 0.15),
    "green": (0.20, 0.62, 0.22),
    "blue": (0.15, 0.35, 0.85),
    "purple": (0.50, 0.20, 0.65),
    "pink": (0.96, 0.50, 0.70),
    "brown": (0.45, 0.28, 0.14),
    "black": (0.08, 0.08, 0.08),
    "white": (0.97, 0.97, 0.97),
    "grey": (0.52, 0.52, 0.52),
}
# Upper edges of the hues of saturated pixels, in degrees, and the colour each ends.
_HUES = (
    (14, "red"),
    (42, "orange"),
    (64, "yellow"),
    (165, "green"),
    (258, "blue"),
    (295, "purple"),
    (342, "pink"),
    (361, "red"),
)
_PLAIN = 0.55  # share of the object that must have one colour before a caption may say it
_WHITE = 0.94  # corners brighter than this: a drawing or a product image on white


def on_white(images: Tensor) -> Tensor:
    """Which images `(B, 3, H, W)`, 0 to 1, lie on a white ground, determined by their four corners: `(B,)`."""
    corners = images[:, :, :: images.shape[2] - 1, :: images.shape[3] - 1]
    return corners.flatten(1).amin(1) > _WHITE


def colour_of(pixels: Tensor) -> int:
    """Index into COLOURS of the colour that most of the object has, -1 where none prevails.

    The object is what is not white on a white ground, else what lies in the middle. Hues are cut by fixed edges: an
    approximation that serves training captions and is never evaluated on.

    Args:
        pixels: uint8 `(3, H, W)`.
    """
    image = pixels[:, ::3, ::3].float() / 255
    height, width = image.shape[1:]
    white = bool(on_white(image[None]))
    if white:
        inside = image.amin(0) < 0.9
    else:
        y = torch.linspace(-1, 1, height)[:, None]
        x = torch.linspace(-1, 1, width)[None]
        inside = (x.square() + y.square()) < 0.36
    colours = _pixel_colours(image)[inside]
    if len(colours) < 30:
        return -1
    counts = torch.bincount(colours, minlength=len(COLOURS))
    best = int(counts.argmax())
    if white and best == list(COLOURS).index("white"):
        return -1  # what is left of a white thing on white are its outlines
    return best if counts[best] > _PLAIN * len(colours) else -1


def _pixel_colours(image: Tensor) -> Tensor:
    """`(3, H, W)` from 0 to 1 → index into COLOURS of every pixel `(H, W)`."""
    names = list(COLOURS)
    value, low = image.amax(0), image.amin(0)
    chroma = value - low
    saturation = chroma / value.clamp(min=1e-6)
    red, green, blue = image
    # The usual hexagon of hues: 0 to 6 around the circle, from which of the channels is the largest.
    hue = torch.where(
        value == red,
        (green - blue) / chroma.clamp(min=1e-6) % 6,
        torch.where(
            value == green, (blue - red) / chroma.clamp(min=1e-6) + 2, (red - green) / chroma.clamp(min=1e-6) + 4
        ),
    )
    edges = torch.tensor([float(edge) for edge, _ in _HUES])
    codes = torch.tensor([names.index(name) for _, name in _HUES])[torch.bucketize(hue * 60, edges)]
    warm = (codes == names.index("orange")) | (codes == names.index("red"))
    codes = torch.where(warm & (value < 0.55) & (saturation < 0.8), names.index("brown"), codes)
    grey = torch.where(value > 0.85, names.index("white"), names.index("grey"))
    codes = torch.where(saturation < 0.18, grey, codes)
    return torch.where(value < 0.2, names.index("black"), codes)


def repaint(images: Tensor, tints: Tensor) -> Tensor:
    """Images whose tint is not -1 in shades of that colour, white staying white: `(B, 3, H, W)` from 0 to 1."""
    rows = (tints >= 0).nonzero()[:, 0]
    if len(rows) == 0:
        return images
    palette = torch.tensor(list(COLOURS.values()))[tints[rows]][:, :, None, None]
    # Shades: dark parts scale the colour, bright ones go from it to white, so that paper stays paper.
    light = images[rows].mean(1, keepdim=True)
    dark = palette * (0.45 + 1.1 * light)
    bright = torch.lerp(palette, torch.ones(()), (light - 0.5) * 2)
    out = images.clone()
    out[rows] = torch.where(light < 0.5, dark, bright)
    return out


def augment(pixels: Tensor, size: int, tints: Tensor | None = None) -> Tensor:
    """A fresh view of every image: crop, stretch, turn, mirror, tint, light, and a patch erased.

    Colours keep their hue, because captions name them. Images on white are cropped less and get a ground of another
    colour now and then: a drawing is recognised by its shape, not by the paper.

    Args:
        pixels: uint8 `(B, 3, S, S)`. size: side of the views in pixels. tints: see `PairBatch`.

    Returns:
        uint8 `(B, 3, size, size)`.
    """
    count = len(pixels)
    images = pixels.float().div_(255)
    white = on_white(images)
    if tints is not None:
        images = repaint(images, tints)
    ground = torch.rand(count, 3, 1, 1) * 0.6 + 0.4
    painted = white & (torch.rand(count) < 0.3)
    images = images * torch.where(painted[:, None, None, None], ground, torch.ones(()))
    images = F.grid_sample(images, _views(white, size), mode="bilinear", padding_mode="border", align_corners=False)
    images = _light(images)
    return _erase(images, 0.3).clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def _uniform(count: int, low: float, high: float) -> Tensor:
    return torch.rand(count) * (high - low) + low


def _views(white: Tensor, size: int) -> Tensor:
    """Sampling grids `(B, size, size, 2)` of random crops, stretches, turns and mirrors."""
    count = len(white)
    scale = torch.where(white, _uniform(count, 0.8, 1.25), _uniform(count, 0.55, 1.05))
    stretch, angle = _uniform(count, -0.2, 0.2).exp(), _uniform(count, -0.2, 0.2)
    mirror = torch.where(torch.rand(count) < torch.where(white, 0.2, 0.5), -1.0, 1.0)
    wide, tall = scale * stretch, scale / stretch
    # As far as the view leaves room, and 0.06 at least: also one as large as the image is moved.
    shift = [(torch.rand(count) * 2 - 1) * (1 - extent).clamp(min=0.06) for extent in (wide, tall)]
    cos, sin = angle.cos(), angle.sin()
    across = torch.stack([wide * cos * mirror, -tall * sin, shift[0]], dim=1)
    down = torch.stack([wide * sin * mirror, tall * cos, shift[1]], dim=1)
    return F.affine_grid(torch.stack([across, down], dim=1), [count, 3, size, size], align_corners=False)


def _light(images: Tensor) -> Tensor:
    """Saturation, contrast and brightness, each by its own factor per image."""
    count = len(images)
    saturation, contrast, brightness = (
        _uniform(count, low, high)[:, None, None, None] for low, high in ((0.6, 1.4), (0.7, 1.3), (0.75, 1.25))
    )
    images = torch.lerp(images.mean(1, keepdim=True), images, saturation)
    middle = images.mean((1, 2, 3), keepdim=True)
    return torch.lerp(middle, images, contrast) * brightness


def _erase(images: Tensor, chance: float) -> Tensor:
    """A square of random colour over some images."""
    count, side = len(images), images.shape[-1]
    line = torch.linspace(0, 1, side)
    half = _uniform(count, 0.08, 0.2)[:, None]
    across, down = ((line[None] - torch.rand(count, 1)).abs() < half for _ in range(2))
    patch = down[:, :, None] & across[:, None, :] & (torch.rand(count) < chance)[:, None, None]
    return torch.where(patch[:, None], torch.rand(count, 3, 1, 1), images)
