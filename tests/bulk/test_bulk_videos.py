"""A folder of videos as a source: every video below it, and nothing else."""

from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.bulk.bulk_support import make_images, open_source, quarantined, stored
from tests.inputs.test_videos import avi, numbered
from zoo.bulk import embed_dataset
from zoo.errors import TableError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three videos, one of them without a name that says so, one broken, and what is none."""
    videos = tmp_path / "videos"
    (videos / "b").mkdir(parents=True)
    for name, count in (("a.avi", 3), ("b/c.AVI", 5), ("b/unnamed", 4)):
        (videos / name).write_bytes(avi(numbered(count)))
    (videos / "broken.mp4").write_bytes(b"nothing")
    (videos / "notes.md").write_text("# notes")
    return videos


def test_every_video_below_a_folder_is_an_input(folder):
    make_images(folder, 2)
    source = open_source(folder, kind="video")
    assert (source.kind, source.count()) == ("video", 4)
    assert source.ignored == {"image": 2, "not-a-video": 1}
    records = list(source.records())
    assert [record.id for record in records] == ["a.avi", "b/c.AVI", "b/unnamed", "broken.mp4"]
    assert all(record.value == folder / record.id for record in records)
    assert open_source(folder).count() == 2, "without a kind its images are"


def test_a_folder_of_videos_is_of_every_kind_that_the_model_reads(folder, tmp_path):
    source = open_source(folder, modalities={"image", "text", "video"})
    assert source.count() == 5
    assert [record.attributes[-1] for record in map(source.looked, source.records())] == [
        "video",
        "video",
        "video",
        "video",  # by its name: why it is none is said where it is embedded
        "text",
    ]
    assert open_source(folder, modalities={"text", "video"}).kind == "video", "all that such a model reads of files"
    assert open_source(folder, kind="text").count() == 1
    with pytest.raises(TableError, match="kind must be"):
        open_source(folder, kind="movie")
    with pytest.raises(TableError, match="this model reads image and text only"):
        open_source(folder, kind="video", modalities={"image", "text"})


def test_a_folder_of_videos_is_embedded(folder, tmp_path):
    model = zoo.build_model("unite-test")
    embed_dataset(model, folder, tmp_path / "out", kind="video", progress=False)
    ids, vectors = stored(tmp_path / "out")
    assert ids == ["a.avi", "b/c.AVI", "b/unnamed"]
    np.testing.assert_allclose(vectors, model.encode([folder / one for one in ids]), atol=1e-5)
    assert [(one["id"], one["reason"]) for one in quarantined(tmp_path / "out")] == [("broken.mp4", "not-media")]
    assert embed_dataset(model, folder, tmp_path / "out", kind="video", progress=False).new == 0
