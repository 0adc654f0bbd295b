"""Bulk embedding: what counts as an input, quarantine, refusals (`test_bulk_again`: runs over what has changed; `test_bulk_stops`: kills)."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zoo
from tests.bulk.bulk_support import embed, inputs_of, make_images, make_table, open_source, quarantined, stored
from tests.inputs.bad_images import NO_HEIC
from zoo.bulk.limit import Limit
from zoo.errors import ArgumentError, FingerprintMismatchError, FolderError, TableError, TooManyBadItemsError

# -- sources --------------------------------------------------------------------------------------------------------


def test_a_folder_is_walked_in_order_and_says_what_it_left_out(clip, tmp_path):
    photos = tmp_path / "photos"
    make_images(photos, 10)
    (photos / ".hidden.png").write_bytes(b"x")
    (photos / ".git").mkdir()
    (photos / "notes.txt").write_text("no image")
    (photos / "loop").symlink_to(photos)
    (photos / "no-suffix").write_bytes((photos / "00000.png").read_bytes())
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "iphone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    (photos / "page.jpg").write_text("<!doctype html><title>not found</title>")
    report = embed(clip, photos, tmp_path / "out")
    ids, vectors = stored(tmp_path / "out")
    assert ids == sorted(ids, key=lambda one: one.split("/"))
    assert ids == sorted([*(p.relative_to(photos).as_posix() for p in photos.rglob("0*.png")), "no-suffix"])
    assert (report.inputs, report.vectors, report.bad) == (15, 11, 4)
    assert report.ignored == {"hidden": 2, "not-an-image": 1, "linked-folder": 1}
    assert {bad["id"]: bad["reason"] for bad in quarantined(tmp_path / "out")} == {
        "empty.jpg": "not-media",
        "iphone.heic": NO_HEIC,
        "gone.jpg": "missing-file",
        "page.jpg": "not-media",
    }
    expected = clip.encode([photos / one for one in ids])
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-6)
    table = pq.read_table(tmp_path / "out" / "shards")
    assert table.schema.field("vector").type == pa.list_(pa.float32(), clip.spec.dim)
    assert set(table.column("folder").to_pylist()) == {"", "b", "b/c"}


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes only on POSIX")
def test_a_file_name_that_is_no_unicode_is_quarantined(clip, tmp_path):
    make_images(tmp_path / "photos", 2)
    with open(os.fsencode(tmp_path / "photos") + b"/caf\xe9.png", "wb") as file:
        file.write((tmp_path / "photos" / "00000.png").read_bytes())
    assert embed(clip, tmp_path / "photos", tmp_path / "out").reasons == {"file-name": 1}
    assert quarantined(tmp_path / "out")[0]["id"] == "caf\\xe9.png"


def test_the_output_inside_the_source_is_not_embedded(clip, tmp_path):
    make_images(tmp_path, 3)
    make_images(tmp_path / "out" / "thumbnails", 3)
    assert embed(clip, tmp_path, tmp_path / "out").inputs == 3
    assert embed(clip, tmp_path, tmp_path / "out").new == 0


def test_lines_of_a_text_file(text, tmp_path):
    source = tmp_path / "lines.txt"
    source.write_bytes("\ufeffa cat\r\n\n  \n\x0ca dog\x0cwith a form feed\nno newline".encode())
    report = embed(text, source, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "shards")
    assert table.column("text").to_pylist() == ["a cat", "\x0ca dog\x0cwith a form feed", "no newline"]
    assert table.column("id").to_pylist() == ["0", "3", "4"]
    assert table.column("reference").to_pylist() == ["lines.txt#0", "lines.txt#3", "lines.txt#4"]
    assert report.ignored == {"blank-line": 2}


def test_a_csv_file_keeps_its_other_columns_with_their_types(text, tmp_path):
    source = make_table(tmp_path / "t.csv", 8)
    with source.open("a") as file:
        file.write(
            ',cat,2000,1,true,\n"text, with ""quotes""\nand a line",dog,,2,false,x\nshort,dog\nlong,a,1,2,true,,7\n'
        )
    report = embed(text, source, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "shards")
    assert {
        field.name: str(field.type) for field in table.schema if field.name not in ("id", "reference", "vector")
    } == {
        "text": "string",
        "label": "string",
        "year": "int64",
        "score": "double",
        "fresh": "bool",
        "note": "string",
    }
    rows = {row["id"]: row for row in table.to_pylist()}
    assert rows["3"]["year"] == 1993
    assert rows["3"]["score"] == 3 / 8
    assert rows["3"]["fresh"] is False
    assert rows["9"]["text"] == 'text, with "quotes"\nand a line'
    assert rows["9"]["year"] is None
    assert report.reasons == {"empty-text": 1, "bad-row": 2}
    bad = quarantined(tmp_path / "out")
    assert [one["id"] for one in bad] == ["8", "10", "11"]
    assert bad[1]["message"] == "t.csv, line 13: 2 cells, and the header has 6"
    np.testing.assert_allclose(rows["9"]["vector"], text.encode_document(rows["9"]["text"]).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-20", ""], "int64"),
        (["1", "2.5", "-0.001", "1e+16"], "double"),
        (["1.0", "2.5", "1e-05"], "double"),
        (["1", "1.0", "2.5"], "double"),
        (["1.30"], "string"),
        (["1e5"], "string"),
        ([".5"], "string"),
        (["+5"], "string"),
        (["-0"], "string"),
        ([" 5"], "string"),
        (["1_000"], "string"),
        (["0.1", "9007199254740993"], "string"),
        (["9223372036854775807", "-9223372036854775808"], "int64"),
        (["9223372036854775808"], "string"),
        (["007"], "string"),
        (["1", "true"], "string"),
        (["True", "false", ""], "bool"),
        (["nan"], "string"),
        (["", ""], "string"),
        (["12345678901234567890123"], "string"),
        (["1.", "-"], "string"),
    ],
)
def test_types_of_csv_columns(text, tmp_path, cells, kind):
    source = tmp_path / "t.csv"
    source.write_text("text;value\n" + "".join(f"a;{cell}\n" for cell in cells))
    schema = open_source(source).schema
    assert str(schema.field("value").type) == kind


def test_json_lines(text, tmp_path):
    source = tmp_path / "t.jsonl"
    rows = [{"caption": "a cat", "n": 1, "tags": ["x", "é"]}, {"caption": "a dog", "n": 2.5, "id": "mine"}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines += ["", "{broken", "[1]", '{"caption": 5}', '{"n": 1}', '{"caption": "\\ud800"}']
    source.write_text("\n".join(lines))
    report = embed(text, source, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "shards")
    assert table.column("tags").to_pylist() == ['["x", "é"]', None]
    assert table.column("n").to_pylist() == [1.0, 2.5]
    assert table.column("id_").to_pylist() == [None, "mine"]
    assert report.reasons == {"bad-row": 3, "empty-text": 1, "invalid-text": 1}
    assert [bad["index"] for bad in quarantined(tmp_path / "out")] == [2, 3, 4, 5, 6]


def test_images_named_in_a_table_lie_beside_it(clip, tmp_path, monkeypatch):
    make_images(tmp_path / "data", 3)
    source = tmp_path / "data" / "list.csv"
    source.write_text("path,label\n00000.png,a\nb/00001.png,b\nmissing.png,c\nhttp://example.org/x.png,d\n")
    monkeypatch.chdir("/")
    report = embed(clip, source, tmp_path / "out")
    ids, vectors = stored(tmp_path / "out")
    assert ids == ["0", "1"]
    assert report.reasons == {"missing-file": 2}
    np.testing.assert_allclose(vectors[1], clip.encode(tmp_path / "data" / "b" / "00001.png").numpy(), atol=1e-6)
    assert inputs_of(tmp_path / "out").find("b/00001.png") == (tmp_path / "data" / "b" / "00001.png").resolve()


@pytest.mark.parametrize("wrapped", [False, True])
def test_images_inside_a_parquet_table(clip, tmp_path, wrapped):
    make_images(tmp_path, 9)
    files = sorted(tmp_path.rglob("*.png"))
    cells = [path.read_bytes() for path in files]
    table = {
        "shot": [{"bytes": cell, "path": None} for cell in cells] if wrapped else cells,
        "thumbnail": cells,
        "name.first": [path.stem for path in files],
        "_size": list(range(9)),
        "tags": [["x"]] * 9,
    }
    pq.write_table(pa.table(table), tmp_path / "t.parquet", row_group_size=4)
    embed(clip, tmp_path / "t.parquet", tmp_path / "out", column="shot")
    found = pq.read_table(tmp_path / "out" / "shards")
    assert found.column_names == ["id", "reference", "vector", "name_first", "size", "tags"]
    assert found.column("tags").to_pylist() == ['["x"]'] * 9
    np.testing.assert_allclose(stored(tmp_path / "out")[1], clip.encode(files).numpy(), atol=1e-6)
    assert inputs_of(tmp_path / "out").find("t.parquet#5") == cells[5]


def test_which_column_is_meant(tmp_path):
    source = tmp_path / "t.csv"
    both = frozenset({"text", "image"})

    def column(header, modalities=both, **options):
        source.write_text(header + "\n" + ",".join("x" for _ in header.split(",")) + "\n")
        found = open_source(source, modalities=frozenset(modalities), **options)
        return found.column, found.kind

    assert column("id,Caption") == ("Caption", "text")
    assert column("id,file") == ("file", "image")
    assert column("caption,image", {"text"}) == ("caption", "text")
    assert column("caption,image", both, kind="image") == ("image", "image")
    assert column("a,b", both, column="b", kind="text") == ("b", "text")
    with pytest.raises(TableError, match=r"several columns.*caption, image.*--column"):
        column("caption,image")
    with pytest.raises(TableError, match=r"none of the columns.*a, b"):
        column("a,b")
    with pytest.raises(TableError, match="--kind text or --kind image"):
        column("a,b", column="b")
    with pytest.raises(TableError, match=r"no column 'c'.*a, b"):
        column("a,b", column="c")
    with pytest.raises(TableError, match="reads text only"):
        column("image", {"text"})
    with pytest.raises(TableError, match="name of its own"):
        column("text,text")


def test_what_is_no_source(text, clip, tmp_path):
    with pytest.raises(TableError, match="does not exist"):
        embed(text, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "x.xlsx").write_bytes(b"")
    with pytest.raises(TableError, match=r"ends in \.xlsx"):
        embed(text, tmp_path / "x.xlsx", tmp_path / "out")
    (tmp_path / "x.csv").write_bytes(b"")
    with pytest.raises(TableError, match="is empty"):
        embed(text, tmp_path / "x.csv", tmp_path / "out")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match="no readable Parquet"):
        embed(text, tmp_path / "x.parquet", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="nothing to embed"):
        embed(clip, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(TableError, match="reads text only"):
        embed(text, tmp_path / "empty", tmp_path / "out")


# -- bad inputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "inputs"), [(2, 31), ("0.5%", 111)])
def test_too_many_bad_inputs_stop_the_job_and_each_is_listed_once(text, tmp_path, limit, inputs):
    source, out = tmp_path / "t.jsonl", tmp_path / "out"
    bad = (3, 20, 30) if limit == 2 else (5, 60, 110)
    source.write_text("".join("{}\n" if i in bad else json.dumps({"text": f"text {i}"}) + "\n" for i in range(400)))
    with pytest.raises(TooManyBadItemsError, match=r"3 of the first.*3 empty-text.*quarantine\.jsonl.*--max-bad"):
        embed(text, source, out, shard_size=25, max_bad=limit)
    assert len(stored(out)[0]) == inputs - 3
    assert [one["index"] for one in quarantined(out)] == list(bad)
    with pytest.raises(TooManyBadItemsError):
        embed(text, source, out, shard_size=25, max_bad=limit)
    assert len(stored(out)[0]) == inputs - 3
    report = embed(text, source, out, shard_size=25, max_bad=3)
    assert (report.new, report.bad) == (400 - inputs, 3)
    assert [one["index"] for one in quarantined(out)] == list(bad)


def test_a_share_is_of_all_inputs_wherever_the_bad_ones_stand(text, tmp_path):
    source = tmp_path / "t.jsonl"
    source.write_text("{}\n" * 4 + "".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(196)))
    assert embed(text, source, tmp_path / "out", max_bad="2%").bad == 4


def test_a_share_is_judged_at_the_end_of_a_small_source(text, tmp_path):
    source = tmp_path / "t.jsonl"
    source.write_text('{"text": "a"}\n{}\n{"text": "b"}\n')
    with pytest.raises(TooManyBadItemsError, match="allowed are 20% of the inputs"):
        embed(text, source, tmp_path / "out", max_bad="20%")
    assert embed(text, source, tmp_path / "out", max_bad="50%").bad == 1


def test_a_job_without_a_single_good_input_fails(text, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": ""}\n{"text": " "}\n')
    with pytest.raises(TooManyBadItemsError, match="2 of the first 2 inputs"):
        embed(text, tmp_path / "t.jsonl", tmp_path / "out")


def test_limits():
    assert Limit.parse(None) == Limit()
    assert not Limit.parse(None).exceeded(10**6, 10**6)
    assert Limit.parse("0").exceeded(1, 1)
    for share in range(1, 100):  # the limit itself is allowed, though 0.29 * 100 is a little less than 29
        assert not Limit.parse(f"{share}%").exceeded(share, 100)
        assert Limit.parse(f"{share}%").exceeded(share + 1, 100)
    for wrong in ("x", "-1", "101%", "%", 1.5):
        with pytest.raises(ArgumentError, match="max_bad"):
            Limit.parse(wrong)


# -- refusals -------------------------------------------------------------------------------------------------------


def test_another_model_prompt_or_precision_is_refused(text, clip, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 5), tmp_path / "out"
    embed(text, source, out, prompt="say: ")
    with pytest.raises(FingerprintMismatchError, match=r"prompt: .say: . there"):
        embed(text, source, out)
    with pytest.raises(FingerprintMismatchError, match="precision: 'float32' there, 'int8' here"):
        embed(text, source, out, prompt="say: ", precision="int8")
    with pytest.raises(FingerprintMismatchError, match="model: 'text-test' there, 'clip-test' here"):
        embed(clip, source, out, prompt="say: ")
    (out / "manifest.json").unlink()  # the shards know it too
    with pytest.raises(FingerprintMismatchError, match="prompt"):
        embed(text, source, out)
    assert embed(text, source, out, prompt="say: ").new == 0


def test_texts_get_the_document_prompt(tmp_path):
    model = zoo.build_model("text-test")
    from dataclasses import replace

    model.spec = replace(model.spec, prompts={"query": "query: ", "document": "passage: "})
    source = make_table(tmp_path / "t.csv", 3)
    embed(model, source, tmp_path / "out")
    expected = model.encode_document([f"text {i}" for i in range(3)])
    np.testing.assert_allclose(stored(tmp_path / "out")[1], expected.numpy(), atol=1e-6)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["fingerprint"]["prompt"] == "passage: "


def test_appended_rows_are_added(text, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 50), tmp_path / "out"
    embed(text, source, out, shard_size=20)
    make_table(source, 70, start=50)
    report = embed(text, source, out, shard_size=20)
    assert (report.new, report.vectors) == (20, 70)
    assert stored(out)[0] == [str(i) for i in range(70)]


@pytest.mark.parametrize(("precision", "kind", "width"), [("int8", "int8", 32), ("binary", "uint8", 4)])
def test_precisions(text, tmp_path, precision, kind, width):
    source = make_table(tmp_path / "t.csv", 5)
    embed(text, source, tmp_path / "out", precision=precision)
    expected = text.encode_document([f"text {i}" for i in range(5)], precision=precision)
    vectors = stored(tmp_path / "out")[1]
    assert (str(vectors.dtype), vectors.shape) == (kind, (5, width))
    assert np.abs(vectors.astype(int) - expected.numpy().astype(int)).max() <= (1 if precision == "int8" else 0)


def test_options_that_do_not_fit(text, tmp_path):
    source = make_table(tmp_path / "t.csv", 5)
    for options, message in (
        ({"dim": 33}, "dim must be between 1 and 32"),
        ({"dim": 0}, "dim must be between 1 and 32"),
        ({"precision": "half"}, "precision must be float32, int8 or binary"),
        ({"dim": 12, "precision": "binary"}, "divisible by 8"),
        ({"shard_size": 0}, "shard_size must be at least 1"),
    ):
        with pytest.raises(ArgumentError, match=message):
            embed(text, source, tmp_path / "out", **options)
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="is a file"):
        embed(text, source, tmp_path / "file")
    with pytest.raises(FolderError, match="cannot write into"):
        embed(text, source, tmp_path / "file" / "out")
