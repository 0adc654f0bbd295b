"""Texts whose prompt is tokens around those of the text: the brackets of SGPT, the mode of UniXcoder."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from zoo.encoders.base import Cut, before_text
from zoo.encoders.text import TransformersText
from zoo.encoders.tokenizing import check_ids
from zoo.errors import MissingWeightsError, TooManyTokensError
from zoo.inputs.item import Item

TEXT = "$A"


class AroundText(TransformersText):
    """A text backbone that puts some prompts around a text's tokens, where their letters could become part of another token.

    They stand between the special tokens at its ends. A text is cut so that all of them fit; other prompts are written before it.

    Args:
        around: prompt → the tokens around a text, "$A", as the vocabulary has them ("[ $A ]"). The others as TransformersText.
    """

    def __init__(
        self,
        config: dict[str, Any],
        max_tokens: int,
        around: Mapping[str, str],
        lower: bool = False,
        padding_side: str = "right",
        assets: Path | None = None,
        backbone: nn.Module | None = None,
        tokenizer: Any = None,
        pool_prompt: bool = True,
    ) -> None:
        super().__init__(config, max_tokens, lower, padding_side, assets, backbone, tokenizer, pool_prompt)
        self.around = dict(around)

    def prompted(self, item: Item, prompt: str) -> Item:
        whole = super().prompted(item, prompt)
        marks = self.around.get(before_text(item, prompt)) if whole is not item else None
        return whole if marks is None else replace(whole, text=_Around(item.text, marks))

    def prepare_item(self, item: Item) -> list[int]:
        text = item.text
        if not isinstance(text, _Around):
            return super().prepare_item(item)
        ids = self.tokenize(self.written(text))
        first, last = self._marks[text.marks]
        before, after = self.tokenize.ends
        begin, end = len(before), len(ids) - len(after)
        over = max(0, len(ids) + len(first) + len(last) - self.max_tokens)
        if over and over >= end - begin:
            raise TooManyTokensError(
                f"of a text no token is left beside {text.marks!r} where {self.max_tokens} are read"
            )
        kept = ids[begin + over : end] if self.tokenize.side == "left" else ids[begin : end - over]
        ids = [*ids[:begin], *first, *kept, *last, *ids[end:]]
        return check_ids(ids, self.backbone.config.vocab_size, self.backbone.config.model_type)

    def cut(self, item: Item) -> Cut | None:
        if not isinstance(item.text, _Around):
            return super().cut(item)
        marks = sum(map(len, self._marks[item.text.marks]))
        whole = self.tokenize.cut(self.written(item.text))
        fits = len(self.tokenize(self.written(item.text))) + marks <= self.max_tokens
        return whole if whole or fits else Cut(self.max_tokens, self.tokenize.side)

    def text_tokens(self, item: Item) -> int | None:
        whole = super().text_tokens(item)
        return whole + sum(map(len, self._marks[item.text.marks])) if isinstance(item.text, _Around) else whole

    @cached_property
    def _marks(self) -> dict[str, tuple[list[int], list[int]]]:
        """Of each template the ids before a text and after it.

        Raises:
            MissingWeightsError: the tokenizer has no such token.
        """
        found = {}
        for marks in self.around.values():
            first, _, last = marks.partition(TEXT)
            found[marks] = (self._ids(first), self._ids(last))
        return found

    def _ids(self, tokens: str) -> list[int]:
        ids = {token: self.tokenize.id_of(token) for token in tokens.split()}
        if lost := [token for token, number in ids.items() if number is None]:
            raise MissingWeightsError(
                f"the tokenizer has no token {lost[0]!r}, which this model's texts begin or end with: its files are another model's"
            )
        return [ids[token] for token in tokens.split()]

    def config(self) -> dict[str, Any]:
        return {**super().config(), "around": self.around}


class _Around(str):
    """A text that remembers what stands around its tokens."""

    marks: str

    def __new__(cls, text: str, marks: str) -> "_Around":
        whole = super().__new__(cls, text)
        whole.marks = marks
        return whole
