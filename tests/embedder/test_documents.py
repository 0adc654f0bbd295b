"""Documents on models that read images: the mean of the pages, with a text beside them, bad ones, long ones, trained on."""

import tracemalloc
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.inputs.pdfs import BLUE, GREEN, Sheet, encrypted, pdf
from zoo import DocumentPage, Item, build_model
from zoo.embedder import documents
from zoo.errors import (
    CorruptDocumentError,
    DocumentTooLargeError,
    EncryptedDocumentError,
    UnsupportedModalityError,
)
from zoo.fusion import WeightedSum
from zoo.inputs.document import load_pages
from zoo.inputs.excerpts import PAGE_SIDE

SHEETS = [Sheet("one"), Sheet("two", GREEN, (300, 400)), Sheet("three", BLUE, (90, 90))]
THREE = pdf(SHEETS)


@pytest.mark.parametrize("name", ["image-test", "clip-test", "qwen3vl-test"])
def test_a_document_is_the_mean_of_its_pages(name: str) -> None:
    model = build_model(name).eval()
    pages = model.encode([page.pixels for page in load_pages(THREE)])
    vector = model.encode(THREE)
    torch.testing.assert_close(vector, F.normalize(pages.mean(0), dim=0), atol=1e-5, rtol=0)
    assert torch.equal(model.encode(Item(document=THREE)), vector)  # twice the same
    refs = model.encode([DocumentPage(THREE, number) for number in (1, 2, 3)])
    torch.testing.assert_close(refs, pages, atol=1e-6, rtol=0)
    assert "document" not in model.spec.modalities  # which says what the encoders read by themselves


@pytest.mark.parametrize("name", ["colpali-test", "colqwen2-test"])
def test_with_late_interaction_it_is_the_tokens_of_all_pages(name: str) -> None:
    model = build_model(name).eval()
    pages = model.encode([page.pixels for page in load_pages(THREE)])
    vector = model.encode(THREE)
    torch.testing.assert_close(vector, torch.cat(pages), atol=1e-5, rtol=0)
    alone, short = model.encode([pdf(SHEETS[:1]), THREE])
    torch.testing.assert_close(short, vector, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, pages[0], atol=1e-5, rtol=0)


def test_its_vector_does_not_depend_on_what_else_is_embedded(tmp_path: Path) -> None:
    model = build_model("clip-test").eval()
    file = tmp_path / "three.pdf"
    file.write_bytes(THREE)
    long = pdf([Sheet(str(k), f"0 {k / 40} 0") for k in range(40)])
    mixed = [pdf([Sheet()]), file, "a text", long, load_pages(THREE, pages=[2]).__next__().pixels, THREE]
    together = model.encode(mixed)
    for value, vector in zip(mixed, together, strict=True):
        torch.testing.assert_close(model.encode(value), vector, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.encode([value], batch_size=1)[0], vector, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        together[1], together[5], atol=1e-6, rtol=0
    )  # by file and by bytes, at two places of a batch
    cut = model.encode(THREE, dim=8)
    torch.testing.assert_close(cut, F.normalize(together[1][:8], dim=0), atol=1e-5, rtol=0)


def test_a_text_beside_it_goes_with_every_page_where_both_are_read() -> None:
    model = build_model("vlm2vec-test").eval()
    item = Item(text="a table of results", document=THREE, instruction="Find the page")
    pages = [Item(text=item.text, image=DocumentPage(THREE, n), instruction=item.instruction) for n in (1, 2, 3)]
    mean = F.normalize(model.encode(pages).mean(0), dim=0)
    torch.testing.assert_close(model.encode(item), mean, atol=1e-5, rtol=0)
    prompted = model.encode(Item(document=THREE), prompt="Find: ")
    pages = model.encode([DocumentPage(THREE, n) for n in (1, 2, 3)], prompt="Find: ")
    torch.testing.assert_close(prompted, F.normalize(pages.mean(0), dim=0), atol=1e-5, rtol=0)


def test_where_they_are_read_apart_it_is_fused_with_its_text() -> None:
    model = build_model("clip-test").eval()
    model.fusion = WeightedSum()
    vector = model.encode(Item(text="a", document=THREE))
    summed = F.normalize(model.encode("a") + model.encode(THREE), dim=0)
    torch.testing.assert_close(vector, summed, atol=1e-5, rtol=0)


def test_bad_documents_are_errors_of_their_items() -> None:
    model = build_model("image-test").eval()
    lost = pdf([Sheet("one"), Sheet(lost=True)])
    inputs = [THREE, lost, encrypted(), pdf([]), THREE[:60], THREE]
    found = list(model.encode_stream(inputs))
    kinds = [type(one.error) for one in found]
    assert kinds == [
        type(None), CorruptDocumentError, EncryptedDocumentError, CorruptDocumentError, CorruptDocumentError, type(None),
    ]  # fmt: skip
    assert [one.error.index for one in found[1:5]] == [1, 2, 3, 4]
    assert torch.equal(found[0].vector, found[5].vector)
    with pytest.raises(CorruptDocumentError, match=r"item 1: .*page 2"):
        model.encode(inputs[:2])


def test_what_reads_no_images_or_no_parts_says_so() -> None:
    with pytest.raises(UnsupportedModalityError, match="pages are read as images"):
        build_model("text-test").encode(THREE)
    model = build_model("clip-test")
    with pytest.raises(UnsupportedModalityError, match="not document\\+image"):
        model.encode(Item(document=THREE, image=DocumentPage(THREE, 1)))
    with pytest.raises(UnsupportedModalityError, match=r"reads image or text or image\+text, not video"):
        model.encode(Item(video=THREE))  # models of images say nothing of documents where none is asked for


def test_a_document_of_too_many_pages_is_named_and_any_page_of_it_is_read() -> None:
    model = build_model("image-test").eval()
    long = pdf([Sheet(str(k), size=(20, 10)) for k in range(documents.MAX_PAGES + 1)])
    with pytest.raises(DocumentTooLargeError, match=r"1,001 pages; at most 1,000 .*encode_track"):
        model.encode(long)
    assert model.encode(DocumentPage(long, documents.MAX_PAGES + 1)).shape == (model.spec.dim,)


@pytest.mark.slow
def test_three_hundred_pages_take_no_more_memory_than_thirty() -> None:
    model = build_model("image-test").eval()
    peaks = []
    for pages in (40, 300):
        long = pdf([Sheet(str(k), size=(600, 800)) for k in range(pages)])
        tracemalloc.start()
        model.encode(long)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    page = PAGE_SIDE * PAGE_SIDE * 3 / 4 * 3
    assert peaks[1] < peaks[0] + 4 * page


def test_it_learns() -> None:
    """The batch of training: all pages at once, with gradients, and the vectors of `encode`."""
    model = build_model("clip-test")
    reader = model.route(Item(document=THREE))
    reads = [reader.encoder.prepare_item(Item(document=content)) for content in (THREE, pdf(SHEETS[:1]))]
    with model.eval_mode.during_pass(model):
        vectors = reader(reader.encoder.collate(reads))
    torch.testing.assert_close(vectors.detach(), model.encode([THREE, pdf(SHEETS[:1])]), atol=1e-5, rtol=0)
    vectors.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in reader.parameters())
