"""What others called their things reaches no terminal raw: on every command's output, in tables, errors, bars and JSON."""

import ast
import io
import json
import sys
import unicodedata
from pathlib import Path

import pytest

from tests import warm
from tests.strangers.harness import Sandbox
from zoo.strangers.terminal import clean_output, console, json_text, shown

NASTY = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp.\u2066x\r\x08"
MESSAGE = r"a\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp.\u2066x\x0d\x08"


def test_what_is_harmful_is_spelled_out_and_all_else_stays():
    assert shown(NASTY) == MESSAGE
    kept = "tab\tline\nمی‌خواهم 👩‍👩‍👧 é ı 中 ’ « \u00ad \xa0"
    assert shown(kept) == kept
    every = map(chr, range(sys.maxunicode + 1))
    changed = {character for character in every if shown(character) != character}
    directions = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert {c for c in map(chr, range(0x3000)) if unicodedata.bidirectional(c) in directions} <= changed
    assert {c for c in map(chr, range(0x110000)) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")} - {
        "\t",
        "\n",
    } <= changed
    assert not [c for c in changed if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp", "Cf")]


def test_json_keeps_what_it_means(capsys):
    text = json_text({NASTY: [NASTY, "中", "\ud800"]}, indent=2)
    assert shown(text) == text
    assert "中" in text
    assert json.loads(text) == {NASTY: [NASTY, "中", "\ud800"]}


def test_streams_are_cleaned_and_given_back(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(KeyError), clean_output(), clean_output():
        print(NASTY)
        print(NASTY, file=sys.stderr)
        sys.stdout.writelines([NASTY])
        raise KeyError
    assert (sys.stdout, sys.stderr) == (out, err)
    assert out.getvalue() == f"{MESSAGE}\n{MESSAGE}"
    assert err.getvalue() == f"{MESSAGE}\n"


def test_bars_move_and_their_words_are_cleaned(monkeypatch):
    from tqdm import tqdm

    err = io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    with clean_output():
        for _ in tqdm(range(2), NASTY, position=1, mininterval=0, file=sys.stderr):
            pass
    assert MESSAGE in err.getvalue()
    assert "\r" in err.getvalue()
    assert "\x1b[A" in err.getvalue()
    assert shown(err.getvalue().replace("\x1b[A", "").replace("\r", "")) == err.getvalue().replace(
        "\x1b[A", ""
    ).replace("\r", "")


def test_a_terminal_of_few_letters_gets_escapes(monkeypatch):
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, "ascii", write_through=True))
    with clean_output():
        print("中")
    assert bytes_.getvalue() == b"\\u4e2d\n"


def test_what_is_set_in_colours_is_cleaned_too(monkeypatch):
    from rich.text import Text

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with clean_output():
        console(width=200).print(Text(NASTY, style="bold red"))
    text = out.getvalue()
    assert text.startswith("\x1b[1;31m")
    assert MESSAGE.split("x1b[2J")[0] in text
    assert shown(text.replace("\x1b[1;31m", "").replace("\x1b[0m", "")) == text.replace("\x1b[1;31m", "").replace(
        "\x1b[0m", ""
    )


def test_no_room_prints_by_a_console_of_its_own():
    """rich writes past the cleaned streams: every console is the one that cleans."""
    found = []
    for room in ("zoo", "training", "demos"):
        for path in (warm.PROJECT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
                if isinstance(node, ast.ImportFrom) and node.module == "rich.console" and "Console" in names:
                    found.append(path.name)
    assert found == ["terminal.py"] * len(found)


@pytest.mark.parametrize(
    "command",
    [
        ["encode", "--image", "NASTY.png"],
        pytest.param(["show", "./NASTY"], marks=pytest.mark.slow),
        pytest.param(["search", "NASTY", "a cat"], marks=pytest.mark.slow),
        pytest.param(["embed", "NASTY.csv", "--out", "OUT"], marks=pytest.mark.slow),
        pytest.param(["train", "NASTY.csv", "--out", "OUT", "--model", "clip-test"], marks=pytest.mark.slow),
        pytest.param(["classify", "NASTY", "--labels", "a,b"], marks=pytest.mark.slow),
        pytest.param(["card", "./NASTY"], marks=pytest.mark.slow),
        pytest.param(["verify", "./NASTY"], marks=pytest.mark.slow),
        pytest.param(["eval", "./NASTY", "--pairs", "NASTY.csv"], marks=pytest.mark.slow),
        pytest.param(["compare", "./NASTY", "--data", "NASTY.csv", "--no-speed"], marks=pytest.mark.slow),
    ],
    ids=lambda command: command[0],
)
def test_commands_print_names_cleaned(sandbox: Sandbox, command: list[str]):
    name = NASTY.replace("/", "")
    (sandbox.gift / f"{name}.csv").write_bytes(f"{name},\x1b[31mimage\nx,y\n".encode())
    (sandbox.gift / f"{name}.png").write_bytes(b"no image")
    (sandbox.gift / name).mkdir()
    (sandbox.gift / name / "config.json").write_text(json.dumps({"model_type": NASTY, NASTY: 1}))
    words = [
        word.replace("./NASTY", f"{sandbox.gift}/{name}")
        .replace("NASTY", f"{sandbox.gift}/{name}")
        .replace("OUT", str(sandbox.out / "o"))
        for word in command
    ]
    answer = sandbox.zoo(*words).safe()
    assert answer.status
    assert shown(answer.text) == answer.text
    assert r"\x1b[2J" in answer.text


@pytest.mark.slow
def test_a_gift_that_answers_in_json(sandbox: Sandbox):
    (sandbox.gift / "t.jsonl").write_text(json.dumps({"id": "1", "text": "a cat", "note": NASTY}) + "\n")
    vectors = sandbox.out / "v"
    assert sandbox.zoo("embed", sandbox.gift / "t.jsonl", "--out", vectors).status == 0
    answer = sandbox.zoo("search", vectors, "a cat", "--json").harmless()
    assert shown(answer.out) == answer.out
    assert NASTY in _values(json.loads(answer.out))


def _values(value: object) -> list[object]:
    if isinstance(value, dict):
        return [one for inner in value.values() for one in _values(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in _values(inner)]
    return [value]


def test_it_stands_in_every_program():
    """Each module that is run as a program prints through it, by its own `main` or by that of the command line."""
    for room in ("zoo", "training", "demos"):
        for path in (warm.PROJECT / room).rglob("__main__.py"):
            text = path.read_text() + "".join(
                (path.parent / f"{name}.py").read_text()
                for name in ("__init__", "pages")
                if (path.parent / f"{name}.py").is_file()
            )
            assert "@clean_output()" in text or "from zoo.cli import main" in text, Path(path).relative_to(warm.PROJECT)
