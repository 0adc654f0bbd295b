"""AstAudio: the Audio Spectrogram Transformer (arxiv:2104.01778), a vision transformer over Kaldi's filter-bank energies."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders import mel
from zoo.encoders.audio import AudioEncoder
from zoo.encoders.config_checks import check_transformers
from zoo.errors import UnrecognisedCheckpointError

RATE, FRAME, STEP = 16_000, 400, 160  # Hz, and samples


@dataclass(frozen=True)
class AstFeatures:
    """How a window becomes energies; the names are those of preprocessor_config.json.

    Args:
        num_mel_bins: bands. max_length: frames of a window, 10 ms each. do_normalize, mean, std: of the logarithms.
    """

    num_mel_bins: int = 128
    max_length: int = 1024
    do_normalize: bool = True
    mean: float = -4.2677393
    std: float = 4.5689974

    def __post_init__(self) -> None:
        if self.num_mel_bins < 1 or not 1 <= self.max_length <= 100_000 or not self.std > 0:
            raise UnrecognisedCheckpointError(f"no filter-bank energies have these sizes: {asdict(self)}")

    @classmethod
    def of(cls, settings: "Self | dict[str, Any]") -> Self:
        """From JSON."""
        return settings if isinstance(settings, cls) else cls(**settings)


class AstAudio(AudioEncoder):
    """The transformer; a window's vector is the mean of its class and distillation tokens' last states.

    Args:
        config: of the transformer. features: of the energies.
        hop: seconds from one window to the next; at most, and by default, the length of one, about `max_length` * 10 ms.
        tower: a loaded one; None builds one with random weights.
    """

    def __init__(
        self,
        config: dict[str, Any],
        features: AstFeatures | dict[str, Any],
        hop: float | None = None,
        tower: nn.Module | None = None,
    ) -> None:
        from transformers import ASTConfig, ASTModel

        check_transformers(config)
        read_as = AstFeatures.of(features)
        window = (FRAME + (read_as.max_length - 1) * STEP) / RATE  # all that so many frames are made of
        super().__init__(RATE, window, window if hop is None else hop, shortest=FRAME)
        self.settings, self.features = dict(config), read_as
        self.tower = tower or ASTModel(ASTConfig(**config))
        shape = self.tower.config
        if (shape.num_mel_bins, shape.max_length) != (read_as.num_mel_bins, read_as.max_length):
            raise UnrecognisedCheckpointError(
                f"the transformer reads {shape.max_length} frames of {shape.num_mel_bins} bands, and its features have "
                f"{read_as.max_length} of {read_as.num_mel_bins}"
            )
        self.width = shape.hidden_size

    def embedded(self, clips: Sequence[Tensor]) -> Tensor:
        values = torch.stack([self._energies(clip) for clip in clips])
        return self.tower(input_values=values.to(next(self.tower.parameters()).dtype)).pooler_output

    def _energies(self, clip: Tensor) -> Tensor:
        """`(frames, bands)`; silence after a shorter clip is the number 0 before the normalisation, as there."""
        f = self.features
        energies = mel.kaldi(clip, f.num_mel_bins, RATE, f.max_length).float()
        energies = F.pad(energies, (0, 0, 0, f.max_length - len(energies)))
        # Over twice the spread, as in AST's code: the values have a standard deviation of 1/2,
        # which its weights expect.
        return (energies - f.mean) / (2 * f.std) if f.do_normalize else energies

    def config(self) -> dict[str, Any]:
        return {"config": self.settings, "features": asdict(self.features), "hop": self.hop}

    def preprocessing(self) -> dict[str, Any]:
        return {**asdict(self.features), "hop": self.hop}
