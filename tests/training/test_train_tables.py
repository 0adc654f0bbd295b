"""Pairs of CSV and JSONL files and of folders: roles read from names, and errors that name the line."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.errors import BadRowError, InputError, TableError, ZooError
from zoo.inputs.identity import Contents
from zoo.inputs.item import Item
from zoo.tables import Column, infer, open_all, open_pairs
from zoo.tables.pairs import Pair, PairTable, Selection, block_numbers, datasets_of, place_of
from zoo.tables.schema import Leftover


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with two images."""
    for name, colour in (("red.png", (220, 20, 20)), ("blue.png", (20, 20, 220))):
        Image.new("RGB", (8, 8), colour).save(tmp_path / name)
    return tmp_path


def write(folder: Path, name: str, content: str | bytes | list[dict]) -> Path:
    path = folder / name
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def roles(*columns: str, explicit: dict[str, str] | None = None, **kinds: str) -> dict[str, str]:
    """What a schema makes of the columns, in short: role → modality:column + …"""
    names = [*columns, *kinds]
    schema = infer("table", [Column(name, kinds.get(name, "")) for name in names], explicit)
    shown = {"query": schema.query, "positive": schema.positive, "also": schema.extra_positives}
    shown |= {f"negative {i}": parts for i, parts in enumerate(schema.negatives, 1)}
    found = {role: " + ".join(f"{p.modality}:{p.column}" for p in parts) for role, parts in shown.items() if parts}
    found |= schema.facts
    return found | ({"unused": ",".join(schema.unused)} if schema.unused else {})


# ------------------------------------------------------------------------------------------------ names → roles


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("image,text", {"query": "image:image", "positive": "text:text"}),
        ("caption,id,video", {"query": "video:video", "positive": "text:caption", "unused": "id"}),
        ("audio,captions", {"query": "audio:audio", "positive": "text:captions"}),
        ("query,positive", {"query": "text:query", "positive": "text:positive"}),
        (
            "anchor,positive,negative",
            {"query": "text:anchor", "positive": "text:positive", "negative 1": "text:negative"},
        ),
        ("sentence1,sentence2,score", {"query": "text:sentence1", "positive": "text:sentence2", "score": "score"}),
        (
            "qry,qry_image_path,pos_text,pos_image_path,neg_text,neg_image_path",
            {
                "query": "text:qry + image:qry_image_path",
                "positive": "text:pos_text + image:pos_image_path",
                "negative 1": "text:neg_text + image:neg_image_path",
            },
        ),
        (
            "image_query,positiveText,negative_1_image,negative_2_text,negative_2_image,query_id,image_width",
            {
                "query": "image:image_query",
                "positive": "text:positiveText",
                "negative 1": "image:negative_1_image",
                "negative 2": "text:negative_2_text + image:negative_2_image",
                "unused": "query_id,image_width",
            },
        ),
        (
            "query_image,query_text,target_image",
            {"query": "image:query_image + text:query_text", "positive": "image:target_image"},
        ),
        ("query,image", {"query": "text:query", "positive": "image:image"}),
        ("image,query,positive", {"query": "text:query", "positive": "text:positive", "unused": "image"}),
        ("image,text,negative", {"query": "image:image", "positive": "text:text", "negative 1": "text:negative"}),
        ("file_name,text", {"query": "image:file_name", "positive": "text:text"}),
        ("image,caption,positive", {"query": "image:image", "positive": "text:positive", "unused": "caption"}),
        ("filepath,title", {"query": "image:filepath", "positive": "text:title"}),
        ("filepath,title,caption", {"query": "image:filepath", "positive": "text:caption", "unused": "title"}),
        ("path,audio,sentence", {"query": "audio:audio", "positive": "text:sentence", "unused": "path"}),
        ("image,text,class", {"query": "image:image", "positive": "text:text", "group": "class"}),
        (
            "query,positive,negatives,teacher_scores,task",
            {
                "query": "text:query",
                "positive": "text:positive",
                "negative 1": "text:negatives",
                "teacher_scores": "teacher_scores",
                "dataset": "task",
            },
        ),
        ("query,positive,source", {"query": "text:query", "positive": "text:positive", "unused": "source"}),
    ],
)
def test_roles_are_told_by_names(columns, expected):
    assert roles(*columns.split(",")) == expected


def test_a_label_is_what_its_values_make_it():
    pair = {"query": "text:query", "positive": "text:positive"}
    assert roles("image", label="text") == {"query": "image:image", "positive": "text:label"}
    assert roles("image", "text", label="int") == {"query": "image:image", "positive": "text:text", "group": "label"}
    assert roles("query", "positive", label="float") == {**pair, "score": "label"}
    assert roles("query", "positive", label="text") == {**pair, "group": "label"}
    with pytest.raises(TableError, match="label holds whole numbers: a score of 0 or 1, or a class"):
        roles("query", "positive", label="int")
    assert roles("query", "positive", label="int", explicit={"score": "label"}) == {**pair, "score": "label"}


def test_columns_that_are_named_go_before_what_names_say():
    explicit = {"query_image": "photo_of_it", "positive_text": "title"}
    assert roles("photo_of_it", "title", "text", explicit=explicit) == {
        "query": "image:photo_of_it",
        "positive": "text:title",
        "unused": "text",
    }
    assert roles("image", "title", explicit={"text": "title"}) == {"query": "image:image", "positive": "text:title"}
    pair = {"query": "text:query", "positive": "text:positive"}
    assert roles("query", "positive", "score", "stars", explicit={"score": "stars"}) == {
        **pair,
        "score": "stars",
        "unused": "score",
    }
    columns = [Column("image"), Column("caption", "text"), Column("text", "text")]
    assert infer("t", columns, {"text": "caption"}).left == (Leftover("text", "text"),)  # it is named, not lost
    with pytest.raises(TableError, match=r"table has no column titel \(said to be positive\); it has image, title"):
        roles("image", "title", explicit={"positive": "titel"})
    with pytest.raises(TableError, match=r"'heading' \(said of column title\) is no part of a pair; say"):
        roles("image", "title", explicit={"heading": "title"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("image,text,caption", r"text and caption could both be the positive's text; .*--column positive_text=caption"),
        ("image,caption1,caption2", r"caption1 and caption2 could both be the positive's text"),
        ("query,query_text,positive", r"query and query_text could both be the query's text"),
        ("image,audio,text", r"image and audio could each be the query; .*--column query_image=image"),
        ("query,image,text", r"image and text could each be the positive"),
        ("id,url", r"no pairs can be made of the columns id, url: none of them is known. Name them image,text"),
        ("image,width", r"of which image \(image\) is understood: there is no text"),
        ("text,id", r"there is a text and nothing that it belongs to"),
        ("query,negative", r"there is no positive"),
        ("images,text", r"column images holds lists, and a query is one thing"),
    ],
)
def test_unclear_columns_are_listed_with_a_remedy(columns, message):
    with pytest.raises(TableError, match=message):
        roles(*columns.split(","))


def test_the_schema_shows_itself(folder):
    path = write(folder, "pairs.csv", "id,image,text,url,group\n1,red.png,red,x,a\n2,blue.png,blue,y,b\n")
    assert str(open_pairs(path).schemas[0]).splitlines() == [
        "pairs.csv: 2 pairs",
        "  query     image  column image",
        "  positive  text   column text",
        "  group            column group",
        "  2 columns not used: id, url",
    ]


# ------------------------------------------------------------------------------------------------ CSV


def test_a_csv_of_images_and_texts(folder):
    path = write(folder, "pairs.csv", 'image,text\nred.png," a red, plain tile "\n\nblue.png,"a\nblue one"\n')
    table = open_pairs(path)
    assert isinstance(table, PairTable)
    assert len(table) == 2
    assert table[0].query.image == folder / "red.png"
    assert [pair.positive.text for pair in table] == ["a red, plain tile", "a\nblue one"]
    assert [pair.where for pair in table] == ["pairs.csv, line 2", "pairs.csv, line 5"]
    assert [pair.group for pair in table] == ["", ""]  # what is the same is determined by the content
    assert table[0].dataset == "pairs"
    assert table.blocks() == [range(2)]
    with pytest.raises(IndexError):
        table[2]


def test_separators_and_byte_order_marks(folder):
    for name, content in (
        ("a.csv", "\ufeffquery;positive\na,b;c\n"),
        ("a.tsv", "query\tpositive\na,b\tc\n"),
        ("b.csv", "query\tpositive\r\na,b\tc\r\n"),
    ):
        pair = open_pairs(write(folder, name, content))[0]
        assert (pair.query.text, pair.positive.text) == ("a,b", "c")


def test_lists_and_numbers_in_csv_cells(folder):
    content = 'query,positive,negatives,teacher_scores,score\na,b,"[""c"", ""d""]","[0.9, 0.5, 0.25]",0.75\ne,f,,,1\n'
    first, second = open_pairs(write(folder, "pairs.csv", content))
    assert [item.text for item in first.negatives] == ["c", "d"]
    assert first.teacher_scores == (0.9, 0.5, 0.25)
    assert (first.score, second.score) == (0.75, 1.0)
    assert second.negatives == second.teacher_scores == ()
    also, graded = "query,positive,also_text\na,b,c\n", "query,positive,label\na,b,0.5\nc,d,1\n"
    assert [item.text for item in open_pairs(write(folder, "also.csv", also))[0].extra_positives] == ["c"]
    assert [pair.score for pair in open_pairs(write(folder, "graded.csv", graded))] == [0.5, 1.0]


def test_digits_are_text_where_text_is_meant(folder):
    assert open_pairs(write(folder, "a.csv", "query,positive\n1984,7\n"))[0].query.text == "1984"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"pairs.csv is empty; its first line must name the columns"),
        ("image,text\n", r"pairs.csv holds a header and no pairs"),
        ("image,words\nred.png,x\n", r"pairs.csv: no pairs can be made of the columns image, words"),
        ("image,text\nred.png,\n", r"^pairs.csv, line 2: the text is empty$"),
        ("image,text\nred.png,x\n ,x\n", r"^pairs.csv, line 3: the image is empty$"),
        ("image,text\nred.png,x\ngone.png,x\n", r"^pairs.csv, line 3: no image .*gone.png; say root=FOLDER"),
        ("image,text\nred.png,x\nhttps://x.y/a.png,x\n", r"line 3: no image .*; a URL is never fetched"),
        ("image,text\nred.png,x,y\n", r"^pairs.csv, line 2: 3 cells, and the header has 2$"),
        ("image,text,text\nred.png,x,y\n", r"^pairs.csv, line 1: column text occurs twice"),
        ('image,text\nred.png,"x\nblue.png,y\n', r"pairs.csv, line 2: .*is a quote left open"),
        ("image,text\nred.png,caf\xe9\n".encode("latin-1"), r"^pairs.csv, line 2: not UTF-8 \(byte 0xe9\)"),
        ("image,text\nred.png,x\n".encode("utf-16")[:-3], r"^pairs.csv, line 2: not UTF-16 \(it is cut off\)"),
        ("query,positive,score\na,b,high\n", r"line 2: the score is a text \('high'\), not a number"),
        ("query,positive,score\na,b,4.5\n", r"line 2: the score is 4.5; it must be from 0 to 1"),
        ("query,positive,score\na,b,nan\n", r"line 2: the score is nan, not a finite number"),
        ("query,positive,negatives\na,b,c\n", r'line 2: the negatives must be a JSON list, e.g. \["a", "b"\]'),
        (
            "query,positive,negative,teacher_scores\na,b,c,[1]\n",
            r"line 2: the teacher_scores are 1, for a positive and 1",
        ),
        ("image,a;text,b\nred.png,c;x,d\n", r"a semicolon; say which: --separator ',' or --separator ';'"),
    ],
)
def test_bad_tables_name_the_line(folder, content, message):
    with pytest.raises(TableError, match=message):
        open_pairs(write(folder, "pairs.csv", content)).check()


def test_many_bad_rows_are_counted_and_five_are_named(folder):
    lines = ["image,text"] + [f"gone{i}.png,x" for i in range(12)] + ["red.png,x"]
    with pytest.raises(TableError) as caught:
        open_pairs(write(folder, "pairs.csv", "\n".join(lines))).check()
    told = str(caught.value).splitlines()
    assert told[0] == "pairs.csv: 12 of 13 rows are no pairs:"
    assert [line.split(":")[0] for line in told[1:6]] == [f"  line {n}" for n in range(2, 7)]
    assert told[6:] == ["  … and 7 more"]
    for name in ("part-1.csv", "part-2.csv"):
        write(folder, name, "\n".join(lines))
    bad = open_pairs(folder / "part-*.csv")
    assert len(bad.problems(5)) == 5
    assert place_of(Selection(bad, [14]), 0) == "part-2.csv, line 3"  # though it is no pair


# ------------------------------------------------------------------------------------------------ JSONL


def test_jsonl_lists_nulls_and_composed_queries(folder):
    rows = [
        {"query_text": "the same in blue", "query_image": "red.png", "positive_image": "blue.png", "negatives": ["x"]},
        {"query_text": "blue", "query_image": None, "positive_image": "blue.png", "negatives": []},
    ]
    first, second = open_pairs(write(folder, "pairs.jsonl", rows))
    assert first.query.modalities == {"text", "image"}
    assert second.query.modalities == {"text"}
    assert first.group == second.group == ""
    contents = Contents()
    assert contents.number(first.positive) == contents.number(second.positive)
    assert [item.text for item in first.negatives] == ["x"]
    assert second.negatives == ()


def test_a_label_that_is_null_everywhere_says_nothing(folder):
    (pair,) = open_pairs(write(folder, "t.jsonl", '{"query": "a", "positive": "b", "label": null}\n'))
    assert (pair.group, pair.score) == ("", None)


def test_several_positives_are_also_right(folder):
    pair = open_pairs(write(folder, "p.jsonl", [{"query": "a", "positive": ["b", "c"], "also": ["d"]}]))[0]
    assert pair.positive.text == "b"
    assert [item.text for item in pair.extra_positives] == ["c", "d"]


def test_negatives_of_several_columns_lie_side_by_side(folder):
    row = {"query": "a", "positive": "b", "negatives_text": ["c", None], "negatives_image": ["red.png", "blue.png"]}
    negatives = open_pairs(write(folder, "p.jsonl", [row]))[0].negatives
    assert [item.modalities for item in negatives] == [{"text", "image"}, {"image"}]
    row["negatives_image"] = ["red.png"]
    with pytest.raises(TableError, match="lists of different lengths: negatives_text 2, negatives_image 1"):
        open_pairs(write(folder, "p.jsonl", [row])).check()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"pairs.jsonl is empty"),
        ('{"query": "a", "positive": "b"}\n{"query": "a"\n', r"^pairs.jsonl, line 2: no JSON: "),
        ('{"query": "a", "positive": "b"}\n["a", "b"]\n', r"^pairs.jsonl, line 2: list and no JSON object"),
        (
            '{"query": "a", "positive": "b"}\n{"query": "a", "positive": 5}\n',
            r"line 2: the positive is a number \(5\), not",
        ),
        ('{"query": "a", "positive": "b"}\n{"query": "a"}\n', r"line 2: the positive is empty"),
        ('{"query": "a", "query": "b", "positive": "c"}\n', r"line 1: column query occurs twice"),
        ('{"query": ["a", "b"], "positive": "c"}\n', r"line 1: the query is a list of 2, and a query is one thing"),
        ('{"query_image": 3, "positive": "c"}\n', r"line 1: the query_image is a number \(3\), not a path or bytes"),
        ('{"query": "a", "positive": {"b": 1}}\n', r"line 1: the positive is an object, not text"),
        ('{"query": "a", "positive": "b", "score": "1"}\n', r"line 1: the score is a text \('1'\), not a number"),
        ('{"query": "a", "positive": "b", "teacher_scores": 1}\n', r"the teacher_scores is a number \(1\), not a list"),
        (b'{"query": "a", "positive": "\xff"}\n', r"^pairs.jsonl, line 1: not UTF-8"),
    ],
)
def test_bad_jsonl_names_the_line(folder, content, message):
    with pytest.raises(TableError, match=message):
        open_pairs(write(folder, "pairs.jsonl", content)).check()


def test_a_graded_pair_is_a_right_one_from_half_on():
    grades = {None: True, 0.0: False, 0.49: False, 0.5: True, 1.0: True}
    assert {score: Pair(Item(text="a"), Item(text="b"), score=score).right for score in grades} == grades


def test_data_sets_of_a_column(folder):
    rows = [{"query": "a", "positive": str(i), "dataset": name} for i, name in enumerate(["nq", "", "nq", "fever"])]
    table = open_pairs(write(folder, "mixed.jsonl", rows))
    numbers, names = datasets_of(table)
    assert [names[n] for n in numbers] == ["nq", "mixed", "nq", "fever"]
    assert [pair.dataset for pair in table] == ["nq", "mixed", "nq", "fever"]


# ------------------------------------------------------------------------------------------------ folders of images


def test_sub_folders_are_captions(tmp_path):
    for name in ("black_cat/b.png", "black_cat/a.PNG", "dog/x/c.png", ".hidden/z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    table = open_pairs(tmp_path, name="pets")
    assert [pair.positive.text for pair in table] == ["black cat", "black cat", "x"]
    assert [pair.where for pair in table] == ["black_cat/a.PNG", "black_cat/b.png", "dog/x/c.png"]
    contents = Contents()
    assert [contents.number(pair.positive) for pair in table] == [0, 0, 1]
    assert table.names == ["pets"]
    assert "column the sub-folder's name" in str(table.schemas[0])
    for name in ("1.png", "2.png", "3.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(TableError, match=r": 3 images lie in no sub-folder and have no .txt beside them, e.g. 1.png"):
        open_pairs(tmp_path)


def test_texts_beside_the_images_are_read_when_asked_for(folder):
    write(folder, "red.txt", "\ufeffa red tile\n")
    with pytest.raises(TableError, match=r"1 of 2 images have no .txt beside them, e.g. blue.png"):
        open_pairs(folder)
    blue = write(folder, "blue.txt", "a blue tile\n")
    table = open_pairs(folder)
    assert [pair.positive.text for pair in table] == ["a blue tile", "a red tile"]
    blue.write_text(" \n")
    assert table.problems() == ["blue.png: the text is empty"]
    with pytest.raises(BadRowError, match=r"blue.png: the text is empty"):
        table[0]
    blue.unlink()
    assert table.problems() == ["blue.png: no text blue.txt beside it (No such file or directory)"]


def test_metadata_names_the_images(folder):
    write(folder, "metadata.csv", "file_name,text\nred.png,red\nblue.png,blue\n")
    assert [pair.positive.text for pair in open_pairs(folder)] == ["red", "blue"]
    (folder / "metadata.csv").unlink()
    write(folder, "metadata.jsonl", [{"file_name": "gone.png", "text": "red"}])
    with pytest.raises(TableError, match=r"metadata.jsonl, line 1: no image .*gone.png"):
        open_pairs(folder).check()


def test_folders_without_pairs_say_what_is_expected(folder, tmp_path_factory):
    with pytest.raises(TableError, match=r"2 images lie in no sub-folder and have no .txt beside them, e.g. blue.png"):
        open_pairs(folder)
    with pytest.raises(TableError, match="holds no images and no tables"):
        open_pairs(tmp_path_factory.mktemp("empty"))


def test_sub_folders_that_are_splits(tmp_path):
    for name in ("train/cat/a.png", "test/cat/b.png", "test/dog/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert [len(open_pairs(tmp_path, split=split)) for split in ("train", "test")] == [1, 2]


# ------------------------------------------------------------------------------------------------ sources


def test_globs_ranges_and_names(folder):
    for i in (2, 10, 1):
        write(folder, f"part-{i}.csv", f"query,positive\nq{i},p{i}\n")
    table = open_pairs(folder / "part-*.csv")
    assert [pair.query.text for pair in table] == ["q1", "q2", "q10"]
    assert table.names == ["part"]
    assert table.blocks() == [range(1), range(1, 2), range(2, 3)]
    assert block_numbers(Selection(table, [2, 0])).tolist() == [2, 0]
    assert table.where(2) == "part-10.csv, line 2"
    assert [pair.query.text for pair in open_pairs(f"{folder}/part-{{1..2}}.csv")] == ["q1", "q2"]
    assert len(open_pairs(folder.with_name(f"{folder.name[:-1]}[{folder.name[-1]}]"))) == 3  # of one folder
    assert [pair.query.text for pair in open_pairs(f"{folder}/part-{{10..10}}.csv")] == ["q10"]
    with pytest.raises(TableError, match=r"part-3.csv does not exist|part-3.csv matches no file"):
        open_pairs(f"{folder}/part-{{1..3}}.csv")
    with pytest.raises(TableError, match=r"nothing\*.csv matches no file"):
        open_pairs(folder / "nothing*.csv")


def test_several_sources_are_data_sets_by_name(folder):
    a, b = (
        write(folder, "a.csv", "query,positive\n1,2\n3,4\n"),
        write(folder, "b.jsonl", [{"query": "5", "positive": "6"}]),
    )
    table = open_all([f"retrieval={a}", b])
    assert table.names == ["retrieval", "b"]
    assert table.datasets.tolist() == [0, 0, 1]
    assert [pair.dataset for pair in table] == ["retrieval", "retrieval", "b"]
    assert [schema.source for schema in table.schemas] == ["a.csv", "b.jsonl"]
    assert np.concatenate([np.array(block) for block in table.blocks()]).tolist() == [0, 1, 2]
    assert open_all([f"x={a}", f"x={b}"]).names == ["x"]
    (folder / "more").mkdir()
    twin = write(folder / "more", "a.csv", "query,positive\n1,2\n")
    with pytest.raises(TableError, match="would both be the data set 'a'; write NAME="):
        open_all([a, twin])
    with pytest.raises(TableError, match="no pairs were named"):
        open_all([])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[]", r"a.json is no table that is read here; write one object per line \(.jsonl\)"),
        ("a.csv.gz", "x", "cannot be read: damaged, cut off or not packed"),
        ("a.csv.zip", "x", "unpack it first"),
        ("a.parquet.gz", "x", "unpack it first"),
        ("a.tar.zst", "x", "compressed tar, .* unpack it to a plain .tar"),
        ("a.xlsx", "x", "expected .csv, .tsv, .jsonl"),
    ],
)
def test_unknown_files(folder, name, content, message):
    with pytest.raises(TableError, match=message):
        open_pairs(write(folder, name, content))


def test_missing_and_mixed_sources(folder):
    with pytest.raises(TableError, match=r"nowhere.csv does not exist \(working directory"):
        open_pairs(folder / "nowhere.csv")
    write(folder, "a.csv", "query,positive\n1,2\n")
    write(folder, "b.jsonl", [{"query": "5", "positive": "6"}])
    with pytest.raises(TableError, match=r"tables of several kinds \(.csv, .jsonl\); name the files"):
        open_pairs(folder)
    with pytest.raises(
        TableError, match="no data pack is called 'cars'; there are photos, emoji, symbols, audio, video"
    ):
        open_pairs("pack:cars")


def test_errors_are_of_the_zoo_and_bad_rows_can_be_left_out():
    assert issubclass(TableError, ZooError)
    assert issubclass(BadRowError, InputError)
    assert BadRowError("x").code == "bad-row"


def test_threads_read_the_same_pairs(folder):
    write(folder, "pairs.csv", "query,positive\n" + "".join(f"q{i},p{i}\n" for i in range(200)))
    table = open_pairs(folder / "pairs.csv")
    with ThreadPoolExecutor(8) as pool:
        assert [pair.query.text for pair in pool.map(table.__getitem__, range(200))] == [f"q{i}" for i in range(200)]
