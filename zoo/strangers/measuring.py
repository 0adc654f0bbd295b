"""How many bytes a column of a Parquet file unpacks to, found by unpacking it in a process with limits."""

import os

import pyarrow as pa
import pyarrow.parquet as pq

from zoo.strangers.confined import Answer

_ROWS = 64  # as many as come into memory at once where rows are read one after the other


def measured(file: int, name: str, group: int, leaf: str) -> Answer:
    """The bytes of a leaf of a row group; more than the process may have at once is a MemoryError.

    Args:
        file: descriptor of the Parquet file. name: of it, for messages.
    """
    pa.set_memory_pool(pa.system_memory_pool())  # others reserve more than they use, and the limit counts it
    with os.fdopen(os.dup(file), "rb") as source, pq.ParquetFile(source, pre_buffer=False, buffer_size=2**20) as opened:
        batches = opened.iter_batches(_ROWS, row_groups=[group], columns=[leaf], use_threads=False)
        yield {"bytes": sum(batch.nbytes for batch in batches)}, b""
