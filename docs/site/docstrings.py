"""The sections of our docstrings as the API pages show them: one line for each name.

In the code several short entries share a line ("lr: highest learning rate. schedule: what follows the warm-up."), which reads well
there. A page shows them as a list, so that every name begins one.
"""

import re
from typing import Any

import griffe

_ERRORS = r"(?:\w+Error|KeyboardInterrupt)(?:, (?:\w+Error|KeyboardInterrupt))*"


class OneLineEach(griffe.Extension):
    """Gives every argument, attribute and exception of a docstring a line of its own."""

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """Arguments are found by the function's own names."""
        _rewrite(func, [parameter.name for parameter in func.parameters])

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Attributes by those that the class declares; arguments by those of its constructor."""
        init = cls.members.get("__init__")
        names = [parameter.name for parameter in init.parameters] if isinstance(init, griffe.Function) else []
        _rewrite(cls, [*names, *(name for name, member in cls.members.items() if member.is_attribute)])


def _rewrite(thing: griffe.Object, names: list[str]) -> None:
    if thing.docstring is not None:
        thing.docstring.value = without_tags(one_line_each(thing.docstring.value, names))


def without_tags(text: str) -> str:
    """A docstring in which "<name>" is what it says, and no HTML; code in backticks stays."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def one_line_each(text: str, names: list[str]) -> str:
    """A docstring whose sections have an entry a line.

    Args:
        text: the docstring, without the indentation that it has in the file.
        names: what an entry of Args or Attributes may be called; exceptions are recognised by the ends of their names.
    """
    head, *rest = re.split(r"(?m)^(Args|Attributes|Raises):\n((?:(?: .*)?\n?)*)", text)
    done = [head]
    for header, body, after in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        known = _ERRORS if header == "Raises" else "|".join(map(re.escape, names)) or r"(?!)"
        done += [f"{header}:\n", *(f"    {entry}\n" for entry in _entries(body, known)), f"\n{after}"]
    return "".join(done)


def _entries(body: str, known: str) -> list[str]:
    lines: list[str] = []
    for line in body.splitlines():
        begins = re.match(r" {4}[\w*]+(?:, [\w*]+)*: ", line)
        if begins or not lines:
            lines.append(line.strip())
        else:
            lines[-1] += f" {line.strip()}"
    starts = re.compile(rf"(?<=[.;]) (?=(?:{known}): )")
    return [entry.strip() for line in lines for entry in starts.split(line) if entry.strip()]
