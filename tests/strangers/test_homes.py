"""Where indexes of folders that others made lie: in the user's cache, which has a bound."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from zoo.index import ExactIndex, LanceIndex, homes
from zoo.index.base import IndexFacts
from zoo.index.generations import swap
from zoo.index.homes import ABOUT, Home, homes_of, prepare, tidy
from zoo.strangers.made import mark

KINDS = (ExactIndex, LanceIndex)
FACTS = IndexFacts("exact", {"model": "m"}, 16, "float32", pa.schema([]))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "embedding-zoo" / "indexes"


def kept(folder: Path, used: int) -> Home:
    """A home in the cache with an index that was asked for at that time."""
    folder.mkdir()
    home = next(homes_of(folder, "exact", adopt=False))
    with pytest.warns(UserWarning, match="not known to be made here"):
        prepare(home, folder)
    ExactIndex.begin(home.place / "000001", FACTS).close()
    swap(home.place, 1)
    (home.place / "000001" / "vectors.bin").write(bytes(10_000))
    os.utime(home.place.parent.path, (used, used))
    return home


def test_those_that_were_not_opened_for_longest_go_where_there_are_too_many(tmp_path, cache, monkeypatch):
    old, gone, open_one, new = (kept(tmp_path / name, used) for used, name in enumerate(("old", "gone", "open", "new")))
    (tmp_path / "gone").rmdir()
    (cache / "notes").mkdir()
    (cache / "notes" / "mine").write_bytes(bytes(100_000))
    reader = ExactIndex.open_at(open_one.place)
    here = {home: home.place.parent.path for home in (old, gone, open_one, new)}
    tidy(new, KINDS)
    assert all(path.exists() for path in here.values()), "there is room"
    monkeypatch.setattr(homes, "MOST", 35_000)
    tidy(new, KINDS)
    assert {home.place.parent.name for home in here if here[home].exists()} == {
        home.place.parent.name for home in (old, open_one, new)
    }
    monkeypatch.setattr(homes, "MOST", 1)
    tidy(new, KINDS)
    assert [here[home].exists() for home in (old, open_one, new)] == [False, True, True], "one is read, one is ours now"
    reader.close()
    tidy(new, KINDS)
    assert not here[open_one].exists()
    assert (cache / "notes" / "mine").exists(), "of no index"


def test_what_cannot_be_built_again_stays(tmp_path, cache, monkeypatch):
    mine, new = kept(tmp_path / "mine", 1), kept(tmp_path / "new", 2)
    (mine.place / "000001" / "vectors.bin").remove()
    with ExactIndex.open_at(mine.place) as index:
        index.upsert(["a"], [[1.0] * 16])
    monkeypatch.setattr(homes, "MOST", 1)
    tidy(new, KINDS)
    with ExactIndex.open_at(mine.place) as index:
        assert index.count() == 1
        index.delete(["a"])
    tidy(new, KINDS)
    assert mine.place.kind() is None


def test_links_in_the_cache_are_not_followed(tmp_path, cache, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat").write_bytes(b"mine")
    home = kept(tmp_path / "given", 1)
    (cache / ("0" * 32)).symlink_to(tmp_path / "photos")
    (cache / ("1" * 32)).mkdir()
    (cache / ("1" * 32) / "exact").symlink_to(tmp_path / "photos")
    monkeypatch.setattr(homes, "MOST", 1)
    tidy(home, KINDS)
    assert (tmp_path / "photos" / "cat").read_bytes() == b"mine"


def test_an_index_lies_in_a_folder_that_was_made_here_unless_it_came_with_it(tmp_path):
    folder = tmp_path / "vectors"
    folder.mkdir()
    mark(folder)
    home = next(homes_of(folder, "exact", adopt=False))
    prepare(home, folder)
    assert home.own
    assert next(homes_of(folder, "exact", adopt=False)).own
    (folder / "index" / ".zoo-made").unlink()  # made, and killed before it was marked
    assert next(homes_of(folder, "exact", adopt=False)).own
    (folder / "index" / "exact").mkdir()
    assert not next(homes_of(folder, "exact", adopt=False)).own
    assert next(homes_of(folder, "exact", adopt=True)).own
    assert next(homes_of(folder, "exact", adopt=False)).own


def test_a_folder_has_another_home_when_another_one_takes_its_place(tmp_path, cache):
    home = kept(tmp_path / "given", 1)
    (tmp_path / "given").rename(tmp_path / "moved")
    (tmp_path / "given").mkdir()
    assert next(homes_of(tmp_path / "given", "exact", adopt=False)).place != home.place
    assert (home.place.parent / ABOUT).read_json() == {"folder": str(tmp_path / "given")}
