"""Audio in a sequence, through the processor of a backbone that hears."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.callers import warn
from zoo.encoders.base import Batch
from zoo.encoders.sequence.media import Medium, Setup, marker_of, medium_of, plain, register_media_reader
from zoo.errors import InvalidAudioError, MissingWeightsError, UnrecognisedCheckpointError
from zoo.sequences import AudioLimits

if TYPE_CHECKING:
    import numpy as np

_PROBE_SECONDS = 0.5


@register_media_reader("audio")
class AudioReader:
    """Audio, one at a time: mono, at the rate of the processor, as much of it as the format reads."""

    kind = "audio"
    type = 3

    def __init__(self, setup: Setup) -> None:
        """Raises as `_checked`."""
        self.setup, self.processor = setup, setup.processor
        self.marker, self.token_id = marker_of(setup, "audio")
        limits = setup.media.get("audio", AudioLimits())
        self.limits = limits if isinstance(limits, AudioLimits) else AudioLimits()
        self.part = _checked(self.processor, setup.config)
        self.rate = int(self.part.sampling_rate)

    def unfold(self, value: Any) -> list[tuple[str, Any]] | None:
        """Read as itself."""
        return None

    def read(self, value: Any) -> Medium:
        """An audio, decoded and cut to the format's limit.

        Raises:
            InputError: it cannot be read. InvalidAudioError: it is too short for one token.
        """
        from zoo.inputs.audio import load_audio
        from zoo.inputs.silence import notice

        # A second more, so that the end of what is read is not the end of what the resampler knows.
        most = self.limits.seconds
        audio = load_audio(value, rate=self.rate, seconds=most + 1 if most else 0.0)
        samples = audio.samples
        notice(samples)
        if most and len(samples) > round(most * self.rate):
            samples = samples[: round(most * self.rate)]
            warn(
                f"audio over {most:g} s is cut there: this {self.setup.config.model_type} model reads no more of one; embed "
                "longer ones in windows"
            )
        return self._medium(samples)

    def _medium(self, samples: "np.ndarray") -> Medium:
        """Samples `(n,)` at the processor's rate as what the backbone is given."""
        try:
            inputs, place = self.setup.backbone.hear(self.processor, samples)
        except ValueError as error:
            raise InvalidAudioError(
                f"audio of {len(samples) / self.rate:.3f} s is none for this {self.setup.config.model_type} model: {error}",
                what=f"{len(samples)} samples",
            ) from error
        return medium_of(self, inputs, place)

    def collate(self, media: Sequence[Medium]) -> Batch:
        """Frames side by side, shorter ones filled with zeros that their masks leave out."""
        return {name: _stacked([medium.inputs[name] for medium in media], name) for name in media[0].inputs}

    def features(self, model: nn.Module, inputs: Batch, order: list[int], tokens: list[int]) -> Any:
        """States of the audio layers: `pooler_output`, a tensor `(tokens, width)` for each placeholder."""
        dtype = next(model.parameters()).dtype
        kept = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in inputs.items()}
        states = self.setup.backbone.heard(model, kept, tokens)
        return SimpleNamespace(pooler_output=[states[i] for i in order])

    def positions(self, inputs: Batch, order: Tensor) -> dict[str, Tensor]:
        """How many frames each audio has."""
        mask = next(tensor for name, tensor in inputs.items() if name.endswith("mask"))
        return {"audio_seqlens": mask.long().sum(1)[order]}

    def probe(self) -> Mapping[str, Tensor]:
        """What the processor makes of half a second of a tone."""
        with torch.device("cpu"):  # also where a shape alone is built, on the meta device
            time = torch.arange(int(_PROBE_SECONDS * self.rate)) / self.rate
            return self._medium((0.5 * torch.sin(440 * 2 * torch.pi * time)).numpy()).inputs

    def settings(self) -> dict[str, Any]:
        """Of the feature extractor."""
        return plain(self.part)


def _stacked(tensors: list[Tensor], name: str) -> Tensor:
    """`(1, …, frames, …)` tensors as one, filled at the end of the dimension in which they differ."""
    shapes = [tensor.shape for tensor in tensors]
    differs = [axis for axis in range(1, tensors[0].ndim) if len({shape[axis] for shape in shapes}) > 1]
    for axis in differs:
        most = max(shape[axis] for shape in shapes)
        tensors = [
            torch.cat([t, t.new_zeros(*t.shape[:axis], most - t.shape[axis], *t.shape[axis + 1 :])], axis)
            for t in tensors
        ]
    return torch.cat(tensors)


def _checked(processor: Any, config: Any) -> Any:
    """The feature extractor of a processor, once it is what the backbone's audio layers want, and without noise of its own.

    Raises:
        MissingWeightsError: there is none, or it is another model's. UnrecognisedCheckpointError: it adds noise.
    """
    part, kind = getattr(processor, "feature_extractor", None), config.model_type
    if part is None:
        raise MissingWeightsError(
            f"the processor beside this {kind} reads no audio; copy its files from the model's repository"
        )
    heard = config.audio_config
    # Gemma 4's tower has no name for it, and takes its first convolution's channels for it.
    expected = heard.num_mel_bins if hasattr(heard, "num_mel_bins") else heard.subsampling_conv_channels[0]
    if part.feature_size != expected:
        raise MissingWeightsError(
            f"the {type(part).__name__} beside this {kind} has feature_size = {part.feature_size}, its config.json {expected} mel "
            "bins; copy its files from the model's own repository"
        )
    if part.dither:
        raise UnrecognisedCheckpointError(
            f"the {type(part).__name__} beside this {kind} has dither = {part.dither}: noise in every audio, and other vectors at "
            "each call; set it to 0.0"
        )
    return part
