"""Hostile repositories: each is refused by a named error, before anything of it is imported and before memory is taken.

Every kind (see hostile_kinds) is opened twice, from its folder and through the loopback hub, in a child process that
measures itself: the peak of its resident memory, and with a limit on its address space.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.encoders.bert_support import named_dual
from tests.formats.hostile_child import Child
from tests.formats.hostile_kinds import BASES, KINDS, LOADS, Kind
from tests.hub import LoopbackHub
from tests.reference import write

TEXT = "a red motorbike"
PEAK = 128_000_000  # bytes; the largest JSON that is read takes most of it
_HUB = [name for name, kind in KINDS.items() if kind.on_hub]
# After the download the two ways are one: every fourth kind in the usual run, all of them with `slow`.
BY_HUB = [name if i % 4 == 0 else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(_HUB)]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One good checkpoint of each layout."""
    root = tmp_path_factory.mktemp("good")
    models = {"zoo-text": "text-test", "zoo-clip": "clip-test", "zoo-mini": "mini-test"}
    for name in BASES:
        if name == "zoo-named":
            named_dual().save_pretrained(root / name)
        elif name in models:
            zoo.build_model(models[name]).save_pretrained(root / name)
        else:
            write(name, root / name)
    return {name: root / name for name in BASES}


@pytest.fixture(scope="module")
def child(hub: LoopbackHub, good: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    for name, folder in good.items():
        hub.add(folder, f"good/{name}")
    child = Child(hub.environment(tmp_path_factory.mktemp("home")))
    try:
        answers = child.ask(warm=[*map(str, good.values()), *(f"hf:good/{name}" for name in good)], text=TEXT)["warm"]
        assert [answer for answer in answers if "error" in answer] == []
        yield child
    finally:
        child.close()


def made(kind: Kind, good: dict[str, Path], root: Path) -> tuple[Path, Path]:
    """The hostile folder, and the mark that its code would leave."""
    folder, mark = shutil.copytree(good[kind.base], root / kind.base), root / "code-ran"
    kind.change(folder, mark)
    return folder, mark


def check(answer: dict[str, Any], kind: Kind, mark: Path) -> None:
    said = f"{answer.get('error')}: {answer.get('message')}"
    if kind.error == LOADS:
        assert "error" not in answer, said
    else:
        assert kind.error == answer.get("error"), said
        assert re.search(kind.match, answer["message"]), said
    assert not mark.exists()
    assert answer["foreign"] == []
    assert answer["peak"] < PEAK, f"{answer['peak']:,} bytes for {said}"


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 100


@pytest.mark.parametrize("name", KINDS)
def test_from_a_folder(name: str, good: dict[str, Path], child: Child, tmp_path: Path) -> None:
    kind = KINDS[name]
    folder, mark = made(kind, good, tmp_path)
    answer = child.ask(name=str(folder), text=TEXT, options=dict(kind.options))
    check(answer, kind, mark)
    if kind.error not in (LOADS, "NonFiniteEmbeddingError"):
        assert "loaded" not in answer


@pytest.mark.parametrize("name", BY_HUB)
def test_from_the_hub(name: str, good: dict[str, Path], child: Child, hub: LoopbackHub, tmp_path: Path) -> None:
    kind = KINDS[name]
    folder, mark = made(kind, good, tmp_path)
    repo = f"evil/kind-{list(KINDS).index(name)}"
    hub.add(folder, repo)
    try:
        check(child.ask(name=f"hf:{repo}", text=TEXT, options=dict(kind.options)), kind, mark)
    finally:
        del hub.repos[repo]  # 100 MB need not stay
    assert not any(line.endswith((".py", ".bin")) for line in hub.requests if f"/{repo}/resolve/" in line)


@pytest.mark.parametrize(
    "path", ["../outside.json", "a/../../outside.json", "/etc/outside.json", "..\\outside.json", "C:\\outside.json"]
)
def test_a_file_list_that_leads_out(path: str, good: dict[str, Path], child: Child, hub: LoopbackHub) -> None:
    files = {file.name: file.read_bytes() for file in good["zoo-text"].iterdir()}
    repo = f"evil/listing-{len(hub.repos)}"
    hub.add({**files, path: b"{}"}, repo)
    answer = child.ask(name=f"hf:{repo}", text=TEXT)
    assert answer["error"] == "UnsafeCheckpointError"
    assert "outside" in answer["message"]


def test_links_into_the_cache_are_its_own(good: dict[str, Path], child: Child, tmp_path: Path) -> None:
    """A snapshot of huggingface_hub is all links into its blobs; so is a folder of links to a snapshot."""
    blobs, snapshot = (
        tmp_path / "models--org--name" / "blobs",
        tmp_path / "models--org--name" / "snapshots" / ("0" * 40),
    )
    folder = tmp_path / "folder"
    for place in (blobs, snapshot, folder):
        place.mkdir(parents=True)
    for number, file in enumerate(sorted(good["zoo-text"].iterdir())):
        shutil.copy(file, blobs / f"{number:040}")
        (snapshot / file.name).symlink_to(blobs / f"{number:040}")
        (folder / file.name).symlink_to(snapshot / file.name)
    for place in (snapshot, folder):
        answer = child.ask(name=str(place), text=TEXT)
        assert answer.get("loaded"), answer


def test_a_cache_whose_blobs_are_a_link_is_none(tmp_path: Path) -> None:
    from zoo.errors import UnsafeCheckpointError
    from zoo.formats.checks.folder import check_folder

    snapshot, home = tmp_path / "gift" / "models--org--name" / "snapshots" / "1", tmp_path / "home"
    snapshot.mkdir(parents=True)
    home.mkdir()
    (home / "secret").write_text("{}")
    (tmp_path / "gift" / "models--org--name" / "blobs").symlink_to(home)
    (snapshot / "config.json").symlink_to("../../blobs/secret")
    with pytest.raises(UnsafeCheckpointError, match="is a link to"):
        check_folder(snapshot)


def test_links_into_the_blobs_that_repositories_share(good: dict[str, Path], child: Child, tmp_path: Path) -> None:
    """A file that came by Xet lies in one place for all repositories; huggingface_hub itself moves it there."""
    from huggingface_hub.utils import _shared_blobs

    snapshot = tmp_path / "models--org--name" / "snapshots" / ("0" * 40)
    blobs = tmp_path / "models--org--name" / "blobs"
    for place in (blobs, snapshot):
        place.mkdir(parents=True)
    for number, file in enumerate(sorted(good["zoo-text"].iterdir())):
        blob = blobs / f"{number:040}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(blob)
        if file.suffix == ".safetensors":
            size = file.stat().st_size
            moved = _shared_blobs.publish_blob_to_shared_store(
                blob_path=str(blob), xet_hash="ab" * 32, cache_dir=tmp_path, expected_size=size
            )
            assert moved
            assert blob.is_symlink()
    assert child.ask(name=str(snapshot), text=TEXT).get("loaded")

    stranger = tmp_path.parent / "elsewhere.safetensors"
    shutil.copy(good["zoo-text"] / "model.safetensors", stranger)
    (snapshot / "model.safetensors").unlink()
    (blobs / ("f" * 40)).symlink_to(stranger)
    (snapshot / "model.safetensors").symlink_to(blobs / ("f" * 40))
    refused = child.ask(name=str(snapshot), text=TEXT)
    assert refused["error"] == "UnsafeCheckpointError", refused


def test_a_folder_that_is_a_link(good: dict[str, Path], child: Child, tmp_path: Path) -> None:
    """What the caller names is the caller's choice."""
    (tmp_path / "latest").symlink_to(good["zoo-text"])
    assert child.ask(name=str(tmp_path / "latest"), text=TEXT).get("loaded")
