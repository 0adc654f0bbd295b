"""What a reference is, the texts that all of them embed, and how random weights are made telling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LONG_TEXT = "the old harbour at dawn, fishing boats, gulls above the water and a red lighthouse on the pier; " * 9
TEXTS = (
    "a red motorbike",
    "kitty",
    "Two DOGS playing in the snow!",
    "a photo of a café in Zürich, naïve façade",
    "3 x 7 = 21; e-mail me @ home?",
    "it's the cat's pyjamas, isn't it",
    "山の上の白い雲 and a bird 🐦",
    "  spaces   around\tand\nwithin  ",
    "a plate with pasta, tomatoes and basil on a wooden table next to a glass of water",
    LONG_TEXT,
)


@dataclass
class Reference:
    """One checkpoint on disk and the embeddings that its own library computes from it.

    Attributes:
        folder: the checkpoint.
        embed_texts, embed_images: the library's own embeddings, not normalised; None where it reads no such thing.
        read_pixels: the library's own preprocessing, back in 0..255, as (n, 3, height, width).
        resize: the engine that the library resizes with, "torch" or "pillow".
        embed_prompted: texts and a prompt's name (None: as the library does by itself) to embeddings.
        unit: whether a model like it has unit vectors; one compared by dot product keeps its norms.
    """

    folder: Path
    embed_texts: Callable[[Sequence[str]], Tensor] | None = None
    embed_images: Callable[[Sequence[Path]], Tensor] | None = None
    read_pixels: Callable[[Sequence[Path]], Tensor] | None = None
    resize: str = "pillow"
    embed_prompted: Callable[[Sequence[str], str | None], Tensor] | None = None
    unit: bool = True
    name: str = ""

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (n, dim) of texts, or those with their norms."""
        assert self.embed_texts is not None
        return self._embed(self.embed_texts, texts)

    def prompted(self, texts: Sequence[str], prompt: str | None) -> Tensor:
        """`texts` with the prompt of that name; None leaves the choice to the library."""
        assert self.embed_prompted is not None
        return self._embed(lambda inputs: self.embed_prompted(inputs, prompt), texts)

    def images(self, paths: Sequence[Path]) -> Tensor:
        """Unit vectors (n, dim) of image files."""
        assert self.embed_images is not None
        return self._embed(self.embed_images, paths)

    def _embed(self, embed: Callable[[Sequence], Tensor], inputs: Sequence) -> Tensor:
        with torch.inference_mode():
            vectors = embed(inputs).float().cpu().clone()
        return F.normalize(vectors, dim=-1) if self.unit else vectors


def centred_cosine(a: Tensor, b: Tensor) -> float:
    """The lowest cosine between rows of two (n, dim) matrices once the mean row of `a` is taken off both."""
    mean = a.mean(0)
    return F.cosine_similarity(a - mean, b - mean).min().item()


def stir(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights so large that the embedding depends on every token and pixel.

    Libraries start with weights of 0.02, where all embeddings are nearly equal and a test would pass on wrong input.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like.dtype)

    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 0 or "logit" in name:
                continue
            if id(weight) in tables or "embedding" in name or "pos_embed" in name or "token" in name:
                weight.copy_(0.7 * noise(weight))
            elif weight.ndim == 1:
                is_scale = "bias" not in name
                weight.copy_(0.1 * noise(weight) + (1.0 if is_scale else 0.0))
            else:
                weight.copy_(1.5 * noise(weight) / weight[0].numel() ** 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * noise(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(1 + 0.2 * noise(buffer).abs())
    return model.eval()
