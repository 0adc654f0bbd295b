"""Several handles, threads and readers on one store: nothing is overwritten, and a reader sees one snapshot."""

import os
import resource
import shutil
import signal
import sys
import threading

import numpy as np
import pytest

from tests.index.index_support import BACKENDS, COLUMNS, DIM, PRINT, of, put, rows_of, vectors
from zoo.errors import ArgumentError, DiskFullError, IndexStateError
from zoo.index import ExactIndex, LanceIndex
from zoo.index.locks import writers_lock
from zoo.index.segments import Snapshot
from zoo.strangers.folders import Place


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "lancedb":
        pytest.importorskip("lancedb")
    return BACKENDS[request.param]


@pytest.fixture
def place(backend, tmp_path):
    backend.create(tmp_path / "index", fingerprint=PRINT, dim=DIM, columns=COLUMNS).close()
    return tmp_path / "index"


def test_two_handles_append_in_turn_and_nothing_is_overwritten(backend, place):
    first, second = backend.open(place), backend.open(place)
    put(first, ["a", "b"])
    put(second, ["c"])
    put(first, ["d"])
    assert rows_of(first) == dict.fromkeys("abcd", 0)
    assert rows_of(second) == dict.fromkeys("abc", 0)  # what it saw at its own last write
    assert rows_of(backend.open(place)) == dict.fromkeys("abcd", 0)
    assert backend.open(place).commit() == first.commit() != second.commit()


def test_of_two_who_upsert_one_id_the_last_one_wins(backend, place):
    first, second = backend.open(place), backend.open(place)
    for turn in range(1, 6):
        put(first, ["x", "y"], version=turn)
        put(second, ["y", "z"], version=10 * turn)
    assert rows_of(second) == {"x": 5, "y": 50, "z": 50}
    assert rows_of(backend.open(place)) == {"x": 5, "y": 50, "z": 50}


def test_a_delete_is_of_what_there_is_now(backend, place):
    first, second = backend.open(place), backend.open(place)
    put(first, ["a", "b", "c", "d"])
    assert second.delete(["a", "nothing"]) == 1
    put(second, ["b"], version=1)
    put(first, ["a"], version=2)
    assert first.delete(where="year = 1") == 1
    assert second.delete(where="year = 1") == 0
    assert second.delete(["b"]) == 0
    assert rows_of(backend.open(place)) == {"a": 2, "c": 0, "d": 0}
    assert rows_of(second) == {"a": 2, "c": 0, "d": 0}
    assert first.delete(where="year >= 0") == 3
    assert second.delete(["c"]) == 0
    assert (second.count(), backend.open(place).count()) == (0, 0)
    put(second, ["e"])
    assert rows_of(second) == {"e": 0}


def test_threads_of_one_handle_and_of_two_lose_nothing(backend, place):
    handles = [backend.open(place), backend.open(place)]
    errors = []

    def write(number):
        try:
            for turn in range(4):
                put(handles[number % 2], [f"{number}-{turn}"])
                put(handles[number % 2], ["shared"], version=number)
                handles[number % 2].search(of("any"), 5)
        except Exception as error:  # shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    rows = rows_of(backend.open(place))
    assert rows.pop("shared") in range(4)
    assert rows == {f"{number}-{turn}": 0 for number in range(4) for turn in range(4)}


def test_a_writer_who_waits_too_long_is_refused_by_name(backend, place, monkeypatch):
    monkeypatch.setattr("zoo.index.locks.WAIT", 0.02)
    index = backend.open(place)
    put(index, ["a"])
    held, done = threading.Event(), threading.Event()

    def hold():
        with writers_lock(Place.of(place)):
            held.set()
            done.wait()

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    try:
        for write in (lambda: put(index, ["b"]), lambda: index.delete(["a"]), lambda: index.add_shards([])):
            with pytest.raises(IndexStateError, match=r"another process is writing to .*index.* repeat the call"):
                write()
        assert rows_of(index) == rows_of(backend.open(place)) == {"a": 0}  # readers are not in the way
    finally:
        done.set()
        other.join()
    put(index, ["b"])
    assert rows_of(index) == {"a": 0, "b": 0}


def test_a_reader_keeps_its_snapshot_while_others_append_and_delete(backend, place):
    writer = backend.open(place)
    put(writer, ["a", "b", "c"])
    reader = backend.open(place)
    before = [reader.search(of(name), 3) for name in "abc"]
    put(writer, ["a", "d"], version=1)
    writer.delete(["b"])
    assert [reader.search(of(name), 3) for name in "abc"] == before
    assert (reader.count(), reader.count("year = 1")) == (3, 0)
    assert rows_of(reader) == {"a": 0, "b": 0, "c": 0}
    assert rows_of(backend.open(place)) == {"a": 1, "c": 0, "d": 1}


def test_a_reader_outlives_the_removal_of_the_files_or_says_so(backend, place):
    put(backend.open(place), ["a", "b"])
    reader = backend.open(place)
    before = reader.search(of("a"), 2)
    shutil.rmtree(place)
    if backend is ExactIndex:  # which holds everything open
        assert reader.search(of("a"), 2) == before
        assert rows_of(reader) == {"a": 0, "b": 0}
    else:
        with pytest.raises(IndexStateError, match="is gone: somebody has removed the index"):
            reader.search(of("a"), 2)
        with pytest.raises(IndexStateError, match="is gone: somebody has removed the index"):
            reader.count("year = 0")
    assert "in " + str(place) in repr(reader)
    for write in (lambda: put(reader, ["c"]), lambda: reader.delete(["a"])):
        with pytest.raises(IndexStateError, match="is gone: somebody has removed the index"):
            write()
    assert not place.exists()


# -- the exact store: segments --------------------------------------------------------------------------------------


def test_many_changes_become_few_files_and_readers_do_not_notice(tmp_path):
    index = ExactIndex.create(tmp_path, fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    expected, readers = {}, []
    for turn in range(150):
        name = f"r{turn % 50}"
        put(index, [name], version=turn)
        expected[name] = turn
        if turn % 11 == 10:
            index.delete([name])
            del expected[name]
        if turn % 20 == 19:
            readers.append((ExactIndex.open(tmp_path), dict(expected)))
    assert len(list((tmp_path / "segments").iterdir())) <= 2 * 16
    assert index.commit() == ExactIndex.open(tmp_path).commit() == str(150 + 13)
    assert rows_of(index) == rows_of(ExactIndex.open(tmp_path)) == expected
    for reader, then in readers:
        assert {m.id: m.attributes["year"] for m in reader.search(of("any"), 1000)} == then
    assert ExactIndex.open(tmp_path).delete(["r49"]) == 1


def test_segments_that_are_merged_while_they_are_listed_are_listed_again(tmp_path, monkeypatch):
    index = ExactIndex.create(tmp_path, fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    for turn in range(15):
        put(index, [f"r{turn}"])
    real, listings = os.listdir, []

    def listdir(folder):
        names = sorted(real(folder))
        if not listings:  # another process merges in the middle of this listing
            listings.append(folder)
            put(index, ["late"])
            return names[3:]
        return names

    monkeypatch.setattr("zoo.index.segments.os.listdir", listdir)
    rows = rows_of(ExactIndex.open(tmp_path))
    assert len(rows) == 16
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "segments").iterdir()] == ["00000000-00000015.arrow"]
    real_read, vanished = Snapshot.__init__, []

    def merged_before_it_is_read(self, *arguments):
        if not vanished:
            vanished.append(1)
            raise FileNotFoundError
        real_read(self, *arguments)

    monkeypatch.setattr(Snapshot, "__init__", merged_before_it_is_read)
    assert rows_of(ExactIndex.open(tmp_path)) == rows


def test_killed_while_it_merges_it_has_both_or_one(tmp_path, monkeypatch):
    index = ExactIndex.create(tmp_path, fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    for turn in range(15):
        put(index, [f"r{turn}"])

    def killed(*_, **__):
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):  # after the merged file, before the small ones go
        patch.setattr("zoo.strangers.folders.Place.remove", killed)
        put(index, ["r15"])
    (tmp_path / "segments" / ".tmp-1-00000016.arrow.part").write_bytes(b"half")
    assert len(list((tmp_path / "segments").iterdir())) == 18
    again = ExactIndex.open(tmp_path)
    assert rows_of(again) == {f"r{turn}": 0 for turn in range(16)}
    for turn in range(16, 32):
        put(again, [f"r{turn}"])
    assert len(list((tmp_path / "segments").iterdir())) == 2
    assert rows_of(ExactIndex.open(tmp_path)) == {f"r{turn}": 0 for turn in range(32)}


def test_an_exact_index_whose_files_do_not_fit_together_is_named(tmp_path):
    index = ExactIndex.create(tmp_path, fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    for name in "abc":
        put(index, [name])
    del index
    whole = (tmp_path / "vectors.bin").read_bytes()
    (tmp_path / "vectors.bin").write_bytes(whole[:-1])
    with pytest.raises(IndexStateError, match=r"vectors.bin is damaged: it holds 2 vectors where the segments count 3"):
        ExactIndex.open(tmp_path)
    (tmp_path / "vectors.bin").unlink()
    with pytest.raises(IndexStateError, match=r"vectors.bin cannot be read: No such file"):
        ExactIndex.open(tmp_path)
    (tmp_path / "vectors.bin").write_bytes(whole)
    (tmp_path / "segments" / "00000001.arrow").rename(tmp_path / "away")
    with pytest.raises(IndexStateError, match="segments are missing"):
        ExactIndex.open(tmp_path)
    (tmp_path / "segments" / "00000001.arrow").write_bytes(b"no Arrow file")
    with pytest.raises(IndexStateError, match=r"00000001.arrow is damaged"):
        ExactIndex.open(tmp_path)
    shutil.copy(tmp_path / "segments" / "00000000.arrow", tmp_path / "segments" / "00000001.arrow")
    with pytest.raises(IndexStateError, match=r"00000001.arrow does not follow the one before"):
        ExactIndex.open(tmp_path)
    (tmp_path / "away").rename(tmp_path / "segments" / "00000001.arrow")
    assert rows_of(ExactIndex.open(tmp_path)) == dict.fromkeys("abc", 0)


# -- the lancedb store: versions ------------------------------------------------------------------------------------


def versions(place):
    return len(list((place / "vectors.lance" / "_versions").glob("*.manifest")))


@pytest.fixture
def lance(tmp_path, monkeypatch):
    pytest.importorskip("lancedb")
    monkeypatch.setattr("zoo.index.lance.VERSIONS", 5)
    return LanceIndex.create(tmp_path, fingerprint=PRINT, dim=DIM, columns=COLUMNS)


def test_old_versions_are_pruned_but_not_under_a_reader(lance, tmp_path):
    for turn in range(12):
        put(lance, [f"r{turn}", "same"], version=turn)
    assert versions(tmp_path) <= 5
    reader = LanceIndex.open(tmp_path)
    before = reader.search(of("any"), 50)
    for turn in range(12, 24):
        put(lance, [f"r{turn}", "same"], version=turn)
        if turn == 15:
            lance.delete(["r3", "r14"])
    assert versions(tmp_path) > 12
    assert reader.search(of("any"), 50) == before
    reader.close()
    put(lance, ["last"])
    assert versions(tmp_path) <= 5
    expected = {f"r{turn}": turn for turn in range(24) if turn not in (3, 14)} | {"same": 23, "last": 0}
    assert rows_of(lance) == rows_of(LanceIndex.open(tmp_path)) == expected


def test_a_reader_whose_version_was_pruned_all_the_same_goes_on_with_the_latest(lance, tmp_path):
    put(lance, ["a", "b"])
    reader = LanceIndex.open(tmp_path)
    reader._lease.close()  # as where a network folder knows no locks
    for turn in range(12):
        put(lance, ["a", f"r{turn}"], version=turn)
    assert versions(tmp_path) <= 5
    assert rows_of(reader) == rows_of(lance)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc for the names of files")
def test_what_a_kill_left_between_commit_and_fsync_is_made_durable_by_the_next(lance, tmp_path, monkeypatch):
    put(lance, ["a"])
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        "zoo.index.lance.os.fsync", lambda file: (synced.append(os.readlink(f"/proc/self/fd/{file}")), real(file))
    )
    put(lance, ["b"])
    own = [path for path in synced if "/data/" in path]
    assert len(own) == 1
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("zoo.index.lance._sync", lambda *_: (_ for _ in ()).throw(SystemExit))
        put(lance, ["c"])
    synced.clear()
    put(LanceIndex.open(tmp_path), ["d"])
    everything = {str(path) for path in (tmp_path / "vectors.lance").rglob("*.*") if path.is_file()}
    assert everything <= set(synced)
    assert rows_of(LanceIndex.open(tmp_path)) == dict.fromkeys("abcd", 0)


# -- what both say --------------------------------------------------------------------------------------------------


def test_a_full_disk_is_named_and_the_rows_before_are_safe(backend, place):
    index = backend.open(place)
    put(index, ["a", "b"])
    names = [f"r{number}" for number in range(3000)]
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(DiskFullError, match=r"no space left for .*index"):
            index.upsert(names, vectors(3000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert rows_of(index) == rows_of(backend.open(place)) == {"a": 0, "b": 0}
    put(index, ["c"])
    assert rows_of(backend.open(place)) == {"a": 0, "b": 0, "c": 0}


def test_a_closed_index_says_so_and_so_does_a_query_that_is_no_vector(backend, place):
    with backend.open(place) as index:
        put(index, ["a"])
        assert repr(index) == f"<{backend.__name__}: 1 rows, dim {DIM}, made by m, in {place}>"
        for query in ("some text", b"bytes", place, None, {"text": "a"}):
            with pytest.raises(ArgumentError, match=r"encode it first: index.search\(model.encode_query\(\.\.\.\)\)"):
                index.search(query)
        assert index.search(np.float64(of("a")).tolist(), 1)[0].id == "a"
    assert "closed" in repr(index)
    for call in (index.count, lambda: index.search(of("a")), lambda: index.delete(["a"]), lambda: put(index, ["b"])):
        with pytest.raises(IndexStateError, match="this index is closed; open it again"):
            call()
