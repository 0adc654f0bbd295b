"""Documents → pages: PDF files and bytes, drawn one page after the other; every byte is distrusted."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import (
    CorruptDocumentError,
    DocumentTooLargeError,
    InputError,
    MissingPackageError,
    NoSuchPageError,
    NotMediaError,
    UnsupportedInputError,
)
from zoo.inputs.excerpts import MAX_SIDE, PAGE_SIDE, DocumentPage
from zoo.inputs.kinds import MAX_FILE_BYTES, describe, head_of, kind_of_head, what_it_looks_like
from zoo.inputs.opened import opened
from zoo.strangers.confined import Confined, ConfinedError

if TYPE_CHECKING:
    import numpy as np

MAX_PIXELS = 64_000_000
"""Of a page, as of an image."""
MAX_DPI = 2400
MAX_TEXT = 4 * 2**20
"""Bytes of the text of one page; a page of a novel has 2,000."""
MAX_COUNT = 1_000_000
"""Pages of a document that are counted; any of them can be read."""
_MEMORY = 2 * 2**30  # bytes of address space: the library, a page's images as they are decoded, and the page
# Of the processor; a dense map takes two seconds a page. By the clock, on a busy machine, thrice as long.
_SECONDS, _SECONDS_A_PAGE, _PATIENCE = 15.0, 15.0, 3
_MOST_PROCESSES = 16
_AT_ONCE = (
    4  # pages of one request: all are here before the first is handed out, so that no reader's pause counts as work
)
_AHEAD = 2  # requests on their way


class Page(NamedTuple):
    """A page of a document.

    Attributes:
        number: counted from 1. pixels: uint8 `(height, width, 3)`, RGB, upright, on white.
        text: its text layer in the order of the file, lines ended by a line feed; "" of a scan without one.
    """

    number: int
    pixels: "np.ndarray"
    text: str


def page_count(source: Path | bytes, *, name: str = "") -> int:
    """How many pages a PDF has, 1 or more; nothing is drawn.

    Args:
        source: the file, or its bytes. name: what messages call it.

    Raises:
        InputError: as `load_pages`.
    """
    name = name or describe(source)
    _check(source, name)
    total, _, error = _asked(source, name, (), None, None, False)
    if error is not None:
        raise error
    return total


def load_pages(
    source: Path | bytes,
    *,
    pages: Sequence[int] | None = None,
    max_side: int = PAGE_SIDE,
    dpi: float | None = None,
    text: bool = True,
    name: str = "",
) -> Iterator[Page]:
    """The pages of a PDF, one after the other in bounded memory, however many there are; eight at most are drawn ahead.

    A process with limits on memory and time draws them, and opens no other file: a font that the document does not hold is replaced
    by one that PDFium holds. No script runs, and no link is followed. Annotations and filled-in forms are drawn.

    Args:
        source: the file, or its bytes.
        pages: their numbers, counted from 1, in the order that is wanted: `range(10, 20)`; None for all.
        max_side: pixels of the longer side of every page, 1 to 8,000; small pages are enlarged.
        dpi: pixels an inch, in place of `max_side`; up to 2,400, and 64 megapixels a page.
        text: whether the text is read too. name: what messages call the document.

    Raises:
        MissingFileError, NotMediaError, UnsupportedInputError: no PDF. EncryptedDocumentError: it needs a password.
        CorruptDocumentError: it is damaged or has no pages, or a page cannot be drawn; pages before it are given first.
        DocumentTooLargeError: over 512 MiB, or a page has too many pixels or takes over 15 s of the processor.
        NoSuchPageError: it has no page of this number. MissingPackageError: pypdfium2 is not installed.
        ValueError: a size that is none.
    """
    if isinstance(max_side, bool) or not isinstance(max_side, int) or not 1 <= max_side <= MAX_SIDE:
        raise ValueError(f"max_side must be a whole number from 1 to {MAX_SIDE:,}, not {max_side!r}")
    if dpi is not None and not 0 < dpi <= MAX_DPI:
        raise ValueError(f"dpi must be over 0 and at most {MAX_DPI:,}, not {dpi!r}")
    name = name or describe(source)
    _check(source, name)
    if pages is None:
        numbers: Sequence[int] = range(1, page_count(source, name=name) + 1)
    else:
        numbers = pages
        if wrong := [n for n in numbers if isinstance(n, bool) or not isinstance(n, int) or n < 1]:
            raise NoSuchPageError(f"pages of {name} are numbers counted from 1, not {wrong[0]!r}", what=name)
    return _pages(source, name, numbers, None if dpi else max_side, dpi, text)


def page_pixels(page: DocumentPage) -> "np.ndarray":
    """One page as an image, uint8 `(height, width, 3)`; raises as `load_pages`."""
    return next(load_pages(page.source, pages=[page.number], max_side=page.max_side, text=False)).pixels


def page_text(page: DocumentPage) -> str:
    """The text layer of a page, "" of a scan without one; raises as `load_pages`."""
    return next(
        load_pages(page.source, pages=[page.number], max_side=1)
    ).text  # drawn as one pixel: PDFium reads text of a page


def _pages(
    source: Path | bytes, name: str, numbers: Sequence[int], max_side: int | None, dpi: float | None, text: bool
) -> Iterator[Page]:
    if len(numbers) <= _AT_ONCE:
        yield from _given(_asked(source, name, numbers, max_side, dpi, text))
        return
    waiting: deque[Future[_Answer]] = deque()
    pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="zoo-pages")
    try:
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            waiting.append(pool.submit(_asked, source, name, some, max_side, dpi, text))
            if len(waiting) > _AHEAD:
                yield from _given(waiting.popleft().result())
        while waiting:
            yield from _given(waiting.popleft().result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_Answer = tuple[int, list[Page], InputError | None]


def _given(answer: _Answer) -> Iterator[Page]:
    _, found, error = answer
    found.reverse()
    while found:  # none is kept here while its reader has it
        yield found.pop()
    if error is not None:
        raise error


def _check(source: Any, name: str) -> None:
    """Raises InputError for what is no PDF, before a process is asked."""
    if not isinstance(source, Path | bytes):
        given = f"the string {source[:60]!r}" if isinstance(source, str) else type(source).__name__
        raise UnsupportedInputError(f"a document was given as {given}; pass pathlib.Path or bytes", what=given)
    head = head_of(source)
    if (kind := kind_of_head(head)) != "document":
        found = f"holds {kind}, not a PDF" if kind else what_it_looks_like(head)
        raise NotMediaError(f"{name} {found}", what=name)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_FILE_BYTES:
        raise DocumentTooLargeError(
            f"{name} has {size / 2**20:,.0f} MiB; at most {MAX_FILE_BYTES // 2**20} are read: split it", what=name
        )
    if not _has_pdfium():
        raise MissingPackageError("PDF needs pypdfium2: pip install 'embedding-zoo[documents]'")


@cache
def _has_pdfium() -> bool:
    return find_spec("pypdfium2") is not None


@cache
def _renderers() -> Confined:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Confined("zoo.inputs.rendering:rendered", memory=_MEMORY, processes=min(max(count, 2), _MOST_PROCESSES))


def _asked(
    source: Path | bytes, name: str, numbers: Sequence[int], max_side: int | None, dpi: float | None, text: bool
) -> _Answer:
    """(pages of the document, the wanted ones, why they end early), from a process of its own: what kills it costs one document."""
    seconds = _SECONDS + _SECONDS_A_PAGE * len(numbers)
    most_pixels = max_side * max_side if max_side else MAX_PIXELS
    total, found, error = 0, [], None
    with opened(source) as file:
        pieces = _renderers().pieces(
            name,
            file,
            most=len(numbers) * (3 * most_pixels + MAX_TEXT),
            count=2 * len(numbers) + 1,
            seconds=_PATIENCE * seconds,
            cpu_seconds=seconds,
            pages=list(numbers),
            max_side=max_side,
            dpi=dpi,
            text=text,
            most_pixels=most_pixels,
            most_text=MAX_TEXT // 4,
            room=_room,
        )
        with closing(pieces):
            try:
                total = _total(next(pieces, ({}, b""))[0])
                for number, piece in zip(numbers, pieces, strict=False):
                    found.append(_page(number, *piece, next(pieces, ({}, b""))[1] if text else b""))
                if len(found) < len(numbers):
                    raise ConfinedError("gave fewer pages than were asked for", "lied")
                next(pieces, None)  # the end of the answer
            except ConfinedError as problem:
                error = _named(problem, name, numbers, len(found))
            except InputError as problem:
                error = problem
    return total, found, error


def _room(facts: dict[str, Any], size: int) -> memoryview | None:
    """Memory for the pixels of a page that is not cleared first; what is no page has a place of its own."""
    import numpy as np

    return memoryview(np.empty(size, np.uint8)) if "height" in facts and size else None


def _total(facts: dict[str, Any]) -> int:
    total = facts.get("total")
    if not isinstance(total, int) or not 0 < total <= MAX_COUNT:
        raise ConfinedError(f"counts {total!r} pages", "lied")
    return total


def _page(number: int, facts: dict[str, Any], content: Any, words: Any) -> Page:
    """A piece as a page; the process, which a crafted document may have taken over, is believed nothing."""
    import numpy as np

    height, width = facts.get("height"), facts.get("width")
    whole = all(isinstance(side, int) and 0 < side <= MAX_PIXELS for side in (height, width))
    if not whole or len(content) != height * width * 3:
        raise ConfinedError("gave a page of another size than it says", "lied")
    return Page(
        number, np.frombuffer(content, np.uint8).reshape(height, width, 3), bytes(words).decode("utf-8", "replace")
    )


def _named(problem: ConfinedError, name: str, numbers: Sequence[int], done: int) -> InputError:
    where = f"{name}, page {numbers[done]}," if done < len(numbers) else name
    if problem.reason in ("late", "memory"):
        kind, told = DocumentTooLargeError, "is too much work: what draws it"
    else:
        kind, told = CorruptDocumentError, "is damaged, or made to do harm: what draws it"
    error = kind(f"{where} {told} {problem}; print it to PDF again, or leave it out", what=name)
    error.__cause__ = problem
    return error
