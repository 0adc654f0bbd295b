"""Checkpoints written by open_clip, transformers, sentence-transformers and timm give the same vectors through the zoo.

Texts and images go in as a user would give them: strings and JPEG files. The bound is 1e-5 for the largest difference
between two vectors. open_clip and timm resize with Pillow, so there the Pillow engine is held to that bound; the
default engine, four times as fast, is held to pixels (1/255) and to centred cosine (0.9999).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch

import zoo
from tests.every import standing_for
from tests.reference import IMAGE_NAMES, NAMES, TEXT_NAMES, TEXTS, Photo, Reference, centred_cosine, write, write_photos
from zoo.encoders.text import TransformersText
from zoo.encoders.transformers_dual import HfNaflexImage
from zoo.inputs.item import as_item

BOUND = 1e-5
SQUARES = tuple(name for name in IMAGE_NAMES if "naflex" not in name)
PROMPTS = {"query": "query: ", "document": "passage: ", "task": "Represent this sentence for searching: "}
Load = Callable[[str], tuple[Reference, zoo.Embedder]]
Vectors = Callable[[str], torch.Tensor]  # of what one reference reads, by its name


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    root = tmp_path_factory.mktemp("checkpoints")

    @cache
    def load(name: str) -> tuple[Reference, zoo.Embedder]:
        reference = write(name, root / name)
        return reference, zoo.load_model(reference.folder)

    return load


@pytest.fixture(scope="module")
def seen(load: Load, photos: list[Photo]) -> Vectors:
    """A reference's vectors of the photos, computed once for all tests of it."""
    return cache(lambda name: load(name)[0].images([photo.upright for photo in photos]))


@pytest.fixture(scope="module")
def read(load: Load) -> Vectors:
    """A reference's vectors of the texts, computed once for all tests of it."""
    return cache(lambda name: load(name)[0].texts(TEXTS))


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@contextmanager
def exact(model: zoo.Embedder, engine: str) -> Iterator[None]:
    """The model with images resized as its reference does, to the last digit."""
    encoders = [tower.encoder for tower in model.towers if hasattr(tower.encoder, "transform")]
    before = [encoder.transform for encoder in encoders]
    model.set_pixel_engine(engine)
    try:
        yield
    finally:
        for encoder, transform in zip(encoders, before, strict=True):
            encoder.transform = transform


def pixels(model: zoo.Embedder, paths: list[Path]) -> torch.Tensor:
    """What our image tower is given: (n, 3, height, width), 0..255."""
    encoder = next(tower.encoder for tower in model.towers if "image" in tower.encoder.modalities)
    return encoder.prepare([as_item(path) for path in paths])["pixels"].float()


@pytest.mark.parametrize("name", NAMES)
def test_references_tell_inputs_apart(name: str, read: Vectors, seen: Vectors) -> None:
    """Otherwise agreement would prove nothing: no two inputs of a reference may have almost the same vector."""
    for vectors in (read(name) if name in TEXT_NAMES else None, seen(name) if name in IMAGE_NAMES else None):
        if vectors is not None:
            assert torch.pdist(vectors).min() > 100 * BOUND


@pytest.mark.parametrize("name", TEXT_NAMES)
def test_texts(name: str, load: Load, read: Vectors) -> None:
    (_, model), expected = load(name), read(name)
    assert difference(model.encode(list(TEXTS), prompt=""), expected) < BOUND
    assert difference(model.encode(list(TEXTS), prompt="", batch_size=1), expected) < BOUND
    assert difference(model.encode(list(TEXTS), prompt="", batch_size=3), expected) < BOUND
    assert difference(model.encode(TEXTS[3], prompt=""), expected[3]) < BOUND


@pytest.mark.parametrize("name", IMAGE_NAMES)
def test_images(name: str, load: Load, photos: list[Photo], seen: Vectors) -> None:
    (reference, model), expected = load(name), seen(name)
    paths = [photo.path for photo in photos]
    with exact(model, reference.resize):
        assert difference(model.encode(paths), expected) < BOUND
        assert difference(model.encode(paths, batch_size=1), expected) < BOUND


@pytest.mark.parametrize("name", IMAGE_NAMES)
def test_images_by_the_default_engine(name: str, load: Load, photos: list[Photo], seen: Vectors) -> None:
    (_, model), expected = load(name), seen(name)
    assert centred_cosine(expected, model.encode([photo.path for photo in photos])) > 0.9999


@pytest.mark.parametrize("name", SQUARES)
def test_pixels(name: str, load: Load, photos: list[Photo]) -> None:
    reference, model = load(name)
    assert reference.read_pixels is not None
    expected = reference.read_pixels([photo.upright for photo in photos])
    paths = [photo.path for photo in photos]
    error = (pixels(model, paths) - expected).abs().round()
    if reference.resize == "torch":
        assert error.max() == 0
        return
    # Where an image is made smaller, torch's 16-bit weights differ from Pillow's 22-bit ones: by 1/255 in a few of a
    # thousand values, by 2/255 in a few of ten million (both passes rounded the other way), never by more.
    assert error.max() <= 2
    assert (error > 1).sum() <= 1
    assert (error > 0).float().mean() < 0.01
    with exact(model, "pillow"):
        assert (pixels(model, paths) - expected).abs().round().max() == 0


# Text backbones are saved and loaded by tests/formats/test_saving.py; of images a few of each library stand for all.
SAVED = {"open_clip-custom-text", "open_clip-siglip", "timm-convnext", "timm-vit-map", "transformers-siglip2-naflex"}
SAVED |= {"transformers-clip", "transformers-siglip", "sentence-clip"}


@pytest.mark.parametrize("name", standing_for(NAMES, SAVED))
def test_saved_and_loaded_again(name: str, load: Load, photos: list[Photo], tmp_path: Path) -> None:
    _, model = load(name)
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert again.spec == model.spec
    assert again.fingerprint() == model.fingerprint()
    if name in TEXT_NAMES:
        assert difference(again.encode(list(TEXTS)), model.encode(list(TEXTS))) < 1e-6
    if name in IMAGE_NAMES:
        paths = [photo.path for photo in photos]
        assert difference(again.encode(paths), model.encode(paths)) < 1e-6


@pytest.mark.parametrize("prompt", [None, *PROMPTS])
def test_prompts(prompt: str | None, load: Load) -> None:
    reference, model = load("sentence-prompts")
    expected = reference.prompted(TEXTS, prompt)
    assert difference(model.encode(list(TEXTS), prompt_name=prompt), expected) < BOUND
    assert difference(expected, reference.texts(TEXTS)) > 100 * BOUND


def test_roles_take_their_prompts(load: Load) -> None:
    reference, model = load("sentence-prompts")
    assert difference(model.encode_query(list(TEXTS)), reference.prompted(TEXTS, "query")) < BOUND
    assert difference(model.encode_document(list(TEXTS)), reference.prompted(TEXTS, "document")) < BOUND
    assert {name: model.spec.prompts[name] for name in PROMPTS} == PROMPTS


def test_prompts_survive_saving(load: Load, tmp_path: Path) -> None:
    reference, model = load("sentence-prompts")
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert difference(again.encode(list(TEXTS)), reference.prompted(TEXTS, None)) < BOUND


@pytest.mark.parametrize(
    "name", ["transformers-bert", "transformers-roberta", "transformers-xlm-roberta", "transformers-modernbert"]
)
def test_packed_states_equal_padded_ones(name: str, load: Load) -> None:
    _, model = load(name)
    encoder = model.towers[0].encoder
    assert isinstance(encoder, TransformersText)
    batch = encoder.prepare([as_item(text) for text in TEXTS])
    assert not batch["mask"].all(), "texts of one length would not be packed"
    with torch.inference_mode():
        packed = encoder(batch).states[batch["mask"]]
        plain = encoder.backbone(input_ids=batch["ids"], attention_mask=batch["mask"].long()).last_hidden_state
    assert difference(packed, plain[batch["mask"]]) < 5e-5  # of states about 3 long


@pytest.mark.parametrize("name", TEXT_NAMES)
def test_neighbours_in_a_batch_change_nothing(name: str, load: Load) -> None:
    _, model = load(name)
    alone = model.encode(TEXTS[1])
    assert difference(model.encode([TEXTS[-1], TEXTS[1], TEXTS[4]], batch_size=3)[1], alone) < BOUND


def test_naflex_images_keep_their_shape(load: Load, photos: list[Photo]) -> None:
    _, model = load("transformers-siglip2-naflex")
    encoder = model.towers[0].encoder
    assert isinstance(encoder, HfNaflexImage)
    wide, tall = (
        encoder.prepare_item(as_item(photo.path))["spatial_shapes"].tolist() for photo in (photos[3], photos[2])
    )
    assert wide[1] > 4 * wide[0]
    assert tall[0] > tall[1]
