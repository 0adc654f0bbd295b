"""Earlier blocks: an embedding that can be taken before the last block (sentence-transformers' AdaptiveLayerLoss; 2DMSE, 2024)."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Loss, register_loss, without_empty
from .matryoshka import draw
from .parts import Wrapper

# How much an earlier block counts, by its number from 0, so that the first one weighs 1 (sentence-transformers, and ESE).
WEIGHTINGS: dict[str, Callable[[int], float]] = {
    "uniform": lambda block: 1.0,
    "log": lambda block: 1 / (1 + math.log(1 + block)),
    "linear": lambda block: 1 / (1 + block),
}


@register_loss("layers")
class Layers(Wrapper):
    """The inner loss at the last block and, averaged, at earlier ones, which also follow the last block's columns.

    As sentence-transformers' AdaptiveLayerLoss: blocks are drawn at each step, and the divergence is of the softmax over a
    vector's columns before it is of unit length, where these are far enough apart to say something; the last block is its
    teacher and gets no gradient from it. Around `matryoshka` it is 2D Matryoshka: `infonce + matryoshka(256, 128) + layers`.

    Args:
        inner: any loss over final embeddings. per_step: how many earlier blocks are drawn; None takes all.
        prior: weight of the earlier blocks. weighting: "uniform", "log" (ESE) or "linear", by block number.
        kl: weight of the divergence. kl_temperature: of its softmax.
    """

    over_layers = True

    def __init__(
        self,
        inner: Loss,
        per_step: int | None = 1,
        prior: float = 1.0,
        weighting: Literal["uniform", "log", "linear"] = "uniform",
        kl: float = 1.0,
        kl_temperature: float = 0.3,
    ) -> None:
        super().__init__(inner)
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
        if per_step is not None and per_step < 1:
            raise ValueError(f"as many layers as are drawn a step must be at least 1, not {per_step}")
        if not kl_temperature > 0:
            raise ValueError(f"kl_temperature must be above 0, not {kl_temperature}; kl=0 leaves the divergence out")
        self.inner, self.layers_per_step, self.prior, self.weighting = inner, per_step, prior, weighting
        self.kl, self.kl_temperature = kl, kl_temperature
        self.may_read, self.layers = self.may_read | {"empty"}, "all"

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """Loss of the last block, of earlier ones, and their divergence.

        Args:
            queries: vectors `(B, L, D)` of all blocks, in order, before they are of unit length. targets: `(B + B·M, L, D)`.
        """
        earlier = queries.shape[1] - 1
        number = earlier if self.layers_per_step is None else min(self.layers_per_step, earlier)
        empty = extras.get("empty")
        # The last block always trains; the earlier ones come on top, so the whole model is not traded for them.
        terms = [self.inner(F.normalize(queries[:, -1], dim=-1), F.normalize(targets[:, -1], dim=-1), **extras)]
        teacher = torch.cat([queries[:, -1], without_empty(targets[:, -1], empty)])
        for place in draw(earlier, number):
            here = queries[:, place], targets[:, place]
            mine = self.inner(*(F.normalize(vectors, dim=-1) for vectors in here), **extras)
            # Divided by how many were drawn: all earlier blocks together weigh the same, whatever `per_step` is.
            terms.append(self.prior * WEIGHTINGS[self.weighting](place) / number * mine)
            if self.kl:
                student = torch.cat([here[0], without_empty(here[1], empty)])
                step = column_divergence(student, teacher, self.kl_temperature)
                # The temperature itself as factor, as in AdaptiveLayerLoss; Hinton et al., 2015, take its square.
                terms.append(self.kl * self.kl_temperature * step)
        return torch.stack(terms).sum()


def column_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over vectors of KL(softmax of the teacher's columns ‖ of the student's): `(B, D)` twice; no gradient to it."""
    # Without detach the last block would also be pulled towards the worse ones.
    target = (teacher.detach() / temperature).log_softmax(1)
    return F.kl_div((student / temperature).log_softmax(1), target, reduction="batchmean", log_target=True)
