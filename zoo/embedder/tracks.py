"""Tracks: a vector for every page of a document, every frame of a video, or every second of a video or of audio."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor

from zoo.errors import ArgumentError, UnsupportedInputError, UnsupportedModalityError
from zoo.inputs.audio import iter_audio, windows
from zoo.inputs.document import page_count
from zoo.inputs.excerpts import DocumentPage, Excerpt
from zoo.inputs.frames import iter_frames
from zoo.inputs.item import Item, as_item
from zoo.inputs.kinds import describe
from zoo.inputs.video import load_video
from zoo.inputs.waveform import Waveform

if TYPE_CHECKING:
    from zoo.embedder.embedder import Embedder

Per = Literal["frame", "second", "page"]
PERS: tuple[Per, ...] = get_args(Per)
# What a track of each kind is made of, and as what each part of it is read.
_WAYS: dict[tuple[str, Per], str] = {
    ("document", "page"): "image",
    ("video", "frame"): "image",
    ("video", "second"): "video",
    ("audio", "second"): "audio",
}


class Track(NamedTuple):
    """The vectors of a document, video or audio, part by part.

    Attributes:
        vectors: `(n, dim)`; of a model of late interaction a list of `(tokens, dim)`.
        starts, ends: `(n,)` float64, seconds from the beginning of the source; NaN for frames without times. None of pages.
        pages: `(n,)` int64, their numbers, counted from 1; None of videos and audio.
    """

    vectors: "Tensor | list[Tensor]"
    starts: Tensor | None
    ends: Tensor | None
    pages: Tensor | None


class Spacing(NamedTuple):
    """How the parts of a track follow each other: length of a segment and from one to the next in seconds, and frames a second."""

    seconds: float = 1.0
    hop: float = 1.0
    fps: float = 1.0

    @classmethod
    def of(cls, per: Per, seconds: float | None, hop: float | None, fps: float | None) -> Self:
        """What was asked for, checked.

        Raises:
            ArgumentError: a number that makes no sense, or that is not of this kind of parts.
        """
        given = {"seconds": seconds, "hop": hop, "fps": fps}
        for name, value in given.items():
            if value is None:
                continue
            if (name == "fps") != (per == "frame") or per == "page":
                raise ArgumentError(f"{name} is of per={'frame' if name == 'fps' else 'second'!r}, not of per={per!r}")
            if not 0 < value < math.inf:
                raise ArgumentError(f"{name} must be over 0, not {value!r}")
        seconds = 1.0 if seconds is None else float(seconds)
        if hop is not None and hop > seconds:
            raise ArgumentError(f"hop must be at most seconds ({seconds:g}), not {hop!r}: it would leave something out")
        return cls(seconds, seconds if hop is None else float(hop), 1.0 if fps is None else float(fps))


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
    works = [way for kind, way in _WAYS if kind == medium and _reads(model, item, medium, way)]
    if per in works:
        return
    hint = f"; per={' or '.join(map(repr, works))} works" if works else ""
    if (medium, per) not in _WAYS:
        raise ArgumentError(f"per={per!r} is not of {medium}{hint}")
    wanted = _WAYS[medium, per]
    raise UnsupportedModalityError(
        f"{model.spec.name} does not read {'+'.join(sorted((item.modalities - {medium}) | {wanted}))}, as which per={per!r} "
        f"embeds {medium}{hint}",
        what=medium,
    )


def _reads(model: "Embedder", item: Item, medium: str, per: Per) -> bool:
    try:
        model.place(replace(item, **{medium: None, _WAYS[medium, per]: b""}))
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
    elif medium == "video":
        for start, end in segments(source, spacing):
            yield _Part(replace(rest, video=Excerpt(source, start, end - start)), start, end)
    else:
        rate = next(tower.encoder.rate for tower in model.towers if "audio" in tower.encoder.reads)
        for sound in iter_audio(source, rate=rate, seconds=spacing.seconds, hop=spacing.hop):
            part = replace(rest, audio=Waveform(sound.samples, sound.rate))
            yield _Part(part, sound.start, sound.start + sound.seconds)


def segments(source: Any, spacing: Spacing) -> list[tuple[float, float]]:
    """Start and end of each segment of a video: every `hop` seconds one, and a last one that ends where the video ends."""
    video = load_video(source, frames=1)
    if not video.fps or video.seconds[0] != video.seconds[0]:
        raise UnsupportedInputError(
            f"{describe(source)} has no times, so that it has no seconds; embed its frames: per='frame'",
            what=describe(source),
        )
    unit = 1_000_000  # a millionth of a second
    length, step = round(spacing.seconds * unit), round(spacing.hop * unit)
    slices = windows(max(round(video.total / video.fps * unit), 1), length, step)
    return [(one.start / unit, one.stop / unit) for one in slices]
