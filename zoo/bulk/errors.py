"""What can go wrong with a bulk job as a whole, and the reason codes that only bulk sources have."""

from zoo.errors import InputError, ZooError


class OptionError(ZooError, ValueError):
    """An option of a bulk job that does not fit: a dim that the model does not have, an unknown precision."""


class SourceError(ZooError):
    """The source of a bulk job cannot be opened, or it is not clear which of its columns is meant."""


class SourceChangedError(ZooError):
    """Inputs that are already embedded are not the same any more; the message names the first one."""


class DiskFullError(ZooError):
    """A shard could not be written for want of space; what was written before is complete and stays."""


class FolderError(ZooError):
    """The folder for the vectors cannot be used: it is a file, not writable, or in use by another process."""


class DamagedShardError(ZooError):
    """A shard on disk cannot be read or does not belong here; the message says which file."""


class BadRowError(InputError):
    """A row that is no row of its table: broken JSON, too many fields, no value in the column that is embedded."""

    code = "bad-row"


class FileNameError(InputError):
    """A file whose name is not Unicode, so that it could not be named in a table."""

    code = "file-name"


class UnreadableFolderError(InputError):
    """A folder inside the source that may not be opened."""

    code = "unreadable-folder"
