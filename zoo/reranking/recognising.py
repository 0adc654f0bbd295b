"""Whether a folder is one of a reranker, by its configuration files alone (standard library)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import UnrecognisedCheckpointError
from zoo.formats import read_json, read_object
from zoo.formats.checks.config_schema import RERANKER
from zoo.formats.known.sentence_transformers import MODULES_FILE, SETTINGS_FILE

CLASSIFIES = "ForSequenceClassification"


def settings_of(folder: Path) -> dict[str, Any]:
    """What config_sentence_transformers.json says, {} without the file."""
    file = folder / SETTINGS_FILE
    return read_object(file) if file.is_file() else {}


def is_cross_encoder(config: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether these are a config.json and config_sentence_transformers.json of a cross-encoder.

    That is a model that classifies, or what sentence-transformers calls so, unless it generates text.
    """
    names = config.get("architectures")
    names = [str(name) for name in names] if isinstance(names, list) else []
    if any(name.endswith(CLASSIFIES) for name in names):
        return True
    generates = any(name.endswith(("ForCausalLM", "ForConditionalGeneration")) for name in names)
    return settings.get("model_type") == "CrossEncoder" and not generates


def says_reranker(folder: Path) -> bool:
    """Whether a folder says itself that it is a reranker's: one that the zoo saved, or a cross-encoder."""
    config = folder / "config.json"
    if not config.is_file():
        return False
    facts = read_object(config)
    return RERANKER in facts or is_cross_encoder(facts, settings_of(folder))


def refuse_embedder(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises UnrecognisedCheckpointError where a folder is an embedder's: one that the zoo saved, or one that pools."""
    rows = read_json(folder / MODULES_FILE) if (folder / MODULES_FILE).is_file() else []
    kinds = [str(row.get("type", "")).rpartition(".")[2] for row in rows if isinstance(row, dict)]
    if "towers" in config or "Pooling" in kinds or settings_of(folder).get("model_type") == "SentenceTransformer":
        raise UnrecognisedCheckpointError(
            f"{folder} is an embedder, which gives vectors and no scores, so no reranker: zoo.load_model opens it"
        )
