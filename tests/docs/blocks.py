"""The fenced blocks of the documents, and the command lines in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [
    path.relative_to(PROJECT).as_posix()
    for path in (PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md")))
    if path.is_file()
]
RUN = {"python", "bash"}
SHOWN = {"text", "json", "toml", "html", "yaml", "bibtex", "make"}  # what a page shows and nobody types
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<code>.*?)^ *```[ \t]*$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (?P<path>[\w./-]+\.py)(?::.*)?\n")
_SHELL = re.compile(r"[|<>&;*$`]")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: the number of its first line of code in the page.
    """

    page: str
    line: int
    language: str
    code: str

    @property
    def file(self) -> str | None:
        """The file that the block is, named in its first line: "# zoo/models/mine.py"."""
        found = _FILE.match(self.code) if self.language == "python" else None
        return found["path"] if found else None

    def commands(self) -> Iterator["Command"]:
        """The command lines of a bash block; a line that ends in a backslash goes on in the next."""
        text, start = "", 0
        for number, line in enumerate(self.code.splitlines()):
            start = start if text else number
            text += line.rstrip("\\") if line.endswith("\\") else line
            if not line.endswith("\\"):
                if shlex.split(text, comments=True):
                    yield Command(self.page, self.line + start, text.strip())
                text = ""


@dataclass(frozen=True)
class Command:
    """One command line."""

    page: str
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        """Its words without the comment, and without variables of the environment before it."""
        words = shlex.split(self.text, comments=True)
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        return words

    @property
    def needs_shell(self) -> bool:
        """Whether something stands outside of quotes that a shell reads."""
        bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", self.text).partition(" #")[0]
        return bool(_SHELL.search(bare)) or shlex.split(self.text, comments=True) != self.words


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = (PROJECT / page).read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        found.append(Block(page, line, match["language"].strip(), code))
    assert text.count("```") == 2 * len(found), f"{page}: a fence is not closed, or another kind of fence is used"
    return found


def all_blocks(language: str) -> list[Block]:
    """Every block of a language in all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language == language]
