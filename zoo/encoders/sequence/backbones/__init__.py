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
from zoo.modalities import Modality
from zoo.sequences import Limits, SequenceFormat

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Backbone:
    """A family of backbones; what differs in code is a subclass's.

    Attributes:
        types: the `model_type`s of transformers. A checkpoint of one of these is opened like a registered model.
        retrieval: `model_type`s of transformers' retrieval models → the backbone in them, which has its projection beside it.
        converted: a repository's own name of its type → what its configuration says in transformers' words.
        renamed: names of tensors before transformers 5 → now, below the root of an adapter.
        takes: arguments of `forward`, one of which takes features in place of media.
        hears: class of the feature extractor by which it reads audio; "" where it reads none.
        processor: class of its processor, where transformers has none for its type; it is taken where the files name none that
            transformers has.
        towers: parts of its configuration that a checkpoint may leave out → the media that they read.
        sentence: how sequences are laid out that files of sentence-transformers, beside the backbone, say all else of; None where
            a registered model must say it.
        longest: tokens of such a sequence, where these files do not say it.
        unfit: types of numbers that it cannot be computed in, by torch's names → why.
    """

    types: tuple[str, ...] = ()
    retrieval: Mapping[str, str] = field(default_factory=dict)
    converted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    takes: tuple[str, ...] = ("mm_encoder_outputs", "image_hidden_states")
    hears: str = ""
    processor: str = ""
    towers: Mapping[str, tuple[Modality, ...]] = field(default_factory=dict)
    sentence: SequenceFormat | None = None
    longest: int = 4096
    unfit: Mapping[str, str] = field(default_factory=dict)

    def complete(self, processor: Any, config: Any) -> None:
        """Gives a processor what its files may lack and the backbone's configuration has; changed in place."""

    def limits(self, processor: Any) -> Mapping[str, Limits]:
        """The limits of media that the processor's own files have, for a checkpoint that no registered model says them of.

        Raises:
            ValueError: a setting of theirs that nothing here follows.
        """
        return {}

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

    def video_place(self, processor: Any, inputs: "Mapping[str, Any]") -> str:
        """The text that a video becomes in the prompt, as its processor writes it.

        Args:
            processor: the whole one. inputs: what its video processor made of one video.
        """
        return str(processor.replace_video_token(dict(inputs), 0))

    def hear(self, processor: Any, samples: "np.ndarray") -> "tuple[dict[str, Tensor], str]":
        """What the backbone is given of an audio, and the text that it becomes in the prompt.

        Args:
            processor: the whole one. samples: float32 `(samples,)`, mono, at the processor's rate.

        Raises:
            NotOfferedError: nobody has said how this backbone hears. ValueError: too short for one token.
        """
        raise NotOfferedError(f"{', '.join(self.types) or 'this backbone'} reads no audio")

    def heard(self, model: "nn.Module", inputs: "Mapping[str, Tensor]", tokens: Sequence[int]) -> "list[Tensor]":
        """States `(tokens, width)` of each audio by the backbone's audio layers.

        Args:
            inputs: of `hear`, several audios side by side. tokens: how long each is.
        """
        raise NotOfferedError(f"{', '.join(self.types) or 'this backbone'} reads no audio")

    def arguments(self, model: "nn.Module", ids: "Tensor", features: dict[str, Any]) -> dict[str, Any]:
        """The arguments by which the backbone's `forward` takes tokens, with features in place of media.

        Args:
            ids: `(batch, tokens)`. features: of each medium in the batch, by modality (`MediaReader.features`); may be empty.
        """
        return {"input_ids": ids, **({"mm_encoder_outputs": features} if features else {})}

    def positions(
        self, model: "nn.Module", ids: "Tensor", types: "Tensor", mask: "Tensor", media: "Mapping[str, Tensor]"
    ) -> "Tensor":
        """Positions `(3, batch, tokens)` as the backbone itself counts rows and columns of media.

        Args:
            types: `(batch, tokens)`, 0 for text, else the medium's. mask: `(batch, tokens)`, 1 for real tokens. media: what the
                readers say of theirs (`MediaReader.positions`), in the order of the placeholders.
        """
        return model.get_rope_index(ids, types, attention_mask=mask, **media)[0]  # type: ignore[operator]

    def width(self, config: Any) -> int:
        """Length of a token's state."""
        return int(config.get_text_config().hidden_size)


def filled(embeds: "Tensor", places: "Tensor", states: "Sequence[Tensor]") -> "Tensor":
    """Embeddings `(batch, tokens, width)` with states `(tokens of one, width)` at the places `(batch, tokens)` of their medium."""
    import torch

    found = torch.cat(list(states)).to(embeds)
    # masked_scatter fills the places row by row in their order: the states must come in the order of the placeholders.
    return embeds.masked_scatter(places[..., None].expand_as(embeds), found)


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


def check_dtype(model_type: str, dtype: "torch.dtype | None") -> None:
    """Raises NotOfferedError where a backbone cannot be computed in this type of numbers."""
    unfit = backbone_of(model_type).unfit
    name = str(dtype).removeprefix("torch.")
    if name in unfit:
        raise NotOfferedError(f"a {model_type} does not run in {name}: {unfit[name]}; take bfloat16 or float32")
