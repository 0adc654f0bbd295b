"""Items: what goes into a model, and the two types that flow through it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import EmptyItemError, InvalidRegionError, UnsupportedInputError
from zoo.inputs.excerpts import DocumentPage, Excerpt
from zoo.inputs.regions import Region, checked_regions
from zoo.inputs.waveform import as_waveform
from zoo.modalities import Modality

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    ImageLike = Path | bytes | Image.Image | np.ndarray | Tensor
    Batch = dict[str, Tensor]


_CONTENTS = ("text", "image", "video", "audio", "document")


@dataclass(frozen=True, eq=False)
class Item:
    """One thing to embed; None means absent.

    Args:
        text: in any language.
        image: a file, its bytes, a PIL image, an array `(height, width[, channels])`, or a `DocumentPage`.
        video: a file, its bytes, an `Excerpt` of them, or frames `(frames, height, width, 3)`.
        audio: a file, its bytes, or a `Waveform(samples, rate)`; of a video's file its audio track.
        document: a PDF, or its bytes; models that read images read its pages.
        regions: what of the image is meant, all together: boxes, points, masks, polygons (`zoo.inputs.regions`).
        instruction: the task in words ("Find the same in blue"), for this item in place of `encode`'s prompt.
        parts: texts, images and videos in the order of a document, each as `as_item` takes it; nothing else stands
            beside them. Only models that read one sequence take them (VLM2Vec-style).
    """

    text: str | None = None
    image: "ImageLike | None" = None
    video: Any | None = None
    audio: Any | None = None
    document: "Path | bytes | None" = None
    regions: Sequence[Region] = ()
    instruction: str | None = None
    parts: Sequence[Any] = ()

    @property
    def media(self) -> tuple[Any, ...]:
        """Its image, video, audio and document, those that it has."""
        return tuple(value for name in _CONTENTS[1:] if (value := getattr(self, name)) is not None)

    @property
    def modalities(self) -> frozenset[Modality]:
        """The modalities that are present."""
        present = {name for name in _CONTENTS if getattr(self, name) is not None}
        if len(self.regions):
            present.add("regions")
        for part in self.parts:
            present |= part.modalities if isinstance(part, Item) else as_item(part).modalities
        return frozenset(present)  # type: ignore[arg-type]


class Tokens(NamedTuple):
    """What every encoder returns: `states` `(batch, tokens, width)` and `mask` `(batch, tokens)`, True where it is pooled.

    Those are the real tokens; where some of these are not pooled, such as a prompt's, `real` `(batch, tokens)` has them all.
    """

    states: "Tensor"
    mask: "Tensor"
    real: "Tensor | None" = None


def as_item(value: Any) -> Item:
    """Any input as an `Item`: `str` is text, `Path` is a media file, images and arrays are images, bytes are media.

    A `Waveform` is audio, and so is what datasets gives for it: {"array", "sampling_rate"}, or a decoder.

    Nothing is ever guessed from the letters of a string: "cat.jpg" is a text, `Path("cat.jpg")` a file.

    Raises:
        UnsupportedInputError: an object of another type. EmptyItemError: an `Item` without content.
        MissingFileError, NotMediaError: a path or bytes that hold no known media.
    """
    if isinstance(value, Item):
        return _checked(value)
    if isinstance(value, str):
        return Item(text=value)
    if isinstance(value, Path | bytes | bytearray | memoryview) or callable(getattr(value, "read", None)):
        from zoo.inputs.kinds import is_open_file, kind_of, read_open_file

        if isinstance(value, io.TextIOBase):
            raise UnsupportedInputError(
                "a file opened as text; open media in mode 'rb' or pass pathlib.Path, and pass texts as str",
                what=type(value).__name__,
            )
        value = read_open_file(value) if is_open_file(value) else value
        source = value if isinstance(value, Path) else bytes(value)
        return Item(**{kind_of(source): source})
    if _is_image(value) or isinstance(value, DocumentPage):
        return Item(image=value)
    if isinstance(value, Excerpt):
        return Item(**{_timed(value.source): value})
    if (waveform := as_waveform(value)) is not None:
        return Item(audio=waveform)
    ndim = getattr(value, "ndim", None)
    if ndim in (2, 3) and hasattr(value, "dtype"):
        return Item(image=value)
    if ndim is not None and hasattr(value, "dtype"):
        shape = tuple(value.shape)
        raise UnsupportedInputError(
            f"an array of shape {shape} is no single image; pass (height, width), (height, width, channels) or "
            "(3, height, width), or say what it is: Item(video=frames), Waveform(samples, rate), a list of arrays",
            what=f"array {shape}",
        )
    several = "; frames of a video are Item(video=[…]), a text with an image Item(text=…, image=…)"
    raise UnsupportedInputError(
        f"cannot embed {type(value).__name__}; pass str, pathlib.Path, bytes, a PIL image, an array or zoo.Item"
        + several * isinstance(value, list | tuple),
        what=repr(value)[:80],
    )


def _checked(item: Item) -> Item:
    if item.instruction is not None and not isinstance(item.instruction, str):
        raise UnsupportedInputError(
            f'instruction must be str, not {type(item.instruction).__name__}; write Item(..., instruction="...")',
            what=repr(item.instruction)[:60],
        )
    for name in ("parts", "regions"):
        if not isinstance(value := getattr(item, name), Sequence) or isinstance(value, str | bytes):
            raise UnsupportedInputError(
                f"{name} is a list, such as {name}=[first, second], not {type(value).__name__}", what=repr(value)[:60]
            )
    if files := {n: v for n in _CONTENTS[1:] if callable(getattr(v := getattr(item, n), "read", None))}:
        from zoo.inputs.kinds import read_open_file

        item = replace(item, **{name: read_open_file(file) for name, file in files.items()})
    if item.parts:
        if any(getattr(item, name) is not None for name in _CONTENTS) or len(item.regions):
            raise UnsupportedInputError(
                "an Item has either parts or a text, image, video, audio or document; put all of it into parts",
                what="Item(parts=…)",
            )
        parts = [as_item(part) for part in item.parts]
        if any(part.parts or part.instruction for part in parts):
            raise UnsupportedInputError(
                "a part has no parts and no instruction of its own; give them to the Item around it",
                what="Item(parts=…)",
            )
        return replace(item, parts=tuple(parts))
    if len(item.regions):
        if item.image is None:
            raise InvalidRegionError(
                f"regions are of an image, and this Item has none; it has {'+'.join(sorted(item.modalities - {'regions'})) or 'nothing'}",
                what="Item(regions=…)",
            )
        item = replace(item, regions=checked_regions(item.regions))
    if not item.modalities - {"regions"}:
        only = "only an instruction, and nothing that it is about" if item.instruction else "none"
        raise EmptyItemError(
            f"an Item needs a text, image, video, audio or document; this one has {only}", what="Item()"
        )
    return item


def _timed(source: Any) -> Modality:
    """Whether what an excerpt is of is audio or a video.

    Raises:
        UnsupportedInputError: it is neither, or that cannot be told. Besides what `as_item` raises of a source.
    """
    kinds = as_item(source).modalities
    if kinds <= {"audio", "video"}:
        return next(iter(kinds))
    raise UnsupportedInputError(
        f"an excerpt is of audio or a video, not of {'+'.join(sorted(kinds))}; say which it is: Item(video=Excerpt(…))",
        what=repr(source)[:80],
    )


def _is_image(value: Any) -> bool:
    # Asks by class name first, so that texts never pay for importing PIL.
    return any(base.__module__.startswith("PIL.") and base.__name__ == "Image" for base in type(value).__mro__)
