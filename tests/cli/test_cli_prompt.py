"""The prompt of `zoo search DIR`: many queries over one model, typed or piped."""

import io
import json
import sys

import pytest
import torch

import zoo
from tests.bulk.bulk_support import make_images, make_table
from zoo import loading
from zoo.bulk import embed_dataset
from zoo.cli import main


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Vectors of 30 texts and of 6 images."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("made")
    model = str(zoo.build_model("clip-test").save_pretrained(folder / "m"))
    make_images(folder / "photos", 6)
    embed_dataset(model, make_table(folder / "t.csv", 30), folder / "texts", progress=False)
    embed_dataset(model, folder / "photos", folder / "images", progress=False)
    return folder


@pytest.fixture
def ask(capsys, monkeypatch, folders):
    """`ask("texts", [lines])` → (status, stdout, stderr); `typed` are those of a person at a terminal."""

    def call(name, lines, *options, typed=False):
        loads = []
        load = loading.load_model
        monkeypatch.setattr(loading, "load_model", lambda *a, **o: loads.append(a) or load(*a, **o))
        left = iter(lines)

        def read(prompt=""):
            line = next(left, EOFError)
            if line in (EOFError, KeyboardInterrupt):
                raise line
            return line

        monkeypatch.setattr("builtins.input", read)
        monkeypatch.setattr(sys, "stdin", io.StringIO("" if typed else "".join(f"{line}\n" for line in lines)))
        if typed:
            for stream in (sys.stdin, sys.stdout):
                monkeypatch.setattr(stream, "isatty", lambda: True)
        status = main(["search", str(folders / name), *map(str, options)])
        assert len(loads) == 1, "one model for all queries"
        monkeypatch.setattr(loading, "load_model", load)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_lines_of_a_pipe_are_answered_in_columns_that_are_whole(ask, capsys, folders):
    status, out, err = ask("texts", ["text 3", "", ":where label = 'dog'", ":k 2", "text 4"])
    assert (status, err) == (0, "")
    header, *rows = (line.split("\t") for line in out.splitlines())
    assert header == ["query", "rank", "score", "id", "path", "text", "label", "year", "score", "fresh", "note"]
    assert [row[0] for row in rows] == ["text 3"] * 10 + ["text 4"] * 2
    assert all(len(row) == len(header) for row in rows)
    assert {row[6] for row in rows[10:]} == {"dog"}
    main(["search", str(folders / "texts"), "text 3", "--json"])
    alone = json.loads(capsys.readouterr().out)
    assert [row[3] for row in rows[:10]] == [one["id"] for one in alone]


def test_json_is_a_line_for_each_query_errors_too(ask, folders):
    photo = folders / "photos" / "00000.png"
    lines = [f":image {photo}", ":image gone.jpg", ":where labl = 1", "red"]
    status, out, err = ask("images", lines, "--json", "-k", 3)
    assert status == 2, "some of it failed"
    found = [json.loads(line) for line in out.splitlines()]
    assert found[0]["results"][0]["path"] == str(photo)
    assert found[0]["results"][0]["score"] == pytest.approx(1, abs=1e-4)
    assert "gone.jpg is no file" in found[1]["error"]
    assert "labl" in found[2]["error"]
    assert len(found[3]["results"]) == 3, "what failed changes nothing for those that follow"
    assert err.count("error: ") == 2


def test_a_person_gets_tables_help_and_errors_and_ends_with_ctrl_d(ask):
    typed = [":help", "text 3", KeyboardInterrupt, ":k none", ":where label = 'zebra'", "text 1", ":where", " :k"]
    status, out, err = ask("texts", typed, "-k", 4, typed=True)
    assert status == 0
    assert sum(line.startswith("─") for line in out.splitlines()) == 2, "a table for each search that found something"
    assert "\t" not in out
    assert ":image FILE" in err
    assert "':k none' is no command of this prompt" in err
    assert "nothing was found where label = 'zebra'" in err


def test_quit_ends_and_nothing_found_is_status_1(ask):
    status, out, _ = ask("texts", [":where label = 'zebra'", "a", ":quit", "never asked"])
    assert status == 1
    assert len(out.splitlines()) == 1
    assert "never" not in out


def test_a_line_that_is_no_unicode_is_an_error_of_its_own(ask, monkeypatch, capsys, folders):
    stdin = io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbftext 1\ncaf\xe9\ntext 2\n"), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["search", str(folders / "texts"), "--json"]) == 2
    captured = capsys.readouterr()
    found = [json.loads(line) for line in captured.out.splitlines()]
    assert [one["query"] for one in found][::2] == ["text 1", "text 2"]
    assert "results" in found[0]
    assert "error" in found[1]


@pytest.fixture
def file_of(folders, tmp_path, capsys):
    """`file_of(name, lines, …)` → (status, the answers, stderr) of `--queries` with a file of these lines."""

    def call(name, lines, *options, suffix=".txt"):
        file = tmp_path / f"queries{suffix}"
        file.write_text("".join(f"{line}\n" for line in lines))
        status = main(["search", str(folders / name), "--queries", str(file), *map(str, options)])
        captured = capsys.readouterr()
        return status, [json.loads(line) for line in captured.out.splitlines()], captured.err

    return call


@pytest.mark.parametrize("options", [(), ("--where", "label = 'dog'"), ("--hybrid", "--backend", "exact")])
def test_a_file_of_queries_is_answered_as_each_alone(file_of, folders, capsys, options):
    lines = [f"text {number}" for number in (3, 11, 3, 20)]
    status, found, err = file_of("texts", [lines[0], "", *lines[1:]], "-k", 4, *options)
    assert (status, err, [one["query"] for one in found]) == (0, "", lines)
    for line, answer in zip(lines, found, strict=True):
        main(["search", str(folders / "texts"), line, "-k", "4", "--json", *options])
        alone = json.loads(capsys.readouterr().out)
        assert [one["id"] for one in answer["results"]] == [one["id"] for one in alone]
        expected = [one["score"] for one in alone]
        assert [one["score"] for one in answer["results"]] == pytest.approx(expected, abs=1e-5)


def test_queries_of_jsonl_hold_images_and_one_that_fails_is_told_beside_the_others(file_of, folders, tmp_path):
    photo = folders / "photos" / "00000.png"
    (tmp_path / "a.png").write_bytes(photo.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no image")
    asked = [
        {"id": "one", "image": "a.png"},
        {"text": "red"},
        {"image": "broken.png"},
        {"text": "red", "image": "a.png"},
    ]
    status, found, _ = file_of("images", map(json.dumps, asked), "-k", 2, suffix=".jsonl")
    assert status == 2
    assert [one["query"] for one in found] == ["one", "red", "broken.png", "red"]
    assert found[0]["results"][0]["path"] == str(photo)
    assert "broken.png" in found[2]["error"]
    assert [len(found[place]["results"]) for place in (0, 1, 3)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is no JSON"),
        ("[]", "line 1: expected an object"),
        ('{"text": "a", "txt": 1}', "unknown key 'txt'"),
        ('{"text": 1}', "text is no text"),
        ('{"image": "gone.png"}', "gone.png is no file"),
    ],
)
def test_a_line_that_is_no_query_is_refused_before_a_model_is_loaded(file_of, monkeypatch, line, message):
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("too late"))
    status, found, err = file_of("texts", [line], suffix=".jsonl")
    assert (status, found) == (2, [])
    assert message in err
    assert file_of("texts", [""])[0] == 2
    assert "leave TEXT" in file_of("texts", ["a"], "b")[2]


def test_explain_says_which_rows_are_compared(folders, capsys):
    assert main(["search", str(folders / "texts"), "text 3", "--explain", "--where", "label = 'dog'"]) == 0
    assert "plan: 10 of 30 rows match the filter: every one of them is compared" in capsys.readouterr().err
