"""The demo's own images: they are there, are no copies of each other, and each has a free licence that is said."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio")

import zoo.demos
from zoo.demos import gallery, samples, search
from zoo.demos.gallery import embed_files, example_queries, sample_images
from zoo.demos.samples import EXAMPLES, LICENCES, SAMPLES, Sample

from tests.demos.demo_support import colour_model, colour_photos, folder_images

EVERY = (*SAMPLES, *EXAMPLES)
PHOTOS = Path(zoo.demos.__file__).parent / "photos"
FREE = {"CC0 1.0", "Public domain", "No known copyright restrictions", "CC BY 2.0", "MIT"}


def outline(path: Path) -> np.ndarray:
    """The difference hash of an image, 256 bits: whether each of 16 x 16 places is darker than the next to its right."""
    with Image.open(path) as opened:
        small = np.asarray(opened.convert("L").resize((17, 16), Image.Resampling.LANCZOS), dtype=np.int16)
    return (small[:, :-1] < small[:, 1:]).ravel()


def test_every_sample_is_installed_and_large_enough_to_look_at():
    assert len(sample_images()) == len(SAMPLES) >= 34
    assert len(example_queries()) == len(EXAMPLES)
    for sample in EVERY:
        path = sample.path()
        assert path is not None, f"{sample.package} has no {sample.file} any more"
        with Image.open(path) as opened:
            opened.load()
            assert min(opened.size) >= 150, path


def test_no_two_samples_are_one_image(tmp_path):
    hashes = [(sample.file, outline(sample.path())) for sample in EVERY]
    near = [(a, b) for (a, one), (b, other) in itertools.combinations(hashes, 2) if (one != other).mean() < 0.25]
    assert not near
    with Image.open(SAMPLES[0].path()) as opened:
        opened.convert("RGB").resize((300, 300)).save(tmp_path / "copy.jpg", quality=40)
    assert (outline(tmp_path / "copy.jpg") != hashes[0][1]).mean() < 0.1, "a copy would be seen"


def test_every_sample_has_a_free_licence_an_author_and_a_caption():
    assert set(LICENCES) == FREE
    for sample in EVERY:
        assert sample.licence in LICENCES, sample
        assert sample.author, sample
        assert sample.documented, sample
        assert len(sample.caption.split()) >= 1, sample
        assert not sample.caption.endswith("."), sample
        assert not sample.source or re.fullmatch(r"https://[\w./:()-]+", sample.source), sample
    captions = [sample.caption for sample in EVERY]
    assert len(set(captions)) == len(captions)


def test_what_other_packages_document_is_what_is_said_of_their_images():
    skimage, sklearn = pytest.importorskip("skimage.data"), pytest.importorskip("sklearn.datasets")
    said = {
        "CC0 1.0": "CC-?0",
        "Public domain": "public domain",
        "No known copyright restrictions": "No known copyright",
    }
    for sample in EVERY:
        if sample.package == "skimage":
            function = re.search(r"skimage\.data\.(\w+)", sample.documented)[1]
            assert re.search(said[sample.licence], getattr(skimage, function).__doc__), sample
        elif sample.package == "sklearn":
            readme = (Path(sklearn.__file__).parent / "images" / "README.txt").read_text()
            assert Path(sample.file).name in readme
            assert "creativecommons.org/licenses/by/2.0" in readme
            assert sample.source.removeprefix("https://www.flickr.com/photos/").rstrip("/") in readme


def test_the_zoos_own_copies_are_those_that_the_notice_names():
    ours = {Path(sample.file).name for sample in EVERY if sample.package == "zoo.demos"}
    assert {path.name for path in PHOTOS.iterdir()} == ours | {"NOTICE.md"}
    assert sum(path.stat().st_size for path in PHOTOS.iterdir()) < 1_200_000, "the wheel stays small"
    text = (PHOTOS / "NOTICE.md").read_text(encoding="utf-8")
    assert text == samples.notice(), "python -m zoo.demos.samples writes it"
    assert all(f"`{sample.file}`" in text and sample.author in text for sample in EVERY)
    for name in ours:
        with Image.open(PHOTOS / name) as opened:
            assert max(opened.size) <= 640, name
            assert not opened.getexif(), name


def test_a_missing_package_only_makes_the_gallery_smaller(monkeypatch):
    absent = Sample("no_such_package", "x.png", "nothing", "MIT", "nobody", "nowhere")
    assert absent.path() is None
    monkeypatch.setattr(gallery, "SAMPLES", (absent, *SAMPLES[:2]))
    assert [image.caption for image in sample_images()] == [sample.caption for sample in SAMPLES[:2]]


def test_the_page_says_whose_its_images_are_and_only_where_it_shows_them(tmp_path):
    model = colour_model()

    def shown(images: list[gallery.GalleryFile]) -> str:
        page = search.build(model, embed_files(model, images), workspace=tmp_path)
        texts = [block.value for block in page.blocks.values() if isinstance(getattr(block, "value", None), str)]
        return "\n".join(texts)

    text = shown(sample_images())
    assert all(sample.credit in text for sample in EVERY)
    assert SAMPLES[0].author not in shown(folder_images(colour_photos(tmp_path / "photos")))
