"""An encoder's forward pass as one function of tensors, and what runs it in another runtime (see `zoo.backends`)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.callers import warn
from zoo.encoders.folding import version_of
from zoo.inputs.item import Tokens

Batch = dict[str, Tensor]
# The tensors of a batch, in the order of `Program.inputs`, to states `(B, T, W)`.
Run = Callable[[Sequence[Tensor]], Tensor]
_SAMPLED = 64  # values of a tensor that are looked at before each pass


def one_per_item(states: Tensor, batch: Batch) -> Tokens:
    """Tokens of an encoder whose only token is its vector: states `(B, 1, W)`."""
    return Tokens(states, torch.ones(states.shape[:2], dtype=torch.bool))


@dataclass(frozen=True)
class Program:
    """Which tensors an encoder's forward pass is a function of, where it is one function whatever their sizes.

    Attributes:
        inputs: name in a batch → names of the axes whose length varies, from the first on: {"ids": ("batch", "tokens")}.
        tokens: states `(B, T, W)` and their batch → what `forward` returns.
        also: further names in a batch, which `tokens` reads.
    """

    inputs: Mapping[str, tuple[str, ...]]
    tokens: Callable[[Tensor, Batch], Tokens] = one_per_item
    also: frozenset[str] = frozenset()


class States(nn.Module):
    """An encoder as a function of tensors to states, which is what a tracer follows."""

    def __init__(self, encoder: nn.Module, inputs: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.inputs = encoder, tuple(inputs)

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.encoder(dict(zip(self.inputs, tensors, strict=True))).states


class Runtime(ABC):
    """What a tower asks for its encoder's states before torch.

    Attributes:
        told: what computes them, in a few words.
    """

    @property
    @abstractmethod
    def told(self) -> str: ...

    @abstractmethod
    def __call__(self, encoder: nn.Module, batch: Batch) -> Tokens | None:
        """What `encoder.forward` gives; None where torch has to compute it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # a copy or pickle of a model computes with torch: it may be made to be changed


class Compiled(Runtime):
    """An encoder's forward pass in another runtime, for as long as its weights are those that the program was made of.

    Attributes:
        backend: the runtime's name. difference: the largest from torch's vectors, of the inputs that were compared.

    Args:
        encoder: whose weights are watched. program, run: what is computed, and how.
    """

    def __init__(self, backend: str, encoder: nn.Module, program: Program, run: Run, difference: float) -> None:
        self.backend, self.difference = backend, difference
        self._program, self._run = program, run
        self._known = {*program.inputs, *program.also}
        self._watched = _Watched(encoder)

    @property
    def told(self) -> str:
        return f"{self.backend}, at most {self.difference:.1e} from torch"

    def __call__(self, encoder: nn.Module, batch: Batch) -> Tokens | None:
        """None where there are gradients, changed weights, a watched module, another batch."""
        if torch.is_grad_enabled() or self._run is None or not batch.keys() <= self._known:
            return None
        if not self._watched.same(encoder):
            self._run = None
            warn(
                f"the weights were changed since {self.backend} was given them, and torch computes from here on; save the model and "
                "load it again for the backend"
            )
            return None
        if any(module.training or module._forward_hooks or module._forward_pre_hooks for module in encoder.modules()):
            return None
        return self._program.tokens(self._run([batch[name] for name in self._program.inputs]), batch)


class _Watched:
    """Tells weights that were changed in place, and others in their place."""

    def __init__(self, encoder: nn.Module) -> None:
        tensors = self._tensors(encoder)
        self._marks = self._marks_of(tensors)
        # What is written through `weight.data` is counted nowhere: a sample of the values is looked at too, by views of them.
        flat = [tensor.detach().flatten() for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
        self._views = [one[:: max(1, len(one) // _SAMPLED)] for one in flat]
        self._norms = self._norms_of()

    def same(self, encoder: nn.Module) -> bool:
        """Whether an encoder has the weights that were there at first."""
        return self._marks == self._marks_of(self._tensors(encoder)) and torch.equal(self._norms, self._norms_of())

    @staticmethod
    def _tensors(encoder: nn.Module) -> list[Tensor]:
        return [*encoder.parameters(), *encoder.buffers()]

    @staticmethod
    def _marks_of(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
        return [(tensor.data_ptr(), version_of(tensor)) for tensor in tensors]

    def _norms_of(self) -> Tensor:
        return torch.stack(torch._foreach_norm(self._views)) if self._views else torch.zeros(0)
