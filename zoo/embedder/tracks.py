"""Tracks: a vector for every page of a document, every frame of a video, or every second of a video or of audio."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from zoo.errors import ArgumentError, UnsupportedInputError, UnsupportedModalityError
from zoo.inputs.audio import iter_audio
from zoo.inputs.document import page_count
from zoo.inputs.excerpts import DocumentPage, Excerpt
from zoo.inputs.frames import iter_frames
from zoo.inputs.item import Item, as_item
from zoo.inputs.spacing import WAYS, Per, Spacing, audio_length, video_length
from zoo.inputs.waveform import Waveform

if TYPE_CHECKING:
    from zoo.embedder.embedder import Embedder


class Track(NamedTuple):
    """The vectors of a document, video or audio, part by part.

    Attributes:
        vectors: `(n, dim)`; of a model of late interaction a list of `(tokens, dim)`.
        starts, ends: `(n,)` float64, seconds from the beginning of the file, also of an excerpt of it; NaN for frames without times.
            None of pages.
        pages: `(n,)` int64, their numbers, counted from 1; None of videos and audio.
    """

    vectors: "Tensor | list[Tensor]"
    starts: Tensor | None
    ends: Tensor | None
    pages: Tensor | None


class _Part(NamedTuple):
    """One part: the item that is embedded, and where it is: seconds, or the number of a page."""

    item: Item
    start: float
    end: float


def encode_track(model: "Embedder", value: Any, per: Per, spacing: Spacing, options: dict[str, Any]) -> Track:
    """What `Embedder.encode_track` says."""
    if "on_error" in options:
        raise ArgumentError("encode_track has no on_error: a track without some of its parts would be another one")
    item = as_item(value)
    medium = _medium(item)
    _check(model, item, medium, per)
    places: list[tuple[float, float]] = []

    def items() -> Iterator[Item]:
        for part in _parts(model, item, medium, per, spacing):
            places.append((part.start, part.end))
            yield part.item

    vectors: Any = list(model.encode(items(), **options))
    if model.spec.similarity != "maxsim":
        vectors = torch.stack(vectors)
    starts, ends = torch.tensor(places, dtype=torch.float64).T
    if per == "page":
        return Track(vectors, None, None, starts.long())
    return Track(vectors, starts, ends, None)


def _medium(item: Item) -> str:
    """The modality that the track is of."""
    found = [name for name in ("document", "video", "audio") if getattr(item, name) is not None]
    if item.parts or len(found) != 1 or item.image is not None:
        raise UnsupportedInputError(
            "a track is of one document, video or audio, with or without a text; this item has "
            f"{'parts' if item.parts else '+'.join(sorted(item.modalities))}",
            what="+".join(sorted(item.modalities)),
        )
    return found[0]


def _check(model: "Embedder", item: Item, medium: str, per: Per) -> None:
    """Raises where there are no such parts, or the model does not read them; says which ones it does."""
    works = [way for kind, way in WAYS if kind == medium and _reads(model, item, medium, way)]
    if per in works:
        return
    hint = f"; per={' or '.join(map(repr, works))} works" if works else ""
    if (medium, per) not in WAYS:
        raise ArgumentError(f"per={per!r} is not of {medium}{hint}")
    wanted = WAYS[medium, per]
    raise UnsupportedModalityError(
        f"{model.spec.name} does not read {'+'.join(sorted((item.modalities - {medium}) | {wanted}))}, as which per={per!r} "
        f"embeds {medium}{hint}",
        what=medium,
    )


def _reads(model: "Embedder", item: Item, medium: str, per: Per) -> bool:
    try:
        model.route_index(replace(item, **{medium: None, WAYS[medium, per]: b""}))
    except UnsupportedModalityError:
        return False
    return True


def _parts(model: "Embedder", item: Item, medium: str, per: Per, spacing: Spacing) -> Iterator[_Part]:
    source, rest = getattr(item, medium), replace(item, **{medium: None})
    if per == "page":
        for number in range(1, page_count(source) + 1):
            yield _Part(replace(rest, image=DocumentPage(source, number)), number, number)
    elif per == "frame":
        for frame in iter_frames(source, fps=spacing.fps):
            yield _Part(replace(rest, image=frame.pixels), frame.seconds, frame.end)
    elif medium == "video" or isinstance(source, Excerpt):
        for part in _segments(source, medium, spacing):
            yield _Part(replace(rest, **{medium: part}), part.start, part.start + part.seconds)
    else:
        rate = next(tower.encoder.rate for tower in model.towers if "audio" in tower.encoder.modalities)
        for audio in iter_audio(source, rate=rate, seconds=spacing.seconds, hop=spacing.hop):
            part = replace(rest, audio=Waveform(audio.samples, audio.rate))
            yield _Part(part, audio.start, audio.start + audio.seconds)


def _segments(source: Any, medium: str, spacing: Spacing) -> Iterator[Excerpt]:
    """The segments of a video or audio, or of an excerpt of it as far as that reaches; their times are those of the whole."""
    whole, first, most = source.within(0.0, 0.0) if isinstance(source, Excerpt) else (source, 0.0, math.inf)
    length = video_length(whole).seconds if medium == "video" else audio_length(whole)
    if first >= length:
        raise UnsupportedInputError(f"{source} begins after the end, which is at {length:.3f} s", what=str(source))
    for start, end in spacing.segments(min(length - first, most)):
        yield Excerpt(whole, first + start, end - start)
