"""Warnings point at the caller's line, whatever of the zoo lies between; in a thread of the zoo's own at the line that warns."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import zoo.training.merging

import zoo

HERE = __file__


def _lines() -> list[str]:
    return Path(HERE).read_text().splitlines()


def test_the_line_is_the_callers() -> None:
    calls = {
        "encode": lambda model: model.encode(["a" * 200]),
        "encode_query": lambda model: model.encode_query("a" * 200),
        "encode_stream": lambda model: list(model.encode_stream(["a" * 200])),
        "encode_outputs": lambda model: model.encode_outputs(["a" * 200], ["dense"]),
        "encode_spans": lambda model: model.encode_spans("a" * 200, [(0, 3)]),
        "dim": lambda model: model.encode("a", dim=7),
        "skip": lambda model: model.encode(["", "a"], on_error="skip"),
        "rank": lambda model: model.rank("a" * 200, ["b"]),
    }
    for name, call in calls.items():
        model = zoo.build_model("text-test")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            call(model)
        assert said, name
        for one in said:
            assert one.filename == HERE, name
            assert f'"{name}": lambda' in _lines()[one.lineno - 1]


def test_nobody_counts_frames() -> None:
    """A number of frames is wrong as soon as a function is called from a second place."""
    package = Path(zoo.__file__).parent
    folders = (package, Path(zoo.training.merging.__file__).parent)
    found = [
        str(path)
        for folder in folders
        for path in folder.rglob("*.py")
        if path.name != "callers.py" and re.search(r"\bwarnings\.warn\(|stacklevel", path.read_text())
    ]
    assert not found
