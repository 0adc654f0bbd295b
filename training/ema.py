"""WeightAverage: a running average of the weights (EMA), which often ranks better than the last ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .errors import CheckpointMismatchError

_WARM_UP = 20  # steps


class WeightAverage:
    """Exponential moving average of what learns: trainable parameters and the buffers that are saved with the model.

    `average += (1 - d) * (weights - average)` with `d = min(decay, step / (step + 20))`: while the run is young the
    average forgets fast, so that the weights it began with leave no trace. Buffers of whole numbers are copied. Averages
    of half-precision weights are kept in float32, in which a change of a ten-thousandth is not rounded away.

    Args:
        model: whose weights are followed; the average begins with what they are now.
        decay: at most this much of the old average is kept a step, 0 to below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the average must be from 0 to below 1, not {decay}")
        self.model, self.decay = model, decay
        self.values = {name: _start(value) for name, value in self._followed().items()}

    def _followed(self) -> dict[str, Tensor]:
        saved = self.model.state_dict().keys()
        learning = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        return learning | {name: b for name, b in self.model.named_buffers() if name in saved}

    def decay_at(self, step: int) -> float:
        """How much of the old average stays after this many steps."""
        return min(self.decay, step / (step + _WARM_UP))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follows the weights after the optimiser's step number `step`, counted from 1."""
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in self._followed().items():
            average = self.values[name]
            if average.is_floating_point():
                averages.append(average)
                values.append(value.to(average.dtype))
            else:
                average.copy_(value)
        if averages:
            # lerp(a, w, 1 - d) = d · a + (1 - d) · w, for all tensors in one call.
            torch._foreach_lerp_(averages, values, 1 - self.decay_at(step))

    @torch.no_grad()
    def give(self) -> None:
        """Puts the average into the model for good."""
        for name, value in self._followed().items():
            value.copy_(self.values[name])

    @contextmanager
    def swap(self) -> Iterator[None]:
        """The averaged weights in the model's place, for an evaluation; the weights come back bit by bit."""
        # Copies, not the inverse of the update: rounding would leave other weights behind.
        kept = {name: value.detach().clone() for name, value in self._followed().items()}
        self.give()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._followed().items():
                    value.copy_(kept[name])

    def state_dict(self) -> dict[str, Any]:
        """The averages by name, whole where the weights are sharded."""
        return {name: v.full_tensor() if hasattr(v, "full_tensor") else v for name, v in self.values.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Reads `state_dict`.

        Raises:
            CheckpointMismatchError: other names or shapes than the model's.
        """
        differs = sorted(state.keys() ^ self.values.keys())
        differs = differs or [name for name, value in self.values.items() if value.shape != state[name].shape]
        if differs:
            raise CheckpointMismatchError(
                f"the stored average differs from the model in {differs[0]} and {len(differs) - 1} more tensors; it is "
                "of another model, or other parts of it were frozen"
            )
        for name, value in self.values.items():
            _fill(value, state[name])


def _start(value: Tensor) -> Tensor:
    half = value.is_floating_point() and value.itemsize < 4
    return value.detach().float() if half else value.detach().clone()


def _fill(target: Tensor, value: Tensor) -> None:
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(target.device, target.dtype), target.device_mesh, target.placements)
    target.copy_(value)
