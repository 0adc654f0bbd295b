"""Several files read as one table, and what stands beside them: nothing of a later file is lost without a word."""

import io
import json
import tarfile
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bulk.bulk_support import open_source
from zoo.errors import TableError
from zoo.tables import open_pairs
from zoo.tables.options import Options
from zoo.tables.sources import find_tables

CSV = "query,positive\na,b\n"
PAIR = {"query": ["a"], "positive": ["b"]}


def parts(folder: Path, *tables: dict) -> Path:
    """A folder of Parquet files, one a table."""
    folder.mkdir(exist_ok=True)
    for number, columns in enumerate(tables):
        pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), folder / f"{number}.parquet")
    return folder


def kept(source: Path, column: str) -> tuple[str, list]:
    """The type and the values of a column that bulk keeps beside the vectors of `query`."""
    found = open_source(source, column="query")
    place = found.schema.names.index(column)
    return str(found.schema.field(column).type), [record.attributes[place] for record in found.records()]


@pytest.mark.parametrize(
    ("column", "value"), [("score", 0.0), ("label", 0), ("negative", "n"), ("group", "g"), ("teacher_scores", [1.0])]
)
@pytest.mark.parametrize("later", [True, False])
def test_a_known_column_that_one_file_lacks_is_named_wherever_it_is(tmp_path, column, value, later):
    tables = [PAIR, PAIR | {column: [value]}]
    folder = parts(tmp_path / "t", *(tables if later else tables[::-1]))
    lacks, has = ("0", "1") if later else ("1", "0")
    with pytest.raises(TableError, match=rf"{lacks}\.parquet has no column {column}, and {has}\.parquet .*--ignore"):
        open_pairs(folder)
    assert len(open_pairs(folder, ignore=[column])) == 2


@pytest.mark.parametrize("lacking", [PAIR, PAIR | {"label": pa.nulls(1)}])
@pytest.mark.parametrize("reverse", [False, True])
def test_labels_that_only_a_later_file_tells_are_judged_by_their_values(tmp_path, lacking, reverse):
    tables = [lacking, PAIR | {"label": ["entailment"]}]
    folder = parts(tmp_path / "t", *(tables[::-1] if reverse else tables))
    with pytest.raises(TableError, match="says whether a pair is right"):
        open_pairs(folder)


def test_a_column_without_values_is_of_the_type_that_other_files_say_and_others_are_named_unread(tmp_path):
    folder = parts(tmp_path / "t", PAIR | {"negative": pa.nulls(1)}, PAIR | {"negative": ["n"], "more": [1]})
    table = open_pairs(folder)
    assert [len(table[row].negatives) for row in range(2)] == [0, 1]
    assert table.schemas[0].unused == ("more",)


def test_numbers_that_name_other_classes_in_another_file_are_refused(tmp_path):
    def of(*names: str) -> pa.Table:
        feature = {"label": {"_type": "ClassLabel", "names": list(names)}}
        table = pa.table(PAIR | {"label": [0]})
        return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})

    assert open_pairs(parts(tmp_path / "same", of("cat", "dog"), of("cat", "dog")))[1].group == "cat"
    with pytest.raises(TableError, match=r"column label name other classes in 1\.parquet than in 0\.parquet"):
        open_pairs(parts(tmp_path / "other", of("cat", "dog"), of("dog", "cat")))


@pytest.mark.parametrize(
    ("one", "other", "kind", "values"),
    [
        (1234567890123456789, 1.5, "string", ["1234567890123456789", "1.5"]),
        (2024, float("inf"), "double", [2024.0, float("inf")]),
        (pa.scalar(2**64 - 1, pa.uint64()), -1, "string", ["18446744073709551615", "-1"]),
        (pa.scalar(7, pa.uint32()), -1, "int64", [7, -1]),
        (Decimal("1.30"), 1.1, "string", ["1.30", "1.1"]),
        (Decimal("1.3"), Decimal("12.25"), "decimal128(4, 2)", [Decimal("1.3"), Decimal("12.25")]),
        (None, 5, "int64", [None, 5]),
    ],
)
def test_a_type_of_two_files_keeps_the_values_of_both(tmp_path, one, other, kind, values):
    columns = [
        pa.array([value.as_py()], value.type) if isinstance(value, pa.Scalar) else pa.array([value])
        for value in (one, other)
    ]
    assert kept(parts(tmp_path / "t", *(PAIR | {"x": column} for column in columns)), "x") == (kind, values)


def test_bytes_inside_lists_and_objects_are_not_kept_as_text(tmp_path):
    columns = {
        "a": [[b"x"]],
        "b": [{"m": {"n": b"x"}}],
        "c": pa.array([[("k", b"x")]], pa.map_(pa.string(), pa.binary())),
    }
    pq.write_table(pa.table(PAIR | columns), tmp_path / "t.parquet")
    found = open_source(tmp_path / "t.parquet", column="query")
    assert found.schema.names == ["query", "positive"]
    assert "not kept beside the vectors, being bytes: a, b, c" in found.notes


def test_list_views_are_lists(tmp_path):
    several = pa.array([["b", "c"]], pa.list_view(pa.string()))
    pq.write_table(pa.table(PAIR | {"positive": several}), tmp_path / "t.parquet")
    pair = open_pairs(tmp_path / "t.parquet")[0]
    assert (pair.positive.text, [item.text for item in pair.extra_positives]) == ("b", ["c"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "idna", "ascii"])
def test_an_encoding_that_a_file_has_not_is_named(tmp_path, encoding):
    (tmp_path / "t.csv").write_text("query,positive\né,b\n", encoding="utf-8")
    for read in (open_pairs, open_source):
        options = {"options": Options(encoding=encoding)} if read is open_source else {"encoding": encoding}
        with pytest.raises(TableError, match=r"t\.csv, line \d: not .*say another --encoding"):
            read(tmp_path / "t.csv", **options)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("utf-16", "utf-16-le"),
        ("utf-16", "utf-16"),
        ("utf-32", "utf-32-le"),
        ("utf-8-sig", "utf-8"),
        ("utf-8-sig", None),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_mark_is_no_letter_of_the_first_line_whatever_encoding_is_said(tmp_path, written, said, mark):
    (tmp_path / "t.csv").write_text(mark + CSV, encoding=written)
    (tmp_path / "t.jsonl").write_text(mark + json.dumps({"query": "a", "positive": "b"}), encoding=written)
    (tmp_path / "t.txt").write_text(mark + "a", encoding=written)
    for name in ("t.csv", "t.jsonl"):
        assert open_pairs(tmp_path / name, encoding=said)[0].query.text == "a"
    assert [r.value for r in open_source(tmp_path / "t.txt", options=Options(encoding=said)).records()] == ["a"]


def test_a_table_and_its_packed_form_are_not_two(tmp_path):
    (tmp_path / "t.csv").write_text("query,positive\na,b\n")
    pa.output_stream(tmp_path / "t.csv.gz", compression="gzip").write((tmp_path / "t.csv").read_bytes())
    for read, source in ((open_pairs, tmp_path), (open_source, tmp_path), (open_pairs, tmp_path / "t.*")):
        with pytest.raises(TableError, match=r"t\.csv and t\.csv\.gz are one table"):
            read(source)


def test_partitions_may_have_images_beside_them_and_no_other_tables(tmp_path):
    for key in ("de", "en"):
        parts(tmp_path / f"lang={key}", PAIR)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    assert len(open_pairs(tmp_path)) == open_source(tmp_path, column="query").count() == 2
    parts(tmp_path / "more", PAIR)
    for read in (open_pairs, open_source):
        with pytest.raises(TableError, match=r"more/0\.parquet is of none"):
            read(tmp_path)


def test_texts_beside_images_follow_the_options(tmp_path):
    for name, text in (("a", "café".encode("cp1252")), ("b", b"nan"), ("c", b"x")):
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        (tmp_path / f"{name}.txt").write_bytes(text)
    assert len(open_pairs(tmp_path).problems()) == 2
    table = open_pairs(tmp_path, encoding="cp1252", as_text=["nan"])
    assert [table[row].positive.text for row in range(3)] == ["café", "nan", "x"]
    (tmp_path / "c.txt").write_text("é", encoding="utf-16")
    assert open_pairs(tmp_path)[2].positive.text == "é"


def test_a_root_that_is_no_folder_is_refused_even_where_no_path_is_read(tmp_path):
    (tmp_path / "t.csv").write_text("query,positive\na,b\n")
    with pytest.raises(TableError, match=r"root .*gone is no folder"):
        open_pairs(tmp_path / "t.csv", root=tmp_path / "gone")
    with pytest.raises(TableError, match=r"root .*gone is no folder"):
        open_source(tmp_path / "t.csv", column="query", options=Options(root=tmp_path / "gone"))


def shard(path: Path, *samples: dict[str, bytes]) -> Path:
    """A WebDataset tar; a sample is its files by ending."""
    with tarfile.open(path, "w") as tar:
        for number, files in enumerate(samples):
            for ending, content in files.items():
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_a_field_that_only_later_samples_have_is_read_and_a_broken_one_stops_no_other(tmp_path):
    fields = [
        b'{"caption": "x"}',
        b"{broken",
        b'{"caption": "y", "score": 0, "split": "train"}',
        b'{"caption": "z", "split": "test"}',
    ]
    path = shard(tmp_path / "s.tar", *({"png": b"-", "json": field} for field in fields[:3]))
    table = open_pairs(path, ignore=["split"])
    assert table.schemas[0].score == "score"
    assert [problem[:8] for problem in table.problems()] == ["s.tar, 0", "s.tar, 1"]  # without a score, and no JSON
    assert table[2].score == 0
    path = shard(tmp_path / "t.tar", *({"png": b"-", "json": field} for field in fields[1:]))
    assert [len(open_pairs(path, split=split, ignore=["score"])) for split in ("train", "test")] == [
        2,
        2,
    ]  # a broken one is of both
    assert [bool(r.error) for r in open_source(path, column="caption").records()] == [True, False, False]


def test_texts_of_shards_follow_the_encoding_that_is_said(tmp_path):
    path = shard(tmp_path / "s.tar", {"png": b"-", "txt": "café".encode("cp1252")})
    assert "not UTF-8" in open_pairs(path).problems()[0]
    assert open_pairs(path, encoding="cp1252")[0].positive.text == "café"
    (record,) = open_source(path, column="text", options=Options(encoding="cp1252")).records()
    assert record.value == "café"
    with pytest.raises(TableError, match="no encoding of texts"):
        open_pairs(path, encoding="klingon")


@pytest.mark.parametrize(
    ("files", "read", "unread"),
    [
        (("a.csv", "more/b.csv"), 1, "more/b.csv"),
        (("train/a.csv", "test/a.csv", "all.csv"), 1, "t/all.csv"),
        (("train.csv", "extra.csv"), 1, "t/extra.csv"),
        (("metadata.csv", "b.jsonl"), 1, "t/b.jsonl"),
        (("cat/1.png", "dog/2.png", "dog/labels.csv"), 2, "dog/labels.csv"),
    ],
)
def test_tables_that_lie_beside_those_that_are_read_are_named(tmp_path, files, read, unread):
    for name in files:
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_text(CSV if name.endswith("csv") else "-")
    table = open_pairs(tmp_path / "t")
    assert len(table) == read
    assert f"also there and not read: {unread} (name them" in str(table.schemas[0])


def test_tables_among_the_vectors_are_nothing_that_could_be_read(tmp_path):
    for name in ("a.csv", "out/b.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(CSV)
    assert "out/b.csv" in find_tables(tmp_path, None).notes[0]
    assert find_tables(tmp_path, None, exclude=tmp_path / "out").notes == ()


def test_folders_of_splits_with_images_beside_them_are_no_folders_of_classes(tmp_path):
    for name in ("train/a.csv", "test/a.csv", "images/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(CSV)
    with pytest.raises(TableError, match=r"tables in folders of splits, .* name the tables: .*test"):
        open_pairs(tmp_path)
    assert len(open_pairs(tmp_path / "train")) == 1


def test_files_of_a_sample_that_no_name_says_to_be_texts_may_be_bytes(tmp_path):
    samples = [
        {"txt": b"a", "npy": b"plain"},
        {"txt": b"b", "npy": b"\xff\xfe\x00", "depth.png": b"\x89PNG"},
        {"txt": b"\xff"},
    ]
    found = open_source(shard(tmp_path / "s.tar", *samples), column="text")
    assert [record.value for record in found.records()] == ["a", "b", None]  # a text that is none is a bad row
    assert found.schema.names == ["text"]
    assert "not kept beside the vectors, being bytes: npy, depth.image" in found.notes
