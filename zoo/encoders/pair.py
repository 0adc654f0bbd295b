"""PairText: a text backbone that reads two texts as one sequence, `[CLS] query [SEP] document [SEP]`, as cross-encoders do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from zoo.encoders.base import Batch
from zoo.encoders.rust import naming
from zoo.encoders.shortening import encoder_of
from zoo.encoders.text import TransformersText
from zoo.encoders.tokenizing import FastTokenizer, MissingTokenizer, check_ids, pad
from zoo.errors import ArgumentError, MissingWeightsError

TYPES = "token_type_ids"


class Pair(NamedTuple):
    """Two texts as one sequence: `ids` of the tokens, and of each the text that it is of, `types`, 0 or 1."""

    ids: list[int]
    types: list[int]


class PairText(TransformersText):
    """`TransformersText` of two texts. What puts them in a row, and where both are cut, is the tokenizer's own.

    Too long a pair loses tokens of the longer text first, as transformers' `truncation="longest_first"`.

    Args:
        config, max_tokens, lower, padding_side, assets, backbone, tokenizer: as `TransformersText`.

    Raises:
        ArgumentError: nothing of the texts would be left of so few tokens.
    """

    def __init__(
        self,
        config: dict[str, Any],
        max_tokens: int,
        lower: bool = False,
        padding_side: str = "right",
        assets: Path | None = None,
        backbone: nn.Module | None = None,
        tokenizer: Any = None,
    ) -> None:
        if tokenizer is None and assets is not None:
            from zoo.encoders.tokenizing import open_tokenizer

            tokenizer = open_tokenizer(assets)
        super().__init__(config, max_tokens, lower, padding_side, None, backbone, tokenizer)
        self.tokenizer = _as_transformers(tokenizer, max_tokens, self.backbone.config)
        names = getattr(self.tokenizer, "model_input_names", ())
        # Of the backbones that have one table of types alone, and of those that have none, every token is of the same text.
        self.types = TYPES in names and (getattr(self.backbone.config, "type_vocab_size", 0) or 0) > 1
        if isinstance(self.tokenize, FastTokenizer) and max_tokens <= (
            own := self.tokenize.tokenizer.num_special_tokens_to_add(True)
        ):
            raise ArgumentError(
                f"a pair cannot be cut after {max_tokens} tokens: {own} are the tokenizer's own, and none would be the texts'"
            )

    def prepare_pair(self, query: str, document: str) -> Pair:
        """Both texts as one sequence.

        Raises:
            InputError: a text that cannot be read. MissingWeightsError: there is no tokenizer.
        """
        first, second = (self._begun(text) for text in (query, document))
        if isinstance(self.tokenize, FastTokenizer):
            if first != query and second != document:
                first, second = self._in_order(first, second, query, document)
            read = self.tokenize.core.encode(first, pair=second)
            ids, types = list(read.ids), list(read.type_ids)
        else:
            with naming(first):
                cut = {"truncation": "longest_first", "max_length": self.max_tokens}
                read = self.tokenize.tokenizer(first, second, return_token_type_ids=self.types, **cut)
            ids, types = list(read["input_ids"]), list(read.get(TYPES, [0] * len(read["input_ids"])))
        config = self.backbone.config
        return Pair(check_ids(ids, config.vocab_size, config.model_type), types)

    def lost_tokens(self, query: str, document: str) -> int:
        """How many of the tokens of both texts are not read, 0 where all are; raises as `prepare_pair`."""
        begun = [self._begun(text) for text in (query, document)]
        if isinstance(self.tokenize, FastTokenizer):
            encode, _ = encoder_of(self.tokenize.core)
            own = self.tokenize.tokenizer.num_special_tokens_to_add(True)
            if own + sum(len(encode(text)) for text in begun) <= self.max_tokens:
                return 0
            return own + sum(len(encode(text)) for text in (query, document)) - self.max_tokens
        with naming(begun[0]):
            return max(
                0, len(self.tokenize.tokenizer(query, document, truncation=False)["input_ids"]) - self.max_tokens
            )

    def _begun(self, text: str) -> str:
        """Of a long text what decides the tokens that are read of it."""
        if isinstance(self.tokenize, MissingTokenizer):
            self.tokenize(text)
        return self.tokenize._start(text)

    def _in_order(self, first: str, second: str, query: str, document: str) -> tuple[str, str]:
        """Parts of two long texts of which that of the longer text is the longer part: by it goes where an odd token is kept."""
        encode, _ = encoder_of(self.tokenize.core)
        right, parts, wholes = self.tokenize.side == "right", [first, second], (query, document)
        longer = len(encode(query)) > len(encode(document))
        while (len(encode(parts[0])) > len(encode(parts[1]))) != longer:
            at = 0 if longer else 1  # which must grow, and has the tokens for it
            size = 2 * len(parts[at])
            parts[at] = wholes[at][:size] if right else wholes[at][-size:]
        return parts[0], parts[1]

    def length(self, read: Pair) -> int:
        return len(read.ids)

    def collate(self, reads: Sequence[Pair]) -> Batch:
        """Ids, mask and, where the backbone has them, types `(batch, tokens)`."""
        ids, mask = pad([read.ids for read in reads], self.backbone.config.pad_token_id or 0)
        return {"ids": ids, "mask": mask} | ({"types": pad([read.types for read in reads])[0]} if self.types else {})

    def limit(self, max_tokens: int) -> None:
        super().limit(max_tokens)
        if self.tokenizer is not None:
            self.tokenizer.model_max_length = max_tokens

    def save_assets(self, folder: Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json, by which transformers and sentence-transformers read pairs too."""
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)


def _as_transformers(tokenizer: Any, max_tokens: int, config: Any) -> Any:
    """transformers' tokenizer around `tokenizers`' own, which does not say by itself what fills a batch; others as they are."""
    from tokenizers import Tokenizer

    if not isinstance(tokenizer, Tokenizer):
        if tokenizer is not None:
            tokenizer.model_max_length = max_tokens
        return tokenizer
    from transformers import PreTrainedTokenizerFast

    filler = tokenizer.id_to_token(config.pad_token_id or 0)
    if filler is None:
        raise MissingWeightsError(f"the tokenizer has no token {config.pad_token_id or 0}, by which batches are filled")
    names = ["input_ids", "attention_mask", *([TYPES] if (getattr(config, "type_vocab_size", 0) or 0) > 1 else [])]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=filler, model_max_length=max_tokens, model_input_names=names
    )
