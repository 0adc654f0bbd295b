"""The one check of facts: what JSON may be, and what a value must be for a type hint."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from zoo.errors import UnrecognisedCheckpointError, ZooError
from zoo.strangers.schema import Like, Range, check, parse, wrong


class FactsError(ZooError):
    """What these tests ask for."""


class Counts(TypedDict):
    rows: Annotated[int, Range(0, 100)]
    why: NotRequired[str | None]


@dataclass(frozen=True)
class Side:
    length: float
    names: list[str] = ()  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": 1e999}', "1e999 is no number"),
        (b"[" * 100_000, "nested too deep"),
        (b"[" * 33 + b"]" * 33, "over 32 levels"),
        (b"1" * 5000, "thousands of digits"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": ["x\\ud800"]}', "half a character"),
        (b'{"a": {"\\udc00": 1}}', "half a character"),
        (b"<html>", "a web page"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_readers_would_take_for_different_things(content: bytes, said: str) -> None:
    with pytest.raises(FactsError, match=f"facts.json.*{said}"):
        parse(content, "facts.json", FactsError)


def test_json_that_is_one() -> None:
    text = '{"a": ["\\ud83d\\udc26", "é", -1.5e3, null, true, 9223372036854775807]}'
    assert parse(text.encode(), "facts.json") == {"a": ["🐦", "é", -1500.0, None, True, 2**63 - 1]}
    assert parse(b"[" * 31 + b"1" + b"]" * 31, "facts.json")


@pytest.mark.parametrize(
    ("value", "hint", "said"),
    [
        ("5", int, "it is '5'; it must be a whole number"),
        (True, int, "it is True; it must be a whole number"),
        (1, bool, "it is 1; it must be true or false"),
        (2**63, int, "must be a number of 64 bits"),
        (10**400, float, "must be a number of 64 bits"),
        (1e308, int, "must be a whole number"),
        (101, Annotated[int, Range(0, 100)], "it is 101; it must be 0 to 100"),
        ("x" * 70, Annotated[str, Range(1, 9)], "…; it must have 1 to 9 characters"),
        ([1, 2], Annotated[list[int], Range(0, 1)], "must have 0 to 1 entries"),
        ("G0", Annotated[str, Like("[0-9a-f]*", "bytes in hexadecimal")], "must be bytes in hexadecimal"),
        (3, str | None, "it is 3; it must be a text or null"),
        ([1, "a"], list[int], r"it\[\] is 'a'; it must be a whole number"),
        ([1], tuple[int, str], "must have 2 entries"),
        ([1, 2], tuple[int, str], r"it\[\] is 2; it must be a text"),
        ({"a": None}, dict[str, int], "a is None; it must be a whole number"),
        ("dot", Literal["cosine", 1], "must be one of"),
        (True, Literal["cosine", 1], "must be one of"),
        ({}, Counts, "it lacks rows"),
        ({"rows": -1}, Counts, "rows is -1; it must be 0 to 100"),
        ({"rows": 1, "why": 5}, Counts, "why is 5; it must be a text or null"),
        ([], Counts, "must be an object"),
        ({"length": 1, "width": 2}, Side, "unknown facts"),
        ({"length": {"rows": 1}}, Side, "length is .*; it must be a number"),
        ({"sides": [{"length": "a"}]}, dict[str, list[Side]], r"sides\[\].length is 'a'; it must be a number"),
    ],
)
def test_what_does_not_fit_is_named(value: Any, hint: Any, said: str) -> None:
    with pytest.raises(FactsError, match=f"^facts.json: .*{said}"):
        check(value, hint, "facts.json", FactsError)


def test_what_fits() -> None:
    for value, hint in [
        (1, float),
        (None, Annotated[int, Range(0, 1)] | None),
        ({"rows": 1, "of a newer zoo": {}}, Counts),
        ({"length": 2.5, "names": ["a"]}, Side),
        ([1, "a"], tuple[int, str]),
        ({"a": {"b": [1]}}, dict[str, Any]),
    ]:
        assert wrong(value, hint) == ""
        assert check(value, hint, "facts.json") is value


def test_the_usual_error_is_that_of_a_checkpoint() -> None:
    with pytest.raises(UnrecognisedCheckpointError, match="it is 1"):
        check(1, str, "config.json")
