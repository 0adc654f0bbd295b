"""Names to ignore: columns of the tables that are read, else settings of the checkpoints that are opened."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from zoo.errors import TableError
from zoo.formats.settings import watched


class Columns(Protocol):
    """A table, or a source of `zoo.bulk`: it knows its columns, and those that are read as if they were not there."""

    @property
    def columns(self) -> Collection[str]: ...
    @property
    def ignored(self) -> Collection[str]: ...


@contextmanager
def settings_to_ignore(names: Sequence[str], *sources: Columns) -> Iterator[list[str]]:
    """Of the names to ignore those that are no columns, for `load_model(ignore=...)` of what is opened within.

    Raises:
        TableError: afterwards, where one was no column and no checkpoint was refused for it: a slip of the pen would else go
            unseen.
    """
    settings = [name for name in names if not any(name in source.ignored for source in sources)]
    with watched() as opened:
        yield settings
    if unmet := [name for name in settings if opened and not any(name in one.met for one in opened)]:
        columns = ", ".join(dict.fromkeys(column for source in sources for column in source.columns)) or "none"
        raise TableError(
            f"--ignore {unmet[0]} (ignore={unmet}): there is no such column, and no setting of this name for which the "
            f"checkpoint was refused; leave it out, or correct the spelling; columns: {columns}"
        )
