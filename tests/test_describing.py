"""A model in a shell or notebook: what it says of itself, and what is said to those who know another library."""

import pytest
import torch

import zoo
from zoo import loading
from zoo.embedder.describing import ELSEWHERE
from zoo.errors import UnknownModelError


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    return zoo.build_model("clip-test")


@pytest.mark.parametrize("name", zoo.list_models("*-test"))
def test_a_model_is_five_lines(name):
    lines = repr(zoo.build_model(name)).splitlines()
    assert len(lines) == 5
    assert lines[0].endswith(name)
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["reads", "dim", "device", "towers"]


def test_the_lines_are_the_facts(model):
    lines = str(model).splitlines()
    assert lines[1] == "  reads: image, text"
    assert lines[2] == "  dim: 16"
    assert lines[3] == f"  device: cpu, {sum(p.numel() for p in model.parameters()):,} weights in float32"
    assert "image: " in lines[4]
    assert "text: " in lines[4]
    assert "in bfloat16" in repr(zoo.build_model("clip-test").to(torch.bfloat16))


def test_dir_shows_what_is_ours_and_each_of_it_is_there(model):
    names = dir(model)
    assert {"encode", "encode_query", "encode_stream", "rank", "spec", "towers", "device", "to", "eval"} <= set(names)
    assert not {name for name in names if name.startswith("_")}
    assert not {"register_forward_hook", "zero_grad", "half", "training", "T_destination"} & set(names)
    assert len(names) < 45
    for name in names:
        getattr(model, name)
    assert model.state_dict(), "what is not shown works all the same"


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_of_other_libraries_say_what_to_write(model, name):
    assert not hasattr(model, name)
    with pytest.raises(AttributeError, match=rf"clip-test has no '{name}'; write .*model\.\w+"):
        getattr(model, name)


def test_any_other_name_is_an_error_as_ever(model):
    with pytest.raises(AttributeError, match="'Embedder' object has no attribute 'encod'"):
        _ = model.encod


def test_models_for_tests_are_offered_to_those_who_ask():
    assert not [name for name in zoo.list_models() if name.endswith("-test")]
    assert "clip-test" in zoo.list_models(tests=True)
    assert "clip-test" in zoo.list_models("clip-test")
    with pytest.raises(UnknownModelError) as error:
        zoo.get_spec("clip-tset")
    assert "-test" not in str(error.value)
    with pytest.raises(UnknownModelError, match=r"nearest: .*clip-test"):
        zoo.get_spec("clipp-test")


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu"), (True, False, "cuda")]
)
def test_the_device_is_cudas_then_apples_then_the_cpu(monkeypatch, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert loading.best_device() == best


def test_load_model_asks_for_the_best_device(monkeypatch, tmp_path, model):
    asked = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(zoo.Embedder, "to", lambda self, device, dtype: asked.append(device) or self)
    zoo.load_model(model.save_pretrained(tmp_path / "m"))
    assert asked[-1] == torch.device("mps")
