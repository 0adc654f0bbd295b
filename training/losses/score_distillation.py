"""Distillation of a teacher's scores into a reranker: the scores, their margins, or the distribution over a query's candidates."""

from typing import Any, Literal

import torch
from torch import Tensor

from .base import register_loss
from .rerank import RerankLoss, exact, present


@register_loss("score_distillation")
class ScoreDistillation(RerankLoss):
    """The logits follow the scores that a teacher gives the same queries and candidates: a column teacher_scores, or --teacher.

    Args:
        by: "mse", the squared difference of logit and score, mean over the candidates; "margin_mse", that of the margins between
            a query's positive and each of its negatives, mean over the negatives (Hofstätter et al., 2020); "listwise", the KL
            divergence of the softmax over a query's candidates from the teacher's, mean over the queries.
        temperature: divides logits and scores of "listwise".

    The first two are sentence-transformers' `MSELoss` and `MarginMSELoss` of its cross-encoders.
    """

    reads = frozenset({"teacher_scores"})

    def __init__(self, by: Literal["mse", "margin_mse", "listwise"] = "margin_mse", temperature: float = 1.0) -> None:
        super().__init__()
        if by not in ("mse", "margin_mse", "listwise"):
            raise ValueError(f"by must be mse, margin_mse or listwise, not {by!r}")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        if temperature != 1 and by != "listwise":
            raise ValueError(f"a temperature is of by='listwise', not of {by!r}; leave it out")
        self.by, self.temperature = by, temperature
        self.needs_negatives = by != "mse"

    def forward(self, logits: Tensor, **extras: Any) -> Tensor:
        """Mean loss; logits, teacher_scores `(B, 1 + M)`."""
        taught = extras["teacher_scores"].to(logits.device)
        there = present(logits, taught, "teacher_scores")
        z = exact(logits)
        t = taught.to(z).masked_fill(~there, 0.0)
        if self.by == "mse":
            return (z - t)[there].square().mean()
        if self.by == "margin_mse":
            gaps = ((z[:, :1] - z[:, 1:]) - (t[:, :1] - t[:, 1:]))[there[:, 1:]]
            return gaps.square().sum() / max(1, len(gaps))
        # The lowest finite number, not -inf: the log of an empty place's share, 0, is multiplied by that share.
        lowest = torch.finfo(z.dtype).min
        student, teacher = ((x / self.temperature).masked_fill(~there, lowest).log_softmax(1) for x in (z, t))
        return (teacher.exp() * (teacher - student)).masked_fill(~there, 0.0).sum(1).mean()
