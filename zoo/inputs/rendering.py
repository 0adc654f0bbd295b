"""Pages of a PDF → pixels and text, in a process with limits: what `zoo.inputs.document` runs there, the only room that knows PDFium.

PDFium as pypdfium2 brings it runs no scripts and follows no links. No second file is opened: a font that a document does not hold is
replaced by PDFium's own, so that a page has the same pixels on every machine.
"""

import codecs
import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from zoo.errors import CorruptDocumentError, DocumentTooLargeError, EncryptedDocumentError, NoSuchPageError, ZooError
from zoo.strangers.confined import Answer
from zoo.strangers.limits import nothing_else_opened

with suppress(ImportError, OSError):  # before the limits fall; whoever asks without it is answered by the other side
    import pypdfium2.raw as pdfium
    from pypdfium2 import PdfDocument

POINTS = 72  # in an inch
codecs.lookup("utf-16-le")  # of PDFium's texts: Python reads a codec from a file, and later none can be opened


def rendered(
    file: int,
    name: str,
    pages: Sequence[int],
    max_side: int | None,
    dpi: float | None,
    text: bool,
    most_pixels: int,
    most_text: int,
) -> Answer:
    """Pages of one document.

    Args:
        file: its descriptor. pages: numbers, counted from 1. max_side, dpi: as of `load_pages`, one of them. text: whether it is wanted.
        most_pixels, most_text: of a page, in pixels and bytes of UTF-8.

    Yields:
        First {"total": pages of the document}, then for each page {"height", "width"} with its pixels, and its text apart, if wanted.
    """
    with nothing_else_opened(), _document(file, name) as document:
        total, room = len(document), np.empty(0, np.uint8)
        yield {"total": total}, b""
        for number in pages:
            where = f"{name}, page {number}"
            if not 1 <= number <= total:
                raise NoSuchPageError(f"{name} has {total:,} pages, and no page {number}", what=name)
            try:
                page = document[number - 1]
                try:
                    rows, columns = _size(page, max_side, dpi, most_pixels, where)
                    if room.size < rows * columns * 3:
                        room = np.empty(
                            rows * columns * 3, np.uint8
                        )  # for all pages: fresh memory costs as much as drawing
                    _draw(page, pixels := room[: rows * columns * 3].reshape(rows, columns, 3))
                    words = _text(page, most_text, where) if text else None
                finally:
                    page.close()
            except (ZooError, MemoryError):
                raise
            except Exception as error:
                raise CorruptDocumentError(f"{where} is damaged and cannot be drawn: {error}", what=name) from error
            yield {"height": rows, "width": columns}, pixels
            if words is not None:
                yield {}, words


@contextmanager
def _document(file: int, name: str) -> Iterator[Any]:
    raw = pdfium.FPDF_LoadDocument(f"/dev/fd/{file}".encode() + b"\0", None)
    if not raw:
        code = pdfium.FPDF_GetLastError()
        if code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise EncryptedDocumentError(
                f"{name} is encrypted and opens with a password alone; save it without one", what=name
            )
        raise CorruptDocumentError(
            f"{name} is damaged or cut off, and no PDF that can be opened; repair it (qpdf, or print it to PDF again)",
            what=name,
        )
    with PdfDocument(raw) as document:
        if len(document) < 1:
            raise CorruptDocumentError(f"{name} has no pages", what=name)
        yield document


def _size(page: Any, max_side: int | None, dpi: float | None, most: int, where: str) -> tuple[int, int]:
    """Rows and columns of pixels, of the page turned as it says."""
    width, height = page.get_size()  # points, UserUnit left out
    if not (0 < width < 1e9 and 0 < height < 1e9):
        raise CorruptDocumentError(f"{where} has a size of {width:g} by {height:g} points", what=where)
    scale = dpi / POINTS if dpi else max_side / max(width, height)
    columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
    if columns * rows > most:
        raise DocumentTooLargeError(
            f"{where} is {width:,.0f} by {height:,.0f} points, at {dpi:g} dpi {columns:,} by {rows:,} pixels; at most "
            f"{most / 1e6:.0f} megapixels are drawn: take fewer dpi, or max_side",
            what=where,
        )
    return rows, columns


def _draw(page: Any, pixels: np.ndarray) -> None:
    """Fills `(rows, columns, 3)`: RGB on white, with annotations and what forms were filled with."""
    rows, columns, _ = pixels.shape
    pixels.fill(255)
    target = pixels.ctypes.data_as(ctypes.c_void_p)
    bitmap = pdfium.FPDFBitmap_CreateEx(columns, rows, pdfium.FPDFBitmap_BGR, target, pixels.strides[0])
    if not bitmap:
        raise MemoryError
    flags = pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER
    try:
        pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, columns, rows, 0, flags)
    finally:
        pdfium.FPDFBitmap_Destroy(bitmap)


def _text(page: Any, most: int, where: str) -> bytes:
    layer = page.get_textpage()
    try:
        if layer.count_chars() > most:
            raise DocumentTooLargeError(f"{where} has {layer.count_chars():,} letters; at most {most:,}", what=where)
        found = layer.get_text_range()
    finally:
        layer.close()
    # PDFium ends lines as Windows does, and marks a hyphen at the end of a line by U+FFFE.
    return found.replace("\r\n", "\n").replace("\ufffe", "-").replace("\0", "").encode("utf-8", "replace")
