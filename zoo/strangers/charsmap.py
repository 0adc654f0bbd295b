"""sentencepiece's map of characters (`precompiled_charsmap`): held together, and how much longer it makes a text.

Little-endian: bytes of the trie, the trie (Darts-clone's units of 32 bits), and the replacements, each ended by a zero byte.
`tokenizers` takes the first number as it is and allocates by it, which ends the process, and reads past the trie's end.
"""

import base64
import binascii
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# nmt_nfkc, which nearly every model has, takes 240 kB, and its longest replacement (of U+FDFA) 33 bytes for 3.
MOST_BYTES = 8_000_000
LONGEST_REPLACEMENT = 256
_DEEPEST = 5  # bytes of a key that `tokenizers` looks up: graphemes below six bytes, or one character


class CharsmapError(ValueError):
    """A map that is damaged, or made to do harm; the message says how in words that follow "its map of characters"."""


@lru_cache(maxsize=4)
def growth(text: str) -> int:
    """Characters that one character becomes at most by a map in base64, as tokenizer.json has it.

    Raises:
        CharsmapError: it does not hold together.
    """
    if len(text) > MOST_BYTES * 4 // 3 + 4:
        raise CharsmapError(f"has {len(text):,} letters of base64, more than any map needs")
    try:
        return growth_of(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise CharsmapError(f"is no base64: {error}") from error


def growth_of(data: bytes) -> int:
    """As `growth`, of a map's bytes."""
    import numpy as np

    size = int.from_bytes(data[:4], "little")
    if len(data) > MOST_BYTES:
        raise CharsmapError(f"has {len(data):,} bytes, more than any map needs")
    if len(data) < 8 or size % 4 or not 4 <= size <= len(data) - 4:
        raise CharsmapError(f"promises a trie of {size:,} bytes in {len(data):,}")
    units = np.frombuffer(data[4 : 4 + size], "<u4")
    replacements = data[4 + size :]
    try:
        replacements.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CharsmapError(f"has replacements that are no UTF-8: {error}") from error
    longest = 1
    for place in _leaves(units).tolist():
        if place > len(replacements) or (place < len(replacements) and replacements[place] & 0xC0 == 0x80):
            raise CharsmapError(f"names the replacement at byte {place:,} of {len(replacements):,}")
        end = replacements.find(b"\0", place)
        found = replacements[place : end if end >= 0 else len(replacements)]
        if len(found) > LONGEST_REPLACEMENT:
            raise CharsmapError(f"has a replacement of {len(found):,} bytes; at most {LONGEST_REPLACEMENT}")
        longest = max(longest, len(found.decode("utf-8")))
    return longest


def _leaves(units: "np.ndarray") -> "np.ndarray":
    """The values of every key that can be looked up; each way through the trie stays inside of it."""
    import numpy as np

    places = np.arange(units.size, dtype=np.int64)
    labels = (units & 0x800000FF).astype(np.int64)  # of a letter's unit its letter
    parents = places ^ (labels & 0xFF)
    letters = (labels > 0) & (labels < 256) & (parents < units.size)
    found, ways = [], np.zeros(1, np.int64)
    for _ in range(_DEEPEST):
        nodes = ways ^ _offsets(units[ways])
        if nodes.size and int(nodes.max()) | 0xFF >= units.size:  # where any letter may be looked for
            raise CharsmapError("has a trie that leads beyond its end")
        reached = np.zeros(units.size, bool)
        reached[nodes] = True
        ways = places[letters & reached[np.minimum(parents, units.size - 1)]]
        ended = ways[(units[ways] >> 8) & 1 == 1]
        leaves = ended ^ _offsets(units[ended])
        if leaves.size and int(leaves.max()) >= units.size:
            raise CharsmapError("has a trie that leads beyond its end")
        found.append(units[leaves] & 0x7FFFFFFF)
    return np.unique(np.concatenate(found))


def _offsets(units: "np.ndarray") -> "np.ndarray":
    import numpy as np

    wide = units.astype(np.int64)
    return (wide >> 10) << ((wide & (1 << 9)) >> 6)


# ------------------------------------------------------------------------------------------- a sentencepiece model's own


def of_model(data: bytes) -> bytes | None:
    """The map inside of a sentencepiece model (a protocol buffer: normalizer_spec, field 3, its field 2); None without one.

    Raises:
        CharsmapError: the bytes are no protocol buffer.
    """
    found = None
    for number, value in _fields(data):
        if number == 3 and isinstance(value, memoryview):
            for inner, content in _fields(value):
                if inner == 2 and isinstance(content, memoryview):
                    found = bytes(content)
    return found or None


def _fields(data: "bytes | memoryview") -> "list[tuple[int, memoryview | int]]":
    view, at, found = memoryview(data), 0, []
    while at < len(view):
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(view, at)
            found.append((number, value))
            continue
        if kind == 2:
            size, at = _varint(view, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise CharsmapError(f"is no protocol buffer (a field of kind {kind})")
        if at + size > len(view):
            raise CharsmapError("is no protocol buffer (a field longer than the file)")
        found.append((number, view[at : at + size]))
        at += size
    return found


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise CharsmapError("is no protocol buffer (a number without an end)")
