"""Tower: encoder → pooler → head, and a vector of unit length."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from copy import copy

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch, Encoder
from zoo.encoders.program import Runtime
from zoo.inputs.item import Tokens
from zoo.pooling.spans import pooled_spans
from zoo.similarity import finished
from zoo.spec import Similarity


class Tower(nn.Module):
    """Encoder → pooler → head → unit length.

    Attributes:
        similarity: of the model that the tower is part of, which sets it; with "dot" vectors keep their norms.
        outputs: what else it gives of a text, by the names of `spec.outputs` (see `zoo.outputs`).
        compiled: what computes its encoder's forward pass in place of torch, None for torch (see `zoo.backends`).

    Raises:
        ValueError: the pooler makes no sense after the encoder.
    """

    similarity: Similarity = "cosine"
    compiled: Runtime | None = None

    def __init__(
        self, encoder: Encoder, pooler: nn.Module, head: nn.Module, outputs: Mapping[str, nn.Module] | None = None
    ) -> None:
        super().__init__()
        encoder.check_pooler(pooler)
        self.encoder, self.pooler, self.head = encoder, pooler, head
        self.outputs = nn.ModuleDict(outputs or {})

    def forward(self, batch: Batch, layers: Sequence[int] = (), norms: bool = False) -> Tensor:
        """A batch of the encoder to embeddings `(batch, dim)`, float32 at least.

        With a pooler that keeps every token `(batch, tokens, dim)`, zero where there is only padding.

        Args:
            layers: blocks, counted from 1, whose embeddings are wanted: `(batch, len(layers), dim)`.
            norms: as the head gives them, before they are made unit length.
        """
        if layers:
            states = self.encoder.forward_layers(batch, layers)
            return torch.stack([self.embedded(tokens, norms) for tokens in states], 1)
        return self.embedded(self._tokens(batch), norms)

    def _tokens(self, batch: Batch) -> Tokens:
        tokens = None if self.compiled is None else self.compiled(self.encoder, batch)
        return self.encoder(batch) if tokens is None else tokens

    def forward_spans(
        self, batch: Batch, spans: Sequence[tuple[int, int, int]], pooler: nn.Module | None = None
    ) -> Tensor:
        """Embeddings `(spans, dim)` of spans of tokens (see `zoo.pooling.spans`), by another pooler than the tower's where one is given."""
        return self.headed(pooled_spans(pooler or self.pooler, self._tokens(batch), spans))

    def forward_outputs(self, batch: Batch, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Several outputs of one pass, by name: "dense" `(batch, dim)` as `forward`, the others as `zoo.outputs` says."""
        tokens = self.encoder(batch)
        return {
            name: self.embedded(tokens) if name == "dense" else self.outputs[name](tokens, batch["ids"])
            for name in wanted
        }

    def embedded(self, tokens: Tokens, norms: bool = False) -> Tensor:
        """Tokens of the encoder to embeddings, as `forward`."""
        vectors = self.head(self.pooler(tokens))
        if vectors.ndim == 3:
            # Every token is kept, (B, T, dim): padding must be exactly 0, by which it is told apart later
            # (`streaming._results`).
            vectors = vectors * tokens.mask[:, :, None].to(vectors.dtype)
        return finished(vectors, "dot" if norms else self.similarity)

    def aimed(self, target: str) -> "Tower":
        """The tower, its weights shared, whose texts are compared with this; itself where that makes no difference."""
        if target not in self.encoder.targets or self.encoder.against == target:
            return self
        # Shallow copies share all tensors. Only the dictionary of modules is the copy's own, else
        # `against` would change in both.
        encoder, other = copy(self.encoder), copy(self)
        encoder.against = target
        other._modules = {**self._modules, "encoder": encoder}
        return other

    @property
    def headed_by(self) -> "Tower | None":
        """The tower whose head makes embeddings `(batch, dim)` of what its pooler gives `(batch, width)`; None where they are made
        otherwise.
        """
        return self

    def headed(self, vectors: Tensor) -> Tensor:
        """What the pooler gives `(batch, width)` to embeddings `(batch, dim)`."""
        return finished(self.head(vectors), self.similarity)


def heads_hash(towers: Iterable[Tower]) -> str:
    """Tells heads apart by kind and arguments: one without weights, such as a normalisation, also steers a norm."""
    heads = [[type(t.head).__name__, t.head.config() if hasattr(t.head, "config") else {}] for t in towers]
    return hashlib.sha256(json.dumps(heads, sort_keys=True).encode()).hexdigest()[:16]
