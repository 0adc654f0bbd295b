"""`encode` and its variants: shapes, order, prompts, cuts, precisions, streams, and what happens when the model misbehaves."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import zoo
from zoo.embedder import Embedder
from zoo.errors import NonFiniteEmbeddingError
from zoo.similarity import quantize

WORDS = [
    "a",
    "red",
    "motorbike",
    "stands",
    "beside",
    "the",
    "old",
    "harbour",
    "while",
    "two",
    "people",
    "watch",
    "a",
    "boat",
    "and",
    "drink",
    "coffee",
]
TEXTS = [" ".join(WORDS[i % 5 : i % 5 + 1 + i * 7 % 16]) + f" {i}" for i in range(60)]


@pytest.fixture(scope="module", params=["text-test", "modernbert-test", "clip-test", "siglip-test"])
def model(request):
    return zoo.build_model(request.param)


@pytest.fixture(scope="module")
def clip():
    return zoo.build_model("clip-test")


def test_one_gives_a_vector_many_a_matrix_a_stream_a_stream(model):
    dim = model.spec.dim
    assert model.encode("a").shape == (dim,)
    assert model.encode(["a"]).shape == (1, dim)
    assert model.encode(("a", "b")).shape == (2, dim)
    assert model.encode([]).shape == (0, dim)
    assert model.encode(np.array(["a", "b"])).shape == (2, dim)
    stream = model.encode(t for t in ["a", "b"])
    assert [v.shape for v in stream] == [(dim,), (dim,)]


def test_a_batch_of_one_equals_a_batch_of_many_in_the_same_order(model):
    together = model.encode(TEXTS)
    apart = torch.stack([model.encode(text) for text in TEXTS])
    torch.testing.assert_close(together, apart, atol=2e-6, rtol=0)
    different = (torch.pdist(together) > 1e-3).float().mean()
    assert different > 0.8, "texts must have different vectors, or their order is not tested"


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_does_not_change_vectors(model, batch_size):
    torch.testing.assert_close(model.encode(TEXTS, batch_size=batch_size), model.encode(TEXTS), atol=2e-6, rtol=0)


def test_token_budgets_bound_the_padded_batch(monkeypatch):
    model = zoo.build_model("text-test")
    encoder = model.towers[0].encoder
    seen = []
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda batch: (seen.append(batch["ids"].shape), forward(batch))[1])
    monkeypatch.setattr(encoder, "batch_budget", 40)
    model.encode(TEXTS)
    assert len(seen) > 3
    assert all(rows * longest <= 40 or rows == 1 for rows, longest in seen)


def test_a_bad_batch_size_is_refused(model):
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        model.encode(["a"], batch_size=0)


def test_prompts_by_name_by_text_and_by_default():
    model = zoo.build_model("text-test")
    model.spec = replace(model.spec, prompts={"query": "query: ", "passage": "passage: "})
    plain = model.encode("cats")
    assert torch.equal(model.encode("cats", prompt_name="query"), model.encode("query: cats"))
    assert torch.equal(model.encode("cats", prompt="find: "), model.encode("find: cats"))
    assert torch.equal(model.encode_query("cats"), model.encode("query: cats"))
    assert torch.equal(model.encode_document("cats"), model.encode("passage: cats"))
    assert torch.equal(plain, model.encode("cats", prompt=""))
    model.spec = replace(model.spec, prompts={"any": "find: "}, default_prompt_name="any")
    assert torch.equal(model.encode("cats"), model.encode("find: cats", prompt=""))


def test_a_blank_text_stays_an_error_after_a_prompt():
    model = zoo.build_model("text-test")
    with pytest.raises(zoo.InputError, match="no visible character"):
        model.encode("  ", prompt="query: ")


def test_a_cut_is_the_normalised_beginning_and_warns_unless_trained_for(model):
    whole = model.encode(TEXTS[:4])
    with pytest.warns(UserWarning, match="lose accuracy"):
        cut = model.encode(TEXTS[:4], dim=8)
    torch.testing.assert_close(cut, torch.nn.functional.normalize(whole[:, :8], dim=-1))
    model.spec = replace(model.spec, dims=(16, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode(TEXTS[:4], dim=8)


@pytest.mark.parametrize("dim", [0, -1, 100_000])
def test_impossible_cuts_are_refused(model, dim):
    with pytest.raises(ValueError, match=f"dim must be between 1 and {model.spec.dim}"):
        model.encode("a", dim=dim)


def test_int8_keeps_the_cosine_and_binary_is_the_packed_sign():
    vectors = torch.nn.functional.normalize(torch.randn(50, 64), dim=-1)
    model = zoo.build_model("text-test")
    exact = model.similarity(vectors, vectors)
    small = quantize(vectors, "int8")
    assert small.dtype == torch.int8
    assert small.abs().amax(1).tolist() == [127] * 50
    assert (model.similarity(small, small) - exact).abs().max() < 0.02
    bits = quantize(vectors, "binary")
    assert bits.shape == (50, 8)
    np.testing.assert_array_equal(bits.numpy(), np.packbits(vectors.numpy() > 0, axis=1))
    hamming = (torch.sign(vectors) @ torch.sign(vectors).T) / 64
    torch.testing.assert_close(model.similarity(bits, bits), hamming)


def test_unlike_vectors_are_not_compared(clip):
    with pytest.raises(ValueError, match="cannot compare"):
        clip.similarity(torch.zeros(1, 8, dtype=torch.uint8), torch.zeros(1, 8))
    with pytest.raises(ValueError, match="cannot compare"):
        clip.similarity(torch.zeros(1, 8), torch.zeros(1, 9))


def test_rank_sorts_by_cosine_and_takes_inputs_or_vectors(clip):
    documents = ["a dog", "a red motorbike", "coffee"]
    hits = clip.rank("a red motorbike", documents)
    assert hits[0].index == 1
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert clip.rank(clip.encode("a red motorbike"), clip.encode(documents), k=2) == hits[:2]
    assert clip.rank("a", []) == []


def test_the_stream_reports_bad_items_in_place(clip):
    results = list(clip.encode_stream(iter(["a", "", "b", 5])))
    assert [r.index for r in results] == [0, 1, 2, 3]
    assert [r.error.code if r.error else None for r in results] == [None, "empty-text", None, "unsupported-type"]
    assert results[2].vector.shape == (clip.spec.dim,)


def test_the_stream_reads_ahead_only_a_bounded_window(clip):
    read = []

    def source():
        for i in range(50_000):
            read.append(i)
            yield f"text {i}"

    stream = clip.encode_stream(source())
    next(stream)
    assert len(read) < 3000
    stream.close()


def test_training_mode_is_left_as_it_was(clip):
    clip.train()
    clip.encode("a")
    assert clip.training
    clip.eval()
    clip.encode("a")
    assert not clip.training


def test_running_out_of_memory_halves_the_batch(clip, monkeypatch):
    expected = clip.encode(TEXTS[:20])
    tower = clip.towers[1]
    forward, sizes = type(tower).forward, []

    def small_machine(self, batch):
        rows = len(next(iter(batch.values())))
        sizes.append(rows)
        if rows > 6:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, batch)

    monkeypatch.setattr(type(tower), "forward", small_machine)
    torch.testing.assert_close(clip.encode(TEXTS[:20]), expected, atol=1e-6, rtol=0)
    assert max(sizes) > 6
    assert sum(s for s in sizes if s <= 6) == 20


def test_late_interaction_halves_the_batch_too(monkeypatch):
    model = zoo.build_model("colpali-test")
    texts = ["a", "a cat", "a cat that sleeps on a warm windowsill", "b"]  # halves of other numbers of tokens
    expected = model.encode(texts)
    forward = type(model.towers[0]).forward

    def small_machine(self, batch, *rest):
        if len(batch["ids"]) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, batch, *rest)

    monkeypatch.setattr(type(model.towers[0]), "forward", small_machine)
    for found, vectors in zip(model.encode(texts), expected, strict=True):
        torch.testing.assert_close(found, vectors, atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_vectors_that_are_no_vectors_are_errors(clip, monkeypatch, value):
    tower = clip.towers[1]
    monkeypatch.setattr(type(tower), "forward", lambda self, batch: torch.full((len(batch["ids"]), 16), value))
    with pytest.raises(NonFiniteEmbeddingError, match="item 0"):
        clip.encode(["a", "b"])


def test_half_precision_is_near_float32():
    model = zoo.build_model("clip-test")
    exact = model.encode(TEXTS[:8])
    assert (model.to(torch.bfloat16).encode(TEXTS[:8]) - exact).abs().max() < 0.05


def test_the_fingerprint_follows_what_changes_vectors(tmp_path):
    model = zoo.build_model("clip-test")
    base = model.fingerprint()
    assert model.fingerprint() == base
    assert model.fingerprint(prompt="find: ") != base
    assert model.fingerprint(dim=8) != base
    model.save_pretrained(tmp_path / "m")
    assert zoo.load_model(tmp_path / "m").fingerprint()["weights"] == base["weights"]
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert model.fingerprint()["weights"] != base["weights"]


def test_tables_are_refused_by_name(clip):
    class Table:
        columns = ("text",)

    with pytest.raises(zoo.InputError, match="pass one of its columns"):
        clip.encode(Table())


def test_the_first_fitting_tower_takes_an_item(clip):
    assert clip.route(zoo.Item(text="a")) is clip.towers[1]
    assert isinstance(clip, Embedder)


def test_closing_a_stream_does_not_wait_for_its_readers(clip, monkeypatch):
    # The garbage collector may close an abandoned stream in the very thread that the pool would be waiting for.
    import threading

    release, encoder = threading.Event(), clip.towers[1].encoder
    read = encoder.prepare_item
    monkeypatch.setattr(encoder, "prepare_item", lambda item: (item.text == "late" and release.wait(30), read(item))[1])
    stream = clip.encode_stream(iter([f"text {i}" for i in range(600)] + ["late"] * 600))
    next(stream)
    closed = threading.Thread(target=stream.close)
    closed.start()
    closed.join(10)
    stuck = closed.is_alive()
    release.set()
    assert not stuck
