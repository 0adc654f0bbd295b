"""PixelTransform against PIL and torchvision's own transforms: geometry, engines, padding, extreme images."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from zoo.encoders.image_transform import CLIP_MEAN, Normalize, PixelTransform

SIZES = [(640, 480), (333, 500), (57, 91), (224, 224), (225, 224), (1000, 200), (301, 300), (31, 31), (447, 333)]
MODES = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


def photo(width: int, height: int) -> Image.Image:
    """Smooth shapes and some texture, like a photo: what resizing is made for."""
    rng = np.random.default_rng(width * 7919 + height)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).resize((width, height), 3)
    noise = rng.normal(0, 6, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


def torchvision_pixels(image: Image.Image, size: int, crop: int, mode: str) -> torch.Tensor:
    resize = transforms.Resize(size, interpolation=MODES[mode])
    return transforms.PILToTensor()(transforms.CenterCrop(crop)(resize(image)))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_the_pillow_engine_equals_torchvision_over_pil_to_the_last_digit(size, mode):
    image = photo(*size)
    ours = PixelTransform(224, interpolation=mode, engine="pillow").read(image)
    assert torch.equal(ours, torchvision_pixels(image, 224, 224, mode))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_the_default_engine_is_within_one_step(size, mode):
    image = photo(*size)
    ours = PixelTransform(224, interpolation=mode).read(image).int()
    error = (ours - torchvision_pixels(image, 224, 224, mode).int()).abs()
    assert error.max() <= 1
    assert (error > 0).float().mean() < 0.02


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_crops_of_a_larger_resize_have_torchvisions_offset(size):
    image = photo(*size)
    ours = PixelTransform(224, resize_size=235, engine="pillow").read(image)
    assert torch.equal(ours, torchvision_pixels(image, 235, 224, "bicubic"))


def test_one_pixel_of_geometry_would_be_seen():
    image = photo(640, 480)
    right = PixelTransform(224, engine="pillow").read(image).int()
    wrong = transforms.PILToTensor()(transforms.CenterCrop(224)(image.resize((299, 224), 3))).int()
    assert (right - wrong).abs().max() > 3


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_squash_ignores_the_aspect_ratio(size):
    image = photo(*size)
    ours = PixelTransform(96, resize="squash", engine="pillow").read(image)
    assert torch.equal(ours, transforms.PILToTensor()(image.resize((96, 96), 3)))


def test_longest_fits_and_fills():
    ours = PixelTransform(64, resize="longest", fill=7, engine="pillow").read(photo(640, 320))
    assert ours.shape == (3, 64, 64)
    assert (ours[:, :16] == 7).all()
    assert (ours[:, 48:] == 7).all()
    assert torch.equal(ours[:, 16:48], transforms.PILToTensor()(photo(640, 320).resize((64, 32), 3)))


@pytest.mark.parametrize("size", [(20, 700), (700, 20), (37, 1501)], ids=str)
def test_the_middle_of_a_strip_equals_the_middle_of_the_whole(size):
    image = photo(*size)
    ours = PixelTransform(64, engine="pillow").read(image)
    whole = torchvision_pixels(image, 64, 64, "bicubic")
    assert (ours.int() - whole.int()).abs().max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("resize", ["shortest", "squash", "longest"])
def test_tiny_and_thin_images_survive(size, resize):
    assert PixelTransform(32, resize=resize).read(photo(*size)).shape == (3, 32, 32)


def test_normalise_is_totensor_and_normalize():
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    transform = PixelTransform(8)
    expected = transforms.Normalize(transform.mean, transform.std)(pixels.float() / 255)
    torch.testing.assert_close(Normalize(transform)(pixels), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("wrong", [{"resize": "crop"}, {"interpolation": "cubic"}, {"engine": "cv2"}])
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        PixelTransform(32, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"std": (1, 0, 1)}, {"mean": (0.5, 0.5)}, {"scale": 0}, {"fill": 300}, {"fill": [1, 2]}, {"mean": (1e999,) * 3}],
)
def test_values_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PixelTransform(32, **wrong)


@pytest.mark.parametrize("mode", ["nearest", "lanczos", "box", "hamming"])
@pytest.mark.parametrize("size", [(640, 480), (31, 57)], ids=str)
def test_the_rarer_filters_are_pillows_in_every_engine_but_torchs(size, mode):
    image = photo(*size)
    expected = transforms.PILToTensor()(image.resize((96, 96), Image.Resampling[mode.upper()]))
    for engine in ("auto", "pillow"):
        assert torch.equal(PixelTransform(96, resize="squash", interpolation=mode, engine=engine).read(image), expected)
    by_torch = PixelTransform(96, resize="squash", interpolation=mode, engine="torch").read(image).int()
    assert mode == "nearest" or (by_torch - expected.int()).abs().max() <= 2


def test_pixels_that_are_neither_divided_nor_normalised():
    pixels = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    plain = PixelTransform(8, mean=(0,) * 3, std=(1,) * 3, scale=1)
    assert torch.equal(Normalize(plain)(pixels), pixels.float())
    assert "scale" in plain.to_dict()
    assert "scale" not in PixelTransform(8).to_dict()  # the fingerprints of before there was one stay


def test_no_resize_crops_the_middle_and_fills():
    image = photo(100, 40)
    ours = PixelTransform(64, resize="none", crop_rounding="floor").read(image)
    whole = torch.zeros(3, 64, 64, dtype=torch.uint8)
    whole[:, 12:52] = transforms.PILToTensor()(image)[:, :, 18:82]
    assert torch.equal(ours, whole)


def test_in_half_precision_pixels_are_normalised_in_float32_and_cast_once():
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    normalize = Normalize(PixelTransform((16, 16)))
    exact = normalize(pixels)
    assert torch.tensor(CLIP_MEAN).bfloat16().float().tolist() != pytest.approx(CLIP_MEAN, abs=1e-4), (
        "rounded, they are others"
    )
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(normalize.to(dtype)(pixels), exact.to(dtype))
    assert torch.equal(normalize.to(torch.float32)(pixels), exact)
