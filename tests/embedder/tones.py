"""An encoder for recordings, as a package of one's own would bring it; and models that read texts, images and recordings by a tower each."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo import Embedder, Item, build_model
from zoo.embedder import Tower
from zoo.encoders.base import Batch, Encoder
from zoo.heads import Identity
from zoo.inputs.item import Tokens
from zoo.pooling import Mean
from zoo.registry.parts import register_part

FRAME = 16


@register_part("encoder", "tones:Tones")
class Tones(Encoder):
    """Waveforms `(samples,)`, frame by frame, through one layer."""

    modalities = frozenset({"audio"})
    batch_budget = 64

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.frames = nn.Linear(FRAME, width)

    def prepare_item(self, item: Item) -> Tensor:
        wave = torch.as_tensor(np.asarray(item.audio, np.float32))
        return torch.cat([wave, wave.new_zeros(-len(wave) % FRAME)]).reshape(-1, FRAME)

    def length(self, read: Tensor) -> int:
        return len(read)

    def size(self, read: Tensor) -> int:
        return read.nbytes

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        lengths = torch.tensor([len(read) for read in reads])
        frames = nn.utils.rnn.pad_sequence(list(reads), batch_first=True)
        return {"frames": frames, "mask": torch.arange(frames.shape[1])[None] < lengths[:, None]}

    def forward(self, batch: Batch) -> Tokens:
        return Tokens(torch.tanh(self.frames(batch["frames"])), batch["mask"])

    def config(self) -> dict[str, Any]:
        return {"width": self.width}


@register_part("fusion", "tones:Product")
class Product(nn.Module):
    """Column by column, of any parts but images."""

    def fuse(self, parts: dict[str, Tensor]) -> Tensor:
        return torch.stack(list(parts.values())).prod(0)

    def refusal(self, parts: Sequence[str]) -> str:
        return "a product takes no images" if "image" in parts else ""


def make_audio(seed: int) -> np.ndarray:
    """A wave of one frequency, 40 to 60 samples."""
    return np.sin(np.arange(40 + seed % 20) * (0.1 + 0.2 * seed)).astype(np.float32)


def model_of(*modalities: str, seed: int = 3) -> Embedder:
    """A tower each, always the same."""
    torch.manual_seed(seed)
    mini = build_model("mini-test")
    dim = mini.spec.dim
    towers = {"image": mini.towers[0], "text": mini.towers[1], "audio": Tower(Tones(dim), Mean(), Identity())}
    spec = replace(mini.spec, name="tones-test", modalities=frozenset(modalities))
    return Embedder(spec, [towers[name] for name in modalities]).eval()
