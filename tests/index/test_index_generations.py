"""open_index builds the next generation beside the one in use: staged kills, readers, old layouts, full and read-only disks."""

import contextlib
import os
import resource
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import pytest
import torch

import zoo
from tests.bulk.bulk_support import make_table
from tests.index.index_support import BACKENDS, generations_in
from zoo.bulk import embed_dataset
from zoo.errors import DiskFullError, IndexStateError
from zoo.index import building, open_index
from zoo.shards.folder import ShardFolder
from zoo.strangers.made import mark


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "lancedb":
        pytest.importorskip("lancedb")
    return request.param


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(0)
    return zoo.build_model("text-test")


@pytest.fixture
def folder(text, tmp_path):
    embed_dataset(text, make_table(tmp_path / "t.csv", 40), tmp_path / "out", shard_size=10, progress=False)
    return tmp_path / "out"


def update(text, folder, kept=range(20), changed="changed"):
    """Another set of inputs: some rows of the table, and a changed one in front of them. What the index has is of no use."""
    source = folder.parent / "t.csv"
    if not (folder.parent / "first.csv").exists():
        shutil.copy(source, folder.parent / "first.csv")
    lines = (folder.parent / "first.csv").read_text().splitlines(keepends=True)
    source.write_text("".join([lines[0], f"{changed},cat,2000,1,True,\n", *(lines[1 + i] for i in kept)]))
    embed_dataset(text, source, folder, shard_size=10, update=True, progress=False)


def texts(index):
    """What is in an index, found by a search; every row with its own text and a sane score."""
    found = index.search(torch.randn(index.facts.dim), 1000)
    assert len(found) == index.count()
    return sorted(match.attributes["text"] for match in found)


OLD = sorted(f"text {i}" for i in range(40))
NEW = sorted(["changed", *(f"text {i}" for i in range(20))])


def test_a_reader_outlives_two_rebuilds_and_its_files_go_when_it_goes(backend, text, folder):
    home = folder / "index" / backend
    reader = open_index(folder, backend=backend)
    query = text.encode_document("text 30")
    before = reader.search(query, 15)
    assert texts(reader) == OLD
    assert generations_in(home) == {"000001"}
    update(text, folder)
    second = open_index(folder, backend=backend)
    assert texts(second) == NEW
    assert generations_in(home) == {"000001", "000002"}
    update(text, folder, range(5), "again")
    third = open_index(folder, backend=backend)
    assert texts(third) == sorted(["again", *(f"text {i}" for i in range(5))])
    assert reader.search(query, 15) == before
    assert (texts(reader), texts(second)) == (OLD, NEW)
    second.close()
    open_index(folder, backend=backend)
    assert generations_in(home) == {"000001", "000003"}
    del reader
    assert texts(open_index(folder, backend=backend)) == texts(third)
    assert generations_in(home) == {"000003"}


def test_who_writes_into_a_generation_that_was_replaced_is_refused(backend, text, folder):
    old = open_index(folder, backend=backend)
    update(text, folder)
    new = open_index(folder, backend=backend)
    for write in (lambda: old.upsert(["x"], torch.ones(1, old.facts.dim)), lambda: old.delete(where="year > 0")):
        with pytest.raises(IndexStateError, match="was replaced: the index has been built anew"):
            write()
    assert (texts(old), texts(new)) == (OLD, NEW)


def test_rows_that_were_upserted_besides_stay_when_the_index_is_built_anew(backend, text, folder):
    index = open_index(folder, backend=backend)
    vectors = text.encode_document(["mine", "my text 3", "gone"])
    index.upsert(
        ["m", "3", "gone"], vectors, {"text": ["mine", "my text 3", "gone"], "year": [1, 2, 3]}, ["a", "b", "c"]
    )
    index.delete(["gone"])
    update(text, folder)
    for _ in range(2):  # built anew, and only opened
        index = open_index(folder, backend=backend)
        assert texts(index) == sorted(
            [*(one for one in NEW if one != "text 2"), "mine", "my text 3"]
        )  # row 3 was text 2
        best = index.search(vectors[0], 1)[0]
        assert (best.id, best.reference, best.attributes["year"], best.attributes["label"]) == ("m", "a", 1, None)
    # A row of `zoo embed` takes the place of one that was upserted before under its id.
    index.upsert(["25"], vectors[2:], {"text": ["gone"]})
    with (folder.parent / "t.csv").open("a") as file:
        file.write("".join(f"more {i},cat,2000,1,True,\n" for i in range(21, 30)))
    embed_dataset(text, folder.parent / "t.csv", folder, shard_size=10, progress=False)
    index = open_index(folder, backend=backend)
    assert len(texts(index)) == len(set(texts(index))) == 31
    assert index.search(text.encode_document("more 25"), 1)[0].id == "25"
    assert "gone" not in texts(index)


def test_an_index_knows_its_shards_however_often_rows_are_upserted(text, folder):
    index = open_index(folder, backend="exact")
    shards = index.origins()
    for number, vector in enumerate(text.encode_document(["mine"] * 20)):
        index.upsert([f"m{number}"], vector[None])  # small changes are merged, and those of shards are none
    assert (index.origins(), len(shards)) == (shards, 4)
    assert open_index(folder, backend="exact").count() == 60


def test_nobody_writes_into_the_old_index_while_its_rows_are_carried_over(backend, text, folder, monkeypatch):
    index = open_index(folder, backend=backend)
    mine, refused = text.encode_document(["mine"]), []
    index.upsert(["m"], mine)

    def carry(old, new):
        carried(old, new)
        with pytest.raises(IndexStateError, match="another process is writing"):
            index.upsert(["late"], mine)
        refused.append("late")

    carried = building._carry
    monkeypatch.setattr(building, "_carry", carry)
    monkeypatch.setattr("zoo.index.locks.WAIT", 0.01)
    update(text, folder)
    assert open_index(folder, backend=backend).count() == len(NEW) + 1
    assert refused == ["late"]


def test_a_file_that_stays_away_is_looked_for_twice(folder, monkeypatch):
    looked = []

    def away(*_):
        looked.append("away")
        raise FileNotFoundError if len(looked) < 9 else AssertionError("for ever")

    monkeypatch.setattr(building, "_built", away)
    with pytest.raises(FileNotFoundError):
        open_index(folder, backend="exact")
    assert looked == ["away"] * 2


class Killed(BaseException):
    """Stands for kill -9."""


def killed_at(patch, backend, step):
    """Ends the builder before a step: "add" (the second commit), "tune", "swap", "sweep"."""
    patch.setattr("zoo.index.building.ROWS_PER_COMMIT", 10)
    left = [2 if step == "add" else 1]
    place = f"zoo.index.generations.{step}" if step in ("swap", "sweep") else BACKENDS[backend]
    real = BACKENDS[backend].add_shards

    def dying(*arguments):
        left[0] -= 1
        if not left[0]:
            raise Killed
        real(*arguments)

    if step in ("swap", "sweep"):
        patch.setattr(place, dying)
    else:
        patch.setattr(place, {"add": "add_shards", "tune": "tune"}[step], dying)


@pytest.mark.parametrize("step", ["add", "tune", "swap", "sweep"])
def test_killed_at_any_step_the_old_one_is_searchable_and_the_next_command_goes_on(
    backend, text, folder, step, monkeypatch
):
    home = folder / "index" / backend
    open_index(folder, backend=backend).close()
    update(text, folder)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, backend, step)
        open_index(folder, backend=backend)
    reader = BACKENDS[backend].open(home)  # what a process sees that does not build
    assert texts(reader) == (NEW if step == "sweep" else OLD)
    before = {path: path.stat().st_ino for path in (home / "000002").rglob("index.json")}
    index = open_index(folder, backend=backend)
    assert texts(index) == NEW
    assert index.folder == home / "000002"
    assert {path: path.stat().st_ino for path in (home / "000002").rglob("index.json")} == before  # it went on
    reader.close()
    open_index(folder, backend=backend)
    assert generations_in(home) == {"000002"}


def test_a_row_that_was_deleted_after_a_killed_builder_had_carried_it_over_is_gone(backend, text, folder, monkeypatch):
    index = open_index(folder, backend=backend)
    index.upsert(["m"], text.encode_document(["mine"]), {"text": ["mine"]})
    update(text, folder)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, backend, "swap")
        open_index(folder, backend=backend)
    index.delete(["m"])
    assert texts(open_index(folder, backend=backend)) == NEW


def test_what_a_killed_builder_left_that_fits_no_more_is_removed(backend, text, folder, monkeypatch):
    home = folder / "index" / backend
    open_index(folder, backend=backend)
    update(text, folder)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, backend, "add")
        open_index(folder, backend=backend)
    update(text, folder, range(5), "again")
    assert texts(open_index(folder, backend=backend)) == sorted(["again", *(f"text {i}" for i in range(5))])
    assert generations_in(home) == {"000002"}


@contextlib.contextmanager
def builder_held(monkeypatch, backend, folder):
    """Another thread that builds, held before its second commit; it goes on when the block ends."""
    reached, go_on, opened = threading.Event(), threading.Event(), []
    real = BACKENDS[backend].add_shards

    def held(self, shards):
        if threading.current_thread() is builder and reached.is_set():
            go_on.wait()
        real(self, shards)
        reached.set()

    monkeypatch.setattr("zoo.index.building.ROWS_PER_COMMIT", 10)
    monkeypatch.setattr(BACKENDS[backend], "add_shards", held)
    builder = threading.Thread(target=lambda: opened.append(open_index(folder, backend=backend)))
    builder.start()
    reached.wait()
    try:
        yield opened
    finally:
        go_on.set()
        builder.join()


def test_while_another_process_builds_anew_the_old_one_is_opened(backend, text, folder, monkeypatch):
    monkeypatch.setattr("zoo.index.building.PATIENCE", 0)
    open_index(folder, backend=backend)
    update(text, folder)
    with builder_held(monkeypatch, backend, folder) as opened:
        with pytest.warns(UserWarning, match="another process builds the index of .* anew"):
            index = open_index(folder, model=text, backend=backend)
        assert texts(index) == OLD
    assert texts(opened[0]) == texts(open_index(folder, backend=backend)) == NEW
    assert texts(index) == OLD


def test_a_first_build_and_a_growing_index_are_waited_for(backend, text, folder, monkeypatch):
    monkeypatch.setattr("zoo.index.building.PATIENCE", 0)
    seen = []
    for expected in (40, 60):
        with builder_held(monkeypatch, backend, folder) as opened:
            waiting = threading.Thread(target=lambda: seen.append(texts(open_index(folder, backend=backend))))
            waiting.start()
        waiting.join()
        assert len(seen.pop()) == len(texts(opened[0])) == expected
        make_table(folder.parent / "t.csv", 60, start=40)
        embed_dataset(text, folder.parent / "t.csv", folder, shard_size=10, progress=False)


def test_an_update_of_the_folder_while_the_index_is_built(backend, text, folder, monkeypatch):
    """The shards vanish beneath the builder, which begins again with those that are there now."""
    real, left = BACKENDS[backend].add_shards, [1]

    def add(self, shards):
        real(self, shards)
        if left:
            left.pop()
            update(text, folder)

    monkeypatch.setattr("zoo.index.building.ROWS_PER_COMMIT", 10)
    monkeypatch.setattr(BACKENDS[backend], "add_shards", add)
    assert texts(open_index(folder, backend=backend)) == NEW
    (next((folder / "shards").glob("*.parquet"))).write_bytes(b"no shard")
    with pytest.raises(zoo.ZooError, match="is no readable shard"):
        open_index(folder, backend=backend)


def test_shards_that_are_replaced_while_they_are_listed_are_listed_again(backend, text, folder, monkeypatch):
    real, left = ShardFolder.of, [1]

    def of(self, generation):
        if left:
            left.pop()
            update(text, folder)  # the files of the generation that is asked for go
        return real(self, generation)

    monkeypatch.setattr(ShardFolder, "of", of)
    assert texts(open_index(folder, backend=backend)) == NEW


def test_an_index_of_an_older_version_lies_in_the_folder_itself(backend, text, folder):
    home = folder / "index" / backend
    open_index(folder, backend=backend).close()
    (home / "current").unlink()
    for path in (home / "000001").iterdir():
        path.rename(home / path.name)
    (home / "000001").rmdir()
    reader = open_index(folder, backend=backend)
    assert (texts(reader), generations_in(home) & {"000001"}) == (OLD, set())
    update(text, folder)
    assert texts(open_index(folder, backend=backend)) == NEW
    assert texts(reader) == OLD
    with pytest.raises(IndexStateError, match="was replaced"):
        reader.delete(["1"])
    reader.close()
    assert texts(open_index(folder, backend=backend)) == NEW
    assert {path.name for path in home.iterdir()} == {"current", "000001"}


def test_a_damaged_index_is_built_anew_and_says_what_that_costs(backend, folder):
    open_index(folder, backend=backend).close()
    one = folder / "index" / backend / "000001"
    for path in [*one.glob("segments/*"), *one.rglob("*.manifest")]:
        path.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="built anew from the shards, without what was upserted"):
        index = open_index(folder, backend=backend)
    assert texts(index) == OLD
    (folder / "index" / backend / "current").write_text("two")
    with pytest.raises(IndexStateError, match=r"current is damaged .*; delete .*index"):
        open_index(folder, backend=backend)


def test_a_full_disk_is_named_and_what_needs_no_space_is_searched(backend, text, folder):
    open_index(folder, backend=backend).close()
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_full_disk(work):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
            return work()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    try:
        assert texts(on_a_full_disk(lambda: open_index(folder, backend=backend))) == OLD
        update(text, folder)
        with pytest.raises(DiskFullError, match="no space left for"):
            on_a_full_disk(lambda: open_index(folder, backend=backend))
        shutil.rmtree(folder / "index")
        with pytest.raises(DiskFullError, match="no space left for"):
            on_a_full_disk(lambda: open_index(folder, backend=backend))
    finally:
        signal.signal(signal.SIGXFSZ, handler)
    assert texts(open_index(folder, backend=backend)) == NEW


@contextlib.contextmanager
def read_only(folder):
    """What is in the folder belongs to somebody else, who lets us read it."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)  # root may write anywhere
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX")
def test_a_read_only_folder_is_searched_as_it_is(backend, text, folder, monkeypatch):
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)  # pytest's own folders are closed to others
        monkeypatch.setenv("XDG_STATE_HOME", f"{home}/state")
        monkeypatch.setenv("XDG_CACHE_HOME", f"{home}/no")
        there = Path(shutil.move(folder, Path(home) / "out"))
        mark(there)
        with read_only(there):
            with pytest.warns(UserWarning, match="is made for this process alone") as told:
                index = open_index(there, backend=backend)
            assert texts(index) == OLD
        assert "not known to be made here" in str(told[0].message)  # the notes of another user are closed, too
        place = index.folder
        assert place.is_dir()
        index.close()
        assert not place.exists()
        open_index(there, backend=backend).close()
        for path in (Path(home) / "state").rglob("*"):
            path.chmod(0o755)
        for lock in there.rglob(".l*"):
            lock.unlink()
        with read_only(there):
            index = open_index(there, backend=backend)
            assert texts(index) == OLD
            assert there in index.folder.parents
            with pytest.raises(IndexStateError, match=r"the index cannot be written into .*ermission"):
                index.delete(["1"])
        shutil.rmtree(there / "index" / backend)
        with read_only(there), pytest.warns(UserWarning, match="no index can be written into"):
            assert texts(open_index(there, backend=backend)) == OLD
