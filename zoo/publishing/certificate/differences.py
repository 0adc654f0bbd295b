"""Where another library, by its own rules, does something else with the same files; known, so that it is no false alarm."""

import json
import warnings
from pathlib import Path
from typing import Any

from zoo.errors import UnrecognisedCheckpointError
from zoo.formats import read_json
from zoo.formats.earlier import current
from zoo.prompts import Role, for_role, text_of
from zoo.spec import ModelSpec

ROLES: tuple[Role, ...] = ("query", "document")
# Facts that a copy of a folder may change without being another model.
_PLACE = ("name", "hub_id", "revision", "source", "packaged", "recipe")


def role_text(spec: ModelSpec, role: Role) -> str:
    """What the zoo puts before a query or a document."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said to whoever encodes
        return text_of(spec, **for_role(spec, role))


def by_role(folder: Path, spec: ModelSpec) -> dict[str, dict[str, str]]:
    """Library → role → how its call for that role differs from ours, in a sentence; only where it does.

    sentence-transformers knows a role by its own name alone: its `prompts` hold empty ones from the start.
    """
    settings = _json(folder / "config_sentence_transformers.json")
    if not (folder / "modules.json").is_file():
        return {}
    theirs = dict.fromkeys(ROLES, "") | {
        k: v for k, v in _object(settings.get("prompts")).items() if isinstance(v, str)
    }
    found = {}
    for role in ROLES:
        if theirs[role] != (ours := role_text(spec, role)):
            found[role] = (
                f"encode_{role} of sentence-transformers puts {theirs[role]!r} before a text, that of the zoo {ours!r}; not "
                "compared"
            )
    return {"sentence-transformers": found} if found else {}


def by_dtype(folder: Path) -> str:
    """A sentence where other libraries compute in half precision by default, "" where they do not."""
    config = _json(folder / "config.json")
    stored = config.get("dtype") or config.get("torch_dtype")
    if config.get("model_type") == "zoo" or stored not in ("float16", "bfloat16"):
        return ""
    return (
        f"the weights are stored as {stored}: transformers and sentence-transformers compute and answer in it unless told "
        "dtype=torch.float32, which is what the zoo does by itself and what is compared here"
    )


def facts_of(spec: ModelSpec) -> dict[str, Any]:
    """The facts that a certificate states, as JSON has them."""
    return {key: value for key, value in json.loads(spec.to_json()).items() if key not in _PLACE}


def changed_facts(stored: dict[str, Any], spec: ModelSpec) -> list[str]:
    """A sentence for each fact that is not what the certificate states."""
    now, stored = facts_of(spec), _in_todays_words(stored)
    plain = facts_of(ModelSpec(name="a", modalities=frozenset({"text"}), dim=1, license="b"))
    keys = [key for key in now if now[key] != stored.get(key, plain.get(key))]
    keys += [key for key in stored if key not in now and stored[key] != plain.get(key)]
    return [
        f"the model's {key} is {str(now.get(key))[:80]}; the certificate was made with {str(stored.get(key))[:80]}"
        for key in keys
    ]


def _in_todays_words(stored: dict[str, Any]) -> dict[str, Any]:
    """The facts of a certificate made before 0.2; those that make no sense as they are, so that they differ."""
    try:
        return current({"spec": stored}, "the certificate")["spec"]
    except UnrecognisedCheckpointError:
        return stored


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path) if path.is_file() else {}
    except UnrecognisedCheckpointError:
        return {}
    return _object(value)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
