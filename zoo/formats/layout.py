"""What a layout of checkpoints is: how it is recognised, which of its files are wanted, and how they become a model.

A layout is one file of this folder, or a module of another package named under its entry points `zoo.layouts`; the decorator
`register_layout` makes it known. `zoo.loading` asks the registry here, and no layout by its name.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.errors import ArgumentError, NotOfferedError, UnrecognisedCheckpointError, ZooError
from zoo.formats.checks.folder import check_folder
from zoo.formats.settings import NOTHING, Ignore
from zoo.registry.plugins import discover, ours_first
from zoo.spec import Attention, ModelSpec, Similarity

if TYPE_CHECKING:
    import torch

    from zoo.embedder import Embedder


@dataclass(frozen=True)
class Opening:
    """How a checkpoint is to be opened: what the caller allows, and what is known of it beside its files.

    Attributes:
        name: of the model. revision: branch, tag or commit on the Hub, where a layout fetches its files itself.
        like: the registered model that it is read like. attention, similarity: the same of how a text backbone's tokens see
            each other and of how vectors are compared, where the files do not say it.
        local: whether it is the user's own folder, which may name others on this machine; a repository's may not.
        dtype: of the weights, float32 if None; for a layout that would else take twice the memory as it loads.
        dim: length of the vectors that are wanted; a layout with a last layer for each of several takes that one, and all others leave
            the cut to `zoo.formats.shortening`.
        ignore: settings to read as if they were not there. trust_remote_code, allow_pickle: as in `zoo.load_model`.
    """

    name: str
    revision: str | None = None
    like: ModelSpec | None = None
    attention: Attention | None = None
    similarity: Similarity = "cosine"
    local: bool = True
    dtype: "torch.dtype | None" = None
    ignore: Ignore = NOTHING
    trust_remote_code: bool = False
    allow_pickle: bool = False
    towers: frozenset[str] | None = None
    dim: int | None = None

    @property
    def around(self) -> Mapping[str, str]:
        """What the registered model puts around a text's tokens."""
        return {} if self.like is None else self.like.around

    @property
    def closing(self) -> Mapping[str, str]:
        """What the registered model writes after a text with an instruction, and how one begins (see `zoo.encoders.in_context`)."""
        if self.like is None or not self.like.closing:
            return {}
        return {"closing": self.like.closing, "begins": self.like.instruction.partition("{task}")[0]}


class Layout(ABC):
    """One layout of checkpoints; without state.

    Every setting of its files is followed or refused by name (see `zoo.formats.settings`), and every weight is there.

    Attributes:
        name: of the library that writes it; also begins the names that it opens itself, "timm:…". order: lower is asked first.
        looked_for: what it looks for, in words that begin with the name of the library and a colon.
        told: what its files do not say and a registered model does: "sequence" (`Opening.like`), "attention", "similarity".
        reads_adapters: whether it reads an adapter in the folder itself; other layouts refuse one.
        drops_towers: whether it follows `Opening.towers`, or refuses them of a model without optional towers.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 50
    looked_for: ClassVar[str]
    told: ClassVar[frozenset[str]] = frozenset()
    reads_adapters: ClassVar[bool] = False
    drops_towers: ClassVar[bool] = False

    @abstractmethod
    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether files of these names are of this layout.

        Args:
            read_json: what one of them holds, for those that only a look into `config.json` tells apart.
        """

    @abstractmethod
    def files(self, names: set[str]) -> list[str]:
        """Those of a repository's files that are worth fetching."""

    @abstractmethod
    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """The model of a folder that `open_with` has looked over."""

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:  # noqa: B027 nothing by default
        """Refuses by config.json alone what `load` would refuse, before gigabytes are fetched.

        Args:
            config: {} where there is none. names: of all files of the repository. where: begins the message.
        """

    def open_name(self, name: str, opening: Opening) -> "Embedder":
        """The model that the library itself knows by a name: of "timm:test_vit" the part after the colon."""
        raise NotImplementedError(f"{self.name} has no names of its own")

    @property
    def opens_names(self) -> bool:
        """Whether `open_name` is defined."""
        return type(self).open_name is not Layout.open_name


_LAYOUTS: dict[str, Layout] = {}
_NAME, _HUB = re.compile(r"[a-z][a-z0-9_-]*"), "hf"  # the Hub's names are no layout's
_TOLD = frozenset({"sequence", "attention", "similarity"})


def register_layout(cls: type[Layout]) -> type[Layout]:
    """Makes a layout known, as a decorator of its class.

    Raises:
        ArgumentError: it is no class of a layout, or one without `name` or `looked_for`, or `told` has other words.
        ValueError: the name is taken.
    """
    if not isinstance(cls, type) or not issubclass(cls, Layout):
        raise ArgumentError(f"register_layout decorates a class of zoo.formats.layout.Layout, not {cls!r:.60}")
    name, looked_for = (getattr(cls, fact, None) for fact in ("name", "looked_for"))
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == _HUB or not isinstance(looked_for, str):
        raise ArgumentError(
            f'{cls.__qualname__} needs a name of lower case letters (not "hf"), by which it is called, and looked_for, what it '
            f"looks for in words; they are {name!r} and {looked_for!r:.60}"
        )
    if unknown := sorted(set(cls.told) - _TOLD):
        raise ArgumentError(
            f"{cls.__qualname__} is to be told {unknown[0]!r}; it can be told {', '.join(sorted(_TOLD))}"
        )
    ours_first(cls.__module__, __package__)
    layout = cls()
    if layout.name in _LAYOUTS:
        raise ValueError(f"two layouts are called {layout.name!r}")
    _LAYOUTS[layout.name] = layout
    return cls


def all_layouts() -> list[Layout]:
    """Every layout, in the order in which they are asked; a file dropped into this folder is enough."""
    discover("layouts", __package__)
    return sorted(_LAYOUTS.values(), key=lambda layout: (layout.order, layout.name))


def layout_named(name: str) -> Layout | None:
    """The layout of a library, such as "sentence-transformers"; None where there is none."""
    return next((layout for layout in all_layouts() if layout.name == name), None)


def recognise(names: set[str], read_json: Callable[[str], Any], where: str) -> Layout:
    """The layout of a checkpoint with these file names.

    Raises:
        UnrecognisedCheckpointError: none reads it; the message lists the files that were looked for.
    """
    layouts = all_layouts()
    for layout in layouts:
        if _recognises(layout, names, read_json, where):
            return layout
    looked_for = "\n".join(f"  {layout.looked_for}" for layout in layouts)
    raise UnrecognisedCheckpointError(
        f"{where} holds no checkpoint layout that the zoo reads. Looked for:\n{looked_for}\n"
        f"Found: {', '.join(sorted(names)[:12]) or 'nothing'}"
    )


def _recognises(layout: Layout, names: set[str], read_json: Callable[[str], Any], where: str) -> bool:
    """Raises UnrecognisedCheckpointError where a layout fails: were it passed over, another might read the files otherwise."""
    try:
        return bool(layout.recognise(set(names), read_json))
    except ZooError:
        raise
    except Exception as error:  # of another package, or on what a stranger wrote
        raise UnrecognisedCheckpointError(
            f"the layout {layout.name!r} ({type(layout).__module__}) cannot say whether it reads {where}: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}; mend or remove the package that brings it"
        ) from error


def no_towers(where: str) -> NotOfferedError:
    """What to raise where `Opening.towers` is asked of a model that has none to leave out."""
    return NotOfferedError(f"towers: {where} has no towers that can be left out; leave the argument out")


def open_with(layout: Layout, folder: Path, opening: Opening) -> "Embedder":
    """The model of a folder by one layout, once its files are known to lie inside it and to be no other model's as well.

    Raises:
        UnsafeCheckpointError, UnrecognisedCheckpointError: as `check_folder`. NotOfferedError: towers are asked for, and it has
            none to leave out. Else as the layout.
    """
    from zoo.embedder import Embedder

    check_folder(folder, adapter=layout.reads_adapters)
    if opening.towers is not None and not layout.drops_towers:
        raise no_towers(str(folder))
    model = layout.load(folder, opening)
    if not isinstance(model, Embedder):
        raise UnrecognisedCheckpointError(
            f"the layout {layout.name!r} ({type(layout).__module__}) made a {type(model).__name__} of {folder}, no Embedder"
        )
    return model
