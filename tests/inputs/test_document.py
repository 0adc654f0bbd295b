"""Pages of PDFs: what they show, which are read, and what bad, huge and hostile documents come to."""

import numpy as np
import pytest

import zoo
from tests.inputs.pdfs import BLUE, GREEN, RED, Sheet, bomb, encrypted, pdf
from zoo.errors import (
    CorruptDocumentError,
    DocumentTooLargeError,
    EncryptedDocumentError,
    InputError,
    MissingFileError,
    NoSuchPageError,
    NotMediaError,
    UnsupportedInputError,
)
from zoo.inputs import document
from zoo.inputs.document import load_pages, page_count
from zoo.inputs.hashing import item_key
from zoo.inputs.image import load_pixels
from zoo.inputs.item import Item, as_item
from zoo.shards.content import content_of, state_of

THREE = pdf([Sheet("one", RED), Sheet("two", GREEN), Sheet("three", BLUE)])


def colours(pixels: np.ndarray) -> list[list[int]]:
    """Of the middle of each quarter: upper left, upper right, lower left, lower right."""
    height, width, _ = pixels.shape
    return [pixels[int(y * height), int(x * width)].tolist() for y in (0.25, 0.9) for x in (0.25, 0.9)]


def test_pages_show_what_was_drawn(tmp_path):
    file = tmp_path / "three.pdf"
    file.write_bytes(THREE)
    assert page_count(file) == page_count(THREE) == 3
    pages = list(load_pages(file, max_side=120))
    assert [page.number for page in pages] == [1, 2, 3]
    assert [page.text.strip() for page in pages] == ["one", "two", "three"]
    for page, colour in zip(pages, ([255, 0, 0], [0, 255, 0], [0, 0, 255]), strict=True):
        assert page.pixels.shape == (60, 120, 3)
        assert page.pixels.dtype == np.uint8
        assert colours(page.pixels) == [colour, [255] * 3, [255] * 3, [255] * 3]
    again = list(load_pages(THREE, max_side=120))
    assert all((a.pixels == b.pixels).all() for a, b in zip(pages, again, strict=True))


def test_pixels_are_those_of_pypdfium2s_own_helper():
    import pypdfium2

    plain = pdf([Sheet(size=(612, 792)), Sheet(colour="0.2 0.5 0.7", size=(400, 300))])
    with pypdfium2.PdfDocument(plain) as theirs:
        for page, ours in zip(theirs, load_pages(plain, dpi=144), strict=True):
            expected = page.render(scale=2, rev_byteorder=True).to_numpy()
            assert (ours.pixels == expected).all()
            page.close()


def test_a_turned_page_is_upright():
    (page,) = load_pages(pdf([Sheet(more="/Rotate 90")]), max_side=200)
    assert page.pixels.shape == (200, 100, 3)
    assert colours(page.pixels) == [[255] * 3, [255, 0, 0], [255] * 3, [255] * 3]


def test_the_order_of_the_pages_is_the_one_asked_for():
    many = pdf([Sheet(str(k)) for k in range(1, 14)])
    assert [p.text.strip() for p in load_pages(many, max_side=20)] == [str(k) for k in range(1, 14)]
    assert [p.number for p in load_pages(many, pages=[9, 2, 2], max_side=20)] == [9, 2, 2]
    assert list(load_pages(many, pages=[])) == []
    assert [p.text for p in load_pages(many, pages=range(11, 14), max_side=20, text=False)] == [""] * 3


def test_of_ten_thousand_pages_some_are_read():
    long = pdf([Sheet(str(k), size=(20, 10)) for k in range(1, 10_001)])
    assert page_count(long) == 10_000
    assert [p.text.strip() for p in load_pages(long, pages=range(9_998, 10_001), max_side=8)] == [
        "9998",
        "9999",
        "10000",
    ]
    stream = load_pages(long, max_side=8)
    assert [next(stream).number for _ in range(9)] == list(range(1, 10))
    stream.close()


def test_a_page_of_a_mile_has_as_many_pixels_as_any():
    wide = pdf([Sheet(size=(1e6, 1e6)), Sheet(size=(1e6, 1))])
    assert [page.pixels.shape for page in load_pages(wide, max_side=64)] == [(64, 64, 3), (1, 64, 3)]
    with pytest.raises(DocumentTooLargeError, match=r"page 1 is 1,000,000 by 1,000,000 points"):
        next(load_pages(wide, dpi=300))


def test_a_lost_page_is_named_and_those_before_it_are_given():
    broken = pdf([Sheet("one"), Sheet(lost=True), Sheet("three")])
    stream = load_pages(broken, max_side=20, name="a.pdf")
    assert next(stream).text.strip() == "one"
    with pytest.raises(CorruptDocumentError, match=r"a\.pdf, page 2 is damaged"):
        next(stream)
    assert next(load_pages(broken, pages=[3], max_side=20)).text.strip() == "three"


BAD = {
    "empty": (b"", NotMediaError, "empty"),
    "text": (b"no PDF at all", NotMediaError, "text file"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(99), NotMediaError, "holds image, not a PDF"),
    "head alone": (b"%PDF-1.7\n", CorruptDocumentError, "damaged or cut off"),
    "noise": (b"%PDF-1.7\n" + bytes(range(256)) * 40, CorruptDocumentError, "damaged or cut off"),
    "no pages": (pdf([]), CorruptDocumentError, "no pages"),
    "encrypted": (encrypted(), EncryptedDocumentError, "encrypted"),
    "kids in a ring": (THREE.replace(b"/Kids [4 0 R", b"/Kids [2 0 R"), CorruptDocumentError, "page 3 is damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_documents_are_named(kind, tmp_path):
    content, error, words = BAD[kind]
    file = tmp_path / "bad.pdf"
    file.write_bytes(content)
    for source in (file, content):
        with pytest.raises(error, match=words) as raised:
            list(load_pages(source, max_side=20))
        assert (str(file) if source is file else f"{len(content)} bytes") in str(raised.value)
    assert page_count(THREE) == 3  # whoever reads them is still there


def test_a_cut_document_gives_pages_or_its_error():
    for share in (0.2, 0.5, 0.9, 0.99):
        try:
            found = len(list(load_pages(THREE[: int(share * len(THREE))], max_side=10)))
        except InputError as error:
            assert isinstance(error, CorruptDocumentError)  # noqa: PT017
        else:
            assert 1 <= found <= 3


def test_what_is_asked_wrongly_is_refused(tmp_path, monkeypatch):
    for wrong in ([0], [-1], [1.0], [True]):
        with pytest.raises(NoSuchPageError, match="counted from 1"):
            list(load_pages(THREE, pages=wrong))
    with pytest.raises(NoSuchPageError, match="has 3 pages, and no page 4"):
        list(load_pages(THREE, pages=[1, 4], max_side=10))
    for sizes in ({"max_side": 0}, {"max_side": 9000}, {"max_side": 1.5}, {"dpi": 0}, {"dpi": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(sizes))):
            load_pages(THREE, **sizes)
    with pytest.raises(ValueError, match="max_side"):
        zoo.DocumentPage(THREE, 1, max_side=9000)
    with pytest.raises(UnsupportedInputError, match=r"pass pathlib\.Path or bytes"):
        page_count("paper.pdf")
    with pytest.raises(MissingFileError):
        page_count(tmp_path / "none.pdf")
    monkeypatch.setattr(document, "MAX_FILE_BYTES", 100)
    with pytest.raises(DocumentTooLargeError, match="split it"):
        page_count(THREE)


def test_what_would_be_drawn_for_years_ends(monkeypatch):
    monkeypatch.setattr(document, "_SECONDS", 0.1)
    monkeypatch.setattr(document, "_SECONDS_A_PAGE", 0.1)
    with pytest.raises(DocumentTooLargeError, match="page 1, is too much work"):
        list(load_pages(bomb(), max_side=50))
    monkeypatch.undo()
    assert page_count(THREE) == 3


def test_scripts_links_and_other_files_do_nothing(tmp_path):
    (tmp_path / "secret.txt").write_text("0 1 0 rg 0 0 200 100 re f")
    plain = next(load_pages(pdf([Sheet("one")]), max_side=50))
    busy = pdf(
        [Sheet("one")],
        catalog="/OpenAction << /S /JavaScript /JS (app.launchURL\\('http://127.0.0.1:9/'\\)) >> /AA << /O << /S /Launch /F (/bin/sh) >> >>",
    )
    page = next(load_pages(busy, max_side=50))
    assert (page.pixels == plain.pixels).all()
    assert page.text == plain.text
    outside = pdf([Sheet("one")]).replace(b"<< /Length", f"<< /F ({tmp_path / 'secret.txt'}) /Length".encode())
    assert [0, 255, 0] not in next(load_pages(outside, max_side=50)).pixels.reshape(-1, 3).tolist()


def test_a_page_is_an_image_wherever_one_is_taken(tmp_path):
    file = tmp_path / "three.pdf"
    file.write_bytes(THREE)
    page = zoo.DocumentPage(file, 2, max_side=100)
    assert (load_pixels(page) == next(load_pages(file, pages=[2], max_side=100)).pixels).all()
    assert as_item(page).image is page
    assert as_item(file).document == file
    with pytest.raises(NoSuchPageError, match="no page 7"):
        load_pixels(zoo.DocumentPage(file, 7))


def test_pages_are_told_apart_by_their_number_and_their_document(tmp_path):
    file, copy = tmp_path / "a.pdf", tmp_path / "b.pdf"
    file.write_bytes(THREE)
    copy.write_bytes(THREE)
    pages = [zoo.DocumentPage(file, 1), zoo.DocumentPage(file, 2), zoo.DocumentPage(file, 1, max_side=99)]
    keys = [item_key(Item(image=page), files="content") for page in pages]
    assert len(set(keys)) == 3
    assert item_key(Item(image=zoo.DocumentPage(copy, 1)), files="content") == keys[0]
    assert item_key(Item(image=zoo.DocumentPage(copy, 1))) != item_key(Item(image=pages[0]))
    contents = [content_of(page) for page in (*pages, file)]
    assert len(set(contents)) == 4
    assert content_of(zoo.DocumentPage(copy, 2)) == contents[1]
    assert content_of(Item(image=pages[0])) == content_of(Item(image=zoo.DocumentPage(copy, 1)))
    assert state_of(pages[0]) == state_of(file) != ()


def test_without_the_library_its_name_is_told(monkeypatch):
    monkeypatch.setattr(document, "_has_pdfium", lambda: False)
    with pytest.raises(zoo.ZooError, match=r"embedding-zoo\[documents\]"):
        page_count(THREE)
