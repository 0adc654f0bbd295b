"""Contenders: models as they are named for a comparison, also cut, shortened or of another revision: `zoo-mini@dim=64`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ArgumentError
from zoo.registry import LIKE

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.embedder import Embedder

WHOLE = ("dim", "layers")  # settings that are whole numbers
SETTINGS = (*WHOLE, "revision", "region", "pixels", "against", "backend")
_SET = re.compile(r"(?P<name>.+)@(?P<settings>[a-z_]+=[^@]*)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Contender:
    """A model that takes part.

    Attributes:
        shown: what it is called: as it was named, of a folder the last part alone. source: what `load_model` opens; None for a
            model that is open. settings: of `SETTINGS`. model: one that is open.
    """

    shown: str
    source: str | Path | None
    settings: dict[str, Any]
    model: "Embedder | None" = None

    @classmethod
    def of(cls, named: Any) -> "Contender":
        """From a name, a path, or a model.

        Raises:
            ArgumentError: none of these, or a setting that there is not.
        """
        if isinstance(named, Path):
            return cls(named.expanduser().resolve().name, named, {})
        if isinstance(named, str):
            place, like, other = named.rpartition(LIKE) if LIKE in named else (named, "", "")
            match = None if Path(place).expanduser().exists() else _SET.fullmatch(place)
            name, settings = (match["name"], _settings(named, match["settings"])) if match else (place, {})
            return cls(_shown(name) + place[len(name) :] + like + other, name + like + other, settings)
        if hasattr(named, "encode_stream") and hasattr(named, "spec"):
            return cls(named.spec.name, None, {}, named)
        raise ArgumentError(f"models must be names, folders or open models, not {named!r:.60} ({type(named).__name__})")

    def with_settings(self, **settings: Any) -> "Contender":
        """The same with more of `SETTINGS`; those that are None are left out.

        Raises:
            ArgumentError: it has one of them already.
        """
        added = {name: value for name, value in settings.items() if value is not None}
        if twice := sorted(added.keys() & self.settings.keys()):
            raise ArgumentError(f"{self.word}: {twice[0]} is said twice; say it once")
        return replace(self, settings={**self.settings, **added})

    @property
    def word(self) -> str:
        """The model as a command names it: nothing of this machine but the last part of a folder."""
        settings = ",".join(f"{name}={value}" for name, value in self.settings.items())
        name = self.shown if self.source is None or not _is_place(self.source) else f"./{_last(self.source)}"
        return name if not settings or name.endswith(settings) else f"{name}@{settings}"

    def opened(self, device: str | None = None, ignore: Sequence[str] = ()) -> "Embedder":
        """The model; a cut is made by `cut`, so that one pass serves all of them.

        Raises:
            ArgumentError: more dimensions than it has. And what `load_model` raises.
        """
        from zoo.loading import load_model

        options = {name: value for name, value in self.settings.items() if name != "dim"}
        model = self.model
        if model is None:
            assert self.source is not None
            model = load_model(self.source, device=device, ignore=ignore, **options)
        if (dim := self.settings.get("dim")) is not None and dim > model.spec.dim:
            raise ArgumentError(f"dim={dim}: {model.spec.name} gives vectors of {model.spec.dim} dimensions")
        return model

    def cut(self, model: "Embedder", vectors: "Tensor") -> "Tensor":
        """Vectors `(n, dim)` with the dimensions that are asked for; rows of zeros stay zeros."""
        from zoo.similarity import cut

        dim = self.settings.get("dim")
        return vectors if dim is None or dim == model.spec.dim else cut(vectors, dim, model.spec.similarity)

    def note(self, model: "Embedder") -> str:
        """What is worth saying of its settings."""
        dim, spec = self.settings.get("dim"), model.spec
        if dim is None or dim == spec.dim or dim in spec.dims:
            return ""
        return f"trained {'only for ' + ', '.join(map(str, spec.dims)) if spec.dims else 'for no cut'}; {dim} dimensions lose accuracy"


def contenders(models: Any) -> list[Contender]:
    """All that take part, each called differently.

    Raises:
        ArgumentError: none, or two of one name.
    """
    named = [models] if isinstance(models, str | Path) or hasattr(models, "encode_stream") else models
    if not hasattr(named, "__iter__"):
        raise ArgumentError(
            f"models must be names, folders or open models, not {models!r:.60} ({type(models).__name__})"
        )
    found = [Contender.of(one) for one in named]
    if not found:
        raise ArgumentError('there is no model to compare; name at least one, such as models=["zoo-mini"]')
    shown = [one.shown for one in found]
    if twice := sorted({name for name in shown if shown.count(name) > 1}):
        raise ArgumentError(
            f"two models are called {twice[0]!r}: name each once, and folders so that their last parts differ"
        )
    return found


def _settings(named: str, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in text.split(","):
        name, equals, value = entry.partition("=")
        if name not in SETTINGS or not equals or not value:
            raise ArgumentError(
                f"{named}: {entry!r} is no setting of models; write one of {', '.join(f'{s}=…' for s in SETTINGS)}"
            )
        if name in found:
            raise ArgumentError(f"{named}: {name} is said twice; say it once")
        if name in WHOLE and not (value.isascii() and value.isdigit() and 0 < int(value) < 2**31):
            raise ArgumentError(f"{named}: {name} must be a whole number from 1, not {value!r}")
        found[name] = int(value) if name in WHOLE else value
    return found


def _is_place(source: str | Path) -> bool:
    return isinstance(source, Path) or source.startswith(("./", "../", "/", "~")) or Path(source).is_dir()


def _last(source: str | Path) -> str:
    return Path(source).expanduser().resolve().name


def _shown(name: str) -> str:
    return _last(name) if name.startswith(("./", "../", "/", "~")) else name
