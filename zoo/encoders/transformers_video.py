"""transformers' video towers: an exact number of frames, evenly spread, each made ready like an image; video and text apart."""

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch, Cut, Encoder, one_token
from zoo.encoders.config_checks import check_transformers
from zoo.encoders.image_transform import Normalize, PixelTransform, as_transform
from zoo.encoders.transformers_dual import HfText
from zoo.errors import UnreadableTextError
from zoo.inputs.item import Item, Tokens

Settings = dict[str, Any]


@dataclass(frozen=True)
class VideoFamily:
    """What tells one family of video towers from another.

    Attributes:
        build: the tower of a configuration, with random weights.
        states: what the tower gives of normalised pixels `(B, F, 3, H, W)`: token states `(B, T, W)`, or vectors `(B, W)`.
        width: of what it gives. frames, side: names in the configuration of the number of frames and of the image's side.
        short: which frames a shorter video shows again: its "last" one, or each in its place ("spread": 0 0 1 1 2 2).
        step: name of how many frames one token spans, "" for one.
    """

    build: Callable[[Settings], nn.Module]
    states: Callable[[nn.Module, Tensor], Tensor]
    width: Callable[[Settings], int] = lambda config: config["hidden_size"]
    frames: str = "num_frames"
    side: str = "image_size"
    short: Literal["last", "spread"] = "last"
    step: str = ""


class XClipVideo(nn.Module):
    """X-CLIP's side of videos: frames that send each other messages, a projection, and a transformer over the frames.

    Args:
        model: transformers' XCLIPModel, whose parts become this module's.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model, self.visual_projection, self.mit = model.vision_model, model.visual_projection, model.mit
        self.config = model.config.vision_config

    def forward(self, pixels: Tensor) -> Tensor:
        """`(B, F, 3, H, W)` → `(B, dim)`, not normalised."""
        count = pixels.shape[1]
        classes = self.visual_projection(self.vision_model(pixel_values=pixels.flatten(0, 1)).pooler_output)
        return self.mit(classes.unflatten(0, (-1, count))).pooler_output


class Attentive(nn.Module):
    """V-JEPA 2 with the attentive pooler that its classifier was trained with: `(B, F, 3, H, W)` → `(B, W)`.

    Args:
        model: transformers' VJEPA2ForVideoClassification.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.pooler, self.config = model.vjepa2.encoder, model.pooler, model.config

    def forward(self, pixels: Tensor) -> Tensor:
        return self.pooler(self.encoder(pixel_values_videos=pixels).last_hidden_state)


def _built(cls: str, part: Callable[[Any], nn.Module] = lambda model: model) -> Callable[[Settings], nn.Module]:
    """Builds a class of transformers of a configuration and keeps one part of it."""

    def build(config: Settings) -> nn.Module:
        import transformers

        kind = getattr(transformers, cls)
        return part(kind(kind.config_class(**config)))

    return build


def _xclip(config: Settings) -> nn.Module:
    """Of the vision tower's settings and the `projection_dim` of the whole; nothing of its text side is kept."""
    from transformers import XCLIPConfig, XCLIPModel

    vision = {key: value for key, value in config.items() if key != "projection_dim"}
    # The smallest that transformers builds: XCLIPModel comes with both sides, and this one is thrown away.
    text = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 0, "num_attention_heads": 1}
    dim = config["projection_dim"]
    return XClipVideo(XCLIPModel(XCLIPConfig(vision_config=vision, text_config=text, projection_dim=dim)))


FAMILIES: dict[str, VideoFamily] = {
    "xclip": VideoFamily(
        _xclip, lambda tower, pixels: tower(pixels), width=lambda config: config["projection_dim"], short="spread"
    ),
    "videoprism": VideoFamily(
        _built("VideoPrismVideoModel"),
        lambda tower, pixels: tower(pixel_values_videos=pixels).pooler_output[:, 0],
        short="spread",
    ),
    "videoprism_vision_model": VideoFamily(
        _built("VideoPrismVisionModel"),
        lambda tower, pixels: tower(pixel_values_videos=pixels).last_hidden_state,
        short="spread",
    ),
    # Without the predictor, which only training has a use for.
    "vjepa2": VideoFamily(
        _built("VJEPA2Model", lambda model: model.encoder),
        lambda tower, pixels: tower(pixel_values_videos=pixels).last_hidden_state,
        frames="frames_per_clip",
        side="crop_size",
        step="tubelet_size",
    ),
    "vjepa2_attentive": VideoFamily(
        _built("VJEPA2ForVideoClassification", Attentive),
        lambda tower, pixels: tower(pixels),
        frames="frames_per_clip",
        side="crop_size",
        step="tubelet_size",
    ),
    "videomae": VideoFamily(
        _built("VideoMAEModel"),
        lambda tower, pixels: tower(pixel_values=pixels).last_hidden_state,
        step="tubelet_size",
    ),
}


class HfVideo(Encoder):
    """A video tower of transformers, which reads an exact number of frames.

    The frames are spread evenly over the whole video, the first and the last among them (see `zoo.inputs.video.frame_indices`).
    A video with fewer shows frames again, as its family was trained: the last one (V-JEPA 2, VideoMAE), or each in its place
    (X-CLIP, VideoPrism). So videos of any length share a batch, and none changes another's vector.

    Args:
        family: one of `FAMILIES`: "xclip", "videoprism" (of VideoPrism-LVT), "videoprism_vision_model", "vjepa2",
            "vjepa2_attentive" (with the pooler of its classifier) or "videomae".
        config: of the vision tower; of X-CLIP with the `projection_dim` of the whole.
        transform: resize, crop, mean and std of each frame. tower: a loaded tower; None builds one with random weights.

    Raises:
        ValueError: no such family, no frames, or a number of them that is no multiple of what one token spans.
    """

    modalities = frozenset({"video"})
    batch_budget = 64  # frames

    def __init__(
        self,
        family: str,
        config: dict[str, Any],
        transform: PixelTransform | dict[str, Any],
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if family not in FAMILIES:
            raise ValueError(f"a video tower is of {', '.join(FAMILIES)}, not {family!r}")
        check_transformers(config)
        self.family, self.settings, self.transform = family, dict(config), as_transform(transform)
        kind = FAMILIES[family]
        self.tower = tower or kind.build(self.settings)
        built = self.tower.config
        self.frames = getattr(built, kind.frames)
        step = getattr(built, kind.step) if kind.step else 1
        if not self.frames >= 1 or self.frames % step:
            raise ValueError(
                f"{kind.frames} is {self.frames}; a {family} reads a multiple of {step} frames, at least that"
            )
        self.width = kind.width({**built.to_dict(), **self.settings})
        self.normalize = Normalize(self.transform)

    def prepare_item(self, item: Item) -> Tensor:
        """Frames `(frames, 3, height, width)` uint8.

        Raises:
            InputError: the video cannot be read.
        """
        from zoo.inputs.video import load_video

        frames = load_video(item.video, frames=self.frames).frames
        ready = torch.stack([self.transform.apply(torch.from_numpy(frame).permute(2, 0, 1)) for frame in frames])
        return ready[shown(len(ready), self.frames, FAMILIES[self.family].short)]

    def length(self, read: Tensor) -> int:
        """Its frames."""
        return len(read)

    def size(self, read: Tensor) -> int:
        """Bytes of the frames."""
        return read.nbytes

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        return {"frames": torch.stack(list(reads))}

    def forward(self, batch: Batch) -> Tokens:
        frames = batch["frames"]  # (B, F, 3, H, W), uint8
        ready = self.normalize(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        states = FAMILIES[self.family].states(self.tower, ready)
        if states.ndim == 2:
            return one_token(states)
        return Tokens(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))

    def config(self) -> dict[str, Any]:
        return {"family": self.family, "config": self.settings, "transform": self.transform.to_dict()}

    def preprocessing(self) -> dict[str, Any]:
        """Frames, what a short video shows again, and the transform of each frame."""
        return {"frames": self.frames, "short": FAMILIES[self.family].short, **self.transform.to_dict()}


def shown(have: int, want: int, short: Literal["last", "spread"]) -> list[int]:
    """Which of `have` frames are shown in `want` places: all of them, and again the "last" one, or each in its place.

    >>> shown(3, 8, "last"), shown(3, 8, "spread")
    ([0, 1, 2, 2, 2, 2, 2, 2], [0, 0, 0, 1, 1, 1, 2, 2])
    """
    return [min(place, have - 1) if short == "last" else place * have // want for place in range(want)]


_PUNCTUATION = str.maketrans(string.punctuation, " " * len(string.punctuation))


def canonical(text: str) -> str:
    """A text as VideoPrism's authors have it (`tokenize_texts` of videoprism/utils.py): ASCII punctuation is space, small letters,
    one space between words, a full stop at the end.

    >>> canonical("  A Dog-sled, in   SNOW! ")
    'a dog sled in snow.'
    """
    return " ".join(text.translate(_PUNCTUATION).lower().split()) + "."


class CanonicalText(HfText):
    """A text tower of transformers whose texts are first made `canonical`; arguments are those of `HfText`."""

    def _plain(self, item: Item) -> Item:
        from dataclasses import replace

        from zoo.encoders.tokenizing import check_text

        if (text := canonical(check_text(item.text))) == ".":
            raise UnreadableTextError(
                f"the text {item.text[:30]!r} is punctuation alone, which this model does not read; leave it out",
                what=item.text[:60],
            )
        return replace(item, text=text)

    def prepare_item(self, item: Item) -> list[int]:
        return super().prepare_item(self._plain(item))

    def cut(self, item: Item) -> Cut | None:
        return super().cut(self._plain(item))

    def unknown_share(self, item: Item) -> float:
        return super().unknown_share(self._plain(item))

    def doubtful(self, read: list[int], prompted: Item, item: Item) -> bool:
        return super().doubtful(read, self._plain(prompted), self._plain(item))
