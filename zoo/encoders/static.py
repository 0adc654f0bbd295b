"""A token table without context: the fastest text encoder there is (word2vec, model2vec, StaticEmbedding)."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from torch import nn

from zoo.encoders.base import Batch, Cut, Encoder
from zoo.encoders.tokenizing import MissingTokenizer, Tokenize, check_ids, check_limit, load_tokenizer, pad
from zoo.inputs.item import Item, Tokens


class StaticText(Encoder):
    """Rows of a table, one per token; order does not matter once they are averaged.

    Args:
        vocab_size: rows of the table. width: its columns.
        max_tokens: longest text, None for any length.
        special_tokens: whether [CLS] and the like are looked up too.
        drops_unknown: as model2vec: unknown tokens are left out, and a longer text is cut twice, first after `max_tokens` times the
            median length in characters of the vocabulary's entries.
        assets, tokenizer: folder with tokenizer.json, or a `tokenizers.Tokenizer`.
    """

    modalities = frozenset({"text"})
    batch_budget = 16384

    def __init__(
        self,
        vocab_size: int,
        width: int,
        max_tokens: int | None = None,
        special_tokens: bool = False,
        assets: Path | None = None,
        tokenizer: Any = None,
        drops_unknown: bool = False,
    ) -> None:
        super().__init__()
        self.drops_unknown = drops_unknown
        self.vocab_size, self.width, self.max_tokens, self.special_tokens = (
            vocab_size,
            width,
            max_tokens,
            special_tokens,
        )
        self.table = nn.Embedding(vocab_size, width)
        self.tokenize: Tokenize = MissingTokenizer("this static text encoder")
        if assets is not None or tokenizer is not None:
            self.tokenize = load_tokenizer(tokenizer or assets, max_tokens, special_tokens=special_tokens)

    def prepare_item(self, item: Item) -> list[int]:
        ids = check_ids(self.tokenize(self._beginning(item.text)), self.vocab_size, "this static text encoder")
        if self.drops_unknown:
            return [number for number in ids if number != self.tokenize.vocabulary.unknown]
        return ids or [
            0
        ]  # a text of characters outside the vocabulary may have no token at all: row 0 stands for "unknown"

    def _beginning(self, text: str) -> str:
        """What is tokenised of a text."""
        cut = self.drops_unknown and self.max_tokens is not None and isinstance(text, str)
        return text[: self.max_tokens * self._median_length] if cut else text

    @cached_property
    def _median_length(self) -> int:
        return int(median(map(len, self.tokenize.tokenizer.get_vocab())))

    def cut(self, item: Item) -> Cut | None:
        text = self._beginning(item.text)
        return self.tokenize.cut(text) or (None if text == item.text else Cut(self.max_tokens))

    def text_tokens(self, item: Item) -> int | None:
        return self.tokenize.count(item.text)

    def unknown_share(self, item: Item) -> float:
        return self.tokenize.unknown_share(item.text)

    def doubtful(self, read: list[int], prompted: Item, item: Item) -> bool:
        return self.tokenize.vocabulary.doubtful(read, item.text, prompted.text.removesuffix(item.text))

    def collate(self, reads: Sequence[list[int]]) -> Batch:
        ids, mask = pad(reads)
        return {"ids": ids, "mask": mask}

    def length(self, read: list[int]) -> int:
        return len(read)

    def limit(self, max_tokens: int) -> None:
        self.max_tokens = check_limit(max_tokens, None)
        self.tokenize.limit(max_tokens)

    def forward(self, batch: Batch) -> Tokens:
        return Tokens(self.table(batch["ids"]), batch["mask"])

    def config(self) -> dict[str, Any]:
        return {
            "vocab_size": self.vocab_size,
            "width": self.width,
            "max_tokens": self.max_tokens,
            "special_tokens": self.special_tokens,
            **({"drops_unknown": True} if self.drops_unknown else {}),
        }

    def save_assets(self, folder: Path) -> None:
        self.tokenize.save(folder)
