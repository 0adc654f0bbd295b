"""Vectors of spans from one pass over the whole text: "late chunking", Günther et al., 2024 (arxiv:2409.04701).

A span is pooled as a text of its own would be, but its tokens have read all that stands around them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.inputs.item import Tokens
from zoo.pooling import Cls, EveryToken, LastToken, Mean

SPAN_POOLERS: dict[str, type[nn.Module]] = {"span_mean": Mean, "span_end": LastToken}


def pools_spans(pooler: nn.Module) -> bool:
    """Whether a pooler has a meaning for the tokens of a span: not where it takes the first token, which is trained to stand for a
    whole text, or gives every token."""
    return not any(isinstance(part, Cls | EveryToken) for part in pooler.modules())


def pooled_spans(pooler: nn.Module, tokens: Tokens, spans: Sequence[tuple[int, int, int]]) -> Tensor:
    """The tokens of spans, pooled: `(batch, tokens, width)` → `(spans, width)`.

    Args:
        pooler: as of a tower. spans: of each the row in the batch, its first token and the one after its last, counted from the row's
            first real token, so that padding may stand on either side.
    """
    real = tokens.mask if tokens.real is None else tokens.real
    begins = real.long().argmax(1).tolist()
    pooled = []
    # One at a time: copies of the states, padded to the longest span, would take more memory than the pass did.
    for row, first, stop in spans:
        states = tokens.states[row : row + 1, begins[row] + first : begins[row] + stop]  # (1, span, W)
        pooled.append(pooler(Tokens(states, torch.ones_like(states[..., 0], dtype=torch.bool))))
    return torch.cat(pooled)
