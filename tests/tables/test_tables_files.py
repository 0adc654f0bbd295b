"""Files of text as programs write them: encodings, line ends, packing, separators and quotes are found, or named."""

import gzip
import sys
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

from zoo.errors import TableError
from zoo.tables import open_pairs

ROWS = [("a,b", "é"), ("c", "d")]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(path: Path, **told: str) -> list[tuple[str, str]]:
    pairs = open_pairs(path, **told)
    return [(pairs[row].query.text, pairs[row].positive.text) for row in range(len(pairs))]


def as_csv(separator: str = ",") -> str:
    return f'query{separator}positive\n"a,b"{separator}é\nc{separator}d\n'


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", *(f"utf-{n}{e}" for n in (16, 32) for e in ("", "-le", "-be"))]
)
def test_unicode_is_found_with_and_without_its_mark(encoding, tmp_path):
    longer = as_csv() + "".join(f"query {i},positive {i}\n" for i in range(20))
    path = write(tmp_path, "t.csv", longer.encode(encoding))
    assert rows_of(path)[:2] == ROWS
    lines = '{"query": "a,b", "positive": "é"}\r\n{"query": "c", "positive": "d"}'
    assert rows_of(write(tmp_path, "t.jsonl", lines.encode(encoding))) == ROWS
    told = [note for note in open_pairs(path).schemas[0].notes if "encoding" in note]
    assert bool(told) == (not encoding.startswith("utf-8"))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_header_tells_the_encoding_of_texts_that_are_not_ascii(encoding, tmp_path):
    text = "query,positive\n" + "".join(f"漢字の文,漢字の文{i}\n" for i in range(300))
    assert rows_of(write(tmp_path, "t.csv", text.encode(encoding)))[5] == ("漢字の文", "漢字の文5")


def test_a_mark_is_no_letter_of_the_first_column_where_the_encoding_is_said(tmp_path):
    path = write(tmp_path, "t.csv", as_csv().encode("utf-16"))  # of this machine's order, with its mark
    assert rows_of(path, encoding=f"utf-16-{sys.byteorder[0]}e") == ROWS


def test_blank_lines_are_no_rows(tmp_path):
    assert rows_of(write(tmp_path, "t.csv", 'query,positive\n\n  \n"a,b",é\n \t\nc,d\n\n')) == ROWS
    row = '{"query": "a", "positive": "b"}\n'
    (told,) = open_pairs(write(tmp_path, "t.jsonl", f"{row}\n \n{{\n\n{row}")).problems()
    assert told.startswith("t.jsonl, line 4: no JSON")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "shift_jis", "gb18030"])
def test_other_encodings_are_said_and_never_guessed(encoding, tmp_path):
    text = "漢字の文" if encoding in ("shift_jis", "gb18030") else "é"
    path = write(tmp_path, "t.csv", f"query,positive\na,b\nc,{text}\n".encode(encoding))
    with pytest.raises(TableError, match=r"^t.csv, line 3: not UTF-8 \(byte 0x..\); .*--encoding cp1252"):
        open_pairs(path)
    assert rows_of(path, encoding=encoding)[1] == ("c", text)
    pairs = open_pairs(path, encoding="utf-8")  # it is UTF-8, and some rows are not
    assert pairs[0].positive.text == "b"
    with pytest.raises(TableError, match=r"line 3: not UTF-8 \(byte 0x"):
        pairs[1]


@pytest.mark.parametrize("name", ["latin-42", "base64", ""])
def test_what_is_no_encoding(name, tmp_path):
    with pytest.raises(TableError, match="no encoding of texts is called"):
        open_pairs(write(tmp_path, "t.csv", as_csv()), encoding=name)


def test_zero_bytes_are_named(tmp_path):
    path = write(tmp_path, "t.csv", "query,positive\na,b\nc,d\0\n")
    assert open_pairs(path).problems() == ["t.csv, line 3: a zero byte stands in it"]
    lines = write(tmp_path, "t.jsonl", '{"query": "a", "positive": "b"}\n\0\n')
    assert open_pairs(lines).problems() == ["t.jsonl, line 2: a zero byte stands in it"]
    with pytest.raises(TableError, match=r"line 1: a zero byte stands in it; say the file's --encoding"):
        open_pairs(write(tmp_path, "u.csv", "query,po\0sitive\na,b\n"))


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_line_ends_in_every_encoding(end, encoding, tmp_path):
    path = write(tmp_path, "t.csv", end.join(["query,positive", '"a,b",é', "c,d", ""]).encode(encoding))
    assert rows_of(path) == ROWS


def test_a_line_end_that_the_first_look_cuts_in_two_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.tables.lines._HEAD", len("query,positive\r"))
    assert rows_of(write(tmp_path, "t.csv", as_csv().replace("\n", "\r\n"))) == ROWS


PACKERS = {".gz": gzip.compress, ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True)}


@pytest.mark.parametrize("packed", PACKERS)
def test_packed_files_are_unpacked_while_they_are_read(packed, tmp_path):
    content = PACKERS[packed](as_csv().encode())
    path = write(tmp_path, f"pairs.csv{packed}", content)
    assert rows_of(path) == ROWS
    assert open_pairs(path).names == ["pairs"]
    assert open_pairs(path)[0].where == f"pairs.csv{packed}, line 2"
    assert rows_of(write(tmp_path, f"t.tsv{packed}", PACKERS[packed](as_csv("\t").encode("utf-16")))) == ROWS
    for damaged in (content[:-6], b"no such thing"):
        with pytest.raises(TableError, match=f"pairs.csv{packed} (is|cannot be read:) damaged"):
            open_pairs(write(tmp_path, f"pairs.csv{packed}", damaged))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found_on_the_rows(separator, tmp_path):
    assert rows_of(write(tmp_path, "t.csv", as_csv(separator))) == ROWS
    assert rows_of(write(tmp_path, "u.csv", f"sep={separator}\r\n{as_csv(separator)}")) == ROWS
    odd = f"query{separator}positive\n1,5;7 a|b{separator}x\n2,5;7 a|c{separator}y\n"  # its rows hold the others too
    if separator != "\t":
        odd = odd.replace(f"5{separator}7", "5 7").replace(f"1{separator}5", "1 5").replace(f"2{separator}5", "2 5")
        odd = odd.replace(f"a{separator}", "a ")
    assert [positive for _, positive in rows_of(write(tmp_path, "o.csv", odd))] == ["x", "y"]


def test_two_likely_separators_are_refused_by_name(tmp_path):
    path = write(tmp_path, "t.csv", "query,positive;note\na,b;c\nd,e;f\n")
    with pytest.raises(TableError, match=r"a comma or a semicolon; say which: --separator ',' or --separator ';'"):
        open_pairs(path)
    pairs = open_pairs(path, separator=",", columns={"positive": "positive;note"})
    assert [pair.positive.text for pair in pairs] == ["b;c", "e;f"]
    with pytest.raises(TableError, match="a separator is one letter"):
        open_pairs(path, separator="::")
    # Of two that some rows have it is the one that all have.
    more = write(tmp_path, "u.csv", "note, if any;query;positive\n;a;b\nx, y;c;d\n")
    assert rows_of(more) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("rest", ["b,y\nc,z\n", 'b,y\nc,"z\n', 'b,y\nc,"z" more\n'])
def test_a_quote_left_open_names_its_row(rest, tmp_path):
    path = write(tmp_path, "t.csv", 'query,positive\n1,2\na,"x\n' + rest)
    with pytest.raises(TableError, match=r"^t.csv, line 3: .*is a quote left open\?"):
        open_pairs(path)


SWALLOWED = (
    "a quoted cell runs to line {}, and {} of its lines look like rows of their own; is a quote left open there?"
)


@pytest.mark.parametrize(
    ("rows", "line", "alike"),
    [
        (['a,"x', *(f"b{i},y" for i in range(15)), 'c,z"', "d,e"], 18, 16),
        (['"a,x', *(f"b{i},y" for i in range(3)), 'c",z', "d,e"], 6, 3),
    ],
)
def test_a_quote_that_swallows_rows_is_refused(rows, line, alike, tmp_path):
    path = write(tmp_path, "t.csv", "\n".join(["query,positive", *rows, ""]))
    with pytest.raises(
        TableError, match=r"^t.csv, line 2: .*If these lines are one text, say --separator ','"
    ) as caught:
        open_pairs(path)
    assert SWALLOWED.format(line, alike) in str(caught.value)
    with pytest.warns(UserWarning, match="is a quote left open there"):
        assert len(open_pairs(path, separator=",")) == 2


def test_a_quoted_cell_of_several_lines_is_said_where_it_may_hold_rows(tmp_path):
    path = write(tmp_path, "t.csv", 'query,positive\na,"x\nb,y\nc,z"\nd,e\n')
    with pytest.warns(UserWarning, match="t.csv, line 2: " + SWALLOWED.format(4, 2).replace("?", r"\?")):
        open_pairs(path)
    path = write(tmp_path, "t.csv", 'query,positive\na,"one\ntwo, three, four\nfive"\nd,e\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_pairs(path)[0].positive.text == "one\ntwo, three, four\nfive"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['5" disk\tx', '"7" disk\ty'], [('5" disk', "x"), ('"7" disk', "y")]),
        (['"open\tx', "a\tb", 'close"\ty'], [('"open', "x"), ("a", "b"), ('close"', "y")]),
        (['"open\tx', "", "a\tb"], [('"open', "x"), ("a", "b")]),
        (['"a b"\tx', "c\td"], [("a b", "x"), ("c", "d")]),
        (['"a\tb"\tx', "c\td"], [("a\tb", "x"), ("c", "d")]),
        (['"a', 'b"\tx', "c\td"], [("a\nb", "x"), ("c", "d")]),
    ],
)
def test_quotes_in_tsv_files_never_lose_a_row(lines, expected, tmp_path):
    path = write(tmp_path, "t.tsv", "\n".join(["query\tpositive", *lines, ""]))
    assert rows_of(path) == expected
    literal = any('"' in query for query, _ in expected)
    assert any("quotes are read as letters" in note for note in open_pairs(path).schemas[0].notes) == literal
