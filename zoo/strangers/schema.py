"""Facts read from others' JSON, held to type hints before anything is built or allocated by them.

The hints are those of Python: `int`, `str | None`, `list[...]`, `Literal`, dataclasses, TypedDicts (whose further keys are
left alone), and `Annotated[int, Range(1, 100)]`, which bounds a number, or the length of a text, list or object. A whole
number is never a bool, and never beyond 64 bits; a number is finite.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from zoo.errors import UnrecognisedCheckpointError, ZooError

DEEPEST = 32
LARGEST = 2**63  # a whole number is below it, whatever else its range is
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
    dict: "an object",
    list: "a list",
}


@dataclass(frozen=True)
class Range:
    """The least and the most that a number may be, or a text, list or object may hold; both ends are allowed."""

    least: float
    most: float

    def wrong(self, value: Any) -> str:
        """What a value must be that is outside, "" where it is inside."""
        sized = isinstance(value, str | list | dict)
        if self.least <= (len(value) if sized else value) <= self.most:
            return ""
        what = {str: " characters", list: " entries", dict: " keys"}.get(type(value), "")
        return f"{'have' if sized else 'be'} {self.least:,} to {self.most:,}{what}"


@dataclass(frozen=True)
class Like:
    """A text that a regular expression matches as a whole; `words` say what it is."""

    pattern: str
    words: str

    def wrong(self, value: str) -> str:
        """What the text must be, "" where it is that."""
        return "" if re.fullmatch(self.pattern, value) else f"be {self.words}"


# ------------------------------------------------------------------------------------------------------------ the text


def parse(
    content: bytes, where: object, error: type[ZooError] = UnrecognisedCheckpointError, *, deepest: int = DEEPEST
) -> Any:
    """The value of JSON as every reader understands it: UTF-8, no key twice, no NaN or infinity, no half characters.

    Args:
        content: whose length the caller has bounded. where: the file, with which the error begins.
        error: what is raised. deepest: levels of lists and objects in each other.

    Raises:
        error: it is otherwise; the message says how.
    """
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite
        )
        if b"\\" in content and _HALF_PAIR.search(content):  # the first is far quicker, and nearly always enough
            _refuse_half_characters(value)
    except (ValueError, RecursionError) as problem:
        begins = content[:200].lstrip()[:1]
        page = " (a web page, not the file: was the right address downloaded?)" if begins == b"<" else ""
        raise error(f"{where} cannot be read as JSON: {_said(problem)}{page}") from problem
    check_depth(value, where, error, deepest=deepest)
    return value


def check_depth(
    value: Any, where: object, error: type[ZooError] = UnrecognisedCheckpointError, *, deepest: int = DEEPEST
) -> None:
    """Raises `error` where lists and objects lie in each other more than so many levels deep."""
    level = [value]
    for _ in range(deepest):
        level = [child for one in level for child in _children(one) if isinstance(child, dict | list)]
    if level and isinstance(level[0], dict | list):
        raise error(f"{where} is nested over {deepest} levels deep; no configuration is")


def _said(problem: Exception) -> str:
    """What Python says of bad JSON, without advice for the programmer of its reader."""
    if isinstance(problem, RecursionError):
        return "it is nested too deep"
    return "it has a number of thousands of digits" if "integer string" in str(problem) else str(problem)


def _children(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} is there twice, and readers differ in which one they take")
        found[key] = value
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:60]} is no number")
    return value


def _refuse_half_characters(value: Any) -> None:
    rest = [value]
    while rest:
        one = rest.pop()
        for text in [one] if isinstance(one, str) else one if isinstance(one, dict) else ():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError(f"{shown(text)} holds half a character (a lone surrogate)") from None
        rest += _children(one)


# ---------------------------------------------------------------------------------------------------------- the values


def check(value: Any, hint: Any, where: object, error: type[ZooError] = UnrecognisedCheckpointError) -> Any:
    """The value itself, once it fits a type hint.

    Raises:
        error: it names the file, the key, what came and what was expected.
    """
    if problem := wrong(value, hint):
        raise error(f"{where}: {problem}")
    return value


def check_keys(
    value: Any,
    schema: Mapping[str, Any],
    where: object,
    *,
    optional: Mapping[str, Any] | None = None,
    required: bool = False,
    error: type[ZooError] = UnrecognisedCheckpointError,
) -> dict[str, Any]:
    """The object itself, once its keys have the types of a schema.

    Args:
        schema: key → type hint.
        optional: keys that may be absent; then all of the schema must be there, and no others. None leaves others alone.
        required: all of the schema must be there.

    Raises:
        error: it names the key.
    """
    if not isinstance(value, dict):
        raise error(f"{where} holds a {type(value).__name__}, not a JSON object")
    known = {**schema, **(optional or {})}
    if optional is not None and (unknown := sorted(set(value) - set(known))):
        raise error(f"{where} has unknown keys {shown(unknown, 300)}; is the zoo new enough?")
    if (required or optional is not None) and (missing := sorted(set(schema) - set(value))):
        raise error(f"{where} lacks {', '.join(missing)}")
    for key in known.keys() & value.keys():
        if problem := wrong(value[key], known[key], key):
            raise error(f"{where}: {problem}")
    return value


def shown(value: Any, most: int = 60) -> str:
    """A value for an error, shortened."""
    text = repr(value[: most + 1] if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[:most]}…"


def wrong(value: Any, hint: Any, name: str = "") -> str:
    """What is wrong with a value of JSON for a type hint, "" where it fits; `name` is where it stands, with dots."""
    if hint is Any or (hint is str and type(value) is str):
        return ""
    origin, args, is_object = _apart(hint)
    if origin in (Required, NotRequired):
        return wrong(value, args[0], name)
    if origin is Annotated:
        problem = wrong(value, args[0], name)
        bounds = (bound.wrong(value) for bound in args[1:] if value is not None)
        return problem or next((f"{_is(value, name)}; it must {outside}" for outside in bounds if outside), "")
    if origin is Literal:
        fits = any(value == one and type(value) is type(one) for one in args)
        return "" if fits else f"{_is(value, name)}; it must be one of {args}"
    if origin in (Union, UnionType):
        problems = []
        for arg in args:
            if not (problem := wrong(value, arg, name)):
                return ""
            problems.append(problem)
        # The reason of a part inside, where one of the hints fits outside, says more than that none fits.
        said = _is(value, name)
        inside = [problem for problem in problems if not problem.startswith(said)]
        return inside[0] if inside else _of_none(said, problems)
    if is_object:
        return _wrong_object(value, hint, name)
    if origin in (dict, Mapping):
        return _first(value, dict, name) or _of_children(value.items(), args[1], name)
    if origin in (list, tuple, frozenset):
        if problem := _first(value, list, name):
            return problem
        if origin is tuple and args[-1] is not Ellipsis:
            if len(args) != len(value):
                return f"{_is(value, name)}; it must have {len(args)} entries"
            return next(filter(None, map(wrong, value, args, [_below(name, "[]")] * len(args))), "")
        if _all_fit(value, args[0]):
            return ""
        return _of_children((("[]", inner) for inner in value), args[0], name)
    return _wrong_scalar(value, hint, name)


@cache
def _apart(hint: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """A hint's origin and arguments, and whether it is a dataclass or TypedDict; `typing` takes its time to say it."""
    return get_origin(hint), get_args(hint), is_dataclass(hint) or is_typeddict(hint)


def _all_fit(values: list[Any], hint: Any) -> bool:
    """Whether a list holds numbers within their range, looked at together: one by one takes a second for 300,000."""
    kind, *bounds = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    allowed = {int: {int}, float: {int, float}}.get(kind, set())
    if not values or not allowed or not set(map(type, values)) <= allowed or any(one != one for one in values):
        return False  # NaN is neither least nor greatest
    ends = (min(values), max(values))
    return all(not _wrong_scalar(end, kind, "") and not any(bound.wrong(end) for bound in bounds) for end in ends)


def _is(value: Any, name: str) -> str:
    return f"{name or 'it'} is {shown(value)}"


def _wrong_scalar(value: Any, hint: Any, name: str) -> str:
    types = (int, float) if hint is float else hint
    if not isinstance(value, types) or (isinstance(value, bool) and hint is not bool):
        return f"{_is(value, name)}; it must be {_NAMES.get(hint, getattr(hint, '__name__', hint))}"
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        return f"{_is(value, name)}; it must be a number of 64 bits"
    return "" if not isinstance(value, float) or math.isfinite(value) else f"{_is(value, name)}; it must be finite"


def _of_none(said: str, problems: list[str]) -> str:
    wanted = dict.fromkeys(problem.rpartition("; it must ")[2].removeprefix("be ") for problem in problems)
    return f"{said}; it must be {' or '.join(wanted)}"


def _first(value: Any, kind: type, name: str) -> str:
    return "" if isinstance(value, kind) else f"{_is(value, name)}; it must be {_NAMES[kind]}"


def _of_children(pairs: Iterable[tuple[str, Any]], hint: Any, name: str) -> str:
    """The first problem of what a list or an object holds."""
    for key, inner in pairs:
        if problem := wrong(inner, hint, _below(name, key)):
            return problem
    return ""


def _below(name: str, key: str) -> str:
    key = key if len(key) <= 60 else f"{key[:60]}…"
    return f"{name or 'it'}{key}" if key == "[]" else f"{name}.{key}" if name else key


def _wrong_object(value: Any, cls: Any, name: str) -> str:
    """What is wrong with an object of JSON for a dataclass, or for a TypedDict, whose further keys are left alone."""
    if not isinstance(value, dict):
        return f"{name or 'it'} is {shown(value)}; it must be an object"
    hints, needed = _hints(cls)
    if is_dataclass(cls) and (unknown := sorted(set(value) - set(hints))):
        return f"{name or 'it'} has unknown facts {shown(unknown, 300)}; known are {sorted(hints)}"
    if missing := sorted(needed - set(value)):
        return f"{name or 'it'} lacks {', '.join(missing)}"
    known = ((key, inner) for key, inner in value.items() if key in hints)
    return next((said for key, inner in known if (said := wrong(inner, hints[key], _below(name, key)))), "")


@cache
def _hints(cls: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """The type hints of a dataclass or TypedDict, and the keys that must be there."""
    hints = get_type_hints(cls, include_extras=True)
    if is_typeddict(cls):
        return hints, cls.__required_keys__
    needed = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    return hints, frozenset(needed)
