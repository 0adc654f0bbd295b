"""Videos in a sequence: their frames through the backbone's processor, or read as images where the format marks them so."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.encoders.sequence.image import Frame
from zoo.encoders.sequence.media import (
    Medium,
    Setup,
    VisionReader,
    marker_of,
    medium_of,
    plain,
    register_media_reader,
    set_budget,
)
from zoo.encoders.sequence.resizing import by_pillow, by_torchvision, fetched_size
from zoo.errors import InvalidPixelsError
from zoo.sequences import ImageLimits, VideoLimits

if TYPE_CHECKING:
    from zoo.inputs.video import Video


@register_media_reader("video")
class VideoReader(VisionReader):
    """Videos, one at a time: frames chosen and resized within the limits of the format."""

    kind = "video"
    type = 2

    def __init__(self, setup: Setup) -> None:
        self.setup, self.processor = setup, setup.processor
        self.marker, self.token_id = marker_of(setup, "video")
        self.limits = setup.media.get("video", VideoLimits())
        pixels = setup.media.get("image", ImageLimits()).pixels
        set_budget(self.part, pixels if self.limits.twice else self.limits.pixels or pixels)
        marks = setup.format.marks
        self.as_images = marks.get("video") == marks.get("image")

    @property
    def part(self) -> Any:
        """The processor of videos, None where the backbone's reads images alone."""
        return getattr(self.processor, "video_processor", None)

    def unfold(self, value: Any) -> list[tuple[str, Any]] | None:
        """Its frames as images, where the format has one mark for both.

        Raises:
            InputError: a video that cannot be read.
        """
        if not self.as_images:
            return None
        video = self._loaded(value)
        return [("image", Frame(frame)) for frame in video.frames]

    def read(self, value: Any) -> Medium:
        """A video, its frames decoded and resized.

        Raises:
            InputError: it cannot be read. InvalidPixelsError: its shape is none that the model takes.
        """
        from transformers.video_utils import VideoMetadata

        video = self._loaded(value)
        frames = torch.from_numpy(video.frames).permute(0, 3, 1, 2)
        # Frames without times are shown two a second, as qwen-vl-utils has it for lists of frames.
        rate, total = video.fps or 2.0, video.total if video.fps else len(frames)
        indices = video.indices.tolist() if video.fps else list(range(len(frames)))
        size = f"{frames.shape[3]}x{frames.shape[2]}"
        listed, fitted = not video.fps and self.limits.pre_resize, self._fits
        try:
            if listed:
                frames = self._listed(frames)
                indices, total = list(range(len(frames))), len(frames)
                fitted = fitted and listed[0] != self._factor
            if fitted:
                frames = self._fitted(frames)
            inputs = self.part(
                videos=[frames],
                video_metadata=[VideoMetadata(total_num_frames=total, fps=rate, frames_indices=indices)],
                do_sample_frames=False,
                return_metadata=True,
                return_tensors="pt",
                **({"do_resize": False} if fitted and not self.limits.twice else {}),
            )
        except ValueError as error:
            raise InvalidPixelsError(f"a video of {size} pixels is none for this model: {error}; crop it") from error
        place = self.setup.backbone.video_place(self.processor, inputs)
        tensors = {name: t for name, t in inputs.items() if isinstance(t, Tensor)}
        times = self.setup.backbone.video_times(self.part, total, rate, len(indices))
        return medium_of(self, tensors | {name: torch.tensor([value]) for name, value in times.items()}, place)

    def _loaded(self, value: Any) -> "Video":
        from zoo.inputs.video import load_video

        limits = self.limits
        return load_video(value, frames=limits.frames, fps=limits.fps, sampling=limits.sampling)

    @property
    def _fits(self) -> bool:
        """Whether frames are resized before the processor, which may do so again."""
        return bool(self.limits.pixels and (self.limits.total_pixels or self.limits.twice))

    @property
    def _factor(self) -> int:
        """Pixels of a side of one token of a video."""
        return self.part.patch_size * self.part.merge_size

    def _listed(self, frames: Tensor) -> Tensor:
        """Frames `(n, 3, height, width)` that came without times as qwen-vl-utils makes lists of images ready: each one
        resized by itself, and the last one of an odd number shown once more, at a time of its own."""
        size = fetched_size(*frames.shape[2:], *self.limits.pre_resize)
        frames = torch.stack([by_pillow(frame, *size) for frame in frames])
        return torch.cat([frames, frames[-1:]]) if len(frames) % 2 else frames

    def _fitted(self, frames: Tensor) -> Tensor:
        """Frames `(n, 3, height, width)` resized as qwen-vl-utils (fetch_video) does: each one within `pixels`, also enlarged,
        and all of them within `total_pixels`, counted once for two frames that make one patch."""
        least, most = self.limits.pixels
        step = self.part.temporal_patch_size
        if total := self.limits.total_pixels:
            # 1.05 as in qwen-vl-utils' fetch_video, so that the most lies above the least.
            most = max(min(most, total * step / (len(frames) + -len(frames) % step)), int(least * 1.05))
        frames = by_torchvision(frames, *fetched_size(*frames.shape[2:], self._factor, least, most))
        return frames.float() if self.limits.twice else frames  # theirs are floats: not rounded again by the second

    def settings(self) -> dict[str, Any]:
        """Of the video processor."""
        return plain(self.part)
