"""What goes wrong between the zoo and the Hub: each time a named error with the remedy, and never a half file."""

from __future__ import annotations

import hashlib
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.hub import Fault, LoopbackHub, blank, flip
from tests.hub.child import Child

TEXTS = ["kitty", "Two words, and more of them"]
WEIGHTS = "model.safetensors"
# What each named error tells people to do.
REMEDIES = ("check", "call again", "try again", "`hf auth login`", "free some space", "use a token", "publish again")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.build_model("text-test").save_pretrained(tmp_path_factory.mktemp("saved") / "text-test")


@pytest.fixture(scope="module")
def expected(saved: Path) -> list[list[float]]:
    return zoo.load_model(saved).encode(TEXTS, prompt="").tolist()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(hub: LoopbackHub, home: Path) -> dict[str, str]:
    limits = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {**hub.environment(home, token=hub.token), **limits}


@pytest.fixture(scope="module")
def child(environment: dict[str, str]) -> Iterator[Child]:
    with Child(environment) as child:
        yield child


@pytest.fixture(autouse=True)
def _calm(hub: LoopbackHub, child: Child) -> Iterator[None]:
    """Every test begins with a healthy hub, disk and token."""
    hub.faults.clear()
    hub.requests.clear()
    yield
    hub.faults.clear()
    child.limit_files(None)
    child.use_token(hub.token)


def names_itself(answer: dict[str, Any], repo: str, kind: str = "HubError") -> None:
    """A `ZooError` of this kind that says what, and what to do."""
    assert kind in answer["kinds"], answer
    assert repo in answer["message"], answer
    assert any(remedy in answer["message"] for remedy in REMEDIES), answer
    assert len(answer["message"]) < 1000


def holds_no_half_file(home: Path, repo: str) -> None:
    """Whatever lies in the cache under its name has the bytes that the name promises, and nothing lies about."""
    cache = home / "hub" / f"models--{repo.replace('/', '--')}"
    for path in cache.rglob("snapshots/*/*"):
        assert path.resolve().parent == cache.resolve() / "blobs"
    for blob in cache.glob("blobs/*"):
        content = blob.read_bytes()
        digests = hashlib.sha256(content).hexdigest(), hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        assert blob.name in digests


def equal(rows: list[list[float]]) -> Any:
    """Vectors equal but for the last digit, which the number of threads decides."""
    return [pytest.approx(row, abs=1e-6) for row in rows]


def loads(child: Child, repo: str, expected: list[list[float]], **options: Any) -> None:
    """A call after the fault is gone succeeds, with the same vectors."""
    answer = child.load(f"hf:{repo}", texts=TEXTS, options=options)
    assert "error" not in answer, answer
    assert answer["texts"] == equal(expected)


# --------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize(
    ("number", "place", "status", "error", "says"),
    [
        (0, "GET /api/models/", 500, "HubUnreachableError", "answered 500"),
        (1, "GET /api/models/", 429, "HubUnreachableError", "too many requests; wait 7 seconds"),
        (2, "GET /api/models/", 401, "NoAccessError", "wrong or expired"),
        (3, "HEAD .*/config.json", 503, "HubUnreachableError", "answered 503"),
        (4, "GET .*/config.json", 502, "HubUnreachableError", "answered 502"),
        (5, f"HEAD .*/{WEIGHTS}", 403, "NoAccessError", "answered 403"),
        (6, f"GET .*/{WEIGHTS}", 429, "HubUnreachableError", "too many requests"),
        (7, f"GET .*/{WEIGHTS}", 410, "HubError", "answered 410"),
        (8, "GET /api/models/", 200, "HubError", "no Hub"),
        (9, "HEAD .*/config.json", 200, "HubError", "no Hub"),
    ],
)
def test_a_hub_that_answers_with_an_error(
    number: int,
    place: str,
    status: int,
    error: str,
    says: str,
    child: Child,
    hub: LoopbackHub,
    home: Path,
    saved: Path,
    expected: list[list[float]],
) -> None:
    repo = f"org/status-{number}"
    hub.add(saved, repo)
    hub.fail(place, status=status, times=100, headers={"Retry-After": "7"} if status == 429 else None)
    answer = child.load(f"hf:{repo}")
    assert answer["error"] == error, answer
    assert says in answer["message"]
    names_itself(answer, repo)
    holds_no_half_file(home, repo)
    hub.faults.clear()
    loads(child, repo, expected)


def test_tokens(child: Child, hub: LoopbackHub, home: Path, saved: Path, expected: list[list[float]]) -> None:
    """Wrong, missing, of somebody without access; then the right one."""
    hub.add(saved, "org/terms", gated=True)
    hub.add(saved, "org/hidden", private=True)
    for token, repo, error, says in (
        ("hf_wrong", "org/terms", "NoAccessError", "wrong or expired; run `hf auth login`"),
        (None, "org/terms", "NoAccessError", "accept its terms"),
        (hub.stranger_token, "org/terms", "NoAccessError", "accept its terms"),
        (None, "org/hidden", "NotOnHubError", "no such repository, or it is private"),
        (hub.stranger_token, "org/hidden", "NotOnHubError", "no such repository, or it is private"),
    ):
        child.use_token(token)
        answer = child.load(f"hf:{repo}")
        assert answer["error"] == error, answer
        assert says in answer["message"]
        names_itself(answer, repo)
        assert "hf_" not in answer["message"].replace("hf_wrong", "token shown")  # and no token in a message
        assert str(token) not in answer["message"]
    child.use_token(hub.token)
    loads(child, "org/terms", expected)
    loads(child, "org/hidden", expected)
    # What is cached is no secret any more: a token that has expired since does not take it away.
    child.use_token("hf_wrong")
    loads(child, "org/terms", expected)


def test_code_is_trusted_only_at_a_full_commit(child: Child, hub: LoopbackHub, saved: Path) -> None:
    commit = hub.add(saved, "org/code", tag="v1")
    for revision in (None, "main", "v1", commit[:12], commit.upper()):
        answer = child.load("hf:org/code", options={"trust_remote_code": True, "revision": revision})
        assert answer["error"] == "UnsafeCheckpointError"
        assert "full 40-digit commit" in answer["message"]
    assert hub.requests == []
    assert "error" not in child.load("hf:org/code", options={"trust_remote_code": True, "revision": commit})


@pytest.mark.parametrize(
    "name", ["../outside.json", "/etc/outside.json", "a/../../outside.json", "..\\outside.json", "C:\\x"]
)
def test_a_list_with_a_file_outside_the_repository(name: str, child: Child, hub: LoopbackHub, saved: Path) -> None:
    repo = "org/outside"
    hub.repos.pop(repo, None)
    hub.add({**{path.name: path.read_bytes() for path in saved.iterdir()}, name: b"{}"}, repo)
    answer = child.load(f"hf:{repo}")
    assert answer["error"] == "UnsafeCheckpointError", answer
    assert repr(name) in answer["message"]
    assert hub.fetched() == []


@pytest.mark.parametrize("how", [flip, blank])
def test_wrong_bytes_never_load(
    how: Any, child: Child, hub: LoopbackHub, home: Path, saved: Path, expected: list[list[float]]
) -> None:
    """Of the right length, as the client checks it; the digest is wrong. Once, and every time."""
    repo = f"org/spoilt-{how.__name__}"
    hub.add(saved, repo)
    for file in ("config.json", WEIGHTS, WEIGHTS, "tokenizer.json"):
        hub.spoil(f"GET .*/{file}", how=how)
        answer = child.load(f"hf:{repo}", texts=TEXTS)
        assert answer["error"] == "DamagedDownloadError", answer
        assert f"hf:{repo}/{file}" in answer["message"]
        names_itself(answer, repo)
        holds_no_half_file(home, repo)
    loads(child, repo, expected)


@pytest.mark.slow
def test_wrong_bytes_never_load_from_a_cache_without_links(
    hub: LoopbackHub, home: Path, environment: dict[str, str], saved: Path, expected: list[list[float]]
) -> None:
    """As on Windows: the digest then comes from the repository's list of files."""
    hub.add(saved, "org/no-links")
    with Child({**environment, "HF_HUB_DISABLE_SYMLINKS": "1"}) as child:
        hub.spoil(f"GET .*/{WEIGHTS}")
        answer = child.load("hf:org/no-links")
        assert answer["error"] == "DamagedDownloadError", answer
        loads(child, "org/no-links", expected)
    assert not any(path.is_symlink() for path in (home / "hub" / "models--org--no-links").rglob("*"))


def test_large_files_are_read_once(child: Child, hub: LoopbackHub, home: Path, tmp_path: Path) -> None:
    """A note beside the blobs says that a file was found whole; it holds as long as the file is not touched."""
    hub.add(zoo.build_model("image-test").save_pretrained(tmp_path / "image-test"), "org/large")
    assert "error" not in child.load("hf:org/large")
    cache = home / "hub" / "models--org--large"
    (note,) = cache.glob(".zoo-checked/*")
    (weights,) = cache.glob(f"snapshots/*/{WEIGHTS}")
    assert note.name == weights.resolve().name
    written = note.stat().st_mtime_ns
    assert "error" not in child.load("hf:org/large")
    assert note.stat().st_mtime_ns == written
    weights.resolve().write_bytes(flip(weights.read_bytes()))
    assert child.load("hf:org/large")["error"] == "DamagedDownloadError"
    assert "error" not in child.load("hf:org/large")


def test_a_full_disk(child: Child, hub: LoopbackHub, home: Path, saved: Path, expected: list[list[float]]) -> None:
    """Simulated by the kernel's limit on a file's size: writes fail half way (EFBIG in the place of ENOSPC)."""
    hub.add(saved, "org/full")
    child.limit_files(100_000)
    answer = child.load("hf:org/full")
    assert answer["error"] == "HubDiskFullError"
    names_itself(answer, f"hf:org/full/{WEIGHTS}")
    assert "HF_HOME" in answer["message"]
    holds_no_half_file(home, "org/full")
    child.limit_files(None)
    loads(child, "org/full", expected)


def test_a_download_that_is_killed(
    child: Child,
    hub: LoopbackHub,
    home: Path,
    environment: dict[str, str],
    saved: Path,
    expected: list[list[float]],
) -> None:
    """The process ends in the middle of the weights: the next one fetches them whole."""
    hub.add(saved, "org/killed")
    begun = threading.Event()
    hub.faults.append(Fault(f"GET .*/{WEIGHTS}", before=begun.set, stall_after=50_000))
    with Child({**environment, "HF_HUB_DOWNLOAD_TIMEOUT": "60"}) as victim:
        victim.send(name="hf:org/killed")
        assert begun.wait(60)
        victim.kill()
    cache = home / "hub" / "models--org--killed"
    assert not list(cache.glob(f"snapshots/*/{WEIGHTS}"))
    # Dead writers leave a file that nobody reads; huggingface_hub gives each attempt a new one.
    assert all(path.suffix == ".incomplete" or len(path.name) in (40, 64) for path in cache.glob("blobs/*"))
    loads(child, "org/killed", expected)


# ------------------------------------------------------------------------------------------------------- uploading


def test_an_interrupted_upload_is_resumed(child: Child, hub: LoopbackHub, tmp_path: Path) -> None:
    """Large files that arrived are not sent again, and nothing is visible before all is there."""
    folder = tmp_path / "large"
    folder.mkdir()
    oids = []
    for number in range(3):
        content = bytes([number]) * 200_000
        (folder / f"{number}.safetensors").write_bytes(content)
        oids.append(hashlib.sha256(content).hexdigest())
    hub.cut_upload(f"PUT .*{oids[2]}", after=1000, times=100)
    answer = child.upload(folder, "me/resumed")
    names_itself(answer, "me/resumed", "HubUnreachableError")
    assert "2.safetensors" in answer["message"]
    assert set(hub.repos["me/resumed"].files) == {".gitattributes"}
    arrived = {oid for id, oid in hub.stored if id == "me/resumed"}
    assert oids[2] not in arrived
    hub.faults.clear()
    hub.requests.clear()
    answer = child.upload(folder, "me/resumed")
    assert hub.repos["me/resumed"].head.oid == answer["commit"]
    assert len(hub.repos["me/resumed"].files) == 4
    sent = {line.rpartition("/")[2] for line in hub.requests if line.startswith("PUT")}
    assert sent == set(oids) - arrived
    assert sorted(oid for id, oid in hub.stored if id == "me/resumed") == sorted(oids)


def test_an_upload_that_is_killed_is_resumed(
    child: Child, hub: LoopbackHub, environment: dict[str, str], saved: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "killed"))
    begun = threading.Event()
    hub.before("POST .*/commit/", begun.set)
    hub.faults[-1].stall_after = 0
    with Child(environment) as victim:
        victim.send(upload=folder, repo="me/killed", options={})
        assert begun.wait(60)
        victim.kill()
    hub.requests.clear()
    answer = child.upload(folder, "me/killed")
    assert hub.repos["me/killed"].head.oid == answer["commit"]
    assert hub.repos["me/killed"].files[WEIGHTS] == (saved / WEIGHTS).read_bytes()
    assert not [line for line in hub.requests if line.startswith("PUT")]


def test_somebody_else_commits_in_between(child: Child, hub: LoopbackHub, saved: Path) -> None:
    parent = hub.add({"a.txt": b"a"}, "me/shared")
    hub.before("POST .*/commit/", lambda: hub.add({"a.txt": b"theirs"}, "me/shared"))
    answer = child.upload(saved, "me/shared", parent_commit=parent)
    names_itself(answer, "me/shared", "HubConflictError")
    assert hub.repos["me/shared"].files == {"a.txt": b"theirs"}


@pytest.mark.parametrize(
    ("who", "repo", "error", "says"),
    [
        ("hf_wrong", "me/denied", "NoAccessError", "wrong or expired"),
        (None, "me/denied", "NoAccessError", "run `hf auth login`"),
        ("hf_loopback_read", "me/denied", "NoAccessError", "must use a write token"),
        ("hf_loopback", "elsewhere/denied", "NoAccessError", "don't have the rights"),
        ("hf_loopback", "reading-only/denied", "NoAccessError", "don't have the rights"),
    ],
)
def test_uploads_that_are_not_allowed(
    who: str | None, repo: str, error: str, says: str, child: Child, hub: LoopbackHub, saved: Path
) -> None:
    child.use_token(who)
    answer = child.upload(saved, repo)
    assert answer["error"] == error, answer
    assert says in answer["message"]
    names_itself(answer, repo)
    assert repo not in hub.repos


# ---------------------------------------------------------------------------------------------------------- trials

FILES = ("GET .*/config.json", "GET .*/tokenizer", f"GET .*/{WEIGHTS}")
STATUSES = (200, 400, 401, 403, 404, 408, 409, 412, 413, 429, 500, 502, 503, 504)
# Kind of fault → the requests that it may strike.
DOWN = {
    "status": ("GET /api/models/", "HEAD .*/config.json", f"HEAD .*/{WEIGHTS}", *FILES),
    "cut": ("GET /api/models/", *FILES),
    "spoil": FILES,
    "full": ("the disk",),
    "slow": FILES,
}
UP = {
    "status": (
        "/create",
        "/preupload/",
        "objects/batch",
        "^PUT ",
        "objects/verify",
        "/commit/",
        "/paths-info",
        "GET /api/",
    ),
    "cut": ("/create", "/preupload/", "objects/batch", "objects/verify", "/commit/", "/paths-info", "GET /api/"),
    "spoil": ("^PUT ", "/commit/"),
    "cut upload": ("/create", "/preupload/", "objects/batch", "^PUT ", "/commit/"),
    "slow": ("/preupload/", "/commit/"),
}


def order(seed: int, hub: LoopbackHub, child: Child, faults: dict[str, tuple[str, ...]]) -> tuple[str, str]:
    """One fault: the kinds take turns, the dice choose the rest. Returns its kind, and all in words."""
    dice = random.Random(seed)
    kind = list(faults)[seed % len(faults)]
    place, times, status = dice.choice(faults[kind]), dice.choice((1, 1, 2, 100)), dice.choice(STATUSES)
    if kind == "status":
        hub.fail(place, status=status, times=times)
    elif kind == "cut":
        hub.cut(place, after=dice.choice((0, 1, 100, 50_000)), times=times)
    elif kind == "cut upload":
        hub.cut_upload(place, after=dice.choice((0, 1, 50)), times=times)
    elif kind == "slow":
        hub.slow(place, chunk=dice.choice((500, 5000)), times=times)
    elif kind == "spoil":
        hub.spoil(place, how=dice.choice((flip, blank)), times=times)
    else:
        child.limit_files(dice.choice((0, 3000, 100_000)))
    return kind, f"{kind} {status} at {place}, {times} times"


def trials(count: int, quick: int) -> list[Any]:
    return [pytest.param(seed, marks=[pytest.mark.slow] if seed >= quick else []) for seed in range(count)]


@pytest.mark.parametrize("seed", trials(32, 8))
def test_trial_of_loading(
    seed: int, child: Child, hub: LoopbackHub, home: Path, saved: Path, expected: list[list[float]]
) -> None:
    repo = f"org/trial-{seed}"
    hub.add(saved, repo)
    kind, what = order(seed, hub, child, DOWN)
    ordered = [fault.times for fault in hub.faults]
    answer = child.load(f"hf:{repo}", texts=TEXTS)
    assert kind == "full" or [fault.times for fault in hub.faults] < ordered, what  # it did happen
    if "error" in answer:
        names_itself(answer, repo, {"spoil": "DamagedDownloadError", "full": "HubDiskFullError"}.get(kind, "HubError"))
    else:
        assert kind in ("status", "cut", "slow"), what
        assert answer["texts"] == equal(expected), what
    holds_no_half_file(home, repo)
    hub.faults.clear()
    child.limit_files(None)
    loads(child, repo, expected)
    holds_no_half_file(home, repo)


@pytest.mark.parametrize("seed", trials(28, 4))
def test_trial_of_publishing(seed: int, child: Child, hub: LoopbackHub, saved: Path) -> None:
    """`zoo.publishing.upload`: all or nothing is seen, what arrived is not sent again, and the next call completes it."""
    repo = f"me/trial-{seed}"
    ours = {path.name: path.read_bytes() for path in saved.iterdir()}
    kind, what = order(seed, hub, child, UP)
    ordered = [fault.times for fault in hub.faults]
    answer = child.call("zoo.publishing.uploading:upload", saved, repo)
    assert [fault.times for fault in hub.faults] < ordered, what  # it did happen
    there = (
        {name: content for name, content in hub.repos[repo].files.items() if name in ours} if repo in hub.repos else {}
    )
    assert set(there) in (set(), set(ours)), what
    if "error" in answer:
        names_itself(answer, repo)
    else:
        assert kind != "spoil", what
        assert there == ours, what
    hub.faults.clear()
    answer = child.call("zoo.publishing.uploading:upload", saved, repo, update=True)
    assert answer.get("result", {}).get("commit") == hub.repos[repo].head.oid, (what, answer)
    assert {name: hub.repos[repo].files.get(name) for name in ours} == ours
    assert [id for id, _ in hub.stored].count(repo) == 1, what  # the one large file was sent once
