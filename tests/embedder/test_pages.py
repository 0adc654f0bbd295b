"""Pages that are read as text: the mean of a page's passages, the image of a page without text, documents and tracks of both."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.inputs.pdfs import Sheet, pdf
from zoo import Box, DocumentPage, Item, build_model, load_model
from zoo.embedder import Embedder, pages
from zoo.embedder.pages import passages
from zoo.errors import DocumentTooLargeError, NoSuchPageError

WORDS = "green apples and pears lie on a wooden table in the kitchen beside a jug of cold milk"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return build_model("mini-omni-test").eval()


def sheet(text: str) -> Sheet:
    return Sheet(text, size=(700, 300))


def test_a_page_is_the_mean_of_its_passages(model) -> None:
    document = pdf([sheet("a short page of text and nothing else"), sheet(WORDS)])
    texts = model.towers[1].encoder
    first, second = (list(passages(texts, text)) for text in ("a short page of text and nothing else", WORDS))
    assert len(second) > 1
    found = model.encode([DocumentPage(document, 1), DocumentPage(document, 2)])
    for vector, parts in zip(found, (first, second), strict=True):
        torch.testing.assert_close(vector, F.normalize(model.encode(parts).mean(0), dim=0), atol=1e-5, rtol=0)
    whole = model.encode(Item(document=document))
    torch.testing.assert_close(whole, F.normalize(found.mean(0), dim=0), atol=1e-5, rtol=0)
    track = model.encode_track(Item(document=document), "page")
    torch.testing.assert_close(track.vectors, found, atol=1e-6, rtol=0)
    assert track.pages.tolist() == [1, 2]


def test_a_page_without_text_is_its_image_also_beside_others(model) -> None:
    document = pdf([sheet(""), sheet(WORDS), sheet("7")])
    asked = [DocumentPage(document, number) for number in (1, 2, 3)]
    found = model.encode(asked)
    from zoo.inputs.document import page_pixels

    for place in (0, 2):  # a number at its foot says nothing
        torch.testing.assert_close(found[place], model.encode(page_pixels(asked[place])), atol=1e-5, rtol=0)
    for page, vector in zip(asked, found, strict=True):
        torch.testing.assert_close(model.encode(page), vector, atol=1e-5, rtol=0)
    assert (found[1] - model.encode(page_pixels(asked[1]))).abs().max() > 1e-2


def test_passages_hold_every_word_and_none_is_cut(model) -> None:
    texts = model.towers[1].encoder
    parts = list(passages(texts, WORDS * 3))
    assert " ".join(parts).split() == (WORDS * 3).split()
    assert all(texts.cut(Item(text=part)) is None for part in parts)
    long = "x" * 90  # one word that is longer than what is read
    assert list(passages(texts, f"a {long} b")) == ["a", long, "b"]
    assert not list(passages(texts, ""))


def test_a_page_of_more_text_than_a_vector_can_say_is_refused_by_name(model, monkeypatch) -> None:
    monkeypatch.setattr(pages, "_MOST", 2)
    document = pdf([sheet(WORDS), sheet("a short page of text and nothing else")])
    with pytest.raises(DocumentTooLargeError, match=r"page 1 has over 2 passages of text"):
        model.encode(DocumentPage(document, 1))
    assert torch.isfinite(model.encode(DocumentPage(document, 2))).all()


def test_a_prompt_or_an_instruction_stands_before_every_passage(model) -> None:
    document, texts = pdf([sheet(WORDS)]), model.towers[1].encoder
    page = DocumentPage(document, 1)
    parts = list(passages(texts, WORDS, "find: "))
    assert " ".join(parts).split() == WORDS.split()
    assert all(texts.cut(Item(text=f"find: {part}")) is None for part in parts)
    wanted = F.normalize(model.encode([f"find: {part}" for part in parts]).mean(0), dim=0)
    for found in (
        model.encode(page, prompt="find: "),
        model.encode(Item(image=page, instruction="find:")),
        model.encode(Item(document=document), prompt="find: "),
    ):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert (model.encode(page) - wanted).abs().max() > 1e-2
    drawn = DocumentPage(pdf([sheet("")]), 1)
    torch.testing.assert_close(model.encode(drawn, prompt="find: "), model.encode(drawn), atol=1e-6, rtol=0)


def test_a_text_beside_a_page_is_fused_with_what_the_page_says_and_regions_are_of_its_image(model) -> None:
    document = pdf([sheet(WORDS)])
    page = DocumentPage(document, 1)
    fused = F.normalize(model.encode("a jug") + model.encode(page), dim=0)
    for item in (Item(text="a jug", image=page), Item(text="a jug", document=document)):
        torch.testing.assert_close(model.encode(item), fused, atol=1e-5, rtol=0)
    track = model.encode_track(Item(text="a jug", document=document), "page")
    torch.testing.assert_close(track.vectors[0], fused, atol=1e-5, rtol=0)
    from zoo.inputs.document import page_pixels

    boxes = [Box(0, 0, 700, 300)]
    torch.testing.assert_close(
        model.encode_regions(page, boxes), model.encode_regions(page_pixels(page), boxes), atol=1e-5, rtol=0
    )


def test_of_vectors_with_norms_it_is_the_mean_too_and_no_sum() -> None:
    model = build_model("mini-omni-test").eval()
    model.spec = replace(model.spec, similarity="dot")
    parts = list(passages(model.towers[1].encoder, WORDS))
    found = model.encode(DocumentPage(pdf([sheet(WORDS)]), 1))
    torch.testing.assert_close(found, model.encode(parts).mean(0), atol=1e-5, rtol=0)


def test_vectors_of_drawn_pages_are_told_from_those_of_read_ones(model) -> None:
    drawn = Embedder(replace(model.spec, pages="image"), list(model.towers))
    assert drawn.fingerprint() != model.fingerprint()
    assert {**model.fingerprint(), "pages": None} == {**drawn.fingerprint(), "pages": None}


def test_other_models_draw_their_pages_and_a_page_that_is_not_there_is_named(model) -> None:
    document = pdf([sheet(WORDS)])
    other = build_model("mini-test").eval()
    from zoo.inputs.document import page_pixels

    drawn = page_pixels(DocumentPage(document, 1))
    torch.testing.assert_close(other.encode(DocumentPage(document, 1)), other.encode(drawn), atol=1e-5, rtol=0)
    with pytest.raises(NoSuchPageError, match="no page 4"):
        model.encode(DocumentPage(document, 4))


def test_how_pages_are_read_is_saved(model, tmp_path) -> None:
    model.save_pretrained(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.spec.pages == "text"
    assert "pages" not in build_model("mini-test").spec.to_dict()  # so that folders of other models stay as they are
    page = DocumentPage(pdf([sheet(WORDS)]), 1)
    assert torch.equal(again.encode(page), model.encode(page))


def test_a_model_that_could_not_read_them_is_refused() -> None:
    image = build_model("image-test")
    with pytest.raises(ValueError, match="pages are read as text by a tower of texts alone"):
        Embedder(replace(image.spec, pages="text"), list(image.towers)).encode("a")
    with pytest.raises(ValueError, match="pages must be image or text, not 'scan'"):
        replace(image.spec, pages="scan")
