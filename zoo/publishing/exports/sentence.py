"""The files that make a folder a sentence-transformers model: modules.json, prompts, settings; written without it."""

from pathlib import Path
from typing import Any

from zoo import files
from zoo.prompts import ALIASES, name_for
from zoo.spec import ModelSpec

POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
DENSE = "sentence_transformers.base.modules.dense.Dense"
LAYER_NORM = "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm"
NORMALIZE = "sentence_transformers.base.modules.normalize.Normalize"


def write_json(path: Path, value: Any) -> None:
    """One JSON file, readable, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, value)


def write_modules(folder: Path, modules: list[tuple[str, str]]) -> None:
    """modules.json from pairs of a class and the folder of its files, "" for the root."""
    rows = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (kind, path) in enumerate(modules)]
    write_json(folder / "modules.json", rows)


def write_settings(folder: Path, spec: ModelSpec, requirements: dict[str, str] | None = None) -> None:
    """config_sentence_transformers.json: prompts by role, the default one, the similarity, packages that it needs."""
    # sentence-transformers knows no other name for a role than its own.
    roles = {role: spec.prompts[name] for role in ALIASES if (name := name_for(spec, role)) is not None}
    prompts = {**spec.prompts, **roles}
    settings: dict[str, Any] = {
        "model_type": "SentenceTransformer",
        "__version__": {},
        "prompts": prompts,
        "default_prompt_name": spec.default_prompt_name,
        "similarity_fn_name": spec.similarity,
    }
    if requirements:
        settings["requirements"] = requirements
    write_json(folder / "config_sentence_transformers.json", settings)


def write_facts(folder: Path, spec: ModelSpec) -> None:
    """zoo.json: what the other libraries' own files do not say about the model (see `zoo.loading`)."""
    write_json(folder / "zoo.json", {"format": 1, "spec": spec.to_dict()})
