"""SpeechAudio: wav2vec 2.0 and related models (HuBERT, WavLM, data2vec-audio), which read the waveform itself."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.encoders.audio import AudioEncoder
from zoo.encoders.config_checks import check_transformers
from zoo.errors import UnrecognisedCheckpointError

# By model_type: transformers' class without any head.
SPEECH = {
    "wav2vec2": "Wav2Vec2Model",
    "hubert": "HubertModel",
    "wavlm": "WavLMModel",
    "data2vec-audio": "Data2VecAudioModel",
}
WINDOW = 30.0  # seconds: attention grows with the square, and no training had longer ones


def speech_class(model_type: str) -> Any:
    """transformers' class of one of `SPEECH`."""
    import transformers

    return getattr(transformers, SPEECH[model_type])


class SpeechAudio(AudioEncoder):
    """A transformer over a waveform; a window's vector is the mean of its last states.

    Padding changes what these models see, whatever mask says that it is padding: normalisation over time and convolutional
    positions look beyond it. So there is none: windows of one length go through the model together, all others apart.

    Args:
        model_type: one of `SPEECH`. config: of the transformer; its masks of training are off.
        do_normalize: whether each window is brought to mean 0 and variance 1 first.
        window, hop: seconds of a window, and from one to the next.
        tower: a loaded one; None builds one with random weights.
    """

    batch_budget = 8

    def __init__(
        self,
        model_type: str,
        config: dict[str, Any],
        do_normalize: bool = True,
        window: float = WINDOW,
        hop: float | None = None,
        rate: int = 16_000,
        tower: nn.Module | None = None,
    ) -> None:
        if model_type not in SPEECH:
            raise UnrecognisedCheckpointError(f"a speech encoder is one of {', '.join(SPEECH)}, not {model_type!r}")
        check_transformers(config)
        cls = speech_class(model_type)
        config = {**config, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}
        tower = tower or cls(cls.config_class(**config))
        shape = tower.config
        if not window:
            raise UnrecognisedCheckpointError("a speech encoder reads windows; their length must be above 0 s")
        super().__init__(rate, window, window if hop is None else hop, _shortest(shape.conv_kernel, shape.conv_stride))
        self.model_type, self.settings, self.do_normalize, self.tower = model_type, dict(config), do_normalize, tower
        self.width = shape.output_hidden_size if getattr(shape, "add_adapter", False) else shape.hidden_size

    def embedded(self, clips: Sequence[Tensor]) -> Tensor:
        kind = next(self.tower.parameters()).dtype
        vectors: dict[int, Tensor] = {}
        for count in sorted({len(clip) for clip in clips}):
            places = [place for place, clip in enumerate(clips) if len(clip) == count]
            values = torch.stack([self._scaled(clips[place]) for place in places]).to(kind)
            vectors |= zip(places, self.tower(values).last_hidden_state.mean(1), strict=True)
        return torch.stack([vectors[place] for place in range(len(clips))])

    def _scaled(self, clip: Tensor) -> Tensor:
        clip = clip.float()
        # 1e-7 as in transformers' feature extractor: silence is not divided by 0.
        return (clip - clip.mean()) / (clip.var(correction=0) + 1e-7).sqrt() if self.do_normalize else clip

    def config(self) -> dict[str, Any]:
        return {"model_type": self.model_type, "config": self.settings, **self.preprocessing()}

    def preprocessing(self) -> dict[str, Any]:
        return {"do_normalize": self.do_normalize, "window": self.window, "hop": self.hop, "rate": self.rate}


def _shortest(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that give one state: 400 with the usual convolutions."""
    count = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        # A convolution makes (n - kernel) // stride + 1 states of n; solved for n, from the top
        # layer down to the samples.
        count = (count - 1) * stride + kernel
    return count
