"""Texts of bge-en-icl: examples of a task, the query with its instruction, and words after it that ask for the answer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from zoo.encoders.base import Cut
from zoo.encoders.text import TransformersText
from zoo.encoders.tokenizing import check_ids, check_text
from zoo.errors import TooManyTokensError
from zoo.inputs.item import Item


class InContextText(TransformersText):
    """A text backbone that ends texts with a prompt by some words; texts without one stand alone.

    As in FlagEmbedding's `ICLLLMEmbedder`, instruction and query become tokens, are cut, and are written out again before examples and
    closing words are put around them: where a tokenizer writes spaces that were not there, they become tokens too. Examples and
    closing words stay whole.

    Args:
        closing: what stands after a query ("\\n<response>"). begins: how an instruction begins ("<instruct>"); of a prompt the last
            one is the query's own, those before are the examples'. The others as TransformersText.
    """

    def __init__(
        self,
        config: dict[str, Any],
        max_tokens: int,
        closing: str,
        begins: str,
        lower: bool = False,
        padding_side: str = "right",
        assets: Path | None = None,
        backbone: nn.Module | None = None,
        tokenizer: Any = None,
        pool_prompt: bool = True,
    ) -> None:
        super().__init__(config, max_tokens, lower, padding_side, assets, backbone, tokenizer, pool_prompt)
        self.closing, self.begins = closing, begins

    def prompted(self, item: Item, prompt: str) -> Item:
        whole = super().prompted(item, prompt)
        if whole is item:
            return item
        said = str(whole.text).removesuffix(item.text)
        return replace(whole, text=_Query(whole.text, max(0, said.rfind(self.begins))))

    def prepare_item(self, item: Item) -> list[int]:
        if not isinstance(item.text, _Query):
            return super().prepare_item(item)
        examples, own, room = self._parts(item.text)
        again = self.tokenize.written(own[:room])
        begin, end = self.tokenize.ends
        ids = [*begin, *self.tokenize.own_ids(examples + again + self.closing), *end]
        return check_ids(ids, self.backbone.config.vocab_size, self.backbone.config.model_type)

    def cut(self, item: Item) -> Cut | None:
        if not isinstance(item.text, _Query):
            return super().cut(item)
        _, own, room = self._parts(item.text)
        return Cut(self.max_tokens) if len(own) > room else None

    def text_tokens(self, item: Item) -> int | None:
        return None if isinstance(item.text, _Query) else super().text_tokens(item)

    def _parts(self, text: "_Query") -> tuple[str, list[int], int]:
        """The examples, the ids of instruction and query, and how many of these there is room for.

        Raises:
            TooManyTokensError: there is none beside the examples.
        """
        check_text(text)
        examples = text[: text.at]
        closing, ends = len(self.tokenize.own_ids(self.closing)), sum(map(len, self.tokenize.ends))
        room = self.max_tokens - closing - ends - (len(self.tokenize.own_ids(examples)) if examples else 0)
        if room < 1:
            raise TooManyTokensError(
                f"the examples leave no room for a query where {self.max_tokens:,} tokens are read; show fewer or shorter ones"
            )
        return examples, self.tokenize.own_ids(text[text.at :]), room

    def config(self) -> dict[str, Any]:
        return {**super().config(), "closing": self.closing, "begins": self.begins}


class _Query(str):
    """A text with a prompt, of which the query's own instruction begins at a character."""

    at: int

    def __new__(cls, text: str, at: int) -> "_Query":
        whole = super().__new__(cls, text)
        whole.at = at
        return whole
