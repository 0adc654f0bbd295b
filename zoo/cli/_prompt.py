"""The prompt of `zoo search DIR`: one model and one index for many queries, typed by a person or piped by a program."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._finding import as_json
from zoo.cli._shared import one_line
from zoo.errors import ZooError
from zoo.strangers.terminal import json_text

if TYPE_CHECKING:
    from zoo.index import SearchHit

HELP = """\
a line of text     search with them; a blank before one that begins with ":"
:image FILE         search with an image; :file FILE with an image, a video or audio
:where SQL          from now on only those, such as :where label = 'cat' AND year >= 2020; alone: all again
:kind KIND …        from now on only those: image, video, audio, document, text; alone: all again
:k N                from now on N results
:help, :quit        this; the end, as Ctrl-D"""
Search = Callable[["str | Path", int, "str | None", "Sequence[str]"], "list[SearchHit]"]


@dataclass
class Prompt:
    """What is asked for so far.

    Attributes:
        search: (query, k, where, kinds) → what was found. check: raises FilterError for a filter that is not understood;
            check_kinds: for kinds of which there is nothing.
        place: where the input of a match is, for people. columns: attributes of the rows.
        show: prints a table to a person. machine: JSON lines in place of columns with tabs. rerank: matches
            have the score of a reranker. lists: of a hybrid search, whose ranks are shown.
    """

    search: Search
    check: Callable[[str], None]
    check_kinds: "Callable[[Sequence[str]], None]"
    place: "Callable[[SearchHit], str]"
    columns: list[str]
    show: "Callable[[list[SearchHit]], None]"
    k: int
    where: str | None
    kinds: "Sequence[str]"
    machine: bool
    rerank: bool = False
    lists: Sequence[str] = ()
    failed: bool = False
    found: bool = False

    def run(self) -> int:
        """Answers line after line; status 2 if one of them failed, 1 if nothing was found at all."""
        typed, read = sys.stdin.isatty(), sys.stdout.isatty()
        if read is False and not self.machine:
            print(
                "\t".join(
                    ("query", "rank", "score", *self.lists, *(["rerank"] * self.rerank), "id", "path", *self.columns)
                )
            )
        if typed:
            print("text to search with, :help, or Ctrl-D to end", file=sys.stderr)
        for line in _typed() if typed else _piped():
            text = line.strip()
            if text in (":quit", ":q"):
                break
            if not text:
                continue
            try:
                self._answer(line, text, read)
            except ZooError as error:
                self.failed = True
                if self.machine:
                    _tell({"query": text, "error": str(error)})
                print(f"error: {error}" if typed else f"error: {one_line(text)}: {error}", file=sys.stderr)
            sys.stdout.flush()
        if typed:
            return 0  # what was mistyped was said, and may have been typed again
        return 2 if self.failed else 0 if self.found else 1

    def _answer(self, line: str, text: str, read: bool) -> None:
        if not line.startswith(":"):
            return self._print(text, self.search(text, self.k, self.where, self.kinds), read)
        name, _, rest = text.partition(" ")
        rest = rest.strip()
        if name in (":image", ":file") and rest:
            path = Path(rest).expanduser()
            if not path.is_file():
                raise ZooError(f"{path} is no file")
            return self._print(text, self.search(path, self.k, self.where, self.kinds), read)
        if name == ":where":
            if rest:
                self.check(rest)
            self.where = rest or None
        elif name == ":kind":
            kinds = rest.replace(",", " ").split()
            self.check_kinds(kinds)
            self.kinds = kinds
        elif name == ":k" and rest.isascii() and rest.isdigit() and int(rest):
            self.k = int(rest)
        elif name == ":help":
            print(HELP, file=sys.stderr)
        else:
            raise ZooError(f"{text!r} is no command of this prompt:\n{HELP}")
        return None

    def _print(self, query: str, found: "list[SearchHit]", read: bool) -> None:
        self.found = self.found or bool(found)
        if self.machine:
            results = [{**as_json(match), "path": self.place(match)} for match in found]
            _tell({"query": query, "results": results})
        elif read:
            self.show(found)
        else:
            for rank, match in enumerate(found, start=1):
                told: list[Any] = [query, rank, f"{match.score:.6f}"]
                told += [match.ranks.get(name) for name in self.lists]
                told += [f"{match.rerank:.6f}" if match.rerank is not None else None] if self.rerank else []
                told += [match.id, self.place(match)]
                told += [match.attributes.get(name) for name in self.columns]
                print("\t".join("" if one is None else one_line(str(one)) for one in told))
        if not found and not self.machine:
            of = f" among {' and '.join(self.kinds)}" if self.kinds else ""
            print(f"nothing was found{of}" + (f" where {self.where}" if self.where else ""), file=sys.stderr)


def _tell(answer: dict[str, Any]) -> None:
    """A line of JSON."""
    print(json_text(answer))


def _typed() -> Iterator[str]:
    """Lines of a person, with the history of this prompt after the arrow keys."""
    with contextlib.suppress(ImportError):  # Windows: the console has a history of its own
        import readline  # noqa: F401 (what `input` then edits with)
    while True:
        try:
            yield input("zoo> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()  # the line is given up, not the prompt


def _piped() -> Iterator[str]:
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")  # a bad line is an error of its own
    for line in sys.stdin:
        yield line.rstrip("\r\n")
