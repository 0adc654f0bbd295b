"""What README.md, docs/ and model_cards/ name is there: files, modules and names, imports of their programs, options of commands."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from tests.every import every
from zoo.cli import build_parser
from zoo.registry.plugins import GROUPS

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [
    PROJECT / "README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
    *sorted((PROJECT / "model_cards").glob("*.md")),
]
TEXTS = {path.relative_to(PROJECT).as_posix(): path.read_text("utf-8") for path in PAGES}
# What is not in this repository by its nature: the reader's own file, a folder of the cache, the file of another repository.
ELSEWHERE = {"zoo/models/mine.py", "zoo/indexes", "docs/openclip_results.csv"}
_PATH = re.compile(r"(?<![\w/.-])(?:zoo|training|demos|tests|benchmarks|docs|model_cards)/[\w/.-]*\w/?")
_NAME = re.compile(r"(?<![\w/.-])(?:zoo|tests|benchmarks)(?:\.[A-Za-z_]\w*)+(?![\w/-])")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def is_module(name: str) -> bool:
    """Whether there is a module of a name; it is not imported, only the packages that it lies in."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what it should lie in is no package
        return False


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, rest = name, []
    while not is_module(module):
        module, _, last = module.rpartition(".")
        if not module:
            return False
        rest.insert(0, last)
    found = importlib.import_module(module) if rest else None
    for part in rest:
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, program) of every block of a language."""
    return [(page, code) for page, text in TEXTS.items() for kind, code in _BLOCK.findall(text) if kind == language]


@every("page", TEXTS)
def test_files_and_links_are_there(page: str):
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", TEXTS[page]) if ":" not in link]
    lost = [link for link in links if not (PROJECT / page).parent.joinpath(link).exists()]
    told = set(_PATH.findall(re.sub(r"https?://\S+", "", TEXTS[page]))) - ELSEWHERE
    assert not lost + sorted(path for path in told if not (PROJECT / path).exists())


def test_dotted_names_are_there():
    groups = {f"zoo.{group}" for group in GROUPS}
    names = {name: page for page, text in TEXTS.items() for name in _NAME.findall(text) if name not in groups}
    lost = {name: page for name, page in names.items() if not resolves(name)}
    assert len(names) > 20
    assert not lost


def test_programs_import_what_there_is():
    wanted = {}
    for page, code in blocks("python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                wanted |= {alias.name: page for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                wanted |= {f"{node.module}.{alias.name}": page for alias in node.names}
    ours = {name: page for name, page in wanted.items() if name.split(".")[0] == "zoo"}
    assert len(ours) > 20
    assert not {name: page for name, page in ours.items() if not resolves(name)}


def test_commands_have_the_options_that_the_pages_give_them(capsys: pytest.CaptureFixture[str]):
    parser, wrong, seen = build_parser(), {}, 0
    for page, code in blocks("bash"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["zoo"]:
                continue
            seen += 1
            try:
                parser.parse_args([word for word in words[1:] if word not in ("<", ">", "&")])
            except SystemExit:
                wrong[line] = (page, capsys.readouterr().err.splitlines()[-1])
    assert seen > 30
    assert not wrong


def test_the_files_of_the_fast_tests_are_there():
    """A file that is not there ends pytest before any test, and `make test` does not name them."""
    said = re.search(r"^FAST \?= (.*)$", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
    files = said.group(1).split()
    assert len(files) > 5
    assert [name for name in files if not (PROJECT / "tests" / f"{name}.py").is_file()] == []
