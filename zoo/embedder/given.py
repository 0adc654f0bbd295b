"""What a caller gave: one input or many, vectors or what is still to be embedded."""

from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from zoo.errors import UnsupportedInputError
from zoo.inputs.item import Item
from zoo.inputs.kinds import is_open_file


def many_of(inputs: Any) -> Iterable[Any] | None:
    """The inputs as an iterable, None where there is only one."""
    if isinstance(inputs, Mapping | Set):
        raise UnsupportedInputError(
            f"cannot embed a {type(inputs).__name__}; pass a list, or zoo.Item(text=..., image=...)",
            what=type(inputs).__name__,
        )
    if hasattr(inputs, "columns"):
        raise UnsupportedInputError("cannot embed a table; pass one of its columns", what=type(inputs).__name__)
    if isinstance(inputs, str | Path | bytes | bytearray | memoryview | Item) or is_open_file(inputs):
        return None
    dtype = getattr(inputs, "dtype", None)
    if dtype is not None and getattr(inputs, "ndim", 0) == 1 and getattr(dtype, "kind", "") in "OUT":
        return list(inputs)
    if dtype is not None and hasattr(inputs, "ndim"):
        return None
    if hasattr(inputs, "getbands") or not hasattr(inputs, "__iter__"):
        return None
    return inputs


def is_vectors(value: Any, ndim: int) -> bool:
    """Whether something is an array of floats of so many axes."""
    return getattr(value, "ndim", None) == ndim and hasattr(value, "dtype") and "f" in str(value.dtype)
