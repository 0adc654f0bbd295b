"""A long text before it is tokenised: only as much of it as decides its first (or last) tokens, so that a megabyte is cheap.

The cut is by tokens and not by characters: a run of spaces, of base64 or of combining marks may be a token or ten thousand.
What is kept has more tokens than are read, ends where words end, and by a margin, since a tokenizer may join what stands
beside a cut in another way. Where no such part is found the whole text is tokenised.
"""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from unicodedata import category, combining

if TYPE_CHECKING:
    from zoo.encoders.rust import Core

_PER_TOKEN = 16  # characters that are tried for each token at first: over twice of what languages need
_SHORTEST = 2048
_BETWEEN, _INSIDE = 32, 128  # tokens beyond the limit, where the cut is between words, and where it is inside of one
_LONGEST_PIECE = 32  # characters; sentencepiece has 16
# Other white space is removed by some normalisers, and what it parted would be one word.
_LAST_WORD, _FIRST_WORD = re.compile(r"(?s).*[^ \n](?=[ \n])"), re.compile(r"(?<=[^ \n])[ \n]")


def shorten(
    text: str,
    limit: int,
    encode: Callable[[str], list[int]],
    *,
    side: str = "right",
    weighs: bool = True,
    marks: bool = True,
) -> str:
    """The beginning of a text that has its first `limit` tokens and more, or its end for those that are cut on the left.

    Args:
        encode: the tokens of a text, all of them, special ones left out. side: where what is too long is cut off.
        weighs: whether the tokenizer takes the likeliest pieces of a word as a whole (Unigram). Every way through the word has
            a piece that ends just before the cut, so that what all those ends agree on is certain.
        marks: whether a run of combining marks is one, which a normaliser may put in another order.
    """
    for piece, margin in _pieces(text, limit, side == "left", marks):
        if not margin:
            break
        ids = encode(piece)
        if len(ids) < limit + margin:
            continue
        ends = range(1, _LONGEST_PIECE) if weighs and margin == _INSIDE else ()
        if all(encode(piece[:-end])[:limit] == ids[:limit] for end in ends):
            return piece
    return text


def _pieces(text: str, limit: int, left: bool, marks: bool) -> Iterator[tuple[str, int]]:
    """Growing parts of a text, each with the number of tokens that it must have beyond the limit; at last all of it."""
    size = max(_PER_TOKEN * limit, _SHORTEST)
    while size < len(text):
        place, margin = _last_place(text, len(text) - size, size // 4) if left else _first_place(text, size, marks)
        if margin:
            yield (text[place:] if left else text[:place]), margin
        size *= 4
    yield text, 0


def _first_place(text: str, size: int, marks: bool) -> tuple[int, int]:
    """Where a beginning ends, in the last quarter of `size` characters, and the margin for it; 0 where nowhere."""
    if between := _LAST_WORD.match(text, size - size // 4, size + 1):
        return between.end(), _BETWEEN
    place = next((p for p in range(size, size - size // 4, -1) if not marks or _begins(text[p])), None)
    return (0, 0) if place is None else (place, _INSIDE)


def _last_place(text: str, start: int, length: int) -> tuple[int, int]:
    """Where an end begins: between words alone, since words are joined from their beginning."""
    between = _FIRST_WORD.search(text, start, start + length)
    return (between.start(), _BETWEEN) if between else (0, 0)


def _begins(character: str) -> bool:
    """Whether a character begins something: no mark on the one before, and no joiner."""
    return not combining(character) and category(character)[0] not in "MC"


def encoder_of(core: "Core") -> tuple[Callable[[str], list[int]], bool]:
    """The arguments `encode` and `weighs` for a `tokenizers` tokenizer, whether it cuts and fills or not.

    Other threads may use it at the same time, so that its settings are not touched.
    """

    def encode(text: str) -> list[int]:
        encoding = core.encode(text, special=False)
        parts = (encoding, *encoding.overflowing)
        return [id for part in parts for id, real in zip(part.ids, part.attention_mask, strict=True) if real]

    return encode, type(core.tokenizer.model).__name__ == "Unigram"
