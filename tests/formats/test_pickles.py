"""`allow_pickle=True` reaches every module of a checkpoint, and a pickle is never taken where safetensors lie beside it."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

import zoo
from tests.reference import TEXTS, sentence_models
from zoo.errors import MissingWeightsError, UnsafeCheckpointError, ZooError

PLACES = ("", "2_Dense", "3_LayerNorm")


@pytest.fixture(scope="module")
def good(good: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Besides those of every file "layers": sentence-transformers' with weights in two modules after the pooling."""
    layers = tmp_path_factory.mktemp("layers")
    sentence_models._write(layers, Pooling(32, "mean"), Dense(32, 12), LayerNorm(12), Normalize())
    return lambda name: layers if name == "layers" else good(name)


def to_pickle(folder: Path, shards: int = 0) -> None:
    """model.safetensors becomes pytorch_model.bin, whole or as shards with their index."""
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    weights.unlink()
    if not shards:
        torch.save(tensors, folder / "pytorch_model.bin")
        return
    places = {name: f"pytorch_model-{i % shards + 1:05d}-of-{shards:05d}.bin" for i, name in enumerate(sorted(tensors))}
    for file in sorted(set(places.values())):
        torch.save({name: tensors[name] for name, place in places.items() if place == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("shards", [0, 2])
@pytest.mark.parametrize("place", PLACES)
def test_every_module_opens_from_an_allowed_pickle(place: str, shards: int, copy: Callable[[str], Path]) -> None:
    folder = copy("layers")
    expected = SentenceTransformer(str(folder), device="cpu").encode(list(TEXTS), convert_to_tensor=True)
    to_pickle(folder / place, shards)
    with pytest.raises(UnsafeCheckpointError, match="allow_pickle=True") as caught:
        zoo.load_model(folder)
    assert str(folder / place) in str(caught.value)
    found = zoo.load_model(folder, device="cpu", allow_pickle=True).encode(list(TEXTS))
    assert (found - expected).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["sentence-static", "sentence-static-mapped", "sentence-clip-2021"])
def test_tables_and_inner_folders_open_from_an_allowed_pickle(name: str, copy: Callable[[str], Path]) -> None:
    folder = copy(name)
    expected = zoo.load_model(folder, device="cpu").encode(list(TEXTS))
    to_pickle(next(folder.rglob("model.safetensors")).parent)
    with pytest.raises(UnsafeCheckpointError, match="pickle"):
        zoo.load_model(folder)
    assert torch.equal(zoo.load_model(folder, device="cpu", allow_pickle=True).encode(list(TEXTS)), expected)


def test_all_modules_as_pickles(copy: Callable[[str], Path]) -> None:
    folder = copy("layers")
    expected = zoo.load_model(folder, device="cpu").encode(list(TEXTS))
    for place in PLACES:
        to_pickle(folder / place)
    assert torch.equal(zoo.load_model(folder, device="cpu", allow_pickle=True).encode(list(TEXTS)), expected)


class Hostile:
    def __reduce__(self) -> tuple:
        return (print, ("ran",))


def _hostile(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(), protocol=2))


def _not_a_number(folder: Path) -> None:
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    tensors["linear.weight"][0, 0] = float("nan")
    torch.save(tensors, folder / "pytorch_model.bin")


def _other_shape(folder: Path) -> None:
    torch.save({"linear.weight": torch.zeros(3, 3)}, folder / "pytorch_model.bin")


def _cut(folder: Path) -> None:
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize("spoil", [_hostile, _not_a_number, _other_shape, _cut])
def test_a_bad_pickle_of_a_module_is_named(
    spoil: Callable[[Path], None], copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy("layers")
    to_pickle(folder / "2_Dense")
    spoil(folder / "2_Dense")
    with pytest.raises(ZooError, match="2_Dense"):
        zoo.load_model(folder, allow_pickle=True)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("index", ["../model.bin", "/model.bin", "model.pt"])
def test_shards_lie_beside_their_index(index: str, copy: Callable[[str], Path]) -> None:
    folder = copy("layers")
    to_pickle(folder / "2_Dense", shards=2)
    path = folder / "2_Dense" / "pytorch_model.bin.index.json"
    path.write_text(json.dumps({"weight_map": {"linear.weight": index}}))
    with pytest.raises(UnsafeCheckpointError, match="outside the folder"):
        zoo.load_model(folder, allow_pickle=True)


def test_a_missing_shard_is_named(copy: Callable[[str], Path]) -> None:
    folder = copy("layers")
    to_pickle(folder / "2_Dense", shards=2)
    (folder / "2_Dense" / "pytorch_model-00001-of-00002.bin").unlink()
    with pytest.raises(MissingWeightsError, match="00001-of-00002"):
        zoo.load_model(folder, allow_pickle=True)


# --------------------------------------------------------------------------------- two libraries' files in one folder


def lay_open_clip_beside(folder: Path, good: Callable[[str], Path], pickled: bool) -> None:
    """open_clip's configuration and weights into another library's folder, the weights as its pickle or safetensors."""
    source = good("open_clip-clip")
    shutil.copy(source / "open_clip_config.json", folder)
    if pickled:
        torch.save(load_file(source / "open_clip_model.safetensors"), folder / "open_clip_pytorch_model.bin")
    else:
        shutil.copy(source / "open_clip_model.safetensors", folder)


@pytest.mark.parametrize("allowed", [False, True])
def test_transformers_safetensors_are_taken_before_open_clips_pickle(
    allowed: bool, good: Callable[[str], Path], copy: Callable[[str], Path]
) -> None:
    folder = copy("transformers-clip")
    expected = zoo.load_model(folder, device="cpu").encode(list(TEXTS))
    lay_open_clip_beside(folder, good, pickled=True)
    found = zoo.load_model(folder, device="cpu", allow_pickle=allowed).encode(list(TEXTS))
    assert torch.equal(found, expected)


def test_open_clips_safetensors_are_taken_before_transformers_pickle(
    good: Callable[[str], Path], copy: Callable[[str], Path]
) -> None:
    folder = copy("transformers-clip")
    to_pickle(folder)
    lay_open_clip_beside(folder, good, pickled=False)
    expected = zoo.load_model(good("open_clip-clip"), device="cpu").encode(list(TEXTS))
    assert torch.equal(zoo.load_model(folder, device="cpu").encode(list(TEXTS)), expected)


def test_timms_safetensors_are_not_the_weights_of_open_clips_pickle(
    good: Callable[[str], Path], copy: Callable[[str], Path]
) -> None:
    """timm's repositories of CLIP towers: model.safetensors is the image tower alone."""
    folder = copy("timm-vit")
    lay_open_clip_beside(folder, good, pickled=True)
    with pytest.raises(UnsafeCheckpointError, match=r"open_clip_pytorch_model\.bin"):
        zoo.load_model(folder)
    expected = zoo.load_model(good("open_clip-clip"), device="cpu").encode(list(TEXTS))
    assert torch.equal(zoo.load_model(folder, device="cpu", allow_pickle=True).encode(list(TEXTS)), expected)


def test_a_pickle_of_transformers_opens_beside_another_librarys_safetensors(
    good: Callable[[str], Path], copy: Callable[[str], Path]
) -> None:
    """Which of its own files transformers takes does not depend on whose safetensors lie there too."""
    folder = copy("transformers-bert")
    expected = zoo.load_model(folder, device="cpu").encode(list(TEXTS))
    to_pickle(folder)
    shutil.copy(good("open_clip-clip") / "open_clip_model.safetensors", folder / "other.safetensors")
    assert torch.equal(zoo.load_model(folder, device="cpu", allow_pickle=True).encode(list(TEXTS)), expected)
