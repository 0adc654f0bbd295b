"""MediaReader: what one medium is to a sequence. Images, videos and audio are the first three; another is one file like theirs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch
from zoo.encoders.sequence.backbones import Backbone
from zoo.modalities import MODALITIES
from zoo.sequences import Limits, SequenceFormat


class Medium(NamedTuple):
    """One image, video or audio, ready for the backbone.

    Attributes:
        kind: its modality. key: of its content; what is equal goes through the backbone once. inputs: what the processor gave.
        place: the text that it becomes in the prompt, as long as its tokens. tokens: how many of these its marker has.
    """

    kind: str
    key: bytes
    inputs: dict[str, Tensor]
    place: str
    tokens: int


@dataclass(frozen=True)
class Setup:
    """What a reader is made of.

    Attributes:
        processor: of transformers; it knows how many tokens a medium takes. config: the backbone's. backbone: its family.
        format: of the sequence. media: the limits of each medium.
    """

    processor: Any
    config: Any
    backbone: Backbone
    format: SequenceFormat
    media: Mapping[str, Limits]


class MediaReader(Protocol):
    """Reads one medium, from the item to the features that take the place of its tokens.

    Attributes:
        kind: the modality that it reads.
        marker: the token that stands for a medium in a rendered prompt; None where the processor has none, so that the
            format's mark is all there is. token_id: its id.
        type: number of its tokens in `mm_token_type_ids` (0 is text).
    """

    kind: str
    marker: str | None
    token_id: int | None
    type: int

    def unfold(self, value: Any) -> list[tuple[str, Any]] | None:
        """The other media that this one is read as, (kind, value) in their order; None where it is read as itself.

        Raises:
            InputError: it cannot be read.
        """

    def read(self, value: Any) -> Medium:
        """One medium, decoded and resized; runs in threads.

        Raises:
            InputError: it cannot be read. InvalidPixelsError: its shape is none that the model takes.
        """

    def collate(self, media: Sequence[Medium]) -> Batch:
        """The inputs of several media side by side."""

    def features(self, model: nn.Module, inputs: Batch, order: list[int], tokens: list[int]) -> Any:
        """What the backbone hands on inside itself in place of these media.

        Args:
            model: the backbone. inputs: of `collate`. order: which of them each placeholder stands for. tokens: how long each is.
        """

    def positions(self, inputs: Batch, order: Tensor) -> dict[str, Tensor]:
        """What the backbone's `get_rope_index` wants to know of these media, in the order of the placeholders."""

    def probe(self) -> Mapping[str, Tensor] | None:
        """What the processor makes of a small medium, tried as the model is opened; None where nothing is tried.

        Raises:
            Exception: of whatever type, where it makes nothing of one.
        """

    def settings(self) -> dict[str, Any]:
        """JSON-able: how the processor makes a medium ready; goes into fingerprints."""


READERS: dict[str, type[MediaReader]] = {}


def register_media_reader(kind: str) -> Any:
    """Registers the decorated class as what reads a modality in sequences; its constructor takes a `Setup`.

    Raises:
        ValueError: there is no such medium, or it has a reader.
    """
    if kind not in MODALITIES or kind == "text":
        raise ValueError(f"{kind!r} is no medium; there are {', '.join(one for one in MODALITIES if one != 'text')}")

    def register(cls: type[MediaReader]) -> type[MediaReader]:
        if kind in READERS:
            raise ValueError(f"{kind} has a reader, {READERS[kind].__name__}")
        cls.kind, READERS[kind] = kind, cls
        return cls

    return register


def marker_of(setup: Setup, kind: str) -> tuple[str | None, int | None]:
    """The token that stands for a medium, by the processor, and its id, by the backbone's configuration or the tokenizer."""
    token = getattr(setup.processor, f"{kind}_token", None)
    if not token:
        return None, None
    told = getattr(setup.config, f"{kind}_token_id", None)
    return token, setup.processor.tokenizer.convert_tokens_to_ids(token) if told is None else told


def medium_of(reader: MediaReader, inputs: Mapping[str, Tensor], place: str) -> Medium:
    """A medium and the digest of its inputs."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(inputs.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return Medium(reader.kind, digest.digest(), dict(inputs), place, place.count(reader.marker or ""))


VISUAL = frozenset({"image", "video"})  # what the vision layers of a backbone read


class VisionReader:
    """What images and videos have in common: the vision layers of the backbone, and a grid of patches."""

    kind: str
    setup: Setup

    def unfold(self, value: Any) -> list[tuple[str, Any]] | None:
        """Read as itself."""
        return None

    def probe(self) -> Mapping[str, Tensor] | None:
        """Nothing is tried."""
        return None

    def collate(self, media: Sequence[Medium]) -> Batch:
        """Inputs side by side; where they have fewer crops or frames than others, filled with zeros."""
        batch = {}
        for name in media[0].inputs:
            tensors = [medium.inputs[name] for medium in media]
            if tensors[0].ndim >= 4 and len({tuple(t.shape[1:]) for t in tensors}) > 1:  # also their masks
                most = max(t.shape[1] for t in tensors)
                tensors = [torch.cat([t, t.new_zeros(1, most - t.shape[1], *t.shape[2:])], 1) for t in tensors]
            batch[name] = torch.cat(tensors)
        return batch

    def features(self, model: nn.Module, inputs: Batch, order: list[int], tokens: list[int]) -> Any:
        """Of the vision layers, as transformers hands them on inside a model (`mm_encoder_outputs`)."""
        unused = ("second_per_grid_ts", *getattr(self.setup.processor, "unused_input_names", ()))
        kept = {name: tensor for name, tensor in inputs.items() if name not in unused}
        dtype = next(model.parameters()).dtype
        kept = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in kept.items()}
        out = getattr(model, f"get_{self.kind}_features")(**kept, return_dict=True)
        features = out.pooler_output
        if isinstance(features, Tensor):  # LLaVA-OneVision's videos, one closing token after frames filled with zeros
            videos = [torch.cat([features[i, : tokens[i] - 1], features[i, -1:]]) for i in order]
            out.pooler_output = torch.cat(videos)[None]
        else:
            out.pooler_output = [features[i] for i in order]
        if getattr(out, "deepstack_features", None) is not None:
            layers = out.deepstack_features if self.setup.format.deepstack else []
            out.deepstack_features = [[layer[i] for i in order] for layer in layers]
        return out

    def positions(self, inputs: Batch, order: Tensor) -> dict[str, Tensor]:
        """Rows and columns of patches, and of videos their times."""
        grid = next(name for name in inputs if name.endswith("grid_thw"))
        extras = {f"{self.kind}_grid_thw": inputs[grid][order]}
        if "second_per_grid_ts" in inputs:
            extras["second_per_grid_ts"] = inputs["second_per_grid_ts"][order]
        return extras


def set_budget(part: Any, budget: Sequence[int]) -> None:
    """Gives an image or video processor the fewest and most pixels of a format, where it has any."""
    if part is not None and budget:
        part.size = type(part.size)(shortest_edge=budget[0], longest_edge=budget[1])
    if getattr(part, "cap_pixels_per_frame", True) is None:
        part.cap_pixels_per_frame = True  # as the authors' qwen-vl-utils; transformers' next default


def plain(part: Any) -> dict[str, Any]:
    """The settings of a processor that JSON holds."""
    facts = part.to_dict() if part is not None else {}
    return {k: v for k, v in facts.items() if isinstance(v, int | float | str | list | dict | bool)}
