"""Fuzz of certificate.json: loaded, and held to its model as far as nothing is computed."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.strangers.fuzz import mutated_json

GOOD: dict[str, Any] = {}


def prepare(folder: Path) -> None:
    """A saved model with its certificate."""
    import zoo
    from zoo.publishing import certificate

    zoo.build_model("mini-test").save_pretrained(folder / "model")
    model = zoo.load_model(folder / "model")
    certificate.make(model, halves=()).save(folder / "model")
    GOOD["facts"] = json.loads((folder / "model" / certificate.FILE).read_text())
    GOOD["goldens"], GOOD["model"] = certificate.inputs_of(model), model


def opens(folder: Path) -> None:
    """What `verify` does with it before it embeds anything."""
    from zoo.publishing.certificate import Certificate, checking

    found = Certificate.load(folder / "model")
    assert found is not None
    list(checking._facts(found, GOOD["model"], folder / "model", GOOD["goldens"], frozenset()))


def change(folder: Path, random: Random) -> None:
    """One to three facts of it."""
    (folder / "model" / "certificate.json").write_bytes(mutated_json(GOOD["facts"], random))
