"""Every setting of a checkpoint's files is followed, has no effect on a vector, or is refused by name.

What a file may say is data, one table per file, in `zoo.formats.known`: read these to see what the zoo follows.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from zoo.callers import warn
from zoo.errors import UnreadSettingError

NOBODY = "the zoo knows no setting of this name, and cannot tell whether it changes a vector"
LONGEST_VALUE = 80  # characters of a value in a message


@dataclass(frozen=True)
class Only:
    """The values of a setting that the zoo follows, and why it follows no other."""

    values: tuple[Any, ...]
    why: str


@dataclass(frozen=True)
class Table:
    """The settings of one file.

    Attributes:
        followed: read, whatever their value; a value that makes no sense is refused where it is used.
        inert: setting → why it has no effect on a vector.
        held: setting → the values that are followed; any other is refused.
    """

    followed: Collection[str] = frozenset()
    inert: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, Only] = field(default_factory=dict)

    def __post_init__(self) -> None:
        twice = [key for key in self.inert if key in self.followed or key in self.held]
        if twice:
            raise ValueError(f"in two columns of one table: {twice}")

    def refusal(self, key: str, value: Any) -> str:
        """Why a setting is refused; "" where it is followed or has no effect."""
        if (only := self.held.get(key)) is not None:
            return "" if any(_same(value, good) for good in only.values) else only.why
        return "" if key in self.followed or key in self.inert else NOBODY


class Ignore:
    """The settings that the caller wants read as if they were not there, and which of them were met."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        keys = keys if isinstance(keys, str) else tuple(keys)
        if isinstance(keys, str) or not all(isinstance(key, str) for key in keys):
            raise TypeError(f'ignore takes a list of names of settings, ignore=["truncate_dim"], not {keys!r}')
        self.keys = frozenset(keys)
        self.met: set[str] = set()

    def __contains__(self, key: object) -> bool:
        if key not in self.keys:
            return False
        self.met.add(str(key))
        return True

    def refuse(self, where: object, key: str, value: Any, why: str) -> None:
        """One setting that is not followed: an error, unless the caller wants it ignored.

        Raises:
            UnreadSettingError: it names file, setting, value, reason and the way on.
        """
        if key not in self:
            raise _error(where, {key: (value, why)})

    def say_unmet(self) -> None:
        """Warns of names that no file had, or that were not refused: a slip of the pen would else go unseen; see `watched`."""
        if (seen := _WATCHED.get()) is not None:
            seen.append(self)
        elif unmet := sorted(self.keys - self.met):
            warn(
                f"ignore={unmet}: nothing of this checkpoint was refused by {'this name' if len(unmet) == 1 else 'these names'}; "
                "leave it out, or correct the spelling"
            )


NOTHING = Ignore()
_WATCHED: ContextVar[list[Ignore] | None] = ContextVar("watched", default=None)


@contextmanager
def watched() -> Iterator[list[Ignore]]:
    """What was ignored of every checkpoint opened within, for who judges several together; nothing is warned of there."""
    seen: list[Ignore] = []
    token = _WATCHED.set(seen)
    try:
        yield seen
    finally:
        _WATCHED.reset(token)


def read(settings: Mapping[str, Any], table: Table, where: object, ignore: Ignore, prefix: str = "") -> dict[str, Any]:
    """The settings of a file, once every one is followed or without effect; those that the caller ignores are left out.

    Args:
        where: the file. prefix: begins the names of nested settings, "text_config.".

    Raises:
        UnreadSettingError: all that are not, with the reason of each.
    """
    refused = {}
    for key, value in settings.items():
        if (why := table.refusal(key, value)) and prefix + key not in ignore:
            refused[prefix + key] = (value, why)
    if refused:
        raise _error(where, refused)
    return {key: value for key, value in settings.items() if not table.refusal(key, value)}


def _error(where: object, refused: Mapping[str, tuple[Any, str]]) -> UnreadSettingError:
    said = "; ".join(f'"{key}" is {_shown(value)}: {why}' for key, (value, why) in list(refused.items())[:5])
    more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
    keys = tuple(refused)
    names = ", ".join(f'"{key}"' for key in keys)
    return UnreadSettingError(
        f"{where} has settings that the zoo does not follow. {said}{more}. To open it as if it did not say so: "
        f"load_model(..., ignore=[{names}]), on the command line {' '.join(f'--ignore {key}' for key in keys)}",
        keys,
    )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _same(value: Any, good: Any) -> bool:
    """Equality that keeps true apart from 1, as JSON does."""
    return value == good and isinstance(value, bool) == isinstance(good, bool)
