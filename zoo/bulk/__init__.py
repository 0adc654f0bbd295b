"""Bulk embedding: millions of inputs → shards on disk, resumable, exactly once, bad ones set aside."""

from zoo.bulk.job import BulkReport
from zoo.bulk.run import embed_dataset

__all__ = [
    "BulkReport",
    "embed_dataset",
]
