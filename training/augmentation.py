"""Augmentation of single items in any modality, determined by a seed: the same seed gives the same view in every process."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.inputs.item import Item
from zoo.inputs.waveform import Waveform, as_waveform, mono

from .errors import RecipeError
from .spec_strings import what_there_is

# As torchvision's RandomResizedCrop: 3/4 to 4/3, drawn evenly in the logarithm.
_ASPECT = 4 / 3  # most that a crop is stretched
_ERASED = (0.02, 0.15)  # share of the image that a patch covers
# What an operation is when a recipe names it without a number, and the numbers it takes.
_USUAL = {
    "crop": 0.6,
    "flip": 0.5,
    "colour": 0.3,
    "erase": 0.3,
    "words": 0.1,
    "swap": 0.1,
    "gain": 6.0,
    "shift": 0.1,
    "mute": 0.1,
    "pitch": 0.3,
    "pad": 0.1,
    "noise": 0.5,
    "frames": 0.2,
}
_IMAGES = ("crop", "flip", "colour", "erase")
_AUDIO = ("gain", "shift", "mute", "pitch", "pad", "noise")
_LOUD = {"gain": 60.0, "pitch": 2.0}  # the most that a number may be, where that is not 1
_RATE = 16_000.0  # any: what is resampled is determined by the quotient of two rates
_NOISE = (-90.0, -50.0)  # decibels of full scale: from what nobody hears to a bad microphone


@dataclass(frozen=True)
class Augmentation:
    """How items are changed before they are embedded in training; 0 leaves a thing as it is.

    None changes what a caption usually says: hues stay, and images are mirrored only where `flip` is named, since
    captions say left and right and images hold letters.

    Attributes:
        crop: smallest share of an image's area that a view shows, at the image's size; stretched by 4/3 at most.
        flip: how often an image is mirrored.
        colour: most by which saturation, contrast and brightness change, as a share.
        erase: how often a patch of an image is painted over.
        words: how often a word is left out; at least one stays.
        swap: how often a word changes places with the next.
        gain: most decibels by which a recording is louder or softer.
        shift: most by which a recording is moved, as a share of its length; silence fills the gap.
        mute: longest part of a recording that is silenced, as a share of its length.
        pitch: most octaves by which audio is played faster or slower, which moves its frequencies and its length alike.
        pad: most silence before and after audio, each as a share of its length.
        noise: how often white noise lies under audio, of -90 to -50 decibels of full scale.
        frames: most by which a video is cut at its ends, as a share; the frames are then taken anew, as many as before.
    """

    crop: float = 0.0
    flip: float = 0.0
    colour: float = 0.0
    erase: float = 0.0
    words: float = 0.0
    swap: float = 0.0
    gain: float = 0.0
    shift: float = 0.0
    mute: float = 0.0
    pitch: float = 0.0
    pad: float = 0.0
    noise: float = 0.0
    frames: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, most = getattr(self, field.name), _LOUD.get(field.name, 1)
            if not isinstance(value, int | float) or not 0 <= value <= most:
                raise RecipeError(f"augmentation {field.name} must be from 0 to {most}, not {value!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads how a recipe writes it: "crop, colour; words=0.2"; "" changes nothing.

        Raises:
            RecipeError: an unknown name, or a number out of its range.
        """
        found: dict[str, float] = {}
        for part in text.replace(";", ",").split(","):
            name, sign, number = (word.strip() for word in part.partition("="))
            if not name and not sign:
                continue
            if name not in _USUAL:
                raise RecipeError(f"no augmentation is called {name!r}; {what_there_is(name, _USUAL)}")
            try:
                found[name] = float(number) if sign else _USUAL[name]
            except ValueError as error:
                raise RecipeError(f"augmentation {part.strip()!r}: {number!r} is no number") from error
        return cls(**found)

    @property
    def modalities(self) -> frozenset[str]:
        """What is changed: an item of another modality is always the same."""
        changed = {
            "text": self._any("words", "swap"),
            "image": self._any(*_IMAGES),
            "video": self._any("frames", *_IMAGES),
            "audio": self._any(*_AUDIO),
        }
        return frozenset(name for name, does in changed.items() if does)

    def item(self, item: Item, seed: int | Sequence[int]) -> Item:
        """The item with its text changed, and videos and recordings that are arrays; the rest is changed after reading."""
        rng = np.random.default_rng([0, *_numbers(seed)])
        changes: dict[str, Any] = {}
        if item.text is not None and (self.words or self.swap):
            changes["text"] = change_words(item.text, rng, leave_out=self.words, swap=self.swap)
        if _is_array(item.video) and self._any("frames", *_IMAGES):
            video = torch.as_tensor(item.video).movedim(-1, 1)  # (F, H, W, 3) → (F, 3, H, W)
            changed = self._video(video, rng, still=bool(len(item.regions))).movedim(1, -1)
            changes["video"] = changed if isinstance(item.video, Tensor) else changed.numpy()
        if (waveform := as_waveform(item.audio)) is not None and self._any(*_AUDIO):
            samples = torch.from_numpy(mono(waveform, repr(waveform)))
            changes["audio"] = Waveform(self._audio(samples, rng), waveform.rate)
        elif _is_array(item.audio) and self._any(*_AUDIO):  # of an encoder from outside, which knows its rate
            changed = self._audio(torch.as_tensor(item.audio), rng)
            changes["audio"] = changed if isinstance(item.audio, Tensor) else changed.numpy()
        return replace(item, **changes) if changes else item

    def read(self, value: Any, item: Item, seed: int | Sequence[int]) -> Any:
        """What an encoder has read of an item, with its image changed, or the video or audio that came from a file.

        Regions are told in pixels of the image: with them it is neither cropped nor mirrored.

        Raises:
            RecipeError: the encoder's reads hold no pixels, frames or waveform to change.
        """
        rng = np.random.default_rng([1, *_numbers(seed)])
        still = bool(len(item.regions))
        if (
            still and self._any(*_IMAGES) and hasattr(value, "pixels")
        ):  # of a dense rule: an image, and what of it is meant
            return value._replace(pixels=self._image(value.pixels, rng, still=True))
        if still and type(value) is tuple:  # of an ensemble: several images of one region, changed alike
            return tuple(self.read(part, item, seed) for part in value)
        if item.image is not None and self._any(*_IMAGES):
            return self._image(_expect(value, "uint8 (3, H, W) pixels", _is_image), rng, still=still)
        if item.video is not None and not _is_array(item.video) and self._any("frames", *_IMAGES):
            return self._video(_expect(value, "uint8 (F, 3, H, W) frames", _is_video), rng, still=still)
        told = _is_array(item.audio) or as_waveform(item.audio) is not None
        if item.audio is not None and not told and self._any(*_AUDIO):
            return self._audio(_expect(value, "float (samples,) waveforms", _is_audio), rng)
        return value

    def _any(self, *names: str) -> bool:
        return any(getattr(self, name) for name in names)

    def _image(self, pixels: Tensor, rng: np.random.Generator, *, still: bool) -> Tensor:
        """uint8 `(..., 3, H, W)`; all images of a video alike."""
        if self.crop and not still:
            pixels = crop(pixels, rng, self.crop)
        if self.flip and not still and rng.random() < self.flip:
            pixels = pixels.flip(-1)
        if self.colour:
            pixels = change_light(pixels, rng, self.colour)
        if self.erase and rng.random() < self.erase:
            pixels = erase(pixels, rng)
        return pixels

    def _video(self, frames: Tensor, rng: np.random.Generator, *, still: bool) -> Tensor:
        if self.frames and len(frames) > 1:
            frames = frames[torch.from_numpy(pick_frames(len(frames), rng, self.frames))]
        return self._image(frames, rng, still=still)

    def _audio(self, wave: Tensor, rng: np.random.Generator) -> Tensor:
        return change_audio(wave, rng, **{name: getattr(self, name) for name in _AUDIO})


# ---------------------------------------------------------------------------------------------------- one modality each


def crop(pixels: Tensor, rng: np.random.Generator, least: float) -> Tensor:
    """A random part of images `(..., 3, H, W)`, at least so much of their area, enlarged to their size (Inception)."""
    height, width = pixels.shape[-2:]
    # Even in the logarithm: as often wider by a third as taller by a third.
    area, aspect = rng.uniform(least, 1), np.exp(rng.uniform(-np.log(_ASPECT), np.log(_ASPECT)))
    # tall · wide = area · height · width and the ratio changes by `aspect`.
    tall = min(height, max(1, round(height * np.sqrt(area / aspect))))
    wide = min(width, max(1, round(width * np.sqrt(area * aspect))))
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    part = pixels[..., top : top + tall, left : left + wide].reshape(-1, 3, tall, wide)
    return F.interpolate(part, (height, width), mode="bilinear", antialias=True).reshape(pixels.shape)


def change_light(pixels: Tensor, rng: np.random.Generator, most: float) -> Tensor:
    """Saturation, contrast and brightness of uint8 `(..., 3, H, W)`, each times 1 - most to 1 + most; hues stay."""
    saturation, contrast, brightness = (float(rng.uniform(1 - most, 1 + most)) for _ in range(3))
    images = pixels.float()
    # From grey (the mean of the channels) past the image: below 1 paler, above 1 more vivid.
    images = torch.lerp(images.mean(-3, keepdim=True), images, saturation)
    # The same from one even grey, the mean of all pixels.
    images = torch.lerp(images.mean(), images, contrast) * brightness
    return images.round_().clamp_(0, 255).to(torch.uint8)


def erase(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """A rectangle of one random colour over uint8 `(..., 3, H, W)` (random erasing, Zhong et al., 2020)."""
    height, width = pixels.shape[-2:]
    area, aspect = rng.uniform(*_ERASED), np.exp(rng.uniform(-np.log(2), np.log(2)))
    tall = min(height, max(1, round(height * np.sqrt(area / aspect))))
    wide = min(width, max(1, round(width * np.sqrt(area * aspect))))
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    pixels = pixels.clone()
    colour = torch.from_numpy(rng.integers(256, size=(3, 1, 1))).to(torch.uint8)
    pixels[..., top : top + tall, left : left + wide] = colour
    return pixels


def change_words(text: str, rng: np.random.Generator, *, leave_out: float = 0.0, swap: float = 0.0) -> str:
    """The text without some of its words, and with some next to each other exchanged (EDA, Wei and Zou, 2019)."""
    words = text.split()
    if len(words) < 2:
        return text
    kept = [word for word, chance in zip(words, rng.random(len(words)), strict=True) if chance >= leave_out]
    kept = kept or [words[int(rng.integers(len(words)))]]
    place = 0
    while swap and place < len(kept) - 1:
        if rng.random() < swap:
            kept[place], kept[place + 1] = kept[place + 1], kept[place]
            place += 1
        place += 1
    return text if kept == words else " ".join(kept)


def change_audio(
    wave: Tensor,
    rng: np.random.Generator,
    *,
    gain: float = 0.0,
    shift: float = 0.0,
    mute: float = 0.0,
    pitch: float = 0.0,
    pad: float = 0.0,
    noise: float = 0.0,
) -> Tensor:
    """A waveform `(samples,)` faster or slower, longer by silence, louder or softer, moved, silent for a while, and noisy."""
    changed = played(wave, 2 ** float(rng.uniform(-pitch, pitch))) if pitch else wave.clone()
    if pad:
        before, after = (round(share * len(changed)) for share in rng.uniform(0, pad, 2))
        changed = F.pad(changed, (before, after))
    count = changed.shape[-1]
    if gain:
        # Decibels of an amplitude: 20 · log10(factor), so 6 dB is twice the amplitude.
        factor = float(10 ** (rng.uniform(-gain, gain) / 20))
        # Louder than full scale would clip: a distortion that no recording of the thing has.
        loudest = float(changed.abs().max()) if count else 0.0
        changed = changed * min(factor, max(1.0, 1 / loudest) if loudest else factor)
    moved = round(rng.uniform(-shift, shift) * count)
    if moved:
        changed = torch.roll(changed, moved, -1)
        # `roll` brings one end to the other; a recording's end does not come before its beginning.
        changed[..., slice(0, moved) if moved > 0 else slice(moved, None)] = 0
    length = round(rng.uniform(0, mute) * count)
    if length:
        start = int(rng.integers(count - length + 1))
        changed[..., start : start + length] = 0
    if noise and rng.random() < noise:
        level = 10 ** (rng.uniform(*_NOISE) / 20)
        changed = changed + torch.from_numpy(rng.standard_normal(count)).to(changed) * level
    return changed


def played(wave: Tensor, speed: float) -> Tensor:
    """A waveform `(samples,)` played so many times as fast: `(samples / speed,)`, its frequencies `speed` times as high."""
    import soxr

    fast = soxr.resample(wave.numpy(), speed * _RATE, _RATE, quality="MQ")
    return torch.from_numpy(fast).to(wave.dtype) if len(fast) else wave.clone()


def pick_frames(count: int, rng: np.random.Generator, most: float) -> np.ndarray:
    """Frames `(count,)` of a video in order: evenly over a part of it, each moved by up to half its distance."""
    span = rng.uniform(1 - most, 1) * count
    start, step = rng.uniform(0, count - span), span / count
    # One frame of each of `count` equal stretches: never two of the same stretch, and in order.
    places = start + step * (np.arange(count) + rng.uniform(0, 1, count))
    return np.clip(places.astype(np.int64), 0, count - 1)


# ---------------------------------------------------------------------------------------------------- kinds


def _numbers(seed: int | Sequence[int]) -> list[int]:
    """A seed of any sign and length as numpy takes them: numbers from 0, told apart by their count."""
    numbers = [seed] if isinstance(seed, int) else [int(number) for number in seed]
    # The count is part of it: numpy pads seeds with zeros, and (1,) and (1, 0) would be one stream.
    return [len(numbers), *(part for number in numbers for part in (abs(number), int(number < 0)))]


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 3 and value.shape[0] == 3


def _is_video(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 4 and value.shape[1] == 3


def _is_audio(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 1


def _expect(value: Any, what: str, fits: Any) -> Tensor:
    if fits(value):
        return value
    found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise RecipeError(
        f"augmentation changes {what}, and this encoder reads {found}; set augment to words alone, or to ''"
    )
