"""What proves that a folder was made here: neither a copy of it nor a folder that brings a mark along."""

import os
import shutil
from pathlib import Path

import pytest

from zoo.strangers import made
from zoo.strangers.made import MARK, forget, made_here, mark


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "embedding-zoo" / "made"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vectors").mkdir()
    mark(tmp_path / "vectors")
    return tmp_path / "vectors"


def test_a_folder_made_here_is_known_also_after_it_was_moved(folder: Path) -> None:
    assert made_here(folder)
    assert made_here(folder.rename(folder.with_name("moved")))


def test_a_copy_is_none_of_ours(folder: Path) -> None:
    assert not made_here(shutil.copytree(folder, folder.with_name("copy")))


def test_a_mark_that_was_brought_along_proves_nothing(folder: Path, tmp_path: Path) -> None:
    gift = tmp_path / "gift"
    gift.mkdir()
    for content in (b"", b"0" * 32, b"../../../x", b"\xff" * 32, b"0" * 10_000, (folder / MARK).read_bytes()):
        (gift / MARK).write_bytes(content)
        assert not made_here(gift), content
    (gift / MARK).unlink()
    (gift / MARK).symlink_to(folder / MARK)
    assert not made_here(gift)
    (gift / MARK).unlink()
    os.mkfifo(gift / MARK)
    assert not made_here(gift)


def test_without_the_users_note_nothing_was_made_here(folder: Path, state: Path) -> None:
    (note,) = state.iterdir()
    for content in (b"", b"[]", b"{}", b'{"inode": "x"}'):
        note.write_bytes(content)
        assert not made_here(folder)
    note.unlink()
    assert not made_here(folder)


def test_a_state_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    mark(tmp_path)
    assert not made_here(tmp_path)


def test_notes_of_vanished_folders_do_not_pile_up(
    folder: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "MOST", 3)
    for number in range(6):
        (other := tmp_path / str(number)).mkdir()
        mark(other)
        shutil.rmtree(other)
    assert len(list(state.iterdir())) <= 5
    assert made_here(folder)
    forget(folder)
    assert not made_here(folder)
