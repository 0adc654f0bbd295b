"""Layouts of other packages: what is registered is held to what a layout is, and one that fails is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.errors import ArgumentError, UnrecognisedCheckpointError
from zoo.formats import layout as layouts
from zoo.formats.layout import Layout, Opening, all_layouts, register_layout


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "_LAYOUTS", {one.name: one for one in all_layouts()})


def _layout(**facts: Any) -> type[Layout]:
    class Acme(Layout):
        """Reads anything, badly."""

        name, order, looked_for = "acme", -1, "acme: anything"

        def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
            return True

        def files(self, names: set[str]) -> list[str]:
            return sorted(names)

        def load(self, folder: Path, opening: Opening) -> Any:
            return {"not": "an embedder"}

    for fact, value in facts.items():
        setattr(Acme, fact, value)
    return Acme


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"name": "hf"}, "needs a name"),  # "hf:…" would never come to it
        ({"name": "Acme 2"}, "needs a name"),
        ({"name": None}, "needs a name"),
        ({"looked_for": None}, "looked_for"),
        ({"told": frozenset({"sequences"})}, "to be told 'sequences'"),
        ({"name": "timm"}, "two layouts are called 'timm'"),
    ],
)
def test_what_is_no_layout_is_not_registered(facts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        register_layout(_layout(**facts))
    with pytest.raises(ArgumentError, match="decorates a class"):
        register_layout(dict)  # type: ignore[type-var]


def test_a_layout_that_fails_is_named_and_no_other_reads_in_its_place(tmp_path: Path) -> None:
    def fails(self: Layout, names: set[str], read_json: Any) -> bool:
        raise KeyError("acme_version")

    zoo.build_model("text-test").save_pretrained(tmp_path / "m")
    register_layout(_layout(recognise=fails))
    with pytest.raises(
        UnrecognisedCheckpointError, match=r"layout 'acme' \(.*\) cannot say .*KeyError: 'acme_version'"
    ):
        zoo.load_model(tmp_path / "m", device="cpu")


def test_a_layout_that_gives_no_model_is_named(tmp_path: Path) -> None:
    register_layout(_layout())
    with pytest.raises(UnrecognisedCheckpointError, match=r"layout 'acme' .* made a dict of"):
        zoo.load_model(tmp_path, device="cpu")
