"""`zoo publish` against the loopback hub: what is written, who opens it, what is refused, and how it goes on."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests import warm
from tests.demos.demo_support import colour_photos
from tests.hub import LoopbackHub
from tests.hub.child import Child
from tests.training.train_support import PAINTS, SHAPES, make_image
from zoo.cli import main
from zoo.errors import HubDiskFullError, HubError, NotPublishableError
from zoo.publishing import paths, staging, uploading
from zoo.publishing.cards import measured

TEXTS = ["a red circle", "blue square", "something else entirely, and longer"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `zoo train` over twelve images, its data named by an absolute path."""
    folder = tmp_path_factory.mktemp("private-name")
    lines = ["image,text"]
    for shape in SHAPES:
        for paint in PAINTS:
            Image.fromarray(make_image(shape, paint)).save(folder / f"{paint}-{shape}.png")
            lines.append(f"{paint}-{shape}.png,{paint} {shape}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    zoo.build_model("mini-test").save_pretrained(folder / "start")
    command = ["train", str(folder / "pairs.csv"), "--model", str(folder / "start"), "--out", str(folder / "mine")]
    assert main([*command, "--steps", "2", "--batch-size", "8"]) == 0
    return folder / "mine"


@pytest.fixture
def hub(loopback_hub: LoopbackHub) -> LoopbackHub:
    loopback_hub.clear()
    return loopback_hub


@pytest.fixture
def child(hub: LoopbackHub, tmp_path: Path) -> Iterator[Child]:
    with Child(hub.environment(tmp_path / "home", token=hub.token)) as child:
        yield child


def zoo_command(hub: LoopbackHub, home: Path, *arguments: str, token: str | None = "hf_loopback") -> tuple[int, str]:
    """Exit status and all output of the `zoo` command in a process of its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = warm.run(
        [sys.executable, "-m", "zoo", *arguments],
        env={**inherited, **hub.environment(home, token=token)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def staged(folder: Path, name: str = "mini-test") -> Path:
    """A small staged repository, unchecked: what `upload` sends."""
    return staging.stage(zoo.build_model(name), "me/mine", folder, check=False).folder


@pytest.mark.slow
def test_a_run_is_published_verified_and_has_its_demo(run: Path, hub: LoopbackHub, tmp_path: Path):
    status, said = zoo_command(hub, tmp_path, "publish", str(run), "--to", "me/My_Model", "--space")
    assert status == 0, said
    assert "zoo verify hf:me/My_Model" in said
    repo = hub.repos["me/My_Model"]
    files = repo.commits[repo.refs["main"]].files
    assert {"README.md", "config.json", "model.safetensors", "certificate.json", "recipe.json", "results.json"} <= set(
        files
    )
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl", ".ckpt"))]
    assert not [name for name in files if name.startswith(("checkpoints", "report", "logs"))]
    private = [name for name, blob in files.items() if b"private-name" in blob.content]
    assert not private, f"{private} name a folder of this machine"
    space = hub.repos["spaces/me/My_Model-demo"]
    app = space.commits[space.refs["main"]].files
    assert f"hf:me/My_Model@{repo.refs['main']}".encode() in app["app.py"].content
    assert b"me/My_Model-demo" in files["README.md"].content

    status, said = zoo_command(hub, tmp_path / "elsewhere", "verify", "hf:me/My_Model", "--quick", token=None)
    assert status == 0, said
    assert "PASS" in said
    status, said = zoo_command(hub, tmp_path, "publish", str(run), "--to", "hf:me/My_Model")
    assert status == 2, said
    assert "--update" in said
    assert "certificate" not in said, "a taken name is reported before any work"
    status, said = zoo_command(
        hub, tmp_path, "publish", str(run), "--to", "me/My_Model", "--update", "--license", "mit"
    )
    assert status == 0, said
    assert len(repo.commits) == 3, "the first one of an empty repository, and two publications"
    app = space.commits[space.refs["main"]].files
    assert f"hf:me/My_Model@{repo.refs['main']}".encode() in app["app.py"].content, "the demo moves along"


def test_the_published_model_gives_the_runs_vectors(run: Path, hub: LoopbackHub, child: Child, tmp_path: Path):
    done = child.call("zoo.publishing.uploading:publish", {"path": str(run)}, "org/mine", check=False)
    assert "error" not in done, done
    loaded = child.load("hf:org/mine", texts=TEXTS)
    assert torch.allclose(torch.tensor(loaded["texts"]), zoo.load_model(run).encode(TEXTS), atol=1e-6)
    assert loaded["spec"]["name"] == "mine"
    assert loaded["spec"]["hub_id"] == "org/mine"
    assert loaded["spec"]["base"], "what it was trained from"


@pytest.mark.parametrize(
    ("arguments", "token", "named"),
    [
        (["--to", "me/x"], None, "hf auth login"),
        (["--to", "me/x"], "hf_wrong", "token"),
        (["--to", "me/x"], "hf_loopback_read", "only read"),
        (["--to", "somebody/x"], "hf_loopback", "may write to me, org"),
        (["--to", "reading-only/x"], "hf_loopback", "may write to me, org;"),
        (["--to", "no-slash"], "hf_loopback", "ORG/NAME"),
        (["--to", "me/a--b"], "hf_loopback", "ORG/NAME"),
        (["--to", "me/x", "--license", "foo"], "hf_loopback", "no licence identifier"),
        (["--to", "me/x", "--keep", "zoo"], "hf_loopback", "is not empty"),
        (["--to", "me/x", "--wheel", "gone.whl"], "hf_loopback", "gone.whl: no such file"),
    ],
)
def test_who_may_not_publish_is_told_before_any_work(
    hub: LoopbackHub, tmp_path: Path, arguments: list[str], token: str | None, named: str
):
    status, said = zoo_command(hub, tmp_path, "publish", "zoo-mini", *arguments, token=token)
    assert status == 2, said
    assert re.search(named, said), said
    assert "certificate" not in said
    assert not hub.repos


def test_a_taken_name_is_refused_and_update_lets_it(hub: LoopbackHub, child: Child, tmp_path: Path):
    hub.add({"config.json": b"{}", "notes.txt": b"mine", "own.py": b"", "open_clip_config.json": b"{}"}, "me/mine")
    folder = staged(tmp_path / "staged")
    refused = child.call("zoo.publishing.uploading:upload", {"path": str(folder)}, "me/mine")
    assert refused["error"] == "NameTakenError"
    assert "--update" in refused["message"]
    assert "error" not in child.call("zoo.publishing.uploading:upload", {"path": str(folder)}, "me/mine", update=True)
    repo = hub.repos["me/mine"]
    files = repo.commits[repo.refs["main"]].files
    assert {"notes.txt", "own.py"} <= set(files), "other people's files stay"
    assert "open_clip_config.json" not in files, "an earlier export that this one does not have goes"
    again = child.call("zoo.publishing.uploading:upload", {"path": str(folder)}, "me/mine", update=True)
    assert "error" not in again
    assert repo.refs["main"] == list(repo.commits)[-1]
    assert len(repo.commits) == 2, "nothing new makes no commit"


def test_an_interrupted_upload_goes_on(hub: LoopbackHub, child: Child, tmp_path: Path):
    folder = staged(tmp_path / "staged", "clip-test")
    hub.fail("^POST .*/commit/", times=50, status=500)
    broken = child.call("zoo.publishing.uploading:upload", {"path": str(folder)}, "me/mine")
    assert broken["error"] == "HubUnreachableError"
    sent = [line for line in hub.requests if line.startswith("PUT ")]
    assert len(sent) == len(list(folder.glob("*.safetensors")))
    hub.faults.clear()
    hub.requests.clear()
    assert "error" not in child.call("zoo.publishing.uploading:upload", {"path": str(folder)}, "me/mine")
    assert not [line for line in hub.requests if line.startswith("PUT ")], "what the hub had was sent again"
    loaded = child.load("hf:me/mine", texts=TEXTS)
    assert torch.allclose(torch.tensor(loaded["texts"]), zoo.load_model(folder).encode(TEXTS), atol=1e-6)


def test_bytes_that_changed_on_the_way_are_noticed(hub: LoopbackHub, child: Child, tmp_path: Path):
    folder = staged(tmp_path / "staged", "text-test")
    hub.spoil("^POST .*/commit/")
    answer = child.call("zoo.publishing.uploading:upload", {"path": str(folder)}, "me/mine")
    assert answer["error"] == "HubError"
    assert "other bytes than were sent" in answer["message"]


def test_a_loader_that_departs_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The exported weights are spoiled after the exporter's back."""
    from safetensors.torch import load_file, save_file

    from zoo.publishing import exports

    write = exports.export

    def spoiled(model: zoo.Embedder, folder: Path) -> exports.Exported:
        done = write(model, folder)
        tensors = load_file(folder / "open_clip_model.safetensors")
        tensors = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in tensors.items()}
        save_file(tensors, folder / "open_clip_model.safetensors")
        return done

    monkeypatch.setattr(exports, "export", spoiled)
    with pytest.raises(NotPublishableError, match="open_clip in float32"):
        staging.stage(zoo.build_model("clip-test"), "me/mine", tmp_path / "staged")


def test_a_full_disk_is_named(tmp_path: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(HubDiskFullError, match="the disk is full"):
            staging.stage(zoo.build_model("text-test"), "me/mine", tmp_path / "staged", check=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.slow
def test_a_photo_that_cannot_be_read_is_told_before_anything_is_sent(hub: LoopbackHub, tmp_path: Path):
    photos = colour_photos(tmp_path / "photos")
    (photos / "broken.png").write_bytes(b"no")
    zoo.build_model("mini-test").save_pretrained(tmp_path / "tiny")
    command = ["publish", str(tmp_path / "tiny"), "--to", "me/tiny", "--no-verify", "--space", "--photos", str(photos)]
    status, said = zoo_command(hub, tmp_path, *command)
    assert status == 2, said
    assert "broken.png" in said
    assert "me/tiny" not in hub.repos


@pytest.mark.slow
def test_dry_run_writes_everything_and_needs_no_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = ["publish", "zoo-mini", "--to", "me/zoo-mini", "--space", "--dry-run", "--no-verify"]
    assert main([*command, "--keep", str(tmp_path / "kept")]) == 0
    assert "opened by zoo, transformers, sentence-transformers" in capsys.readouterr().out
    assert (tmp_path / "kept/model/README.md").is_file()
    assert (tmp_path / "kept/space/app.py").is_file()
    model = zoo.load_model(tmp_path / "kept/model")
    assert model.spec.name == "zoo-mini"
    assert np.allclose(model.encode(TEXTS), zoo.load_model("zoo-mini").encode(TEXTS), atol=1e-6)
    card = (tmp_path / "kept/model/README.md").read_text()
    assert measured("zoo-mini")
    for result in measured("zoo-mini"):
        assert result.unit or f"{100 * result.value:.1f}" in card, "the measured figures of the packaged card"
    assert main([*command, "--keep", str(tmp_path / "kept")]) == 2
    assert "not empty" in capsys.readouterr().err


def test_the_vision_tower_goes_to_timm(hub: LoopbackHub, child: Child, tmp_path: Path):
    staging.stage_timm(zoo.build_model("image-test"), "me/vision", tmp_path / "timm")
    done = child.call("zoo.publishing.uploading:upload", {"path": str(tmp_path / "timm")}, "me/vision")
    assert "error" not in done, done
    loaded = child.load("hf:me/vision", images=[])
    assert loaded["spec"]["dim"] == zoo.get_spec("image-test").dim


def test_paths_of_this_machine_are_taken_off():
    facts = {
        "command": "zoo train /home/ann/data/pairs.csv --out ~/runs/mine --teacher ./models/big",
        "sources": ["/home/ann/data/pairs.csv", "../x/y.csv", "hf:org/name", "pairs.csv"],
        "kept": "https://a.org/b/c.csv hf:org/name/sub data/pairs.csv --root=/srv/x/y",
        "n": 3,
    }
    assert paths.without_paths(facts) == {
        "command": "zoo train pairs.csv --out mine --teacher big",
        "sources": ["pairs.csv", "y.csv", "hf:org/name", "pairs.csv"],
        "kept": "https://a.org/b/c.csv hf:org/name/sub data/pairs.csv --root=y",
        "n": 3,
    }


@pytest.mark.parametrize("repo", ["", "me", "me/", "/x", "me/x/y", "me/.x", "me/a..b", "me/" + "x" * 100, "-/--"])
def test_bad_repository_names(repo: str):
    with pytest.raises(HubError, match="ORG/NAME"):
        staging.check_repo(repo)


def test_names_become_model_names():
    assert staging.check_repo("Me/My_Model.v2") == "my-model.v2"


def test_help_teaches(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["publish", "--help"])
    shown = capsys.readouterr().out
    assert "--dry-run" in shown
    assert "zoo publish runs/mine --to me/my-model" in shown


def test_somebody_else_was_faster(hub: LoopbackHub, child: Child, tmp_path: Path):
    folder = staged(tmp_path / "staged", "text-test")
    hub.add({"README.md": b"# started on the website"}, "me/mine")
    hub.before("^POST .*/commit/", lambda: hub.add({"README.md": b"# theirs"}, "me/mine"))
    answer = child.call("zoo.publishing.uploading:upload", {"path": str(folder)}, "me/mine")
    assert answer["error"] == "HubConflictError", answer
    assert hub.repos["me/mine"].files["README.md"] == b"# theirs"


def test_a_link_that_leads_out_of_a_folder_is_sent_to_nobody(hub: LoopbackHub, tmp_path: Path) -> None:
    from zoo.errors import UnsafeCheckpointError

    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "README.md").write_text("---\n---\n")
    (folder / "also.md").symlink_to("README.md")
    (tmp_path / "secret.txt").write_text("mine alone")
    for name, target in (("notes.md", "../secret.txt"), ("deep/x", tmp_path / "secret.txt"), ("all", tmp_path)):
        (folder / name).symlink_to(target)
        with pytest.raises(UnsafeCheckpointError, match=f"{name} is a link to"):
            uploading.upload(folder, "me/model")
        (folder / name).unlink()
    assert not hub.repos
    assert set(paths.files_inside(folder)) == {"README.md", "also.md"}
