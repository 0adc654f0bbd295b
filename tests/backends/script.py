"""TorchScript as a backend: it comes with torch, so that the room is tested where no other runtime is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from zoo.backends import base
from zoo.encoders.program import Run


class TorchScript(base.Backend):
    """torch's own older runtime: a traced module in a file."""

    exported: ClassVar[int] = 0
    packages = ("torch",)

    def export(
        self, states: nn.Module, example: Sequence[Tensor], axes: Mapping[str, Sequence[str]], folder: Path
    ) -> None:
        TorchScript.exported += 1
        torch.jit.trace(states, tuple(example)).save(folder / "program.pt")

    def open(self, folder: Path, threads: int) -> Run:
        program = torch.jit.load(folder / "program.pt").eval()
        return lambda tensors: program(*tensors)
