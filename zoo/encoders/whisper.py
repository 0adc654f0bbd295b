"""WhisperAudio: the encoder of Whisper (arxiv:2212.04356) over windows of thirty seconds, without its decoder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from zoo.encoders import mel
from zoo.encoders.audio import AudioEncoder, stacked
from zoo.encoders.config_checks import check_transformers
from zoo.errors import UnrecognisedCheckpointError


@dataclass(frozen=True)
class WhisperFeatures:
    """How a window becomes a log-mel spectrogram; the names are those of preprocessor_config.json.

    Args:
        feature_size: bands. sampling_rate: Hz. hop_length, n_fft: samples. chunk_length: seconds of a window.
    """

    feature_size: int = 80
    sampling_rate: int = 16_000
    hop_length: int = 160
    chunk_length: int = 30
    n_fft: int = 400

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 1 or self.length > 2**28 or self.n_fft > self.length:
            raise UnrecognisedCheckpointError(f"no spectrogram has these sizes: {asdict(self)}")

    @property
    def length(self) -> int:
        """Samples of a window."""
        return self.chunk_length * self.sampling_rate

    @classmethod
    def of(cls, settings: "Self | dict[str, Any]") -> Self:
        """From JSON."""
        return settings if isinstance(settings, cls) else cls(**settings)


class WhisperAudio(AudioEncoder):
    """Whisper's encoder; a window's vector is the mean of the last states that audio, and not the silence after it, fills.

    Args:
        config: of the whole model. features: of the spectrogram.
        hop: seconds from one window to the next; at most, and by default, the length of one.
        tower: a loaded encoder; None builds one with random weights.
    """

    batch_budget = 4

    def __init__(
        self,
        config: dict[str, Any],
        features: WhisperFeatures | dict[str, Any],
        hop: float | None = None,
        tower: nn.Module | None = None,
    ) -> None:
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        check_transformers(config)
        read_as = WhisperFeatures.of(features)
        window = float(read_as.chunk_length)
        super().__init__(read_as.sampling_rate, window, window if hop is None else hop)
        self.settings, self.features = dict(config), read_as
        self.tower = tower or WhisperEncoder(WhisperConfig(**config))
        shape, frames = self.tower.config, read_as.length // read_as.hop_length
        if (shape.num_mel_bins, 2 * shape.max_source_positions) != (read_as.feature_size, frames):
            raise UnrecognisedCheckpointError(
                f"this Whisper reads {2 * shape.max_source_positions} frames of {shape.num_mel_bins} bands, and its features have "
                f"{frames} of {read_as.feature_size}"
            )
        self.width = shape.d_model

    def embedded(self, clips: Sequence[Tensor]) -> Tensor:
        f = self.features
        values = mel.whisper(stacked(clips, f.length).float(), f.feature_size, f.sampling_rate, f.n_fft, f.hop_length)
        states = self.tower(values.to(next(self.tower.parameters()).dtype)).last_hidden_state  # (k, frames / 2, width)
        # A state is of two frames; the last one of an odd number is half silence, and not counted.
        filled = [max(-(-len(clip) // f.hop_length) // 2, 1) for clip in clips]
        # Mean over the filled states alone: Σ_t m_t h_t / Σ_t m_t, mask `(k, frames / 2, 1)`.
        places = torch.arange(states.shape[1], device=states.device)
        mask = (places < torch.tensor(filled, device=states.device)[:, None]).to(states.dtype)[:, :, None]
        return (states * mask).sum(1) / mask.sum(1)

    def config(self) -> dict[str, Any]:
        return {"config": self.settings, "features": asdict(self.features), "hop": self.hop}

    def preprocessing(self) -> dict[str, Any]:
        return {**asdict(self.features), "hop": self.hop}
