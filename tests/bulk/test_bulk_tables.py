"""Bulk embedding of tables: shards, partitions, several files, splits, items of several parts, what is said, and resuming."""

import json
import shutil
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zoo
from tests.bulk.bulk_support import embed, inputs_of, open_source, quarantined, stored
from tests.tables.train_tables import as_csv, as_jsonl, png, shard
from zoo.errors import NoSplitError, TableError, TooManyBadItemsError, UnsupportedModalityError
from zoo.inputs.item import Item
from zoo.tables.options import Options

pytestmark = pytest.mark.usefixtures("cache_home")

IMAGES = [png(40 * i, 20, 200) for i in range(6)]


def kept(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((out / "shards").glob("*.parquet"))])


def source_facts(out: Path) -> dict:
    return json.loads((out / "manifest.json").read_text())["source"]


# ------------------------------------------------------------------------------------------------ kinds of tables


def test_shards_with_their_texts_and_fields(clip, tmp_path):
    files = {}
    for i in range(4):
        files |= {f"{i}.png": IMAGES[i], f"{i}.txt": f"caption {i}\n", f"{i}.json": json.dumps({"n": i, "tag": [1.50]})}
    shard(tmp_path / "s.tar", files | {"4.png": IMAGES[4], "4.json": "{broken"})
    report = embed(clip, tmp_path / "s.tar", tmp_path / "out", column="image")
    assert report.reasons == {"bad-row": 1}
    assert quarantined(tmp_path / "out")[0]["message"].startswith("s.tar, 4: its .json is no JSON")
    found = kept(tmp_path / "out")
    assert found.column_names == ["id", "reference", "vector", "text", "n", "tag"]
    assert found.column("text").to_pylist() == [f"caption {i}" for i in range(4)]
    assert found.column("n").to_pylist() == [0, 1, 2, 3]
    np.testing.assert_allclose(stored(tmp_path / "out")[1], clip.encode(IMAGES[:4]).numpy(), atol=1e-6)
    assert inputs_of(tmp_path / "out").find("s.tar#2") == IMAGES[2]
    assert inputs_of(tmp_path / "out").find("s.tar#77") is None


def test_a_relative_source_is_found_from_anywhere(clip, tmp_path, monkeypatch):
    pq.write_table(pa.table({"image": IMAGES[:2]}), tmp_path / "t.parquet")
    monkeypatch.chdir(tmp_path)
    embed(clip, "t.parquet", "out")
    monkeypatch.chdir("/")
    assert inputs_of(tmp_path / "out").find("t.parquet#1") == IMAGES[1]


def partitioned(folder: Path, years: dict[str, list[int]]) -> Path:
    for year, numbers in years.items():
        below = folder / f"year={year}" / "month=01"
        below.mkdir(parents=True, exist_ok=True)
        table = pa.table({"image": [IMAGES[i] for i in numbers], "n": numbers})
        pq.write_table(table, below / "part-0.parquet")
    return folder


def test_partitions_are_columns_and_a_new_one_is_added(clip, tmp_path):
    folder, out = partitioned(tmp_path / "data", {"2023": [0, 1]}), tmp_path / "out"
    assert embed(clip, folder, out).vectors == 2
    found = kept(out).to_pylist()
    assert [(row["n"], row["year"], row["month"]) for row in found] == [(0, 2023, "01"), (1, 2023, "01")]
    assert found[0]["id"] == found[0]["reference"] == "year=2023/month=01/part-0.parquet#0"
    assert inputs_of(out).find(found[1]["reference"]) == IMAGES[1]
    partitioned(folder, {"2024": [3], "__HIVE_DEFAULT_PARTITION__": [2]})
    assert embed(clip, folder, out).new == 2
    assert kept(out).column("year").to_pylist() == [2023, 2023, 2024, None]
    partitioned(folder, {"2022": [4]})
    report = embed(clip, folder, out)
    assert (report.added, report.unchanged) == (1, 4)
    assert kept(out).column("year").to_pylist() == [2022, 2023, 2023, 2024, None]
    (folder / "year=2022" / "part-1.parquet").write_bytes((folder / "year=2022/month=01/part-0.parquet").read_bytes())
    with pytest.raises(TableError, match=r"is of the partition year, and .* of year, month; .* name the same keys"):
        embed(clip, folder, out)


def test_several_files_are_one_source_and_types_hold_for_all(text, tmp_path):
    as_csv([{"text": "a", "n": "1", "x": "1"}, {"text": "b", "n": "2", "x": "2"}], tmp_path / "part-2.csv")
    as_csv([{"text": "c", "n": "2.5", "y": "é"}], tmp_path / "part-10.csv")
    embed(text, tmp_path / "part-*.csv", tmp_path / "out")
    found = kept(tmp_path / "out")
    assert found.column("id").to_pylist() == ["part-2.csv#0", "part-2.csv#1", "part-10.csv#0"]
    assert found.column("n").to_pylist() == [1.0, 2.0, 2.5]
    assert found.column("x").to_pylist() == [1, 2, None]
    assert found.column("y").to_pylist() == [None, None, "é"]
    pq.write_table(pa.table({"text": ["a"], "n": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "n": ["x"]}), tmp_path / "b.parquet")
    source = open_source(tmp_path / "*.parquet")
    assert source.schema.field("n").type == pa.string()
    assert [record.attributes for record in source.records()] == [("a", "1"), ("b", "x")]


@pytest.mark.parametrize(
    ("lines", "kind", "values"),
    [
        (["1.30", "2"], "string", ["1.30", "2"]),
        (["1e3", "0.5"], "string", ["1e3", "0.5"]),
        (["1", "2.5"], "double", [1.0, 2.5]),
        (["9007199254740993", "0.5"], "string", ["9007199254740993", "0.5"]),
        (["9007199254740993", "1"], "int64", [9007199254740993, 1]),
        (["123456789012345678901234567890", "1"], "string", ["123456789012345678901234567890", "1"]),
        (['"007"', "null"], "string", ["007", None]),
        (["true", "1"], "string", ["true", "1"]),
        (['{"a": 1.30, "b": [1e2, "x"]}', "null"], "string", ['{"a": 1.30, "b": [1e2, "x"]}', None]),
        (["NaN", "1.5"], "double", None),
    ],
)
def test_numbers_of_json_stay_as_they_are_spelled(lines, kind, values, tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(f'{{"text": "a", "value": {line}}}\n' for line in lines))
    source = open_source(tmp_path / "t.jsonl")
    assert str(source.schema.field("value").type) == kind
    found = [record.attributes[1] for record in source.records()]
    assert values is None or (found == values and list(map(type, found)) == list(map(type, values)))


def test_decimals_and_uuids_that_are_kept_as_text_have_no_quotes(tmp_path):
    for number, (column, kind) in enumerate([(Decimal("1.30"), pa.decimal128(5, 2)), (UUID(int=7), pa.uuid())]):
        pq.write_table(pa.table({"text": ["a"], "v": pa.array([column], kind)}), tmp_path / f"{number}-a.parquet")
        pq.write_table(pa.table({"text": ["a"], "v": ["some text"]}), tmp_path / f"{number}-b.parquet")
        source = open_source(tmp_path / f"{number}-*.parquet")
        assert [record.attributes[1] for record in source.records()] == [str(column), "some text"]


def test_the_text_of_a_column_with_an_odd_name_is_shown(text, tmp_path, capsys):
    from zoo.cli import main

    text.save_pretrained(tmp_path / "model")
    as_csv([{"id": "the first thing", "_more": "x"}, {"id": "another", "_more": "y"}], tmp_path / "t.csv")
    command = ["embed", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), "--model", str(tmp_path / "model")]
    assert main([*command, "--column", "text=id"]) == 0
    assert main(["search", str(tmp_path / "out"), "thing", "--backend", "exact", "--where", "id_ = 'another'"]) == 0
    assert "another" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main(["search", str(tmp_path / "out"), "thing", "--backend", "exact", "--html", str(page)]) == 0
    assert "<p>the first thing</p>" in page.read_text()


def test_a_text_is_embedded_as_it_stands(text, tmp_path):
    texts = ["  spaces before", "and after  ", " \tboth "]
    embed(text, as_jsonl([{"text": one} for one in [*texts, "  "]], tmp_path / "t.jsonl"), tmp_path / "out")
    np.testing.assert_allclose(stored(tmp_path / "out")[1], text.encode_document(texts).numpy(), atol=1e-6)
    assert [bad["reason"] for bad in quarantined(tmp_path / "out")] == ["empty-text"]
    assert kept(tmp_path / "out").column("text").to_pylist() == texts


def test_a_damaged_row_group_loses_its_own_rows(text, tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(30)]}), path, row_group_size=10)
    whole = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    whole[start : start + 60] = b"\xff" * 60
    path.write_bytes(whole)
    report = embed(text, path, tmp_path / "out")
    assert (report.inputs, report.reasons) == (30, {"bad-row": 10})
    assert stored(tmp_path / "out")[0] == [str(i) for i in (*range(10), *range(20, 30))]
    assert quarantined(tmp_path / "out")[0]["message"].startswith(
        "t.parquet, row 10: row group 1 is damaged or cut off"
    )


def test_vectors_may_lie_inside_a_partitioned_folder(clip, tmp_path):
    folder = partitioned(tmp_path, {"2023": [0, 1]})
    assert [embed(clip, folder, folder / "vectors").new for _ in range(2)] == [2, 0]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_partitions_of_text_files(kind, tmp_path):
    write = as_csv if kind == "csv" else as_jsonl
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        write([{"text": f"of {year}"}], tmp_path / f"year={year}" / f"a.{kind}")
    source = open_source(tmp_path)
    assert source.schema.field("year").type == pa.int64()
    assert [(r.id, r.value, r.attributes[1]) for r in source.records()] == [
        (f"year={year}/a.{kind}#0", f"of {year}", year) for year in (2023, 2024)
    ]
    write([{"text": "of 2024", "year": 1999}], tmp_path / "year=2024" / f"a.{kind}")
    assert [r.attributes[1] for r in open_source(tmp_path).records()] == [2023, 1999]  # a column goes before a folder


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_that_occurs_twice_is_named(kind, text, tmp_path):
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), path)
    else:
        path.write_text("text,text\na,b\n" if kind == "csv" else '{"text": "a", "text": "b"}\n')
    with pytest.raises(TableError, match="column text occurs twice"):
        embed(text, path, tmp_path / "out")


# ------------------------------------------------------------------------------------------------ items of several parts


def test_an_image_and_its_text_are_one_vector(clip, text, tmp_path):
    rows = [{"img": f"{i}.png", "title_text": f"thing {i}", "id": str(i)} for i in range(3)]
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(IMAGES[i])
    path = as_csv([*rows, {"img": "", "title_text": "words alone", "id": "x"}], tmp_path / "t.csv")
    report = embed(clip, path, tmp_path / "out", column=["img", "text=title_text"])
    assert report.reasons == {"missing-file": 1}
    expected = clip.encode_document([*(Item(image=IMAGES[i], text=f"thing {i}") for i in range(2)), "words alone"])
    np.testing.assert_allclose(stored(tmp_path / "out")[1], expected.numpy(), atol=1e-6)
    assert kept(tmp_path / "out").column("reference").to_pylist() == ["0.png", "1.png", "t.csv#3"]
    facts = source_facts(tmp_path / "out")
    assert (facts["kind"], facts["column"], facts["media"]) == ("image+text", "img+title_text", "img")
    assert embed(clip, path, tmp_path / "out", column=["img", "text=title_text"]).new == 0
    with pytest.raises(TableError, match=r"t.csv holds images, and this model reads text only"):
        embed(text, path, tmp_path / "no", column=["img", "text=title_text"])
    assert not (tmp_path / "no").exists()


def test_a_model_that_reads_both_apart_refuses_them_together(tmp_path):
    model = zoo.build_model("clip-test")
    model.fusion = None
    path = as_csv([{"query_image": "a.png", "query_text": "b"}], tmp_path / "t.csv")
    with pytest.raises(
        UnsupportedModalityError, match=r"columns query_image\+query_text of .*t.csv: .*not image\+text in one"
    ):
        embed(model, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_list_in_a_cell_is_one_item_or_a_bad_row(text, tmp_path):
    rows = [{"captions": ["a"]}, {"captions": ["a", "b"]}, {"captions": []}, {"captions": "c"}]
    records = list(open_source(as_jsonl(rows, tmp_path / "t.jsonl")).records())
    assert [record.value for record in records] == ["a", None, None, "c"]
    assert "the captions is a list of 2, and a row is one vector" in str(records[1].error)
    path = as_csv([{"captions": '["a"]'}, {"captions": "[not a list"}], tmp_path / "t.csv")
    assert [record.value for record in open_source(path).records()] == ["a", "[not a list"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], "column text holds whole numbers, not text"),
        ([0.5, 2], "column text holds numbers, not text"),
        ([b"x", b"y"], "column text holds bytes, not text"),
    ],
)
def test_columns_that_are_no_texts_are_named_before_the_work(values, message, tmp_path):
    pq.write_table(pa.table({"text": values}), tmp_path / "t.parquet")
    with pytest.raises(TableError, match=message):
        open_source(tmp_path / "t.parquet", column="text", kind="text")


# ------------------------------------------------------------------------------------------------ options


SPLITS = ["train", "val", "train", "dev", "test"]


@pytest.mark.parametrize("name", ["split", "subset"])
def test_rows_of_a_split(name, text, tmp_path):
    path = as_csv([{"text": f"t {i}", name: split} for i, split in enumerate(SPLITS)], tmp_path / "t.csv")
    report = embed(text, path, tmp_path / "out", split="validation")
    assert (report.inputs, report.ignored) == (2, {"other-split": 3})
    assert stored(tmp_path / "out")[0] == ["1", "3"]
    assert open_source(path).count() == 5
    with pytest.raises(NoSplitError, match=r"has no row of the split 'nope': column .* holds train"):
        open_source(path, options=Options(split="nope"))
    as_csv([{"text": "a", "part_of": "train"}, {"text": "b", "part_of": "test"}], tmp_path / "u.csv")
    with pytest.raises(
        NoSplitError, match=r"u.csv has no split 'test': no column says which .*its columns: text, part_of"
    ):
        open_source(tmp_path / "u.csv", options=Options(split="test"))
    told = open_source(tmp_path / "u.csv", column=["text", "split=part_of"], options=Options(split="test"))
    assert [record.value for record in told.records()] == ["b"]
    as_csv([{"text": "a", "split": "part-a"}], tmp_path / "v.csv")
    with pytest.raises(TableError, match="column split holds 'part-a'"):
        open_source(tmp_path / "v.csv", options=Options(split="test"))


def test_files_and_folders_of_a_split(tmp_path):
    for name in ("train", "test"):
        as_csv([{"text": name}], tmp_path / f"{name}.csv")
        (tmp_path / "pics" / name).mkdir(parents=True)
        (tmp_path / "pics" / name / "a.png").write_bytes(IMAGES[0])
    values = [record.value for record in open_source(tmp_path / "*.csv").records()]
    assert values == ["test", "train"]
    shutil.move(tmp_path / "pics", tmp_path.parent / f"{tmp_path.name}-pics")
    assert [r.value for r in open_source(tmp_path, options=Options(split="test")).records()] == ["test"]
    pics = tmp_path.parent / f"{tmp_path.name}-pics"
    assert [r.reference for r in open_source(pics, options=Options(split="test")).records()] == ["a.png"]
    assert len(list(open_source(pics).records())) == 2
    with pytest.raises(NoSplitError, match="has no split 'val'"):
        open_source(pics, options=Options(split="val"))


def test_what_was_decided_is_said_before_the_work(text, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("img;caption\na.png;x\n".encode("utf-16"))
    said = []
    embed(text, path, tmp_path / "out", say=said.append)
    assert said == [
        "embedding column caption (text); also there: img (--column)",
        "t.csv: its encoding is UTF-16",
        "t.csv: cells are separated by ';'",
    ]


def test_columns_of_bytes_that_are_not_kept_are_named(tmp_path):
    pq.write_table(
        pa.table({"text": ["a"], "thumbnail": [b"x"], "hash": pa.array([b"y" * 16], pa.binary(16))}),
        tmp_path / "t.parquet",
    )
    source = open_source(tmp_path / "t.parquet")
    assert source.notes[-1] == "not kept beside the vectors, being bytes: thumbnail, hash"
    assert source.schema.names == ["text"]


def test_columns_are_ignored_and_paths_have_a_root(clip, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(IMAGES[0])
    path = as_csv([{"image": "a.png", "text": "x", "label": "y"}], tmp_path / "t.csv")
    report = embed(clip, path, tmp_path / "out", ignore=["text"], root=tmp_path / "elsewhere")
    assert report.vectors == 1
    assert kept(tmp_path / "out").column_names == ["id", "reference", "vector", "image", "label"]
    assert inputs_of(tmp_path / "out").find("a.png") == tmp_path / "elsewhere" / "a.png"


def test_rows_that_are_none_count_as_inputs_and_as_bad_ones(text, tmp_path):
    lines = ["text,label", *(f"t {i},x" for i in range(6)), "short", ",empty", "nan,x", "a,b,c"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(
        TooManyBadItemsError, match=r"4 of the first 10 inputs .*3 bad-row.*allowed are 39% of the inputs"
    ):
        embed(text, tmp_path / "t.csv", tmp_path / "out", max_bad="39%")
    report = embed(text, tmp_path / "t.csv", tmp_path / "out", max_bad="40%")
    assert (report.inputs, report.vectors, report.reasons) == (10, 6, {"bad-row": 3, "empty-text": 1})
    report = embed(text, tmp_path / "t.csv", tmp_path / "all", as_text=["nan"])
    assert report.bad == 3
    assert stored(tmp_path / "all")[0] == ["0", "1", "2", "3", "4", "5", "8"]
