"""Streams: modes belong to the forward pass, vectors are ordinary tensors, slow producers are not waited for, and what came
before an error is given first."""

import copy
import gc
import itertools
import json
import threading
from functools import partial

import pytest
import torch
from zoo.training.vector_cache import VectorCache, fill_cache

import zoo
from tests.inputs.bad_images import make_image
from zoo.bulk import embed_dataset
from zoo.bulk.tables import LinesSource
from zoo.embedder import streaming
from zoo.encoders.base import Encoder
from zoo.encoders.prefetch import Prefetch, windows
from zoo.inputs.hashing import item_key
from zoo.inputs.item import Item

TEXTS = [f"text {i} of a red motorbike" for i in range(5)]
MANY = [f"text {i}" for i in range(2000)]  # more than one window


@pytest.fixture(scope="module")
def built():
    """A model whose vectors are others in training: it has dropout."""
    torch.manual_seed(0)
    return zoo.build_model("text-test")


@pytest.fixture
def model(built):
    return copy.deepcopy(built)


@pytest.fixture(scope="module")
def right(built):
    return built.encode(MANY)


def same(results, right):
    return all(torch.allclose(r.vector, right[r.index], atol=1e-5) for r in results)


# -------------------------------------------------------------------------------------------------------------- modes


def test_dropout_would_show(model, right):
    model.train()
    tower = model.towers[0]
    vectors = tower(tower.encoder.prepare([Item(text=text) for text in MANY[:5]]))
    assert (vectors - right[:5]).abs().max() > 1e-3


@pytest.mark.parametrize("mode", [True, False])
def test_between_results_the_model_is_in_the_mode_that_was_asked_for_last(model, right, mode):
    model.train(mode)
    stream = model.encode_stream(iter(MANY))
    found = list(itertools.islice(stream, 10))
    assert model.training is mode
    model.train(not mode)  # in between
    found += list(itertools.islice(stream, 1500))
    assert {module.training for module in model.modules()} == {not mode}
    found += list(stream)
    assert {module.training for module in model.modules()} == {not mode}
    assert len(found) == len(MANY)
    assert same(found, right)


def test_streams_overlap_and_nest(model, right):
    model.train()
    first, second = model.encode_stream(iter(MANY)), model.encode_stream(iter(MANY))
    found = [
        *itertools.islice(first, 600),
        *itertools.islice(second, 5),
        *first,
    ]  # the first ends while the second lives
    assert model.training
    model.towers[0].head.eval()  # a part alone
    found += second

    def source():
        for text in MANY[:700]:
            yield text
            if text == MANY[3]:
                assert torch.allclose(model.encode(MANY[0]), right[0], atol=1e-5)

    found += model.encode_stream(source())
    assert same(found, right)
    assert {name for name, module in model.named_modules() if not module.training} == {"towers.0.head"}


def test_an_abandoned_stream_leaves_nothing(model):
    model.train()
    stream = model.encode_stream(iter(MANY))
    next(stream)
    model.eval()
    del stream
    gc.collect()
    assert not any(module.training for module in model.modules())


def test_passes_of_several_threads_overlap(model, right, monkeypatch):
    """Two threads are inside a forward pass at once; one ends, the model is put into training, and the other goes on."""
    inside, go, forward = threading.Barrier(2, timeout=60), threading.Event(), Encoder.__call__
    turns = itertools.count()

    def slow(self, batch):
        turn = next(turns)
        if turn < 2:
            inside.wait()
            if turn:
                assert go.wait(60)
        return forward(self, batch)

    monkeypatch.setattr(type(model.towers[0].encoder), "__call__", slow)
    model.train()
    found, threads = {}, []
    for name in "ab":
        threads.append(threading.Thread(target=lambda n=name: found.setdefault(n, model.encode(MANY[:3]))))
        threads[-1].start()
    done = threading.Event()
    threading.Thread(target=lambda: ([t.join() for t in threads], done.set())).start()
    while len(found) < 1:
        assert not done.wait(0.01) or found
    model.train()  # asked for while a pass is under way: it comes after that pass
    go.set()
    assert done.wait(60)
    assert all(torch.allclose(vectors, right[:3], atol=1e-5) for vectors in found.values())
    assert all(module.training for module in model.modules())
    model.eval()
    assert not any(module.training for module in model.modules())


def test_a_copied_model_has_a_mode_of_its_own(model):
    model.train()
    other = copy.deepcopy(model)
    other.eval()
    assert (model.training, other.training) == (True, False)
    assert torch.allclose(model.encode(TEXTS), other.encode(TEXTS), atol=1e-6)


# --------------------------------------------------------------------------------------------------- ordinary tensors


def forms(name):
    """Every call that gives vectors, of one model: what → vectors."""
    model = zoo.build_model(name)
    inputs: list = [make_image(24, 24)] if model.spec.modalities == {"image"} else ["a cat", "two dogs"]
    yield "one", [model.encode(inputs[0])]
    yield "list", list(model.encode(inputs))
    yield "none", [model.encode([])] if isinstance(model.encode([]), torch.Tensor) else []
    yield "generator", list(model.encode(iter(inputs)))
    yield "query", [model.encode_query(inputs[0])]
    yield "documents", list(model.encode_document(inputs))
    yield "stream", [result.vector for result in model.encode_stream(inputs)]
    if model.spec.dims:
        yield "cut", list(model.encode(inputs, dim=model.spec.dims[-1]))
    if model.fusion is not None:
        yield "fused", [model.encode(Item(text="in blue", image=make_image(24, 24)))]
    vectors = model.encode(inputs)
    yield "int8", list(model.encode(inputs, precision="int8"))
    yield "similarity", [model.similarity(vectors, vectors)]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", ["text-test", "clip-test", "image-test", "gme-test", "colqwen2-test"])
def test_vectors_are_ordinary_tensors_in_every_form(name, inside):
    with torch.inference_mode(inside):
        found = [
            (form, vector) for form, vectors in forms(name) for vector in vectors if form != "similarity" or not inside
        ]
        assert torch.is_inference_mode_enabled() is inside
    for form, vector in found:
        assert not vector.is_inference(), form
        assert not vector.requires_grad, form
        if not vector.is_floating_point():
            continue
        vector += 1  # in place
        leaf = vector.requires_grad_()
        (torch.nn.Linear(leaf.shape[-1], 2)(leaf) ** 2).sum().backward()  # saved for backward
        assert leaf.grad is not None, form


def test_the_callers_modes_are_left_alone_between_results(model):
    assert not torch.is_inference_mode_enabled()
    for _ in model.encode_stream(iter(MANY)):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
    with torch.no_grad():
        for _ in model.encode_stream(TEXTS):
            assert not torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["text-test", "modernbert-test", "clip-test", "qwen3vl-test"])
def test_a_model_that_has_embedded_can_learn(name):
    model = zoo.build_model(name).train()
    model.encode(TEXTS)
    tower = next(t for t in model.towers if "text" in t.encoder.modalities)
    tower(tower.encoder.prepare([Item(text=text) for text in TEXTS])).sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in tower.parameters())


# ------------------------------------------------------------------------------------------------------ slow producers


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def produced(clock, seconds, count=100_000):
    pulled = []

    def source():
        for number in range(count):
            clock.now += seconds
            pulled.append(number)
            yield f"text {number}"

    return pulled, source()


def test_a_window_is_closed_by_time_as_well_as_by_count(model):
    pace, clock = Prefetch([model.towers[0].encoder]), Clock()
    _, source = produced(clock, 0.05, 100)
    found = list(windows(source, pace, clock))
    sizes = [sum(len(chunk) for chunk in window.chunks) for window in found]
    assert max(sizes) <= 11  # half a second at 20 a second
    assert [value for window in found for chunk in window.chunks for _, value in chunk] == [
        f"text {i}" for i in range(100)
    ]
    assert all(window.late for window in found[:-1])
    _, source = produced(clock, 0, 5000)
    assert [sum(len(c) for c in w.chunks) for w in windows(source, pace, clock)] == [512, 1024, 2048, 1416]


def test_the_first_results_of_a_slow_producer_come_at_once(model, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(streaming, "windows", partial(windows, clock=clock))
    pulled, source = produced(clock, 0.05)
    stream = model.encode_stream(source)
    for number in range(60):
        assert next(stream).index == number
        assert len(pulled) - number <= 11
    pulled, source = produced(clock, 3600)
    stream = model.encode_stream(source)
    assert next(stream).index == 0
    assert len(pulled) == 1


def test_fast_producers_keep_their_windows(model, monkeypatch):
    clock, sizes = Clock(), []
    monkeypatch.setattr(streaming, "windows", partial(windows, clock=clock))
    finish = streaming._finish
    monkeypatch.setattr(
        streaming, "_finish", lambda m, window, *rest: (sizes.append(len(window)), finish(m, window, *rest))[1]
    )
    _, source = produced(clock, 0, 5000)
    assert len(list(model.encode_stream(source))) == 5000
    assert sizes == [8, 16, 32, 23]  # chunks of 64


# ------------------------------------------------------------------------------------------------ a producer that fails


class Broken(Exception):
    """Of the caller's own iterable."""


def broken(count):
    yield from MANY[:count]
    raise Broken("the source is gone")


@pytest.mark.parametrize("count", [0, 1, 63, 64, 600, 1536, 2000])
def test_what_came_before_an_error_is_given_first(model, right, count):
    found = []
    with pytest.raises(Broken):
        for result in model.encode_stream(broken(count)):
            found.append(result)
    assert [result.index for result in found] == list(range(count))
    assert same(found, right)
    vectors = []
    with pytest.raises(Broken):
        for vector in model.encode(broken(count)):
            vectors.append(vector)
    assert len(vectors) == count


def test_the_cause_of_the_error_can_be_read(model):
    with pytest.raises(Broken) as caught:
        list(model.encode_stream(broken(3)))
    assert "broken" in [entry.name for entry in caught.traceback]


def test_bulk_keeps_what_was_read_before_its_source_failed(model, tmp_path, monkeypatch):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(MANY[:700]))
    records = LinesSource.records

    def failing(self):
        yield from itertools.islice(records(self), 650)
        raise Broken("the source is gone")

    monkeypatch.setattr(LinesSource, "records", failing)
    with pytest.raises(Broken):
        embed_dataset(model, texts, tmp_path / "out", progress=False)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]["vectors"] == 650
    monkeypatch.undo()
    report = embed_dataset(model, texts, tmp_path / "out", progress=False)
    assert (report.new, report.vectors) == (50, 700)


def test_a_cache_keeps_what_was_read_before_its_items_failed(model, tmp_path):
    cache = VectorCache.for_towers(tmp_path, model)
    with pytest.raises(Broken):
        fill_cache(model, broken(30), cache, progress=False)
    _, missing = cache.get([item_key(Item(text=text), "") for text in MANY[:31]])
    assert missing.tolist() == [30]
