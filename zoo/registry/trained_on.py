"""What published models were trained on, as mteb's registry records it: names of its tasks whose data the authors used.

`python -m zoo.publishing.cards.trained_on` writes trained_on.json anew from the mteb that is installed.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("trained_on.json")


@cache
def _records() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def trained_on(hub_id: str) -> tuple[str, ...] | None:
    """mteb's tasks whose data a model was trained on, sorted, their variants included: figures on these are not zero-shot.

    Args:
        hub_id: "org/name" on the Hugging Face Hub.

    Returns:
        () where mteb says that none were; None where it says nothing, or does not know the model.
    """
    names = _records()["models"].get(hub_id)
    return None if names is None else tuple(names)


def source() -> str:
    """Where the records were read: "mteb 2.26.24"."""
    return _records()["source"]
