"""Whether a cached snapshot holds all that its layout reads, where nobody listed the repository's files.

Another library fetches what it reads itself: transformers takes a sentence-transformers repository's backbone and leaves its
pooling and dense layers on the Hub. What lies there would load, and give other vectors.
"""

import re
from pathlib import Path

from zoo.formats import read_json, weight_files
from zoo.formats.backbones import native
from zoo.formats.known.sentence_transformers import FIRST, MODULES_FILE, SETTINGS_FILE
from zoo.formats.transformers import PICKLES, TEXT

_SENTENCE = re.compile(r"sentence_[\w-]+_config\.json")
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
_WITH_WEIGHTS = (*FIRST, "Dense", "LayerNorm")
_WITH_CONFIG = ("Transformer", "CLIPModel", "Pooling", "Dense", "LayerNorm")


def missing(snapshot: Path, names: set[str], absent: set[str]) -> list[str]:
    """Files that the repository has, or may have, and that the snapshot lacks; [] where it is whole.

    modules.json says which folders there are; a repository that is known to have none is its backbone alone. What steers a
    load and may be left out (prompts, limits, the tokenizer's settings) must be there or be known not to exist.

    Args:
        names: files of the snapshot. absent: files that the repository is known not to have.
    """
    if MODULES_FILE not in names | absent:
        return [MODULES_FILE]
    wanted: set[str] = set()
    modules = [("Transformer", "")]
    if MODULES_FILE in names:
        rows = read_json(snapshot / MODULES_FILE)
        rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        modules = [(str(row.get("type", "")).rpartition(".")[2], str(row.get("path", "")).strip("./")) for row in rows]
        wanted.add(SETTINGS_FILE)
    for kind, folder in modules:
        wanted |= _of_module(snapshot, kind, f"{folder}/" if folder else "", names, MODULES_FILE in names)
    return sorted(wanted - names - absent)


def _of_module(snapshot: Path, kind: str, prefix: str, names: set[str], settings: bool) -> set[str]:
    """Files that one module has for certain, or has where it is not known to have none."""
    wanted = {f"{prefix}config.json"} if kind in _WITH_CONFIG else set()
    if kind in _WITH_WEIGHTS:
        wanted |= _weights(snapshot, prefix, names)
    if kind not in FIRST:
        return wanted
    if not any(place + file in names for place in (prefix, "") for file in _VOCABULARIES):
        wanted.add(f"{prefix}tokenizer.json")
    if kind == "StaticEmbedding":
        return wanted
    if not any(place + "tokenizer_config.json" in names for place in (prefix, "")):
        wanted.add(f"{prefix}tokenizer_config.json")
    if kind == "Transformer" and settings and not any(_SENTENCE.fullmatch(n.removeprefix(prefix)) for n in names):
        wanted.add(f"{prefix}sentence_bert_config.json")
    config = read_json(snapshot / prefix / "config.json") if f"{prefix}config.json" in names else {}
    if isinstance(config, dict) and native(config).get("model_type") not in TEXT:
        wanted |= {f"{prefix}preprocessor_config.json", f"{prefix}processor_config.json"}
    return wanted


def _weights(snapshot: Path, prefix: str, names: set[str]) -> set[str]:
    """The weights of a folder, every shard of them."""
    found = weight_files(names, "model", PICKLES, prefix.rstrip("/"))
    if not found:
        return {f"{prefix}model.safetensors"}
    wanted: set[str] = set()
    for file in found:
        if file.endswith(".index.json"):
            index = read_json(snapshot / file)
            shards = index.get("weight_map") if isinstance(index, dict) else None
            wanted |= {prefix + str(shard) for shard in (shards.values() if isinstance(shards, dict) else ())}
        elif shard := re.fullmatch(r"(.+)-\d+-of-\d+(\.\w+)", file):
            wanted.add(f"{shard[1]}{shard[2]}.index.json")
    return wanted
