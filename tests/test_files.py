"""zoo.files: a file or folder is there whole or not at all, and what was there before stays until then."""

import errno
import os
from pathlib import Path

import pytest

from zoo import files


def test_what_fails_leaves_the_old_one_and_nothing_beside(tmp_path: Path) -> None:
    path, folder = tmp_path / "old.txt", tmp_path / "new"
    files.write(path, "old, ü")
    with pytest.raises(ZeroDivisionError), files.writing(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == tmp_path
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), files.writing_folder(folder) as draft:
        (draft / "half").write_text("half")
        raise ZeroDivisionError
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert path.read_text(encoding="utf-8") == "old, ü"
    assert os.listdir(tmp_path) == ["old.txt"]


def test_the_new_one_takes_the_place_of_a_link_and_not_of_its_target(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for number, write in enumerate((lambda path: files.write(path, b"new"), lambda path: _aside(path, "new"))):
        link = tmp_path / f"link-{number}"
        link.symlink_to(mine)
        write(link)
        assert (link.is_symlink(), link.read_text(), mine.read_text()) == (False, "new", "mine")


def _aside(path: Path, text: str) -> None:
    with files.writing(path, durable=False) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_appears_with_all_its_files(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    if there:
        folder.mkdir(parents=True)
    with files.writing_folder(folder) as draft:
        (draft / "below").mkdir()
        (draft / "below" / "one").write_text("1")
        (draft / "two").write_text("2")
        assert not folder.exists() or not any(folder.iterdir())
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == {"below", "below/one", "two"}
    assert os.listdir(tmp_path / "a") == ["b"]


def test_a_folder_that_somebody_filled_in_the_meantime_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(OSError, match="not empty"), files.writing_folder(folder) as draft:
        (draft / "a").write_text("ours")
        folder.mkdir()
        (folder / "a").write_text("theirs")
    assert (folder / "a").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_full_disk_is_known_by_its_number_or_by_what_rust_says() -> None:
    for error in (
        OSError(errno.ENOSPC, "no"),
        OSError(errno.EFBIG, "no"),
        ValueError("lance: I/O (os error 28), a.rs:1"),
    ):
        assert files.is_full(error)
    for error in (
        OSError(errno.EACCES, "no"),
        ValueError("(os error 2)"),
        ValueError("28"),
        ValueError("(os error 280)"),
    ):
        assert not files.is_full(error)
