"""Embedders on Qwen2-VL by name: repositories, adapters on their base, what is refused before it is fetched, added tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

import zoo
from tests.hub import LoopbackHub
from tests.hub.child import Child
from tests.reference.qwen2_authors import FAMILIES, furthest, write_marvel
from tests.reference.qwen2_vl import Published, items, write_adapter, write_qwen2_vl, write_tokenizer
from zoo.errors import InvalidTextError, MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError

BOUND, TELLS = 1e-5, 1e-3
BASE, FULL, MARVEL = "Qwen/Qwen2-VL-2B-Instruct", "Alibaba-NLP/gme-Qwen2-VL-2B-Instruct", "org/u-marvel"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_qwen2_vl(tmp_path_factory.mktemp("base") / "qwen2-vl")


@pytest.fixture(scope="module")
def marvel(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_marvel(tmp_path_factory.mktemp("marvel") / "u-marvel")


@pytest.fixture(scope="module")
def adapters(base: Published, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    """DoRA as VLM2Vec-V2.0 is published; LoRA in a pickle as v1; that beside a merged copy with other weights, as v1's 7B."""
    root = tmp_path_factory.mktemp("adapters")
    found = {
        "dora": write_adapter(base, root / "dora", base_name=BASE),
        "pickled": write_adapter(base, root / "pickled", base_name=BASE, dora=False, pickled=True, seed=2),
        "both": write_adapter(base, root / "both", base_name=BASE, dora=False, seed=4),
    }
    wrong = write_qwen2_vl(root / "wrong", seed=9)
    for name in ("model.safetensors", "preprocessor_config.json"):
        (found["both"].folder / name).write_bytes((wrong.folder / name).read_bytes())
    return found


@pytest.fixture(scope="module")
def hub(hub: LoopbackHub, base: Published, marvel: Published, adapters: dict[str, Published]) -> LoopbackHub:
    phi = {"config.json": json.dumps({"model_type": "phi3_v", "auto_map": {"AutoConfig": "x.Phi3VConfig"}}).encode()}
    hub.add(base.folder, BASE)
    hub.add(base.folder, FULL)
    hub.add(marvel.folder, MARVEL)
    for name, adapter in adapters.items():
        hub.add(adapter.folder, f"org/{name}")
    hub.add({**phi, "model.safetensors": b"never read"}, "TIGER-Lab/VLM2Vec-Full")
    hub.add(phi, "microsoft/Phi-3.5-vision-instruct")
    lora = {"peft_type": "LORA", "base_model_name_or_path": "microsoft/Phi-3.5-vision-instruct"}
    phi_lora = {"adapter_config.json": json.dumps(lora).encode(), "adapter_model.safetensors": b"never read"}
    hub.add(phi_lora, "TIGER-Lab/VLM2Vec-LoRA")
    return hub


def by_name(child: Child, name: str, **more) -> Tensor:
    answer = child.call("tests.reference.qwen2_vl:embed", name, **more)
    assert "error" not in answer, answer
    return torch.tensor(answer["result"]["vectors"])


@pytest.mark.parametrize(
    ("repo", "like"), [(FULL, "gme-qwen2vl-2b"), (MARVEL, "u-marvel-qwen2vl-7b"), (FULL, "ops-mm-embedding-v1-2b")]
)
def test_a_repository_by_name(repo: str, like: str, child: Child, base: Published, marvel: Published) -> None:
    family = FAMILIES[like]
    vectors = by_name(child, f"hf:{repo}", like=like)
    assert furthest(vectors, family.vectors(marvel if repo == MARVEL else base, items())) < BOUND


def test_a_registered_name(child: Child, base: Published, hub: LoopbackHub) -> None:
    """A model of the zoo knows how its repository is read; here one with GME's reading and a tiny checkpoint."""
    gme = zoo.get_spec("gme-qwen2vl-2b").to_dict()
    read = {"format": gme["format"], "media": gme["media"]}
    spec = {"name": "gme-tiny", "dim": 32, "license": "mit", "hub_id": FULL, "max_tokens": 1800, **read}
    answer = child.call("tests.reference.qwen2_vl:embed", "gme-tiny", spec=spec)["result"]
    assert furthest(torch.tensor(answer["vectors"]), FAMILIES["gme-qwen2vl-2b"].vectors(base, items())) < BOUND
    assert answer["spec"]["name"] == "gme-tiny"
    assert answer["spec"]["revision"] == hub.repos[FULL].at("main").oid


@pytest.mark.parametrize("name", ["dora", "both"])
def test_an_adapter_by_name(name: str, child: Child, adapters: dict[str, Published], base: Published) -> None:
    """On the base that it names, merged; a merged copy beside it is neither fetched nor read."""
    family = FAMILIES["vlm2vec-v2-qwen2vl-2b"]
    vectors = by_name(child, f"hf:org/{name}", like=family.like, videos="all")
    assert furthest(vectors, family.vectors(adapters[name], items("all"))) < BOUND
    assert furthest(vectors, family.vectors(base, items("all"))) > TELLS


def test_a_merged_copy_beside_an_adapter_is_not_fetched(child: Child, hub: LoopbackHub, adapters: dict) -> None:
    hub.add(adapters["both"].folder, "org/both-again")
    hub.requests.clear()
    by_name(child, "hf:org/both-again", like="vlm2vec-qwen2vl-7b")
    assert "adapter_model.safetensors" in hub.fetched()
    assert "model.safetensors" not in hub.fetched()  # the base's is in the cache


def test_a_pickled_adapter_asks_for_permission(child: Child, adapters: dict[str, Published]) -> None:
    answer = child.call("tests.reference.qwen2_vl:embed", "hf:org/pickled", like="vlm2vec-qwen2vl-2b")
    assert answer["error"] == UnsafeCheckpointError.__name__
    assert "adapter_model.bin" in answer["message"]
    assert "allow_pickle=True" in answer["message"]
    vectors = by_name(child, "hf:org/pickled", like="vlm2vec-qwen2vl-2b", allow_pickle=True)
    assert furthest(vectors, FAMILIES["vlm2vec-qwen2vl-7b"].vectors(adapters["pickled"], items())) < BOUND


def test_an_adapter_in_a_folder(base: Published, tmp_path: Path) -> None:
    """Its base may be a folder of this machine."""
    family = FAMILIES["vlm2vec-v2-qwen2vl-2b"]
    local = write_adapter(base, tmp_path / "local", base_name=str(base.folder))
    assert (
        furthest(zoo.load_model(local.folder, like=family.like).encode(items()), family.vectors(local, items())) < BOUND
    )


@pytest.mark.parametrize(
    ("repo", "like"),
    [
        ("TIGER-Lab/VLM2Vec-Full", None),
        ("TIGER-Lab/VLM2Vec-Full", "vlm2vec-qwen2vl-2b"),
        ("TIGER-Lab/VLM2Vec-LoRA", "vlm2vec-qwen2vl-2b"),
    ],
)
def test_phi_is_named_before_anything_large_is_fetched(
    repo: str, like: str | None, child: Child, hub: LoopbackHub
) -> None:
    hub.requests.clear()
    answer = child.call("tests.reference.qwen2_vl:embed", f"hf:{repo}", like=like)
    assert answer["error"] == UnrecognisedCheckpointError.__name__
    assert "Phi-3.5-vision" in answer["message"]
    assert "vlm2vec-qwen2vl-2b" in answer["message"]
    assert "model.safetensors" not in hub.fetched()


def test_another_backbone_is_refused(child: Child) -> None:
    answer = child.call("tests.reference.qwen2_vl:embed", f"hf:{FULL}", like="u-marvel-qwen3vl-4b")
    assert answer["error"] == UnrecognisedCheckpointError.__name__
    assert "qwen3_vl" in answer["message"]


def test_nobody_said_how_it_is_read(child: Child) -> None:
    answer = child.call("tests.reference.qwen2_vl:embed", "hf:org/dora")
    assert answer["error"] == UnrecognisedCheckpointError.__name__
    assert "like=" in answer["message"]


# -------------------------------------------------------------------------------------------------------- added tokens


def test_tokens_that_are_there_already_are_not_added_again(marvel: Published, tmp_path: Path) -> None:
    """A checkpoint saved with the three tokens in its tokenizer is the same model."""
    folder = tmp_path / "with-tokens"
    shutil.copytree(marvel.folder, folder)
    write_tokenizer(folder, ["<emb>", "<instruction_start>", "<instruction_end>"])
    family = FAMILIES["u-marvel-qwen2vl-7b"]
    assert furthest(zoo.load_model(folder, like=family.like).encode(items()), family.vectors(marvel, items())) < BOUND


def test_a_table_without_rows_for_the_added_tokens_is_named(tmp_path: Path) -> None:
    tokens = write_tokenizer(tmp_path).get_vocab_size()
    small = write_qwen2_vl(tmp_path / "small", rows=tokens)
    with pytest.raises(MissingWeightsError, match="rows"):
        zoo.load_model(small.folder, like="u-marvel-qwen2vl-7b").encode("a")


@pytest.mark.parametrize("mark", ["<instruction_end>", "<|image_pad|>"])
def test_marks_in_a_text_are_refused(mark: str) -> None:
    with pytest.raises(InvalidTextError, match="take it out"):
        zoo.build_model("u-marvel-test").encode(f"a {mark} b")
