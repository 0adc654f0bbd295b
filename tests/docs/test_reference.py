"""docs/reference/ has a place for every public name: of zoo, zoo.training, zoo.vectors, and for every loss and sampler."""

import re
from importlib import import_module
from pathlib import Path

import zoo.training
from zoo.training import samplers

import zoo
import zoo.vectors

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def shown() -> dict[str, object]:
    """Every object that a page shows, by the path that the page gives it."""
    found = {}
    for path in sorted(REFERENCE.glob("*.md")):
        for name in re.findall(r"^::: ([\w.]+)$", path.read_text("utf-8"), re.MULTILINE):
            assert name not in found, f"{name} has two places"
            module, _, last = name.rpartition(".")
            found[name] = getattr(import_module(module), last)
    return found


def test_every_public_name_has_a_place():
    places = shown()
    assert len(places) > 80
    known = set(map(id, places.values()))
    wanted = {
        f"{package.__name__}.{name}": getattr(package, name)
        for package in (zoo, zoo.training)
        for name in package.__all__
    }
    helpers = {
        "check_labels",
        "check_threshold",
        "check_export",
        "label_vectors",
        "middle_names",
    }  # of the command line
    wanted |= {f"zoo.vectors.{name}": getattr(zoo.vectors, name) for name in set(zoo.vectors.__all__) - helpers}
    modules = {"zoo.__version__", "zoo.training.recipes"}  # a string, and a package whose modules have the places
    assert sorted(name for name in set(wanted) - modules if id(wanted[name]) not in known) == []


def test_every_registered_loss_and_sampler_has_a_place():
    from zoo.training.losses.base import find_loss

    known = set(map(id, shown().values()))
    losses = {name: find_loss(name)[0] for name in zoo.training.list_losses()}
    assert sorted(name for name, made in losses.items() if id(made) not in known) == []
    said = {str(thing.__doc__).strip().splitlines()[0] for thing in shown().values() if isinstance(thing, type)}
    assert [name for name, about in samplers.describe_samplers() if about not in said] == []
