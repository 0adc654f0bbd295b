"""Every fact of a JSON file in turn made wrong: another type, a number that no such thing has, absent, twice as long."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

# What may stand where a fact was; the good value itself is left out by whoever compares.
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    -0.5,
    "",
    "\0",
    "x" * 1_000_000,
    "../../../etc/passwd",
    [],
    [[]],
    [None] * 1000,
    {},
    {"": None},
    {"a": {"b": [1]}},
)


def spoiled(facts: Any) -> Iterator[tuple[str, Any]]:
    """(what was done, the facts with it): each place with each wrong value, and without it."""
    for way in list(_ways(facts)):
        for wrong in WRONG:
            yield (
                f"{'.'.join(map(str, way))} = {wrong!r:.40}",
                _with(facts, way, lambda at, key, w=wrong: at.__setitem__(key, w)),
            )
        yield f"{'.'.join(map(str, way))} is absent", _with(facts, way, lambda at, key: at.__delitem__(key))
    for whole in WRONG:
        yield f"all of it = {whole!r:.40}", whole


def _ways(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where things stand: of a list its first entry alone."""
    entries = (
        value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    )
    for key, inner in entries:
        yield (*way, key)
        yield from _ways(inner, (*way, key))


def _with(facts: Any, way: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    found = copy.deepcopy(facts)
    at = found
    for key in way[:-1]:
        at = at[key]
    change(at, way[-1])
    return found
