"""Bulk embedding: millions of inputs → shards on disk, resumable, exactly once, bad ones set aside."""

from zoo.bulk.errors import (
    BadRowError,
    DamagedShardError,
    DiskFullError,
    FileNameError,
    FolderError,
    OptionError,
    SourceChangedError,
    SourceError,
    UnreadableEntryError,
    UnreadableFolderError,
)
from zoo.bulk.job import BulkReport
from zoo.bulk.run import embed_dataset

__all__ = [
    "BadRowError",
    "BulkReport",
    "DamagedShardError",
    "DiskFullError",
    "FileNameError",
    "FolderError",
    "OptionError",
    "SourceChangedError",
    "SourceError",
    "UnreadableEntryError",
    "UnreadableFolderError",
    "embed_dataset",
]
