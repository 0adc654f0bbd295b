"""What a folder may hold besides what is wanted: odd entries hide nothing, and a source that is gone loses nothing."""

import errno
import os
import shutil

import pytest

from tests.bulk.bulk_support import embed, make_images, make_table, quarantined, stored
from zoo.errors import DiskFullError, FolderError, TableError
from zoo.tables import open_pairs
from zoo.tables.images import walk_images

# Links of which it cannot be told what they lead to, by what the system says of them; root fails on them as well.
ODD = {
    "loop": ("loop", "Too many levels of symbolic links"),
    "circle.png": ("circle.png", "Too many levels of symbolic links"),
    "through": ("00000.png/b", "Not a directory"),
    "long": ("x" * 300, "File name too long"),
}
needs_links = pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")


def make_odd(folder):
    for name, (target, _) in ODD.items():
        (folder / name).symlink_to(target)


@needs_links
def test_odd_entries_are_listed_by_name_and_hide_none_of_their_neighbours(clip, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_images(photos, 6)
    make_odd(photos)
    make_odd(photos / "b")
    (photos / "nowhere").symlink_to("gone")  # leads nowhere, and is by its name no image
    report = embed(clip, photos, out)
    assert sorted(stored(out)[0]) == sorted(p.relative_to(photos).as_posix() for p in photos.rglob("0*.png"))
    expected = {name: f"{name}: {why}" for name, (_, why) in ODD.items()}
    # There is no 00000.png in b, so that the link through it leads nowhere.
    expected |= {f"b/{name}": f"b/{name}: {why}" for name, (_, why) in ODD.items() if name != "through"}
    assert {bad["id"]: bad["message"] for bad in quarantined(out)} == expected
    assert set(report.reasons) == {"unreadable-entry"}
    assert report.ignored == {"not-an-image": 2}
    assert embed(clip, photos, out).new == 0
    table = open_pairs(photos)
    assert len(table.schemas[0].notes) == len(expected)


def test_a_folder_that_cannot_be_opened_or_not_read_to_its_end_hides_none_either(tmp_path, monkeypatch):
    make_images(tmp_path, 9)
    real = os.scandir

    class CutOff:
        """A listing that fails after its first entry, as of a disk with an error or a folder that is taken away."""

        def __init__(self, path):
            self._listing = real(path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._listing.close()

        def __iter__(self):
            yield next(iter(self._listing))
            raise OSError(errno.EIO, "Input/output error")

    def scandir(path):
        if os.path.basename(path) == "c":
            raise OSError(errno.EACCES, "Permission denied")
        return CutOff(path) if os.path.basename(path) == "b" else real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = dict(walk_images(tmp_path))
    assert {name for name, error in found.items() if error is None} >= {"00000.png", "00003.png", "00006.png"}
    assert str(found["b"]) == "b: Input/output error"
    assert (
        len(found) == 5
    )  # three, the error of b, and the one of its entries that was read: a file, or c with its error


def test_a_source_that_is_taken_away_during_the_walk_is_named(clip, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    make_images(photos, 3)
    walked = []

    def gone(path):
        walked.append(path)
        if len(walked) > 3:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return real(path)

    real = os.scandir
    monkeypatch.setattr("zoo.tables.walking.os.scandir", gone)
    with pytest.raises(TableError, match=r"photos cannot be opened .*is it not mounted"):
        list(walk_images(photos)), list(walk_images(photos))


@needs_links
@pytest.mark.parametrize("partitioned", [False, True])
def test_odd_entries_beside_tables_are_inputs_that_cannot_be_embedded(text, partitioned, tmp_path):
    folder = tmp_path / "data"
    for i in range(2):
        below = folder / f"year={i}" if partitioned else folder
        below.mkdir(parents=True, exist_ok=True)
        make_table(below / f"part-{i}.csv", 3)
    odd = folder / "year=1" if partitioned else folder
    (odd / "part-7.csv").symlink_to("part-7.csv")
    (odd / "part-8.csv").symlink_to("x" * 300)
    (odd / ".part-9.csv").symlink_to(".part-9.csv")  # hidden, so that it is no input
    notes = []
    report = embed(text, folder, tmp_path / "out", say=notes.append)
    names = {f"{odd.relative_to(folder).as_posix()}/part-{i}.csv".removeprefix("./") for i in (7, 8)}
    assert (report.vectors, report.inputs, dict(report.reasons)) == (6, 8, {"unreadable-entry": 2})
    assert {bad["id"] for bad in quarantined(tmp_path / "out")} == names
    assert all(any(name in note for note in notes) for name in names)
    assert embed(text, folder, tmp_path / "out").new == 0


def test_the_folder_of_the_vectors_is_not_walked(tmp_path):
    for folder in (tmp_path, tmp_path / "out"):
        make_images(folder, 1)
    assert ("out/00000.png", None) in list(walk_images(tmp_path))
    assert not any(name.startswith("out/") for name, _ in walk_images(tmp_path, exclude=tmp_path / "out"))


# -- a source that is gone, a folder that cannot be written -----------------------------------------------------------


@pytest.mark.parametrize("update", [False, True])
def test_an_empty_or_absent_source_changes_nothing(clip, update, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_images(photos, 4)
    embed(clip, photos, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    photos.rename(tmp_path / "elsewhere")
    told = r"holds 4 vectors and stays as it is\. Is the source not mounted, or moved\? .* delete"
    with pytest.raises(TableError, match=rf"photos does not exist .*{told}"):
        embed(clip, photos, out, update=update)
    photos.mkdir()
    with pytest.raises(TableError, match=rf"photos is empty; .*{told}"):
        embed(clip, photos, out, update=update)
    (photos / "notes.txt").write_text("no image")
    with pytest.raises(TableError, match=rf"nothing to embed in .*photos \(1 not-an-image ignored\); .*{told}"):
        embed(clip, photos, out, update=update)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_source_of_which_the_system_cannot_say_what_it_is_is_named(clip, tmp_path):
    with pytest.raises(TableError, match="cannot be opened: File name too long"):
        embed(clip, tmp_path / ("x" * 300), tmp_path / "out")


def test_nothing_is_written_where_there_is_nothing_to_embed(clip, tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(TableError, match="nothing to embed"):
        embed(clip, tmp_path / "photos", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_links
def test_an_image_that_cannot_be_read_now_keeps_its_vector(clip, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_images(photos, 6)
    embed(clip, photos, out)
    target = tmp_path / "00003.png"
    (photos / "00003.png").rename(target)
    (photos / "00003.png").symlink_to(tmp_path / "not mounted" / "00003.png")
    report = embed(clip, photos, out)
    assert (report.new, report.unchanged, report.kept, dict(report.reasons)) == (0, 5, 1, {"missing-file": 1})
    assert "00003.png" in stored(out)[0]
    files = sorted((out / "shards").iterdir())
    assert embed(clip, photos, out).kept == 1
    assert sorted((out / "shards").iterdir()) == files  # nothing has changed: no set is written anew
    (tmp_path / "not mounted").mkdir()
    target.rename(tmp_path / "not mounted" / "00003.png")
    report = embed(clip, photos, out)
    assert (report.unchanged, report.kept, dict(report.reasons)) == (5, 1, {"outside": 1})
    report = embed(clip, photos, out, allow_outside=True)
    assert (report.new, report.unchanged, report.kept, report.bad) == (0, 6, 0, 0)
    (photos / "00003.png").write_bytes(b"an image no more")  # that is another input, not an absent one
    report = embed(clip, photos, out, allow_outside=True)
    assert (report.vectors, report.removed, dict(report.reasons)) == (5, 1, {"not-media": 1})


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (errno.ENOSPC, DiskFullError, "no space left for .*same command again"),
        (errno.EROFS, FolderError, r"cannot write into .*out \(Read-only file system\); run the same command again"),
    ],
)
@pytest.mark.parametrize("update", [False, True])
def test_a_folder_that_cannot_be_written_is_named_and_its_vectors_stay(
    code, error, message, update, text, tmp_path, monkeypatch
):
    source, out = make_table(tmp_path / "t.csv", 30), tmp_path / "out"
    if update:
        embed(text, source, out, shard_size=10)
        header, *lines = source.read_text().splitlines(keepends=True)
        source.write_text("".join([header, "first,cat,1990,0,True,\n", *lines]))
    before, real, written = stored(out)[0] if update else [], os.fsync, []

    def fails(descriptor):
        written.append(descriptor)
        if len(written) > 12:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(error, match=message):
            embed(text, source, out, shard_size=10)
    assert stored(out)[0] == before if update else 0 < len(stored(out)[0]) < 30
    assert not list(out.rglob(".tmp-*"))
    embed(text, source, out, shard_size=10)
    assert len(stored(out)[0]) == 30 + update


def test_a_folder_of_vectors_that_is_taken_away_is_named(text, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.bulk.run.REPORT_EVERY", 0)
    source, out = make_table(tmp_path / "t.csv", 30), tmp_path / "out"

    def take_away(done, total):
        if done == 15:
            shutil.rmtree(out)

    with pytest.raises(FolderError, match=r"cannot write into .*out, which is gone"):
        embed(text, source, out, shard_size=10, progress=take_away)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nobody can write, not even root")
def test_a_place_where_nobody_can_write_is_named_before_the_work(text, tmp_path):
    with pytest.raises(FolderError, match="cannot write into /proc/zoo"):
        embed(text, make_table(tmp_path / "t.csv", 3), "/proc/zoo/out")


def test_a_table_that_is_taken_away_is_named_and_what_was_done_stays(text, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.encoders.prefetch._WINDOW", 64)
    monkeypatch.setattr("zoo.encoders.prefetch._FIRST_WINDOW", 64)
    monkeypatch.setattr("zoo.bulk.run.REPORT_EVERY", 0)
    folder, out = tmp_path / "tables", tmp_path / "out"
    folder.mkdir()
    for i in range(4):
        make_table(folder / f"part-{i}.csv", 200)

    def take_away(done, total):
        if done == 1:
            (folder / "part-3.csv").unlink()

    with pytest.raises(TableError, match=r"part-3\.csv"):
        embed(text, folder, out, progress=take_away)
    assert len(stored(out)[0]) == 600
