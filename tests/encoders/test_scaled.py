"""pixels="scaled": large JPEG photos decoded at a fraction, by every decoder alike, near to exact pixels; a fact of the model."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.encoders.image_transform import PixelTransform
from zoo.errors import ArgumentError, CorruptImageError, ImageTooLargeError, NotExportableError
from zoo.inputs import scaled
from zoo.inputs.scaled import divisor_of, load_scaled


def photos() -> list[np.ndarray]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    return [data.astronaut(), data.coffee(), data.rocket(), data.chelsea(), *load_sample_images().images]


def jpeg(pixels: np.ndarray | Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def test_the_fraction_is_a_matter_of_the_sizes_alone():
    assert [
        divisor_of(3000, 4000, (224, 298)),
        divisor_of(480, 640, (224, 298)),
        divisor_of(447, 9999, (224, 224)),
    ] == [4, 1, 1]
    assert [divisor_of(4480, 4480, (224, 224)), divisor_of(4479, 4480, (224, 224))] == [8, 4]
    assert [divisor_of(896, 900, (224, 225)), divisor_of(895, 900, (224, 225))] == [2, 1]


@pytest.mark.parametrize("size", [25, 32, 48, 64, 96, 128])
def test_the_mean_error_of_real_photos_is_under_one_step(size):
    """Photos of half a megapixel, as sharp as they get, at the sizes where the fractions begin; odd sizes, too."""
    exact, fast = PixelTransform(size), PixelTransform(size, pixels="scaled")
    seen = set()
    for number, pixels in enumerate(photos()):
        file = jpeg(pixels[: pixels.shape[0] - number, : pixels.shape[1] - 3 * number])
        error = (exact.read(file).float() - fast.read(file).float()).abs()
        fraction = load_scaled(file, fast.target).fraction
        assert error.mean() < 1, (number, float(error.mean()))
        assert (error.max() == 0) == (fraction is None)
        seen.add(fraction is None)
    assert False in seen


def test_geometry_comes_of_the_original_size():
    """A side that is no multiple of the divisor: without its part of the last pixel the mean error would be five times as large."""
    file = jpeg(np.asarray(Image.fromarray(photos()[1]).resize((1001, 803), Image.Resampling.LANCZOS)))
    for options in (
        {},
        {"engine": "pillow"},
        {"resize": "squash"},
        {"resize": "longest"},
        {"interpolation": "lanczos"},
    ):
        exact, fast = PixelTransform(100, **options), PixelTransform(100, pixels="scaled", **options)
        assert load_scaled(file, fast.target).pixels.shape == (201, 251, 3)
        error = (exact.read(file).float() - fast.read(file).float()).abs()
        assert error.mean() < 0.7


def test_both_decoders_give_the_same_pixels(monkeypatch):
    transform = PixelTransform(64, pixels="scaled")
    image = Image.fromarray(photos()[0]).resize((803, 607))
    files = [
        jpeg(image, subsampling=sub, progressive=progressive) for sub in (0, 1, 2) for progressive in (False, True)
    ]
    files += [jpeg(image.convert("L"))]
    fast = [load_scaled(file, transform.target) for file in files]
    import simplejpeg

    def absent(*args: object, **options: object) -> None:
        raise ValueError("this decoder cannot read it")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", absent)
    for one, file in zip(fast, files, strict=True):
        slow = load_scaled(file, transform.target)
        assert one.fraction == slow.fraction
        assert one.fraction.whole == (607, 803)
        assert one.pixels.shape == (152, 201, 3)
        np.testing.assert_array_equal(one.pixels, slow.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_fractions(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = jpeg(np.asarray(Image.fromarray(photos()[0]).resize((803, 607))), exif=exif)
    # Squashed to an oblong: a turned image is scaled otherwise.
    exact, fast = (PixelTransform((32, 64), resize="squash", pixels=pixels) for pixels in ("exact", "scaled"))
    assert load_scaled(file, fast.target).fraction.whole == ((607, 803) if orientation < 5 else (803, 607))
    assert (exact.read(file).float() - fast.read(file).float()).abs().mean() < 0.9
    pillow, fast_pillow = (replace(transform, engine="pillow") for transform in (exact, fast))
    assert (pillow.read(file).float() - fast_pillow.read(file).float()).abs().mean() < 0.9


def test_strips_of_which_the_middle_alone_is_resized():
    for orientation in (1, 3, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = jpeg(np.asarray(Image.fromarray(photos()[0]).resize((4003, 199))), exif=exif)
        exact, fast = PixelTransform(16), PixelTransform(16, pixels="scaled")
        assert load_scaled(file, fast.target).fraction is not None
        assert (
            exact.read(file).float() - fast.read(file).float()
        ).abs().mean() < 1.5  # a photo drawn out to a strip is sharper than any


def test_cmyk_and_files_that_no_jpeg_are(tmp_path):
    exact, fast = PixelTransform(32), PixelTransform(32, pixels="scaled")
    image = Image.fromarray(photos()[0])
    cmyk = jpeg(image.convert("CMYK"))
    assert load_scaled(cmyk, fast.target).fraction.whole == (512, 512)
    assert (exact.read(cmyk).float() - fast.read(cmyk).float()).abs().mean() < 1
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    for source in (buffer.getvalue(), tmp_path / "a.jpg", image, np.asarray(image), io.BytesIO(buffer.getvalue())):
        assert torch.equal(exact.read(source), fast.read(source))
    (tmp_path / "b.png").write_bytes(jpeg(image))
    assert torch.equal(fast.read(tmp_path / "b.png"), fast.read(io.BytesIO(jpeg(image))))


def test_bad_files_have_the_errors_of_exact_decoding():
    exact, fast = PixelTransform(32), PixelTransform(32, pixels="scaled")
    whole = jpeg(photos()[0])
    lying = bytearray(whole)
    start = whole.index(b"\xff\xc0") + 5  # height and width in the frame's header
    lying[start : start + 4] = (4000).to_bytes(2, "big") * 2
    huge = bytearray(whole)
    huge[start : start + 4] = (60_000).to_bytes(2, "big") * 2
    for file in (whole[: len(whole) // 2], whole[:200], bytes(lying), bytes(huge), b"\xff\xd8\xff" + bytes(99)):
        first, second = (_outcome(transform, file) for transform in (exact, fast))
        assert type(first) is type(second)
        if file != bytes(lying):  # what is missing is grey to libjpeg, whole or not
            assert isinstance(first, CorruptImageError | ImageTooLargeError)
            assert str(first) == str(second)


def _outcome(transform: PixelTransform, file: bytes) -> object:
    try:
        return transform.read(file)
    except zoo.errors.InputError as error:
        return error


def test_what_is_not_averaged_is_refused():
    for options in ({"resize": "none"}, {"interpolation": "nearest"}):
        with pytest.raises(ValueError, match="exact"):
            PixelTransform(32, pixels="scaled", **options)
    with pytest.raises(ValueError, match="pixels must be one of exact, scaled"):
        PixelTransform(32, pixels="fast")


def test_it_is_a_fact_of_the_model(tmp_path):
    exact = zoo.load_model("zoo-mini")
    fast = zoo.load_model("zoo-mini", pixels="scaled")
    assert fast.fingerprint()["pixels"] == "scaled"
    assert "pixels" not in exact.fingerprint()
    assert fast.fingerprint()["preprocessing"] != exact.fingerprint()["preprocessing"]
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg(Image.fromarray(photos()[0]).resize((1600, 1200), Image.Resampling.LANCZOS)))
    one, other = exact.encode(photo), fast.encode(photo)
    assert not torch.equal(one, other)
    assert torch.nn.functional.cosine_similarity(one, other, dim=-1) > 0.99
    assert torch.equal(exact.encode("a cat"), fast.encode("a cat"))
    fast.save_pretrained(tmp_path / "fast")
    again = zoo.load_model(tmp_path / "fast")
    assert again.fingerprint()["preprocessing"] == fast.fingerprint()["preprocessing"]
    assert torch.equal(again.encode(photo), other)
    assert "pixels" not in zoo.load_model(tmp_path / "fast", pixels="exact").fingerprint()


@pytest.mark.parametrize("name", ["qwen3vl-embedding-2b", "all-minilm-l6-v2"])
def test_models_that_cannot_are_refused_before_anything_is_fetched(name):
    with pytest.raises(ArgumentError, match="leave it out"):
        zoo.load_model(name, pixels="scaled")


def test_open_models_and_other_readers_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="size of their own"):
        zoo.build_model("gme-test").pixels = "scaled"
    with pytest.raises(ArgumentError, match="a model given by name"):
        zoo.embed_dataset(zoo.load_model("zoo-mini"), Path(tmp_path), tmp_path / "out", pixels="scaled", progress=False)


def test_other_libraries_do_not_get_it():
    from zoo.publishing.exports.open_clip import _preprocess_cfg
    from zoo.publishing.exports.timm import _data_config

    with pytest.raises(NotExportableError, match="exact"):
        _data_config(PixelTransform(32, pixels="scaled"), None)
    model = zoo.build_model("clip-test")
    model.pixels = "scaled"
    image = next(tower for tower in model.towers if "image" in tower.encoder.modalities)
    with pytest.raises(NotExportableError, match="exact"):
        _preprocess_cfg(image.encoder)


def test_an_index_is_searched_as_it_was_made(tmp_path, capsys):
    from zoo.cli import main

    photos_folder = tmp_path / "photos"
    photos_folder.mkdir()
    for number, pixels in enumerate(photos()[:3]):
        (photos_folder / f"{number}.jpg").write_bytes(jpeg(Image.fromarray(pixels).resize((1600, 1200))))
    out = tmp_path / "vectors"
    assert main(["embed", str(photos_folder), "--out", str(out), "--pixels", "scaled", "--quiet"]) == 0
    assert main(["search", str(out), "--image", str(photos_folder / "1.jpg"), "--json"]) == 0
    assert '"1.jpg"' in capsys.readouterr().out
    assert main(["embed", str(photos_folder), "--out", str(out), "--quiet"]) != 0
    assert "scaled" in capsys.readouterr().err
    assert scaled.LEAST[4] == 2
