"""A text backbone with experts: in some of its layers every token is read by a few of several feed-forward networks.

nomic-embed-text-v2-moe (Nussbaum and Duderstadt, 2025, arxiv:2502.07972), as its authors' code computes it (NomicMoELayer of
nomic-ai/nomic-bert-2048): no token is dropped, and the weights of the chosen experts are not scaled to a sum of 1.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders.text import TransformersText


class ExpertsText(TransformersText):
    """A backbone of transformers, experts in the place of the feed-forward network in the second of every `every` layers.

    Args:
        config: of a backbone whose `layers` have an `mlp`. experts: how many there are. top: how many read a token.
        The others as TransformersText.
    """

    def __init__(
        self,
        config: dict[str, Any],
        max_tokens: int,
        experts: int,
        top: int,
        every: int,
        lower: bool = False,
        padding_side: str = "right",
        assets: Path | None = None,
        backbone: nn.Module | None = None,
        tokenizer: Any = None,
        pool_prompt: bool = True,
    ) -> None:
        super().__init__(config, max_tokens, lower, padding_side, assets, backbone, tokenizer, pool_prompt)
        self.experts, self.top, self.every = experts, top, every
        for number, layer in enumerate(self.backbone.layers):
            if number % every == 1:
                layer.mlp = Experts(self.width, self.backbone.config.intermediate_size, experts, top)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "experts": self.experts, "top": self.top, "every": self.every}


class Experts(nn.Module):
    """Feed-forward networks of which a router chooses some for each token, one bias for all: `(B, T, W)` → `(B, T, W)`.

    Args:
        width, hidden: of each. experts: how many there are. top: how many read a token.
    """

    def __init__(self, width: int, hidden: int, experts: int, top: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.into = nn.Parameter(torch.randn(experts, hidden, width) / width**0.5)
        self.back = nn.Parameter(torch.randn(experts, hidden, width) / hidden**0.5)
        self.bias = nn.Parameter(torch.zeros(width))
        self.top = top

    def forward(self, hidden_states: Tensor) -> Tensor:
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        weights, chosen = self.router(flat).softmax(-1, dtype=torch.float32).topk(self.top, dim=-1)  # (N, top)
        out = torch.zeros_like(flat)
        for number, (into, back) in enumerate(zip(self.into, self.back, strict=True)):
            tokens, place = torch.where(chosen == number)
            read = F.gelu(flat[tokens] @ into.T) @ back
            out = out.index_add(0, tokens, read * weights[tokens, place, None].to(read.dtype))
        return out.view_as(hidden_states) + self.bias
