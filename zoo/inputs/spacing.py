"""Parts of documents, videos and audio: pages, frames or seconds, and how they follow each other."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self, get_args

from zoo.errors import ArgumentError, UnsupportedInputError
from zoo.inputs.kinds import describe

Per = Literal["frame", "second", "page"]
PERS: tuple[Per, ...] = get_args(Per)
# What there are parts of, and as what each part of it is read.
WAYS: dict[tuple[str, Per], str] = {
    ("document", "page"): "image",
    ("video", "frame"): "image",
    ("video", "second"): "video",
    ("audio", "second"): "audio",
}
_UNIT = 1_000_000  # a millionth of a second


class Spacing(NamedTuple):
    """How parts follow each other: length of a segment and from one to the next in seconds, and frames a second."""

    seconds: float = 1.0
    hop: float = 1.0
    fps: float = 1.0

    @classmethod
    def of(cls, per: str | Sequence[str], seconds: float | None, hop: float | None, fps: float | None) -> Self:
        """What was asked for, of parts of one kind or several, checked.

        Raises:
            ArgumentError: a number that makes no sense, or that is not of this kind of parts.
        """
        pers = [per] if isinstance(per, str) else list(per)
        given = {"seconds": seconds, "hop": hop, "fps": fps}
        for name, value in given.items():
            if value is None:
                continue
            right = "frame" if name == "fps" else "second"
            if right not in pers:
                raise ArgumentError(f"{name} is of per={right!r}, not of per={' and '.join(map(repr, pers))}")
            if not 0 < value < math.inf:
                raise ArgumentError(f"{name} must be over 0, not {value!r}")
        seconds = 1.0 if seconds is None else float(seconds)
        if hop is not None and hop > seconds:
            raise ArgumentError(f"hop must be at most seconds ({seconds:g}), not {hop!r}: it would leave something out")
        return cls(seconds, seconds if hop is None else float(hop), 1.0 if fps is None else float(fps))

    def segments(self, length: float) -> list[tuple[float, float]]:
        """Start and end of each segment of so many seconds: every `hop` one, and a last one that ends where the source ends."""
        from zoo.inputs.audio import windows

        whole = max(round(length * _UNIT), 1)
        slices = windows(whole, max(round(self.seconds * _UNIT), 1), max(round(self.hop * _UNIT), 1))
        return [(one.start / _UNIT, one.stop / _UNIT) for one in slices]


class Length(NamedTuple):
    """How long a video is: `seconds`, frames in `total`, and frames a second."""

    seconds: float
    total: int
    fps: float


def video_length(source: Any, name: str = "") -> Length:
    """How long a video is.

    Raises:
        UnsupportedInputError: it has no times. Besides what `zoo.inputs.video.load_video` raises.
    """
    from zoo.inputs.video import load_video

    video, name = load_video(source, frames=1, name=name), name or describe(source)
    if not video.fps or math.isnan(video.seconds[0]):
        raise UnsupportedInputError(
            f"{name} has no times, so that it has no seconds; embed its frames: per='frame'", what=name
        )
    return Length(video.total / video.fps, video.total, video.fps)


def audio_length(source: Any, name: str = "") -> float:
    """How many seconds audio has; see `zoo.inputs.audio.seconds_of`."""
    from zoo.inputs.audio import seconds_of

    return seconds_of(source, name)
