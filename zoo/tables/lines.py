"""Lines of a text file: its encoding and its line ends are found, or named; nothing is held but the line."""

import codecs
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from zoo.errors import EmptyTextError, InvalidTextError, MissingFileError, TableError
from zoo.tables.bounds import MAX_LINE, MAX_WHOLE
from zoo.tables.files import open_bytes, unpacking

TOO_LONG = f"it has more than {MAX_LINE:,} letters, which are not read"
_HEAD = 2**20
_MARK = "\ufeff"
_MARKS = (  # those of UTF-32 begin like those of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_lines(path: Path, encoding: str | None = None, long: set[int] | None = None) -> Iterator[str]:
    r"""The lines of a file, each with its end, which is "\n" or "\r\n"; the last may have none.

    UTF-8 is read, and by its mark or by where its zero bytes stand UTF-16 and UTF-32. A file that is none of them is no
    guess: its encoding must be said. Lines end with "\n" or "\r\n", or with "\r" where there is no "\n" (old programs).

    Args:
        encoding: as Python calls it ("cp1252"). "utf-8" says that it is: bytes that are not become lone surrogates, for
            `undecoded` to find, so that one bad row does not stop the others.
        long: takes the numbers (from 1) of lines of more than `MAX_LINE` letters, which come as blank ones.

    Raises:
        TableError: the file cannot be read or is damaged, or a line is too long or not of its encoding: the message names it.
    """
    found, errors = encoding_of(path, encoding)
    with unpacking(path), open_bytes(path) as raw:
        end = "\r" if _ends_in_cr(path, found, errors) else "\n"
        file = io.TextIOWrapper(raw, encoding=found, errors=errors, newline=end)
        try:
            for number, line in enumerate(iter(partial(file.readline, MAX_LINE), "")):
                if number == 0:
                    line = line.lstrip(_MARK)  # utf-16-le, when it is said, keeps the mark; two files joined have two
                if len(line) >= MAX_LINE and not line.endswith(end):
                    if long is None:
                        raise TableError(f"{path.name}, line {number + 1}: {TOO_LONG}")
                    long.add(number + 1)
                    while line and not line.endswith(end):
                        line = file.readline(MAX_LINE)
                    line = end
                yield line if end == "\n" else line.removesuffix("\r") + "\n"
        except UnicodeError:
            raise _undecodable(path, found, encoding, end) from None


def whole_text(path: Path) -> str:
    """All of a file as one text, with line ends as they stand; its encoding is found as that of lines is.

    Raises:
        EmptyTextError: there is no letter in it. InvalidTextError: it is over `MAX_WHOLE` bytes, or of another encoding.
        MissingFileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_WHOLE + 1)
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read: {error.strerror or error}", what=str(path)) from error
    if len(content) > MAX_WHOLE:
        raise InvalidTextError(
            f"{path} has over {MAX_WHOLE // 2**20} MiB of text, too much for one vector; cut it into passages, or into lines of "
            "a file of its own (zoo embed FILE.txt)",
            what=str(path),
        )
    head = content[:4096]
    found = next((name for mark, name in _MARKS if head.startswith(mark)), "") or _by_zeros(head) or "utf-8"
    try:
        text = content.decode(found).lstrip(_MARK)
    except UnicodeDecodeError as error:
        raise InvalidTextError(
            f"{path} is not {found.upper()} (byte 0x{content[error.start]:02x} at {error.start:,}); save it as UTF-8",
            what=str(path),
        ) from None
    if not text.strip():
        raise EmptyTextError(f"{path} has no letter in it", what=str(path))
    if "\0" in text:
        raise InvalidTextError(f"{path} is no text: a zero byte stands in it", what=str(path))
    return text


def encoding_of(path: Path, encoding: str | None = None) -> tuple[str, str]:
    """The encoding of a file, and what is to be done about bytes that are not of it; as Python calls both.

    Raises:
        TableError: no encoding is called so.
    """
    if encoding is not None:
        try:
            name = codecs.lookup(encoding).name
            "".encode(name)  # a codec, but none of texts: base64
        except (LookupError, ValueError, TypeError):
            raise TableError(
                f"no encoding of texts is called {encoding!r}; there are utf-8, utf-16, cp1252, latin-1, shift_jis, gb18030, …"
            ) from None
        return ("utf-8-sig", "surrogateescape") if name in ("utf-8", "utf-8-sig") else (name, "strict")
    with unpacking(path), open_bytes(path) as file:
        head = file.read(4096)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, "strict"
    return _by_zeros(head[:32]) or _by_zeros(head) or "utf-8", "strict"  # a header is ASCII even where texts are not


def undecoded(text: str) -> str:
    """Why a text is none: a byte that is not of the encoding that was said, or a zero byte; "" where it is one."""
    if "\0" in text:
        return "a zero byte stands in it"
    if text.isascii():
        return ""
    byte = next((letter for letter in text if "\udc80" <= letter <= "\udcff"), None)
    return "" if byte is None else f"not UTF-8 (byte 0x{ord(byte) - 0xDC00:02x})"


def _by_zeros(head: bytes) -> str:
    """UTF-16 or UTF-32 without a mark: of letters that are mostly ASCII every second byte, or three of four, are zero."""
    head = head[: len(head) // 4 * 4]
    if not head or head.count(0) * 3 < len(head):
        return ""
    zeros = [head[place::4].count(0) * 4 / len(head) for place in range(4)]
    shapes = {"utf-32-le": "x000", "utf-32-be": "000x", "utf-16-le": "x0x0", "utf-16-be": "0x0x"}
    for name, shape in shapes.items():
        if all(share > 0.7 if mark == "0" else share == 0 for share, mark in zip(zeros, shape, strict=True)):
            return name
    return ""


def _ends_in_cr(path: Path, encoding: str, errors: str) -> bool:
    with open_bytes(path) as raw:
        try:
            start = codecs.getincrementaldecoder(encoding)("replace").decode(raw.read(_HEAD))
        except UnicodeError:  # not of this encoding at all, as is said where the lines are read
            return False
    return "\r" in start.removesuffix("\r") and "\n" not in start


def _undecodable(path: Path, found: str, said: str | None, end: str) -> TableError:
    """Which line is not of the encoding; the file is read once more for it."""
    name = "UTF-8" if found.startswith("utf-8") else found.upper() if found.startswith("utf") else found
    decoder, number = codecs.getincrementaldecoder(found)("strict"), 1
    byte = ""
    with open_bytes(path) as file:
        try:
            while block := file.read(2**16):
                for at in range(0, len(block), 256):  # small pieces, so that the line is found
                    number += _ends(decoder, block[at : at + 256], end)
            decoder.decode(b"", final=True)
        except _StoppedError as stopped:
            number += stopped.ends
            byte = f" (byte 0x{stopped.byte:02x})"
        except UnicodeDecodeError:
            byte = " (it is cut off)"
        except UnicodeError as error:
            byte = f" ({error})"
    remedy = "say another --encoding"
    if said is None and found.startswith("utf-8"):
        remedy = (
            "save the file as UTF-8, or say its encoding: --encoding cp1252 (encoding='cp1252') is that of Excel in Western "
            "Europe and America; with --encoding utf-8 such rows are set aside as bad"
        )
    elif said is None:
        remedy = "is it damaged? Else say its encoding: --encoding utf-8"
    return TableError(f"{path.name}, line {number}: not {name}{byte}; {remedy}")


class _StoppedError(Exception):
    """A byte that is not of the encoding, and how many lines end before it."""

    def __init__(self, ends: int, byte: int) -> None:
        self.ends, self.byte = ends, byte


def _ends(decoder: codecs.IncrementalDecoder, block: bytes, end: str) -> int:
    try:
        return decoder.decode(block).count(end)
    except UnicodeDecodeError as error:
        whole = error.object[: error.start].decode(error.encoding, "ignore")
        raise _StoppedError(whole.count(end), error.object[error.start]) from None
