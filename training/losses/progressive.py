"""Progressive weights: rows with hard negatives count more and more (PEG, Wu et al., 2023).

The paper's formula is not published; this is the documented reading of it: a row's weight follows the log odds of its
negatives, by a power that grows with the run.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import register_loss_part
from .infonce import InfoNCE
from .parts import Weight


@register_loss_part("progressive", symmetric=False)
class Progressive(Weight):
    """Weights that follow the difficulty d of a row, the log odds of its negatives.

    mode="rows": w = u^k / mean(u^k) with u = sigmoid(d), without gradient; the weights have mean 1.
    mode="negatives": each negative n of a row counts N * softmax(k * s_n) times, so that the nearest count most.
    In both k rises from 0 to `strongest` while the first `ramp` of the run is done.

    Args:
        strongest: k at the end; 0 weighs all alike. ramp: share of the run, 0 to 1.
        guard: after the ramp, rows above this quantile of d count 0: probably false negatives; None for none. Of
            mode="rows" alone.
        mode: see above.
    """

    reads = frozenset({"progress"})

    def __init__(
        self,
        strongest: float = 1.0,
        ramp: float = 0.5,
        guard: float | None = None,
        mode: Literal["rows", "negatives"] = "rows",
    ) -> None:
        super().__init__()
        if strongest < 0 or not 0 < ramp <= 1 or mode not in ("rows", "negatives"):
            raise ValueError(
                "progressive needs strongest >= 0, 0 < ramp <= 1 and mode rows or negatives, "
                f"not {strongest}, {ramp} and {mode!r}"
            )
        if guard is not None and not 0 < guard <= 1:
            raise ValueError(f"guard must be a quantile from above 0 to 1, not {guard}")
        self.strongest, self.ramp, self.guard, self.mode = strongest, ramp, guard, mode
        if mode == "negatives":  # k is of cosines: e^(k · a dot product) has no bound
            self.similarities = frozenset({"cosine"})

    def check(self, objective: InfoNCE) -> None:
        if objective.symmetric or objective.multi_positive:
            raise ValueError("progressive weights are of the queries' rows: symmetric=False, multi_positive=False")

    def begin(self, objective: InfoNCE, queries: Tensor, targets: Tensor, extras: dict[str, Any]) -> None:
        done = extras["progress"]
        self._power = self.strongest * min(1.0, done / self.ramp)
        self._weights: Tensor | None = None
        if self.mode == "rows" and self._power > 0:
            self._weights = self.weights(objective.difficulty(queries, targets, extras), done=done >= self.ramp)

    def weights(self, difficulty: Tensor, *, done: bool) -> Tensor:
        """Weights `(B,)` of mean 1, less those that the guard sets to 0."""
        # u^k / mean(u^k) in logarithms: easy rows have a u that float32 does not hold.
        powers = self._power * F.logsigmoid(difficulty).clamp(min=-1e4)
        weights = len(difficulty) * powers.softmax(0)
        if self.guard is not None and done:
            weights = weights * (difficulty <= difficulty.quantile(self.guard))
        return weights

    def of_candidates(self, logits: Tensor, gold: Tensor, scale: Tensor) -> Tensor | None:
        if self.mode == "rows" or self._power == 0:
            return None
        negatives = logits.detach().scatter(1, gold[:, None], -torch.inf)
        real = (negatives > -torch.inf).sum(1, keepdim=True)
        # log of N · softmax(k · s): the weights of a row's N negatives have mean 1, so k alone does not
        # change how much they count.
        shares = (self._power * negatives / scale).log_softmax(1) + real.to(logits.dtype).log()
        return shares.masked_fill(negatives == -torch.inf, 0.0)  # what is removed stays so

    def of_rows(self, losses: Tensor, rows: slice) -> Tensor | None:
        return None if self._weights is None else self._weights[rows]
