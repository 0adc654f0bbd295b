"""Galleries that are kept between two starts, or made by `zoo embed`: what is embedded again, and what is shown."""

import os
import shutil
import sys

import pytest
import torch
from PIL import Image

import zoo
from tests.demos.demo_support import COLOURS, PATIENT, colour_photos
from zoo.errors import FingerprintMismatchError, ZooError
from zoo.inputs.heif import check_library

pytest.importorskip("gradio")

from gradio_client import Client
from zoo.demos import serve, stored
from zoo.demos.gallery import walk_images

from tests.demos.demo_support import folder_images

pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.fixture(scope="module")
def model():
    return zoo.build_model("mini-test").eval()


@pytest.fixture
def photos(tmp_path):
    return colour_photos(tmp_path / "photos")


def right(gallery, model):
    for image, vector in zip(gallery.files, gallery.vectors, strict=True):
        torch.testing.assert_close(vector, model.encode(image.path), atol=1e-5, rtol=0)
    return {image.caption for image in gallery.files}


def test_the_next_start_embeds_only_what_is_new(model, photos):
    steps = []
    first = stored.folder_gallery(model, photos, progress=lambda done, total: steps.append((done, total)))
    assert (first.embedded, steps[-1]) == (len(COLOURS), (len(COLOURS), len(COLOURS)))
    assert stored.folder_gallery(model, photos).embedded == 0
    Image.new("RGB", (40, 40), (9, 99, 200)).save(photos / "new.png")
    (photos / "red.png").rename(photos / "crimson.png")
    os.utime(photos / "blue.png", (1, 1))
    (photos / "green.png").unlink()
    again = stored.folder_gallery(model, photos)
    assert again.embedded == 1
    assert right(again, model) == {f"{name}.png" for name in COLOURS} - {"red.png", "green.png"} | {
        "new.png",
        "crimson.png",
    }


def test_what_is_left_out_is_told_as_in_zoo_embed(model, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    check_library.cache_clear()
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (photos / "phone.heic").write_bytes(b"....ftypheic")
    (photos / "out.png").symlink_to("/etc/hostname")
    (photos / "gone.png").symlink_to(photos / "nothing")
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / "red.png").read_bytes())
    gallery = stored.folder_gallery(model, photos)
    assert [one.name for one in walk_images(photos)[1] if one.code == "file-name"] == ["caf\\xe9.png"]
    assert {one.name: one.code for one in gallery.refused} == {
        "broken.png": "corrupt-image",
        "caf\\xe9.png": "file-name",
        "phone.heic": "unread-heif",
        "out.png": "stray-link",
        "gone.png": "stray-link",
    }
    assert "onvert it to JPEG" in next(one.reason for one in gallery.refused if one.name == "phone.heic")
    assert right(gallery, model) == {f"{name}.png" for name in COLOURS}


def test_each_folder_has_vectors_of_its_own(model, photos, tmp_path):
    other = colour_photos(tmp_path / "other")
    (other / "red.png").unlink()
    for folder in (photos, other):
        stored.folder_gallery(model, folder)
    assert [stored.folder_gallery(model, folder).embedded for folder in (photos, other)] == [0, 0]


def test_each_model_has_vectors_of_its_own(model, photos):
    other = zoo.build_model("clip-test").eval()
    for one in (model, other, model):
        assert right(stored.folder_gallery(one, photos), one)
    assert stored.cache_of(model, photos) != stored.cache_of(other, photos)


def test_where_the_cache_cannot_be_used_the_page_starts_all_the_same(model, photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert right(stored.folder_gallery(model, photos), model)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    from zoo.shards.folder import ShardFolder

    folder = ShardFolder(stored.cache_of(model, photos.resolve()))
    folder.create()
    with folder.locked():  # as another page holds it
        assert right(stored.folder_gallery(model, photos), model)


def test_a_folder_with_a_table_shows_its_images(model, photos):
    (photos / "train.csv").write_text("image,caption\nred.png,a red thing\n")
    assert right(stored.folder_gallery(model, photos), model) == {f"{name}.png" for name in COLOURS}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_vectors_of_zoo_embed_are_opened(model, photos, tmp_path, precision):
    from zoo.bulk import embed_dataset

    embed_dataset(model, photos, tmp_path / "vectors", precision=precision, progress=False)
    (photos / "red.png").unlink()
    gallery = stored.vectors_gallery(model, tmp_path / "vectors")
    assert gallery.embedded == 0
    assert [one.name for one in gallery.refused] == ["red.png"]
    assert {image.caption for image in gallery.files} == {f"{name}.png" for name in COLOURS} - {"red.png"}
    for image, vector in zip(gallery.files, gallery.vectors, strict=True):
        assert float(vector @ model.encode(image.path)) > 0.999
    with pytest.raises(FingerprintMismatchError):
        stored.vectors_gallery(zoo.build_model("clip-test"), tmp_path / "vectors")
    shutil.rmtree(photos)
    with pytest.raises(ZooError, match="is the disk mounted"):
        stored.vectors_gallery(model, tmp_path / "vectors")


def test_vectors_of_texts_are_refused_by_name(tmp_path):
    from zoo.bulk import embed_dataset

    model = zoo.build_model("text-test")
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    embed_dataset(model, tmp_path / "lines.txt", tmp_path / "vectors", progress=False)
    with pytest.raises(ZooError, match="holds vectors of text; the page searches images"):
        stored.vectors_gallery(model, tmp_path / "vectors")


def test_parts_are_joined_each_content_once(model, photos, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "red.png", other / "same.png")
    Image.new("RGB", (40, 40), (9, 99, 200)).save(other / "new.png")
    gallery = serve.gallery_of(model, [photos, other], samples=False)
    assert right(gallery, model) == {*(f"{name}.png" for name in COLOURS), "new.png"}
    assert gallery.files[0] == folder_images(photos)[0]
    assert "Embedding" in capsys.readouterr().err


def test_the_page_opens_vectors_with_the_model_that_made_them(tmp_path, photos):
    from zoo.bulk import embed_dataset

    zoo.build_model("mini-test").save_pretrained(tmp_path / "model")
    embed_dataset(tmp_path / "model", photos, tmp_path / "vectors", progress=False)
    page = zoo.demos.launch(vectors=tmp_path / "vectors", block=False)
    try:
        found, _ = Client(page.local_url, verbose=False, httpx_kwargs=PATIENT).predict(
            "red", 20, api_name="/search_by_text"
        )
        assert {hit["caption"] for hit in found} == {f"{name}.png" for name in COLOURS}
    finally:
        page.close(verbose=False)
