"""Items that a vision-language model cannot read: named errors, beside good items that keep their vectors."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.encoders.sequence_support import changed
from tests.every import standing_for
from zoo import errors
from zoo.embedder.passes import is_out_of_memory
from zoo.encoders.sequence.processor import LEAST_VERSION, check_version
from zoo.inputs import video as videos
from zoo.inputs.item import Item
from zoo.registry import get_spec, list_models

READERS = [name for name in list_models("*-test") if get_spec(name).format]
VIDEOS = [name for name in READERS if "video" in get_spec(name).modalities]
MARK = "<|image_pad|>"


def make_image(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def make_video(frames: int, width: int = 60, height: int = 50) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    torch.manual_seed(0)
    return zoo.build_model("vlm2vec-test")


# ---------------------------------------------------------------------------------------------------- shapes and sizes


SIZES = [(1, 1), (28, 2800), (8400, 28), (27, 27), (2800, 28), (1, 900)]  # (height, width)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("size", standing_for(SIZES, SIZES[:3]))
def test_small_and_long_images(name: str, size: tuple[int, int]) -> None:
    """One pixel, less than a patch, 100:1, 300:1: a unit vector, or an error that says the ratio."""
    found = next(zoo.build_model(name).encode_stream([make_image(*size)]))
    if found.error is None:
        assert torch.allclose(found.vector.norm(dim=-1), torch.ones(found.vector.shape[:-1]), atol=1e-3)
    else:
        assert type(found.error) is errors.InvalidPixelsError
        assert max(size) / min(size) > 200
        assert "aspect ratio must be smaller than 200" in str(found.error)


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_videos(name: str, frames: int) -> None:
    tiny = zoo.build_model(name)
    norms = tiny.encode(Item(video=make_video(frames))).norm(dim=-1)  # of its tokens, with late interaction
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-3)


def test_an_image_of_more_than_64_megapixels(model: zoo.Embedder) -> None:
    with pytest.raises(errors.ImageTooLargeError, match="scale it down"):
        model.encode(Item(image=np.broadcast_to(np.uint8(7), (8001, 8001, 3))))


# ------------------------------------------------------------------------------------------------- what is no good item


@pytest.mark.parametrize(
    ("item", "error", "said"),
    [
        (Item(instruction="Find it."), errors.EmptyItemError, "only an instruction"),
        (Item(instruction="Find it.", parts=[]), errors.EmptyItemError, "only an instruction"),
        (Item(text="a", parts=["b"]), errors.UnsupportedInputError, "either parts or"),
        (Item(parts=[Item(text="a", instruction="b")]), errors.UnsupportedInputError, "no instruction of its own"),
        (Item(parts=["a", Item(audio=b"RIFF0000WAVE")]), errors.UnsupportedModalityError, "reads"),
        (Item(parts=["a", 5]), errors.UnsupportedInputError, "cannot embed int"),
        (Item(text=f"a {MARK} b"), errors.InvalidTextError, "stands for an image"),
        (Item(text="a", instruction=MARK), errors.InvalidTextError, "stands for an image"),
        (Item(parts=["a", f"{MARK}"]), errors.InvalidTextError, "stands for an image"),
        (Item(text="a \ud800"), errors.InvalidTextError, "not Unicode"),
        (Item(text="a", instruction=5), errors.UnsupportedInputError, "must be str"),
        (Item(text=" "), errors.EmptyTextError, "no visible character"),
        (Item(image=np.full((20, 20, 3), np.nan)), errors.InvalidPixelsError, "NaN"),
        (Item(image=b"\x89PNG\r\n\x1a\nbroken"), errors.CorruptImageError, "image"),
        (Item(image=Path("/no/such.png")), errors.MissingFileError, "does not exist"),
        (Item(video=b"\0\0\0\x18ftypmp42broken"), errors.CorruptVideoError, "damaged"),
        (Item(video=[]), errors.InvalidPixelsError, "no frames"),
        (Item(video=make_video(0)), errors.InvalidPixelsError, "no video"),
        (Item(video=[make_image(20, 20), make_image(30, 20)]), errors.InvalidPixelsError, "one size"),
    ],
)
def test_a_bad_item_stops_no_other(model: zoo.Embedder, item: Item, error: type, said: str) -> None:
    good = [Item(text="a cat"), Item(image=make_image(60, 40), text="the same"), Item(video=make_video(2))]
    pytest.importorskip("av")
    found = list(model.encode_stream([*good[:2], item, good[2]]))
    assert [type(one.error) for one in found] == [type(None), type(None), error, type(None)]
    assert said in str(found[2].error)
    assert found[2].error.index == 2
    assert torch.allclose(torch.stack([found[i].vector for i in (0, 1, 3)]), model.encode(good), atol=1e-5)
    with pytest.raises(error, match="item 0"):
        model.encode([item])


def test_a_video_without_pyav(model: zoo.Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.inputs.test_videos import avi, numbered

    monkeypatch.setattr(videos, "_has_pyav", lambda: False)
    with pytest.raises(errors.ZooError, match=r"embedding-zoo\[video\]"):
        model.encode(Item(video=avi(numbered(3))))
    assert model.encode(Item(video=make_video(2))).isfinite().all()  # arrays need none


# ---------------------------------------------------------------------------------------------------------- room, NaN


def test_words_are_cut_and_images_never(model: zoo.Embedder) -> None:
    encoder = model.towers[0].encoder
    for item in (
        Item(image=make_image(100, 100), text="word " * 5_000, instruction="Find it."),
        zoo.inputs.item.as_item(Item(parts=[make_image(60, 60), "first", make_image(80, 50), "word " * 5_000])),
    ):
        read = encoder.prepare_item(item)
        assert len(read.ids) <= encoder.max_tokens
        assert read.ids.count(encoder.readers["image"].token_id) == sum(medium.tokens for medium in read.media)


def test_more_images_than_there_is_room_for(model: zoo.Embedder) -> None:
    crowd = Item(parts=[make_image(200, 200, seed) for seed in range(60)] + ["all of them"])
    found = list(model.encode_stream(["a cat", crowd]))
    assert found[0].error is None
    assert isinstance(found[1].error, errors.TooManyTokensError)
    assert "of its images and videos" in str(found[1].error)


def test_a_long_text_is_refused_or_cut_in_good_time(model: zoo.Embedder) -> None:
    encoder = model.towers[0].encoder
    assert len(encoder.prepare_item(Item(text="word " * 100_000)).ids) <= encoder.max_tokens


def test_numbers_that_are_not_finite(model: zoo.Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = model.towers[0]
    plain = tower.pooler.forward

    def spoiled(tokens):
        vectors = plain(tokens)
        vectors[tokens.mask.sum(1) == tokens.mask.sum(1).max()] = torch.nan
        return vectors

    monkeypatch.setattr(tower.pooler, "forward", spoiled)
    found = list(model.encode_stream(["a", "a much longer text"]))
    assert found[0].error is None
    assert isinstance(found[1].error, errors.NonFiniteEmbeddingError)


def test_out_of_memory_halves_a_batch_of_images(model: zoo.Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [Item(text=f"image {i}", image=make_image(60, 40, i % 2)) for i in range(5)]
    expected = model.encode(items)
    backbone, sizes = model.towers[0].encoder.backbone, []
    plain = backbone.forward

    def full(input_ids, **rest):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("no room")
        return plain(input_ids=input_ids, **rest)

    full.__signature__ = inspect.signature(plain)
    monkeypatch.setattr(backbone, "forward", full)
    assert torch.allclose(model.encode(items), expected, atol=1e-5)
    assert max(sizes) > 2
    assert is_out_of_memory(torch.OutOfMemoryError("no room"))


# ------------------------------------------------------------------------------------------------------------ versions


def test_an_older_transformers_is_named(model: zoo.Embedder) -> None:
    """Before 5.18 no backbone takes features in place of images."""

    class Older(torch.nn.Module):
        config = model.towers[0].encoder.backbone.config

        def get_image_features(self, pixel_values):
            return pixel_values

        def forward(self, input_ids, pixel_values=None, image_grid_thw=None):
            return input_ids

    with pytest.raises(errors.ZooError, match=f"need transformers>={LEAST_VERSION}"):
        check_version(Older())
    wanted = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    assert f'"transformers>={LEAST_VERSION}"' in wanted


# --------------------------------------------------------------------------------------------------------- fingerprints


def test_a_fingerprint_tells_readings_apart_and_nothing_else(tmp_path: Path) -> None:

    from zoo.embedder import Embedder, Tower
    from zoo.encoders.sequence import sequence
    from zoo.heads import Identity
    from zoo.models.backbones import byte_processor
    from zoo.pooling import LastToken

    torch.manual_seed(0)
    plain = zoo.build_model("gme-test")
    mark = plain.fingerprint()["preprocessing"]
    assert zoo.load_model(plain.save_pretrained(tmp_path / "model")).fingerprint() == plain.fingerprint()
    encoder = plain.towers[0].encoder
    plain.encode(Item(text="a", image=make_image(50, 70)))
    assert plain.fingerprint()["preprocessing"] == mark
    marks = {mark}
    for changes in ({"positions": "mrope"}, {"pixels": (784, 9 * 784)}, {"prompt": "{{ media }}{{ text }}"}):
        spec = changed(plain.spec, **changes)
        other = Embedder(spec, [Tower(sequence(spec, encoder.settings, byte_processor()), LastToken(), Identity())])
        marks.add(other.fingerprint()["preprocessing"])
    assert len(marks) == 4


def test_keys_of_items_differ_where_their_content_does() -> None:
    from zoo.inputs.hashing import item_key

    a, b = make_image(20, 20, 1), make_image(20, 20, 2)
    items = [
        Item(text="a"),
        Item(text="a", instruction="b"),
        Item(text="b", instruction="a"),
        Item(text="a", image=a),
        Item(text="a", image=b),
        Item(image=a),
        Item(image=a, instruction="a"),
        Item(parts=["a"]),
        Item(parts=["a", a]),
        Item(parts=[a, "a"]),
        Item(parts=[a, "a"], instruction="b"),
        Item(parts=["a", "b"]),
        Item(parts=["ab"]),
        Item(video=[a, b]),
        Item(video=[b, a]),
    ]
    assert len({item_key(item) for item in items}) == len(items)
    assert item_key(Item(image=a), "prompt") != item_key(Item(image=a))
