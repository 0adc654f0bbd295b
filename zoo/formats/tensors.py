"""The tensors of a small part of a checkpoint, such as one dense layer: safetensors or an allowed pickle, in shards or not."""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingWeightsError, UnsafeCheckpointError
from zoo.formats import check_weights, weight_files
from zoo.formats.checks.safetensors_checks import read_header
from zoo.formats.transformers import PICKLES, check_index

if TYPE_CHECKING:
    from torch import Tensor

STEM = "model"


def read_tensors(folder: Path, allow_pickle: bool) -> "dict[str, Tensor]":
    """All tensors of a folder's model.safetensors or, with `allow_pickle`, pytorch_model.bin; all of their shards.

    Raises:
        MissingWeightsError: no file, a shard is missing, damaged, or with numbers that are not finite.
        UnsafeCheckpointError: a pickle that was not allowed, or that holds more than tensors; a shard outside the folder.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    files = weight_files(names, STEM, PICKLES)
    check_weights(files, str(folder), f"{STEM}.safetensors", allow_pickle)
    if f"{STEM}.safetensors" in files:  # whole: shards beside it are another's
        files = [f"{STEM}.safetensors"]
    for index in (name for name in files if name.endswith(".index.json")):
        shards = check_index(folder / index, ".safetensors" if ".safetensors" in index else ".bin")
        if lost := sorted(set(shards) - names):
            raise MissingWeightsError(f"{folder} lacks the shards {', '.join(lost[:3])}; fetch it again")
        files = [name for name in files if name in shards]
    tensors: dict[str, Tensor] = {}
    for path in (folder / name for name in files):
        tensors |= read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise MissingWeightsError(f"{folder}: {name} has NaN or infinite weights; take another copy")
    return tensors


def read_beginning(folder: Path, prefix: str, allow_pickle: bool) -> "dict[str, Tensor]":
    """Those tensors of a large checkpoint whose names begin so, by what comes after; of safetensors the others stay unread.

    Raises:
        MissingWeightsError, UnsafeCheckpointError: as `read_tensors`.
    """
    from safetensors import safe_open

    files = weight_files({path.name for path in folder.iterdir()}, STEM, PICKLES)
    check_weights(files, str(folder), f"{STEM}.safetensors", allow_pickle)
    found: dict[str, Tensor] = {}
    for path in (folder / name for name in files if not name.endswith(".json")):
        if path.suffix != ".safetensors":
            found |= {name: tensor for name, tensor in read_pickle(path).items() if name.startswith(prefix)}
            continue
        names = [name for name in read_header(path) if name.startswith(prefix)]
        with safe_open(path, framework="pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in names}
    for name, tensor in found.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise MissingWeightsError(f"{folder}: {name} has NaN or infinite weights; take another copy")
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def read_safetensors(path: Path) -> "dict[str, Tensor]":
    """One file, its header checked.

    Raises:
        As `zoo.formats.checks.safetensors_checks.read_header`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise MissingWeightsError(f"{path} is damaged or cut off: {error}; fetch it again") from error


def read_pickle(path: Path) -> "dict[str, Tensor]":
    """Tensors of a pickle, from which nothing else is taken and no code run.

    Raises:
        UnsafeCheckpointError: it holds more than tensors. MissingWeightsError: it is damaged, or no mapping of tensors.
    """
    import torch

    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0][:200]
        raise UnsafeCheckpointError(
            f"{path} holds more than tensors, or is cut off, and stays closed: {reason}"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise MissingWeightsError(f"{path} is damaged or cut off: {error}; fetch it again") from error
    of_tensors = isinstance(found, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in found.items()
    )
    if not of_tensors:
        raise MissingWeightsError(f"{path} is no mapping from names to tensors")
    return found
