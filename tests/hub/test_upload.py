"""The write side of the loopback hub speaks the Hub's language: checked with huggingface_hub's own client."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.hub import LoopbackHub, flip
from tests.hub.child import PROJECT

WEIGHTS = bytes(range(256)) * 40
FILES = {"README.md": b"---\nlicense: mit\n---\n# Mine\n", "config.json": b"{}", "model.safetensors": WEIGHTS}
REPO = "me/mine"


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests forbid the client to go out; here it goes as far as this machine, and sends files by git-lfs."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)


@pytest.fixture
def hub(loopback_hub: LoopbackHub) -> LoopbackHub:
    loopback_hub.clear()
    return loopback_hub


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in {**FILES, "sub/empty.txt": b""}.items():
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_bytes(content)
    return tmp_path / "up"


def published(api: HfApi, folder: Path, **options: object) -> huggingface_hub.CommitInfo:
    api.create_repo(REPO, exist_ok=True)
    return api.upload_folder(repo_id=REPO, folder_path=folder, commit_message="first", **options)


def test_a_folder_arrives_whole(hub: LoopbackHub, api: HfApi, folder: Path) -> None:
    info = published(api, folder)
    stored = hub.repos[REPO]
    assert stored.files == {**FILES, "sub/empty.txt": b"", ".gitattributes": stored.files[".gitattributes"]}
    assert (stored.head.oid, stored.head.title) == (info.oid, "first")
    assert {path for path, blob in stored.head.files.items() if blob.lfs} == {"model.safetensors"}
    assert hub.stored == [(REPO, hashlib.sha256(WEIGHTS).hexdigest())]
    (entry,) = api.get_paths_info(REPO, ["model.safetensors"])
    assert entry.lfs is not None
    assert entry.lfs.sha256 == hub.stored[0][1]
    siblings = api.model_info(REPO, files_metadata=True).siblings or []
    assert {s.rfilename: s.size for s in siblings}["model.safetensors"] == len(WEIGHTS)


def test_the_same_folder_again_makes_no_commit_and_sends_nothing(hub: LoopbackHub, api: HfApi, folder: Path) -> None:
    first = published(api, folder)
    hub.requests.clear()
    assert published(api, folder).oid == first.oid
    assert len(hub.repos[REPO].commits) == 2  # with the hub's own first one
    assert not [line for line in hub.requests if line.startswith("PUT") or "/commit/" in line]


def test_only_what_changed_is_sent_and_what_is_gone_is_deleted(hub: LoopbackHub, api: HfApi, folder: Path) -> None:
    published(api, folder)
    (folder / "config.json").write_bytes(b'{"a": 1}')
    (folder / "sub" / "empty.txt").unlink()
    hub.requests.clear()
    published(api, folder, delete_patterns=["sub/*"])
    assert hub.repos[REPO].files["config.json"] == b'{"a": 1}'
    assert "sub/empty.txt" not in hub.repos[REPO].files
    assert not [line for line in hub.requests if line.startswith("PUT")]


@pytest.mark.parametrize("kind", ["dataset", "space"])
def test_data_sets_and_spaces(kind: str, hub: LoopbackHub, api: HfApi, folder: Path) -> None:
    api.create_repo(REPO, repo_type=kind, space_sdk="gradio" if kind == "space" else None)
    api.upload_folder(repo_id=REPO, repo_type=kind, folder_path=folder)
    assert hub.repos[f"{kind}s/{REPO}"].files["model.safetensors"] == WEIGHTS
    assert api.repo_info(REPO, repo_type=kind).sha == hub.repos[f"{kind}s/{REPO}"].head.oid
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(REPO)
    listed = api.list_spaces(search="mine") if kind == "space" else api.list_datasets(search="mine")
    assert [repo.id for repo in listed] == [REPO]


def test_a_name_is_taken_once(api: HfApi) -> None:
    api.create_repo(REPO)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(REPO)
    assert api.create_repo(REPO, exist_ok=True).repo_id == REPO
    api.delete_repo(REPO)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(REPO)


def test_who_is_who(hub: LoopbackHub, api: HfApi) -> None:
    me = api.whoami()
    assert (me["name"], [org["name"] for org in me["orgs"]]) == ("me", ["org", "reading-only"])
    assert me["auth"]["accessToken"]["role"] == "write"
    assert api.whoami(token=hub.read_token)["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_wrong")


@pytest.mark.parametrize(
    ("token", "repo", "says"),
    [
        ("hf_wrong", REPO, "Invalid credentials"),
        ("hf_loopback_read", REPO, "must use a write token"),
        ("hf_loopback", "reading-only/mine", "don't have the rights"),
        ("hf_loopback", "elsewhere/mine", "don't have the rights"),
        (False, REPO, "401"),
    ],
)
def test_who_may_not_write_is_told_why(
    token: str | bool, repo: str, says: str, hub: LoopbackHub, api: HfApi, folder: Path
) -> None:
    with pytest.raises(HfHubHTTPError, match=says):
        api.create_repo(repo, token=token)
    hub.add(FILES, repo)
    before = hub.repos[repo].head
    with pytest.raises(HfHubHTTPError):
        api.upload_folder(repo_id=repo, folder_path=folder, token=token)
    assert hub.repos[repo].head is before


def test_a_private_repository_exists_only_for_its_people(hub: LoopbackHub, api: HfApi) -> None:
    api.create_repo("org/secret", private=True)
    assert api.model_info("org/secret").private
    for token in (False, hub.stranger_token):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("org/secret", token=token)
        assert list(api.list_models(search="secret", token=token)) == []
    api.update_repo_settings("org/secret", private=False)
    assert not api.model_info("org/secret", token=False).private


def test_a_commit_on_a_moved_parent_is_refused(hub: LoopbackHub, api: HfApi, folder: Path) -> None:
    api.create_repo(REPO)
    parent = api.model_info(REPO).sha
    hub.add({"other.txt": b"somebody else"}, REPO)
    with pytest.raises(HfHubHTTPError, match="412"):
        api.upload_folder(repo_id=REPO, folder_path=folder, parent_commit=parent)
    assert hub.repos[REPO].files == {"other.txt": b"somebody else"}


def test_a_pull_request_leaves_the_branch_alone(hub: LoopbackHub, api: HfApi, folder: Path) -> None:
    hub.add({"a.txt": b"a"}, "elsewhere/theirs")
    info = api.upload_folder(repo_id="elsewhere/theirs", folder_path=folder, create_pr=True)
    assert info.pr_num == 1
    assert info.pr_revision == "refs/pr/1"
    assert hub.repos["elsewhere/theirs"].files == {"a.txt": b"a"}
    assert set(api.list_repo_files("elsewhere/theirs", revision="refs/pr/1")) == {"a.txt", "sub/empty.txt", *FILES}


def test_branches_and_tags(hub: LoopbackHub, api: HfApi, folder: Path) -> None:
    first = published(api, folder)
    api.create_branch(REPO, branch="next")
    api.create_tag(REPO, tag="v1", revision=first.oid)
    api.create_commit(REPO, [CommitOperationAdd("new.txt", b"new")], commit_message="on next", revision="next")
    assert "new.txt" not in api.list_repo_files(REPO)
    assert "new.txt" in api.list_repo_files(REPO, revision="next")
    refs = api.list_repo_refs(REPO)
    assert ({ref.name for ref in refs.branches}, {ref.name for ref in refs.tags}) == ({"main", "next"}, {"v1"})
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(REPO, tag="v1")
    api.delete_tag(REPO, tag="v1")
    api.delete_branch(REPO, branch="next")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="v1")


def test_a_card_with_broken_front_matter_is_refused(hub: LoopbackHub, api: HfApi) -> None:
    api.create_repo(REPO)
    with pytest.raises(ValueError, match="invalid YAML"):
        api.upload_file(path_or_fileobj=b"---\na: [1\n---\n", path_in_repo="README.md", repo_id=REPO)
    assert set(hub.repos[REPO].files) == {".gitattributes"}
    api.upload_file(path_or_fileobj=FILES["README.md"], path_in_repo="README.md", repo_id=REPO)
    assert ModelCard(FILES["README.md"].decode()).data.license == "mit"


def test_large_files_are_held_to_their_digest_and_must_be_there(hub: LoopbackHub, api: HfApi) -> None:
    """Wrong bytes, a chunked body, and a commit of what was never sent."""
    api.create_repo(REPO)
    oid = hashlib.sha256(WEIGHTS).hexdigest()
    connection = http.client.HTTPConnection("127.0.0.1", int(hub.url.rpartition(":")[2]))
    connection.request("PUT", f"/lfs-store/{REPO}/{oid}", body=flip(WEIGHTS))
    answer = connection.getresponse()
    assert (answer.status, bool(answer.read())) == (400, True)
    dangling = {"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": oid, "size": len(WEIGHTS)}}
    headers = {"Authorization": f"Bearer {hub.token}", "Content-Type": "application/x-ndjson"}
    connection.request("POST", f"/api/models/{REPO}/commit/main", body=json.dumps(dangling), headers=headers)
    answer = connection.getresponse()
    assert answer.status == 400
    assert b"LFS pointer" in answer.read()
    pieces = (WEIGHTS[start : start + 1000] for start in range(0, len(WEIGHTS), 1000))
    connection.request("PUT", f"/lfs-store/{REPO}/{oid}", body=pieces, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert hub.repos[REPO].lfs == {oid: WEIGHTS}
    connection.close()


def test_a_long_listing_comes_in_pages(hub: LoopbackHub, api: HfApi) -> None:
    hub.add({f"{number:05}.txt": b"" for number in range(2500)}, REPO)
    assert len(list(api.list_repo_tree(REPO))) == 2500
    assert sum("/tree/" in line for line in hub.requests) == 3


def test_anyone_can_start_it(tmp_path: Path, folder: Path) -> None:
    """`python -m tests.hub` prints an environment in which a client creates, uploads and downloads."""
    command = [sys.executable, "-m", "tests.hub", "--home", str(tmp_path / "home")]
    server = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("# You are"):
            lines.append(server.stdout.readline())
            assert lines[-1], "it ended before it was ready"
        environment = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines if "export " in line)
        assert environment["HF_TOKEN"].startswith("hf_")
        api = HfApi(endpoint=environment["HF_ENDPOINT"], token=environment["HF_TOKEN"])
        published(api, folder)
        path = api.hf_hub_download(REPO, "model.safetensors", cache_dir=tmp_path / "cache")
        assert Path(path).read_bytes() == WEIGHTS
    finally:
        server.terminate()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()
