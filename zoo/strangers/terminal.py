"""Names, keys, cells and paths of others on a terminal: no escape sequence, no text that runs backwards, no new line.

`clean_output` stands around a command: what it prints is cleaned there, once, on a terminal as in a pipe. Only what the
program itself sets in colours goes past it (`console`, which cleans the texts it sets), and the jumps of progress bars.
"""

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# Controls (C0 but tab and line feed, DEL, C1), what turns the direction of text, separators that break lines, marks of
# interlinear annotation, and half characters, which no stream can write. Joiners stay: scripts and emoji need them.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]"
)
# How a progress bar goes back to the start of its line, and up to that of an outer one (tqdm, in writes of their own).
_JUMP = re.compile(r"\r|\n*(?:\x1b\[A)+\r?\Z")


def shown(text: str) -> str:
    r"""The text with harmful characters spelled out: `\x1b`, `\u202e`; all else, and what is harmless, as it is."""
    return _HARMFUL.sub(lambda found: _spelled(found[0]), text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""JSON of the value, in its own letters; harmful characters as escapes, `\u001b`, `\u202e`, which lose nothing."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    return _HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@contextlib.contextmanager
def clean_output() -> Iterator[None]:
    """Within it what is printed to standard output and error is `shown`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _Clean(raw(stream)) for stream in before)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def raw(stream: TextIO) -> TextIO:
    """The stream behind a cleaned one, for what the program itself sets in colours."""
    return stream.raw_stream if isinstance(stream, _Clean) else stream


def console(*, stderr: bool = False, width: int | None = None) -> "Console":
    """A console of rich, whose texts are `shown` and whose own sequences reach the terminal."""
    from rich.console import Console
    from rich.segment import Segment

    class Cleaning(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(shown(segment.text), segment.style)

    return Cleaning(file=raw(sys.stderr if stderr else sys.stdout), highlight=False, width=width)


class _Clean:
    """A stream whose `write` cleans; everything else is that of the stream behind it."""

    def __init__(self, stream: TextIO) -> None:
        self.raw_stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw_stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw_stream)

    def write(self, text: str) -> int:
        jump = _JUMP.match(text)
        start = jump.end() if jump else 0
        clean = text[:start] + shown(text[start:])
        try:
            self.raw_stream.write(clean)
        except UnicodeEncodeError:  # a terminal of few letters
            encoding = self.raw_stream.encoding
            self.raw_stream.write(clean.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


def _spelled(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
