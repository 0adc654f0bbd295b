"""FramesVideo: frames through an encoder of images, their mean, and the camera's motion beside it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.encoders.base import Batch, Encoder, one_token
from zoo.encoders.image import TimmImage
from zoo.encoders.image_transform import PixelTransform
from zoo.encoders.motion import MOTION, camera_motion
from zoo.inputs.item import Item, Tokens


class FramesVideo(Encoder):
    """A video is the mean of what an image backbone sees in its frames (as CLIP4Clip's mean pooling, Luo et al., 2021), which has no
    order, and `camera_motion`, which has nothing else.

    The frames are spread evenly over the whole video, the first and the last among them; a shorter video has fewer.

    Args:
        arch, transform: of `TimmImage`, whose pooled vectors are averaged. frames: of a video.
        image: the encoder of images itself; None builds one with random weights.
    """

    modalities = frozenset({"video"})
    batch_budget = 16  # frames

    def __init__(
        self,
        arch: str,
        transform: PixelTransform | dict[str, Any],
        frames: int = 8,
        image: TimmImage | None = None,
    ) -> None:
        super().__init__()
        if frames < 1:
            raise ValueError(f"a video is read by 1 frame or more, not {frames}")
        self.image = image or TimmImage(arch, transform)
        self.frames, self.width = frames, self.image.width + MOTION

    @property
    def transform(self) -> PixelTransform:
        """Of each frame."""
        return self.image.transform

    @transform.setter
    def transform(self, transform: PixelTransform) -> None:
        self.image.transform = transform

    def prepare_item(self, item: Item) -> Tensor:
        """Frames `(F, 3, height, width)` uint8, at most `frames` of them.

        Raises:
            InputError: the video cannot be read.
        """
        from zoo.inputs.video import load_video

        frames = load_video(item.video, frames=self.frames).frames
        return torch.stack([self.transform.apply(torch.from_numpy(frame).permute(2, 0, 1)) for frame in frames])

    def length(self, read: Tensor) -> int:
        """Its frames."""
        return len(read)

    def size(self, read: Tensor) -> int:
        """Bytes of the frames."""
        return read.nbytes

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        """`frames` `(B, F, 3, H, W)`, black after the last one of a shorter video; `counts` `(B,)`."""
        counts = torch.tensor([len(read) for read in reads])
        return {"frames": torch.nn.utils.rnn.pad_sequence(list(reads), batch_first=True), "counts": counts}

    def forward(self, batch: Batch) -> Tokens:
        frames, counts = batch["frames"], batch.get("counts")
        seen = self.image({"pixels": frames.flatten(0, 1)}).states[:, 0].unflatten(0, frames.shape[:2])  # (B, F, W)
        if counts is None or bool((counts == frames.shape[1]).all()):
            return one_token(torch.cat([seen.mean(1), camera_motion(frames)], 1))
        # Only the real frames: the black ones that fill up shorter videos would darken the mean and look like a cut.
        videos = [(seen[row, :count].mean(0), frames[row, :count]) for row, count in enumerate(counts.tolist())]
        return one_token(torch.stack([torch.cat([mean, camera_motion(own[None])[0]]) for mean, own in videos]))

    def config(self) -> dict[str, Any]:
        facts = self.image.config()
        return {"arch": facts["arch"], "transform": facts["transform"], "frames": self.frames}

    def preprocessing(self) -> dict[str, Any]:
        return {"frames": self.frames, **self.image.preprocessing()}
