"""The work of a model's forward passes: their floating-point operations, and the weights that they read."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.embedder.streaming import forward, progress_bar, stream

if TYPE_CHECKING:
    from zoo.embedder import Embedder

Pass = tuple[Any, list[Any]]  # a tower, and the reads of one batch


@dataclass(frozen=True)
class Work:
    """What some forward passes have to do at the least.

    Attributes:
        flop: floating-point operations of products of matrices and convolutions; a multiplication and an addition are two.
        read: bytes of weights, each once in every pass; tables of which only some rows are looked up do not count.
    """

    flop: float
    read: float


def passes_of(model: "Embedder", inputs: Sequence[Any]) -> list[Pass]:
    """The forward passes of `model.encode(inputs)`, read and divided into batches as it does, and not run."""
    found: list[Pass] = []

    def keep(_: "Embedder", tower: Any, reads: list[Any], __: int | None) -> torch.Tensor:
        found.append((tower, reads))
        return torch.eye(1, model.spec.dim).expand(len(reads), -1)  # vectors of unit length

    bar = progress_bar(inputs, False, "")
    for result in stream(model, inputs, model.prompt_text(), batch_size=None, dim=None, bar=bar, embed=keep):
        if result.error is not None:
            raise result.error
    return found


def run_passes(model: "Embedder", passes: Sequence[Pass]) -> None:
    """The forward passes alone: nothing is read."""
    for tower, reads in passes:
        forward(model, tower, reads)


def tokens_of(passes: Sequence[Pass]) -> int:
    """Tokens of the texts of these passes, special ones included, padding not."""
    return sum(tower.encoder.tokens(read) for tower, reads in passes for read in reads)


def work_of(model: "Embedder", passes: Sequence[Pass]) -> Work:
    """What torch has to do for these passes; runs them twice."""
    from torch.utils.flop_counter import FlopCounterMode

    run_passes(model, passes)  # what is folded or tried out in a first pass is no work of those that follow
    with _whole_operators(), FlopCounterMode(display=False) as counter:
        run_passes(model, passes)
    return Work(float(counter.get_total_flops()), weights_read(passes))


def weights_read(passes: Sequence[Pass]) -> float:
    """Bytes of weights that these passes read, as `Work.read`."""
    sizes = {id(tower): _bytes(tower) for tower, _ in passes}
    return float(sum(sizes[id(tower)] for tower, _ in passes))


def _bytes(module: nn.Module) -> int:
    tables = {id(table.weight) for table in module.modules() if isinstance(table, nn.Embedding | nn.EmbeddingBag)}
    tensors = {id(one): one for one in (*module.parameters(), *module.buffers()) if id(one) not in tables}
    return sum(one.numel() * one.element_size() for one in tensors.values())


@contextlib.contextmanager
def _whole_operators() -> Iterator[None]:
    """No fused layers of torch's own, whose operations the counter does not know."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
