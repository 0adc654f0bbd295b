"""The pack of regions as a benchmark: figures by hand, intervals over images, and every way to read a region."""

import numpy as np
import pytest
import torch

from tests.tables.test_pack_regions import write_pack
from zoo import build_model
from zoo.evaluation.__main__ import main
from zoo.evaluation.regions import IN_IMAGE, WAYS, evaluate_regions, over_images, region_results, score_regions
from zoo.tables.pack_regions import CELLS, SCENES, read_scenes


@pytest.fixture
def packs(tmp_path, monkeypatch):
    for split in ("train", "test"):
        write_pack(tmp_path, split)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    return tmp_path


def test_figures_by_hand(packs):
    scenes = read_scenes("test", SCENES)  # lemon, bus | bus, hat, pear
    captions = ["a bus", "a hat", "a lemon", "a pear"]
    similarity = torch.tensor(
        [
            [0.1, 0.9, 0.5, 0.0],  # lemon: above the bus, below a hat that is in another image
            [0.6, 0.0, 0.6, 0.0],  # bus: a tie with the lemon counts against it
            [0.9, 0.1, 0.2, 0.3],  # bus: right
            [0.8, 0.7, 0.0, 0.1],  # hat: below the bus of its own image
            [0.1, 0.2, 0.3, 0.9],  # pear: right
        ]
    )
    score = score_regions("by hand", SCENES, scenes, captions, similarity)
    assert (score.regions, score.images, score.captions) == (5, 2, 4)
    assert score.in_image.value == pytest.approx(3 / 5)
    assert score.region_to_text[1].value == pytest.approx(2 / 5)
    assert score.region_to_text[5].value == 1.0
    # bus: region 2 is first; hat: the lemon's region is; lemon: the bus's is; pear: its own is.
    assert score.text_to_region[1].value == pytest.approx(2 / 4)


def test_an_interval_is_of_images_not_of_regions():
    """Of a hundred regions of two images, all right in one and all wrong in the other, hardly anything is known."""
    values, image = np.repeat([1.0, 0.0], 50)[:, None], np.repeat([0, 1], 50)
    (found,) = over_images(values, image)
    assert found == (0.5, 0.0, 1.0)
    (each,) = over_images(values, np.arange(100))
    assert 0.35 < each.low < 0.45 < 0.55 < each.high < 0.65


def test_an_image_counts_by_its_regions():
    (found,) = over_images(np.array([[1.0], [1.0], [1.0], [0.0]]), np.array([0, 0, 0, 1]))
    assert found.value == 0.75


def test_every_way_is_measured_and_two_regions_of_an_image_differ(packs):
    torch.manual_seed(0)
    scores = evaluate_regions(build_model("mini-test"), "test")
    assert [(score.part, score.way) for score in scores] == [(part, way) for part in (SCENES, CELLS) for way in WAYS]
    assert [score.regions for score in scores[::5]] == [5, 4]
    results = region_results(build_model("mini-test"), "test", "here")
    assert {result.metric for result in results} == {IN_IMAGE, "recall@1", "recall@5", "hit@1", "hit@5"}
    assert all(result.low <= result.value <= result.high for result in results)


def test_the_command_measures_it_where_it_is_named(packs, tmp_path, capsys):
    torch.manual_seed(0)
    build_model("mini-test").save_pretrained(tmp_path / "model")
    assert main([f"{tmp_path}/model", "--packs", "regions", "--no-speed"]) == 0
    out = capsys.readouterr().out
    assert "scenes, masked crop" in out
    assert "5 regions of 2 images, 4 captions" in out
