"""`zoo embed` again: what is new or changed is embedded, what has moved is recognised, nothing else is touched or lost."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import zoo
from tests.bulk.bulk_support import dying_at, make_images, make_table, quarantined, stored
from zoo.bulk import embed_dataset
from zoo.bulk.earlier import _below
from zoo.bulk.known import Known, _Lookup
from zoo.errors import SourceChangedError, TooManyBadItemsError
from zoo.inputs.item import Item
from zoo.shards.content import UNKNOWN, content_of, size_of
from zoo.shards.folder import FOOTER, ShardFolder, unfinished

COUNTS = ("added", "changed", "moved", "unchanged", "kept", "removed")


class Counting:
    """A model, and what it was given to embed since the last look."""

    def __init__(self, name: str, patch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(0)
        self.model, self._given = zoo.build_model(name), []
        stream = self.model.encode_stream

        def counted(values, **options):
            return stream((self._seen(value) for value in values), **options)

        patch.setattr(self.model, "encode_stream", counted)

    def _seen(self, value):
        if value is not None:
            self._given.append(value.name if isinstance(value, Path) else value)
        return value

    def given(self) -> list:
        """Empties the list."""
        given, self._given = self._given, []
        return sorted(given, key=str)

    def embed(self, source: Path, out: Path, **options) -> tuple[int, ...]:
        """Embeds; the six counts of what was done, which add up."""
        report = embed_dataset(self.model, source, out, **{"progress": False, "shard_size": 8, **options})
        counts = tuple(getattr(report, name) for name in COUNTS)
        assert report.vectors == sum(counts[:5]) == len(stored(out)[0])
        assert report.inputs == report.vectors - report.kept + report.bad
        return counts


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def clip(patch):
    return Counting("clip-test", patch)


@pytest.fixture(scope="module")
def text(patch):
    return Counting("text-test", patch)


@pytest.fixture(autouse=True)
def forgotten(clip, text):
    clip.given(), text.given()


def rows(out: Path) -> dict[str, dict]:
    """The rows of the set that is searched, by id; no id stands twice."""
    found = [row for shard in ShardFolder(out).finished() for row in pq.read_table(shard.path).to_pylist()]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def shard_files(out: Path) -> dict[str, tuple]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (out / "shards").iterdir()}


def check_vectors(model, photos: Path, out: Path, gone: dict[str, np.ndarray] | None = None) -> None:
    """Every vector is the one of its image today, or the one that it had."""
    ids, vectors = stored(out)
    there = [i for i, one in enumerate(ids) if one not in (gone or {})]
    expected = model.encode([photos / ids[i] for i in there]).numpy()
    np.testing.assert_allclose(vectors[there], expected, atol=1e-6)
    for name, vector in (gone or {}).items():
        np.testing.assert_array_equal(vectors[ids.index(name)], vector)


def test_added_changed_moved_touched_and_vanished_images(clip, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_images(photos, 24)
    (photos / "b" / "bad.png").write_bytes(b"")
    assert clip.embed(photos, out) == (24, 0, 0, 0, 0, 0)
    assert len(clip.given()) == 25
    before = dict(zip(*stored(out), strict=True))
    make_images(photos, 2, start=100)  # sorted between the others
    (photos / "b" / "00001.png").write_bytes((photos / "00000.png").read_bytes() + b" ")
    (photos / "b" / "00004.png").rename(photos / "0moved.png")
    os.utime(photos / "00006.png", ns=(1, 1))
    (photos / "00003.png").unlink()
    assert clip.embed(photos, out) == (2, 1, 2, 20, 1, 0)
    assert clip.given() == ["00001.png", "00100.png", "00101.png", "bad.png"]
    names = {path.relative_to(photos).as_posix() for path in photos.rglob("[01]*.png")}
    assert set(stored(out)[0]) == names | {"00003.png"}
    check_vectors(clip.model, photos, out, {"00003.png": before["00003.png"]})
    clip.given()
    assert [bad["id"] for bad in quarantined(out)] == ["b/bad.png"]
    files = shard_files(out)
    assert all(name.startswith("g000001-") for name in files)
    assert clip.embed(photos, out) == (0, 0, 0, 25, 1, 0)
    assert shard_files(out) == files
    assert clip.embed(photos, out, update=True) == (0, 0, 0, 25, 0, 1)
    assert set(stored(out)[0]) == names
    files = shard_files(out)
    assert clip.embed(photos, out, update=True) == (0, 0, 0, 25, 0, 0)
    assert shard_files(out) == files
    assert clip.given() == ["bad.png"]  # bad inputs are tried again where a set is written anew
    check_vectors(clip.model, photos, out)


def test_an_unchanged_folder_is_not_read_and_images_at_the_end_are_added(clip, tmp_path, monkeypatch):
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_images(photos, 12)
    clip.embed(photos, out)
    files = shard_files(out)

    def read(*_):
        raise AssertionError("a file was read")

    monkeypatch.setattr(hashlib, "file_digest", read)
    monkeypatch.setattr("zoo.inputs.image.read_bytes", read)
    assert clip.embed(photos, out) == (0, 0, 0, 12, 0, 0)
    assert shard_files(out) == files
    monkeypatch.undo()
    (photos / "b" / "c" / "z.png").write_bytes((photos / "00000.png").read_bytes() + b" ")
    (photos / "b" / "c" / "zz.png").write_bytes((photos / "00000.png").read_bytes())
    clip.given()
    assert clip.embed(photos, out) == (1, 0, 1, 12, 0, 0)
    assert clip.given() == ["z.png"]
    assert shard_files(out).items() > files.items()
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["generation"], manifest["finished"], manifest["counts"]["total"]) == (0, True, 14)


def test_other_columns_that_change_are_written_and_nothing_is_embedded(text, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 30), tmp_path / "out"
    text.embed(source, out)
    text.given()
    lines = [line.split(",") for line in source.read_text().splitlines()]
    header = ["note", "label", "text", "stars"]
    table = [[line[5], line[1].upper(), line[0], str(at)] for at, line in enumerate(lines[1:])]
    source.write_text("\n".join(",".join(line) for line in [header, *table]) + "\n")
    assert text.embed(source, out) == (0, 0, 30, 0, 0, 0)
    found = rows(out)
    assert (found["7"]["label"], found["7"]["stars"], found["7"]["text"]) == ("DOG", 7, "text 7")
    assert list(found["7"]) == ["id", "reference", "vector", "note", "label", "text", "stars"]
    assert json.loads((out / "manifest.json").read_text())["attributes"]["stars"] == "int64"
    assert text.embed(source, out) == (0, 0, 0, 30, 0, 0)
    assert text.given() == []


def test_rows_are_known_by_their_texts_wherever_they_stand(text, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 20), tmp_path / "out"
    text.embed(source, out)
    text.given()
    header, *lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([header, *reversed(lines)]))
    assert text.embed(source, out) == (0, 0, 20, 0, 0, 0)
    assert [row["text"] for row in rows(out).values()] == [f"text {i}" for i in reversed(range(20))]
    assert text.given() == []
    expected = text.model.encode_document([f"text {i}" for i in reversed(range(20))]).numpy()
    np.testing.assert_allclose(stored(out)[1], expected, atol=1e-5)
    text.given()
    source.write_text("".join([header, "a new one,cat,1990,0,True,\n", *lines, lines[3]]))
    assert text.embed(source, out) == (1, 0, 20, 1, 0, 0)  # the copy of a row is not embedded either
    assert text.given() == ["a new one"]


def test_a_row_stays_when_it_has_vanished_until_its_place_is_taken(text, tmp_path):
    source, out = tmp_path / "t.csv", tmp_path / "out"

    def embed(texts, **options):
        source.write_text("".join(f"{one}\n" for one in ["text", *texts]))
        return text.embed(source, out, **options)

    embed("abcdef")
    assert embed("abcd") == (0, 0, 0, 4, 2, 0)
    assert {one: row["text"] for one, row in rows(out).items()} == dict(enumerate_texts("abcdef"))
    # The rows after a deleted one move up: the last place is free, and the deleted one's is taken.
    assert embed("acd") == (0, 0, 2, 1, 2, 1)
    assert {one: row["text"] for one, row in rows(out).items()} == {
        "0": "a", "1": "c", "2": "d", "4": "e", "5": "f",
    }  # fmt: skip
    # At the end there is room for more: what comes back is recognised, and what is new takes the place.
    text.given()
    assert embed("acdxe") == (1, 0, 0, 4, 1, 0)
    assert text.given() == ["x"]
    assert {one: row["text"] for one, row in rows(out).items()} == dict(enumerate_texts("acdxef"))
    assert embed("acdxey") == (0, 1, 0, 5, 0, 0)
    assert embed("acd", update=True) == (0, 0, 0, 3, 0, 3)


def enumerate_texts(texts):
    return ((str(at), one) for at, one in enumerate(texts))


def test_what_comes_back_is_recognised_and_copies_are_not_embedded(clip, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_images(photos, 9)
    clip.embed(photos, out)
    clip.given()
    away = tmp_path / "away"
    (photos / "b").rename(away)
    assert clip.embed(photos, out) == (0, 0, 0, 3, 6, 0)
    away.rename(photos / "b")
    assert clip.embed(photos, out) == (0, 0, 0, 9, 0, 0)
    (photos / "b" / "c" / "00008.png").rename(tmp_path / "last.png")
    assert clip.embed(photos, out) == (0, 0, 0, 8, 1, 0)
    (tmp_path / "last.png").rename(photos / "b" / "c" / "zz.png")  # under another name, after all others
    assert clip.embed(photos, out) == (0, 0, 1, 8, 0, 0)
    (photos / "00000 copy.png").write_bytes((photos / "00000.png").read_bytes())
    assert clip.embed(photos, out) == (0, 0, 1, 9, 0, 0)
    (photos / "00000.png").unlink()  # the copy stays, and so does the vector of the one that has gone
    assert clip.embed(photos, out) == (0, 0, 0, 9, 1, 0)
    assert clip.given() == []


def test_a_rename_is_not_taken_for_a_copy_of_an_image_that_stays(clip, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_images(photos, 3)
    for name in ("1.png", "2.png"):
        (photos / name).write_bytes((photos / "00000.png").read_bytes())
    clip.embed(photos, out)
    (photos / "2.png").rename(photos / "0.png")
    assert clip.embed(photos, out) == (0, 0, 1, 4, 0, 0)
    assert set(rows(out)) == {"0.png", "00000.png", "1.png", "b/00001.png", "b/c/00002.png"}


@pytest.mark.parametrize("old", [False, True])
def test_force_compares_what_files_hold(clip, old, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_images(photos, 9)
    path = photos / "00003.png"
    path.write_bytes(path.read_bytes().ljust(200, b" "))
    clip.embed(photos, out)
    if old:
        forget_contents(out)
    clip.given()
    status = path.stat()
    make_images(tmp_path / "other", 1, start=50)
    path.write_bytes((tmp_path / "other" / "b" / "c" / "00050.png").read_bytes().ljust(200, b" "))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert clip.embed(photos, out) == (0, 0, 0, 9, 0, 0)
    assert clip.given() == []
    if old:  # of which nobody knows what was embedded
        assert clip.embed(photos, out, force=True) == (0, 9, 0, 0, 0, 0)
    else:
        assert clip.embed(photos, out, force=True) == (0, 1, 0, 8, 0, 0)
        assert clip.given() == ["00003.png"]
    check_vectors(clip.model, photos, out)
    files = shard_files(out)
    assert clip.embed(photos, out, force=True) == (0, 0, 0, 9, 0, 0)
    assert shard_files(out) == files


def forget_contents(out: Path) -> None:
    """Makes shards what an earlier version wrote."""
    for shard in ShardFolder(out).finished():
        table = pq.read_table(shard.path)
        footer = json.loads(table.schema.metadata[FOOTER])
        for name in ("contents", "generation"):
            del footer[name]
        pq.write_table(table.replace_schema_metadata({FOOTER: json.dumps(footer).encode()}), shard.path)
    manifest = json.loads((out / "manifest.json").read_text())
    for name in ("generation", "split"):
        del manifest[name]
    (out / "manifest.json").write_text(json.dumps(manifest))


def test_shards_of_earlier_versions_are_known_by_names_sizes_and_times(clip, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_images(photos, 9)
    clip.embed(photos, out)
    forget_contents(out)
    clip.given()
    assert clip.embed(photos, out) == (0, 0, 0, 9, 0, 0)
    os.utime(photos / "00000.png", ns=(1, 1))
    assert clip.embed(photos, out) == (0, 1, 0, 8, 0, 0)
    assert clip.given() == ["00000.png"]
    os.utime(photos / "00000.png", ns=(2, 2))
    assert clip.embed(photos, out) == (0, 0, 1, 8, 0, 0)  # its content is known now
    assert clip.given() == []


def test_an_update_that_an_earlier_version_left_unfinished_is_finished(text, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 32), tmp_path / "out"
    text.embed(source, out)
    forget_contents(out)
    (out / "replaced").mkdir()
    for path in sorted((out / "shards").iterdir())[1:]:
        path.rename(out / "replaced" / f"000000-{path.name}")
    text.given()
    assert text.embed(source, out) == (0, 0, 0, 32, 0, 0)
    assert text.given() == []
    assert not (out / "replaced").exists()


def test_vectors_of_another_source_are_not_mixed_with_these(clip, tmp_path):
    photos, other, out = tmp_path / "photos", tmp_path / "other", tmp_path / "out"
    make_images(photos, 6)
    make_images(other, 6, start=50)
    clip.embed(photos, out)
    files = shard_files(out)
    with pytest.raises(
        SourceChangedError, match=r"none of the 6 vectors .* \(path .*photos there, .*other here\).*--update"
    ):
        clip.embed(other, out)
    assert shard_files(out) == files
    photos.rename(tmp_path / "elsewhere")  # the same files in another place are the same
    assert clip.embed(tmp_path / "elsewhere", out) == (0, 0, 0, 6, 0, 0)
    assert clip.embed(other, out, update=True) == (6, 0, 0, 0, 0, 6)


def test_what_lies_where_nobody_can_look_has_not_vanished(clip, tmp_path, monkeypatch):
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_images(photos, 9)
    clip.embed(photos, out)
    real = os.scandir

    def scandir(path):
        if os.path.basename(path) == "b":
            raise PermissionError(13, "Permission denied")
        return real(path)

    (photos / "00000.png").unlink()
    monkeypatch.setattr(os, "scandir", scandir)
    assert clip.embed(photos, out, update=True) == (0, 0, 0, 2, 6, 1)
    assert [bad["reason"] for bad in quarantined(out)] == ["unreadable-folder"]
    monkeypatch.undo()
    assert clip.embed(photos, out, update=True) == (0, 0, 0, 8, 0, 0)


@pytest.mark.parametrize("columns", ["image", "image+text"])
def test_images_of_a_table_are_known_by_what_they_hold_with_their_texts(clip, columns, tmp_path):
    source, out, photos = tmp_path / "t.csv", tmp_path / "out", tmp_path / "photos"
    make_images(photos, 6)
    table = [
        [path.relative_to(tmp_path).as_posix(), f"text {i}", "old"] for i, path in enumerate(photos.rglob("*.png"))
    ]

    def embed():
        source.write_text("\n".join(",".join(line) for line in [["image", "text", "label"], *table]) + "\n")
        return clip.embed(source, out, column=columns)

    assert embed() == (6, 0, 0, 0, 0, 0)
    clip.given()
    table = [[*line[:2], "new"] for line in table]
    (tmp_path / table[3][0]).rename(photos / "moved.png")
    table[3][0] = "photos/moved.png"
    assert embed() == (0, 0, 6, 0, 0, 0)
    assert clip.given() == []
    assert {row["label"] for row in rows(out).values()} == {"new"}
    assert rows(out)["3"]["reference"] == "photos/moved.png"
    table[2][1] = "another text"  # of what is embedded only where both are
    assert embed() == ((0, 1, 0, 5, 0, 0) if columns == "image+text" else (0, 0, 1, 5, 0, 0))
    (photos / "moved.png").write_bytes((tmp_path / table[0][0]).read_bytes() + b" ")
    assert embed() == (0, 1, 0, 5, 0, 0)


def test_what_an_input_holds_is_of_all_its_parts_and_of_their_kinds(tmp_path):
    gone = Item(text="a", image=tmp_path / "gone.png")
    assert (size_of(gone), content_of(gone)) == (-1, UNKNOWN)
    one, other = (Item(**{kind: b"the same bytes"}) for kind in ("image", "video"))
    assert (size_of(one), content_of(one)) == (14, content_of(Item(image=b"the same bytes")))
    assert content_of(one) != content_of(other)


def test_of_rows_that_hold_the_same_each_is_taken_once_and_that_of_the_same_id_first():
    found, taken, key = (
        _Lookup(np.zeros((3, 2), np.uint64), np.array([5, 9, 7], np.uint64)),
        np.zeros(3, bool),
        bytes(16),
    )
    assert found.find(key, 9) == 1
    assert [found.take(key, 9, taken) for _ in range(4)] == [1, 0, 2, None]
    assert found.find(b"another".ljust(16), 9) is None


def test_vectors_are_found_in_any_order_with_few_shards_open(text, tmp_path, monkeypatch):
    text.embed(make_table(tmp_path / "t.csv", 30), tmp_path / "out")
    known = Known(ShardFolder(tmp_path / "out").finished())
    monkeypatch.setattr("zoo.bulk.known._OPEN_BYTES", 0)
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal([known.vector(int(row)) for row in order], stored(tmp_path / "out")[1][order])
    assert len(known._open) == 1


def test_what_lies_in_a_folder_is_not_what_begins_like_it():
    assert [_below(name, ["b/c"]) for name in ("b/c", "b/c/1.png", "b/c#7", "b/cat.png", "b")] == [True] * 3 + [
        False
    ] * 2


# -- while an update is going on --------------------------------------------------------------------------------------


def test_until_an_update_is_whole_the_old_set_is_the_one_that_is_searched(text, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.bulk.run.REPORT_EVERY", 0)
    source, out = make_table(tmp_path / "t.csv", 60), tmp_path / "out"
    text.embed(source, out)
    old = stored(out)
    text.given()
    header, *lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([header, "the first,cat,1990,0,True,\n", *lines[:40], "last,cat,1990,0,True,\n"]))

    def press(done, total):
        if done == 25:
            assert "an update is not finished (24 of 42 inputs)" in unfinished(ShardFolder(out).manifest())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        text.embed(source, out, progress=press)
    assert unfinished(ShardFolder(out).manifest())
    for found, was in zip(stored(out), old, strict=True):
        np.testing.assert_array_equal(found, was)
    (out / "manifest.json").rename(tmp_path / "manifest.json")  # without it the older set is the one
    np.testing.assert_array_equal(stored(out)[1], old[1])
    (tmp_path / "manifest.json").rename(out / "manifest.json")
    text.given()
    with pytest.raises(TooManyBadItemsError):  # a run that is refused replaces nothing either
        source.write_text(source.read_text() + ",cat,1990,0,True,\n")
        text.embed(source, out, max_bad=0)
    np.testing.assert_array_equal(stored(out)[1], old[1])
    assert text.embed(source, out)[4:] == (17, 2)
    assert text.given() == ["last"] or text.given() == []
    assert unfinished(ShardFolder(out).manifest()) == ""
    assert list(rows(out)) == [*map(str, range(42)), *map(str, range(43, 60))]  # the row without a text is 42
    assert {name[:8] for name in shard_files(out)} == {"g000001-"}


def test_a_source_that_changes_again_does_not_lose_what_was_embedded(text, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.bulk.run.REPORT_EVERY", 0)
    source, out = make_table(tmp_path / "t.csv", 10), tmp_path / "out"
    text.embed(source, out)
    header, *lines = source.read_text().splitlines(keepends=True)
    more = [f"more {i},cat,1990,0,True,\n" for i in range(30)]

    def press(done, total):
        if done == 25:
            raise KeyboardInterrupt

    source.write_text("".join([header, *more, *lines]))
    with pytest.raises(KeyboardInterrupt):
        text.embed(source, out, progress=press)
    source.write_text("".join([header, "again,cat,1990,0,True,\n", *more, *lines]))
    text.given()
    text.embed(source, out, update=True)
    assert len(text.given()) <= 31 - 24
    assert [row["text"] for row in rows(out).values()][:2] == ["again", "more 0"]
    assert len(rows(out)) == 41
    assert len({name[:8] for name in shard_files(out)}) == 1
    # A set that is not needed any more goes, too.
    source.write_text("".join([header, "once more,cat,1990,0,True,\n", *more, *lines]))
    with pytest.raises(KeyboardInterrupt):
        text.embed(source, out, progress=press)
    source.write_text("".join([header, "again,cat,1990,0,True,\n", *more, *lines]))
    assert text.embed(source, out) == (0, 0, 0, 41, 0, 0)
    assert len({name[:8] for name in shard_files(out)}) == 1


@pytest.mark.parametrize("back", [(), (1,)])
def test_what_a_stopped_run_kept_of_vanished_images_is_written_anew(back, clip, tmp_path, monkeypatch):
    photos, away, out = tmp_path / "photos", tmp_path / "away", tmp_path / "out"
    make_images(away, 8)
    photos.mkdir()

    def move(here, there, *numbers):
        for number in numbers:
            next(here.rglob(f"0000{number}.png")).rename(there / f"0000{number}.png")

    def stopped(*_):
        raise KeyboardInterrupt

    move(away, photos, 0, 1, 2, 3, 4)
    clip.embed(photos, out)
    move(photos, away, 1, 2, 3, 4)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("zoo.bulk.earlier.Earlier._left", stopped)  # the four are in the next set already
        clip.embed(photos, out)
    clip.given()
    move(away, photos, *back)
    for number in (6, 7):  # of other sizes than those that are kept
        Image.new("RGB", (90 + number, 90), (number, 0, 0)).save(photos / f"0000{number}.png")
    assert clip.embed(photos, out) == (2, 0, 0, 1 + len(back), 4 - len(back), 0)
    assert clip.given() == ["00006.png", "00007.png"]


def test_a_manifest_of_an_earlier_version_may_say_less_of_the_source(text, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 4), tmp_path / "out"
    text.embed(source, out)
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["source"]["column"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    source.write_text("text\nall\nthat is here\nis new\n")
    assert text.embed(source, out)[0:2] == (0, 3)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_operation_of_an_update(stride, text, tmp_path):
    """Dead before this fsync, rename, removal or append: the old set or the new one, whole, and the next run ends it."""
    source = tmp_path / "t.jsonl"

    def write(texts):
        source.write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))

    before, after = [f"t{i}" for i in range(24)], ["new", *(f"t{i}" for i in range(3, 20)), "", "newer"]
    expected = None
    operation, alive, seen = 1 - stride, False, set()
    while not alive:
        operation += stride
        out = tmp_path / str(operation)
        write(before)
        text.embed(source, out)
        old = {row["text"]: row["id"] for row in rows(out).values()}
        write(after)
        with dying_at(operation):
            text.embed(source, out)
            alive = True
        found = {row["text"]: row["id"] for row in rows(out).values()}
        seen.add(found == old)
        if expected is None:
            text.embed(source, tmp_path / "new", shard_size=100)
        text.embed(source, out)
        new = rows(out)
        # Places 0 to 19 are those of today's rows; what stood in the last four stays.
        assert {row["text"] for row in new.values()} == {*after, *before[20:]} - {""}
        assert found in (old, {row["text"]: row["id"] for row in new.values()})
        vectors = np.array([row["vector"] for row in new.values()], np.float32)
        expected = text.model.encode_document([row["text"] for row in new.values()]).numpy()
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
        assert [bad["id"] for bad in quarantined(out)] == ["18"]
        assert len({name[:8] for name in shard_files(out)}) == 1
    assert seen == {True, False}
