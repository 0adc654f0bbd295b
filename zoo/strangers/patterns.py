"""Regular expressions of strangers: only those whose time grows with a text's length as that of ordinary ones does.

`tokenizers` searches by Oniguruma, which tries every way to split a text between repetitions: `(a+)+$` has 2^n of them, and
`a*a*a*b` n^3. Its own limit ends in a panic after ten million tries at one place, and has none for all places together.
"""

import re
import unicodedata
import warnings
from functools import cache

# Python's own parser, whose tree no public name gives. What differs in Oniguruma is put into its words before.
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

# The longest of transformers' converters has 500 characters; o200k's and DeepSeek's have as many.
LONGEST = 10_000
_MOST_TIMES = 1000  # of one counted repetition, and of all those in each other; ordinary ones count to three
_SPAN = 16  # a repetition of more different lengths is as good as one without an end
_ESCAPE = re.compile(r"\\(?:p\{(\w{1,60})\}|[pP]\{[^}]{0,60}\}|x\{([0-9a-fA-F]{1,6})\}|.)", re.DOTALL)
_OTHER_NAMES = {"h": r"\w", "H": r"\W", "R": r"\s", "X": r"\w", "O": r".", "N": r".", "z": r"\Z", "G": "", "K": ""}
# Unicode's categories, which Python's patterns do not have, stand in its tree as letters that no text has.
_CATEGORIES = (
    *("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"),
    *("Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cs", "Cn"),
)
_PRIVATE = 0x10FF00
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_ONE = (op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY, op.CATEGORY)


@cache
def fault(pattern: str) -> str:
    """Why a pattern is not used, in words that follow "the pattern ..."; "" where it is ordinary."""
    if len(pattern) > LONGEST:
        return f"has {len(pattern):,} characters; at most {LONGEST:,}"
    try:
        tree = _tree(pattern)
        _refuse_nested(tree, 1)
        if _open_ends(tree, False) > 1:
            return "has several repetitions in a row that a text can be divided between in too many ways"
    except _StrangeError as found:
        return str(found)
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        return f"cannot be judged ({error})"
    return ""


def least_length(pattern: str) -> int:
    """Characters that a pattern matches at least; 0 where that is not known."""
    try:
        return int(_tree(pattern).getwidth()[0])
    except (re.error, RecursionError, OverflowError, ValueError):
        return 0


class _StrangeError(Exception):
    pass


def _tree(pattern: str) -> Any:
    text = _without_inner_classes(_ESCAPE.sub(_as_python, pattern))
    text = re.sub(r"\(\?[imsxaWDSP-]+\)", "(?:)", text).replace("(?<=", "\0=").replace("(?<!", "\0!")
    text = text.replace("(?<", "(?P<").replace("\0=", "(?<=").replace("\0!", "(?<!")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parser.parse(text)


def _as_python(found: re.Match[str]) -> str:
    text = found[0]
    if found[1] is not None and (known := [c for c in _CATEGORIES if c.startswith(found[1])]):
        letters = "".join(chr(_PRIVATE + _CATEGORIES.index(c)) for c in known)
        return letters if len(letters) == 1 else f"[{letters}]"  # inside a class its marks go away again
    if text[1] in "pP" and len(text) > 2:
        return r"\w"
    if found[2] is not None:
        return re.escape(chr(int(found[2], 16)))
    return _OTHER_NAMES.get(text[1], text)


def _without_inner_classes(text: str) -> str:
    """Classes in classes, [a[bc]&&[^d]], as one that has at least their letters; Python has none."""
    found, depth, at = [], 0, 0
    while at < len(text):
        piece = text[at : at + 2] if text[at] == "\\" else text[at]
        if depth and text.startswith("[:", at) and (end := text.find(":]", at)) > 0:
            piece, at = "", end + 1
            found.append(r"\w")
        elif depth and text.startswith("&&", at):
            piece, at = "", at + 1
        elif piece == "[":
            if depth:
                piece = ""
                if text.startswith("[^", at):
                    found.append(r"\w\W")
                    at += 1
            elif text.startswith("[^", at):
                piece, at = "[^", at + 1
            depth += 1
        elif piece == "]" and depth:
            depth -= 1
            piece = "" if depth else "]"
        found.append(piece)
        at += len(piece) if piece[:1] == "\\" else 1
    return "".join(found)


def _refuse_nested(items: Any, times: int) -> None:
    """Raises for repetitions of what itself can be divided in several ways, and for references to what was matched."""
    for kind, value in items:
        if kind in (op.GROUPREF, op.GROUPREF_EXISTS):
            raise _StrangeError("refers to what it has matched before")
        if kind in _REPEATS:
            least, most, body = value
            counted = most if most != op.MAXREPEAT else max(int(least), 1)
            if times * counted > _MOST_TIMES:
                raise _StrangeError(f"counts repetitions up to {times * counted:,}; at most {_MOST_TIMES:,}")
            if most > 1 and kind != op.POSSESSIVE_REPEAT and not _divides_in_one_way(body):
                raise _StrangeError("repeats what can itself be divided in several ways")
            _refuse_nested(body, times * int(counted))
        else:
            for inner in _within(kind, value):
                _refuse_nested(inner, times)


def _within(kind: Any, value: Any) -> list[Any]:
    """The sequences inside an item that is no repetition."""
    if kind is op.SUBPATTERN:
        return [value[-1]]
    if kind is op.BRANCH:
        return list(value[1])
    if kind in (op.ASSERT, op.ASSERT_NOT):
        return [value[1]]
    return [value] if kind is op.ATOMIC_GROUP else []


def _flat(items: Any) -> list[tuple[Any, Any]]:
    """A sequence with its groups opened."""
    found: list[tuple[Any, Any]] = []
    for kind, value in items:
        found += _flat(value[-1]) if kind is op.SUBPATTERN else [(kind, value)]
    return found


def _divides_in_one_way(body: Any) -> bool:
    """Whether a text can be made of the body's repetitions in one way alone, as far as can be told at a glance."""
    items = _flat(body)
    branches = [value[1] for kind, value in items if kind is op.BRANCH]
    for alternatives in branches:  # each begins with another letter
        firsts = [_literals(part[0]) if len(part) else None for part in alternatives]
        if not all(firsts) or len(set().union(*firsts)) != sum(map(len, firsts)):  # type: ignore[arg-type]
            return False
        if not all(_divides_in_one_way(part) for part in alternatives):
            return False
    varying = [value for kind, value in items if kind in _REPEATS and value[0] != value[1]]
    if not varying:
        return True
    # A mark that each repetition has, and that nothing of a free length can be.
    kinds = [_kinds(value[2]) for value in varying]
    for item in items:
        letters, own = _literals(item), _kinds([item])
        if letters and all(_excludes(value[2], letters) for value in varying):
            return True
        if own and all(others is not None and not others & own for others in kinds):
            return True
    return False


def _literals(item: tuple[Any, Any]) -> set[int] | None:
    """The letters that an item of one letter is, None where it may be others."""
    kind, value = item
    codes = [value] if kind is op.LITERAL else [code for _, code in value] if kind is op.IN else [_PRIVATE]
    plain = kind is op.LITERAL or (kind is op.IN and all(inner is op.LITERAL for inner, _ in value))
    return set(codes) if plain and max(codes) < _PRIVATE else None


def _kinds(body: Any) -> set[str] | None:
    """Unicode's categories, of which upper and lower case count as one, of a part of one letter; None where not known."""
    items = _flat(body)
    if len(items) != 1 or items[0][0] not in (op.LITERAL, op.IN):
        return None
    found = set()
    for kind, value in [items[0]] if items[0][0] is op.LITERAL else items[0][1]:
        if kind is not op.LITERAL:
            return None
        category = _CATEGORIES[value - _PRIVATE] if value >= _PRIVATE else unicodedata.category(chr(value))
        found.add("L" if category in ("Lu", "Ll", "Lt") else category)
    return found


def _excludes(body: Any, codes: set[int]) -> bool:
    """Whether a repeated part is one letter that is none of these."""
    items = _flat(body)
    return len(items) == 1 and items[0][0] in _ONE and not any(_may_be(items[0], code) for code in codes)


def _may_be(item: tuple[Any, Any], code: int) -> bool:
    kind, value = item
    if kind is op.LITERAL:
        if value >= _PRIVATE:
            return unicodedata.category(chr(code)) == _CATEGORIES[value - _PRIVATE]
        return chr(value).lower() == chr(code).lower()
    if kind is op.NOT_LITERAL:
        return bool(value != code)
    if kind is op.IN:
        negated = value[0][0] is op.NEGATE
        return any(_may_be(inner, code) for inner in value[negated:]) != negated
    if kind is op.RANGE:
        return any(
            value[0] <= ord(letter) <= value[1] for letter in {chr(code), *chr(code).lower(), *chr(code).upper()}
        )
    if kind is op.CATEGORY:
        letter = chr(code)
        known = {
            op.CATEGORY_DIGIT: letter.isdigit(),
            op.CATEGORY_NOT_DIGIT: not letter.isdigit(),
            op.CATEGORY_SPACE: letter.isspace(),
            op.CATEGORY_NOT_SPACE: not letter.isspace(),
        }
        return known.get(value, True)  # \w stands for classes of Unicode too, which may hold anything
    return True


def _open_ends(items: Any, followed: bool) -> int:
    """Repetitions without an end after which something must still match, so that each of their lengths is tried."""
    count = 0
    for kind, value in reversed(list(items)):
        if kind in _REPEATS:
            least, most, body = value
            free = most - least > _SPAN
            if free and followed and kind is not op.POSSESSIVE_REPEAT:
                count += 1
            else:
                count += _open_ends(body, followed) * (1 if most <= 1 else 2)
        elif kind is op.BRANCH:
            count += max((_open_ends(part, followed) for part in value[1]), default=0)
        elif kind in (op.ASSERT, op.ASSERT_NOT):
            count = max(count, _open_ends(value[1], True))
        elif kind is op.SUBPATTERN:
            count += _open_ends(value[-1], followed)
        followed = followed or _must_match(kind, value)
    return count


def _must_match(kind: Any, value: Any) -> bool:
    """Whether an item can fail."""
    if kind in _REPEATS:
        return bool(value[0] > 0)
    if kind is op.SUBPATTERN:
        return any(_must_match(*item) for item in value[-1])
    if kind is op.BRANCH:
        return all(any(_must_match(*item) for item in part) for part in value[1])
    return True
