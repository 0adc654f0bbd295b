"""The temperature in a checkpoint of CLIP's kind: `logit_scale` and SigLIP's `logit_bias`, which no vector depends on."""

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import MissingWeightsError
from zoo.formats.checks.safetensors_checks import read_header
from zoo.spec import LogitScale

if TYPE_CHECKING:
    from torch import Tensor

NAMES = ("logit_scale", "logit_bias")


def scale_of(scale: "Tensor | None", bias: "Tensor | None", where: Path | str) -> LogitScale | None:
    """From tensors of one number each; None without the first.

    Raises:
        MissingWeightsError: they are no such numbers.
    """
    if scale is None:
        return None
    try:
        return LogitScale(scale.item(), None if bias is None else bias.item())
    except (ValueError, RuntimeError) as error:
        raise MissingWeightsError(
            f"{where}: its logit_scale or logit_bias is damaged: {error}; take another copy"
        ) from error


def read_scale(files: list[Path]) -> LogitScale | None:
    """From the weights of transformers: safetensors, or pickles that were allowed; None where no file has it.

    Raises:
        MissingWeightsError: as `scale_of`.
    """
    import torch
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for path in files:
        if path.suffix == ".safetensors":
            if here := [name for name in NAMES if name in read_header(path)]:
                with safe_open(path, framework="pt") as file:
                    found |= {name: file.get_tensor(name) for name in here}
        elif path.suffix == ".bin":
            state = torch.load(path, map_location="cpu", weights_only=True)
            found |= {name: state[name] for name in NAMES if name in state}
    return scale_of(found.get(NAMES[0]), found.get(NAMES[1]), files[0] if files else "")
