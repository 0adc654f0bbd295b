"""Any model → the zoo's own folder, with a few lines of Python for transformers and sentence-transformers.

The shipped files only import the installed zoo: what they do is mended by an upgrade, and nothing hides in a repository.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo._version import __version__
from zoo.encoders.tokenizing import MissingTokenizer
from zoo.formats import PROCESSOR_FILES, TOKENIZER_FILES
from zoo.formats.zoo_native import FOR_TRANSFORMERS
from zoo.publishing.exports import sentence
from zoo.strangers.folders import Place

if TYPE_CHECKING:
    from zoo.embedder import Embedder

_SHIPPED = '''"""{what}: the code is in the installed Embedding Zoo, this file only names it."""

try:
    from zoo.exports.{module} import {names}  # noqa: F401
except ImportError as error:
    raise ImportError(f"this model needs the Embedding Zoo ({{error}}); run: pip install embedding-zoo") from error
'''
FILES = {
    "configuration_zoo.py": _SHIPPED.format(
        what="Configuration for transformers", module="automodel", names="ZooConfig"
    ),
    "modeling_zoo.py": _SHIPPED.format(
        what="Model and processor for transformers", module="automodel", names="ZooModel, ZooProcessor"
    ),
    "zoo_module.py": _SHIPPED.format(what="Module of sentence-transformers", module="module", names="ZooModule"),
}


def unfit(model: "Embedder") -> str:
    """Why not even this form is possible, "" nearly always."""
    if any(isinstance(getattr(tower.encoder, "tokenize", None), MissingTokenizer) for tower in model.towers):
        return f"{model.spec.name} was built without its tokenizer; load it with load_model"
    return ""


def write(model: "Embedder", folder: Path) -> None:
    """The files of `save_pretrained`, auto_map and three short Python files, modules.json and prompts.

    With late interaction those of `save_pretrained` alone.
    """
    if model.spec.similarity == "maxsim":  # other libraries' loaders give one vector per item
        model.save_pretrained(folder)
        return
    write_root(model, folder)
    sentence.write_modules(folder, [("zoo_module.ZooModule", "")])
    sentence.write_settings(folder, model.spec, requirements={"embedding-zoo": f">={__version__}"})


def write_root(model: "Embedder", folder: Path) -> None:
    """What `write` writes, without sentence-transformers' own settings."""
    model.save_pretrained(folder)
    write_names(json.loads((folder / "config.json").read_text(encoding="utf-8")), folder)


def write_names(config: dict[str, Any], folder: Path) -> None:
    """config.json that names the classes for transformers, and the files that name them in the installed zoo."""
    sentence.write_json(folder / "config.json", config | FOR_TRANSFORMERS)
    for name, text in FILES.items():
        (Place.of(folder) / name).write(text.encode())


def has_only_our_code(folder: Path) -> bool:
    """Whether every Python file of a folder is, byte for byte, one that this zoo writes: running it runs the zoo."""
    return all(_is_ours(path) for path in folder.rglob("*.py"))


def _is_ours(path: Path) -> bool:
    ours = FILES.get(path.name, "").encode()
    return bool(ours) and path.is_file() and path.stat().st_size == len(ours) and path.read_bytes() == ours


def local_folder(name: str | Path, *, weights: bool = True, **options: Any) -> Path:
    """A folder as it is, a Hub repository's needed files in the local cache.

    Args:
        weights: whether they are needed.
        options: revision, token, cache_dir and the like, for huggingface_hub.

    Raises:
        HubError: the repository cannot be had.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    from zoo.hub import hub_call

    wanted = [
        "config.json",
        *(["model.safetensors"] if weights else []),
        "tower*/*",
        *TOKENIZER_FILES,
        *PROCESSOR_FILES,
    ]
    return Path(hub_call(f"hf:{name}", snapshot_download, str(name), allow_patterns=wanted, **options))
