"""Where the demo's images come from, thumbnails, and the map."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.demos.demo_support import COLOURS, colour_model, colour_photos
from zoo.errors import ZooError

pytest.importorskip("gradio")

from zoo.demos import map as gallery_map
from zoo.demos.gallery import GalleryFile, Thumbnails, embed_files, unique

from tests.demos.demo_support import folder_images


def test_folder_is_read_with_subfolders_and_without_hidden_files_or_links_outside(tmp_path):
    photos = colour_photos(tmp_path / "photos" / "inner").parent
    Image.new("RGB", (8, 8)).save(photos / "Upper.PNG")
    (photos / "notes.txt").write_text("no image")
    colour_photos(photos / ".hidden")
    Image.new("RGB", (8, 8)).save(photos / ".secret.png")
    outside = colour_photos(tmp_path / "outside")
    (photos / "link.png").symlink_to(outside / "red.png")
    (photos / "folder-link").symlink_to(outside)
    (photos / "dangling.png").symlink_to(tmp_path / "gone.png")
    captions = {image.caption for image in folder_images(photos)}
    assert captions == {"Upper.PNG", *(f"inner/{name}.png" for name in COLOURS)}


def test_folder_errors_say_what_to_do(tmp_path):
    with pytest.raises(ZooError, match="no folder"):
        folder_images(tmp_path / "gone")
    with pytest.raises(ZooError, match="No images found"):
        folder_images(tmp_path)
    with pytest.raises(ZooError, match="zoo embed"):
        folder_images(colour_photos(tmp_path), limit=3)


def test_copies_are_left_out_and_the_first_stays(tmp_path):
    photos = colour_photos(tmp_path)
    shutil.copy(photos / "red.png", photos / "zz-copy.png")
    kept = unique(folder_images(photos))
    assert {image.caption for image in kept} == {f"{name}.png" for name in COLOURS}
    assert unique([kept[0], kept[0]]) == [kept[0]]


def test_embedding_keeps_rows_with_their_images_and_sets_bad_ones_aside(tmp_path):
    photos = colour_photos(tmp_path)
    (photos / "broken.png").write_bytes((photos / "red.png").read_bytes()[:40])
    (photos / "page.jpg").write_text("<html>not found</html>")
    steps = []
    model = colour_model()
    made = embed_files(model, folder_images(photos), progress=lambda done, total: steps.append((done, total)))
    assert [one.name for one in made.refused] == ["broken.png", "page.jpg"]
    assert [one.code for one in made.refused] == ["corrupt-image", "not-media"]
    assert not any(str(tmp_path) in one.reason for one in made.refused)
    assert len(made) == len(COLOURS) == len(made.vectors)
    assert steps[-1] == (len(COLOURS) + 2, len(COLOURS) + 2)
    for image, vector in zip(made.files, made.vectors, strict=True):
        assert torch.allclose(vector, model.encode(image.path), atol=1e-6)


def test_progress_moves_while_a_large_folder_is_embedded(tmp_path):
    photos = colour_photos(tmp_path)
    images = folder_images(photos) * 12
    steps = []
    embed_files(colour_model(), images, progress=lambda done, total: steps.append(done))
    assert len(steps) >= 3
    assert steps == sorted(steps)
    assert steps[-1] == len(images)


def test_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(ZooError, match="None of the 1"):
        embed_files(colour_model(), folder_images(tmp_path))


def test_thumbnails_are_small_upright_and_do_not_tell_the_original(tmp_path):
    photo = tmp_path / "IMG_private_name.jpg"
    wide = Image.new("RGB", (1200, 600), (0, 0, 255))
    wide.paste((255, 0, 0), (0, 0, 600, 600))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: red, the left half, comes to the top
    wide.save(photo, exif=exif, quality=95)
    thumbnails = Thumbnails(tmp_path / "thumbs", side=200)
    small = thumbnails.of(GalleryFile(photo, "x"))
    assert small.parent == thumbnails.folder
    assert "private" not in small.name
    assert thumbnails.of(GalleryFile(photo, "other words")) == small
    assert [file.suffix for file in thumbnails.folder.iterdir()] == [".jpg"]
    with Image.open(small) as opened:
        assert opened.size == (100, 200)
        assert "exif" not in opened.info
        assert opened.getpixel((50, 20))[0] > 200 > 60 > opened.getpixel((50, 180))[0]


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "I;16", "1"])
def test_thumbnails_of_odd_modes(tmp_path, mode):
    array = np.full((40, 60), 40000, dtype=np.uint16)
    image = Image.fromarray(array) if mode == "I;16" else Image.new(mode, (60, 40), 0)
    image.save(tmp_path / "odd.png")
    with Image.open(Thumbnails(tmp_path / "t").of(GalleryFile(tmp_path / "odd.png", ""))) as small:
        assert (small.mode, small.size) == ("RGB", (60, 40))
        # Fully transparent is white; 40000 of 65535 is mid grey, not clipped white.
        expected = {"RGBA": 255, "I;16": 156}.get(mode, 0)
        assert abs(small.getpixel((30, 20))[0] - expected) <= 3


def test_pca_keeps_the_two_largest_directions():
    rng = np.random.default_rng(0)
    vectors = np.zeros((30, 6))
    vectors[:, 2], vectors[:, 5] = rng.normal(0, 5, 30), rng.normal(0, 2, 30)
    points, note = gallery_map.project(vectors)
    assert points.shape == (30, 2)
    assert points.min() == 0
    assert points.max() == 1
    assert abs(np.corrcoef(points[:, 0], vectors[:, 2])[0, 1]) > 0.99
    assert "100%" in note


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_galleries_have_a_map(count):
    points, note = gallery_map.project(np.eye(4)[:count], "PCA")
    centres, side = gallery_map.lay_out(points)
    assert np.isfinite(centres).all()
    assert side > 50
    assert note.startswith("PCA")


def test_equal_vectors_do_not_hide_each_other():
    points, _ = gallery_map.project(np.ones((9, 5)))
    centres, side = gallery_map.lay_out(points)
    gaps = np.abs(centres[:, None] - centres[None]).max(2)[np.triu_indices(9, 1)]
    assert gaps.min() > 0.8 * side


def test_tsne_brings_groups_together_and_falls_back_when_there_are_few():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(1)
    groups = np.repeat(np.eye(3), 12, axis=0)
    points, _ = gallery_map.project(groups + rng.normal(0, 0.02, groups.shape), "t-SNE")
    centres = points.reshape(3, 12, 2).mean(1)
    nearest = np.square(points[:, None] - centres[None]).sum(2).argmin(1)
    assert (nearest == np.repeat(range(3), 12)).all()
    _, note = gallery_map.project(groups[:6], "t-SNE")
    assert "needs at least" in note


def test_unknown_projection_lists_the_known_ones():
    with pytest.raises(ValueError, match="PCA"):
        gallery_map.project(np.eye(3), "mercator")


@pytest.mark.parametrize("count", [5, 60, 400])
def test_thumbnails_stay_on_the_map_and_a_click_finds_each(count):
    points = np.random.default_rng(2).uniform(size=(count, 2))
    centres, side = gallery_map.lay_out(points)
    width, height = gallery_map.SIZE
    assert (centres >= side / 2).all()
    assert (centres <= np.array([width, height]) - side / 2).all()
    layout = gallery_map.MapLayout(centres, np.arange(count) * 2, side)
    assert [layout.nearest(*centre) for centre in centres] == [row * 2 for row in range(count)]


def test_map_shows_each_thumbnail_at_its_centre(tmp_path):
    photos = colour_photos(tmp_path / "photos")
    images = folder_images(photos)
    centres, side = gallery_map.lay_out(np.random.default_rng(3).uniform(size=(len(images), 2)))
    drawn = gallery_map.draw([image.path for image in images], centres, side)
    for image, centre in zip(images, centres, strict=True):
        found = drawn.getpixel(tuple(int(value) for value in centre))
        assert found[3] == 255
        assert np.abs(np.array(found[:3]) - COLOURS[Path(image.caption).stem]).max() <= 12
    assert drawn.getpixel((0, 0))[3] == 0
