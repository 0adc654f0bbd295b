"""Models by name from the Hub, through a loopback hub and a child process whose environment names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
import transformers

import zoo
from tests.hub import LoopbackHub, flip
from tests.hub.child import Child
from tests.reference import TEXTS, Photo, Reference, write, write_photos
from tests.reference.base import stir
from tests.reference.open_clip_models import CLIP
from tests.reference.vocab import wordpiece
from zoo import wheels

BOUND = 1e-5
SENTENCE, STATIC, TIMM, ZOO = "org/sentence", "org/static", "timm/test_vit.r160_in1k", "org/ours"
MINILM = wheels.MINILM.hub_id


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reference]:
    root = tmp_path_factory.mktemp("written")
    names = (
        "sentence-shared-root",
        "sentence-static",
        "sentence-mean",
        "timm-vit",
        "open_clip-clip",
        "transformers-clip",
    )
    return {name: write(name, root / name) for name in names}


@pytest.fixture(scope="module")
def hub(hub: LoopbackHub, written: dict[str, Reference], tmp_path_factory: pytest.TempPathFactory) -> LoopbackHub:
    hub.add(written["sentence-mean"].folder, SENTENCE, tag="v1")
    hub.add(written["sentence-shared-root"].folder, SENTENCE)
    hub.add(written["sentence-static"].folder, STATIC)
    hub.add(written["timm-vit"].folder, TIMM)
    hub.add(written["transformers-clip"].folder, "org/clip")
    hub.add(written["sentence-mean"].folder, "org/gated", gated=True)
    hub.add({"README.md": b"# Nothing here", "data.csv": b"a,b"}, "org/nothing")
    ours = zoo.build_model("text-test").save_pretrained(tmp_path_factory.mktemp("ours") / "ours")
    hub.add(ours, ZOO)
    return hub


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def child(hub: LoopbackHub, home: Path) -> Iterator[Child]:
    with Child(hub.environment(home)) as child:
        yield child


@pytest.fixture(autouse=True)
def _fresh_log(hub: LoopbackHub) -> None:
    hub.requests.clear()
    hub.faults.clear()


def difference(rows: list[list[float]], expected: torch.Tensor) -> float:
    vectors = torch.tensor(rows)
    assert vectors.shape == expected.shape
    return (vectors - expected).abs().max().item()


def commit_of(hub: LoopbackHub, repo: str, revision: str = "main") -> str:
    commit = hub.repos[repo].at(revision)
    assert commit is not None
    return commit.oid


# ------------------------------------------------------------------------------------------------------ what loads


def test_a_repository_by_name(child: Child, hub: LoopbackHub, written: dict[str, Reference]) -> None:
    answer = child.load(f"hf:{SENTENCE}", texts=TEXTS)
    assert difference(answer["texts"], written["sentence-shared-root"].texts(TEXTS)) < BOUND
    assert answer["spec"]["revision"] == commit_of(hub, SENTENCE)
    assert answer["spec"]["hub_id"] == SENTENCE


def test_only_the_files_that_are_needed_are_fetched(
    child: Child, hub: LoopbackHub, written: dict[str, Reference]
) -> None:
    """Not the ONNX copy, and not the pickle that lies beside the safetensors."""
    hub.add(written["sentence-shared-root"].folder, "org/fresh")
    assert "error" not in child.load("hf:org/fresh")
    fetched = set(hub.fetched())
    assert {"modules.json", "config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"} <= fetched
    assert not any("onnx" in name or name.endswith(".bin") for name in fetched)


def test_loading_again_fetches_nothing(child: Child, hub: LoopbackHub) -> None:
    first = child.load(f"hf:{STATIC}", texts=TEXTS[:2])
    assert hub.fetched()
    hub.requests.clear()
    assert child.load(f"hf:{STATIC}", texts=TEXTS[:2]) == first
    assert hub.fetched() == []


@pytest.mark.parametrize("how", ["tag", "commit", "argument"])
def test_a_pinned_revision(how: str, child: Child, hub: LoopbackHub, written: dict[str, Reference]) -> None:
    commit = commit_of(hub, SENTENCE, "v1")
    assert commit != commit_of(hub, SENTENCE)
    name = {"tag": f"hf:{SENTENCE}@v1", "commit": f"hf:{SENTENCE}@{commit}", "argument": f"hf:{SENTENCE}"}[how]
    answer = child.load(name, texts=TEXTS, options={"revision": "v1"} if how == "argument" else {})
    assert difference(answer["texts"], written["sentence-mean"].texts(TEXTS)) < BOUND
    assert answer["spec"]["revision"] == commit


def test_our_own_layout(child: Child) -> None:
    answer = child.load(f"hf:{ZOO}", texts=["kitty"])
    assert answer["spec"]["hub_id"] == ZOO
    assert len(answer["texts"][0]) == answer["spec"]["dim"]


def test_a_dual_encoder_from_transformers(child: Child, written: dict[str, Reference], photos: list[Photo]) -> None:
    answer = child.load("hf:org/clip", texts=TEXTS, images=[str(photo.path) for photo in photos])
    assert difference(answer["texts"], written["transformers-clip"].texts(TEXTS)) < BOUND
    upright = [photo.upright for photo in photos]
    assert difference(answer["images"], written["transformers-clip"].images(upright)) < BOUND


def test_a_name_of_timm(child: Child, hub: LoopbackHub, written: dict[str, Reference], photos: list[Photo]) -> None:
    answer = child.load("timm:test_vit.r160_in1k", images=[str(photo.path) for photo in photos], engine="pillow")
    assert difference(answer["images"], written["timm-vit"].images([photo.upright for photo in photos])) < BOUND
    assert answer["spec"]["hub_id"] == TIMM
    assert set(hub.fetched()) <= {"config.json", "model.safetensors"}


def test_a_tag_of_open_clip(
    child: Child, hub: LoopbackHub, written: dict[str, Reference], photos: list[Photo], tmp_path: Path
) -> None:
    """The way of every `open_clip:<arch>/<tag>`, with an architecture of a few kilobytes taught to open_clip."""
    reference = written["open_clip-clip"]
    (tmp_path / "tiny-clip.json").write_text(json.dumps(CLIP))
    files = {path.name: path.read_bytes() for path in reference.folder.iterdir()}
    hub.add({**files, "open_clip_pytorch_model.bin": b"a pickle", "model.onnx": b"not ours"}, "org/tiny-clip")
    taught = child.ask(
        teach_open_clip=["tiny-clip", "photos_e1", str(tmp_path), "org/tiny-clip/"], settings={"quick_gelu": True}
    )
    assert taught == {"known": True}
    paths = [str(photo.path) for photo in photos]
    answer = child.load("open_clip:tiny-clip/photos_e1", texts=TEXTS, images=paths, engine="pillow")
    assert difference(answer["texts"], reference.texts(TEXTS)) < BOUND
    assert difference(answer["images"], reference.images([photo.upright for photo in photos])) < BOUND
    assert not {"open_clip_pytorch_model.bin", "model.onnx"} & set(hub.fetched())
    assert answer["spec"]["revision"] == commit_of(hub, "org/tiny-clip")


def _mini_lm(folder: Path, width: int) -> None:
    """A checkpoint in the place of all-MiniLM-L6-v2: one thin layer, `width` columns."""
    tokenizer = transformers.BertTokenizer(vocab=wordpiece(), model_max_length=64)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=12,
        intermediate_size=8,
        max_position_embeddings=64,
    )
    stir(transformers.BertModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("width", [384, 96])
def test_a_registered_name(width: int, child: Child, hub: LoopbackHub, tmp_path: Path) -> None:
    """A checkpoint that does not give what the registry promises is refused."""
    _mini_lm(tmp_path, width)
    hub.repos.pop(MINILM, None)
    commit = hub.add(tmp_path, MINILM)
    answer = child.load("all-minilm-l6-v2", texts=["kitty"], options={"revision": commit})
    if width == 384:
        assert answer["spec"]["name"] == "all-minilm-l6-v2"
        assert answer["spec"]["license"] == "apache-2.0"
        assert answer["spec"]["revision"] == commit
        assert difference(answer["texts"], zoo.load_model(tmp_path).encode(["kitty"])) < BOUND
    else:
        assert answer["error"] == "UnrecognisedCheckpointError"
        assert "384" in answer["message"]
        assert "96" in answer["message"]


def test_the_registered_revision_is_the_one_asked_for(child: Child, hub: LoopbackHub) -> None:
    """A name stands for one commit: if the repository has no such commit, nothing else is taken."""
    spec = zoo.get_spec("bge-small-en-v1.5")
    assert spec.revision is not None
    hub.add({"config.json": b"{}"}, spec.hub_id)
    answer = child.load(spec.name)
    assert answer["error"] == "NotOnHubError"
    assert any(spec.revision in line for line in hub.requests)


def test_an_installed_package_is_opened_and_the_hub_not_asked(child: Child, hub: LoopbackHub) -> None:
    asked = len(hub.requests)
    answer = child.load("all-minilm-l6-v2", texts=["kitty"])
    assert answer["spec"] == zoo.get_spec("all-minilm-l6-v2").to_dict()
    assert (
        difference(answer["texts"], zoo.load_model(wheels.folder_of(wheels.MINILM), device="cpu").encode(["kitty"]))
        < BOUND
    )
    assert len(hub.requests) == asked


# --------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("hf:org/nope", "NotOnHubError", "no such repository"),
        ("hf:org/sentence@v9", "NotOnHubError", "no such branch, tag or commit"),
        ("hf:org/gated", "NoAccessError", "restricted"),
        ("hf:org/nothing", "UnrecognisedCheckpointError", "README.md"),
        ("hf:just-a-name", "HubError", "hf:<org>/<name>"),
        ("hf:../../etc/passwd", "HubError", "hf:<org>/<name>"),
        ("hf:", "HubError", "hf:<org>/<name>"),
        ("timm:no_such_net", "UnknownModelError", "timm has no pretrained model"),
        ("timm:resnet18.no_such_tag", "UnknownModelError", "nearest"),
        ("open_clip:ViT-B-32/no_such_tag", "UnknownModelError", "laion2b_s34b_b79k"),
        ("open_clip:ViT-B-33/openai", "UnknownModelError", "ViT-B-32"),
        ("open_clip:", "UnknownModelError", "<arch>/<tag>"),
    ],
)
def test_names_that_lead_nowhere(name: str, error: str, says: str, child: Child) -> None:
    answer = child.load(name)
    assert answer["error"] == error
    assert says in answer["message"]
    assert len(answer["message"]) < 2500


def test_a_hub_that_is_down(child: Child, hub: LoopbackHub) -> None:
    hub.add({"config.json": b'{"model_type": "bert"}'}, "org/down")
    hub.fail("/api/models/org/down", times=100, status=503)
    answer = child.load("hf:org/down")
    assert answer["error"] == "HubUnreachableError"
    assert "org/down" in answer["message"]
    assert "503" in answer["message"]


def test_a_hub_that_is_down_does_not_matter_for_what_is_cached(child: Child, hub: LoopbackHub) -> None:
    first = child.load(f"hf:{STATIC}", texts=TEXTS[:2])
    hub.fail(times=100, status=500)
    assert child.load(f"hf:{STATIC}", texts=TEXTS[:2]) == first


def test_a_connection_that_breaks_off_is_taken_up_again(
    child: Child, hub: LoopbackHub, written: dict[str, Reference]
) -> None:
    hub.add(written["sentence-shared-root"].folder, "org/cut")
    hub.cut("GET .*/model.safetensors", after=5000)
    answer = child.load("hf:org/cut", texts=TEXTS)
    assert difference(answer["texts"], written["sentence-shared-root"].texts(TEXTS)) < BOUND
    assert hub.fetched().count("model.safetensors") == 2


def test_offline_after_one_load(hub: LoopbackHub, child: Child, home: Path, written: dict[str, Reference]) -> None:
    assert "error" not in child.load(f"hf:{SENTENCE}")
    assert "error" not in child.load("timm:test_vit.r160_in1k")
    hub.requests.clear()
    with Child({**hub.environment(home), "HF_HUB_OFFLINE": "1"}) as offline:
        answer = offline.load(f"hf:{SENTENCE}", texts=TEXTS)
        assert difference(answer["texts"], written["sentence-shared-root"].texts(TEXTS)) < BOUND
        assert answer["spec"]["revision"] == commit_of(hub, SENTENCE)
        assert "error" not in offline.load("timm:test_vit.r160_in1k")
        missing = offline.load("hf:org/never-loaded")
        assert missing["error"] == "HubUnreachableError"
        assert "offline" in missing["message"]
    assert hub.requests == []


def test_no_network(home: Path, child: Child) -> None:
    """A hub that nobody listens at: what was never loaded says so at once, what was loaded still loads."""
    first = child.load(f"hf:{STATIC}", texts=TEXTS[:2])
    closed = LoopbackHub()
    closed.start().close()
    with Child(closed.environment(home)) as lost:
        assert lost.load(f"hf:{STATIC}", texts=TEXTS[:2]) == first
        answer = lost.load("hf:org/never-loaded")
    assert answer["error"] == "HubUnreachableError"
    assert "out of reach" in answer["message"]


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_every_tag_of_open_clip_is_refused_where_it_has_only_a_pickle(
    step: int, child: Child, hub: LoopbackHub
) -> None:
    """Every fourth tag, or all, each with its true repository name; none may be fetched before it is refused."""
    tags = open_clip.list_pretrained()[::step]
    for arch, tag in tags:
        place = (open_clip.get_pretrained_cfg(arch, tag).get("hf_hub") or "").strip("/").split("/")
        if len(place) >= 2:
            file = "/".join(place[2:])
            names = [file] if file and not file.endswith(".safetensors") else ["open_clip_pytorch_model.bin"]
            hub.add(dict.fromkeys(names, b"a pickle"), "/".join(place[:2]))
    refused = child.ask(refuse_tags=step)
    assert len(refused) >= len(tags)
    wrong = {
        name: said
        for name, said in refused.items()
        if not said.startswith(("UnsafeCheckpointError", "MissingWeightsError")) and "tiny-clip" not in name
    }
    assert wrong == {}
    assert sum(said.startswith("UnsafeCheckpointError") for said in refused.values()) > 150 // step
    assert not [name for name in hub.fetched() if name.endswith((".bin", ".pt", ".pth"))]


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_cache_is_said_to_be_damaged_and_fetched_anew(
    how: str, child: Child, hub: LoopbackHub, home: Path, written: dict[str, Reference]
) -> None:
    repo = f"org/damaged-{how}"
    hub.add(written["sentence-static"].folder, repo)
    first = child.load(f"hf:{repo}", texts=TEXTS[:2])
    (weights,) = (home / "hub" / f"models--{repo.replace('/', '--')}").rglob("snapshots/*/model.safetensors")
    content = weights.resolve().read_bytes()
    weights.resolve().write_bytes(content[: len(content) // 2] if how == "cut" else flip(content))
    answer = child.load(f"hf:{repo}")
    assert answer["error"] == "DamagedDownloadError"
    assert f"hf:{repo}/model.safetensors" in answer["message"]
    assert child.load(f"hf:{repo}", texts=TEXTS[:2]) == first


@pytest.mark.parametrize("family", ["sentence-mean", "transformers-clip", "timm-vit", "open_clip-clip"])
def test_a_pickle_is_refused_before_it_is_fetched(
    family: str, child: Child, hub: LoopbackHub, written: dict[str, Reference]
) -> None:
    files = {
        path.relative_to(written[family].folder).as_posix(): path.read_bytes()
        for path in written[family].folder.rglob("*")
        if path.is_file() and path.suffix != ".safetensors"
    }
    name = "open_clip_pytorch_model.bin" if family.startswith("open_clip") else "pytorch_model.bin"
    hub.add({**files, name: b"a pickle"}, f"org/pickled-{family}")
    answer = child.load(f"hf:org/pickled-{family}")
    assert answer["error"] == "UnsafeCheckpointError"
    assert f"org/pickled-{family}" in answer["message"]
    assert name not in hub.fetched()


@pytest.mark.parametrize("place", ["evil.Model", "other/repository--evil.Model"])
def test_a_repository_that_asks_for_code_is_refused(place: str, child: Child, hub: LoopbackHub, tmp_path: Path) -> None:
    """Before anything but config.json is fetched; code of another repository even where this one is trusted."""
    mark = tmp_path / "code-ran"
    config = {"model_type": "evil", "auto_map": {"AutoModel": place, "AutoConfig": place.replace("Model", "Config")}}
    files = {
        "config.json": json.dumps(config).encode(),
        "evil.py": f"open({str(mark)!r}, 'w').close()".encode(),
        "model.safetensors": b"",
        "tokenizer.json": b"{}",
    }
    repo = f"org/evil-{len(place)}"
    hub.add(files, repo)
    answer = child.load(f"hf:{repo}")
    assert answer["error"] == "UnsafeCheckpointError"
    assert "trust_remote_code" in answer["message"]
    assert hub.fetched() == ["config.json"]
    if "--" in place:
        trusted = child.load(f"hf:{repo}", options={"trust_remote_code": True, "revision": commit_of(hub, repo)})
        assert trusted["error"] == "UnsafeCheckpointError"
        assert "other/repository" in trusted["message"]
    assert not mark.exists()
