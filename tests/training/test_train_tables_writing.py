"""Pairs of data packs, and what `write_pairs` writes."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tables.train_tables import BLUE, RED
from zoo.errors import TableError
from zoo.inputs.item import Item
from zoo.tables import open_pairs, pack_pairs, write_pairs
from zoo.tables.pairs import Pair
from zoo.tables.writing import ENDINGS

pytestmark = pytest.mark.usefixtures("cache_home")


# ------------------------------------------------------------------------------------------------ packs


def test_a_pack_gives_the_pairs_of_its_reader_row_by_row(pack):
    pack("symbols")
    table = open_pairs("pack:symbols", split="val")
    expected = pack_pairs("val", ["symbols"])
    assert len(table) == len(expected)
    for row in (0, 7, len(table) - 1):
        assert same(table[row], expected[row])
        assert table[row].name == expected[row].name
    assert table[3].where == "pack:symbols/val, row 3"
    assert table[3].dataset == "symbols"


def test_packs_are_tables_of_their_own_columns_too(pack):
    table = open_pairs(pack("audio") / "val.parquet")
    pair = table[0]
    assert pair.query.modalities == {"audio"}
    assert pair.positive.text
    assert pair.extra_positives
    passages = open_pairs(pack("text") / "passages-val.parquet")
    assert passages[0].query.modalities == passages[0].positive.modalities == {"text"}
    assert "positive  text  column passage" in str(passages.schemas[0])
    assert passages.problems() == []


# ------------------------------------------------------------------------------------------------ writing


def same(a: Pair, b: Pair) -> bool:
    """Equal in everything that is written; media by their bytes."""

    def content(item: Item) -> tuple:
        media = (getattr(item, name) for name in ("image", "video", "audio"))
        return (item.text, *(value.read_bytes() if isinstance(value, Path) else value for value in media))

    items = [
        [content(item) for item in (pair.query, pair.positive, *pair.negatives, *pair.extra_positives)]
        for pair in (a, b)
    ]
    sizes = [(len(pair.negatives), len(pair.extra_positives), pair.score, pair.teacher_scores) for pair in (a, b)]
    return items[0] == items[1] and sizes[0] == sizes[1]


@pytest.fixture
def pairs(tmp_path) -> list[Pair]:
    (tmp_path / "pics").mkdir()
    red = tmp_path / "pics" / "red.png"
    red.write_bytes(RED)
    return [
        Pair(
            Item(text="the same in blue", image=red),
            Item(image=BLUE),
            (Item(text="x"), Item(image=red), Item(text="y", image=BLUE)),
            (Item(image=red),),
            group="blue things",
            dataset="composed",
            teacher_scores=(0.9, 0.5, 0.25, 0.125),
        ),
        Pair(Item(text="blue"), Item(text="azure"), group="azure", dataset="words", score=0.75),
        Pair(
            Item(audio=b"OggS..."),
            Item(text="a bell"),
            (Item(text="a horn"),),
            group="a bell",
            dataset="words",
            score=0.5,
        ),
    ]


@pytest.mark.parametrize("name", ["mined.csv", "mined.tsv", "mined.jsonl", "mined.parquet"])
def test_written_pairs_are_read_again(pairs, tmp_path, name):
    composed, plain = pairs[:1], pairs[1:]
    for number, part in enumerate((composed, plain)):
        path = write_pairs(part, tmp_path / "out" / f"{number}-{name}")
        table = open_pairs(path)
        assert [same(a, b) for a, b in zip(table, part, strict=True)] == [True] * len(part)
        assert [(pair.group, pair.dataset) for pair in table] == [(pair.group, pair.dataset) for pair in part]
        assert table.problems() == []


ODD = [
    '5" disk',
    '"quoted"',
    "tab\there",
    "new\nline",
    "cr\rhere",
    "crlf\r\nhere",
    "semi;colon,comma",
    "nel\x85x",
    "[1, 2]",
]
ODD += ['["a"]', "007", "1.30", "{}", "sep=;", "=1+1", "'", '""', "a|b", '"', "x\x0by", "日本", "#c", "\\N", "trail\\"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_odd_texts_come_back(ending, tmp_path):
    size = len(ODD)
    odd = [
        Pair(
            Item(text=words),
            Item(text=f"{words} too"),
            tuple(Item(text=ODD[(i + k) % size]) for k in range(1, 1 + i % 3)),
            (Item(text=ODD[(i + 5) % size]),)[: i % 2],
            group=f"0{i}",
        )
        for i, words in enumerate(ODD)
    ]
    for part in (odd, *([pair] for pair in odd)):
        found = open_pairs(write_pairs(part, tmp_path / f"t{ending}")).check()
        assert [same(a, b) and a.group == b.group for a, b in zip(found, part, strict=True)] == [True] * len(part)


def test_paths_are_relative_to_the_file_and_bytes_lie_beside_it(pairs, tmp_path):
    path = write_pairs(pairs[:1], tmp_path / "out" / "mined.jsonl")
    row = json.loads(path.read_text())
    assert row["query_image"] == "../pics/red.png"
    assert row["positive_image"].startswith("mined-media/")
    assert row["positive_image"].endswith(".png")
    assert len(list((tmp_path / "out" / "mined-media").iterdir())) == 1  # equal bytes are one file
    (tmp_path / "pics" / "red.png").rename(tmp_path / "blob")  # as in the cache of the Hub's client
    (tmp_path / "pics" / "red.png").symlink_to(tmp_path / "blob")
    path = write_pairs(pairs[:1], tmp_path / "out" / "mined.jsonl")
    assert json.loads(path.read_text())["query_image"] == "../pics/red.png"
    (tmp_path / "out").rename(tmp_path / "moved")
    assert open_pairs(tmp_path / "moved" / "mined.jsonl")[0].positive.image.read_bytes() == BLUE


def test_pil_images_are_written_as_png(tmp_path):
    image = Image.new("RGB", (4, 4), (220, 20, 20))
    table = open_pairs(write_pairs([Pair(Item(image=image), Item(text="red"))], tmp_path / "p.parquet"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(table[0].query.image))), np.asarray(image))


def test_large_parquet_files_have_small_row_groups(tmp_path):
    pairs = [Pair(Item(image=bytes([i % 7]) * 3_000_000), Item(text=str(i))) for i in range(25)]
    table = open_pairs(write_pairs(pairs, tmp_path / "p.parquet"))
    assert [len(block) for block in table.blocks()] == [12, 12, 1]
    assert table[24].positive.text == "24"


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({}, "p.txt", r"p.txt ends in .txt; pairs are written to .csv, .tsv, .jsonl or .parquet"),
        ({"positive": Item(audio=np.zeros(8))}, "p.parquet", "its audio is ndarray; only files and bytes are written"),
        (
            {"positive": Item(text="a", instruction="find it"), "negatives": (Item(text="b"),)},
            "p.csv",
            r"its targets have different instructions \['', 'find it'\]; only one is written",
        ),
    ],
)
def test_what_cannot_be_written_leaves_nothing(tmp_path, change, name, message):
    good = Pair(Item(image=RED), Item(text="red"))
    with pytest.raises(TableError, match=message):
        write_pairs([good, replace(good, **change)], tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TableError, match="there are no pairs to write"):
        write_pairs([], tmp_path / "p.jsonl")


def test_what_was_written_before_stays_where_writing_it_anew_fails(tmp_path):
    good = Pair(Item(image=RED), Item(text="red"))
    path = write_pairs([good], tmp_path / "p.jsonl")
    with pytest.raises(TableError, match="its audio is ndarray"):
        write_pairs([good, replace(good, positive=Item(audio=np.zeros(8)))], path)
    (pair,) = open_pairs(path)
    assert pair.query.image.read_bytes() == RED
