"""Cells that stand for a missing value, line ends, paths of Windows and other tools' layouts: read, or refused by name."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from zoo.training import open_pairs
from zoo.training.errors import UnreadColumnError
from zoo.training.unread import check_unread

from tests.tables.train_tables import KINDS, as_csv, as_jsonl, as_parquet, source_of
from tests.training.train_support import fresh, quick
from zoo.cli import main
from zoo.errors import BadRowError, TableError
from zoo.tables.arrow import keeps
from zoo.tables.cells import MISSING, Guess, label_kind

pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with two images in another one."""
    (tmp_path / "img").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), (220, 20, 20)).save(tmp_path / "img" / name)
    return tmp_path


# ------------------------------------------------------------------------------------------------ missing values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["nan", "NaN", "null", "None"])
def test_words_for_a_missing_value_are_refused_or_said_to_be_texts(word, kind, tmp_path, client_hub):
    rows = [{"query": "a", "positive": "b"}, {"query": "c", "positive": word}]
    source = source_of(kind, rows, tmp_path, client_hub)
    with pytest.raises(TableError, match=rf"the positive is '{word}'.* say --as-text {word} \(as_text=\['{word}'\]\)"):
        open_pairs(source)[1]
    assert open_pairs(source, as_text=[word])[1].positive.text == word
    assert len(open_pairs(source).problems()) == 1


@pytest.mark.parametrize("word", sorted(MISSING))
@pytest.mark.parametrize("column", ["query", "negative", "group", "dataset", "query_instruction"])
def test_no_column_of_words_takes_them(column, word, tmp_path):
    row = {"query": "a", "positive": "b", "negative": "c", column: word}
    path = as_csv([row], tmp_path / "t.csv")
    with pytest.raises(TableError, match=f"line 2: the {column} is '{word}'"):
        open_pairs(path).check()
    assert len(open_pairs(path, as_text=[word]).check()) == 1
    longer = as_csv([{**row, column: f"{word} and more"}], tmp_path / "longer.csv")
    assert len(open_pairs(longer).check()) == 1


def test_words_in_lists_and_numbers_that_are_none(tmp_path):
    path = as_jsonl([{"query": "a", "positive": ["b", "nan"]}], tmp_path / "t.jsonl")
    with pytest.raises(TableError, match="the positive is 'nan'"):
        open_pairs(path).check()
    table = pa.table({"query": ["a", "c"], "positive": ["b", "d"], "group": [1.0, float("nan")]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert [pair.group for pair in open_pairs(tmp_path / "t.parquet")] == ["1.0", ""]


def test_the_commands_take_the_option_that_the_message_names(tmp_path, capsys):
    rows = [{"query": f"q {i}", "positive": "nan" if i == 3 else f"p {i}"} for i in range(8)]
    path = as_csv(rows, tmp_path / "t.csv")
    command = ["train", str(path), "--model", "text-test", "--from-scratch", "--dry-run"]
    assert main(command) == 2
    assert "line 5: the positive is 'nan'" in capsys.readouterr().err
    assert main([*command, "--as-text", "nan"]) == 0
    fresh("text-test").save_pretrained(tmp_path / "teacher")
    mine = ["mine", str(path), "--teacher", str(tmp_path / "teacher"), "--out", str(tmp_path / "m.jsonl"), "--quiet"]
    assert main(mine) == 2
    assert "--as-text nan" in capsys.readouterr().err
    assert main([*mine, "--as-text", "nan", "--negatives", "1", "--relative-margin", "none"]) == 0


# ------------------------------------------------------------------------------------------------ files of other programs


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(name, end, mark, tmp_path):
    separator = "," if name == "t.csv" else "\t"
    lines = [separator.join(cells) for cells in (("query", "positive"), ("a", "b"), ("c", '"d e"'))]
    path = tmp_path / name
    path.write_bytes((mark + end.join(lines) + end).encode())
    pairs = open_pairs(path)
    assert [(pair.query.text, pair.positive.text) for pair in pairs] == [("a", "b"), ("c", "d e")]
    assert [pair.where for pair in pairs] == [f"{name}, line 2", f"{name}, line 3"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_of_json_lines(end, mark, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes((mark + end.join(['{"query": "a", "positive": "b"}', '{"query": "c", "positive": "d"}'])).encode())
    assert [pair.positive.text for pair in open_pairs(path)] == ["b", "d"]


def test_a_carriage_return_among_other_line_ends_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"query,positive\na,b\rc,d\ne,f\n")
    with pytest.raises(TableError, match=r"line 2: .*a carriage return \(CR\) stands inside a line; save the file"):
        open_pairs(path)
    path.write_bytes(b'query,positive\na,"b\rc"\n')
    assert open_pairs(path)[0].positive.text == "b\rc"


@pytest.mark.parametrize("kind", KINDS)
def test_paths_written_on_windows(kind, folder, client_hub, monkeypatch):
    rows = [{"image": f"img\\{name}.png", "text": name} for name in "ab"]
    source = source_of(kind, rows, folder, client_hub)
    pairs = open_pairs(source, root=folder)
    assert [pair.query.image for pair in pairs] == [folder / "img" / "a.png", folder / "img" / "b.png"]


def test_paths_of_a_drive_say_what_to_do(folder):
    path = as_csv([{"image": "C:\\data\\img\\a.png", "text": "a"}], folder / "t.csv")
    with pytest.raises(
        TableError, match=r"a path of another machine \(Windows\): write it relative to a folder, and say"
    ):
        open_pairs(path).check()


def test_a_file_whose_name_has_a_backslash_goes_first(folder):
    odd = folder / "img\\a.png"
    odd.write_bytes((folder / "img" / "b.png").read_bytes())
    assert open_pairs(as_csv([{"image": "img\\a.png", "text": "a"}], folder / "t.csv"))[0].query.image == odd


# ------------------------------------------------------------------------------------------------ other tools' layouts


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_the_header_of_open_clip(kind, folder, client_hub):
    rows = [{"filepath": f"img/{name}.png", "title": f"a {name}"} for name in "ab"]
    pairs = open_pairs(source_of(kind, rows, folder, client_hub))
    assert [(pair.query.image.name, pair.positive.text) for pair in pairs] == [("a.png", "a a"), ("b.png", "a b")]
    assert "positive  text   column title" in str(pairs.schemas[0])


def test_a_title_is_the_text_in_that_header_alone(folder):
    row = {"filepath": "img/a.png", "title": "the page's", "caption": "a tile"}
    pairs = open_pairs(as_csv([row], folder / "t.csv"))
    assert pairs[0].positive.text == "a tile"
    assert pairs.schemas[0].unused == ("title",)
    with pytest.raises(TableError, match="there is no text"):
        open_pairs(as_csv([{"image": "img/a.png", "title": "x"}], folder / "u.csv"))


TEVATRON = [
    {
        "query_id": str(i),
        "query": f"what is {i}",
        "positive_passages": [
            {"docid": "1", "title": "Title", "text": f"it is {i}"},
            {"docid": "2", "text": "or this"},
        ],
        "negative_passages": [{"docid": "3", "title": "", "text": f"not {i}"}],
    }
    for i in range(4)
]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "tar", "hub"])
def test_tevatrons_passages(kind, tmp_path, client_hub):
    pairs = open_pairs(source_of(kind, TEVATRON, tmp_path, client_hub))
    pair = pairs[2]
    assert pair.query.text == "what is 2"
    assert [item.text for item in (pair.positive, *pair.extra_positives)] == ["Title it is 2", "or this"]
    assert [item.text for item in pair.negatives] == ["not 2"]
    assert "query_id" in pairs.schemas[0].unused
    check_unread(pairs, quick())


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "tar", "hub"])
def test_fields_of_passages_that_are_not_read(kind, tmp_path, client_hub):
    pairs = open_pairs(source_of(kind, TEVATRON, tmp_path, client_hub))
    assert "positive_passages.docid" in pairs.schemas[0].unused
    graded = [{**row, "positive_passages": [{"text": "x", "score": 0.1}]} for row in TEVATRON]
    source = source_of(kind, graded, tmp_path, client_hub)
    with pytest.raises(UnreadColumnError, match=r"positive_passages.score grades .*--ignore positive_passages.score"):
        check_unread(open_pairs(source), quick())
    check_unread(open_pairs(source, ignore=["positive_passages.score"]), quick())


def test_passages_without_a_text(tmp_path):
    path = as_jsonl([{**TEVATRON[0], "positive_passages": [{"docid": "1", "title": "t"}]}], tmp_path / "t.jsonl")
    with pytest.raises(TableError, match="the positive_passages is an object, not text"):
        open_pairs(path).check()
    path = as_parquet([{"query": "a", "positive": {"title": "t", "text": "b"}}], tmp_path / "t.parquet")
    assert open_pairs(path)[0].positive.text == "t b"
    path = as_parquet([{"query": "a", "positive": {"title": "", "text": " "}}], tmp_path / "u.parquet")
    with pytest.raises(BadRowError, match="the positive is empty"):
        open_pairs(path)[0]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["0", "-7", str(2**63 - 1), str(-(2**63))], "int64"),
        (["1", str(2**63)], "string"),
        (["0", "-0"], "string"),  # written back it would be 0
        (["1", "0.5"], "double"),
        (["0.5", str(2**53)], "double"),
        (["0.5", str(2**53 + 1)], "string"),
        (["true", "False", ""], "bool"),
        (["007"], "string"),
    ],
)
def test_the_narrowest_type_gives_back_every_cell(cells, kind):
    guess = Guess()
    for cell in cells:
        guess.see_cell(cell)
    assert str(guess.arrow()) == kind


def test_a_wider_type_keeps_every_value_or_is_none():
    assert keeps(pa.float32(), pa.int16())
    assert not keeps(pa.float32(), pa.int32())
    assert keeps(pa.float32(), pa.int32(), exact=True)
    assert keeps(pa.int64(), pa.uint32())
    assert not keeps(pa.int64(), pa.uint64())


def test_labels_are_bits_where_all_are_0_or_1():
    assert [label_kind("int", values) for values in ([0, 1, None], [0, 1, 2], [None])] == ["bit", "int", "int"]
    assert [label_kind("text", values) for values in (["Neutral", ""], ["neutral", "cat"])] == ["verdict", "text"]


@pytest.mark.parametrize("score", [-0.1, 1.1])
def test_scores_are_from_0_to_1(score, tmp_path):
    pairs = open_pairs(as_csv([{"query": "a", "positive": "b", "score": score}], tmp_path / "t.csv"))
    with pytest.raises(BadRowError, match=f"the score is {score}; it must be from 0 to 1"):
        pairs[0]
