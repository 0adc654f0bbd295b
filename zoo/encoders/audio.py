"""AudioEncoder: what every encoder of audio alone does. An item becomes windows, each window a vector of unit length, a token."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.encoders.base import Batch, Encoder
from zoo.errors import InvalidAudioError, UnrecognisedCheckpointError
from zoo.inputs.audio import map_audio, windows
from zoo.inputs.item import Item, Tokens
from zoo.inputs.kinds import describe
from zoo.inputs.silence import notice


class AudioEncoder(Encoder):
    """Base of encoders of audio: a subclass says how some windows become vectors (`embedded`).

    What is read is the waveform `(n,)`, mono at the model's rate; features are computed from it in the forward pass, where the
    model is. Nothing is cropped at random and nothing left out: of audio that is longer than a window the vectors of all
    windows are tokens, and the mean pooler averages them. Each window is read by itself, so that no vector depends on
    what else is in the batch. Long audio lies in a file of the disk, and goes through the model some windows at a time.

    Args:
        rate: Hz. window: seconds of a window; 0 reads an item as a whole. hop: seconds from one window to the next, at most
            `window`. shortest: samples that the model needs; shorter audio is refused.

    Raises:
        UnrecognisedCheckpointError: `hop` would leave something out, or a number is none.
    """

    modalities = frozenset({"audio"})
    batch_budget = 16

    def __init__(self, rate: int, window: float, hop: float, shortest: int = 1) -> None:
        super().__init__()
        if not 0 <= window <= 3600 or not (0 < hop <= window or hop == window == 0):
            raise UnrecognisedCheckpointError(
                f"an encoder of audio has windows of {window} s every {hop} s; expected up to 3600 s, and a hop above 0 that is no "
                "longer than the window"
            )
        self.rate, self.window, self.hop, self.shortest = rate, window, hop, shortest

    def embedded(self, clips: Sequence[Tensor]) -> Tensor:
        """`(k, width)` of k windows `(n,)`, each at most `window` long; on their device, in any scale."""
        raise NotImplementedError(f"{type(self).__name__} must define embedded")

    def parts_of(self, count: int) -> list[slice]:
        """The windows of so many samples."""
        if not self.window:
            return [slice(0, count)]
        return windows(count, max(round(self.window * self.rate), 1), max(round(self.hop * self.rate), 1))

    def prepare_item(self, item: Item) -> Tensor:
        """The waveform, float32 `(n,)`.

        Raises:
            InvalidAudioError: shorter than the model reads. Besides what `zoo.inputs.audio.load_audio` raises.
        """
        audio = map_audio(item.audio, rate=self.rate)
        notice(audio.samples)
        if len(audio.samples) < self.shortest:
            raise InvalidAudioError(
                f"{describe(item.audio)} has {1000 * audio.seconds:.1f} ms, and the model reads {1000 * self.shortest / self.rate:.0f} ms or more",
                what=repr(item.audio)[:80],
            )
        return torch.from_numpy(audio.samples)

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        """`samples`: all waveforms, one after the other; `lengths` `(B,)`."""
        lengths = torch.tensor([len(read) for read in reads])
        return {"samples": reads[0] if len(reads) == 1 else torch.cat(list(reads)), "lengths": lengths}

    def length(self, read: Tensor) -> int:
        """Windows of an item."""
        return len(self.parts_of(len(read)))

    def size(self, read: Tensor) -> int:
        return read.element_size() * len(read)

    def forward(self, batch: Batch) -> Tokens:
        lengths = batch["lengths"].tolist()
        waves = batch["samples"].split(lengths)
        places = [(row, part) for row, count in enumerate(lengths) for part in self.parts_of(count)]
        step = self.batch_budget
        vectors = torch.cat(
            [
                F.normalize(
                    self.embedded([waves[row][part] for row, part in places[start : start + step]]).float(), dim=-1
                )
                for start in range(0, len(places), step)
            ]
        )
        counts = [len(self.parts_of(count)) for count in lengths]
        # (B, most windows, width), and the mask says which are real.
        states = torch.nn.utils.rnn.pad_sequence(list(vectors.split(counts)), batch_first=True)
        mask = torch.arange(states.shape[1], device=states.device) < torch.tensor(counts, device=states.device)[:, None]
        return Tokens(states, mask)

    def config(self) -> dict[str, Any]:
        return {"window": self.window, "hop": self.hop}


def stacked(clips: Sequence[Tensor], length: int) -> Tensor:
    """Clips `(n,)` as rows `(k, length)`, with silence after the shorter ones."""
    return torch.stack([F.pad(clip, (0, length - len(clip))) for clip in clips])
