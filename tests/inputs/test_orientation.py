"""Images that are stored turned: every format and form comes out as the upright one."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, features

import zoo
from zoo.inputs.image import load_pixels

# What undoes each orientation: the image that is stored for an upright one.
STORED = {
    1: lambda image: image,
    2: ImageOps.mirror,
    3: lambda image: image.rotate(180),
    4: ImageOps.flip,
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.rotate(90, expand=True),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.rotate(-90, expand=True),
}
EXACT = {"quality": 100, "subsampling": 0}
FORMATS: dict[str, tuple[str, dict[str, Any], float]] = {
    "jpeg": ("JPEG", EXACT, 3.0),
    "mpo": ("MPO", EXACT, 3.0),
    "png": ("PNG", {}, 0.0),
    "webp": ("WEBP", {"lossless": True}, 0.0),
    "tiff": ("TIFF", {}, 0.0),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}, 0.0),
    "avif": ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 4.0),
}


def upright(mode: str = "RGB") -> Image.Image:
    """Two colours across, brighter downwards: no turn of it is itself."""
    y, x = np.mgrid[0:24, 0:40]
    pixels = np.stack([x * 6, y * 10, 255 - x * 3], axis=2).astype(np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        return Image.fromarray((x * 700 + y * 900).astype(np.uint16))
    return image.convert(mode)


def stored(orientation: int, kind: str, mode: str = "RGB") -> bytes:
    name, options, _ = FORMATS[kind]
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    STORED[orientation](upright(mode)).save(out, name, exif=exif, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", STORED)
def test_every_format_and_form_is_upright(orientation: int, kind: str, tmp_path: Path) -> None:
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data, far = stored(orientation, kind), FORMATS[kind][2]
    (tmp_path / "image").write_bytes(data)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    expected = np.asarray(upright(), float)
    forms = {"path": tmp_path / "image", "bytes": data, "opened": Image.open(io.BytesIO(data)), "loaded": loaded}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, form in forms.items():
            pixels = load_pixels(form)
            assert pixels.shape == expected.shape, name
            assert np.abs(pixels - expected).mean() <= far, name


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1"])
def test_other_modes_of_tiff_are_turned_once(mode: str) -> None:
    for orientation in (3, 6):
        np.testing.assert_array_equal(load_pixels(stored(orientation, "tiff", mode)), load_pixels(upright(mode)))


def test_an_image_without_a_file_that_carries_a_tag_gets_one_warning() -> None:
    """Nobody knows whether its pixels were turned; what opened from a file, or was turned by Pillow, is known."""
    model, opened = zoo.build_model("image-test"), Image.open(io.BytesIO(stored(6, "jpeg")))
    copied = opened.convert("RGB")
    assert copied.format is None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        vector = model.encode(copied)
    said = [str(warning.message) for warning in said if "orientation" in str(warning.message)]
    assert len(said) == 1
    assert "exif_transpose" in said[0]
    assert (vector - model.encode(opened)).abs().max() < 1e-3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode([opened, ImageOps.exif_transpose(copied), upright()])


@pytest.mark.parametrize(
    "mode", ["RGB", "L", "P", "RGBA", "LA", "La", "PA", "CMYK", "1", "YCbCr", "transparent P", "transparent RGB"]
)
def test_a_large_image_taken_in_strips_has_the_pixels_of_the_whole(mode, monkeypatch):
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (75, 41, 3), dtype=np.uint8))
    image = colours.convert("RGBA")
    image.putalpha(Image.fromarray(rng.integers(0, 256, (75, 41), dtype=np.uint8)))
    if mode.startswith("transparent"):
        image = colours.quantize(16) if mode.endswith("P") else colours
        image.info["transparency"] = 3 if mode.endswith("P") else colours.getpixel((0, 0))
    else:
        image = (
            image.convert("LA").convert(mode)
            if mode == "La"
            else image.convert("P").convert(mode)
            if mode == "PA"
            else image.convert(mode)
        )
    whole = load_pixels(image)
    monkeypatch.setattr("zoo.inputs.image._STRIPS_FROM", 100)
    strips = load_pixels(image)
    np.testing.assert_array_equal(strips, whole)
    assert strips.flags.writeable
