"""Which frames of a video are taken: evenly spread, so many a second, or key frames alone; of all of it or of a segment."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from zoo.errors import NoFramesError, UnsupportedInputError

if TYPE_CHECKING:
    import numpy as np

Sampling = Literal["uniform", "steps", "keyframes"]
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)
_CLOSE = 1e-6  # seconds: times that are the same but for the rounding of a float


@dataclass(frozen=True)
class Choice:
    """Which frames are taken.

    Attributes:
        frames: how many, evenly spread; with `fps` at most so many. fps: frames a second, 0 for evenly spread.
        sampling: "uniform" takes of all frames, "steps" those at every 1 / `fps` seconds from the first on, "keyframes" of those
            that a decoder needs no other one for.
        start, seconds: the segment of the video that they are of; 0 seconds is to its end.

    Raises:
        ValueError: numbers that make no sense, a rate of key frames, or steps without one.
    """

    frames: int = 8
    fps: float = 0.0
    sampling: Sampling = "uniform"
    start: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.frames < 1 or not 0 <= self.fps < math.inf:
            raise ValueError(
                f"a video is read by at least 1 frame and a rate of 0 or more, not {self.frames} at {self.fps}"
            )
        if not (0 <= self.start < math.inf and 0 <= self.seconds < math.inf):
            raise ValueError(
                f"a segment of a video starts at 0 s or later and lasts 0 s (to the end) or longer, not {self.seconds} s "
                f"from {self.start} s"
            )
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"sampling is one of {', '.join(SAMPLINGS)}, not {self.sampling!r}")
        if self.fps and self.sampling == "keyframes":
            raise ValueError(f"key frames stand where they stand, not {self.fps} a second; leave fps at 0")
        if not self.fps and self.sampling == "steps":
            raise ValueError("steps are so many a second: give fps")

    def indices(self, seconds: "np.ndarray", keys: "np.ndarray", rate: float, name: str) -> "np.ndarray":
        """The numbers of the frames, int64, rising, none twice.

        Args:
            seconds: `(total,)` when each frame is shown, NaN without times. keys: `(total,)` bool, key frames.
            rate: frames a second, 0 if unknown. name: of the video, for messages.

        Raises:
            UnsupportedInputError: a segment of frames without times. NoFramesError: one beyond the end.
        """
        import numpy as np

        places = np.arange(len(seconds))
        if self.start or self.seconds:
            places = self._segment(seconds, rate, name)
        if self.sampling == "keyframes":
            # A segment between two key frames is represented by its first frame.
            places = places[keys[places]] if keys[places].any() else places[:1]
        if self.sampling == "steps" and rate:
            return places[stepped_indices(len(places), self.frames, self.fps, rate)]
        return places[frame_indices(len(places), self.frames, self.fps, rate)]

    def _segment(self, seconds: "np.ndarray", rate: float, name: str) -> "np.ndarray":
        """Frames that begin within the segment; where none does, the one that is shown meanwhile."""
        import numpy as np

        if np.isnan(seconds).any():
            raise UnsupportedInputError(
                f"{name} has no times, so that no segment from {self.start:g} s can be taken; take its frames by number",
                what=name,
            )
        last = float(seconds[-1]) + (1 / rate if rate else 0.0)
        if self.start > last + _CLOSE:
            raise NoFramesError(
                f"{name} ends at {last:.3f} s, and a segment from {self.start:g} s was asked for", what=name
            )
        end = self.start + self.seconds if self.seconds else math.inf
        # Times are floats: a frame at 1.9999999 s begins a segment from 2 s.
        first, stop = np.searchsorted(seconds, [self.start - _CLOSE, end - _CLOSE])
        return np.arange(first, stop) if first < stop else np.array([max(first - 1, 0)])


def frame_indices(total: int, frames: int, fps: float = 0.0, rate: float = 0.0) -> "np.ndarray":
    """Which of a number of frames are taken: int64, rising, none twice.

    Evenly spread, they are `linspace(0, total - 1, frames)` cut to whole numbers (VLM2Vec's `sample_frames` in
    src/utils/vision_utils/vision_utils.py; all frames of a shorter video, as its `process_video_frames`). At `fps`, they
    are as many as `smart_nframes` of qwen-vl-utils (vision_process.py) says, at least 4, at most `frames` and an even
    number, at `linspace(0, total - 1, n)` rounded. Other than there, a video of one frame gives that.

    Args:
        total: frames there are. frames: how many, or with `fps` at most how many. rate: the video's own, 0 if unknown.
    """
    import numpy as np

    if fps and rate:
        # Even, as there: models of this family make one patch of two frames.
        count = int(min(max(total / rate * fps, 4), frames - frames % 2, total)) // 2 * 2
        return np.linspace(0, total - 1, count or 1).round().astype(np.int64)
    return np.linspace(0, total - 1, min(frames, total)).astype(np.int64)


def stepped_indices(total: int, frames: int, fps: float, rate: float) -> "np.ndarray":
    """Which of a number of frames are taken at every 1 / `fps` seconds: int64, rising, none twice.

    As EmbeddingGemma2VideoProcessor of transformers samples: `int(i * rate / fps)` for each of the `total / rate * fps` steps that are
    whole, at least one; where these are more than `frames`, so many of them, `linspace` cut to whole numbers.

    Args:
        total: frames there are. frames: how many at most. fps, rate: frames a second, wanted and there, both over 0.
    """
    import numpy as np

    steps = np.arange(max(1, int(total / rate * fps)))
    found = np.minimum((steps * (rate / fps)).astype(np.int64), total - 1)
    if len(found) > frames:
        found = found[np.linspace(0, len(found) - 1, frames).astype(np.int64)]
    # Of a video of fewer frames a second than are wanted some come twice. `np.unique` would import a module when first called, and the
    # process that decodes, which calls this, can open no file.
    return found[np.diff(found, prepend=-1) > 0]
