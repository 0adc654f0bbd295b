"""Bulk embedding, each input exactly once: kills, Ctrl-C, lost shards, two writers, a full disk."""

import errno
import json
import os
import signal
import sys
import threading

import numpy as np
import pytest
import torch

import zoo
from tests.bulk.bulk_support import Jobs, dying_at, make_table, open_source, quarantined, stored
from zoo.bulk import embed_dataset
from zoo.bulk.job import Job
from zoo.errors import DamagedShardError, DiskFullError, FolderError
from zoo.shards.folder import Draft


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(0)
    return zoo.build_model("text-test")


@pytest.fixture(scope="module")
def jobs(text, tmp_path_factory):
    """Bulk jobs with the same text model in other processes."""
    jobs = Jobs(text.save_pretrained(tmp_path_factory.mktemp("model") / "text-test"))
    yield jobs
    jobs.close()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def embed(*arguments, **options):
    return embed_dataset(*arguments, **{"progress": False, **options})


@needs_fork
def test_killed_at_several_points_it_loses_and_repeats_nothing(text, jobs, tmp_path):
    source = make_table(tmp_path / "t.csv", 600)
    with source.open("a") as file:
        file.write(",bad,2000,1,true,\n")
    out = tmp_path / "out"
    before = 0
    for point in (1, 170, 390):
        assert jobs.run(source, out, kill_after=point, shard_size=32, batch_size=8) == -signal.SIGKILL
        kept = len(stored(out)[0])
        assert kept >= before
        assert kept > point - 32  # at most the shard that was not full
        before = kept
    assert embed(text, source, out, shard_size=32).new == 600 - before
    ids, vectors = stored(out)
    assert ids == [str(i) for i in range(600)]
    assert [bad["id"] for bad in quarantined(out)] == ["600"]
    expected = text.encode_document([f"text {i}" for i in range(600)])
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)


def test_killed_at_every_file_operation(text, tmp_path):
    """One run for each operation it does: dead before this fsync, rename or append, then run to the end."""
    source, bad = tmp_path / "t.jsonl", (5, 20, 21, 39)
    rows = [{"text": "" if i in bad else f"text {i}"} for i in range(40)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    good = [i for i in range(40) if i not in bad]
    expected = text.encode_document([f"text {i}" for i in good]).numpy()
    operation, alive, seen = 0, False, set()
    while not alive:
        operation += 1
        out = tmp_path / str(operation)
        with dying_at(operation):
            embed(text, source, out, shard_size=16)
            alive = True
        kept = len(stored(out)[0])
        seen.add(kept)
        assert embed(text, source, out, shard_size=16).new == len(good) - kept
        ids, vectors = stored(out)
        assert ids == [str(i) for i in good]
        assert [one["id"] for one in quarantined(out)] == [str(i) for i in bad]
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
        assert json.loads((out / "manifest.json").read_text())["finished"]
        assert not list(out.rglob(".tmp-*"))
    assert operation > 30
    assert seen == {0, 15, 29, 36}


def test_ctrl_c_saves_what_was_finished_and_the_next_run_goes_on(text, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.bulk.run.REPORT_EVERY", 0)
    source, out = make_table(tmp_path / "t.csv", 100), tmp_path / "out"

    def press(done, total):
        assert total == 100
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(text, source, out, shard_size=40, progress=press)
    assert stored(out)[0] == [str(i) for i in range(50)]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["finished"], manifest["counts"]["inputs"]) == (False, 50)
    seen = []
    assert embed(text, source, out, progress=lambda done, total: seen.append(done)).new == 50
    assert (seen[0], seen[-1]) == (51, 100)
    assert stored(out)[0] == [str(i) for i in range(100)]
    assert json.loads((out / "manifest.json").read_text())["finished"]


@pytest.mark.parametrize("stride", [12, pytest.param(4, marks=pytest.mark.slow)])
def test_ctrl_c_between_any_two_steps_loses_no_input(stride, text, tmp_path):
    """A signal comes between two instructions of Python; what a shard says it stands for, it holds."""
    watched = {function.__code__ for function in (Job.take, Job._add, Draft.take, Job.flush)}
    source = tmp_path / "t.jsonl"
    source.write_text('{"text": "first"}\n{"text": " "}\n{"text": "third"}\n')  # the second cannot be embedded

    def press_at(step):
        left = [step]

        def trace(frame, event, _):
            if frame.f_code not in watched:
                return None
            frame.f_trace_opcodes = True
            left[0] -= event == "opcode"
            if left[0] == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        return trace, left

    seen, step = set(), 0
    while True:
        step, out = step + stride, tmp_path / f"out{step}"
        trace, left = press_at(step)
        before = sys.gettrace()
        try:
            sys.settrace(trace)
            embed(text, source, out)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        kept, manifest = stored(out)[0], json.loads((out / "manifest.json").read_text())
        seen.add(manifest["counts"]["inputs"])
        assert manifest["counts"]["vectors"] <= len(kept)  # the manifest is written after the shard
        if left[0] > 0:
            break
        embed(text, source, out)
        assert stored(out)[0] == ["0", "2"]
        assert [bad["id"] for bad in quarantined(out)] == ["1"]
    assert seen == {0, 1, 2, 3}
    assert step > 100


def test_a_shard_is_closed_after_a_time(text, tmp_path):
    embed(text, make_table(tmp_path / "t.csv", 5), tmp_path / "out", shard_seconds=0)
    assert len(list((tmp_path / "out" / "shards").iterdir())) == 5


def test_a_lost_shard_is_made_again_and_only_that_one(text, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 100), tmp_path / "out"
    embed(text, source, out, shard_size=20)
    (out / "shards" / "000000000040-000000000060.parquet").unlink()
    assert embed(text, source, out, shard_size=7).new == 20
    assert stored(out)[0] == [str(i) for i in range(100)]


def test_damaged_and_foreign_shards_are_named(text, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 40), tmp_path / "out"
    embed(text, source, out, shard_size=20)
    shard = out / "shards" / "000000000020-000000000040.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(DamagedShardError, match=r"000000000020-000000000040.parquet is no readable shard.*delete it"):
        embed(text, source, out)
    shard.write_bytes(whole)
    shard.with_name("copy.parquet").write_bytes(whole)
    with pytest.raises(DamagedShardError, match="same inputs"):
        embed(text, source, out)


def test_only_one_process_writes_into_a_folder(text, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.bulk.run.REPORT_EVERY", 0)
    source, out = make_table(tmp_path / "t.csv", 10), tmp_path / "out"
    inside, go_on = threading.Event(), threading.Event()

    def wait(done, total):
        inside.set()
        assert go_on.wait(60)

    first = threading.Thread(target=embed, args=(text, source, out), kwargs={"progress": wait})
    first.start()
    assert inside.wait(60)
    with pytest.raises(FolderError, match="another process is writing"):
        embed(text, source, out)
    go_on.set()
    first.join()
    assert len(stored(out)[0]) == 10


def test_a_full_disk_is_named_and_earlier_shards_survive(text, tmp_path, monkeypatch):
    source, out = make_table(tmp_path / "t.csv", 100), tmp_path / "out"
    real, written = os.fsync, []

    def full(descriptor):
        written.append(descriptor)
        if len(written) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"no space left.*same command again"):
        embed(text, source, out, shard_size=10)
    monkeypatch.undo()
    kept = stored(out)[0]
    assert 10 <= len(kept) < 100
    assert not list(out.rglob(".tmp-*"))
    assert embed(text, source, out, shard_size=10).new == 100 - len(kept)
    assert stored(out)[0] == [str(i) for i in range(100)]


@needs_fork
def test_the_systems_own_refusal_to_write_is_named(jobs, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 2000), tmp_path / "out"
    assert jobs.run(source, out, largest_file=20_000, shard_size=2000) == 3
    assert not list((out / "shards").iterdir())


def test_the_source_is_read_no_further_than_needed(text, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.encoders.prefetch._WINDOW", 64)
    monkeypatch.setattr("zoo.encoders.prefetch._FIRST_WINDOW", 64)
    monkeypatch.setattr("zoo.bulk.run.REPORT_EVERY", 0)
    source = make_table(tmp_path / "t.csv", 600)
    data = open_source(source)
    real, pulled, ahead = type(data).records, [0], []

    def counted(self):
        pulled[0] = 0
        for record in real(self):
            pulled[0] += 1
            yield record

    monkeypatch.setattr(type(data), "records", counted)
    embed(text, source, tmp_path / "out", progress=lambda done, total: ahead.append(pulled[0] - done))
    assert len(ahead) == 600
    assert max(ahead) <= 3 * 64 + 64
