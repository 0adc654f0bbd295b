"""What README.md, docs/ and model_cards/ name is there: files, modules and names. tests/docs/ runs their programs and commands."""

import importlib.util
import re
from pathlib import Path

from tests.every import every
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


def test_the_files_of_the_fast_tests_are_there():
    """A file that is not there ends pytest before any test, and `make test` does not name them."""
    said = re.search(r"^FAST \?= (.*)$", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
    files = said.group(1).split()
    assert len(files) > 5
    assert [name for name in files if not (PROJECT / "tests" / f"{name}.py").is_file()] == []
