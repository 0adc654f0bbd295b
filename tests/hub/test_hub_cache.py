"""What lies in the cache, and whether it is all: a part of a repository never passes for the whole."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import zoo
from tests import warm
from tests.hub import LoopbackHub, flip
from tests.hub.child import Child
from tests.reference import TEXTS, Reference, write

BOUND = 1e-5
DENSE, PLAIN, STATIC, SHARDED, BGE = "org/dense", "org/plain", "org/static", "org/sharded", "BAAI/bge-small-en-v1.5"
# How other programs fill a cache, one a line: kind, folder, repository, files.
FILLS = """
import sys
from huggingface_hub import snapshot_download
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer
for kind, home, repo, *files in (line.split() for line in sys.stdin):
    if kind == "sentence-transformers":
        SentenceTransformer(repo, cache_folder=home)
    elif kind == "transformers":
        AutoModel.from_pretrained(repo, cache_dir=home), AutoTokenizer.from_pretrained(repo, cache_dir=home)
    else:
        snapshot_download(repo, allow_patterns=files or None, cache_dir=home)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reference]:
    root = tmp_path_factory.mktemp("written")
    names = {
        DENSE: "sentence-dense",
        STATIC: "sentence-static",
        PLAIN: "transformers-bert",
    }
    return {repo: write(name, root / name) for repo, name in names.items()}


@pytest.fixture(scope="module")
def hub(written: dict[str, Reference], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    from transformers import AutoModel

    with LoopbackHub() as hub:
        for repo, reference in written.items():
            hub.add(reference.folder, repo)
        shards = Path(shutil.copytree(written[PLAIN].folder, tmp_path_factory.mktemp("shards") / "plain"))
        (shards / "model.safetensors").unlink()
        AutoModel.from_pretrained(written[PLAIN].folder).save_pretrained(shards, max_shard_size="20KB")
        assert (shards / "model.safetensors.index.json").is_file()
        hub.add(shards, SHARDED)
        yield hub


@pytest.fixture(autouse=True)
def _calm(hub: LoopbackHub) -> Iterator[None]:
    yield
    hub.faults.clear()


class Cache:
    """A cache of its own (the folder that the environment calls HF_HUB_CACHE)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, repo: str) -> Path:
        return self.folder / f"models--{repo.replace('/', '--')}"

    def snapshot(self, repo: str) -> Path:
        (folder,) = (self.of(repo) / "snapshots").iterdir()
        return folder

    def copy(self, folder: Path) -> Cache:
        return Cache(Path(shutil.copytree(self.folder, folder, symlinks=True)))


@pytest.fixture(scope="module")
def filled(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cache]:
    """A cache that each kind of program filled, in one process that is none of ours."""
    caches = {kind: Cache(tmp_path_factory.mktemp(kind)) for kind in ("sentence-transformers", "transformers", "whole")}
    lines = [
        f"{kind} {cache.folder} {repo}"
        for kind, cache in caches.items()
        for repo in (DENSE, STATIC, PLAIN)
        if (kind, repo) != ("transformers", STATIC)
    ]
    caches["some"] = Cache(tmp_path_factory.mktemp("some"))
    lines.append(f"some {caches['some'].folder} {SHARDED} *.json model-00001*")
    lines.append(f"some {caches['some'].folder} {DENSE} config.json model.safetensors tokenizer*")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    environment = {**inherited, **hub.environment(tmp_path_factory.mktemp("fills"))}
    command = [sys.executable, "-c", FILLS]
    said = warm.run(command, input="\n".join(lines), env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr[-2000:]
    return caches


class Reader:
    """A child process whose cache is a link that `look_at` lays."""

    def __init__(self, child: Child, home: Path) -> None:
        self.load, self.call, self._link = child.load, child.call, home / "hub"

    def look_at(self, cache: Cache) -> None:
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(cache.folder)


@pytest.fixture(scope="module")
def online(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    home = tmp_path_factory.mktemp("online")
    with Child(hub.environment(home)) as child:
        yield Reader(child, home)


@pytest.fixture(scope="module")
def offline(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    home = tmp_path_factory.mktemp("offline")
    with Child({**hub.environment(home), "HF_HUB_OFFLINE": "1"}) as child:
        yield Reader(child, home)


@pytest.fixture
def fresh(tmp_path: Path, online: Reader, offline: Reader) -> Cache:
    """An empty cache, looked at by both."""
    (tmp_path / "fresh").mkdir()
    cache = Cache(tmp_path / "fresh")
    online.look_at(cache)
    offline.look_at(cache)
    return cache


def assert_equal(answer: dict, reference: Reference) -> None:
    assert "error" not in answer, answer
    assert (torch.tensor(answer["texts"]) - reference.texts(TEXTS)).abs().max() < BOUND


# ------------------------------------------------------------------------------------------------- filled by another


@pytest.mark.parametrize("kind", ["sentence-transformers", "whole"])
@pytest.mark.parametrize("repo", [DENSE, STATIC, PLAIN])
def test_a_whole_cache_loads(
    kind: str, repo: str, filled: dict[str, Cache], offline: Reader, written: dict[str, Reference]
) -> None:
    offline.look_at(filled[kind])
    assert_equal(offline.load(f"hf:{repo}", texts=TEXTS), written[repo])


@pytest.mark.parametrize("repo", [DENSE, PLAIN])
def test_what_transformers_fetched_is_no_whole_repository(repo: str, filled: dict[str, Cache], offline: Reader) -> None:
    """The backbone of `DENSE` alone would load as a mean-pooled model; of `PLAIN` nobody knows that there is no more."""
    offline.look_at(filled["transformers"])
    answer = offline.load(f"hf:{repo}", texts=TEXTS)
    assert answer["error"] == "PartlyCachedError", answer
    assert "HubUnreachableError" in answer["kinds"]
    for said in (f"hf:{repo}", "config.json", "lacks modules.json", "HF_HUB_OFFLINE", f"hf download {repo}"):
        assert said in answer["message"]


def test_an_outage_is_no_excuse(
    filled: dict[str, Cache], hub: LoopbackHub, online: Reader, tmp_path: Path, written: dict[str, Reference]
) -> None:
    """The same cache, a hub that answers with errors; once it is well again, the rest is fetched, and noted."""
    cache = filled["transformers"].copy(tmp_path / "copy")
    online.look_at(cache)
    hub.fail("/api/models/", times=100, status=503)
    answer = online.load(f"hf:{DENSE}", texts=TEXTS)
    assert answer["error"] == "PartlyCachedError", answer
    assert "503" in answer["message"]
    hub.faults.clear()
    assert_equal(online.load(f"hf:{DENSE}", texts=TEXTS), written[DENSE])
    hub.fail("", times=1000, status=503)
    assert_equal(online.load(f"hf:{DENSE}", texts=TEXTS), written[DENSE])
    # What was noted is the repository's list, not the cache's: a file that is lost is missed.
    dense = next(path for path in cache.snapshot(DENSE).glob("*Dense*/model.safetensors"))
    dense.unlink()
    answer = online.load(f"hf:{DENSE}", texts=TEXTS)
    assert "HubUnreachableError" in answer["kinds"], answer
    assert f"hf:{DENSE}/{dense.parent.name}/model.safetensors" in answer["message"]


@pytest.mark.parametrize("repo", [DENSE, STATIC])
def test_every_file_that_matters_is_missed(
    repo: str, filled: dict[str, Cache], offline: Reader, tmp_path: Path, written: dict[str, Reference]
) -> None:
    """Filled file by file, without a list; without any one of them the load is refused, by the name of what it lacks."""
    cache = filled["sentence-transformers"].copy(tmp_path / "copy")
    assert not (cache.of(repo) / "trees").exists()
    offline.look_at(cache)
    loaded = []
    for path in sorted(p for p in cache.snapshot(repo).rglob("*") if p.is_file()):
        place, name = os.readlink(path), path.relative_to(cache.snapshot(repo)).as_posix()
        path.unlink()
        answer = offline.load(f"hf:{repo}", texts=TEXTS)
        path.symlink_to(place)
        if "error" not in answer:
            assert_equal(answer, written[repo])
            loaded.append(name)
        else:
            assert answer["error"] == "PartlyCachedError", (name, answer)
            assert name in answer["message"], (name, answer)
    assert [name for name in loaded if "Normalize" not in name] == []  # which has no settings


def test_a_list_beside_the_snapshot_is_believed(filled: dict[str, Cache], offline: Reader, tmp_path: Path) -> None:
    """The client lists a repository even where it fetches a part; a shard that is not there is missed without a list too."""
    offline.look_at(filled["some"])
    answer = offline.load(f"hf:{SHARDED}")
    assert "HubUnreachableError" in answer["kinds"], answer
    assert "model-00002-of-" in answer["message"]
    answer = offline.load(f"hf:{DENSE}")
    assert "HubUnreachableError" in answer["kinds"], answer
    assert "not in the local cache" in answer["message"]
    alone = filled["some"].copy(tmp_path / "copy")
    shutil.rmtree(alone.of(SHARDED) / "trees")
    absent = alone.of(SHARDED) / ".no_exist" / alone.snapshot(SHARDED).name
    absent.mkdir(parents=True)
    (absent / "modules.json").touch()
    offline.look_at(alone)
    answer = offline.load(f"hf:{SHARDED}")
    assert answer["error"] == "PartlyCachedError", answer
    assert "model-00002-of-" in answer["message"]


def test_the_note_of_a_load_holds_for_every_way_in(
    hub: LoopbackHub, fresh: Cache, online: Reader, offline: Reader, written: dict[str, Reference]
) -> None:
    """A branch, a tag and the commit itself, offline after one load each; an unreadable note is no note."""
    commit = hub.add(written[DENSE].folder, "org/named", tag="v1")
    for revision in (None, "v1", commit):
        assert "error" not in online.load("hf:org/named", options={"revision": revision})
    for revision in (None, "v1", commit, "main"):
        answer = offline.load("hf:org/named", texts=TEXTS, options={"revision": revision})
        assert_equal(answer, written[DENSE])
    (note,) = (fresh.of("org/named") / ".zoo-files").iterdir()
    assert set(json.loads(note.read_text())["files"]) == set(hub.repos["org/named"].files)
    note.write_text("{")
    (fresh.snapshot("org/named") / "modules.json").unlink()
    assert offline.load("hf:org/named")["error"] == "PartlyCachedError"


# ---------------------------------------------------------------------------------------------------------- damaged


@pytest.mark.parametrize("first", ["online", "offline"])
def test_damage_is_told_again(
    first: str, hub: LoopbackHub, fresh: Cache, online: Reader, offline: Reader, written: dict[str, Reference]
) -> None:
    """The second call, without a network, gives the reason of the first; with one the file comes back and the note goes."""
    repo = f"org/broken-{first}"
    hub.add(written[DENSE].folder, repo)
    assert_equal(online.load(f"hf:{repo}", texts=TEXTS), written[DENSE])
    for name in ("modules.json", "model.safetensors"):
        blob = (fresh.snapshot(repo) / name).resolve()
        blob.write_bytes(flip(blob.read_bytes()))
        said = (online if first == "online" else offline).load(f"hf:{repo}")
        assert said["error"] == "DamagedDownloadError", said
        assert f"hf:{repo}/{name}" in said["message"]
        assert offline.load(f"hf:{repo}") == said
        shutil.move(fresh.of(repo) / ".zoo-files", fresh.folder / "aside")  # as where another library filled the cache
        assert offline.load(f"hf:{repo}") == said
        shutil.move(fresh.folder / "aside", fresh.of(repo) / ".zoo-files")
        assert_equal(online.load(f"hf:{repo}", texts=TEXTS), written[DENSE])
        assert not list((fresh.of(repo) / ".zoo-damaged").rglob("*.*"))
    assert_equal(offline.load(f"hf:{repo}", texts=TEXTS), written[DENSE])


# --------------------------------------------------------------------------------------------------- registered names


def test_a_registered_name_also_stands_for_its_pooler(
    hub: LoopbackHub, fresh: Cache, online: Reader, tmp_path: Path
) -> None:
    """bge-small pools [CLS]: without its modules.json the same weights, as wide, are another model."""
    import transformers

    from tests.reference.base import stir
    from tests.reference.vocab import wordpiece

    tokenizer = transformers.BertTokenizer(vocab=wordpiece(), model_max_length=64)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=1,
        num_attention_heads=12,
        intermediate_size=8,
        max_position_embeddings=64,
    )
    folder = tmp_path / "bge"
    stir(transformers.BertModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    bare = hub.add(folder, BGE)
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            ]
        )
    )
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 384, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    whole = hub.add(folder, BGE)
    answer = online.load("bge-small-en-v1.5", options={"revision": bare})
    assert answer["error"] == "UnrecognisedCheckpointError", answer
    assert "TransformersText → Cls → Identity" in answer["message"]
    assert "TransformersText → Mean → Identity" in answer["message"]
    answer = online.load("bge-small-en-v1.5", texts=["kitty"], options={"revision": whole})
    assert answer["spec"]["name"] == "bge-small-en-v1.5"
    expected = zoo.load_model(folder).encode(["kitty"])
    assert (torch.tensor(answer["texts"]) - expected).abs().max() < BOUND


# ------------------------------------------------------------------------------------------------------- other ways in


@pytest.fixture(scope="module")
def ways(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Repository → what `load_model` is told to open it: a name of timm, an adapter whose base is a repository too."""
    from tests.reference.late import write_adapter, write_base

    root = tmp_path_factory.mktemp("ways")
    hub.add(write("timm-vit", root / "vit").folder, "timm/test_vit.r160_in1k")
    base = write_base(root / "base")
    hub.add(base.folder, "org/base")
    hub.add(write_adapter(base, root / "adapter", base_name="org/base").folder, "org/adapter")
    return {"timm/test_vit.r160_in1k": "timm:test_vit.r160_in1k", "org/base": "hf:org/adapter like colqwen2-v1.0"}


@pytest.mark.parametrize(
    ("repo", "file"),
    [("timm/test_vit.r160_in1k", "config.json"), ("timm/test_vit.r160_in1k", "model.safetensors")]
    + [("org/base", file) for file in ("model.safetensors", "tokenizer.json", "preprocessor_config.json")],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_part_is_missed_on_every_way_in(
    repo: str, file: str, listed: bool, ways: dict[str, str], fresh: Cache, online: Reader, offline: Reader
) -> None:
    """A backbone of timm, or the base of an adapter, that another program has fetched in part; listed there or not."""
    assert "error" not in online.load(ways[repo])
    assert "error" not in offline.load(ways[repo])
    path = fresh.snapshot(repo) / file
    path.unlink()
    if not listed:
        for note in ("trees", ".zoo-files", ".no_exist"):
            shutil.rmtree(fresh.of(repo) / note, ignore_errors=True)
    answer = offline.load(ways[repo])
    assert "HubUnreachableError" in answer.get("kinds", ()), answer
    assert f"hf:{repo}" in answer["message"]
    assert (file in answer["message"]) or not listed


@pytest.mark.slow
def test_a_certificate_is_checked_out_of_reach_of_the_hub_or_not_at_all(
    hub: LoopbackHub, fresh: Cache, online: Reader, offline: Reader, tmp_path: Path
) -> None:
    """Once all is cached every library opens it offline; a part of it is no pass, whichever part it is."""
    from zoo.publishing import certificate, exports

    exports.export(zoo.build_model("text-test"), tmp_path / "model")
    certificate.make(zoo.load_model(tmp_path / "model", device="cpu")).save(tmp_path / "model")
    hub.add(tmp_path / "model", "org/certified")
    asked = {"dtypes": ["float32"], "batch_sizes": [8]}
    for reader in (online, offline):
        answer = reader.call("zoo.publishing.certificate:verify", "hf:org/certified", **asked)
        assert answer["result"]["certified"], answer
        assert {row["loader"] for row in answer["result"]["rows"]} >= {"zoo", "transformers", "sentence-transformers"}
        assert all(row["passed"] for row in answer["result"]["rows"]), answer
    snapshot = fresh.snapshot("org/certified")
    for file in ("certificate.json", "config.json", "model.safetensors", "tokenizer.json"):
        place = os.readlink(snapshot / file)
        (snapshot / file).unlink()
        answer = offline.call("zoo.publishing.certificate:verify", "hf:org/certified", **asked)
        (snapshot / file).symlink_to(place)
        assert "HubUnreachableError" in answer.get("kinds", ()), (file, answer)
        assert file in answer["message"]
