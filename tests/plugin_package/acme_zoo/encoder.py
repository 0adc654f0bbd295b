"""An encoder: the letters of a text, three at a time, each a row of a table."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import torch
from torch import nn

from zoo.encoders.base import Batch, Encoder
from zoo.inputs.item import Item, Tokens
from zoo.registry.parts import register_part


@register_part("encoder", "acme-zoo:Trigrams")
class Trigrams(Encoder):
    """Rows of a table by the checksum of three letters: no tokenizer, so nothing is saved beside the weights."""

    modalities = frozenset({"text"})

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.table = nn.Embedding(rows, width)

    def prepare_item(self, item: Item) -> list[int]:
        text = f" {item.text.lower()} "
        return [crc32(text[at : at + 3].encode()) % self.table.num_embeddings for at in range(len(text) - 2)] or [0]

    def collate(self, reads: Sequence[list[int]]) -> Batch:
        ids = nn.utils.rnn.pad_sequence([torch.tensor(read) for read in reads], batch_first=True)  # (B, T)
        lengths = torch.tensor([len(read) for read in reads])
        return {"ids": ids, "mask": torch.arange(ids.shape[1]) < lengths[:, None]}

    def forward(self, batch: Batch) -> Tokens:
        return Tokens(self.table(batch["ids"]), batch["mask"])

    def config(self) -> dict[str, Any]:
        return {"rows": self.table.num_embeddings, "width": self.width}
