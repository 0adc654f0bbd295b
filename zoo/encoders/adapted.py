"""A text backbone with adapters (LoRA, Hu et al., 2021) beside its weights, of which the prompt before a text chooses one.

As jina-embeddings-v3 has it (Sturua et al., 2024, arxiv:2409.10173): queries and documents have a prompt and an adapter each, and
may stand in one batch. A text without any of the prompts is read by the backbone alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders.base import Batch
from zoo.encoders.text import Prompted, TransformersText
from zoo.inputs.item import Item, Tokens


class AdaptedText(TransformersText):
    """A backbone whose every linear layer and table has an adapter for each of some prompts.

    Args:
        prompts: what may stand before a text; the n-th has the n-th adapter. rank, scale: of all adapters; W + scale · BA.
        The others as TransformersText.
    """

    def __init__(
        self,
        config: dict[str, Any],
        max_tokens: int,
        prompts: list[str],
        rank: int,
        scale: float,
        lower: bool = False,
        padding_side: str = "right",
        assets: Path | None = None,
        backbone: nn.Module | None = None,
        tokenizer: Any = None,
    ) -> None:
        super().__init__(config, max_tokens, lower, padding_side, assets, backbone, tokenizer)
        self.prompts, self.rank, self.scale, self.chosen = list(prompts), rank, scale, Chosen()
        for name, layer in list(self.backbone.named_modules()):
            kind = AdaptedLinear if type(layer) is nn.Linear else AdaptedTable if type(layer) is nn.Embedding else None
            if kind is not None:
                parent, _, last = name.rpartition(".")
                adapted = kind(layer, len(self.prompts), rank, scale, self.chosen)
                setattr(self.backbone.get_submodule(parent), last, adapted)

    def prompted(self, item: Item, prompt: str) -> Item:
        whole = super().prompted(item, prompt)
        return whole if whole is item else replace(whole, text=Prompted(whole.text, whole.text.removesuffix(item.text)))

    def prepare_item(self, item: Item) -> list[int]:
        prompt = getattr(item.text, "prompt", "")
        return _Adapted(super().prepare_item(item), self.prompts.index(prompt) if prompt in self.prompts else -1)

    def collate(self, reads: Sequence[list[int]]) -> Batch:
        batch, which = super().collate(reads), [getattr(read, "adapter", -1) for read in reads]
        return batch if max(which) < 0 else {**batch, "adapters": torch.tensor(which)}

    def forward(self, batch: Batch) -> Tokens:
        self.chosen.rows = batch.get("adapters")
        return super().forward(batch)

    def forward_layers(self, batch: Batch, layers: Sequence[int]) -> list[Tokens]:
        self.chosen.rows = batch.get("adapters")
        return super().forward_layers(batch, layers)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "prompts": self.prompts, "rank": self.rank, "scale": self.scale}


class Chosen:
    """The adapter of each text of the batch that is read, `(B,)`, -1 for none; None where no text has one."""

    rows: Tensor | None = None


class AdaptedLinear(nn.Linear):
    """A linear layer that adds to its output what the adapter of each text says: x W' + scale · x A' B'.

    Args:
        layer: whose weights it takes. adapters, rank, scale: how many there are, and of which size. chosen: says which.
    """

    def __init__(self, layer: nn.Linear, adapters: int, rank: int, scale: float, chosen: Chosen) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        like = {"dtype": layer.weight.dtype, "device": layer.weight.device}
        self.lora_A = nn.Parameter(torch.randn(adapters, rank, layer.in_features, **like) / rank)
        self.lora_B = nn.Parameter(torch.zeros(adapters, layer.out_features, rank, **like))
        self.scale, self.chosen = scale, chosen

    def forward(self, input: Tensor) -> Tensor:
        out, rows = super().forward(input), self.chosen.rows  # (B, T, out)
        if rows is None:
            return out
        low = input @ self.lora_A[rows].mT  # (B, T, rank); the last adapter where there is none, and taken back
        return out + (rows >= 0)[:, None, None] * (low @ self.lora_B[rows].mT) * self.scale


class AdaptedTable(nn.Embedding):
    """A table of tokens whose rows the adapter of each text changes: its A is a table too, and B leads to the width.

    Args:
        As AdaptedLinear.
    """

    def __init__(self, layer: nn.Embedding, adapters: int, rank: int, scale: float, chosen: Chosen) -> None:
        super().__init__(layer.num_embeddings, layer.embedding_dim, layer.padding_idx, _weight=layer.weight.data)
        self.weight = layer.weight
        like = {"dtype": layer.weight.dtype, "device": layer.weight.device}
        self.lora_A = nn.Parameter(torch.zeros(adapters, layer.num_embeddings, rank, **like))
        self.lora_B = nn.Parameter(torch.randn(adapters, rank, layer.embedding_dim, **like) / rank)
        self.scale, self.chosen = scale, chosen

    def forward(self, input: Tensor) -> Tensor:
        out, rows = F.embedding(input, self.weight, self.padding_idx), self.chosen.rows  # (B, T, W)
        if rows is None:
            return out
        low = self.lora_A[rows[:, None], input]  # (B, T, rank)
        return out + (rows >= 0)[:, None, None] * (low @ self.lora_B[rows]) * self.scale


class _Adapted(list[int]):
    """The ids of a text, and the number of its adapter."""

    def __init__(self, ids: list[int], adapter: int) -> None:
        super().__init__(ids)
        self.adapter = adapter
