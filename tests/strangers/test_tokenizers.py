"""A tokenizer is a program: what would grow, hang, end the process or answer otherwise each time is refused or made harmless."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.strangers.harness import Sandbox
from tests.strangers.tokenizer_cases import CASES

MINI = Path(zoo.__file__).parent / "weights" / "zoo-mini"
OPEN = "import sys, zoo; print(zoo.load_model(__import__('pathlib').Path(sys.argv[1])).encode('a cat').shape)"
ALWAYS = 4  # cases in every run


def gift(sandbox: Sandbox, change: Callable[[dict[str, Any]], None]) -> Path:
    """A good model with another tokenizer.json."""
    folder = sandbox.gift / "model"
    shutil.copytree(MINI, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "name", [*list(CASES)[:ALWAYS], *(pytest.param(name, marks=pytest.mark.slow) for name in list(CASES)[ALWAYS:])]
)
def test_a_tokenizer_that_would_do_harm(sandbox: Sandbox, name: str) -> None:
    change, said = CASES[name]
    sandbox.python(OPEN, gift(sandbox, change)).refused(said)
