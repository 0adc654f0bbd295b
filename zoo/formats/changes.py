"""A packaged model that is another but for some tensors: changes.safetensors has them, changes.json what its scores mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingWeightsError
from zoo.files import write_json, writing
from zoo.formats import read_json
from zoo.formats.checks.folder import check_folder
from zoo.formats.checks.schema import calibration_of
from zoo.formats.checks.sizes import check_shapes, read_header
from zoo.formats.saved import fill
from zoo.strangers.schema import check_keys

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zoo.embedder import Embedder

TENSORS, FACTS = "changes.safetensors", "changes.json"


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
    facts = check_keys(read_json(folder / FACTS), {"calibration": dict[str, Any]}, folder / FACTS)
    model.calibration = calibration_of(facts, str(folder / FACTS))
    return model


def write_changes(model: "Embedder", base: Mapping[str, "Tensor"], folder: Path, dtype: "torch.dtype") -> list[str]:
    """Writes what `lay_over` reads: the tensors of a model that differ from those of its base, and its calibration.

    Args:
        base: the state of the model that it began as. dtype: in which the tensors are stored.

    Returns:
        Their names.
    """
    from safetensors.torch import save_file

    state = model.state_dict()
    changed = [name for name, tensor in state.items() if not tensor.equal(base[name])]
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / TENSORS) as path:
        save_file({name: state[name].to(dtype).contiguous() for name in changed}, path)
    calibration = {pair: one.to_dict() for pair, one in model.calibration.items()}
    write_json(folder / FACTS, {"calibration": calibration})
    return changed
