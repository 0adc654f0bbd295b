"""SpectrogramAudio: a log-mel spectrogram is an image, which the first stages of a timm convolutional backbone read.

ImageNet's filters carry over to spectrograms (Palanisamy et al., 2020, arxiv:2007.11154): edges and textures in time and frequency
tell recordings apart, and few recordings are enough for a head after them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders import mel
from zoo.encoders.audio import AudioEncoder
from zoo.encoders.config_checks import check_timm
from zoo.encoders.image import timm_backbone
from zoo.errors import UnrecognisedCheckpointError

_QUIET = 1e-5  # of the power, so that digital silence has a logarithm
_STEADY = 0.5  # added to the spread of the logarithms, so that noise alone is not blown up
_MOST = 3.0  # spreads from the mean; what lies beyond is cut
# Of training, as shares of the image: how far it is moved and stretched, and how wide a band of it is hidden, twice each way.
_MOVED, _STRETCHED, _HIDDEN = (0.1, 0.15), 0.15, (0.19, 0.17)


@dataclass(frozen=True)
class Spectrogram:
    """How audio becomes an image.

    Args:
        rate: Hz. mels: bands up to half the rate, from `low` Hz on. size: samples of a frame, in a transform of twice as many.
        hop: samples from one frame to the next. height, width: of the image in pixels, whatever the audio's length.
    """

    rate: int = 16_000
    mels: int = 96
    low: float = 30.0
    size: int = 512
    hop: int = 160
    height: int = 192
    width: int = 256

    def __post_init__(self) -> None:
        sizes = (self.rate, self.mels, self.size, self.hop, self.height, self.width)
        if min(sizes) < 1 or max(sizes) > 2**20 or not 0 <= self.low < self.rate / 2 or self.hop > self.size:
            raise UnrecognisedCheckpointError(f"no spectrogram has these sizes: {asdict(self)}")

    @classmethod
    def of(cls, settings: "Self | Mapping[str, Any]") -> Self:
        """From JSON."""
        return settings if isinstance(settings, cls) else cls(**settings)

    def image(self, samples: Tensor) -> Tensor:
        """A waveform `(n,)` as an image `(1, height, width)` in -1..1, low frequencies at the top.

        Loudness and a recording's overall colour are taken out: the logarithms are less their mean, over their spread.
        """
        power = torch.stft(
            F.pad(samples, (0, max(0, self.size - len(samples)))).float(),
            2 * self.size,
            self.hop,
            self.size,
            window=mel.hann(self.size, samples.float()),
            return_complex=True,
            pad_mode="constant",
        )
        bank = mel.filters(power.real, self.size + 1, self.mels, self.low, self.rate / 2, self.rate, None, "htk")
        energies = (bank.T @ power.abs().square() + _QUIET).log()
        # Before resizing: statistics are of the audio, not of how long it was made.
        energies = (energies - energies.mean()) / (energies.std() + _STEADY)
        resized = F.interpolate(
            energies[None, None], (self.height, self.width), mode="bilinear", antialias=True, align_corners=False
        )
        return resized[0].clamp(-_MOST, _MOST) / _MOST


class SpectrogramAudio(AudioEncoder):
    """The first stages of a backbone over spectrograms; a window's vector is what they see in each cell of a grid.

    Args:
        arch: timm architecture with `conv_stem`, `bn1` and `blocks` (EfficientNet's family).
        grids: stage → (rows, columns): frequency by time, in which its map is averaged. The last stage also gives the largest of its
            map. Later stages are left away.
        spectrogram: how audio becomes an image. window, hop: seconds, as of `AudioEncoder`.
        backbone: a loaded one; None builds one with random weights.

    Raises:
        UnrecognisedCheckpointError: the architecture has no such stages.
    """

    batch_budget = 32  # also of the batch norms, in training

    def __init__(
        self,
        arch: str,
        grids: Mapping[str, list[int]],
        spectrogram: Spectrogram | dict[str, Any] | None = None,
        window: float = 5.0,
        hop: float = 2.5,
        backbone: nn.Module | None = None,
    ) -> None:
        read_as = Spectrogram.of(spectrogram or {})
        super().__init__(read_as.rate, window, hop, shortest=2 * read_as.size)  # one whole transform
        check_timm(arch, {})
        self.arch, self.spectrogram = arch, read_as
        self.grids = {str(stage): list(grid) for stage, grid in grids.items()}
        whole = backbone or timm_backbone(arch)
        stages = sorted(int(stage) for stage in self.grids)
        if not all(hasattr(whole, part) for part in ("conv_stem", "bn1", "blocks")) or not (
            stages and stages[0] >= 0 and stages[-1] < len(whole.blocks)
        ):
            raise UnrecognisedCheckpointError(f"{arch} has no stages {stages} after a stem, as EfficientNets have them")
        self.stem = nn.Sequential(whole.conv_stem, whole.bn1)
        self.blocks = whole.blocks[: stages[-1] + 1]
        channels = self._channels()
        cells = {stage: self.grids[str(stage)][0] * self.grids[str(stage)][1] for stage in stages}
        self.width = sum(channels[stage] * cells[stage] for stage in stages) + channels[stages[-1]]

    def _channels(self) -> list[int]:
        """Of the map after every stage, which ends with a normalisation."""
        norms = [[m for m in block.modules() if isinstance(m, nn.BatchNorm2d)] for block in self.blocks]
        return [found[-1].num_features for found in norms]

    def embedded(self, clips: Sequence[Tensor]) -> Tensor:
        images = torch.stack([self.spectrogram.image(clip) for clip in clips]).to(next(self.parameters()).dtype)
        if self.training:
            images = masked(images)
        # (B, 1, H, W) three times over: ImageNet's filters have three colours.
        states, found = self.stem(images.expand(-1, 3, -1, -1)), []
        for stage, block in enumerate(self.blocks):
            states = block(states)
            if grid := self.grids.get(str(stage)):
                found.append(F.adaptive_avg_pool2d(states, tuple(grid)).flatten(1))
        return torch.cat([*found, states.amax((2, 3))], 1)

    def config(self) -> dict[str, Any]:
        return {
            "arch": self.arch,
            "grids": self.grids,
            "spectrogram": asdict(self.spectrogram),
            "window": self.window,
            "hop": self.hop,
        }

    def preprocessing(self) -> dict[str, Any]:
        return {**asdict(self.spectrogram), "window": self.window, "hop": self.hop}


def masked(images: Tensor) -> Tensor:
    """Spectrograms `(B, 1, H, W)` as training sees them: moved and stretched in frequency, as voices differ, and in time, and without two
    bands and two moments (SpecAugment, Park et al., 2019); from torch's own random numbers, on the processor whatever the device.
    """
    count, _, height, width = images.shape
    place = torch.eye(2, 3).repeat(count, 1, 1)
    for axis, moved in enumerate(_MOVED):  # time, frequency
        place[:, axis, axis] += (2 * torch.rand(count) - 1) * _STRETCHED
        place[:, axis, 2] = (2 * torch.rand(count) - 1) * 2 * moved
    grid = F.affine_grid(place, list(images.shape), align_corners=False).to(images)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    for _ in range(2):
        along, across = (_band(count, side, most) for side, most in zip((width, height), _HIDDEN, strict=True))
        hidden = along[:, None, None, :] | across[:, None, :, None]
        images = images.masked_fill(hidden.to(images.device), 0.0)
    return images


def _band(count: int, side: int, most: float) -> Tensor:
    """`(count, side)` bool: a stretch of each, of random length up to a share of the side."""
    start, length = torch.randint(side, (count, 1)), (torch.rand(count, 1) * most * side).long()
    at = torch.arange(side)[None]
    return (at >= start) & (at < start + length)
