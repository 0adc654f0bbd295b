"""GradCache: a contrastive batch of any size in the memory of a micro-batch (Gao et al., 2021).

The embeddings of all micro-batches are computed first, without activations; the loss gives a gradient for each
embedding; then each micro-batch is computed once more, and its share of the gradient is carried back. The result is
the gradient of the whole batch. Batch normalisation is the exception: it sees micro-batches.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.embedder import Embedder
from zoo.encoders.prefetch import batches

from .errors import RecipeError
from .gather import check_even
from .modes import keeps_statistics

POOLED = "pooled"  # a batch of what heads read, in place of the encoder's: `(b, width)`
_STRIDE = 7919  # a prime, so that the random streams of neighbouring steps do not meet


class Read(NamedTuple):
    """One item ready for its tower.

    Attributes:
        tower: position of the tower in the model's `routes`. value: what its encoder's `prepare_item` gave.
        vector: the finished embedding `(dim,)` where the tower does not learn and it is known; `value` is None then.
        pooled: what the head reads `(width,)` where it alone learns and that is known; `value` is None then too.
        empty: whether it only stands for a place without an item, whose vector nobody looks at: it is 0, and no forward
            pass has to be spent on it.
    """

    tower: int
    value: Any = None
    vector: Tensor | None = None
    pooled: Tensor | None = None
    empty: bool = False


class _Chunk(NamedTuple):
    tower: int
    places: Tensor
    values: list[Any]
    pooled: bool = False


class CachedEmbeddings:
    """Embeddings of many reads, whose gradient can be carried back although most activations are gone.

    Args:
        encode: `encode(tower, batch, layers)` → `(b, dim)` or `(b, L, dim)`; runs the model, in its precision.
        model: whose towers' encoders collate the reads. reads: the items.
        micro_batch: items of one forward pass; None keeps all activations, and chunks only as the encoder runs best.
        even: cut by numbers alone, so that processes with as many items run as many passes (sharded weights).
        layers: encoder blocks whose embeddings are wanted; () for the final one alone.
        seed: of what is random inside the towers (dropout): a chunk draws the same twice.
    """

    def __init__(
        self,
        encode: Callable[..., Tensor],
        model: Embedder,
        reads: Sequence[Read],
        *,
        micro_batch: int | None = None,
        layers: Sequence[int] = (),
        even: bool = False,
        seed: int = 0,
    ) -> None:
        self.encode, self.model, self.layers, self.seed = encode, model, tuple(layers), seed
        # The longest first: those that follow fit into the memory that they leave.
        self.chunks = list(_chunks(model, reads, micro_batch, even))[::-1]
        self.kept: list[Tensor | None] = [None] * len(self.chunks)
        readers = model.routes
        learning = [i for i, chunk in enumerate(self.chunks) if _learns(readers[chunk.tower])]
        # While the loss is computed nothing else lies in memory: the last chunk keeps its activations for nothing.
        # GradCache (Gao et al., 2021): 1. embed all without a graph; 2. the loss's gradient for each embedding; 3.
        # embed again with one and carry that gradient back.
        keep = set(learning if micro_batch is None else learning[-1:])
        self.learning = learning
        # Written in place: small results kept between passes would lie between freed activations, in memory that could not be
        # given back (at 1,024 pairs and micro-batches of 16 a third of the peak).
        self.vectors = torch.empty(0)
        known = [(i, read.vector) for i, read in enumerate(reads) if read.vector is not None and not read.empty]
        if known:
            places, vectors = zip(*known, strict=True)
            self._put(torch.tensor(places), torch.stack(vectors).to(model.device), len(reads))
        for i, chunk in enumerate(self.chunks):
            vectors = self._forward(i, with_grad=i in keep, first=True)
            if i in keep:
                self.kept[i] = vectors
            self._put(chunk.places, vectors.detach(), len(reads))

    def _put(self, places: Tensor, vectors: Tensor, count: int) -> None:
        if not len(self.vectors):
            self.vectors = vectors.new_zeros(count, *vectors.shape[1:])
        elif (kind := torch.promote_types(self.vectors.dtype, vectors.dtype)) != self.vectors.dtype:
            self.vectors = self.vectors.to(kind)
        self.vectors[places.to(vectors.device)] = vectors.to(self.vectors.dtype)

    def _forward(self, number: int, *, with_grad: bool, first: bool) -> Tensor:
        chunk = self.chunks[number]
        encoder = self.model.routes[chunk.tower].encoder
        collated = {POOLED: torch.stack(chunk.values)} if chunk.pooled else encoder.collate(chunk.values)
        batch = {name: tensor.to(self.model.device) for name, tensor in collated.items()}
        # Both passes of a chunk draw the same dropout. With another mask the gradient would be of other
        # embeddings than the loss saw.
        torch.manual_seed(self.seed + _STRIDE * (number + 1))
        with torch.set_grad_enabled(with_grad), _still_statistics(self.model, first and not with_grad):
            try:
                return self.encode(chunk.tower, batch, self.layers)
            except ValueError as error:
                # torch's words, wherever an item has one value a channel: with larger images one is enough.
                if len(chunk.values) > 1 or "more than 1 value per channel" not in str(error):
                    raise
                raise RecipeError(
                    f"{self.model.spec.name}: batch normalisation cannot be trained on one item alone; let 2 or more pass "
                    "together (micro_batch, --micro-batch; batch_size), or its statistics stand still (still_norms=True, freeze)"
                ) from error

    def backward(self, grads: Tensor) -> None:
        """Adds to the parameters' gradients what `grads`, the gradient of `vectors`, asks for."""
        for number in sorted(
            self.learning, key=lambda number: self.kept[number] is None
        ):  # what lies in memory goes first
            vectors = self.kept[number]
            if vectors is None:
                vectors = self._forward(number, with_grad=True, first=False)
            self.kept[number] = None
            # Chain rule: dL/dθ = Σ chunks (dL/d vectors)ᵀ · d vectors/dθ; the parameters'
            # gradients add up over the chunks.
            vectors.backward(grads[self.chunks[number].places.to(grads.device)].to(vectors.dtype))


def _learns(tower: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in tower.parameters())


def _chunks(model: Embedder, reads: Sequence[Read], micro_batch: int | None, even: bool) -> Iterator[_Chunk]:
    """Reads of one tower and of similar length together."""
    for position, tower in enumerate(model.routes):
        if known := [
            (i, read.pooled)
            for i, read in enumerate(reads)
            if read.tower == position and read.pooled is not None and not read.empty
        ]:
            yield _Chunk(position, torch.tensor([i for i, _ in known]), [vector for _, vector in known], pooled=True)
        mine = [
            (i, read.value)
            for i, read in enumerate(reads)
            # Processes that run as many passes must not leave any out.
            if read.tower == position and read.vector is None and read.pooled is None and (even or not read.empty)
        ]
        if even:
            check_even(len(mine), model.device)
        # Batch normalisation wants the whole batch where memory allows.
        normalises = normalises_batches(tower)
        size = len(mine) if micro_batch is None and (even or normalises) else micro_batch
        chunks = list(batches(mine, tower.encoder, size)) if mine else []
        if normalises and size > 1 and len(chunks) > 1 and len(chunks[-1]) == 1:
            chunks[-2:] = [chunks[-2] + chunks[-1]]  # one item alone has no variance
        for chunk in chunks:
            yield _Chunk(position, torch.tensor([i for i, _ in chunk]), [value for _, value in chunk])


def normalises_batches(module: nn.Module) -> bool:
    """Whether a part of it measures the batch: batch normalisation that learns."""
    return any(m.training and keeps_statistics(m) for m in module.modules())


@contextmanager
def _still_statistics(model: nn.Module, still: bool) -> Iterator[None]:
    """Keeps a first pass that is run again later from moving the running statistics twice."""
    norms = [m for m in model.modules() if still and m.training and keeps_statistics(m) and hasattr(m, "momentum")]
    momenta = [norm.momentum for norm in norms]
    counts = [None if (count := getattr(n, "num_batches_tracked", None)) is None else count.clone() for n in norms]
    for norm in norms:
        # running = (1 - momentum) · running + momentum · batch: at 0 nothing moves.
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if count is not None:
                norm.num_batches_tracked.copy_(count)
