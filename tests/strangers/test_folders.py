"""Place: what lies below a folder that others may have made is opened, written and removed without following anything."""

import errno
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from zoo.errors import UnsafeFolderError
from zoo.strangers import folders
from zoo.strangers.folders import DEEPEST, Place
from zoo.strangers.locks import Held, fcntl, for_many, locked


@pytest.fixture(params=[True, pytest.param(False, id="by-path")])
def gift(request, tmp_path, monkeypatch):
    """A folder below which the user's file lies besides; by descriptors, and as where there are none."""
    if not request.param:
        monkeypatch.setattr(folders, "_BY_DESCRIPTOR", False)
        monkeypatch.setattr(folders, "_NO_LINK", 0)
        monkeypatch.setattr(folders, "_PLAIN", folders._PLAIN & ~os.O_NOFOLLOW)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mine").write_text("secret")
    (tmp_path / "gift" / "in").mkdir(parents=True)
    return Place.of(tmp_path / "gift")


def entry(kind: str, path: Path) -> None:
    """A link to the user's file or folder, or to nothing, a FIFO, or a socket."""
    mine = path.parents[len(path.parents) - 1 - str(path).split("/").index("gift")] / "home"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # names of sockets are short
        socket.socket(socket.AF_UNIX).bind(path.name)
        os.chdir(here)
    else:
        path.symlink_to({"link": mine / "mine", "folder": mine, "nowhere": mine / "new"}[kind])


USES = [
    lambda place: place.open(),
    lambda place: place.read(),
    lambda place: place.change(),
    lambda place: place.is_file(),
    lambda place: place.is_folder(),
    lambda place: place.names(),
    lambda place: place.make(),
    lambda place: (place / "x").read(),
    lambda place: (place / "x").write(b"x"),
    lambda place: (place / "x").change(),
    lambda place: (place / "x").make(),
    lambda place: (place / "x").remove(),
    lambda place: (place / "x").remove_tree(),
    lambda place: place.parent.check_tree(),
    lambda place: locked(place).__enter__(),
    lambda place: for_many(place, make=True),
]


@pytest.mark.parametrize("kind", ["link", "folder", "nowhere", "fifo", "socket"])
def test_what_is_no_file_and_no_folder_is_refused_by_name(gift, kind):
    entry(kind, gift.path / "in" / "it")
    before = sorted(os.listdir(gift.root.parent / "home"))
    for number, use in enumerate(USES):
        with pytest.raises(UnsafeFolderError, match=r"gift/in/it is a (link to .*home|FIFO|socket)"):
            use(gift / "in/it")
            pytest.fail(f"use {number} of a {kind}")
    (gift / "in/it").remove()
    (gift / "in/it").remove_tree()
    assert (gift / "in/it").kind() is not None, "what is no regular file is not removed"
    (gift / "in/it").write(b"new")  # takes its place: the target of a link keeps what it holds
    assert (gift / "in/it").read() == b"new"
    assert sorted(os.listdir(gift.root.parent / "home")) == before
    assert (gift.root.parent / "home" / "mine").read_text() == "secret"


def test_the_folder_itself_may_be_a_link(gift):
    (gift.root.parent / "named").symlink_to(gift.root)
    named = Place.of(gift.root.parent / "named")
    (named / "in/x").write(b"1")
    assert (gift / "in/x").read() == b"1"
    assert sorted(named.names()) == ["in"]


@pytest.mark.parametrize("names", ["..", "../home/mine", "in/../../home", "/etc/passwd", "", ".", "a\0b"])
def test_names_that_lead_out_are_refused(gift, names):
    with pytest.raises(UnsafeFolderError, match="leads out"):
        gift / names


def test_what_is_absent_is_absent(gift):
    for use in (Place.open, Place.read, Place.names):
        with pytest.raises(FileNotFoundError, match="gift/in/no"):
            use(gift / "in/no")
        with pytest.raises((NotADirectoryError, FileNotFoundError), match="gift/no"):
            use(gift / "no/one")
    for place in (gift / "in/no", gift / "no/one", Place.of(gift.root / "no"), Place.of(gift.root / "no") / "x"):
        assert place.kind() is None
        assert not place.is_file()
        assert not place.is_folder()
        place.check_tree()
    with pytest.raises(IsADirectoryError):
        (gift / "in").read()


def test_sizes_are_bounded_before_and_while_reading(gift):
    with (gift / "in/it").change() as file:
        file.truncate(3 << 30)
    for use in (Place.read, Place.read_text, Place.read_json):
        with pytest.raises(UnsafeFolderError, match="has 3,221,225,472 bytes, and no it has more than 16,777,216"):
            use(gift / "in/it")
    (gift / "in/it").write(b"12345")
    assert (gift / "in/it").read(5) == b"12345"
    with pytest.raises(UnsafeFolderError, match="more than 4"):
        (gift / "in/it").read(4)
    (gift / "in/it").write(b"[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        (gift / "in/it").read_json()


def test_writing_is_whole_durable_and_of_the_usual_mode(gift):
    old = os.umask(0o027)
    try:
        (gift / "in/it").write(b"one")
    finally:
        os.umask(old)
    assert stat.S_IMODE((gift.path / "in/it").stat().st_mode) == 0o640
    with pytest.raises(TypeError):
        (gift / "in/it").write("no bytes")
    assert (gift / "in/it").read() == b"one"
    assert gift.names() + (gift / "in").names() == ["in", "it"], "nothing half written is left"
    (gift / "a/b/c").make()
    (gift / "a/b/c").make()
    assert (gift / "a/b/c").is_folder()
    with pytest.raises(NotADirectoryError):
        (gift / "in/it").make()


def test_a_file_with_other_names_is_copied_before_it_is_changed(gift):
    mine = gift.root.parent / "home" / "mine"
    os.link(mine, gift.path / "in" / "it")
    with (gift / "in/it").change() as file:
        assert file.read() == b"secret"
        file.truncate(0)
        file.seek(0)
        file.write(b"theirs")
    assert (gift / "in/it").read() == b"theirs"
    assert mine.read_text() == "secret"
    assert sorted((gift / "in").names()) == ["it"]


def test_only_what_is_below_is_removed(gift):
    (gift / "in/deep/er").make()
    (gift / "in/deep/x").write(b"")
    (gift.path / "in/deep/er/link").symlink_to(gift.root.parent / "home")
    (gift.path / "in/.tmp-0-x.part").write_bytes(b"half")
    (gift.path / "in/.tmp-1-x.part").symlink_to(gift.root.parent / "home" / "mine")
    (gift.path / "in/.tmp-0123456789abcdef.part").write_bytes(b"half")
    (gift.path / "in/.tmp-notes.part").write_bytes(b"of somebody")
    folders.remove_leftovers(gift / "in")
    assert sorted((gift / "in").names()) == [".tmp-1-x.part", ".tmp-notes.part", "deep"]
    (gift / "in/deep").remove()
    (gift / "in/deep").remove_tree()
    (gift / "in/deep").remove_tree()
    assert (gift / "in/deep").kind() is None
    assert (gift.root.parent / "home" / "mine").read_text() == "secret"
    with pytest.raises(ValueError, match="only what lies below it"):
        gift.remove_tree()


def test_a_tree_is_looked_through(gift):
    (gift / "a/b").make()
    (gift / "a/b/file").write(b"")
    gift.check_tree()
    (gift.path / "a/b/link").symlink_to("file")
    with pytest.raises(UnsafeFolderError, match="a/b/link is a link to file"):
        gift.check_tree()
    (gift.path / "a/b/link").unlink()
    (gift / "/".join("x" * (DEEPEST + 2))).make()
    with pytest.raises(UnsafeFolderError, match="folders deep"):
        gift.check_tree()


@pytest.mark.skipif(fcntl is None, reason="the locks of this system are those of filelock")
def test_a_lock_is_of_one_and_never_empties_its_file(gift):
    (gift / "in/.lock").write(b"content")
    with locked(gift / "in/.lock"), pytest.raises(Held), locked(gift / "in/.lock", wait=0.05):
        pytest.fail("held twice")
    taken: list[str] = []

    def wait() -> None:
        with locked(gift / "in/.lock", wait=None):
            taken.append("second")

    with locked(gift / "in/.lock"):
        other = threading.Thread(target=wait)
        other.start()
        taken.append("first")
    other.join(10)
    assert taken == ["first", "second"]
    assert (gift / "in/.lock").read() == b"content"


@pytest.mark.skipif(fcntl is None, reason="other locks on this system")
def test_where_a_disk_knows_no_locks_a_file_beside_it_is_one(gift, monkeypatch):
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")  # as of Lustre without `-o flock`

    monkeypatch.setattr(fcntl, "flock", unknown)
    place, secret = gift / ".lock", gift.path / "mine"
    for _ in range(2):
        with locked(place), pytest.raises(Held), locked(place):
            pass
    secret.write_text("mine")
    (gift.path / ".lock.soft").symlink_to(secret)
    with pytest.raises(UnsafeFolderError, match=r"\.lock\.soft is a link"), locked(place):
        pass
    assert secret.read_text() == "mine"


@pytest.mark.skipif(not folders._BY_DESCRIPTOR, reason="needs descriptors of folders")
def test_a_folder_that_becomes_a_link_between_two_steps_is_not_followed(tmp_path, monkeypatch):
    """What was checked is what is used: the entry is swapped after each look at it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "it").write_text("secret")
    (tmp_path / "gift" / "in").mkdir(parents=True)
    (tmp_path / "gift" / "in" / "it").write_text("theirs")
    plain = folders._Folder.status

    def swapped(self, name: str):
        found = plain(self, name)
        path = tmp_path / "gift" / "in" / "it"
        if name == "it" and not path.is_symlink():
            path.unlink()
            path.symlink_to(tmp_path / "home" / "it")
        return found

    monkeypatch.setattr(folders._Folder, "status", swapped)
    with pytest.raises(UnsafeFolderError, match="it is a link"):
        Place.of(tmp_path / "gift").__truediv__("in/it").read()
