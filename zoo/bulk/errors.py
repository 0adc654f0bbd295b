"""What can go wrong with a bulk job as a whole, and the reason codes that only bulk sources have."""

from zoo.errors import InputError, ZooError
from zoo.tables.errors import BadRowError, TableError
from zoo.tables.walking import UnreadableEntryError, UnreadableFolderError

__all__ = [
    "BadRowError",
    "DamagedShardError",
    "DiskFullError",
    "FileNameError",
    "FolderError",
    "OptionError",
    "SourceChangedError",
    "SourceError",
    "UnreadableEntryError",
    "UnreadableFolderError",
]

# What `zoo embed` reads is what `zoo train` reads.
SourceError = TableError


class OptionError(ZooError, ValueError):
    """An option of a bulk job that does not fit: a dim that the model does not have, an unknown precision."""


class SourceChangedError(ZooError):
    """The source is not the one that the vectors are of, or it is being changed while it is read."""


class DiskFullError(ZooError):
    """A shard could not be written for want of space; what was written before is complete and stays."""


class FolderError(ZooError):
    """The folder for the vectors cannot be used: it is a file, not writable, or in use by another process."""


class DamagedShardError(ZooError):
    """A shard on disk cannot be read or does not belong here; the message says which file."""


class FileNameError(InputError):
    """A file whose name is not Unicode, so that it could not be named in a table."""

    code = "file-name"
