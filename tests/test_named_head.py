"""The head Named: names weighted by a classifier's probabilities, against numpy; saved and opened again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo import Embedder
from zoo.embedder import Tower
from zoo.heads import Named
from zoo.pooling import Cls


def head(width: int = 6, dim: int = 4, classes: int = 5, **settings: float) -> Named:
    made = Named(width, dim, classes, **settings)
    nn.init.normal_(made.names)
    return made


@pytest.mark.parametrize(("gain", "temperature"), [(1.0, 1.0), (2.3, 2.0), (0.5, 0.1)])
def test_vectors_are_those_of_the_formula(gain: float, temperature: float) -> None:
    made, vectors = head(gain=gain, temperature=temperature).double(), torch.randn(3, 6, dtype=torch.float64)
    state, inputs = {name: value.numpy() for name, value in made.state_dict().items()}, vectors.numpy()
    weights = np.exp((inputs @ state["classify.weight"].T + state["classify.bias"]) / temperature)
    weights /= weights.sum(1, keepdims=True)
    expected = inputs @ state["project.weight"].T + state["project.bias"] + gain * weights @ state["names"]
    torch.testing.assert_close(made(vectors), torch.from_numpy(expected), atol=1e-12, rtol=0)


def test_a_sure_classifier_gives_the_name_and_one_that_knows_nothing_gives_their_mean() -> None:
    made, vectors = head(), torch.randn(3, 6)
    nn.init.zeros_(made.classify.weight)
    nn.init.zeros_(made.classify.bias)
    torch.testing.assert_close(made.named(vectors), made.names.mean(0).expand(3, -1))
    with torch.no_grad():
        made.classify.bias[2] = 1000
    assert torch.equal(made.named(vectors), made.names[2].expand(3, -1))


def test_without_gain_it_is_its_projection() -> None:
    made, vectors = head(gain=0.0), torch.randn(3, 6)
    assert torch.equal(made(vectors), made.project(vectors))
    assert not torch.equal(head(gain=0.1)(vectors), made.project(vectors))


def test_it_is_saved_and_opened(tmp_path: Path) -> None:
    mini = zoo.build_model("mini-test")
    image, text = mini.towers
    named = head(image.encoder.width, mini.spec.dim, classes=7, gain=2.3, temperature=2.0)
    model = Embedder(replace(mini.spec, name="named"), [Tower(image.encoder, Cls(), named), text]).eval()
    again = zoo.load_model(model.save_pretrained(tmp_path / "model"), device="cpu")
    opened = again.towers[0].head
    assert isinstance(opened, Named)
    assert opened.config() == {
        "width": image.encoder.width,
        "dim": mini.spec.dim,
        "classes": 7,
        "gain": 2.3,
        "temperature": 2.0,
    }
    assert opened.state_dict().keys() == named.state_dict().keys()
    assert all(torch.equal(value, named.state_dict()[name]) for name, value in opened.state_dict().items())
    photo = np.arange(40 * 40 * 3, dtype=np.uint32).reshape(40, 40, 3).astype(np.uint8)
    assert torch.equal(again.encode(zoo.Item(image=photo)), model.encode(zoo.Item(image=photo)))
