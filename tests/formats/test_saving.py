"""What `save_pretrained` writes it has opened again, and compared: whole and equal, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from tests.every import standing_for
from zoo.embedder import Embedder, Tower
from zoo.encoders.static import StaticText
from zoo.encoders.text import TransformersText
from zoo.errors import InputError, NotSavedError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats import HALF_SAVED, writing, zoo_native
from zoo.formats.checks.config_schema import check_config
from zoo.formats.transformers import TEXT, text_spec
from zoo.heads import Identity
from zoo.pooling import Mean
from zoo.publishing import exports

TEXTS = ["a cat", "two dogs in the snow", "word " * 60]


def tiny_backbone(kind: str) -> Embedder:
    """A random text embedder on a small backbone of one of transformers' types, with the tokenizer of text-test."""
    from transformers import AutoConfig

    core = zoo.build_model("text-test").towers[0].encoder.tokenize.tokenizer
    sizes = {"hidden_size": 32, "embedding_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    sizes |= {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "rotary_dim": 4,
    }
    sizes |= {"attention_types": [[["global", "local"], 1]]} if kind == "gpt_neo" else {}  # by default of 24 layers
    plain = AutoConfig.for_model(kind)
    known = {*plain.to_dict(), *plain.attribute_map}
    sizes = {key: value for key, value in sizes.items() if key in known}
    config = AutoConfig.for_model(kind, vocab_size=core.get_vocab_size(), **sizes)
    torch.manual_seed(0)
    encoder = TransformersText(config.to_diff_dict() | {"model_type": kind}, max_tokens=40, tokenizer=core)
    return Embedder(text_spec(f"{kind}-tiny", encoder, encoder.width), [Tower(encoder, Mean(), Identity())]).eval()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ----------------------------------------------------------------------------------------------- save → open → equal


# Other settings each: encoders and decoders, positions of every kind, tied, nested and old configurations.
BACKBONES = {"bert", "deberta-v2", "distilbert", "gemma3_text", "gpt_neo", "jina_embeddings_v3", "modernbert", "mpnet"}
BACKBONES |= {"nomic_bert", "qwen2", "roformer", "t5", "xlm-roberta"}


@pytest.mark.parametrize("kind", standing_for(TEXT, BACKBONES))
def test_every_text_backbone_comes_back(kind: str, tmp_path: Path) -> None:
    model = tiny_backbone(kind)
    expected = model.encode(TEXTS)
    model.save_pretrained(tmp_path / "zoo")
    again = zoo.load_model(tmp_path / "zoo", device="cpu")
    assert again.spec == model.spec
    assert torch.equal(again.encode(TEXTS), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXT)
def test_every_text_backbone_comes_back_in_other_libraries(kind: str, tmp_path: Path) -> None:
    model = tiny_backbone(kind)
    expected = model.encode(TEXTS)
    exported = exports.export(model, tmp_path / "export")
    for loader in ("zoo", "transformers", "sentence-transformers"):
        assert exported.loaders[loader] == ""
        found = exports.encode_with(loader, tmp_path / "export", [zoo.Item(text=text) for text in TEXTS])
        assert (found - expected).abs().max() < 1e-5, loader


@pytest.mark.slow  # tests/test_registry.py saves and opens each of them too
@pytest.mark.parametrize("name", zoo.list_models("*-test"))
def test_every_test_model_comes_back(name: str, tmp_path: Path) -> None:
    model = zoo.build_model(name)
    model.save_pretrained(tmp_path / "m")
    again = zoo.load_model(tmp_path / "m", device="cpu")
    assert again.spec == model.spec == zoo.get_spec(name)
    compared = 0
    for _, item in writing.samples(model):
        try:
            expected = model.encode(item)
        except InputError:
            continue
        assert torch.equal(again.encode(item), expected)
        compared += 1
    assert compared >= len(model.spec.modalities)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_weights_come_back(dtype: torch.dtype, tmp_path: Path) -> None:
    model = zoo.build_model("clip-test")
    model.save_pretrained(tmp_path / "stored", dtype)
    assert {tensor.dtype for tensor in load_file(tmp_path / "stored" / "model.safetensors").values()} == {dtype}
    model.to(dtype).save_pretrained(tmp_path / "kept")
    assert torch.equal(
        zoo.load_model(tmp_path / "stored", device="cpu").encode(TEXTS),
        zoo.load_model(tmp_path / "kept", device="cpu").encode(TEXTS),
    )


def test_a_model_without_its_tokenizer_is_written_all_the_same(tmp_path: Path) -> None:
    encoder = StaticText(50, 8, None)
    model = Embedder(text_spec("bare", encoder, 8), [Tower(encoder, Mean(), Identity())])
    model.save_pretrained(tmp_path / "m")
    assert torch.equal(zoo.load_model(tmp_path / "m").towers[0].encoder.table.weight.cpu(), encoder.table.weight)


def test_opening_again_takes_no_second_copy_and_no_random_numbers(tmp_path: Path) -> None:
    model = zoo.build_model("text-test")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    model.save_pretrained(tmp_path / "m")
    assert torch.equal(torch.rand(4), expected)
    again = zoo_native.reopened(tmp_path / "m", model)
    mine = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    assert {name: weight.data_ptr() for name, weight in again.named_parameters()} == mine


# ------------------------------------------------------------------------------------------- whole and equal, or not


def lower_lost(self: TransformersText) -> dict:
    return {**_CONFIG(self), "lower": not self.lower}


def refused(self: TransformersText) -> dict:
    return {**_CONFIG(self), "config": {**self.settings, "_attn_implementation": "org/kernel"}}


_CONFIG = TransformersText.config


@pytest.mark.parametrize(
    ("config", "reason"), [(lower_lost, "another vector of a text"), (refused, "cannot be opened")]
)
def test_what_does_not_come_back_is_not_written(
    config: Callable, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A description that loses a setting, and one that our own schema refuses: the old folder stays as it was."""
    folder = zoo.build_model("mini-test").save_pretrained(tmp_path / "m")
    before = files(tmp_path)
    model = tiny_backbone("bert")
    monkeypatch.setattr(TransformersText, "config", config)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(NotSavedError, match=reason) as caught:
            model.save_pretrained(target)
        assert str(target) in str(caught.value)
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    model = zoo.build_model("text-test")
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    with pytest.raises(NotSavedError, match="NaN"):
        model.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_file_that_holds_other_weights_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bit_flipped(tensors: dict, path: Path) -> None:
        name = next(name for name in tensors if name.endswith("weight"))
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[0] += 1e-3
        save_file(tensors, path)

    monkeypatch.setattr(writing, "save_tensors", bit_flipped)
    with pytest.raises(NotSavedError, match="other weights"):
        zoo.build_model("text-test").save_pretrained(tmp_path / "m")


@pytest.mark.parametrize("blocked", ["tokenizer.json", "config.json"])
def test_where_one_file_cannot_be_put_in_place_none_is(blocked: str, tmp_path: Path) -> None:
    folder = zoo.build_model("mini-test").save_pretrained(tmp_path / "m")
    (folder / blocked).unlink()
    (folder / blocked / "inside").mkdir(parents=True)
    before = files(folder)
    with pytest.raises(OSError, match=blocked):
        zoo.build_model("text-test").save_pretrained(folder)
    assert files(folder) == before
    assert (folder / blocked / "inside").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("layout", ["ours", "sentence-transformers"])
def test_a_save_that_was_killed_half_way_is_no_model(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of the renames: nothing is put back, as after a kill. What was there before may be of any layout."""
    first, second = zoo.build_model("text-test"), zoo.build_model("mini-test")
    moved, whole = os.replace, tmp_path / "whole"
    first.save_pretrained(whole) if layout == "ours" else exports.export(first, whole)
    renames = len(files(second.save_pretrained(tmp_path / "second")))
    monkeypatch.setattr(writing, "_prove", lambda *_: None)  # seconds, and another test's
    for count in range(renames):
        folder, done = Path(shutil.copytree(whole, tmp_path / f"m{count}")), iter(range(count))

        def until_killed(source: Path, target: Path, done: Iterator[int] = done) -> None:
            if next(done, None) is None:
                raise KeyboardInterrupt
            moved(source, target)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(writing.os, "replace", until_killed)
            second.save_pretrained(folder)
        with pytest.raises(UnrecognisedCheckpointError, match="save the model into it again"):
            zoo.load_model(folder)
        second.save_pretrained(folder)
        assert not (folder / HALF_SAVED).exists()
        assert torch.equal(zoo.load_model(folder, device="cpu").encode(TEXTS), second.encode(TEXTS))


def test_what_was_saved_there_before_changes_nothing(tmp_path: Path) -> None:
    """Another tokenizer's settings, shards and facts of an earlier model lie in the folder."""
    folder = tmp_path / "m"
    exports.export(zoo.build_model("modernbert-test"), folder)
    shutil.copytree(folder, folder / "tower0", ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    model = zoo.build_model("mini-test")
    with pytest.warns(UserWarning, match=r"also holds modules\.json"):
        model.save_pretrained(folder)
    again = zoo.load_model(folder, device="cpu")
    assert again.spec == model.spec
    assert torch.equal(again.encode(TEXTS), model.encode(TEXTS))
    assert not {"zoo.json", "tokenizer_config.json", "model-00001-of-00002.safetensors"} & set(os.listdir(folder))
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("")
    with pytest.raises(NotSavedError, match="is a file"):
        zoo.build_model("text-test").save_pretrained(tmp_path / "m")


# ------------------------------------------------------------------------------------------------------- the schema


def test_a_private_key_is_a_number_of_the_shape_or_refused(tmp_path: Path) -> None:
    folder = tiny_backbone("gemma3_text").save_pretrained(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    inner = config["towers"][0]["encoder"]["config"]
    assert inner["_sliding_window_pattern"] == 6
    for key, value in (("_sliding_window_pattern", "org/kernel"), ("_experts_implementation", 1), ("_x", 6)):
        inner[key] = value
        with pytest.raises(UnsafeCheckpointError, match=key):
            check_config(config, "config.json")
        inner.pop(key)


@pytest.mark.slow
def test_every_private_key_of_transformers_configurations_is_known() -> None:
    """A new version's new key fails here, before a user's model cannot be opened again."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

    from zoo.formats.checks import config_schema

    known, found = {*config_schema._INERT, *config_schema._SHAPE, "_label_trainable_num_channels"}, {}
    for kind in CONFIG_MAPPING_NAMES:
        try:
            config = CONFIG_MAPPING[kind]().to_dict()
        except Exception:  # some have no defaults
            continue
        keys = {key for part in (config, *config.values()) if isinstance(part, dict) for key in part}
        if private := {key for key in map(str, keys) if key.startswith("_")} - known:
            found[kind] = private
    assert found == {}


# --------------------------------------------------------------------------------------------------- who may read it


@pytest.fixture(params=[0o002, 0o027])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_and_folders_are_as_open_as_the_umask_leaves_them(mask: int, tmp_path: Path) -> None:
    """Everything that writes safetensors, or writes aside and renames."""
    from zoo.training import Pair, adapters, checkpoint
    from zoo.training.vector_cache import _write

    from zoo import files
    from zoo.evaluation.results import Result, write_results
    from zoo.publishing import certificate
    from zoo.publishing.exports import timm
    from zoo.tables import webdataset, write_pairs

    model = zoo.build_model("text-test")
    model.save_pretrained(tmp_path / "new")
    (tmp_path / "old").mkdir()
    model.save_pretrained(tmp_path / "old")
    certificate.make(model, halves=()).save(tmp_path / "new")
    for name in ("text-test", "clip-test"):
        exports.export(zoo.build_model(name), tmp_path / "exports" / name)
    timm.write(zoo.build_model("image-test"), tmp_path / "exports" / "timm")
    adapted = adapters.add_lora(zoo.build_model("text-test"), adapters.Lora())
    adapters.save_adapter(adapted, tmp_path / "adapters")
    checkpoint.save_checkpoint(tmp_path / "checkpoints", 1, {"weights": torch.zeros(3)})
    files.write_json(tmp_path / "facts.json", {})
    write_pairs([Pair(zoo.Item(text="a"), zoo.Item(text="b"))], tmp_path / "pairs.jsonl")
    index = webdataset.ShardIndex(np.array(["a"]), ["text"], np.zeros((1, 1)), np.zeros((1, 1)))
    webdataset._keep(index, tmp_path / "index.npz")
    files.write(tmp_path / "shard", b"x")
    with files.writing(tmp_path / "aside") as aside:
        aside.write_text("x")
    with files.writing_folder(tmp_path / "together") as draft:
        (draft / "one").write_text("x")
    write_results(tmp_path / "results.json", [Result("emoji", "retrieval", "recall@1", 0.5)])
    _write(tmp_path / "vectors", 0, b"x")
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert sum(path.suffix == ".safetensors" for path in modes) >= 9
    wrong = {
        str(path.relative_to(tmp_path)): oct(mode)
        for path, mode in modes.items()
        if mode != (0o777 if path.is_dir() else 0o666) & ~mask
    }
    assert wrong == {}
