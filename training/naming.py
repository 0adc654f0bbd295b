"""How recipes write the name of a loss or a sampler, `name(option=value, ...)`, and what is said where it is unknown."""

import ast
import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin


def read_call(text: str) -> tuple[str, dict[str, Any]]:
    """`name` or `name(option=value, ...)` as the name and its options; values are Python literals.

    Raises:
        ValueError: anything else, calls and positional values among it. No code is ever run.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        name = tree.id if isinstance(tree, ast.Name) else tree.func.id  # type: ignore[attr-defined]
        options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in getattr(tree, "keywords", ())}
    except (SyntaxError, ValueError, AttributeError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"cannot read {text!r}") from error
    if getattr(tree, "args", ()) or None in options:
        raise ValueError(f"cannot read {text!r}: options are written name=value")
    return name, options


def what_there_is(name: str, names: Iterable[str]) -> str:
    """The nearest names and all of them, for the message that one is unknown."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return (f"nearest: {', '.join(near)}; all: " if near else "there are ") + ", ".join(names)


def check_options(maker: Callable[..., Any], options: Mapping[str, Any], given: Iterable[str] = ()) -> None:
    """Raises ValueError where an option is none of the maker's arguments, `given` aside, and lists those that are; or where its
    value is of another type than the argument says."""
    arguments = inspect.signature(maker).parameters
    known = [name for name in arguments if name not in {*given, "self"}]
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"no option {option!r}; {what_there_is(option, known) if known else 'it takes none'}")
        if wanted := _unlike(value, arguments[option].annotation):
            raise ValueError(f"{option} must be {wanted}, not {value!r}")


def is_number(value: Any) -> bool:
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _unlike(value: Any, annotation: Any) -> str:
    """What an annotation wants in place of a value, "" where the value fits or the annotation is not one of these kinds."""
    parts = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        wrong = [_unlike(value, part) for part in parts]
        return "" if "" in wrong else " or ".join(wrong)
    if isinstance(get_origin(annotation), type) and issubclass(get_origin(annotation), Sequence):
        fits = isinstance(value, list | tuple) and not any(_unlike(entry, parts[0]) for entry in value)
        return "" if fits else "a list of numbers"
    kinds = {
        bool: (isinstance(value, bool), "True or False"),
        int: (isinstance(value, int) and not isinstance(value, bool), "a whole number"),
        float: (is_number(value), "a number"),
        type(None): (value is None, "None"),
    }
    fits, wanted = kinds.get(annotation, (True, ""))
    return "" if fits else wanted
