"""Regions in tables: read by the names of columns, written, and embedded a row at a time."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.bulk.bulk_support import open_source
from zoo.errors import BadRowError, TableError
from zoo.inputs.hashing import item_key
from zoo.inputs.item import Item
from zoo.inputs.masks import RunLengths
from zoo.inputs.regions import Box, Mask, Point, Polygon
from zoo.tables import open_pairs, write_pairs
from zoo.tables.options import Options
from zoo.tables.pairs import Pair
from zoo.tables.writing import ENDINGS

BITS = np.zeros((8, 8), bool)
BITS[2:5, 1:7] = True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), (200, 30, 30)).save(tmp_path / "a.png")
    Image.fromarray(BITS.astype(np.uint8) * 255).save(tmp_path / "m.png")
    return tmp_path


def jsonl(folder: Path, *rows: dict) -> Path:
    path = folder / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def key(item: Item) -> bytes:
    return item_key(item, files="content")


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        ("box", [1, 2, 5, 6], [Box(1, 2, 5, 6)]),
        ("box", [[1, 2, 5, 6], [0, 0, 2, 2]], [Box(1, 2, 5, 6), Box(0, 0, 2, 2)]),
        (
            "regions",
            [{"point": [1, 2]}, {"box": [0, 0, 0.5, 1], "unit": "relative"}],
            [Point(1, 2), Box.relative(0, 0, 0.5, 1)],
        ),
        ("regions", {"polygon": [[0, 0], [4, 0], [0, 4]]}, [Polygon([(0, 0), (4, 0), (0, 4)])]),
        ("regions", [{"mask": "m.png"}], [Mask(BITS)]),
        ("mask", "m.png", [Mask(BITS)]),
        ("mask", {"size": [8, 8], "counts": RunLengths.of(BITS).text}, [Mask(BITS)]),
        ("mask", {"size": [8, 8], "counts": list(RunLengths.of(BITS).counts)}, [Mask(BITS)]),
        ("box", None, []),
        ("regions", [], []),
    ],
)
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_regions_are_of_the_image_beside_them(folder, column, cell, expected, form):
    row = {"image": "a.png", "caption": "red", column: cell}
    path = folder / f"t.{form}"
    if form == "jsonl":
        jsonl(folder, row)
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        said = cell if isinstance(cell, str) else "" if cell is None else json.dumps(cell)
        path.write_text(f'image,caption,{column}\na.png,red,"{said.replace(chr(34), chr(34) * 2)}"\n')
    wanted = Item(image=folder / "a.png", regions=expected)
    table = open_pairs(path)
    query = table[0].query
    assert [type(region) for region in query.regions] == [type(region) for region in expected]
    masks = [np.asarray(region.pixels) for region in query.regions if isinstance(region, Mask)]
    assert all((mask == BITS).all() for mask in masks)
    assert [r for r in query.regions if not isinstance(r, Mask)] == [r for r in expected if not isinstance(r, Mask)]
    assert table.problems() == []
    assert table.schemas[0].query_regions == column
    assert f"column {column}" in str(table.schemas[0])
    source = open_source(path, column="image")
    assert (source.kind, source.regions) == ("image+regions", column)
    (record,) = source.records()
    assert record.error is None
    assert len(record.value.regions) == len(expected)
    if not masks:
        assert key(record.value) == key(wanted) == key(query)


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ({"box": [1, 2, 5]}, "a box is a list of 4 numbers"),
        ({"box": [5, 2, 1, 6]}, "has no area"),
        ({"box": [1, 2, 5, 6], "label": "cat"}, "unknown key 'label'"),
        ({"box": [1, 2, 5, 6], "point": [1, 2]}, "is of box and point"),
        ({"unit": "relative"}, "is of nothing"),
        ({"box": [1, 2, 5, 6], "unit": "relative"}, "from 0 to 1"),
        ({"box": [1, 2, 5, 6], "unit": "percent"}, "unit is"),
        ({"box": [1, 2, 5, float("nan")]}, "finite"),
        ({"box": [1, 2, 5, 10**400]}, "finite"),
        ({"box": ["1", 2, 5, 6]}, "coordinates are numbers"),
        ({"polygon": [[0, 0], [1, 1]]}, "has 3 to"),
        ({"polygon": [[0, 0], [1, 1, 1], [2, 2]]}, "a corner of a polygon"),
        ({"mask": "none.png"}, "there is no mask"),
        ({"mask": {"size": [8, 8], "counts": [3, 4]}}, "are of 7 pixels"),
        ({"mask": {"size": [8, 8], "counts": "ab\\u00e9"}}, "no text of COCO's"),
        ({"mask": {"size": [10**6, 10**6], "counts": [10**12]}}, "at most"),
        ({"mask": {"size": [8, 8], "counts": [32, 32]}, "unit": "relative"}, "a mask has no unit"),
        ("Europe", "there is no mask"),
        ("[1, 2", "is none"),
        (7, "not 7"),
        ([[1, 2, 5, 6], 7], "region 1, 7, is none"),
    ],
)
def test_a_cell_that_is_no_region_is_a_bad_row_and_says_where(folder, cell, told):
    path = jsonl(
        folder,
        {"image": "a.png", "caption": "red", "regions": [0, 0, 4, 4]},
        {"image": "a.png", "caption": "red", "regions": cell},
    )
    table = open_pairs(path)
    assert table[0].query.regions == (Box(0, 0, 4, 4),)
    with pytest.raises(BadRowError, match=r"t\.jsonl, line 2: the regions") as raised:
        table[1]
    assert told in str(raised.value)
    good, bad = open_source(path, column="image").records()
    assert good.error is None
    assert told in str(bad.error)


def test_regions_without_an_image_in_their_row_are_a_bad_row(folder):
    path = jsonl(
        folder, {"image": None, "text": "x", "box": [0, 0, 4, 4]}, {"image": "a.png", "text": "y", "box": [0, 0, 4, 4]}
    )
    bad, good = open_source(path, column="image+text+box").records()
    assert "no image that they are of" in str(bad.error)
    assert good.value.modalities == {"image", "text", "regions"}


def test_regions_are_of_the_role_that_their_name_says(folder):
    row = {
        "query_image": "a.png",
        "query_text": "same but",
        "positive_image": "a.png",
        "query_box": [0, 0, 4, 4],
        "positive_mask": "m.png",
    }
    row |= {"negatives_image": ["a.png", "a.png"], "negatives_regions": [[{"point": [1, 1]}], None]}
    pair = open_pairs(jsonl(folder, row))[0]
    assert pair.query.regions == (Box(0, 0, 4, 4),)
    assert (np.asarray(pair.positive.regions[0].pixels) == BITS).all()
    assert [negative.regions for negative in pair.negatives] == [(Point(1, 1),), ()]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"query_image": "a.png", "positive_image": "a.png", "box": [0, 0, 4, 4]},
            "of which image are the regions in column box",
        ),
        (
            {"query_image": "a.png", "positive_text": "a", "positive_box": [0, 0, 4, 4]},
            "holds regions of the positive, and no column is an image",
        ),
    ],
)
def test_regions_of_no_clear_image_are_refused(folder, row, told):
    with pytest.raises(TableError, match=told):
        open_pairs(jsonl(folder, row))
    column = "box" if "box" in row else "positive_box"
    assert open_pairs(jsonl(folder, row), ignore=[column])[0].query.regions == ()


def test_a_table_of_texts_has_no_regions_and_one_said_to_have_them_is_refused(folder):
    path = jsonl(folder, {"query": "a", "positive": "b", "mask": "x"})
    assert open_pairs(path).schemas[0].unused == ("mask",)
    with pytest.raises(TableError, match="of which image"):
        open_pairs(path, columns={"regions": "mask"})


def test_columns_to_embed_are_followed_as_they_are_asked_for(folder):
    path = jsonl(folder, {"photo": "a.png", "box": [0, 0, 4, 4], "place": [1, 1, 3, 3], "caption": "red"})
    (boxed,) = open_source(path, column="photo").records()
    assert boxed.value.regions == (Box(0, 0, 4, 4),)
    (whole,) = open_source(path, column="photo", options=Options(ignore=("box",))).records()
    assert whole.value == folder / "a.png"
    (other,) = open_source(path, column="regions=place+image=photo").records()
    assert other.value.regions == (Box(1, 1, 3, 3),)
    with pytest.raises(TableError, match=r"choose both: --column image\+box"):
        open_source(path, column="box")
    with pytest.raises(TableError, match="holds images"):
        open_source(path, column="photo+box", modalities={"text"})
    (text,) = open_source(path, modalities={"text"}).records()
    assert text.value == "red"
    assert text.attributes[1] == "[0, 0, 4, 4]"


def test_two_columns_of_regions_are_not_chosen_between(folder):
    path = jsonl(folder, {"image": "a.png", "box": [0, 0, 4, 4], "mask": "m.png"})
    with pytest.raises(TableError, match="could both be the regions"):
        open_source(path)
    (record,) = open_source(path, column="image+mask").records()
    assert isinstance(record.value.regions[0], Mask)


def test_a_mask_outside_of_the_folder_that_was_given_is_not_opened(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("other") / "m.png"
    Image.fromarray(BITS).save(elsewhere)
    inside = folder / "data"
    inside.mkdir()
    (inside / "a.png").write_bytes((folder / "a.png").read_bytes())
    table = jsonl(inside, {"file_name": "a.png", "caption": "red", "mask": str(elsewhere)})
    table.rename(inside / "metadata.jsonl")
    with pytest.raises(BadRowError, match="outside"):
        open_pairs(inside)[0]
    (record,) = open_source(inside, column="file_name").records()
    assert "outside" in str(record.error)


@pytest.mark.parametrize("ending", ENDINGS)
def test_pairs_with_regions_are_written_and_read_again(folder, ending):
    image = folder / "a.png"
    first = Pair(
        Item(image=image, regions=(Box(1, 2, 5, 6), Point.relative(0.5, 0.25))),
        Item(text="red"),
        negatives=(Item(image=image, regions=(Mask(BITS),)), Item(image=image)),
        extra_positives=(Item(image=image, regions=(Polygon([(0, 0), (4, 0), (0, 4.5)]),)),),
    )
    pairs = [first, Pair(Item(image=image), Item(text="blue"))]
    table = open_pairs(write_pairs(pairs, folder / f"out{ending}"))
    for written, read in zip(pairs, (table[0], table[1]), strict=True):
        assert [key(item) for item in written.items()] == [key(item) for item in read.items()]


def test_masks_of_a_parquet_table_may_be_bytes(folder):
    buffer = io.BytesIO()
    Image.fromarray(BITS).save(buffer, "PNG")
    cell = {"bytes": buffer.getvalue(), "path": None}
    image = {"bytes": (folder / "a.png").read_bytes(), "path": None}
    pq.write_table(pa.Table.from_pylist([{"image": image, "caption": "red", "mask": cell}]), folder / "t.parquet")
    (mask,) = open_pairs(folder / "t.parquet")[0].query.regions
    assert (np.asarray(mask.pixels) == BITS).all()
    source = open_source(folder / "t.parquet", column="image")
    (record,) = source.records()
    assert (np.asarray(record.value.regions[0].pixels) == BITS).all()
    assert source.regions is None  # bytes are not kept beside the vectors, which is said
    assert any("mask" in note for note in source.notes)
