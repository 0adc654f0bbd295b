"""One test for a fact of many names, which lists all offenders; names that stand for others; and the number of (name, fact)
checks that pytest prints.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import pytest


def every(argument: str, values: Iterable[Any], *, ids: Callable[[Any], str] = str) -> Callable:
    """Like `pytest.mark.parametrize(argument, values)`, but in one test that goes on after a failure.

    Each value counts as one check. Meant for facts that are read in milliseconds; fixtures are shared by all values, so
    that a test which changes something (files, a monkeypatch) stays parametrised.

        @every("name", zoo.list_models(tests=True))
        def test_it_has_a_card(name): ...
    """
    values = list(values)
    assert values, "a test of nothing"

    def decorate(test: Callable) -> Callable:
        @functools.wraps(test)
        def walk(*args: Any, **fixtures: Any) -> None:
            offenders, skipped = [], []
            for value in values:
                try:
                    test(*args, **fixtures, **{argument: value})
                except pytest.skip.Exception as reason:
                    skipped.append(reason)
                except (Exception, pytest.fail.Exception) as error:
                    offenders.append(f"{ids(value)}: {type(error).__name__}: {error}")
            if len(skipped) == len(values):
                raise skipped[0]
            if offenders:
                pytest.fail(f"{len(offenders)} of {len(values)}:\n\n" + "\n\n".join(offenders), pytrace=False)

        signature = inspect.signature(test)
        others = [parameter for name, parameter in signature.parameters.items() if name != argument]
        walk.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return pytest.mark.checks(len(values))(walk)

    return decorate


def standing_for(values: Iterable[Any], few: Collection[Any]) -> list[Any]:
    """The values as parameters, where some stand for all of them in the default run; the others run under `slow`."""
    values = list(values)
    assert set(few) <= set(values), f"{sorted(set(few) - set(values))} stand for nothing"
    return [value if value in few else pytest.param(value, marks=pytest.mark.slow) for value in values]


def checks(test: pytest.Item | pytest.TestReport) -> int:
    """How many (name, fact) pairs a test holds: a parametrised one holds one, a walk as many as it has names."""
    return dict(test.user_properties).get("checks", 1)  # a report brings the properties over from its worker


def count(items: Sequence[pytest.Item]) -> None:
    """Note on each test how many checks it holds."""
    for item in items:
        if marker := item.get_closest_marker("checks"):
            item.user_properties.append(("checks", marker.args[0]))


def told(tests: Sequence[pytest.Item | pytest.TestReport]) -> str:
    """The figure in words."""
    return f"{sum(map(checks, tests))} (name, fact) checks in {len(tests)} tests"
