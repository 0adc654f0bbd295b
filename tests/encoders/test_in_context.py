"""bge-en-icl's queries: examples, instruction, query, and the words after it; what is cut, kept and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import zoo
from tests.reference.base import stir
from zoo.errors import PromptError, TooManyTokensError

TASK, EXAMPLES = "Find pets", [("dog", "it barks"), ("cat", "it meows")]
SHOWN = "<instruct>Find pets\n<query>dog\n<response>it barks\n\n<instruct>Find pets\n<query>cat\n<response>it meows\n\n"


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    return stir(zoo.build_model("bge-icl-test"))


def read(model: zoo.Embedder, text: str, prompt: str) -> list[str]:
    encoder = model.towers[0].encoder
    item = encoder.prompted(zoo.Item(text=text), prompt)
    return [encoder.tokenize.token(i) for i in encoder.prepare_item(item)]


def of(model: zoo.Embedder, text: str) -> list[str]:
    encoder = model.towers[0].encoder
    return [encoder.tokenize.token(i) for i in encoder.tokenize(text)]


def test_a_query_is_written_as_the_authors_do(model: zoo.Embedder) -> None:
    assert read(model, "a pet", "<instruct>Find pets\n<query>") == of(
        model, "<instruct>Find pets\n<query>a pet\n<response>"
    )
    assert read(model, "a pet", "") == of(model, "a pet"), "a document stands alone"
    shown = read(model, "a pet", f"{SHOWN}<instruct>Find pets\n<query>")
    assert shown == of(model, f"{SHOWN}<instruct>Find pets\n<query>a pet\n<response>")


def test_task_and_examples_become_that_prompt(model: zoo.Embedder) -> None:
    expected = model.encode("a pet", prompt=f"{SHOWN}<instruct>Find pets\n<query>")
    assert torch.equal(model.encode_query("a pet", task=TASK, examples=EXAMPLES), expected)
    assert (model.encode_query("a pet", task=TASK) - expected).abs().max() > 1e-3
    assert torch.equal(model.encode_document("a pet"), model.encode("a pet"))
    with pytest.raises(PromptError, match="has no answer"):
        model.encode_query("a pet", task=TASK, examples=[("dog", "")])


def test_a_long_query_is_cut_and_its_end_stays(model: zoo.Embedder) -> None:
    encoder, prompt = model.towers[0].encoder, f"{SHOWN}<instruct>Find pets\n<query>"
    tokens = read(model, "pet " * 200, prompt)
    assert len(tokens) == encoder.max_tokens - 1, "as the authors count: alone, the words after it have a token more"
    assert tokens[-3:] == ["<0x0A>", "<response>", "</s>"]
    assert tokens[: len(of(model, SHOWN)) - 1] == of(model, SHOWN)[:-1]
    assert encoder.cut(encoder.prompted(zoo.Item(text="pet " * 200), prompt)) == (encoder.max_tokens, "right")
    assert encoder.cut(encoder.prompted(zoo.Item(text="pet"), prompt)) is None


def test_examples_that_leave_no_room_are_refused(model: zoo.Embedder) -> None:
    with pytest.raises(
        TooManyTokensError, match="item 0: the examples leave no room for a query where 200 tokens are read"
    ):
        model.encode_query(["a pet"], task=TASK, examples=[("dog", "it barks " * 40)])


def test_saved_it_reads_the_same(model: zoo.Embedder, tmp_path: Path) -> None:
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    query = {"task": TASK, "examples": EXAMPLES}
    assert torch.equal(again.encode_query("a pet", **query), model.encode_query("a pet", **query))
