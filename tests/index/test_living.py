"""Vectors deleted for good: from the folder, from both indexes, from the disk; what `zoo embed` makes of them; kills."""

import shutil

import pytest
import torch

import zoo
from tests.bulk.bulk_support import make_table
from zoo.bulk import embed_dataset
from zoo.cli import main
from zoo.errors import ArgumentError, FilterError, FolderError, IndexStateError
from zoo.index import compact, delete_vectors, iter_tables, open_index, read_manifest
from zoo.shards.folder import ShardFolder

BACKENDS = ("exact", "lancedb")


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(0)
    return zoo.build_model("text-test")


@pytest.fixture
def texts(tmp_path):
    """A folder of text files, each of which says which it is, so that a name is an id."""
    (tmp_path / "texts").mkdir()
    for number in range(12):
        (tmp_path / "texts" / f"{number:02d}.txt").write_text(f"secret number {number}")
    return tmp_path / "texts"


@pytest.fixture
def folder(text, texts, tmp_path):
    embed(text, texts, tmp_path / "out")
    return tmp_path / "out"


def embed(text, source, out, **options):
    return embed_dataset(text, source, out, kind="text", shard_size=5, progress=False, **options)


def ids_in(folder):
    return sorted(one for table in iter_tables(folder, ["id"]) for one in table.column("id").to_pylist())


def names(*numbers):
    return [f"{number:02d}.txt" for number in numbers]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_deleted_is_gone_from_the_folder_the_index_and_the_disk(text, folder, backend):
    if backend == "lancedb":
        pytest.importorskip("lancedb")
    open_index(folder, backend=backend).close()
    vector = next(iter_tables(folder)).column("vector")[3].as_py()
    raw = torch.tensor(vector).numpy().tobytes()
    assert any(raw in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    done = delete_vectors(folder, ["03.txt", "07.txt", "no such.txt"])
    assert (done.count, done.missing, done.held) == (2, ("no such.txt",), ())
    assert ids_in(folder) == names(0, 1, 2, 4, 5, 6, 8, 9, 10, 11)
    assert not any(raw in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    index = open_index(folder, model=text, backend=backend)
    found = index.search(text.encode_document("secret number 3"), 100)
    assert sorted(hit.id for hit in found) == ids_in(folder)
    counts = read_manifest(folder)["counts"]
    assert (counts["vectors"], counts["deleted"], counts["bad"]) == (10, 2, 0)
    assert (folder / "quarantine.jsonl").read_text() == ""


def test_it_stays_deleted_under_another_name_too_until_it_changes_or_that_is_asked_for(text, texts, folder):
    delete_vectors(folder, where="id IN ('03.txt', '07.txt', '09.txt')")
    report = embed(text, texts, folder)
    assert (report.new, report.deleted, report.vectors, report.bad) == (0, 3, 9, 0)
    shutil.move(texts / "03.txt", texts / "moved.txt")
    (texts / "07.txt").write_text("another text")
    (texts / "new.txt").write_text("a new one")
    report = embed(text, texts, folder, update=True)
    assert (report.new, report.deleted, report.vectors) == (2, 2, 11)
    assert ids_in(folder) == sorted([*names(0, 1, 2, 4, 5, 6, 7, 8, 10, 11), "new.txt"])
    report = embed(text, texts, folder, undelete=True)
    assert (report.new, report.deleted, report.vectors) == (2, 0, 13)
    assert embed(text, texts, folder).unchanged == 13


def test_of_two_copies_the_deleted_one_stays_deleted_when_it_is_touched(text, texts, tmp_path):
    shutil.copy(texts / "01.txt", texts / "copy.txt")
    embed(text, texts, tmp_path / "out")
    delete_vectors(tmp_path / "out", ["copy.txt"])
    (texts / "copy.txt").touch()
    report = embed(text, texts, tmp_path / "out")
    assert (report.deleted, report.vectors) == (1, 12)
    assert "copy.txt" not in ids_in(tmp_path / "out")


def test_vectors_kept_of_vanished_inputs_are_deleted_too(text, texts, folder):
    for name in names(2, 3, 4):
        (texts / name).unlink()
    assert embed(text, texts, folder).kept == 3
    assert delete_vectors(folder, ["03.txt"]).count == 1
    assert read_manifest(folder)["counts"]["kept"] == 2
    assert ids_in(folder) == names(0, 1, 2, *range(4, 12))
    report = embed(text, texts, folder)
    assert (report.new, report.kept, report.vectors) == (0, 2, 11)


def test_a_job_that_was_stopped_goes_on_after_a_deletion(text, tmp_path):
    source = make_table(tmp_path / "t.csv", 40)

    def stop(done, total):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_dataset(text, source, tmp_path / "out", shard_size=10, shard_seconds=0.0, batch_size=5, progress=stop)
    there = ids_in(tmp_path / "out")
    assert delete_vectors(tmp_path / "out", there[:2]).count == 2
    report = embed_dataset(text, source, tmp_path / "out", shard_size=10, progress=False)
    assert (report.vectors, report.deleted) == (38, 2)
    assert set(ids_in(tmp_path / "out")) == {str(number) for number in range(40)} - set(there[:2])


@pytest.mark.parametrize("at", [0, 1, 2])
def test_killed_in_the_middle_all_is_as_before(text, texts, folder, monkeypatch, at):
    """The process ends before the set is whole: nothing is repaired but by whoever holds the folder next."""
    real, left = ShardFolder.write_table, [at]

    def dying(self, *arguments):
        if left[0] == 0:
            raise SystemExit
        left[0] -= 1
        return real(self, *arguments)

    before = ids_in(folder)
    monkeypatch.setattr(ShardFolder, "write_table", dying)
    monkeypatch.setattr(ShardFolder, "_give_up_rewriting", lambda *_: None)  # as after SIGKILL
    with pytest.raises(SystemExit):
        delete_vectors(folder, ["03.txt"])
    monkeypatch.undo()
    assert ids_in(folder) == before
    assert len(ShardFolder(folder).generations()) == 1 + (at > 0)
    (texts / "new.txt").write_text("a new one")  # a run that writes another set must not go on with that one
    (texts / "00.txt").write_text("a changed one")
    report = embed(text, texts, folder)
    assert (report.vectors, report.deleted) == (13, 0)
    assert delete_vectors(folder, ["03.txt"]).count == 1


def test_rows_that_were_upserted_are_deleted_and_space_is_given_back(text, folder):
    index = open_index(folder, backend="exact")
    for number in range(3):
        index.upsert(["mine", "other"], text.encode_document([f"mine {number}", f"other {number}"]))
    index.close()
    home = folder / "index" / "exact"
    (done,) = compact(folder)
    assert (done.backend, done.held) == ("exact", False)
    assert done.after < done.before
    files = list(home.rglob("vectors.bin"))
    assert [path.stat().st_size for path in files] == [14 * text.spec.dim * 4]
    assert delete_vectors(folder, ["mine", "01.txt"]).count == 2
    with open_index(folder, backend="exact") as index:
        assert index.count() == 12
        assert index.count("id = 'other'") == 1
        assert delete_vectors(folder, ["02.txt"]).held == (home,)
        assert index.count() == 12  # what is open stays as it is


def test_what_is_refused(text, folder, tmp_path, capsys):
    with pytest.raises(ArgumentError, match="one of the two"):
        delete_vectors(folder)
    with pytest.raises(FilterError, match="no column 'labl'"):
        delete_vectors(folder, where="labl = 'x'")
    with pytest.raises(FolderError, match="all 12 vectors"):
        delete_vectors(folder, where="id IS NOT NULL")
    assert delete_vectors(folder, ["gone"]).count == 0
    assert ids_in(folder) == names(*range(12))
    with ShardFolder(folder).locked(), pytest.raises(FolderError, match="another process is writing"):
        delete_vectors(folder, ["03.txt"])
    assert main(["index", "delete", str(folder)]) == 2
    assert main(["index", "compact", str(folder), "--where", "id = 'x'"]) == 2
    assert main(["index", "delete", str(tmp_path), "--ids", "a"]) == 2
    errors = capsys.readouterr().err
    assert "say what to delete" in errors
    assert "--where is of zoo index delete" in errors
    assert "holds no vectors" in errors


def test_an_index_that_nobody_could_rebuild_is_told_before_anything_is_deleted(folder, monkeypatch):
    pytest.importorskip("lancedb")
    open_index(folder, backend="lancedb").close()
    monkeypatch.setattr("zoo.index.living.has_lancedb", lambda: False)
    with pytest.raises(IndexStateError, match="would keep what is deleted"):
        delete_vectors(folder, ["03.txt"])
    assert ids_in(folder) == names(*range(12))


def test_the_command_says_what_it_did(folder, capsys):
    assert main(["index", "compact", str(folder)]) == 0
    assert "has no index yet" in capsys.readouterr().out
    assert main(["index", "delete", str(folder), "--ids", "03.txt", "gone.txt"]) == 0
    captured = capsys.readouterr()
    assert "deleted 1, 11 vectors left" in captured.out
    assert "not there: gone.txt" in captured.err
    assert main(["index", "delete", str(folder), "--where", "id = '03.txt'", "--json"]) == 1
    assert '"deleted": 0' in capsys.readouterr().out
