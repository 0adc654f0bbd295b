"""Poolers: token states and mask → one vector, before the head and never normalised."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.inputs.item import Tokens


class Cls(nn.Module):
    """The first real token's state, on whichever side the padding is: `(B, T, W)` → `(B, W)`."""

    def forward(self, tokens: Tokens) -> Tensor:
        # argmax gives the first of equal maxima: the first True, after any padding on the left.
        # Column 0 may be padding.
        first = tokens.mask.long().argmax(1)
        return tokens.states[torch.arange(len(first), device=first.device), first]


class Mean(nn.Module):
    """Mean over real tokens."""

    def forward(self, tokens: Tokens) -> Tensor:
        weights = tokens.mask.to(tokens.states.dtype)[:, :, None]  # (B, T, 1)
        return (tokens.states * weights).sum(1) / weights.sum(1).clamp(min=1)


class NormedMean(Mean):
    """Mean over real tokens, its columns then shifted and scaled to mean 0 and variance 1, without weights.

    As nomic-embed-text-v1.5 has it, before a Matryoshka cut (Nussbaum et al., 2024, arxiv:2402.01613).
    """

    def forward(self, tokens: Tokens) -> Tensor:
        mean = super().forward(tokens)
        return F.layer_norm(mean, mean.shape[-1:])


class WeightedMean(nn.Module):
    """Mean with weights 1, 2, 3, ... over real tokens (SGPT, Muennighoff 2022): later tokens have read more.

    After a prompt that is not pooled the weights go on where it ends.
    """

    def forward(self, tokens: Tokens) -> Tensor:
        real = tokens.mask if tokens.real is None else tokens.real
        # cumsum counts real tokens alone, so padding on the left does not shift the weights.
        weights = (real.cumsum(1) * tokens.mask).to(tokens.states.dtype)[:, :, None]
        return (tokens.states * weights).sum(1) / weights.sum(1).clamp(min=1)


class MeanSqrtLength(nn.Module):
    """Sum over real tokens divided by the square root of their number (sentence-transformers' mean_sqrt_len_tokens)."""

    def forward(self, tokens: Tokens) -> Tensor:
        weights = tokens.mask.to(tokens.states.dtype)[:, :, None]
        return (tokens.states * weights).sum(1) / weights.sum(1).clamp(min=1).sqrt()


class Max(nn.Module):
    """Largest value of each column over real tokens."""

    def forward(self, tokens: Tokens) -> Tensor:
        # -inf, not 0: a column that is negative in every real token must not be beaten by padding.
        return tokens.states.masked_fill(~tokens.mask[:, :, None], -torch.inf).amax(1)


class LastToken(nn.Module):
    """The last real token's state, on whichever side the padding is."""

    def forward(self, tokens: Tokens) -> Tensor:
        positions = torch.arange(tokens.mask.shape[1], device=tokens.mask.device)
        # The largest real position: column T - 1 where padding is on the left, and the text's own end
        # where it is on the right.
        last = (positions * tokens.mask).argmax(1)
        return tokens.states[torch.arange(len(last), device=last.device), last]


class EveryToken(nn.Module):
    """No pooling, for late interaction: `(B, T, W)` as it is; `Tower` empties the padding."""

    def forward(self, tokens: Tokens) -> Tensor:
        return tokens.states


class Concat(nn.Module):
    """Several poolers side by side: `(B, T, W)` → `(B, n * W)`."""

    def __init__(self, poolers: list[str]) -> None:
        super().__init__()
        self.names = list(poolers)
        self.poolers = nn.ModuleList(globals()[name]() for name in poolers)

    def forward(self, tokens: Tokens) -> Tensor:
        return torch.cat([pool(tokens) for pool in self.poolers], dim=1)

    def config(self) -> dict[str, list[str]]:
        """Constructor arguments."""
        return {"poolers": self.names}
