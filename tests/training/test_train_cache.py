"""Vector caches: what is kept, what a kill leaves, who may share a folder, and what is computed twice (nothing)."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from zoo.training.read_cache import ReadCache
from zoo.training.vector_cache import VectorCache, encode_cached, fill_cache

from zoo.errors import (
    DiskFullError,
    FingerprintMismatchError,
    FolderError,
    InputError,
    MissingFileError,
    UnsupportedInputError,
)
from zoo.inputs.hashing import item_key
from zoo.inputs.item import Item
from zoo.inputs.regions import Box, Mask
from zoo.registry import build_model

FACTS = {"model": "one", "weights": "abc"}


def key(number):
    return number.to_bytes(16, "little")


def vector(number, dim=8):
    return torch.arange(dim) + 1000.0 * number


def put(cache, numbers):
    cache.put([key(n) for n in numbers], torch.stack([vector(n) for n in numbers]))


def holds(cache, numbers):
    vectors, missing = cache.get([key(n) for n in numbers])
    return not len(missing) and torch.equal(vectors, torch.stack([vector(n) for n in numbers]))


# ------------------------------------------------------------------------------------------------- the store


def test_vectors_come_back_in_order_and_missing_ones_are_named(tmp_path):
    cache = VectorCache(tmp_path / "c", FACTS, 8)
    put(cache, range(10))
    vectors, missing = cache.get([key(n) for n in (7, 99, 2, 98, 7)])
    assert missing.tolist() == [1, 3]
    assert torch.equal(vectors[[0, 2, 4]], torch.stack([vector(7), vector(2), vector(7)]))
    assert not vectors[[1, 3]].any()
    assert torch.equal(cache.vector(key(3)), vector(3))
    assert cache.vector(key(11)) is None
    assert key(3) in cache
    assert key(11) not in cache
    assert cache.get([])[0].shape == (0, 8)


def test_a_cache_is_there_when_it_is_opened_again_and_grows(tmp_path):
    for turn in range(3):
        cache = VectorCache(tmp_path, FACTS, 8)
        assert len(cache) == 5 * turn
        put(cache, range(5 * turn + 5))
        assert len(cache) == 5 * turn + 5
        assert holds(cache, range(5 * turn + 5))


def test_a_key_keeps_its_first_vector_and_is_stored_once(tmp_path):
    cache = VectorCache(tmp_path, FACTS, 8)
    cache.put([key(1), key(1)], torch.stack([vector(1), vector(2)]))
    cache.put([key(1)], vector(3)[None])
    assert torch.equal(cache.vector(key(1)), vector(1))
    assert sum(path.stat().st_size for path in tmp_path.glob("*.keys")) == 16


def test_many_keys_are_found_after_they_were_sorted_in(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.training.vector_cache._RECENT", 50)
    cache = VectorCache(tmp_path, FACTS, 8)
    for start in range(0, 600, 20):
        put(cache, range(start, start + 20))
    assert len(cache) == 600
    assert holds(cache, range(600))


def test_half_precision_takes_half_of_the_disk(tmp_path):
    cache = VectorCache(tmp_path, FACTS, 8, dtype="float16")
    values = torch.rand(4, 8)
    cache.put([key(n) for n in range(4)], values)
    found, _ = VectorCache(tmp_path, FACTS, 8, dtype="float16").get([key(n) for n in range(4)])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, values, rtol=1e-3, atol=1e-3)
    assert next(tmp_path.glob("*.vectors")).stat().st_size == 4 * 8 * 2


def test_another_fingerprint_is_refused_and_the_difference_named(tmp_path):
    put(VectorCache(tmp_path, FACTS, 8), [1])
    with pytest.raises(FingerprintMismatchError, match="weights: 'abc' there, 'xyz' here"):
        VectorCache(tmp_path, {**FACTS, "weights": "xyz"}, 8)
    with pytest.raises(FingerprintMismatchError, match="dim: '8' there, '16' here"):
        VectorCache(tmp_path, FACTS, 16)
    with pytest.raises(FingerprintMismatchError, match="dtype"):
        VectorCache(tmp_path, FACTS, 8, dtype="float16")


def test_folders_that_are_no_cache_are_left_alone(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FolderError, match="cannot be a cache"):
        VectorCache(tmp_path / "file", FACTS, 8)
    with pytest.raises(FolderError, match="holds file"):
        VectorCache(tmp_path, FACTS, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_vectors_of_another_shape_or_not_finite_are_refused(tmp_path):
    cache = VectorCache(tmp_path, FACTS, 8)
    with pytest.raises(ValueError, match=r"need vectors \(2, 8\)"):
        cache.put([key(1), key(2)], torch.zeros(2, 7))
    with pytest.raises(ValueError, match="finite"):
        cache.put([key(1)], torch.full((1, 8), torch.nan))
    assert len(cache) == 0


def test_threads_may_read_and_write_at_once(tmp_path):
    cache = VectorCache(tmp_path, FACTS, 8)

    def work(turn):
        put(cache, range(turn * 10, turn * 10 + 20))  # half of it is the next one's as well
        return holds(cache, range(turn * 10, turn * 10 + 20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))
    assert len(cache) == 410
    assert sum(path.stat().st_size for path in tmp_path.glob("*.keys")) == 410 * 16


def test_a_full_disk_is_named_and_costs_nothing_that_was_kept(tmp_path):
    import resource

    cache = VectorCache(tmp_path, FACTS, 8)
    put(cache, range(10))
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(DiskFullError, match="no space left"):
            put(cache, range(10, 30))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    put(cache, range(20, 40))
    for one in (cache, VectorCache(tmp_path, FACTS, 8)):
        assert holds(one, [*range(10), *range(20, 40)])
        assert one.vector(key(15)) is None


# ------------------------------------------------------------------------------------------------- several processes


def fork_writer(folder, first, stop):
    """A child that keeps three rows at a time and says so, a line each; its process id and what it says."""
    heard, said = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(heard)
            cache = VectorCache(folder, FACTS, 8)
            for n in range(first, stop, 3):
                put(cache, range(n, n + 3))
                os.write(said, f"{n + 3}\n".encode())  # one write per line: a kill never leaves half of one
            code = 0
        finally:
            os._exit(code)
    os.close(said)
    return child, os.fdopen(heard)


def test_a_kill_at_any_moment_costs_nothing_that_was_kept(tmp_path):
    first = 0
    for kill_after in (3, 30, 90, 150):
        child, lines = fork_writer(tmp_path, first, first + 30_000)
        with lines:
            for line in lines:
                done = int(line)
                if done == first + kill_after:
                    os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert done >= first + kill_after
        first = done
        assert holds(VectorCache(tmp_path, FACTS, 8), range(first))
    put(VectorCache(tmp_path, FACTS, 8), range(first, first + 5))
    assert holds(VectorCache(tmp_path, FACTS, 8), range(first + 5))


def test_what_a_kill_leaves_of_a_record_is_not_seen(tmp_path):
    put(VectorCache(tmp_path, FACTS, 8), range(6))
    keys, vectors = next(tmp_path.glob("*.keys")), next(tmp_path.glob("*.vectors"))
    whole = keys.read_bytes(), vectors.read_bytes()
    for cut in (1, 16, 17, 40):
        keys.write_bytes(whole[0][:-cut])
        cache = VectorCache(tmp_path, FACTS, 8)
        left = (6 * 16 - cut) // 16
        assert len(cache) == left
        assert holds(cache, range(left))
    keys.write_bytes(whole[0])
    vectors.write_bytes(whole[1][:-5])  # as after a power cut that lost the end of a file
    cache = VectorCache(tmp_path, FACTS, 8)
    assert len(cache) == 5
    put(cache, range(8))
    assert holds(VectorCache(tmp_path, FACTS, 8), range(8))


def test_processes_that_write_at_once_see_each_other(tmp_path):
    children = [fork_writer(tmp_path, 0, 60), fork_writer(tmp_path, 30, 90)]
    cache = VectorCache(tmp_path, FACTS, 8)
    put(cache, range(200, 210))
    for child, lines in children:
        with lines:
            assert len(lines.read().split()) == 20
        assert os.waitpid(child, 0)[1] == 0
    cache.refresh()
    assert holds(cache, [*range(90), *range(200, 210)])
    put(cache, range(210, 220))
    assert holds(VectorCache(tmp_path, FACTS, 8), [*range(90), *range(200, 220)])


def test_a_forked_process_writes_a_part_of_its_own(tmp_path):
    cache = VectorCache(tmp_path, FACTS, 8)
    put(cache, range(5))
    child = os.fork()
    if not child:
        put(cache, range(5, 10))
        os._exit(0 if holds(cache, range(10)) else 1)
    put(cache, range(10, 15))
    assert os.waitpid(child, 0)[1] == 0
    assert holds(VectorCache(tmp_path, FACTS, 8), range(15))


# ------------------------------------------------------------------------------------------------- keys


def test_items_of_other_content_have_other_keys_and_equal_ones_the_same(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    palette = Image.new("P", (2, 2))
    other = palette.copy()
    palette.putpalette([255, 0, 0])
    other.putpalette([0, 255, 0])

    def items():
        return [
            Item(text="a"),
            Item(text="b"),
            Item(text="query: a"),
            Item(image=b"a"),
            Item(video=b"a"),
            Item(text="a", image=b"b"),
            Item(text="ab", image=b""),
            Item(image=path),
            Item(image=path.read_bytes()),
            Item(image=pixels),
            Item(image=pixels.reshape(4, 12)),
            Item(image=pixels.astype(np.int16)),
            Item(image=torch.from_numpy(pixels).to(torch.bfloat16)),
            Item(image=Image.fromarray(pixels)),
            Item(image=palette),
            Item(image=other),
            Item(image=pixels, regions=(Box(0, 0, 1, 1),)),
            Item(image=pixels, regions=(Box(0, 0, 1, 2),)),
            Item(image=pixels, regions=(Mask(pixels[..., 0] > 5),)),
            Item(image=pixels, regions=(Mask(pixels[..., 0] > 6),)),
            Item(video=[pixels, pixels]),
            Item(video=[pixels]),
        ]

    keys = [item_key(item) for item in items()]
    assert len(set(keys)) == len(keys)
    assert [item_key(item) for item in items()] == keys
    assert all(len(one) == 16 for one in keys)
    assert item_key(Item(text="a"), "query: ") == item_key(Item(text="query: a"))
    # A vision-language model reads the prompt with an image too, and not as a part of the text.
    image, both = Item(image=pixels), Item(image=pixels, text="a")
    assert item_key(image, "query: ") != item_key(image)
    # With an empty instruction of its own an item takes no prompt.
    assert item_key(Item(text="a", instruction=""), "query: ") != item_key(Item(text="a"), "query: ")
    assert item_key(both, "query: ") != item_key(Item(image=pixels, text="query: a"))
    others = [Item(text="a", instruction="b"), Item(text="a"), Item(parts=["a"]), Item(parts=["a", pixels])]
    assert len({item_key(item) for item in others}) == 4


def test_a_file_that_changed_has_another_key(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    before = item_key(Item(image=path))
    path.write_bytes(b"other")
    assert item_key(Item(image=path)) != before
    assert item_key(Item(image=tmp_path / "none")) != before


def test_objects_without_content_are_refused():
    with pytest.raises(UnsupportedInputError, match="cannot tell a object"):
        item_key(Item(audio=object()))


# ------------------------------------------------------------------------------------------------- models


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("clip-test")


def make_images(count):
    rng = np.random.default_rng(0)
    return [Item(image=rng.integers(0, 255, (20, 20, 3)).astype(np.uint8)) for _ in range(count)]


def count_forwards(model, monkeypatch):
    seen = []
    for tower in model.towers:
        forward = tower.forward
        monkeypatch.setattr(tower, "forward", lambda b, f=forward: (seen.append(len(next(iter(b.values())))), f(b))[1])
    return seen


def test_only_what_is_missing_is_computed_and_all_comes_in_order(model, tmp_path, monkeypatch):
    items = make_images(12)
    expected = model.encode(items)
    cache = VectorCache.for_towers(tmp_path, model)
    encode_cached(model, items[::2], cache, progress=False)
    seen = count_forwards(model, monkeypatch)
    vectors = encode_cached(model, [*items, *items[:3]], cache, progress=False)
    assert sum(seen) == 6
    torch.testing.assert_close(vectors, torch.cat([expected, expected[:3]]))
    seen.clear()
    again = encode_cached(model, items, VectorCache.for_towers(tmp_path, model))
    assert not seen
    assert torch.equal(again, vectors[:12])


def test_the_weights_of_other_towers_do_not_matter(model, tmp_path):
    position = next(i for i, tower in enumerate(model.towers) if "image" in tower.encoder.modalities)
    cache = VectorCache.for_towers(tmp_path, model, [position])
    encode_cached(model, make_images(2), cache)
    other, own = ([*model.towers[i].parameters()][-1] for i in (1 - position, position))
    with torch.no_grad():
        other.add_(1)
        assert len(VectorCache.for_towers(tmp_path, model, [position])) == 2
        own.add_(1)
        with pytest.raises(FingerprintMismatchError, match="towers"):
            VectorCache.for_towers(tmp_path, model, [position])
        own.sub_(1)
        other.sub_(1)


def test_bad_items_are_named_and_the_others_kept(model, tmp_path):
    items = make_images(5)
    bad = Item(image=tmp_path / "none.png")
    items = [items[0], bad, *items[1:], replace(bad)]
    cache = VectorCache.for_towers(tmp_path / "c", model)
    with pytest.raises(MissingFileError, match="item 1"):
        encode_cached(model, items, cache)
    assert len(cache) == 5
    vectors = encode_cached(model, items, cache, on_error="nan")
    assert torch.isnan(vectors).any(1).tolist() == [False, True, False, False, False, False, True]
    errors = fill_cache(model, iter(items), cache)
    assert {position: error.index for position, error in errors.items()} == {1: 1, 6: 6}
    with pytest.raises(InputError):
        encode_cached(model, [Item()], cache)


# ------------------------------------------------------------------------------------------------- in memory


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0

    def prepare_item(self, item):
        self.count += 1
        return torch.full((1000,), float(len(item.text)))


def test_reads_are_kept_within_the_budget_and_the_oldest_goes():
    encoder, cache = Counting(), ReadCache(3 * 4500)
    items = [Item(text="x" * n) for n in range(1, 5)]
    for _ in range(2):
        assert all(cache.read(encoder, item)[0] == len(item.text) for item in items[:3])
    assert encoder.count == 3
    cache.read(encoder, items[0])
    cache.read(encoder, items[3])  # the second has waited longest
    assert cache.size <= cache.budget
    cache.read(encoder, items[0])
    assert encoder.count == 4
    cache.read(encoder, items[1])
    assert encoder.count == 5
    assert Counting().prepare_item(items[0]).shape == ReadCache(10).read(Counting(), items[0]).shape


def test_threads_share_what_was_read():
    encoder, cache = Counting(), ReadCache(10**6)
    items = [Item(text="x" * (n % 20 + 1)) for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        reads = list(pool.map(lambda item: float(cache.read(encoder, item)[0]), items))
    assert reads == [len(item.text) for item in items]
    assert 20 <= encoder.count < 60
    assert 0 < cache.size <= cache.budget
