"""What a tokenizer.json does to a text before its model sees it, step by step, and how much longer the text can become.

Bounds stand far above what tokenizers have that were looked at (`zoo-mini`'s, those of the tests, and all that transformers'
converters build: at most 8 normalisers and 7 pre-tokenisers, replacements of two characters, 648 characters for one).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Annotated, Any, Literal

from zoo.errors import UnrecognisedCheckpointError
from zoo.strangers import charsmap, patterns
from zoo.strangers.schema import Range, check_keys

MOST_STEPS, DEEPEST = 100, 6
LARGEST_GROWTH = 2500  # characters for one, of normalising and splitting together
LARGEST_SPLIT = 16  # characters for one, of splitting alone
_CANONICAL = (
    4  # characters that Unicode's forms make of one at most; 18 where letters that only look alike count as one
)
_FORMS = {"NFC": _CANONICAL, "NFD": _CANONICAL, "NFKC": 18, "NFKD": 18, "Lowercase": 1, "StripAccents": 0, "Strip": 0}

Short = Annotated[str, Range(0, 100)]
Letter = Annotated[str, Range(1, 1)]
Pattern = dict[str, str]
_BEHAVIOR = Literal["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
_SCHEME = Literal["first", "never", "always"]
_METASPACE = {"add_prefix_space": bool, "str_rep": Short, "prepend_scheme": _SCHEME, "split": bool}
_BYTES = {"add_prefix_space": bool, "trim_offsets": bool, "use_regex": bool}

# Kind → its settings that must be there, and those that may.
NORMALIZERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Sequence": ({"normalizers": list}, {}),
    "BertNormalizer": (
        {},
        {"clean_text": bool, "handle_chinese_chars": bool, "strip_accents": bool | None, "lowercase": bool},
    ),
    **dict.fromkeys(("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel"), ({}, {})),
    "Strip": ({}, {"strip_left": bool, "strip_right": bool}),
    "Prepend": ({"prepend": Short}, {}),
    "Replace": ({"pattern": Pattern, "content": Short}, {}),
    "Precompiled": ({"precompiled_charsmap": str}, {}),
}
PRE_TOKENIZERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Sequence": ({"pretokenizers": list}, {}),
    **dict.fromkeys(("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "UnicodeScripts"), ({}, {})),
    "ByteLevel": ({}, _BYTES),
    "CharDelimiterSplit": ({"delimiter": Letter}, {}),
    "Metaspace": ({"replacement": Letter}, _METASPACE),
    "Punctuation": ({}, {"behavior": _BEHAVIOR}),
    "Digits": ({}, {"individual_digits": bool}),
    "FixedLength": ({"length": Annotated[int, Range(1, 100_000)]}, {}),
    "Split": ({"pattern": Pattern, "behavior": _BEHAVIOR}, {"invert": bool}),
}
DECODERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Sequence": ({"decoders": list}, {}),
    **dict.fromkeys(("ByteFallback", "Fuse"), ({}, {})),
    "ByteLevel": ({}, _BYTES),
    "Metaspace": ({"replacement": Letter}, _METASPACE),
    "BPEDecoder": ({}, {"suffix": Short}),
    "WordPiece": ({}, {"prefix": Short, "cleanup": bool}),
    "CTC": ({}, {"pad_token": Short, "word_delimiter_token": Short, "cleanup": bool}),
    "Replace": ({"pattern": Pattern, "content": Short}, {}),
    "Strip": (
        {"content": Letter},
        {"start": Annotated[int, Range(0, 1000)], "stop": Annotated[int, Range(0, 1000)]},
    ),
}


@dataclass(frozen=True)
class Growth:
    """Characters that one of a text becomes at most: by normalising, and each of those by splitting."""

    normalizing: float = 1.0
    splitting: float = 1.0


def steps_of(
    part: Any, known: Mapping[str, tuple[dict[str, Any], dict[str, Any]]], inner: str, where: str
) -> list[dict[str, Any]]:
    """The steps of a part of a tokenizer.json in their order, those inside of sequences too, each of a kind that is known.

    Args:
        part: what the file has, None for nothing. inner: the key under which a sequence has its steps.

    Raises:
        UnrecognisedCheckpointError: another kind, a setting that makes no sense, a pattern that may take for ever.
    """
    found: list[dict[str, Any]] = []

    def walk(step: Any, depth: int) -> None:
        kind = step.get("type") if isinstance(step, dict) else None
        if not isinstance(kind, str) or kind not in known:
            raise UnrecognisedCheckpointError(
                f"{where} has a step of the type {str(kind)[:40]!r}; known are {', '.join(known)}"
            )
        required, optional = known[kind]
        # `tokenizers` leaves keys alone that it does not know.
        here = f"{where}: {kind}"
        check_keys(step, required, here, required=True)
        check_keys(step, optional, here)
        if kind == "Sequence":
            if depth >= DEEPEST:
                raise UnrecognisedCheckpointError(f"{where} has sequences in each other over {DEEPEST} deep")
            for one in step[inner]:
                walk(one, depth + 1)
            return
        if "pattern" in required:
            _check_pattern(step["pattern"], here)
        found.append(step)
        if len(found) > MOST_STEPS:
            raise UnrecognisedCheckpointError(f"{where} has over {MOST_STEPS} steps")

    if part is not None:
        walk(part, 0)
    return found


def _check_pattern(pattern: dict[str, str], where: str) -> None:
    (kind, text), *more = pattern.items() or [("", "")]
    if more or not text or kind not in ("String", "Regex"):
        raise UnrecognisedCheckpointError(f"{where} has the pattern {str(pattern)[:60]}; it must be one, and not empty")
    if kind == "Regex" and (fault := patterns.fault(text)):
        raise UnrecognisedCheckpointError(
            f"{where}: the pattern {text[:60]!r} {fault}; on some texts it could take for ever"
        )
    if kind == "String" and len(text) > patterns.LONGEST:
        raise UnrecognisedCheckpointError(f"{where} has a pattern of {len(text):,} characters")


def growth_of(normalizer: Any, pre_tokenizer: Any, where: str) -> Growth:
    """How much longer a text can become by these parts of a tokenizer.json.

    Raises:
        UnrecognisedCheckpointError: more than any tokenizer needs, or as `steps_of`.
    """
    normalizers = steps_of(normalizer, NORMALIZERS, "normalizers", f"{where}: normalizer")
    splits = steps_of(pre_tokenizer, PRE_TOKENIZERS, "pretokenizers", f"{where}: pre_tokenizer")
    try:
        found = Growth(_normalizing(normalizers), _splitting(splits))
    except charsmap.CharsmapError as error:
        raise UnrecognisedCheckpointError(f"{where}: normalizer: its map of characters {error}") from error
    both = found.normalizing * found.splitting
    if both > LARGEST_GROWTH or found.splitting > LARGEST_SPLIT:
        splits_most = found.splitting > LARGEST_SPLIT
        part, times = ("pre_tokenizer", found.splitting) if splits_most else ("normalizer", both)
        raise UnrecognisedCheckpointError(
            f"{where}: {part}: its steps can make a text {times:,.0f} times as long, which no tokenizer needs; remove the "
            "steps that write more than they read"
        )
    return found


class _Lengths:
    """What each character costs from some step on: the characters that it becomes at most in the end."""

    def __init__(self) -> None:
        self.named: dict[str, float] = {}
        self.other = 1.0

    def of(self, text: str) -> float:
        return sum(self.named.get(letter, self.other) for letter in text)

    @property
    def highest(self) -> float:
        return max(self.other, *self.named.values(), 1.0)

    def raise_to(self, letters: Any, cost: float) -> None:
        self.named |= {letter: max(self.named.get(letter, self.other), cost) for letter in letters}

    def raise_all(self, cost: float, more: float = 0.0) -> None:
        self.named = {letter: max(known, cost) + more for letter, known in self.named.items()}
        self.other = max(self.other, cost) + more

    def raise_beyond_ascii(self, cost: float) -> None:
        """Of letters beyond ASCII; what is not named may be one."""
        self.named = {c: known if c.isascii() else max(known, cost) for c, known in self.named.items()}
        self.other = max(self.other, cost)


def _normalizing(steps: list[dict[str, Any]]) -> float:
    """From the last step to the first: what a step writes costs what the steps after it make of that.

    Rules that replace different letters add up, and only those that replace what others write multiply.
    """
    lengths = _Lengths()
    after, forms = (
        1.0,
        set[str](),
    )  # of Unicode, in a row: together they make no more of a letter than the longest of them
    for step in reversed(steps):
        kind, highest = step["type"], lengths.highest
        if kind in _FORMS:
            after = after if forms else highest
            forms.add(kind)
            if form := max(_FORMS[one] for one in forms):
                lengths.raise_beyond_ascii(form * (2 if "Lowercase" in forms else 1) * after)
            if kind == "Lowercase":
                lengths.raise_to(ascii_uppercase, highest)
            continue
        forms.clear()
        if kind == "Replace":
            _replace(lengths, step)
        elif kind == "BertNormalizer":  # spaces around a Chinese letter, marks apart, lower case
            lengths.raise_beyond_ascii(_CANONICAL * highest)
            lengths.raise_to(f"{ascii_uppercase}\t\n\r", highest)
        elif kind == "ByteLevel":
            lengths.raise_all(4 * highest)
        elif kind == "Nmt":
            lengths.raise_all(lengths.of(" "))
        elif kind == "Precompiled":
            lengths.raise_all(charsmap.growth(step["precompiled_charsmap"]) * highest)
        if lengths.highest > 1e12:  # enough, and no number without end
            break
    return lengths.highest


def _replace(lengths: _Lengths, step: dict[str, Any]) -> None:
    written = lengths.of(step["content"])
    ((kind, text),) = step["pattern"].items()
    if kind == "String":
        lengths.raise_to(set(text), written / len(text))
    elif least := patterns.least_length(text):
        lengths.raise_all(written / least)
    else:  # it may match nothing, before every letter
        lengths.raise_all(written, written)


def _splitting(steps: list[dict[str, Any]]) -> float:
    """ByteLevel writes a letter for each byte; what is put before a piece is put before each letter, where pieces are so short."""
    grown, split = 1.0, False
    for step in steps:
        kind = step["type"]
        if kind == "ByteLevel":
            prefix = step.get("add_prefix_space", True) and split
            grown *= 5 if prefix else 4
        elif kind == "Metaspace":
            never = step.get("prepend_scheme", "always") == "never" or step.get("add_prefix_space") is False
            grown *= 1 if never or not split else 2
        split = True
    return grown
