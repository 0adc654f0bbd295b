"""`pack:regions`: which rows there are, what is right and what is wrong for each, and where they were read from."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from zoo.training import open_pairs

from zoo.errors import MissingPackError, TableError
from zoo.inputs.regions import Box
from zoo.tables import open_all
from zoo.tables.pack_regions import CELLS, SCENES, read_scenes

SIDE = 12


def file(array: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def row(name: str, source: str, captions: list[str]) -> dict:
    """An image whose regions stand beside each other, a column of pixels each."""
    numbers = np.zeros((SIDE, SIDE), np.uint8)
    regions = []
    for place, caption in enumerate(captions, 1):
        numbers[:, place] = place
        regions.append({"caption": caption, "box": [float(place), 0.0, place + 1.0, float(SIDE)], "mask_value": place})
    pixels = np.repeat(20 * numbers[..., None], 3, 2)
    mask = file(numbers) if source == "composed" else None
    return {"id": name, "source": source, "image": file(pixels), "mask": mask, "regions": regions}


def write_pack(folder, split: str = "train") -> None:
    """Two scenes and a photo of cells."""
    rows = [
        row("one", "composed", ["a lemon", "a bus"]),
        row("two", "composed", ["a bus", "a hat", "a pear"]),
        row("blood", "bccd", ["red", "white", "red", "red"]),
    ]
    (folder / "regions").mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "regions" / f"{split}.parquet")


@pytest.fixture
def packs(tmp_path, monkeypatch):
    write_pack(tmp_path)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    return tmp_path


def test_a_region_has_its_caption_and_those_of_the_others_as_negatives(packs):
    pairs = open_pairs("pack:regions")
    assert [pair.positive.text for pair in pairs] == ["a lemon", "a bus", "a bus", "a hat", "a pear", "red", "white"]
    assert [[item.text for item in pair.negatives] for pair in pairs][:3] == [
        ["a bus"],
        ["a lemon"],
        ["a hat", "a pear"],
    ]
    assert [[item.text for item in pair.negatives] for pair in pairs][5:] == [["white"], ["red"]]
    assert [pairs.names[number] for number in pairs.datasets] == [SCENES] * 5 + [CELLS] * 2
    assert pairs[3].where == "pack:regions/train, two, region 1"


def test_scenes_have_masks_and_cells_boxes(packs):
    pairs = open_pairs("pack:regions")
    (mask,) = pairs[3].query.regions
    assert mask.pixels.shape == (SIDE, SIDE)
    assert mask.pixels[:, 2].all()
    assert mask.pixels.sum() == SIDE
    assert pairs[6].query.regions == (Box(2.0, 0.0, 3.0, float(SIDE)),)
    assert [scene.name for scene in read_scenes("train", CELLS)] == ["blood"]


def test_two_data_sets_of_a_name_of_ones_own(packs):
    assert open_all(["mine=pack:regions"]).names == [f"mine-{SCENES}", f"mine-{CELLS}"]


def test_what_is_not_there_is_said(packs):
    with pytest.raises(MissingPackError, match=r"val\.parquet"):
        open_pairs("pack:regions", split="val")
    from zoo.tables.packs import find_pack

    with pytest.raises(TableError, match="pairs of a region and its caption"):
        find_pack("pack:regions", None)
