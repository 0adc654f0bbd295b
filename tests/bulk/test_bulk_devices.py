"""Several devices, a process each: the vectors, shards and quarantine of one, whatever happens to a process."""

import json
import os
import signal
import subprocess

import numpy as np
import pytest
import torch

import zoo
from tests import warm
from tests.bulk.bulk_support import embed, make_images, make_table, quarantined, stored
from zoo.bulk import devices as several
from zoo.bulk.devices import Devices, devices_of
from zoo.errors import ArgumentError, CorruptImageError, TooManyBadItemsError, WorkerError
from zoo.shards.folder import ShardFolder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
TWO = ["cpu", "cpu"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small blocks, and processes that have torch loaded."""
    monkeypatch.setattr(several, "INPUTS", 7)

    def begin(command, **options):
        return warm.Popen([part for part in command if part != "-P"], **options)

    class Warm:
        Popen, TimeoutExpired = staticmethod(begin), subprocess.TimeoutExpired

    monkeypatch.setattr(several, "subprocess", Warm)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of a tiny model of images and texts."""
    torch.manual_seed(0)
    return zoo.build_model("clip-test").save_pretrained(tmp_path_factory.mktemp("model") / "clip-test")


def content(out):
    """What a folder of vectors is, apart from when it was made."""
    ids, vectors = stored(out)
    manifest = ShardFolder(out).manifest()
    facts = {name: value for name, value in manifest.items() if name not in ("created", "updated")}
    return ids, vectors, facts, quarantined(out), [shard.stop - shard.start for shard in ShardFolder(out).finished()]


def test_two_processes_write_what_one_does(saved, tmp_path):
    photos = tmp_path / "photos"
    make_images(photos, 40)
    (photos / "b" / "00001.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (photos / "empty.jpg").write_bytes(b"")
    said = []
    embed(saved, photos, tmp_path / "one", shard_size=9, device="cpu")
    report = embed(saved, photos, tmp_path / "two", shard_size=9, devices=TWO, say=said.append)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    np.testing.assert_allclose(two[1], one[1], atol=1e-6)
    assert (one[0], *one[2:]) == (two[0], *two[2:])
    assert (report.bad, report.vectors) == (2, 39)
    assert "on cpu, cpu, a process each" in said
    make_images(photos, 5, start=40)
    again = embed(saved, photos, tmp_path / "two", shard_size=9, devices=TWO)  # more, in one folder
    assert (again.added, again.unchanged) == (5, 39)
    with pytest.raises(TooManyBadItemsError):
        embed(saved, photos, tmp_path / "three", devices=TWO, max_bad=1)


def test_a_process_that_dies_is_begun_anew(saved, tmp_path):
    model = zoo.load_model(saved, device="cpu")
    texts = [f"text {number}" for number in range(60)]
    workers = Devices(TWO, saved, {}, model.fingerprint())
    found = []
    for place, result in enumerate(workers.stream(texts, batch_size=4)):
        if place in (0, 20):
            os.kill(next(w for w in workers._workers if w.process).process.pid, signal.SIGKILL)
        found.append(result.vector)
    np.testing.assert_allclose(torch.stack(found), model.encode(texts), atol=1e-6)
    assert all(worker.process is None for worker in workers._workers)


@pytest.mark.slow
def test_a_process_that_dies_on_the_same_inputs_again_and_again(saved, monkeypatch):
    class Deadly:
        def __reduce__(self):
            return os._exit, (7,)

    model = zoo.load_model(saved, device="cpu")
    workers = Devices(["cpu"], saved, {}, model.fingerprint())
    results = workers.stream([*["a text"] * 10, Deadly(), "another"])
    with pytest.raises(WorkerError, match=r"status 7.*3 times"):
        assert len([next(results) for _ in range(12)]) < 12


def test_errors_come_with_their_kind_and_reason(saved, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    model = zoo.load_model(saved, device="cpu")
    workers = Devices(["cpu"], saved, {}, model.fingerprint())
    good, bad, nothing = workers.stream(["a text", tmp_path / "bad.png", None])
    assert (good.error, bad.vector) == (None, None)
    assert isinstance(bad.error, CorruptImageError)
    assert nothing.error.code == "unsupported-type"
    with pytest.raises(WorkerError, match="another model than a moment ago"):
        list(Devices(["cpu"], saved, {}, {"model": "another"}).stream(["a text"]))
    with pytest.raises(zoo.errors.UnrecognisedCheckpointError, match="on cpu: "):
        list(Devices(["cpu"], tmp_path, {}, {}).stream(["a text"]))


def test_a_killed_job_goes_on(saved, tmp_path, monkeypatch):
    source = make_table(tmp_path / "t.csv", 60)
    monkeypatch.setattr("zoo.bulk.run.REPORT_EVERY", 0.0)  # seconds: `stop` is called after every input

    def stop(done, total):
        if done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(saved, source, tmp_path / "out", shard_size=4, devices=TWO, progress=stop)
    before = ShardFolder(tmp_path / "out").manifest()["counts"]["inputs"]
    assert 20 <= before < 60
    report = embed(saved, source, tmp_path / "out", shard_size=4, devices=TWO)
    ids, vectors = stored(tmp_path / "out")
    assert (report.vectors, len(set(ids)), report.added) == (60, 60, 60 - before)
    expected = zoo.load_model(saved, device="cpu").encode_document([f"text {number}" for number in range(60)])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_names_of_devices(monkeypatch):
    assert devices_of("devices", "cpu, cpu") == devices_of("devices", ["cpu", torch.device("cpu").type]) == TWO
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert len(devices_of("devices", "all")) == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert devices_of("devices", "all") == ["cuda:0", "cuda:1", "cuda:2"]
    for wrong in ("", "gpu", [], [5], 5, "cpu,"):
        with pytest.raises(ArgumentError):
            devices_of("devices", wrong)


def test_what_does_not_go_with_several_devices(saved, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 3), tmp_path / "out"
    with pytest.raises(ArgumentError, match="one of the two"):
        embed(saved, source, out, devices=TWO, device="cpu")
    with pytest.raises(ArgumentError, match="given by name"):
        embed(zoo.build_model("clip-test"), source, out, devices=TWO)
    assert not out.exists()


@pytest.mark.slow
def test_the_command(saved, tmp_path, capsys):
    from zoo.cli import main

    source = make_table(tmp_path / "t.csv", 20)
    assert (
        main(
            [
                "embed",
                str(source),
                "--model",
                str(saved),
                "--out",
                str(tmp_path / "out"),
                "--devices",
                "cpu,cpu",
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["vectors"] == 20
