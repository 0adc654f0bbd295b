"""Pairs of Parquet files and tar shards."""

import json
import os
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tables.train_tables import BLUE, IMAGE, RED, shard
from zoo.errors import BadRowError, TableError
from zoo.tables import open_pairs
from zoo.tables.parquet import RowGroups
from zoo.tables.webdataset import read_headers

pytestmark = pytest.mark.usefixtures("cache_home")


def parquet(path: Path, rows: list[dict], fields: dict[str, pa.DataType], group: int = 2, metadata: dict | None = None):
    schema = pa.schema(
        fields, metadata={"huggingface": json.dumps({"info": {"features": metadata}})} if metadata else None
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=group)
    return path


# ------------------------------------------------------------------------------------------------ Parquet


def test_parquet_with_bytes_paths_and_lists(tmp_path):
    (tmp_path / "red.png").write_bytes(RED)
    rows = [
        {"image": {"bytes": BLUE, "path": None}, "text": "blue", "negatives": ["red", "green"]},
        {"image": {"bytes": None, "path": "red.png"}, "text": "red", "negatives": []},
        {"image": {"bytes": RED, "path": "x.png"}, "text": "also red", "negatives": None},
    ]
    kinds = {"image": IMAGE, "text": pa.string(), "negatives": pa.list_(pa.string())}
    table = open_pairs(parquet(tmp_path / "p.parquet", rows, kinds))
    assert [pair.query.image for pair in table] == [BLUE, tmp_path / "red.png", RED]
    assert [[item.text for item in pair.negatives] for pair in table] == [["red", "green"], [], []]
    assert [pair.where for pair in table] == [f"p.parquet, row {i}" for i in range(3)]
    assert table.blocks() == [range(2), range(2, 3)]
    assert "query     image  column image" in str(table.schemas[0])


def test_media_are_told_by_the_files_types(tmp_path):
    kinds = {"query": pa.binary(), "positive": pa.string()}
    table = open_pairs(parquet(tmp_path / "a.parquet", [{"query": RED, "positive": "red"}], kinds))
    assert table.schemas[0].query[0].modality == "media"
    assert table[0].query.modalities == {"image"}
    noted = {"query": {"_type": "Audio"}}
    table = open_pairs(parquet(tmp_path / "b.parquet", [{"query": RED, "positive": "red"}], kinds, metadata=noted))
    assert table[0].query.modalities == {"audio"}
    table = open_pairs(parquet(tmp_path / "c.parquet", [{"query": b"no media", "positive": "red"}], kinds))
    assert len(table.problems()) == 1
    with pytest.raises(BadRowError, match=r"c.parquet, row 0: the query: 8 bytes is a text file"):
        table[0]


def test_numbered_classes_have_names(tmp_path):
    rows = [{"image": RED, "label": 1}, {"image": BLUE, "label": 0}, {"image": BLUE, "label": -1}]
    noted = {"label": {"_type": "ClassLabel", "names": ["blue", "red"]}}
    table = open_pairs(parquet(tmp_path / "p.parquet", rows, {"image": pa.binary(), "label": pa.int64()}, 2, noted))
    assert [table[row].positive.text for row in (0, 1)] == ["red", "blue"]
    assert table.problems() == ["p.parquet, row 2: the label is empty"]  # -1 is no class, as on the Hub


def test_bad_rows_of_parquet_are_found_when_read(tmp_path):
    rows = [
        {"image": {"bytes": RED, "path": None}, "text": "red"},
        {"image": None, "text": "nothing"},
        {"image": {"bytes": None, "path": "gone.png"}, "text": "gone"},
        {"image": {"bytes": RED, "path": None}, "text": " "},
    ]
    table = open_pairs(parquet(tmp_path / "p.parquet", rows, {"image": IMAGE, "text": pa.string()}))
    assert table[0].positive.text == "red"
    with pytest.raises(BadRowError, match=r"^p.parquet, row 1: the image is empty$"):
        table[1]
    problems = table.problems()
    assert [line.split(":")[0] for line in problems] == ["p.parquet, row 1", "p.parquet, row 2", "p.parquet, row 3"]
    assert "no image" in problems[1]
    assert table.problems(1) == problems[:1]


def test_problems_read_no_bytes_that_are_all_there(tmp_path, monkeypatch):
    rows = [
        {"image": RED, "text": "red"},
        {"image": RED, "text": ""},
        {"image": RED, "text": "x"},
        {"image": None, "text": ""},
    ]
    table = open_pairs(parquet(tmp_path / "p.parquet", rows, {"image": pa.binary(), "text": pa.string()}))
    asked = []
    read = RowGroups.read
    monkeypatch.setattr(
        RowGroups, "read", lambda self, group, columns: asked.append(columns) or read(self, group, columns)
    )
    assert table.problems() == ["p.parquet, row 1: the text is empty", "p.parquet, row 3: the image is empty"]
    assert asked == [["text"], ["image", "text"]]
    asked.clear()
    assert len(table.problems(keep=np.array([True, True, False, False]))) == 1
    assert asked == [["text"]]  # of the split of no row of a group nothing is read


def test_of_a_large_table_some_blocks_are_looked_at(tmp_path):
    rows = [{"query": "" if i % 10 == 3 else "q", "positive": "p"} for i in range(100)]
    table = open_pairs(parquet(tmp_path / "p.parquet", rows, {"query": pa.string(), "positive": pa.string()}, 10))
    assert len(table.problems()) == 10
    assert table.problems(most=30) == [f"p.parquet, row {row}: the query is empty" for row in (3, 43, 83)]
    assert len(table.problems(4, None)) == 4


def test_texts_of_parquet_that_are_not_utf8(tmp_path):
    texts = pa.array([b"fine", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"query": texts, "positive": pa.array(["a", "b"])}), tmp_path / "p.parquet")
    table = open_pairs(tmp_path / "p.parquet")
    assert table[0].query.text == "fine"
    assert table.problems() == ["p.parquet, row 1: a text is not UTF-8"]


def test_empty_row_groups_are_passed_over(tmp_path):
    schema = pa.schema({"query": pa.string(), "positive": pa.string()})
    with pq.ParquetWriter(tmp_path / "p.parquet", schema) as writer:
        for texts in ([], ["a"], [], ["b", ""]):
            writer.write_table(pa.Table.from_pylist([{"query": text, "positive": "p"} for text in texts], schema))
    table = open_pairs(tmp_path / "p.parquet")
    assert table.blocks() == [range(1), range(1, 3)]
    assert [table[row].query.text for row in range(2)] == ["a", "b"]
    assert table.problems() == ["p.parquet, row 2: the query is empty"]


@pytest.mark.parametrize(
    ("rows", "kinds", "message"),
    [
        ([], {"image": pa.binary(), "text": pa.string()}, r"p.parquet holds no rows"),
        ([{"image": RED, "text": 5}], {"image": pa.binary(), "text": pa.int64()}, r"column text holds int64, not text"),
        (
            [{"image": 5, "text": "x"}],
            {"image": pa.int64(), "text": pa.string()},
            r"column image holds int64, not bytes or",
        ),
        ([{"id": 5}], {"id": pa.int64()}, r"no pairs can be made of the columns id"),
    ],
)
def test_bad_parquet(tmp_path, rows, kinds, message):
    with pytest.raises(TableError, match=message):
        open_pairs(parquet(tmp_path / "p.parquet", rows, kinds))


def test_damaged_parquet_and_files_that_differ(tmp_path):
    kinds = {"query": pa.string(), "positive": pa.string()}
    rows = [{"query": f"q{i}", "positive": f"p{i}"} for i in range(50)]
    whole = parquet(tmp_path / "a-0.parquet", rows, kinds, 10).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    with pytest.raises(TableError, match=r"cut.parquet is no Parquet file, or damaged"):
        open_pairs(tmp_path / "cut.parquet")
    hurt = bytearray(whole)
    hurt[4:80] = b"\xff" * 76
    (tmp_path / "hurt.parquet").write_bytes(hurt)
    with pytest.raises(TableError, match=r"hurt.parquet, row group 0 is damaged"):
        open_pairs(tmp_path / "hurt.parquet")[0]
    parquet(tmp_path / "a-1.parquet", [{"query": "q", "other": "x"}], {"query": pa.string(), "other": pa.string()})
    with pytest.raises(TableError, match=r"a-1.parquet has no column positive, and a-0.parquet has"):
        open_pairs(tmp_path / "a-*.parquet")
    parquet(tmp_path / "a-1.parquet", [{"query": "q", "positive": 5}], {"query": pa.string(), "positive": pa.int64()})
    with pytest.raises(TableError, match=r"column positive is int64 in a-1.parquet and string in a-0.parquet"):
        open_pairs(tmp_path / "a-*.parquet")


def test_several_parquet_files_and_a_data_set_column(tmp_path):
    kinds = {"query": pa.string(), "positive": pa.string(), "dataset": pa.string()}
    for i, name in enumerate(["nq", "fever"]):
        rows = [{"query": f"{name} {j}", "positive": "p", "dataset": name} for j in range(3)]
        parquet(tmp_path / f"part-{i}.parquet", rows, kinds)
    table = open_pairs(tmp_path)
    assert table.names == ["nq", "fever"]
    assert table.datasets.tolist() == [0, 0, 0, 1, 1, 1]
    assert [pair.query.text for pair in table] == ["nq 0", "nq 1", "nq 2", "fever 0", "fever 1", "fever 2"]
    assert table.where(4) == "part-1.parquet, row 1"
    assert table.blocks() == [range(2), range(2, 3), range(3, 5), range(5, 6)]
    pandas = pa.table({"query": ["a", "b"], "positive": ["c", "d"], "task": [float("nan"), 1.0]})
    pq.write_table(pandas, tmp_path / "pandas.parquet")
    assert open_pairs(tmp_path / "pandas.parquet", name="own").names == ["own", "1.0"]  # NaN is an empty cell


def test_memory_does_not_grow_with_the_images(tmp_path):
    noise = np.random.default_rng(0)
    with pq.ParquetWriter(tmp_path / "p.parquet", pa.schema([("image", pa.binary()), ("text", pa.string())])) as writer:
        for _ in range(24):  # 24 row groups of 2 MB
            rows = [{"image": noise.bytes(250_000), "text": "x"} for _ in range(8)]
            writer.write_table(pa.Table.from_pylist(rows, writer.schema))
    groups = RowGroups([tmp_path / "p.parquet"], budget=5_000_000)
    arrow_before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        order = np.random.default_rng(1).permutation(len(groups))
        sizes = [len(groups.cells(int(row))["image"]) for row in order]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sizes == [250_000] * 192  # 48 MB were read
    assert groups.kept_bytes <= 5_000_000
    # Two groups are kept, one is being read, and Arrow's threads may still hold one or two that were let go: not all 24.
    assert pa.total_allocated_bytes() - arrow_before < 16_000_000
    assert peak < 2_000_000


def test_threads_read_each_row_group_once(tmp_path, monkeypatch):
    rows = [{"query": f"q{i}", "positive": f"p{i}"} for i in range(400)]
    table = open_pairs(parquet(tmp_path / "p.parquet", rows, {"query": pa.string(), "positive": pa.string()}, 50))
    asked = []
    read = RowGroups.read
    monkeypatch.setattr(
        RowGroups, "read", lambda self, group, columns: asked.append(group) or read(self, group, columns)
    )
    order = np.random.default_rng(0).permutation(400).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = [pair.query.text for pair in pool.map(table.__getitem__, order)]
    assert found == [f"q{i}" for i in order]
    assert sorted(asked) == list(range(8))


def test_the_row_groups_that_were_asked_for_last_are_kept(tmp_path, monkeypatch):
    path = parquet(tmp_path / "p.parquet", [{"text": str(i) * 1000} for i in range(3)], {"text": pa.string()}, 1)
    asked = []
    read = RowGroups.read
    monkeypatch.setattr(
        RowGroups, "read", lambda self, group, columns: asked.append(group) or read(self, group, columns)
    )

    def reads(budget: int, *rows: int) -> list[int]:
        asked.clear()
        groups = RowGroups([path], budget=budget)
        assert [groups.cells(row)["text"][0] for row in rows] == [str(row) for row in rows]
        return list(asked)

    one = RowGroups([path])
    one.cells(0)
    assert reads(2 * one.kept_bytes, 0, 1, 0, 2, 0, 1) == [0, 1, 2, 1]
    assert reads(0, 0, 0, 1, 1) == [0, 1]  # the last one always
    path.rename(tmp_path / "away")
    with pytest.raises(TableError, match="row group 1 is damaged or cut off"):
        one.cells(1)
    (tmp_path / "away").rename(path)
    assert one.cells(1)["text"][0] == "1"  # a disk that was away is asked again


# ------------------------------------------------------------------------------------------------ tar shards


def test_shards_of_images_and_texts(tmp_path):
    first = {"0/a.jpg": RED, "0/a.txt": "red\n", "0/b.txt": "blue", "0/b.PNG": BLUE, "0/b.json": '{"width": 4}'}
    shard(tmp_path / "s-000.tar", first)
    shard(tmp_path / "s-001.tar", {"c.cls": "3", "c.txt": "blue again", "c.png": BLUE})
    table = open_pairs(f"{tmp_path}/s-{{000..001}}.tar")
    assert [(pair.query.image, pair.positive.text) for pair in table] == [
        (RED, "red"),
        (BLUE, "blue"),
        (BLUE, "blue again"),
    ]
    assert [pair.where for pair in table] == ["s-000.tar, 0/a", "s-000.tar, 0/b", "s-001.tar, c"]
    assert table.blocks() == [range(2), range(2, 3)]
    assert table.problems() == []
    assert len(open_pairs(tmp_path)) == 3


def test_shards_with_roles_and_json_fields(tmp_path):
    fields = json.dumps({"query_text": "in blue", "score": 0.5, "negatives": ["x", "y"], "caption": "unused"})
    path = shard(tmp_path / "a.tar", {"1.query.jpg": RED, "1.positive.jpg": BLUE, "1.json": fields})
    pair = open_pairs(path)[0]
    assert pair.query.modalities == {"text", "image"}
    assert pair.positive.image == BLUE
    assert pair.score == 0.5
    assert [item.text for item in pair.negatives] == ["x", "y"]
    # A file goes before a field of the same meaning; fields stand in for what no file is.
    path = shard(tmp_path / "b.tar", {"1.jpg": RED, "1.txt": "file", "1.json": '{"caption": "field"}'})
    assert open_pairs(path)[0].positive.text == "file"
    path = shard(tmp_path / "c.tar", {"1.jpg": RED, "1.json": '{"caption": "field"}'})
    assert open_pairs(path)[0].positive.text == "field"
    path = shard(tmp_path / "d.tar", {"1.jpg": RED, "1.txt": "file", "1.json": '{"title": "said"}'})
    assert open_pairs(path, columns={"text": "title"})[0].positive.text == "said"
    path = shard(tmp_path / "e.tar", {"1.query.txt": "a", "1.positive.txt": "b", "1.score": "0.5\n"})
    assert open_pairs(path)[0].score == 0.5
    path = shard(tmp_path / "f.tar", {"1.jpg": RED, "1.class": "0", "2.jpg": BLUE, "2.class": "1"})
    assert [pair.positive.text for pair in open_pairs(path)] == ["0", "1"]  # no other text is there


def test_bad_samples_are_found_when_read(tmp_path):
    samples = {"a.jpg": RED, "a.txt": "red", "b.jpg": RED, "c.txt": "no image", "d.jpg": b"", "d.txt": "x"}
    samples |= {"e.jpg": RED, "e.txt": b"\xff\xfe"}
    table = open_pairs(shard(tmp_path / "s.tar", samples))
    with pytest.raises(BadRowError, match=r"^s.tar, b: the text is empty$"):
        table[1]
    assert table.problems() == [
        "s.tar, b: the text is empty",
        "s.tar, c: the image is empty",
        "s.tar, d: the image is empty",
        "s.tar, e: its .text is not UTF-8",
    ]


def test_broken_shards(tmp_path):
    path = shard(tmp_path / "s.tar", {f"{i}.txt": "x" * 2000 for i in range(3)} | {"a.jpg": RED, "a.txt": "x"})
    whole = path.read_bytes()
    for content, message in [
        (b"", r"s.tar is no tar, damaged or cut off"),
        (b"no tar at all" * 100, r"s.tar is no tar, damaged or cut off"),
        (whole[:1500], r"s.tar is no tar, damaged or cut off"),
        (whole[:2560] + b"\x07" * 512 + whole[3072:], r"s.tar: damaged after byte 2,560 \(0\)"),
    ]:
        path.write_bytes(content)
        with pytest.raises(TableError, match=message):
            open_pairs(path)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(TableError, match=r"compressed tar, .* unpack it to a plain .tar"):
        open_pairs(path)
    shard(path, {})
    with pytest.raises(TableError, match=r"s.tar holds no samples"):
        open_pairs(path)
    shard(path, {"a.jpg": RED, "a.png": RED, "a.txt": "x"})
    with pytest.raises(TableError, match=r"s.tar, a: two files could be its image; the second is a.png"):
        open_pairs(path)


def test_the_index_is_kept_until_the_shard_changes(tmp_path, cache_home, monkeypatch):
    read = []
    monkeypatch.setattr("zoo.tables.webdataset.read_headers", lambda path: read.append(path.name) or read_headers(path))
    path = shard(tmp_path / "s.tar", {"a.jpg": RED, "a.txt": "red"})
    for _ in range(2):
        assert open_pairs(path)[0].positive.text == "red"
    assert read == ["s.tar"]
    (kept,) = cache_home.rglob("*.npz")
    kept.write_bytes(kept.read_bytes()[:100])  # a damaged index is made again
    assert open_pairs(path)[0].positive.text == "red"
    shard(path, {"b.txt": "blue", "b.jpg": BLUE, "c.txt": "x", "c.jpg": RED})
    os.utime(path, ns=(1, 1))
    assert [pair.positive.text for pair in open_pairs(path)] == ["blue", "x"]
    assert read == ["s.tar"] * 3


def test_a_shard_that_was_cut_after_opening_names_the_sample(tmp_path):
    path = shard(tmp_path / "s.tar", {"a.jpg": RED, "a.txt": "red"})
    table = open_pairs(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(TableError, match=r"s.tar, a: the shard is cut off; was it changed"):
        table[0]


def test_without_a_cache_folder_headers_are_read_every_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(open_pairs(shard(tmp_path / "s.tar", {"a.jpg": RED, "a.txt": "red"}))) == 1
