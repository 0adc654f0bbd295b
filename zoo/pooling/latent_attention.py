"""Latent attention, the pooler of NV-Embed (Lee et al., 2024, arxiv:2405.17428): each token looks a dictionary up, then the mean."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.inputs.item import Tokens


class LatentAttention(nn.Module):
    """Token states attend to trained latents, pass a gated layer, and are averaged: `(B, T, W)` → `(B, W)`.

    The paper's figure shows attention and an MLP; the norms before them, the residuals and the gate are those of the published
    weights. No token sees another here, so that a mask is needed for the mean alone.

    Args:
        width: of a token's state, W. latents: rows of the dictionary. heads, head_dim: of the attention; NV-Embed's heads are as
            wide as its states.
    """

    def __init__(self, width: int, latents: int = 512, heads: int = 8, head_dim: int = 4096) -> None:
        super().__init__()
        self.width, self.heads, self.head_dim = width, heads, head_dim
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.norm, self.norm_latents, self.norm_layer = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, heads * head_dim, bias=False)
        self.key_value = nn.Linear(width, 2 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, width, bias=False)
        self.gated, self.back = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tokens) -> Tensor:
        states = tokens.states.to(self.out.weight.dtype)
        states = states + self._looked_up(self.norm(states))
        values, gates = self.gated(self.norm_layer(states)).chunk(2, dim=-1)  # (B, T, 4 W) each
        states = states + self.back(values * F.gelu(gates))
        weights = tokens.mask.to(states.dtype)[:, :, None]  # (B, T, 1)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)

    def _looked_up(self, states: Tensor) -> Tensor:
        """What the latents say to each token: `(B, T, W)` → `(B, T, W)`."""
        keys, values = self.key_value(self.norm_latents(self.latents)).chunk(
            2, dim=-1
        )  # (latents, heads · head_dim) each
        query, key, value = (self._heads(x) for x in (self.query(states), keys[None], values[None]))
        key, value = (x.expand(len(query), -1, -1, -1) for x in (key, value))
        found = F.scaled_dot_product_attention(query, key, value)  # (B, heads, T, head_dim)
        return self.out(found.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """`(B, T, heads · head_dim)` → `(B, heads, T, head_dim)`."""
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"width": self.width, "latents": len(self.latents), "heads": self.heads, "head_dim": self.head_dim}
