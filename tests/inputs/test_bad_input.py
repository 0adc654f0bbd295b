"""Bad and odd inputs: each ends in a vector or in a named error that says which item and what to do."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.inputs.bad_images import KINDS, VECTOR, encoded, file, make_image
from zoo.errors import EmptyTextError, InputError, UnsupportedInputError
from zoo.inputs.image import load_pixels


@pytest.fixture(scope="module")
def model():
    return zoo.build_model("clip-test")


def test_there_are_at_least_sixty_kinds():
    assert len(KINDS) >= 60


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_image_is_a_vector_or_a_named_error(name, model, tmp_path):
    expected, make = KINDS[name]
    value = make(tmp_path)
    if expected == VECTOR:
        vector = model.encode([value])
        assert vector.shape == (1, model.spec.dim)
        assert torch.isfinite(vector).all()
        assert vector.norm().item() == pytest.approx(1, abs=1e-4)
        return
    with pytest.raises(InputError) as caught:
        model.encode(["good text", value])
    assert caught.value.code == expected
    assert caught.value.index == 1
    assert str(caught.value).startswith("item 1: ")
    if isinstance(value, Path):
        assert value.name[:20] in str(caught.value)


def test_skip_keeps_the_good_ones_in_order(model, tmp_path):
    values, good = [], []
    for position, (expected, make) in enumerate(KINDS.values()):
        folder = tmp_path / str(position)
        folder.mkdir()
        values.append(make(folder))
        if expected == VECTOR:
            good.append(values[-1])
    with pytest.warns(UserWarning, match=f"{len(values) - len(good)} bad items were skipped"):
        kept = model.encode(values, on_error="skip")
    alone = torch.stack([model.encode(value) for value in good])
    torch.testing.assert_close(kept, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty-text"),
        ("   \n\t", "empty-text"),
        ("\u200b\u200b", "empty-text"),
        ("\0", "empty-text"),
        ("a \ud800 b", "invalid-text"),
        ("x" * 10_000_001, "invalid-text"),
    ],
)
def test_texts_that_cannot_be_embedded(text, code, model):
    with pytest.raises(InputError) as caught:
        model.encode(["good", text])
    assert caught.value.code == code
    assert caught.value.index == 1


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "word " * 200_000, "猫", "🐈", "e\u0301", "a\0b", "\ufeffx", "ﬁ", "‮abc"]
)
def test_odd_texts_are_vectors(text, model):
    assert model.encode(text).norm().item() == pytest.approx(1, abs=1e-4)


def test_text_of_a_megabyte_equals_its_beginning(model):
    torch.testing.assert_close(model.encode("word " * 200_000), model.encode("word " * 300))


@pytest.mark.parametrize("value", [{"text": "a"}, {"a", "b"}])
def test_containers_without_order_are_refused(value, model):
    with pytest.raises(UnsupportedInputError):
        model.encode(value)


def test_mixed_lists_keep_their_order(model, tmp_path):
    path = file(tmp_path, encoded("JPEG"))
    mixed = ["a cat", path, make_image(), "a dog", np.asarray(make_image())]
    together = model.encode(mixed)
    apart = torch.stack([model.encode(value) for value in mixed])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


def test_a_name_of_a_file_is_a_text_and_a_path_a_file(model, tmp_path):
    path = file(tmp_path, encoded("JPEG"))
    assert not torch.allclose(model.encode(str(path)), model.encode(path))


def test_an_item_that_no_tower_reads_names_both_sides(model):
    with pytest.raises(
        InputError, match=r"clip-test reads image or text or image\+text, not audio\+image\+text in one item"
    ):
        model.encode(zoo.Item(text="a", image=make_image(), audio=np.zeros(160, np.float32)))


def test_the_only_input_skipped_is_an_error_not_an_empty_vector(model):
    with pytest.raises(InputError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.encode("", on_error="skip")


def test_streams_raise_at_the_bad_item_and_not_before(model):
    stream = model.encode(iter(["a", "b", ""]))
    assert next(stream).shape == (model.spec.dim,)
    next(stream)
    with pytest.raises(EmptyTextError, match="item 2"):
        next(stream)


# ------------------------------------------------------------------------------------------------ right values


def test_transparent_pixels_are_laid_on_white():
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    assert (load_pixels(clear) == 255).all()
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert np.unique(load_pixels(half)).tolist() == [127]
    assert np.unique(load_pixels(np.asarray(half))).tolist() == [127]


def test_palette_transparency_is_laid_on_white(tmp_path):
    image = Image.new("P", (4, 4), 3)
    image.putpalette([0, 0, 0] * 256)
    path = file(tmp_path, encoded("PNG", image, transparency=3))
    assert (load_pixels(path) == 255).all()


def test_sixteen_bits_are_scaled_and_not_clipped_to_white(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    path = file(tmp_path, encoded("PNG", Image.fromarray(ramp)))
    np.testing.assert_allclose(load_pixels(path)[:, :, 0].ravel(), np.arange(256), atol=1)


def test_unit_floats_are_scaled_and_not_black(tmp_path):
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    path = file(tmp_path, encoded("TIFF", Image.fromarray(ramp)))
    np.testing.assert_allclose(load_pixels(path)[:, :, 0].ravel(), np.arange(256), atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation, format, tmp_path):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = file(tmp_path, encoded(format, make_image(40, 24), exif=exif))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(load_pixels(path), expected)


def test_cmyk_is_not_inverted(tmp_path):
    colours = np.asarray(Image.new("RGB", (8, 8), (200, 30, 30)))
    path = file(tmp_path, encoded("JPEG", Image.fromarray(colours).convert("CMYK"), quality=95))
    assert abs(load_pixels(path).astype(int) - colours).max() < 12


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    path = file(tmp_path, encoded("GIF", red, save_all=True, append_images=[blue]))
    assert load_pixels(path)[0, 0].tolist() == [255, 0, 0]


def test_the_fast_jpeg_decoder_equals_pil(tmp_path):
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 255, (37, 53, 3), dtype=np.uint8)
        path = file(tmp_path, encoded("JPEG", Image.fromarray(noise), quality=80, subsampling=seed % 3))
        with Image.open(path) as image:
            np.testing.assert_array_equal(load_pixels(path), np.asarray(image.convert("RGB")))


def test_a_tensor_and_an_array_of_the_same_image_agree(model):
    array = np.asarray(make_image())
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    torch.testing.assert_close(model.encode(array), model.encode(tensor))
    torch.testing.assert_close(model.encode(array), model.encode(tensor.float() / 255))


def test_memory_of_an_extreme_strip_stays_small(model):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.encode([np.zeros((60_000, 1, 3), np.uint8), np.zeros((2, 60_000, 3), np.uint8)])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000 * (1024 if sys.platform == "darwin" else 1)
