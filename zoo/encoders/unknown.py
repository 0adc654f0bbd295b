"""What a tokenizer does not know: texts of which every token stands for "unknown" would all have one vector."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from zoo.encoders.rust import Core, naming

# Scripts that no vocabulary of whole characters holds: hieroglyphs, cuneiform, Vai. Whoever reads bytes reads them too.
_PROBE = "\U00013000 \U00012000 \ua500"
_SPACE = "▁ \t\n"  # of tokens that stand for nothing but the beginning of a word
_FEW = 4  # special tokens of a sequence, at most


class Vocabulary:
    """What the tokenizer of an encoder knows.

    Args:
        tokenizer: a `tokenizers.Tokenizer` or one of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._core = Core(tokenizer) if hasattr(tokenizer, "id_to_token") else None

    def _tokens(self, text: str) -> list[tuple[int, str, str]]:
        """(id, what it stands for in the text, its entry in the vocabulary) of each token, without special ones."""
        if self._core is not None:
            found = self._core.encode(text, special=False)
            return [(i, t, self._tokenizer.id_to_token(i)) for i, t in zip(found.ids, found.tokens, strict=True)]
        with naming(text):
            ids = self._tokenizer(text, add_special_tokens=False).input_ids
        tokens = self._tokenizer.convert_ids_to_tokens(ids)
        return list(zip(ids, tokens, tokens, strict=True))

    @cached_property
    def unknown(self) -> int | None:
        """The id that stands for unknown; None for tokenizers that know every text, since they fall back to bytes."""
        if hasattr(self._tokenizer, "id_to_token"):
            token = getattr(self._tokenizer.model, "unk_token", None)
            declared = None if token is None else self._tokenizer.token_to_id(token)
        else:
            declared = getattr(self._tokenizer, "unk_token_id", None)
        probed = self._tokens(_PROBE)
        if declared is None:  # Unigram does not say it, but for an unknown piece its token is the text itself
            return next((i for i, token, entry in probed if token != entry), None)
        return declared if not probed or declared in {i for i, _, _ in probed} else None

    def share(self, text: str) -> float:
        """Share of the text's tokens that are unknown; 1 where a text has no tokens at all."""
        tokens = [(i, token) for i, token, _ in self._tokens(text) if i == self.unknown or token.strip(_SPACE)]
        if not tokens:
            return 1.0
        return sum(i == self.unknown for i, _ in tokens) / len(tokens) if self.unknown is not None else 0.0

    def doubtful(self, ids: Sequence[int], text: str, prefix: str | None) -> bool:
        """Whether it is worth asking for `share`; costs next to nothing.

        Args:
            ids: of prefix and text, special tokens included. prefix: the prompt, None where ids are filled up.
        """
        if not ids or (self.unknown is not None and self.unknown in ids):
            return True
        few = prefix is None or len(ids) <= _FEW + len(prefix)
        return few and not any(c.isascii() and c.isalnum() for c in text)
