"""Texts as LLM2Vec reads them: as one turn of a conversation, of which the text and what closes the turn are pooled.

Behnam Ghader et al., 2024, arxiv:2404.05961, as llm2vec/llm2vec.py of McGill-NLP/llm2vec computes it.
"""

from pathlib import Path
from typing import Any

from torch import nn

from zoo.encoders.base import Cut
from zoo.encoders.text import After, Prompted, TransformersText
from zoo.encoders.tokenizing import check_ids, check_text
from zoo.errors import TooManyTokensError
from zoo.inputs.item import Item

SPARE = 112  # tokens left for the instruction and the turn, of those that are read
_LETTERS = 64  # that no token has


class WrappedText(TransformersText):
    """A text backbone that reads `before`, prompt, text and `after`, and pools the text and `after`.

    A text of more tokens than `max_tokens` - SPARE loses its last words, its lines and spaces with them, until it has no more.

    Args:
        before, after: the turn. The others as TransformersText; a prompt is never pooled.
    """

    def __init__(
        self,
        config: dict[str, Any],
        max_tokens: int,
        before: str,
        after: str,
        lower: bool = False,
        padding_side: str = "right",
        assets: Path | None = None,
        backbone: nn.Module | None = None,
        tokenizer: Any = None,
        pool_prompt: bool = False,
    ) -> None:
        super().__init__(config, max_tokens, lower, padding_side, assets, backbone, tokenizer, pool_prompt)
        self.before, self.after = before, after

    def prepare_item(self, item: Item) -> list[int]:
        config, (prompt, text) = self.backbone.config, self._parts(item)
        turn = f"{self.before}{prompt}{text}{self.after}"
        ids = check_ids(self.tokenize(turn), config.vocab_size, config.model_type)
        own = len(self.tokenize.own_ids(text + self.after))
        skipped = len(ids) - own if own else 0
        if len(ids) == self.max_tokens and self.tokenize.cut(turn):  # so that its last tokens are not the text's alone
            skipped = max(skipped, self.tokenize.prompt_length(self.before + prompt))
        if skipped >= len(ids):
            raise TooManyTokensError(
                f"the prompt alone has {skipped} tokens and the model reads {len(ids)}, so that nothing of the text is left; "
                "shorten it"
            )
        return After(ids, max(skipped, 0))

    def cut(self, item: Item) -> Cut | None:
        (prompt, text), whole = self._parts(item), _apart(item)[1]
        if text.split() != whole.split():
            return Cut(self._room)
        return self.tokenize.cut(f"{self.before}{prompt}{text}{self.after}")

    def config(self) -> dict[str, Any]:
        return {**super().config(), "before": self.before, "after": self.after}

    @property
    def _room(self) -> int:
        """How many tokens a text may have; where few are read, as many as are read."""
        return self.max_tokens - SPARE if self.max_tokens > 2 * SPARE else self.max_tokens

    def _parts(self, item: Item) -> tuple[str, str]:
        """A text's prompt, and the text as it is read."""
        prompt, text = _apart(item)
        text = self._shortened(check_text(text))
        return prompt, text.rstrip() if self.after else text

    def _shortened(self, text: str) -> str:
        """A text's first words, as many as have no more tokens than there is room for; of one word all, for the tokenizer to cut."""
        words = text.split()
        while (count := self._count(text)) > self._room and len(words) > 1:
            words = words[: max(1, int(len(words) * (self._room / count)))]
            text = " ".join(words)
        return text

    def _count(self, text: str) -> int:
        """Tokens of a text, at most `max_tokens`; of a long one its beginning tells."""
        if len(text) > (most := _LETTERS * self.max_tokens) and self._count(text[:most]) == self.max_tokens:
            return self.max_tokens
        return min(len(self.tokenize.own_ids(text)), self.max_tokens)


def _apart(item: Item) -> tuple[str, str]:
    """A text's prompt and the text."""
    prompt = item.text.prompt if isinstance(item.text, Prompted) else ""
    return prompt, item.text[len(prompt) :]
