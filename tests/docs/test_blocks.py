"""Every fenced block of README.md, CONTRIBUTING.md and docs/ is read here, and run: a page in order, in one folder.

What is cheap is run by default; every block's syntax, its `zoo` commands with their options, and the names that it imports are
checked for all pages. `make test-all` runs every page.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

from tests import warm
from tests.docs import given
from tests.docs.blocks import PAGES, PROJECT, RUN, SHOWN, all_blocks, blocks
from tests.every import every
from tests.hub import LoopbackHub
from tests.test_documents import resolves
from zoo.cli import build_parser

# What is run by default: a page of a second, which shows that the reader reads. The others are run by `make test-all`.
CHEAP = {"docs/models.md"}
PROGRAMS = {"zoo", "python", "make", "pip", "hf", "curl", "echo", "printf", "git", "cd", "accelerate"}
RUNNABLE = [page for page in PAGES if {block.language for block in blocks(page)} & RUN]


def test_every_block_says_what_it_is():
    """A fence without a language, or with one that is neither run nor only shown, would escape this test."""
    odd = [(b.page, b.line, b.language) for page in PAGES for b in blocks(page) if b.language not in RUN | SHOWN]
    assert odd == []
    assert len(PAGES) > 8


@every("block", all_blocks("python"), ids=lambda block: f"{block.page}:{block.line}")
def test_python_blocks_are_programs_whose_imports_are_there(block):
    tree = ast.parse(block.code, block.page)
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not [name for name in names if name.split(".")[0] == "zoo" and not resolves(name)]


def test_commands_are_those_that_there_are(capsys: pytest.CaptureFixture[str]):
    parser, wrong, seen = build_parser(), {}, 0
    targets = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for command in (command for block in all_blocks("bash") for command in block.commands()):
        words, where = command.words, f"{command.page}:{command.line}: {command.text}"
        if words[0] not in PROGRAMS:
            wrong[where] = "no program that the pages use"
        if words[0] == "make" and (lost := [word for word in words[1:] if "=" not in word and word not in targets]):
            wrong[where] = f"the Makefile has no {lost}"
        for part in re.split(r"\s\|\s", command.text) if command.needs_shell else [command.text]:
            of = type(command)(command.page, command.line, part.strip()).words
            if of[:1] == ["zoo"]:
                seen += 1
                try:
                    parser.parse_args([word for word in of[1:] if word not in ("<", ">", "&")])
                except SystemExit:
                    wrong[where] = capsys.readouterr().err.splitlines()[-1]
    assert seen > 30
    assert not wrong


def test_what_is_not_run_is_there_and_has_a_reason():
    lines = {
        (page, line)
        for page in PAGES
        for block in blocks(page)
        for line in (block.code.splitlines() if block.language == "python" else [c.text for c in block.commands()])
        if block.language in RUN
    }
    stale = [
        entry
        for entry in given.NOT_RUN
        if not any(entry[0] in ("", page) and line.startswith(entry[1]) for page, line in lines)
    ]
    assert stale == []
    assert all(len(reason) > 10 for reason in given.NOT_RUN.values())
    text = "".join(block.code for page in PAGES for block in blocks(page))
    assert [name for name in given.STAND_INS if name not in text] == []
    assert [page for page in (*given.BEFORE, *given.NAMES) if page not in RUNNABLE] == []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages take for given, made once."""
    folder = tmp_path_factory.mktemp("world")
    given.make_world(folder)
    return folder


@pytest.mark.parametrize(
    "page", [page if page in CHEAP else pytest.param(page, marks=pytest.mark.slow) for page in RUNNABLE]
)
def test_a_page_does_what_it_says(page: str, world: Path, tmp_path: Path, hub: LoopbackHub):
    import shutil
    import subprocess

    folder = tmp_path / "reader"
    shutil.copytree(world, folder)
    environment = given.environment(folder, hub.environment(tmp_path / "hf", token=hub.token))
    command = [sys.executable, "-m", "tests.docs.driver", page]
    start = warm.run
    if any(block.file and block.file.startswith("zoo/") for block in blocks(page)):
        given.copy_repository(folder)  # the page writes a file of the package: it has one of its own
        start = subprocess.run
    environment["PYTHONPATH"] = f"{folder}:{PROJECT}"
    done = start(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    assert done.stdout.rstrip().endswith("read")
