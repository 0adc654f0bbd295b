"""Checkpoint layouts, one file each behind one protocol (`layout.Layout`), recognised by a checkpoint's own configuration files.

A layout follows or refuses every setting of its files (`settings`; the settings themselves are listed in `known`). Before one
builds anything, the room `checks` looks over the folder and holds configuration and weights to what a model can be.
Here are the names of files that several layouts share, and how JSON is read.
"""

import re
from pathlib import Path
from typing import Any

from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.strangers.schema import parse

LONGEST_JSON = 4_000_000  # bytes; timm's with the names of 21,000 classes have half of it

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
HALF_SAVED = ".zoo-half-saved"  # lies in a folder while one model's files take the place of another's
PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
)


def weight_files(names: set[str], stem: str, pickles: tuple[str, ...], folder: str = "") -> list[str]:
    """Safetensors named `stem`, sharded or not, in a folder of the checkpoint; else the pickles there, sharded or not."""
    prefix = f"{folder}/" if folder else ""
    found = sorted(
        n
        for n in names
        if n == f"{prefix}{stem}.safetensors"
        or (n.startswith(f"{prefix}{stem}-") and n.endswith(".safetensors"))
        or n == f"{prefix}{stem}.safetensors.index.json"
    )
    kinds = "|".join(re.escape(pickle.removesuffix(".bin")) for pickle in pickles if pickle.endswith(".bin"))
    shard = re.compile(rf"{re.escape(prefix)}({kinds})(-\d+-of-\d+\.bin|\.bin\.index\.json)")
    return found or sorted(n for n in names if n in {prefix + pickle for pickle in pickles} or shard.fullmatch(n))


def check_weights(files: list[str], where: str, looked_for: str, allow_pickle: bool) -> None:
    """Refuses a checkpoint without weights, and one whose weights only a pickle holds."""
    if not files:
        raise MissingWeightsError(f"{where} has no weights ({looked_for}); a model is never loaded with random weights")
    if not any(file.endswith(".safetensors") for file in files) and not allow_pickle:
        raise UnsafeCheckpointError(
            f"{where} has its weights only as a pickle ({', '.join(files)}), which can run code when loaded. Convert it "
            "to safetensors, or pass allow_pickle=True if you trust its author"
        )


def read_json(path: Path) -> Any:
    """A JSON file as every reader understands it: UTF-8, no key twice, no NaN or infinity, not absurdly large or deep.

    Raises:
        UnrecognisedCheckpointError: it is otherwise; the message says how.
    """
    try:
        if (size := path.stat().st_size) > LONGEST_JSON:
            raise UnrecognisedCheckpointError(f"{path} has {size:,} bytes; no configuration is so large")
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise UnrecognisedCheckpointError(f"{path} cannot be read as JSON: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """`read_json` of a file that must hold a JSON object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UnrecognisedCheckpointError(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value
