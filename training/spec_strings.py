"""How recipes write a sampler, `name(option=value, ...)`, and a sum of losses; what is said where a name is unknown."""

import ast
import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin


class Term(NamedTuple):
    """One term of a sum: `0.5 * name(value, option=value)`."""

    weight: float
    name: str
    values: tuple[Any, ...]
    options: dict[str, Any]


def read_sum(text: str) -> list[Term]:
    """`name + name(value, option=value) + 0.5 * name` as its terms; values are Python literals, or plain names as text.

    Raises:
        ValueError: anything else, calls as values among it. No code is ever run.
    """
    try:
        nodes, tree = [], ast.parse(text.strip(), mode="eval").body
        while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
            nodes.append(tree.right)
            tree = tree.left
        return [_term(node, text.strip()) for node in (tree, *reversed(nodes))]
    except (SyntaxError, AttributeError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"cannot read {text!r}") from error


def _term(node: ast.expr, text: str) -> Term:
    weight = 1.0
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        weight, node = ast.literal_eval(node.left), node.right
        if not is_number(weight) or not weight > 0:
            raise ValueError(f"cannot read {text!r}: the weight of a term is a number above 0, not {weight!r}")
    name = node.id if isinstance(node, ast.Name) else node.func.id  # type: ignore[attr-defined]
    options = {keyword.arg: _value(keyword.value, text) for keyword in getattr(node, "keywords", ())}
    if None in options:
        raise ValueError(f"cannot read {text!r}: options are written name=value")
    return Term(weight, name, tuple(_value(value, text) for value in getattr(node, "args", ())), options)


def _value(node: ast.expr, text: str) -> Any:
    """A literal, or the letters of a name such as bge or org/model: those of a model need no quotes."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        written = ast.get_source_segment(text, node) or ""
        if re.fullmatch(r"[A-Za-z_][\w./-]*", written):
            return written
        raise ValueError(f"cannot read {text!r}: write {written!r} in quotes if it is a name") from None


def read_call(text: str) -> tuple[str, dict[str, Any]]:
    """`name` or `name(option=value, ...)` as the name and its options, as of `read_sum`; raises ValueError for anything else."""
    terms = read_sum(text)
    if len(terms) > 1 or terms[0].weight != 1:
        raise ValueError(f"cannot read {text!r}")
    if terms[0].values:
        raise ValueError(f"cannot read {text!r}: options are written name=value")
    return terms[0].name, terms[0].options


def what_there_is(name: str, names: Iterable[str]) -> str:
    """The nearest names and all of them, for the message that one is unknown."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return (f"nearest: {', '.join(near)}; all: " if near else "there are ") + ", ".join(names)


def check_options(
    maker: Callable[..., Any],
    options: Mapping[str, Any],
    given: Iterable[str] = (),
    more: Callable[..., Any] | None = None,
) -> None:
    """Raises ValueError where an option is none of the maker's arguments, or those of `more`, `given` aside, and lists those
    that are; or where its value is of another type than the argument says."""
    arguments = {**(inspect.signature(more).parameters if more else {}), **inspect.signature(maker).parameters}
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
        str: (isinstance(value, str), "text"),
        type(None): (value is None, "None"),
    }
    fits, wanted = kinds.get(annotation, (True, ""))
    return "" if fits else wanted
