"""How recipes write the name of a loss or a sampler, `name(option=value, ...)`, and what is said where it is unknown."""

import ast
import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any


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


def check_options(maker: Callable[..., Any], options: Iterable[str], given: Iterable[str] = ()) -> None:
    """Raises ValueError where an option is none of the maker's arguments, `given` aside, and lists those that are."""
    known = [name for name in inspect.signature(maker).parameters if name not in {*given, "self"}]
    for option in options:
        if option not in known:
            raise ValueError(f"no option {option!r}; {what_there_is(option, known) if known else 'it takes none'}")
