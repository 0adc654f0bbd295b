"""Documents on the wire: the vectors of `encode`, in every way that a client may send a PDF, and bad ones refused by name."""

import base64

import numpy as np
import pytest

import zoo
from tests.inputs.pdfs import GREEN, Sheet, encrypted, pdf
from tests.serving.serve_support import serving
from zoo.serving import Limits

PDF = pdf([Sheet("one"), Sheet("two", GREEN)])


def url(content: bytes) -> str:
    return "data:application/pdf;base64," + base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def served():
    model = zoo.build_model("clip-test").eval()
    with serving(model, limits=Limits(pages=3)) as served:
        served.model = model
        yield served


def test_a_document_has_the_vector_of_encode_however_it_is_sent(served):
    inputs = [
        {"document": url(PDF)},
        {"content": [{"type": "input_file", "filename": "a.pdf", "file_data": url(PDF)}]},
        {"content": [{"type": "file", "file": {"file_data": url(PDF), "filename": "a.pdf"}}]},
        {"document": {"data": base64.b64encode(PDF).decode()}},
        {"content": [{"type": "document_url", "document_url": {"url": url(PDF)}}]},
    ]
    expected = served.model.encode(PDF).numpy()
    np.testing.assert_allclose(served.embed(inputs).vectors(), np.stack([expected] * 5), atol=1e-5)
    with_text = served.embed({"document": url(PDF), "text": "a"}).vectors()[0]
    np.testing.assert_allclose(with_text, served.model.encode(zoo.Item(text="a", document=PDF)).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (pdf([Sheet()] * 4), "document-too-large", "4 pages; at most 3"),
        (encrypted(), "encrypted-document", "password"),
        (PDF[:50], "corrupt-document", "damaged"),
        (pdf([Sheet("one"), Sheet(lost=True)]), "corrupt-document", "page 2"),
        (b"no PDF", "not-media", "text file"),
    ],
)
def test_bad_documents_are_refused_with_their_place(served, content, code, words):
    answer = served.embed([{"document": url(PDF)}, {"document": url(content)}, {"document": url(PDF)}])
    assert answer.status == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("input[1]", code)
    assert words in error["message"]


def test_what_is_no_document_of_the_wire_is_told(served):
    for given, words in (
        (url(PDF), "would be embedded as text"),
        ({"document": "/etc/passwd"}, "must be a data URL"),
        ({"content": [{"type": "file", "file": {"file_id": "file-1"}}]}, "must be a data URL"),
        ({"document": "data:application/pdf,abc"}, "data:application/pdf;base64,"),
    ):
        answer = served.embed(given)
        assert answer.status == 400
        assert words in answer.json()["error"]["message"]
