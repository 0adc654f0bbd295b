"""ClapAudio: the audio tower of transformers' CLAP with its projection (arxiv:2211.06687), read as LAION's own code reads it.

It differs from transformers' extractor where that gives a clip another vector in another call or batch: long clips are not
cropped at random, and none is marked as longer than it is.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from zoo.encoders import mel
from zoo.encoders.audio import AudioEncoder
from zoo.encoders.config_checks import check_transformers
from zoo.errors import UnrecognisedCheckpointError

PADDINGS, TRUNCATIONS = ("repeatpad", "repeat", "pad"), ("rand_trunc", "fusion")


@dataclass(frozen=True)
class ClapFeatures:
    """How a clip becomes log-mel spectrograms; the names are those of preprocessor_config.json.

    Args:
        feature_size: bands. sampling_rate: Hz. hop_length, fft_window_size: samples. max_length_s: seconds of a spectrogram.
        frequency_min, frequency_max: Hz. truncation: "rand_trunc" for windows of one spectrogram each (bank of Slaney);
            "fusion" for four of a whole clip: all of it shrunk, its beginning, middle and end (bank of HTK).
        padding: how a shorter clip is filled up.
    """

    feature_size: int = 64
    sampling_rate: int = 48_000
    hop_length: int = 480
    fft_window_size: int = 1024
    max_length_s: int = 10
    frequency_min: float = 0.0
    frequency_max: float = 14_000.0
    truncation: str = "fusion"
    padding: str = "repeatpad"

    def __post_init__(self) -> None:
        if self.truncation not in TRUNCATIONS or self.padding not in PADDINGS:
            raise UnrecognisedCheckpointError(
                f"CLAP's truncation is one of {TRUNCATIONS} and its padding of {PADDINGS}, not {self.truncation!r}, {self.padding!r}"
            )
        whole = (self.feature_size, self.sampling_rate, self.hop_length, self.fft_window_size, self.max_length_s)
        if (
            min(whole) < 1
            or self.length * self.sampling_rate > 2**40
            or not 0 <= self.frequency_min < self.frequency_max
        ):
            raise UnrecognisedCheckpointError(f"no spectrogram has these sizes: {asdict(self)}")

    @property
    def length(self) -> int:
        """Samples of a spectrogram."""
        return self.max_length_s * self.sampling_rate

    @classmethod
    def of(cls, settings: "Self | dict[str, Any]") -> Self:
        """From JSON."""
        return settings if isinstance(settings, cls) else cls(**settings)


class ClapAudio(AudioEncoder):
    """CLAP's audio tower: of windows of ten seconds, or fused, of clips as a whole.

    Every waveform is rounded to 16 bits, as in LAION's training and inference (laion_clap/hook.py). A clip longer than ten
    seconds is read in windows; by a fused model as a whole, whose three excerpts are its first ten seconds, the ten in the middle
    and the last ten, where LAION draws one at random from each third.

    Args:
        config: of the audio tower. features: of the spectrograms.
        hop: seconds from one window to the next; at most, and by default, the length of one. Of fused models 0.
        tower: a loaded one; None builds one with random weights.
    """

    batch_budget = 8

    def __init__(
        self,
        config: dict[str, Any],
        features: ClapFeatures | dict[str, Any],
        hop: float | None = None,
        tower: nn.Module | None = None,
    ) -> None:
        from transformers import ClapAudioConfig, ClapAudioModelWithProjection

        check_transformers(config)
        read_as = ClapFeatures.of(features)
        window = 0.0 if read_as.truncation == "fusion" else float(read_as.max_length_s)
        super().__init__(read_as.sampling_rate, window, window if hop is None else hop)
        self.settings, self.features = dict(config), read_as
        self.tower = tower or ClapAudioModelWithProjection(ClapAudioConfig(**config))
        shape = self.tower.config
        if shape.num_mel_bins != read_as.feature_size:
            raise UnrecognisedCheckpointError(
                f"CLAP's tower reads {shape.num_mel_bins} bands, and its features have {read_as.feature_size}"
            )
        if shape.enable_fusion != (read_as.truncation == "fusion"):
            raise UnrecognisedCheckpointError(
                f"CLAP's tower has enable_fusion = {shape.enable_fusion} and its features the truncation "
                f"{read_as.truncation!r}: fused towers read four spectrograms of a clip, the others one"
            )
        self.width = shape.projection_dim
        self.train(self.training)

    def train(self, mode: bool = True) -> "ClapAudio":
        """The batch norm in front keeps its statistics: with those of a batch a vector would depend on the others in it."""
        super().train(mode)
        self.tower.audio_model.audio_encoder.batch_norm.eval()
        return self

    def embedded(self, clips: Sequence[Tensor]) -> Tensor:
        spectrograms, longer = zip(*map(self._spectrograms, clips), strict=True)
        # (k, 1)
        marked = torch.tensor(longer, device=clips[0].device)[:, None]
        values = torch.stack(spectrograms).to(next(self.tower.parameters()).dtype)
        return self.tower(input_features=values, is_longer=marked).audio_embeds

    def _spectrograms(self, clip: Tensor) -> tuple[Tensor, bool]:
        """`(1 or 4, frames, bands)`, and whether the clip is longer than one."""
        f, fused = self.features, self.features.truncation == "fusion"
        heard = mel.bank(
            clip.device, 1 + f.fft_window_size // 2, f.feature_size, f.frequency_min, f.frequency_max, f.sampling_rate,
            *((None, "htk") if fused else ("slaney", "slaney")),
        )  # fmt: skip
        # 10.0 s exactly is short. Where no clip of a batch is longer, transformers marks a random one so (fused), and the
        # same clip then has another vector.
        short = len(clip) <= f.length
        if short:
            clip = mel.filled(clip, f.length, f.padding)
        frames, total = f.length // f.hop_length + 1, len(clip) // f.hop_length + 1
        window = mel.hann(f.fft_window_size, mel.exact(clip[:1]))

        def banded(taken: Tensor) -> Tensor:
            return mel.decibels(mel.energies(taken, window, heard))

        def excerpt(start: int) -> Tensor:
            part = mel.part_of(clip, start, frames, f.fft_window_size, f.hop_length)
            return banded(_sixteen_bits(part).unfold(0, f.fft_window_size, f.hop_length))

        def around(places: Tensor) -> Tensor:
            taken = mel.frames_at(clip, places, f.fft_window_size, f.hop_length)
            return banded(_sixteen_bits(taken))

        if not fused:
            return excerpt(0)[None], False
        if short or total == frames:
            return excerpt(0).expand(4, -1, -1), False
        near, far, share = mel.shrunk(total, frames, clip.device)
        places = total - frames + 1  # where an excerpt may begin: the middle one is that of the middle third too
        starts = (0, (places - 1) // 2, places - 1)
        return torch.stack([torch.lerp(around(near), around(far), share[:, None]), *map(excerpt, starts)]), True

    def config(self) -> dict[str, Any]:
        return {"config": self.settings, "features": asdict(self.features), "hop": self.hop}

    def preprocessing(self) -> dict[str, Any]:
        return {**asdict(self.features), "hop": self.hop, "bits": 16}


def _sixteen_bits(samples: Tensor) -> Tensor:
    """As LAION's float32_to_int16 and back: cut to -1..1, and towards zero."""
    # 32767, not 32768, and cut towards zero: numpy's astype in LAION's code does so, and the
    # weights were trained on that.
    samples = samples.clamp(-1.0, 1.0).mul_(32767.0)
    return samples.copy_(samples.to(torch.int16)).div_(32767.0)
