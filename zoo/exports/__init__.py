"""A model → a folder that the zoo, transformers, sentence-transformers and open_clip all load with equal vectors.

A loader's module or entry has `serves(folder)`, `encode(folder, items, ...)` by that library's own public calls, and
`snippet(repo, spec)`; ours, transformers' and sentence-transformers' are in `readers.py`, the others have a file each.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UnrecognisedCheckpointError, ZooError
from zoo.items import Item
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zoo.embedder import Embedder

LOADERS = ("zoo", "transformers", "sentence-transformers", "open_clip", "timm")


class NotExportableError(ZooError):
    """A model has no form that a library loads; the message is the reason."""


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        loaders: each of `LOADERS` → "" where the folder serves it, else the reason why not.
        files: paths inside the folder.
    """

    folder: Path
    loaders: dict[str, str]
    files: tuple[str, ...] = ()


def export(model: "Embedder", folder: str | Path) -> Exported:
    """Writes one folder for all the libraries that can have the model; safetensors only, never a pickle.

    The first of three forms that fits: sentence-transformers' and transformers' own files for a text backbone; those of
    transformers' CLIP, SigLIP and SigLIP 2; else the zoo's own folder with Python code that calls the installed zoo.

    Raises:
        NotExportableError: the folder holds a checkpoint of another layout already.
    """
    raise NotImplementedError


def loaders_of(folder: str | Path) -> list[str]:
    """The loaders, in the order of `LOADERS`, that the files of a folder serve."""
    folder = Path(folder)
    return [loader for loader in LOADERS if _reader(loader).serves(folder)]


def encode_with(
    loader: str,
    folder: str | Path,
    items: Sequence[Item],
    *,
    batch_size: int = 32,
    dtype: "torch.dtype | None" = None,
    trust_remote_code: bool = False,
) -> "Tensor":
    """Unit vectors `(n, dim)`, float32 on the CPU, computed by a library's own public calls as its users make them.

    Args:
        loader: one of `LOADERS`.
        items: texts and pictures, mixed as you like; a role's prompt stands in the text already.
        dtype: of the weights; float32 if None.
        trust_remote_code: let sentence-transformers run the folder's `zoo_module.py`.

    Raises:
        ValueError: no such loader. UnrecognisedCheckpointError: the folder does not serve it.
        UnsafeCheckpointError: the folder's code would have to run, and it is not trusted.
    """
    folder = Path(folder)
    reader = _reader(loader)
    if not reader.serves(folder):
        raise UnrecognisedCheckpointError(f"{folder} holds no files for {loader}; it serves {loaders_of(folder)}")
    options: dict[str, Any] = {"batch_size": batch_size, "dtype": dtype}
    if loader in ("transformers", "sentence-transformers"):
        options["trust_remote_code"] = trust_remote_code
    return reader.encode(folder, items, **options)


def snippet(loader: str, repo: str, spec: ModelSpec) -> str:
    """The shortest Python program that embeds with one library, for the card.

    Args:
        repo: "org/name".
    """
    return _reader(loader).snippet(repo, spec)


def register() -> None:
    """Makes `AutoModel` and `AutoConfig` of transformers know the zoo's folders, so that no code of theirs has to run."""
    from zoo.exports.files.modeling_zoo import register_classes

    register_classes()


def _reader(loader: str) -> Any:
    if loader not in LOADERS:
        raise ValueError(f"{loader!r} is no loader; known are {', '.join(LOADERS)}")
    if loader in ("open_clip", "timm"):
        return importlib.import_module(f"zoo.exports.{loader}")
    from zoo.exports.readers import READERS

    return READERS[loader]
