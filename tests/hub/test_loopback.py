"""The loopback hub speaks the Hub's language: checked with huggingface_hub's own client."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub import LoopbackHub

FILES = {"config.json": b'{"a": 1}', "sub/weights.safetensors": bytes(range(256)) * 8, "empty.txt": b""}


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    """All other tests forbid the client to go out; here it goes as far as this machine."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)


@pytest.fixture
def hub(loopback_hub: LoopbackHub) -> LoopbackHub:
    loopback_hub.clear()
    loopback_hub.add(FILES, "org/name", tag="v1")
    return loopback_hub


def test_snapshot_download_brings_every_file_of_the_commit(hub: LoopbackHub, tmp_path: Path) -> None:
    folder = Path(snapshot_download("org/name", endpoint=hub.url, cache_dir=tmp_path))
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == FILES
    assert folder.name == HfApi(endpoint=hub.url).model_info("org/name").sha


def test_only_the_allowed_patterns_are_fetched(hub: LoopbackHub, tmp_path: Path) -> None:
    snapshot_download("org/name", endpoint=hub.url, cache_dir=tmp_path, allow_patterns=["*.json"])
    assert hub.fetched() == ["config.json"]


def test_api_listing_agrees_with_the_files(hub: LoopbackHub) -> None:
    api = HfApi(endpoint=hub.url)
    assert sorted(api.list_repo_files("org/name")) == sorted(FILES)
    assert api.file_exists("org/name", "config.json")
    assert not api.file_exists("org/name", "model.bin")
    (info,) = api.get_paths_info("org/name", ["sub/weights.safetensors"])
    assert info.size == 2048
    assert info.lfs is not None
    assert [tag.name for tag in api.list_repo_refs("org/name").tags] == ["v1"]
    top = {entry.path for entry in api.list_repo_tree("org/name", recursive=False)}
    assert top == {"config.json", "empty.txt", "sub"}
    assert [model.id for model in api.list_models(search="name")] == ["org/name"]


def test_the_commit_id_follows_from_the_content_alone() -> None:
    hub, other = LoopbackHub(), LoopbackHub()
    assert hub.add(FILES, "org/name") == other.add(FILES, "else/where")
    assert len(hub.add(FILES, "org/name")) == 40


def test_old_commits_stay_reachable_by_tag_and_id(hub: LoopbackHub, tmp_path: Path) -> None:
    first = HfApi(endpoint=hub.url).model_info("org/name").sha
    second = hub.add({"config.json": b"{}"}, "org/name")
    assert first != second
    for revision, content in (("v1", FILES["config.json"]), (first, FILES["config.json"]), ("main", b"{}")):
        path = hf_hub_download("org/name", "config.json", revision=revision, endpoint=hub.url, cache_dir=tmp_path)
        assert Path(path).read_bytes() == content


@pytest.mark.parametrize(
    ("repo", "file", "revision", "error"),
    [
        ("org/nope", "config.json", None, RepositoryNotFoundError),
        ("org/name", "config.json", "v9", RevisionNotFoundError),
        ("org/name", "nope.json", None, EntryNotFoundError),
        ("org/gated", "config.json", None, GatedRepoError),
    ],
)
def test_errors_arrive_as_the_clients_own_types(
    hub: LoopbackHub, tmp_path: Path, repo: str, file: str, revision: str | None, error: type[Exception]
) -> None:
    hub.add(FILES, "org/gated", gated=True)
    with pytest.raises(error):
        hf_hub_download(repo, file, revision=revision, endpoint=hub.url, cache_dir=tmp_path)


def test_a_gated_repository_opens_with_the_token(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(FILES, "org/gated", gated=True)
    path = hf_hub_download("org/gated", "config.json", endpoint=hub.url, cache_dir=tmp_path, token=hub.token)
    assert Path(path).read_bytes() == FILES["config.json"]


def test_a_range_is_answered_with_that_part(hub: LoopbackHub) -> None:
    request = urllib.request.Request(f"{hub.url}/org/name/resolve/main/sub/weights.safetensors")
    request.add_header("Range", "bytes=10-19")
    with urllib.request.urlopen(request) as answer:
        assert (answer.status, answer.read()) == (206, bytes(range(10, 20)))
        assert answer.headers["Content-Range"] == "bytes 10-19/2048"


def test_an_ordered_error_happens_as_often_as_ordered(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.fail("GET /api/models/org/name", times=1, status=503)
    api = HfApi(endpoint=hub.url)
    with pytest.raises(HfHubHTTPError, match="503"):
        api.model_info("org/name")
    assert api.model_info("org/name").id == "org/name"


def test_a_cut_connection_is_resumed_by_the_client(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.cut("GET .*/weights.safetensors", after=1000)
    path = hf_hub_download("org/name", "sub/weights.safetensors", endpoint=hub.url, cache_dir=tmp_path)
    assert Path(path).read_bytes() == FILES["sub/weights.safetensors"]
    assert hub.fetched().count("sub/weights.safetensors") == 2
