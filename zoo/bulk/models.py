"""The model of a bulk job: opened by its name, or given; and how it is written down, so that a search can open it again."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ArgumentError, TableError

if TYPE_CHECKING:
    from zoo.embedder import Embedder

_KEPT: "ContextVar[dict[Any, Embedder] | None]" = ContextVar("models", default=None)


@contextmanager
def one_model() -> Iterator[None]:
    """Until the block ends, a model that is asked for again in the same way is the one that was opened first."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def opened_model(
    model: "Embedder | str | Path",
    device: str | None,
    backend: str,
    pixels: str | None,
    ignore: Sequence[str],
    columns: Collection[str],
) -> "Embedder":
    """The model; what is to be ignored and is no column is a setting of its checkpoint."""
    if isinstance(model, str | Path):
        from zoo.loading import load_model

        kept, asked = _KEPT.get(), (str(model), device, backend, pixels, tuple(ignore))
        if kept is None or asked not in kept:
            found = load_model(model, device=device, ignore=ignore, backend=backend, pixels=pixels)
            if kept is None:
                return found
            kept[asked] = found
        return kept[asked]
    if backend != "torch":
        raise ArgumentError(
            f"backend={backend!r} is of a model given by name; load this one with it: load_model(…, backend={backend!r})"
        )
    if pixels is not None:
        raise ArgumentError(
            f"pixels={pixels!r} is of a model given by name; load this one with it: load_model(…, pixels={pixels!r})"
        )
    if ignore:
        known = ", ".join(columns) or "none"
        raise TableError(
            f"ignore={list(ignore)}: there is no such column, and no checkpoint is read; there are {known}"
        )
    return model


def loadable(model: "Embedder | str | Path") -> str:
    """What `load_model` takes to open this model again, from any working directory."""
    if isinstance(model, Path) or (isinstance(model, str) and model.startswith((".", "/", "~"))):
        return str(Path(model).expanduser().resolve())
    if isinstance(model, str):
        return model
    from zoo.registry import is_registered

    return model.spec.name if is_registered(model.spec.name) else model.spec.source or model.spec.name
