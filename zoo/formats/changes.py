"""A packaged model that is another but for some tensors, or with further towers: changes.safetensors has these tensors, changes.json what
its scores mean, and which tensors of further towers are copies of the other model's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingWeightsError
from zoo.files import write_json, writing
from zoo.formats import read_json
from zoo.formats.checks.config_schema import calibration_of
from zoo.formats.checks.folder import check_folder
from zoo.formats.checks.safetensors_checks import check_shapes, read_header
from zoo.formats.zoo_native import fill
from zoo.strangers.schema import check_keys

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zoo.embedder import Embedder

TENSORS, FACTS = "changes.safetensors", "changes.json"


def _theirs(name: str, copies: Mapping[str, str]) -> str:
    """How the base calls a tensor."""
    begins = next((begin for begin in copies if name.startswith(begin)), "")
    return copies[begins] + name.removeprefix(begins) if begins else name


def begin_as(model: "Embedder", base: "Mapping[str, Tensor]", copies: Mapping[str, str]) -> set[str]:
    """Fills a model in place with the tensors of its base: those of the same name, and those that `copies` says are the base's.

    Args:
        base: the base's state. copies: how the names of further tensors begin, and how the base calls them.

    Returns:
        The names of the tensors that are the base's.

    Raises:
        MissingWeightsError: the base has no tensor of a name or of a shape that is looked for.
    """
    state, found = model.state_dict(), {}
    for name, tensor in state.items():
        theirs = _theirs(name, copies)
        if theirs in base and base[theirs].shape == tensor.shape:
            found[name] = base[theirs]
        elif theirs != name:
            raise MissingWeightsError(
                f"{name} is to be a copy of {theirs}, and the base has no such tensor of its shape"
            )
    model.load_state_dict(found, strict=False)
    return set(found)


def extended(base: "Embedder", model: "Embedder", folder: Path) -> "Embedder":
    """The model of a folder that has towers beside those of its base, filled with all that is the base's; changed in place.

    Args:
        model: with any weights. folder: its changes.json says which tensors of further towers are copies.

    Raises:
        MissingWeightsError: a tensor is neither the base's nor in the folder.
    """
    facts = _facts(folder)
    filled = begin_as(model, base.state_dict(), facts.get("copies", {}))
    if missing := sorted(set(model.state_dict()) - filled - set(read_header(folder / TENSORS))):
        raise MissingWeightsError(
            f"{folder} holds no {missing[0]}, and it is none of {base.spec.name}'s ({len(missing)} are missing)"
        )
    return model.eval()


def _facts(folder: Path) -> dict[str, Any]:
    check_folder(folder)
    return check_keys(
        read_json(folder / FACTS), {"calibration": dict[str, Any], "copies": dict[str, str]}, folder / FACTS
    )


def lay_over(model: "Embedder", folder: Path) -> "Embedder":
    """The model with a folder's tensors in place of its own of these names, and that folder's calibration; changed in place.

    Raises:
        MissingWeightsError: no tensors, damaged, not finite, of another shape, or of a name that the model has not.
        UnrecognisedCheckpointError: changes.json is no calibration.
    """
    check_folder(folder)
    path, state = folder / TENSORS, model.state_dict()
    header = read_header(path)
    if not header:
        raise MissingWeightsError(f"{path} holds no tensor; it would be {model.spec.name} itself")
    check_shapes({name: state[name] for name in header if name in state}, header, path)
    fill(model, path, header)
    model.calibration = calibration_of(_facts(folder), str(folder / FACTS))
    return model


def write_changes(
    model: "Embedder",
    base: Mapping[str, "Tensor"],
    folder: Path,
    dtype: "torch.dtype",
    copies: Mapping[str, str] | None = None,
) -> list[str]:
    """Writes what `lay_over` reads: the tensors of a model that differ from those of its base, and its calibration.

    Args:
        base: the state of the model that it began as. dtype: in which the tensors are stored.
        copies: as of `begin_as`, of a model that has towers beside those of its base.

    Returns:
        Their names.
    """
    from safetensors.torch import save_file

    state = model.state_dict()
    began = {name: base.get(_theirs(name, copies or {})) for name in state}
    changed = [n for n, tensor in state.items() if began[n] is None or not tensor.equal(began[n].to(tensor.dtype))]
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / TENSORS) as path:
        save_file({name: _stored(state[name], dtype) for name in changed}, path)
    calibration = {pair: one.to_dict() for pair, one in model.calibration.items()}
    write_json(folder / FACTS, {"calibration": calibration, **({"copies": dict(copies)} if copies else {})})
    return changed


def _stored(tensor: "Tensor", dtype: "torch.dtype") -> "Tensor":
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
