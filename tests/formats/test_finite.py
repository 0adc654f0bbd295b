"""Weights are found to be finite in their file, and so a mapped checkpoint stays out of memory until it is used."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from tests.reference.sentence_models import write_dense
from zoo.errors import MissingWeightsError
from zoo.formats import transformers
from zoo.formats.checks import safetensors_checks
from zoo.formats.checks.safetensors_checks import all_finite


@pytest.fixture(autouse=True)
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_checks, "_BUFFER", 64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("at", [0, 31, 32, 99])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_every_place_of_every_type(dtype: torch.dtype, at: int, bad: float, tmp_path: Path) -> None:
    good = {"a": torch.ones(7, dtype=dtype), "ids": torch.arange(5), "b": torch.ones(10, 10, dtype=dtype)}
    path = tmp_path / "model.safetensors"
    save_file(good, path)
    assert all_finite(path, dtype)
    good["b"].view(-1)[at] = bad
    save_file(good, path)
    assert not all_finite(path, dtype)


def test_another_type_is_looked_at_once_it_is_loaded(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "model.safetensors")
    assert not all_finite(tmp_path / "model.safetensors", torch.float16)  # 1e9 is finite in float32 alone


def test_a_good_checkpoint_is_told_so_by_its_files_and_a_bad_one_by_the_name_of_its_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    write_dense(folder)
    looked: list[Path] = []
    monkeypatch.setattr(transformers, "check_finite", lambda model, where: looked.append(where))
    zoo.load_model(folder)
    assert not looked
    monkeypatch.undo()
    path = next(folder.rglob("model.safetensors"))
    state = load_file(path)
    name = next(key for key, value in state.items() if value.is_floating_point())
    save_file({**state, name: state[name] * float("inf")}, path, {"format": "pt"})
    with pytest.raises(MissingWeightsError, match="NaN or infinite"):
        zoo.load_model(folder)
