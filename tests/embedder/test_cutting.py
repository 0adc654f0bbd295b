"""Texts of more tokens than a model reads: what is lost is said once, or the text is refused."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo
from zoo.cli import main
from zoo.errors import ArgumentError, NotOfferedError, TextTooLongError

LONG = "ab" * 60  # of bytes: text-test reads 64 tokens, [CLS] and [SEP] among them


@pytest.fixture
def model() -> Iterator[zoo.Embedder]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield zoo.build_model("text-test")


def test_what_is_lost_is_said_once(model: zoo.Embedder) -> None:
    model.encode(["a cat", "a" * 62])  # 64 tokens, all of which are read
    with pytest.warns(
        UserWarning, match=r"item 1 has 122 tokens, its prompt included, and text-test reads 64: 58 are lost at its end"
    ):
        model.encode(["a cat", LONG, LONG * 2])
    model.encode([LONG, "a cat"])
    list(model.encode_stream([LONG]))


def test_a_prompt_counts(model: zoo.Embedder) -> None:
    with pytest.warns(
        UserWarning, match=r"item 0 has 71 tokens, its prompt included, and text-test reads 64: 7 are lost"
    ):
        model.encode_query("a" * 62)  # "query: " before it


def test_error_refuses_it_by_name(model: zoo.Embedder) -> None:
    with pytest.raises(TextTooLongError, match=r"item 1: the text has 122 tokens.* reads 64: 58 are lost; split it"):
        model.encode(["a cat", LONG], truncation="error")
    with pytest.warns(UserWarning, match="1 bad items were skipped: item 1"):
        kept = model.encode(["a cat", LONG, "a dog"], truncation="error", on_error="skip")
    assert kept.shape[0] == 2
    codes = [one.error and one.error.code for one in model.encode_stream(["a cat", LONG], truncation="error")]
    assert codes == [None, "text-too-long"]
    with pytest.raises(ArgumentError, match="truncation"):
        model.encode("a cat", truncation="end")


@pytest.mark.parametrize("name", ["sgpt-test", "model2vec-test", "clip-test", "vlm2vec-test", "instructor-test"])
def test_it_is_counted_or_refused_of_others(name: str) -> None:
    model = zoo.build_model(name)
    text = "a cat on a mat " * 200
    encode = model.encode if name == "clip-test" else model.encode_query
    try:
        with pytest.raises(TextTooLongError, match=r"the text has ") as caught:
            encode(text, truncation="error")
    except NotOfferedError as error:
        assert "does not say whether it cuts" in str(error)  # noqa: PT017
        return
    numbers = [
        int(number.replace(",", "")) for number in re.findall(r"[\d,]+(?= tokens| are lost|: )", str(caught.value))
    ]
    if len(numbers) == 4:  # where it is known how many there are: of the item, whole, read, lost
        assert numbers[1] - numbers[2] == numbers[3] > 0
    else:
        assert "more tokens than it reads" in str(caught.value)


def test_several_outputs_of_one_pass_say_it_too() -> None:
    model, long = zoo.build_model("bge-m3-test"), "a cat " * 9000
    with pytest.warns(UserWarning, match="are lost at its end"):
        model.encode_outputs(long)
    with pytest.raises(TextTooLongError, match="are lost; split it"):
        model.encode_sparse(["a", long], truncation="error")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of texts that the zoo embeds to see whether all was saved
        zoo.build_model("text-test").save_pretrained(tmp_path / "model")
    (tmp_path / "texts.txt").write_text(f"a cat\n{LONG}\n")
    model = ["--model", str(tmp_path / "model")]
    with pytest.warns(UserWarning, match="58 are lost"):  # `zoo` prints it
        assert main(["encode", LONG, "--json", *model]) == 0
    capsys.readouterr()
    assert main(["encode", LONG, "--json", "--truncation", "error", *model]) == 2
    assert "58 are lost" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "out"), "--quiet", "--json", "--truncation", "error"]
    assert main(["embed", str(tmp_path / "texts.txt"), *model, *out]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "text-too-long" in json.dumps(report)
