"""Forward passes on a device: memory that runs out, budgets of a GPU, and what goes there and comes back without waiting."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

import zoo
from zoo.embedder import passes
from zoo.embedder.passes import Returning, to_device
from zoo.encoders import prefetch
from zoo.encoders.prefetch import batches, budget_of
from zoo.errors import InputError, OutOfMemoryError

TEXTS = [f"a text of {'many ' * (i % 3)}words {i}" for i in range(40)]


@pytest.fixture
def text():
    torch.manual_seed(0)
    return zoo.build_model("text-test")


def small_machine(monkeypatch, model, most, why="CUDA out of memory. Tried to allocate 2 GiB"):
    """Lets no pass of more than `most` rows through; gives the rows of all that were tried."""
    tower, tried = type(model.towers[0]), []
    plain = tower.forward

    def forward(self, batch, *rest):
        tried.append(len(batch["ids"]))
        if tried[-1] > most:
            raise torch.OutOfMemoryError(why)
        return plain(self, batch, *rest)

    monkeypatch.setattr(tower, "forward", forward)
    return tried


def test_what_was_too_large_once_is_not_tried_again(text, monkeypatch):
    expected = text.encode(TEXTS)
    tried = small_machine(monkeypatch, text, 6)
    torch.testing.assert_close(text.encode(TEXTS), expected, atol=1e-6, rtol=0)
    assert sum(rows for rows in tried if rows <= 6) == 40
    first = sum(rows > 6 for rows in tried)
    tried.clear()
    torch.testing.assert_close(text.encode(TEXTS, batch_size=32), expected, atol=1e-6, rtol=0)
    assert sum(rows > 6 for rows in tried) < first


def test_a_batch_of_one_that_does_not_fit_is_named(text, monkeypatch):
    small_machine(monkeypatch, text, 0)
    with pytest.raises(
        OutOfMemoryError, match=r"out of memory at batch of one: .* on cpu .*Tried to allocate 2 GiB.*bfloat16"
    ):
        text.encode("a text")
    results = list(text.encode_stream(["a", "b"], progress=False))
    assert [result.error.code for result in results] == ["out-of-memory"] * 2
    assert issubclass(OutOfMemoryError, MemoryError)
    assert issubclass(OutOfMemoryError, InputError)
    assert str(passes.too_large(torch.device("cuda", 0), MemoryError("x"))).startswith(
        "GPU out of memory at batch of one: "
    )


def test_other_errors_are_not_taken_for_it(text, monkeypatch):
    def fails(self, batch, *rest):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(type(text.towers[0]), "forward", fails)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        text.encode(["a", "b"])


def test_a_gpu_takes_more_at_once(text, monkeypatch):
    encoder, sizes = text.towers[0].encoder, {"cuda:0": 24, "cuda:1": 2, "cuda:2": 141}
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=sizes[device] * 2**30)
    )
    prefetch._times.cache_clear()
    budgets = [budget_of(encoder, torch.device(name)) / encoder.batch_budget for name in ("cpu", *sizes)]
    assert budgets == [1, 6, 1, 16]
    reads = [(place, [1] * 512) for place in range(24)]
    assert [len(batch) for batch in batches(reads, encoder, None, torch.device("cuda:0"))] == [24]
    assert [len(batch) for batch in batches(reads, encoder, None)] == [4] * 6
    assert [len(batch) for batch in batches(reads, encoder, None, torch.device("cuda:0"), lambda: 1024)] == [2] * 12
    assert [len(batch) for batch in batches(reads, encoder, 8, torch.device("cuda:0"))] == [8] * 3
    prefetch._times.cache_clear()


def test_on_a_cpu_nothing_is_moved():
    batch = {"ids": torch.arange(6).view(2, 3)}
    assert to_device(batch, torch.device("cpu"))["ids"] is batch["ids"]
    with torch.inference_mode():
        returning = Returning(torch.ones(2, 3))
    assert not returning.waits
    assert not returning.get().is_inference()


def test_to_a_gpu_from_pinned_memory_on_a_stream_of_its_own(monkeypatch):
    """With stand-ins for CUDA's streams: what is asked for, and in which order."""
    asked = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            asked.append(f"{self.name} waits for {other.name}")

    class Host:
        def pin_memory(self):
            asked.append("pinned")
            return self

        def to(self, device, non_blocking=False):
            asked.append(f"to {device}" + (", not waiting" if non_blocking else ""))
            return self

        def record_stream(self, stream):
            asked.append(f"kept for {stream.name}")

    @contextlib.contextmanager
    def on(stream):
        asked.append(f"on {stream.name}")
        yield
        asked.append(f"off {stream.name}")

    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(passes, "_side_stream", lambda device: Stream("side"))
    to_device({"ids": Host()}, torch.device("cuda", 0))
    assert asked == ["on side", "pinned", "to cuda:0, not waiting", "off side", "main waits for side", "kept for main"]


def test_vectors_that_are_still_on_their_way_come_in_order(text, monkeypatch):
    """As on a GPU: a batch's vectors are asked for when two more have begun, and none is lost."""
    expected, begun, got = text.encode(TEXTS, batch_size=8), [], []

    class Slow(Returning):
        def __init__(self, vectors):
            super().__init__(vectors)
            self.waits, self.number = False, len(begun)
            begun.append(self)

        def get(self):
            got.append((self.number, len(begun)))
            return super().get()

    def launched(vectors):
        slow = Slow(vectors)
        vectors = slow.get
        slow.get = lambda: vectors()
        slow.waits = True
        slow._done = SimpleNamespace(synchronize=lambda: None)
        return slow

    monkeypatch.setattr("zoo.embedder.streaming.Returning", _Kind(launched, Returning))
    torch.testing.assert_close(text.encode(TEXTS, batch_size=8), expected, atol=1e-6, rtol=0)
    assert [number for number, _ in got] == list(range(5))
    assert [ahead - number for number, ahead in got] == [3, 3, 3, 2, 1]


class _Kind(type(Returning)):
    """Makes other objects, and takes all of them for its own."""

    def __new__(cls, make, kind):
        made = super().__new__(cls, "Returning", (), {})
        made.make, made.kind = staticmethod(make), kind
        return made

    def __init__(self, *arguments):
        super().__init__("Returning", (), {})

    def __call__(self, vectors):
        return self.make(vectors)

    def __instancecheck__(self, value):
        return isinstance(value, self.kind)


@pytest.mark.gpu
def test_on_a_gpu_vectors_are_those_of_the_cpu(text):
    expected = text.encode(TEXTS, batch_size=4)
    found = text.to("cuda").encode(TEXTS, batch_size=4)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.gpu
def test_on_a_gpu_in_bfloat16_vectors_are_near():
    torch.manual_seed(0)
    model = zoo.build_model("gme-test")
    expected = model.encode(TEXTS)
    found = model.to("cuda", torch.bfloat16).encode(TEXTS)
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.99


@pytest.mark.gpu
def test_two_processes_share_a_gpu(text, tmp_path):
    from zoo.index import open_index

    folder = text.save_pretrained(tmp_path / "model")
    (tmp_path / "t.txt").write_text("\n".join(TEXTS))
    one, two = tmp_path / "one", tmp_path / "two"
    for out, where in ((one, {"device": "cpu"}), (two, {"devices": ["cuda:0", "cuda:0"]})):
        zoo.embed_dataset(folder, tmp_path / "t.txt", out, progress=False, **where)
    found = [open_index(out, model=text, backend="exact").search(text.encode("a text"), 5) for out in (one, two)]
    assert [hit.id for hit in found[0]] == [hit.id for hit in found[1]]
