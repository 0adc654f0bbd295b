"""What a backend is: a runtime that is given an encoder's forward pass once, as files, and runs it from there."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from zoo.encoders.program import Run
from zoo.errors import ArgumentError, MissingPackageError


class Backend(ABC):
    """A runtime, float32 on the CPU. Registered by `register_backend`.

    Attributes:
        packages: what of it has to be installed; their versions are part of what is cached. extra: of the zoo, which brings them.
    """

    packages: tuple[str, ...] = ()
    extra: str = ""

    @abstractmethod
    def export(
        self, states: nn.Module, example: Sequence[Tensor], axes: Mapping[str, Sequence[str]], folder: Path
    ) -> None:
        """Writes a program into an empty folder.

        Args:
            states: tensors → states `(B, T, W)`. example: the tensors of a small batch, in order.
            axes: name of each → names of the axes, from the first, whose length varies.

        Raises:
            Exception: of any kind, where the module cannot be exported; what it says is told to the user.
        """

    @abstractmethod
    def open(self, folder: Path, threads: int) -> Run:
        """What runs the program of a folder; called by several threads at once."""

    def versions(self) -> dict[str, str]:
        """Of its packages.

        Raises:
            MissingPackageError: one is not installed.
        """
        found = {}
        for package in self.packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                extra = f"pip install 'embedding-zoo[{self.extra}]'" if self.extra else f"pip install {package}"
                raise MissingPackageError(f"backend={name_of(self)!r} needs {package}: {extra}", name=package) from None
        return found


_BACKENDS: dict[str, Backend] = {}
_Class = TypeVar("_Class", bound=type[Backend])


def register_backend(name: str) -> Callable[[_Class], _Class]:
    """Registers a class of backend, made without arguments, under the name that `load_model(backend=…)` takes."""

    def register(cls: _Class) -> _Class:
        if name in _BACKENDS or name in (TORCH, AUTO):
            raise ValueError(f"there is a backend {name!r} already")
        _BACKENDS[name] = cls()
        return cls

    return register


TORCH, AUTO = "torch", "auto"


def list_backends() -> list[str]:
    """What computes encoders, by the names that `load_model(backend=…)` takes, installed or not; torch first."""
    return [TORCH, *sorted(_BACKENDS)]


def installed() -> list[str]:
    """Backends other than torch that are installed."""
    found = []
    for name, backend in sorted(_BACKENDS.items()):
        with suppress(MissingPackageError):
            backend.versions()
            found.append(name)
    return found


def get_backend(name: str) -> Backend:
    """A backend other than torch by its name.

    Raises:
        ArgumentError: there is none.
    """
    if name not in _BACKENDS:
        raise ArgumentError(
            f"backend={name!r}: there is no such backend; write one of {', '.join([AUTO, *list_backends()])}"
        )
    return _BACKENDS[name]


def name_of(backend: Backend) -> str:
    """The name under which a backend is registered."""
    return next(name for name, one in _BACKENDS.items() if one is backend)
