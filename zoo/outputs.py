"""Output heads: what a tower gives of its token states beside its vector, from the same pass: lexical weights, token vectors.

`forward(tokens, ids)` takes an encoder's `Tokens` and the ids `(batch, tokens)` that they are the states of.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.inputs.item import Tokens


class LexicalWeights(nn.Module):
    """How much each token of a text counts, as a sparse vector over the vocabulary: `(B, T, W)` → coalesced COO `(B, vocab)`.

    The weight of a token is a projection of its state, 0 at least; of a token that occurs more than once the largest counts
    (BGE-M3, Chen et al., 2024, arxiv:2402.03216, section 3.2).

    Args:
        width: of a token's state, W. vocab: rows of the backbone's token table. dropped: ids that never count, the special tokens'.
    """

    def __init__(self, width: int, vocab: int, dropped: list[int]) -> None:
        super().__init__()
        self.width, self.vocab, self.dropped = width, vocab, sorted(dropped)
        self.project = nn.Linear(width, 1)

    def forward(self, tokens: Tokens, ids: Tensor) -> Tensor:
        weights = F.relu(self.project(tokens.states.to(self.project.weight.dtype))).squeeze(-1).float()  # (B, T)
        dropped = torch.isin(ids, torch.tensor(self.dropped, device=ids.device, dtype=ids.dtype))
        counts = tokens.mask & ~dropped & ~(weights <= 0)  # which keeps NaN, so that it can be told
        rows = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
        # A row and a token as one number, by which equal tokens of a text are found.
        places, where = (rows * self.vocab + ids)[counts].unique(return_inverse=True)
        values = weights.new_zeros(len(places)).scatter_reduce(0, where, weights[counts], "amax", include_self=False)
        indices = torch.stack([places // self.vocab, places % self.vocab])
        return sparse(indices, values, (len(ids), self.vocab))

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"width": self.width, "vocab": self.vocab, "dropped": self.dropped}


def sparse(indices: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A coalesced sparse tensor of places `(axes, n)`, in order and each once, and values `(n,)`."""
    # torch warns where nobody says whether the places are to be checked.
    return torch.sparse_coo_tensor(indices, values, shape, is_coalesced=True, check_invariants=False)


class TokenVectors(nn.Module):
    """A unit vector for every token but the first, the tokenizer's own: `(B, T, W)` → `(B, T, dim)`, 0 where there is none.

    For late interaction; BGE-M3, section 3.2, "multi-vector retrieval".

    Args:
        width: of a token's state, W. dim: of a token's vector.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.width, self.dim = width, dim
        self.project = nn.Linear(width, dim)

    def forward(self, tokens: Tokens, ids: Tensor) -> Tensor:
        vectors = F.normalize(self.project(tokens.states.to(self.project.weight.dtype)).float(), dim=-1)
        kept = tokens.mask & (tokens.mask.cumsum(1) > 1)
        return vectors * kept[:, :, None]

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"width": self.width, "dim": self.dim}
