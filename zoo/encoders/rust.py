"""`tokenizers`' own tokenizer after two bounds: a text is no longer after normalising than before, and no panic gets out.

What its file asks for was bounded when it was opened (`zoo.strangers`); this room holds each text to it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from zoo.errors import InvalidTextError, MissingWeightsError, ZooError
from zoo.strangers.tokenizer_steps import Growth, growth_of
from zoo.strangers.tokenizers import check_ends

MAX_CHARACTERS = 10_000_000  # of a text, before it is normalised and after
_SHORT = 1_000  # characters that no tokenizer which was let in makes dangerous
_PIECE = 4_000_000  # characters that a piece becomes at most, where a text is normalised to be measured
_BYTES = 4  # letters that ByteLevel, which most tokenizers have, makes of one character
_UNTOLD = Growth(
    18, _BYTES
)  # of steps written in Python, which do not tell what they do: as Unicode's forms and ByteLevel


class Core:
    """A `tokenizers.Tokenizer` whose `encode` raises errors by name and takes no more memory than the longest text does."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def growth(self) -> Growth:
        """How much longer its steps can make a text.

        Raises:
            UnrecognisedCheckpointError: more than any tokenizer needs.
        """
        try:
            parts = [_state(part) for part in (self.tokenizer.normalizer, self.tokenizer.pre_tokenizer)]
        except Exception:  # `tokenizers` raises it bare
            return _UNTOLD
        return growth_of(*parts, "the tokenizer")

    def check_steps(self, where: object) -> None:
        """Holds to bounds what its steps make of a text, and what is put around it, whoever has built them.

        Raises:
            UnrecognisedCheckpointError: more than any tokenizer needs.
        """
        _ = self.growth
        with opening(where):
            ends = _state(self.tokenizer.post_processor)
        check_ends(ends, f"{where}: post_processor")

    def encode(self, text: str, special: bool = True, pair: str | None = None) -> Any:
        """`tokenizers`' encoding of a text.

        Args:
            special: with special tokens around it. pair: a second text, which follows it in the same sequence.

        Raises:
            InvalidTextError: it is too long once normalised, or the tokenizer cannot read it.
        """
        self.check(text)
        if pair is not None:
            self.check(pair)
        with naming(text):
            return self.tokenizer.encode(text, pair, add_special_tokens=special)

    def check(self, text: str) -> None:
        """Raises InvalidTextError for a text that is too long once normalised; of most, their length says that they are not."""
        if len(text) <= _SHORT:
            return
        growth = self.growth
        most = MAX_CHARACTERS * min(1.0, _BYTES / growth.splitting)
        if len(text) * growth.normalizing <= most:
            return
        normalizer = self.tokenizer.normalizer
        normalize = str if normalizer is None else normalizer.normalize_str
        step, length = max(1, int(_PIECE / growth.normalizing)), 0
        for start in range(0, len(text), step):
            with naming(text):
                length += len(normalize(text[start : start + step]))
            if length > most:
                raise InvalidTextError(
                    f"a text of {len(text):,} characters becomes more than {most:,.0f} once it is normalised; split it",
                    what=repr(text[:40]),
                )


@contextmanager
def naming(text: str) -> Iterator[None]:
    """Makes what goes wrong in a tokenizer an error of the text that it reads.

    Raises:
        InvalidTextError: a bare Exception or a panic of `tokenizers`, which stands beside Exception and would end a server's
            thread; of transformers' own tokenizers whatever a vocabulary that does not hold together leads to.
    """
    try:
        yield
    except (ZooError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not panicked(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InvalidTextError(
            f"the model's tokenizer cannot read the text {text[:20]!r} ({reason}); leave it out", what=repr(text[:40])
        ) from error


@contextmanager
def opening(what: object) -> Iterator[None]:
    """Makes whatever goes wrong while a tokenizer's files are read an error that names them.

    Raises:
        MissingWeightsError: `tokenizers` raises bare Exception or panics, transformers whatever the damage leads to.
    """
    try:
        yield
    except ZooError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not panicked(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise MissingWeightsError(f"{what} cannot be read: {reason}") from error


def panicked(error: BaseException) -> bool:
    """Whether Rust gave up inside of `tokenizers`, whose error stands beside Exception."""
    return type(error).__name__ == "PanicException"


def _state(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())
