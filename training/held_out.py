"""HeldOutEncoder: embeds held-out items again and again while a model is trained, and computes nothing twice that stands still."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from zoo.embedder.passes import is_out_of_memory
from zoo.embedder.streaming import Encoded
from zoo.encoders.prefetch import Prefetch, batches, windows
from zoo.errors import InputError, NonFiniteEmbeddingError
from zoo.inputs.hashing import item_key
from zoo.inputs.item import Item
from zoo.similarity import usable

from .cached_embeddings import lone_heads
from .grad_cache import POOLED
from .optim import frozen_towers
from .read_cache import ReadCache
from .run import Run

_READ_BYTES = 2**29  # of held-out images, videos and audio as the encoders read them, kept for the next evaluation


class HeldOutEncoder:
    """Embeds the same items again and again with a run's weights, as `Embedder.encode_stream` would in evaluation mode.

    What was read is kept as far as there is room, and so are the vectors of towers that do not learn, and what heads read that
    learn alone.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.reads = run, ReadCache(_READ_BYTES)
        self.known: dict[tuple[int, bytes], Tensor] = {}
        self.still = frozen_towers(run.model)
        self.heads = {} if run.sharded else lone_heads(run.model)
        self.pooled: dict[tuple[int, bytes], Tensor] = {}

    def __call__(
        self,
        items: Iterable[Item],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        progress: bool = False,
    ) -> Iterator[Encoded]:
        """One `Encoded` for each item, in order; arguments as those of `encode_stream`."""
        prefix = self.run.model.prompt_text(prompt, prompt_name)
        pace = Prefetch([reader.encoder for reader in self.run.model.routes])
        with ThreadPoolExecutor(4, thread_name_prefix="zoo-held-out") as pool:
            for window in windows(items, pace, clock=lambda: 0.0):  # cut by the items alone: the same every time
                mine = [entry for chunk in window.chunks for entry in chunk]
                reads = list(pool.map(lambda entry: self._read(entry[1], prefix), mine))
                pace.learn([(0, tower, value) for tower, _, value in reads if tower >= 0 and value is not None])
                yield from self._embedded([index for index, _ in mine], reads)

    def _embedded(self, indices: list[int], reads: list[tuple[int, bytes, Any]]) -> list[Encoded]:
        """The vectors of one window, in its order."""
        found: list[Encoded | None] = [None] * len(reads)
        for place, (tower, key, value) in enumerate(reads):
            if tower < 0:
                found[place] = Encoded(indices[place], None, value.at(indices[place]))
            elif (tower, key) in self.known:
                found[place] = Encoded(indices[place], self.known[tower, key], None)
        for position, reader in enumerate(self.run.model.routes):
            new = [(i, value) for i, (tower, _, value) in enumerate(reads) if tower == position and found[i] is None]
            if position in self.heads:
                chunks = self._headed(position, [(i, reads[i][1], value) for i, value in new])
            else:
                chunks = batches(new, reader.encoder, self.run.micro_batch) if new else ()
            for chunk in chunks:
                vectors = self._forward(position, [value for _, value in chunk])
                good = usable(vectors, self.run.model.spec.similarity).tolist()
                for (i, _), vector, ok in zip(chunk, vectors, good, strict=True):
                    error = None if ok else NonFiniteEmbeddingError("the model gave no usable vector", index=indices[i])
                    found[i] = Encoded(indices[i], vector if ok else None, error)
                    if ok and position in self.still:
                        self.known[position, reads[i][1]] = vector
        return found  # type: ignore[return-value]

    def _headed(self, position: int, new: list[tuple[int, bytes, Any]]) -> list[list[tuple[int, Tensor]]]:
        """What a head reads that learns alone, of items by their number, key and read, as one chunk; computed when first met."""
        reader = self.heads[position].reader
        unknown = [(key, value) for _, key, value in new if value is not None]
        for chunk in batches(unknown, reader.encoder, self.run.micro_batch) if unknown else ():
            vectors = self._forward(position, [value for _, value in chunk], below=True)
            self.pooled.update(((position, key), vector) for (key, _), vector in zip(chunk, vectors, strict=True))
        return [[(i, self.pooled[position, key]) for i, key, _ in new]] if new else []

    def _read(self, item: Item, prefix: str) -> tuple[int, bytes, Any]:
        """Tower, key and what its encoder read, or the error in its place; threads."""
        try:
            model = self.run.model
            position, key = model.route_index(item), item_key(item, prefix)
            if (position, key) in self.known or (position, key) in self.pooled:
                return position, key, None
            encoder = model.routes[position].encoder
            if item.modalities == {"text"} or item.parts:
                return position, key, encoder.prepare_prompted(item, prefix)
            return position, key, self.reads.read(encoder, encoder.prompted(item, prefix))
        except InputError as error:
            return -1, b"", error

    def _forward(self, position: int, values: list[Any], below: bool = False) -> Tensor:
        """Vectors of one batch, on the CPU; where memory runs out, of two halves.

        Args:
            values: reads; of a head that learns alone what it reads. below: of these towers what their heads read.
        """
        head = self.heads.get(position)
        try:
            known = head is not None and not below
            encoder = self.run.model.routes[position].encoder
            collated = {POOLED: torch.stack(values)} if known else encoder.collate(values)
            batch = {name: tensor.to(self.run.model.device) for name, tensor in collated.items()}
            return (self.run.embed_below(head.reader, batch) if below else self.run.embed(position, batch)).cpu()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            # With sharded weights the other processes wait inside a collective of the forward pass.
            if self.run.sharded or not is_out_of_memory(error) or len(values) == 1:
                raise
        half = len(values) // 2
        return torch.cat([self._forward(position, some, below) for some in (values[:half], values[half:])])
