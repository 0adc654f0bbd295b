"""What must be known of a backbone of transformers beyond its configuration, one file a family: nothing else asks for its type.

A backbone without a file of its own is read as transformers has it (`PLAIN`).
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from zoo.errors import NotOfferedError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Backbone:
    """A family of backbones; what differs in code is a subclass's.

    Attributes:
        types: the `model_type`s of transformers. A checkpoint of one of these is opened like a registered model.
        retrieval: `model_type`s of transformers' retrieval models → the backbone in them, which has its projection beside it.
        converted: a repository's own name of its type → what its configuration says in transformers' words.
        renamed: names of tensors before transformers 5 → now, below the root of an adapter.
    """

    types: tuple[str, ...] = ()
    retrieval: Mapping[str, str] = field(default_factory=dict)
    converted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)

    def complete(self, processor: Any, config: Any) -> None:
        """Gives a processor what its files may lack and the backbone's configuration has; changed in place."""

    def video_times(self, processor: Any, total: int, fps: float, frames: int) -> dict[str, float]:
        """What the backbone wants to know of a video's times besides its frames.

        Args:
            processor: of videos. total, fps: frames of the whole video, and how many a second. frames: how many are read.
        """
        return {}

    def unpatched(self, patches: "Tensor", grids: "Sequence[Sequence[int]]", vision: Any) -> "list[Tensor]":
        """Images `(3, height, width)` as they were before the processor cut them into patches.

        Args:
            patches: `(patches of all images, values)`. grids: of each image its frames, rows and columns of patches. vision: the
                configuration of the backbone's vision layers.

        Raises:
            NotOfferedError: nobody has said how this backbone's processor cuts.
        """
        raise NotOfferedError(f"patches of {', '.join(self.types) or 'this backbone'} cannot be put together to images")

    def arguments(self, features: dict[str, Any]) -> dict[str, Any]:
        """The arguments by which the backbone's `forward` takes features in place of media.

        Args:
            features: of each medium in the batch, by modality (`MediaReader.features`).
        """
        return {"mm_encoder_outputs": features}


PLAIN = Backbone()


@cache
def all_backbones() -> tuple[Backbone, ...]:
    """Those of every file of this folder."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return tuple(part for module in modules for part in vars(module).values() if isinstance(part, Backbone))


def backbone_of(model_type: str) -> Backbone:
    """The family of a `model_type` of transformers, or of a repository's own name for one; `PLAIN` for all others."""
    for backbone in all_backbones():
        if model_type in (*backbone.types, *backbone.retrieval, *backbone.retrieval.values(), *backbone.converted):
            return backbone
    return PLAIN


@cache
def known_types() -> Mapping[str, str]:
    """Every type that a checkpoint may have → the `model_type` of the backbone in it."""
    found: dict[str, str] = {}
    for backbone in all_backbones():
        found |= {name: name for name in backbone.types} | dict(backbone.retrieval)
        found |= {name: str(words["model_type"]) for name, words in backbone.converted.items()}
    return found
