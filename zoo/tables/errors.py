"""What can be wrong with a table of pairs."""

from zoo.errors import InputError, ZooError


class TableError(ZooError):
    """A table of pairs cannot be read, or rows of it are no pairs; the message names the file and the line or row."""


class NoSplitError(TableError):
    """There are no rows of the split that was asked for."""


class BadRowError(TableError, InputError):
    """One row is no pair: a trainer may leave it out and go on."""

    code = "bad-row"


class MissingWordError(BadRowError):
    """A text such as "nan" often stands for a missing value: the user must say whether it is meant as it stands."""
