"""Pairs of Parquet files, tar shards, Hub data sets and data packs, and what `write_pairs` writes."""

import io
import json
import os
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from PIL import Image
from zoo.training.pairs import Pair
from zoo.training.tables import BadRowError, TableError, open_pairs, pack_pairs, write_pairs
from zoo.training.tables.parquet import RowGroups
from zoo.training.tables.webdataset import read_headers

from tests.hub import LoopbackHub
from zoo.errors import HubError
from zoo.items import Box, Item

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """The cache folder of this test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def png(*colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


RED, BLUE = png(220, 20, 20), png(20, 20, 220)


def parquet(path: Path, rows: list[dict], fields: dict[str, pa.DataType], group: int = 2, metadata: dict | None = None):
    schema = pa.schema(
        fields, metadata={"huggingface": json.dumps({"info": {"features": metadata}})} if metadata else None
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=group)
    return path


def shard(path: Path, samples: dict[str, str | bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in samples.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
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
    rows = [{"image": RED, "label": 1}, {"image": BLUE, "label": 0}]
    noted = {"label": {"_type": "ClassLabel", "names": ["blue", "red"]}}
    table = open_pairs(parquet(tmp_path / "p.parquet", rows, {"image": pa.binary(), "label": pa.int64()}, 2, noted))
    assert [pair.positive.text for pair in table] == ["red", "blue"]


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
    assert "no picture" in problems[1]
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
    with pytest.raises(TableError, match=r"hurt.parquet, row group 0: damaged"):
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


def test_memory_does_not_grow_with_the_pictures(tmp_path):
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
    assert pa.total_allocated_bytes() - arrow_before < 8_000_000
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


# ------------------------------------------------------------------------------------------------ tar shards


def test_shards_of_pictures_and_texts(tmp_path):
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


def test_bad_samples_are_found_when_read(tmp_path):
    samples = {"a.jpg": RED, "a.txt": "red", "b.jpg": RED, "c.txt": "no picture", "d.jpg": b"", "d.txt": "x"}
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


def test_the_index_is_kept_until_the_shard_changes(tmp_path, cache, monkeypatch):
    read = []
    monkeypatch.setattr(
        "zoo.training.tables.webdataset.read_headers", lambda path: read.append(path.name) or read_headers(path)
    )
    path = shard(tmp_path / "s.tar", {"a.jpg": RED, "a.txt": "red"})
    for _ in range(2):
        assert open_pairs(path)[0].positive.text == "red"
    assert read == ["s.tar"]
    (kept,) = cache.rglob("*.npz")
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


# ------------------------------------------------------------------------------------------------ the Hub


@pytest.fixture
def hub(loopback_hub: LoopbackHub, tmp_path, monkeypatch) -> LoopbackHub:
    """A loopback hub that this process's client talks to."""
    hub = loopback_hub
    hub.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return hub


def as_parquet(texts: list[str]) -> bytes:
    rows = [{"image": {"bytes": RED, "path": None}, "text": text} for text in texts]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema({"image": IMAGE, "text": pa.string()})), buffer)
    return buffer.getvalue()


def test_a_hub_data_set_of_parquet_files(hub):
    files = {
        "README.md": b"# pairs",
        "data/train-00000-of-00002.parquet": as_parquet(["a", "b"]),
        "data/train-00001-of-00002.parquet": as_parquet(["c"]),
        "data/test-00000-of-00001.parquet": as_parquet(["d"]),
    }
    hub.add(files, "datasets/org/pairs", tag="v1")
    table = open_pairs("hf:org/pairs")
    assert [pair.positive.text for pair in table] == ["a", "b", "c"]
    assert table.names == ["pairs"]
    assert sorted(hub.fetched()) == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert [pair.positive.text for pair in open_pairs("hf:org/pairs", split="test")] == ["d"]
    hub.add({"train.parquet": as_parquet(["new"])}, "datasets/org/pairs")
    assert [pair.positive.text for pair in open_pairs("hf:org/pairs@v1")] == ["a", "b", "c"]
    assert [pair.positive.text for pair in open_pairs("hf:org/pairs")] == ["new"]


def test_a_hub_data_set_is_found_again_without_a_network(hub, monkeypatch):
    commit = hub.add({"train.parquet": as_parquet(["a"])}, "datasets/org/pairs")
    assert len(open_pairs(f"hf:org/pairs@{commit}")) == 1
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(open_pairs(f"hf:org/pairs@{commit}")) == 1
    with pytest.raises(
        HubError, match="hf:org/other: the Hub is out of reach or in offline mode, and it is not cached"
    ):
        open_pairs("hf:org/other")


def test_a_hub_data_set_of_a_table_with_pictures(hub):
    hub.add({"metadata.csv": b"file_name,text\npics/a.png,red\n", "pics/a.png": RED}, "datasets/org/folder")
    (pair,) = open_pairs("hf:org/folder")
    assert pair.query.image.read_bytes() == RED


def test_a_hub_data_set_of_shards_and_of_lines(hub, tmp_path):
    content = shard(tmp_path / "x.tar", {"a.jpg": RED, "a.txt": "red"}).read_bytes()
    hub.add({"train/0.tar": content, "test/0.tar": content}, "datasets/org/shards")
    assert open_pairs("hf:org/shards")[0].positive.text == "red"
    hub.add({"train.jsonl": b'{"query": "a", "positive": "b"}\n'}, "datasets/org/lines")
    assert open_pairs("hf:org/lines")[0].where == "train.jsonl, line 1"


@pytest.mark.parametrize(
    ("source", "split", "error", "message"),
    [
        ("hf:org/nope", "train", HubError, "hf:org/nope: no such repository, or it is private"),
        ("hf:org/pairs@v9", "train", HubError, "hf:org/pairs@v9: no such branch, tag or commit"),
        ("hf:pairs", "train", HubError, "is no Hub data set; write hf:<org>/<name>"),
        ("hf:org/gated", "train", HubError, "access is restricted"),
        ("hf:org/pairs", "validation", TableError, r"has no split 'validation'; it has test, train"),
        ("hf:org/pairs/nope", "train", TableError, r"no .parquet, .*file below 'nope'"),
        ("hf:org/code", "train", TableError, r"no .parquet, .*file in it; found run.py"),
        ("hf:org/two", "train", TableError, r"several configurations: en, fr; name one, e.g. hf:org/two/en"),
    ],
)
def test_hub_data_sets_that_cannot_be_had(hub, source, split, error, message):
    hub.add({"train.csv": b"query,positive\na,b\n", "test.csv": b"query,positive\na,b\n"}, "datasets/org/pairs")
    hub.add({"run.py": b""}, "datasets/org/code")
    hub.add({"train.csv": b"query,positive\na,b\n"}, "datasets/org/gated", gated=True)
    two = {f"{name}/train-0.csv": b"query,positive\na,b\n" for name in ("en", "fr")}
    hub.add(two, "datasets/org/two")
    with pytest.raises(error, match=message):
        open_pairs(source, split=split)
    assert len(open_pairs("hf:org/two/fr")) == 1


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
    assert pair.also
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

    items = [[content(item) for item in (pair.query, pair.positive, *pair.negatives, *pair.also)] for pair in (a, b)]
    sizes = [(len(pair.negatives), len(pair.also), pair.score, pair.teacher_scores) for pair in (a, b)]
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


@pytest.mark.parametrize("name", ["mined.jsonl", "mined.parquet"])
def test_written_pairs_are_read_again(pairs, tmp_path, name):
    composed, plain = pairs[:1], pairs[1:]
    for number, part in enumerate((composed, plain)):
        path = write_pairs(part, tmp_path / "out" / f"{number}-{name}")
        table = open_pairs(path)
        assert [same(a, b) for a, b in zip(table, part, strict=True)] == [True] * len(part)
        assert [(pair.group, pair.dataset) for pair in table] == [(pair.group, pair.dataset) for pair in part]
        assert table.problems() == []


def test_paths_are_relative_to_the_file_and_bytes_lie_beside_it(pairs, tmp_path):
    path = write_pairs(pairs[:1], tmp_path / "out" / "mined.jsonl")
    row = json.loads(path.read_text())
    assert row["query_image"] == "../pics/red.png"
    assert row["positive_image"].startswith("mined-media/")
    assert row["positive_image"].endswith(".png")
    assert len(list((tmp_path / "out" / "mined-media").iterdir())) == 1  # equal bytes are one file
    (tmp_path / "out").rename(tmp_path / "moved")
    assert open_pairs(tmp_path / "moved" / "mined.jsonl")[0].positive.image.read_bytes() == BLUE


def test_pil_pictures_are_written_as_png(tmp_path):
    picture = Image.new("RGB", (4, 4), (220, 20, 20))
    table = open_pairs(write_pairs([Pair(Item(image=picture), Item(text="red"))], tmp_path / "p.parquet"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(table[0].query.image))), np.asarray(picture))


def test_large_parquet_files_have_small_row_groups(tmp_path):
    pairs = [Pair(Item(image=bytes([i % 7]) * 3_000_000), Item(text=str(i))) for i in range(25)]
    table = open_pairs(write_pairs(pairs, tmp_path / "p.parquet"))
    assert [len(block) for block in table.blocks()] == [12, 12, 1]
    assert table[24].positive.text == "24"


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({}, "p.csv", r"p.csv ends in .csv; pairs are written to .jsonl or .parquet"),
        ({"query": Item(image=RED, regions=(Box(0, 0, 1, 1),))}, "p.jsonl", "an item with regions cannot be written"),
        ({"positive": Item(audio=np.zeros(8))}, "p.parquet", "its audio is ndarray; only files and bytes are written"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(tmp_path, change, name, message):
    good = Pair(Item(image=RED), Item(text="red"))
    with pytest.raises(TableError, match=message):
        write_pairs([good, replace(good, **change)], tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TableError, match="there are no pairs to write"):
        write_pairs([], tmp_path / "p.jsonl")
