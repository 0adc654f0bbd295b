"""Distillation: the student's similarities to its candidates follow a teacher's (Hinton et al., 2015; TCT, Lin et al.)."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import LossError
from .base import check_layout, register_loss, without_empty
from .infonce import InfoNCE
from .row_blocks import in_row_blocks


@register_loss("distillation")
class Distillation(InfoNCE):
    """KL divergence of the student's softmax over candidates from a teacher's, with InfoNCE added where wanted.

    It differs from the cross-entropy (Granite R2) by the teacher's entropy, which has no gradient; 0 means that the
    student ranks and spaces the candidates as the teacher does.

    Args:
        space: "batch" compares each query with all targets, by a teacher's embeddings; "group" with its positive and
            its own hard negatives, by a reranker's scores.
        temperature: the student's, at the start, 0.05 by default. learn: whether it is trained; then it begins at the
            checkpoint's own.
        teacher_temperature: divides the teacher's cosines or scores; None for the student's own.
        cosine: in space "group", the share of the teacher's cosine in its scores: 0.5 is U-MARVEL's mean of cosine and
            reranker probability, which then needs a teacher's embeddings too.
        infonce: weight of the added InfoNCE. symmetric, margin, divisor: its options (see `InfoNCE`).
        block: rows whose similarities are in memory at once; None picks.
        teacher: its name, as `load_model` opens it; "" for the teacher of the recipe.
    """

    takes = ()
    variants: ClassVar[dict[str, str]] = {"teacher_scores": "distillation(space='group')"}
    usual = 0.05

    def __init__(
        self,
        space: Literal["batch", "group"] = "batch",
        temperature: float | None = None,
        learn: bool = False,
        teacher_temperature: float | None = None,
        cosine: float = 0.0,
        infonce: float = 0.0,
        symmetric: bool = True,
        margin: float | None = None,
        divisor: bool = False,
        block: int | None = None,
        teacher: str = "",
    ) -> None:
        super().__init__(temperature, learn, symmetric, margin=margin, divisor=divisor, block=block)
        if space not in ("batch", "group"):
            raise ValueError(f"space must be batch or group, not {space!r}")
        if teacher_temperature is not None and not teacher_temperature > 0:
            raise ValueError(f"teacher_temperature must be above 0, not {teacher_temperature}")
        if not 0 <= cosine <= 1 or (cosine and space == "batch"):
            raise ValueError(f"cosine is a share of the scores of space='group', 0 to 1, not {cosine} of {space!r}")
        self.needs_negatives = space == "group" and not infonce
        self.space, self.teacher_temperature, self.cosine, self.infonce = space, teacher_temperature, cosine, infonce
        vectors = {"teacher_queries", "teacher_targets"} if space == "batch" or cosine else set()
        self.reads = frozenset(vectors | ({"teacher_scores"} if space == "group" else set()))
        if teacher and not vectors:
            raise ValueError(
                "a teacher's vectors are read in space='batch', or for a cosine above 0; leave teacher out"
            )
        self.teacher = teacher
        if cosine:
            self.teachers = frozenset({"cosine"})  # a share of both is of numbers of one size
        self.may_read = (InfoNCE.may_read if infonce else frozenset()) | {"empty"}

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """Mean divergence of the queries in nats, plus `infonce` times the mean InfoNCE.

        Args:
            queries: unit vectors `(B, D)`. targets: unit vectors `(B + B·M, D)`, positives first.
            extras: `teacher_queries` and `teacher_targets` in space "batch", `teacher_scores` `(B, 1 + M)` in "group",
                where a query without a negative teaches nothing.

        Raises:
            LossError: space "group" without hard negatives.
        """
        check_layout(queries, targets)
        scale = self.scale
        # Detached: a temperature that learned on the teacher's side too could end the divergence by
        # making both softmaxes flat.
        teacher_scale = 1 / self.teacher_temperature if self.teacher_temperature else scale.detach()
        empty = extras.get("empty")
        if self.space == "batch":
            columns, taught = (without_empty(t, empty) for t in (targets, extras["teacher_targets"]))
            teachers = extras["teacher_queries"], taught
            loss = row_divergence(queries, columns, *teachers, scale, teacher_scale, self.block)
        else:
            # Both (B, 1 + M).
            student = scale * own_similarity(queries, targets)
            teacher = teacher_scale * self._scores(targets, extras)
            gone = None if empty is None else empty[own_columns(targets, len(queries))]
            # An empty place is a candidate of neither side: its mass in the teacher's softmax would be learned.
            loss = _divergence(student, teacher, gone)
        return loss + self.infonce * super().forward(queries, targets, **extras) if self.infonce else loss

    def _scores(self, targets: Tensor, extras: dict[str, Any]) -> Tensor:
        """What the teacher says of a query's own candidates `(B, 1 + M)`."""
        scores = check_scores(extras["teacher_scores"], targets)
        if scores.shape[1] == 1:
            raise LossError(
                "distillation in space 'group' needs hard negatives; mine them (zoo mine), or take space='batch'"
            )
        if self.cosine:
            cosines = own_similarity(extras["teacher_queries"], extras["teacher_targets"])
            scores = (1 - self.cosine) * scores + self.cosine * cosines
        return scores.detach()


def _divergence(student: Tensor, teacher: Tensor, gone: Tensor | None) -> Tensor:
    """Mean over the rows of KL(softmax of the teacher's logits ‖ of the student's) `(B, C)`, without the columns `gone`."""
    if gone is not None:
        student, teacher = student.masked_fill(gone, -torch.inf), teacher.masked_fill(gone, -torch.inf)
    # KL(P_t ‖ P_s) = Σ P_t (log P_t - log P_s), both kept as logarithms: P_t underflows to 0 at low temperatures.
    student, teacher = student.log_softmax(1), teacher.log_softmax(1)
    if gone is not None:  # 0 times the logarithm of 0 is to be 0
        student, teacher = student.masked_fill(gone, 0.0), teacher.masked_fill(gone, torch.finfo(teacher.dtype).min)
    # "batchmean" divides by the rows; "mean" would divide by rows times columns too.
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def row_divergence(
    queries: Tensor,
    targets: Tensor,
    teacher_queries: Tensor,
    teacher_targets: Tensor,
    scale: Tensor,
    teacher_scale: Tensor | float,
    block: int | None = None,
) -> Tensor:
    """Mean over the queries of KL(softmax of the teacher's similarities ‖ softmax of the student's), in row blocks.

    Args:
        queries: `(B, D)`. targets: `(N, D)`. teacher_queries, teacher_targets: `(B, D')`, `(N, D')`; no gradient.
        scale, teacher_scale: what the student's and the teacher's similarities are multiplied by.
    """

    def rows(start: int, mine: Tensor, taught: Tensor, columns: Tensor, teachers: Tensor, scale: Tensor) -> Tensor:
        teacher = (teacher_scale * taught @ teachers.T).log_softmax(1)  # (b, N)
        student = (scale * mine @ columns.T).log_softmax(1)
        return F.kl_div(student, teacher, reduction="sum", log_target=True)

    teacher = teacher_queries.detach(), teacher_targets.detach()
    return in_row_blocks(rows, (queries, teacher[0]), (targets, teacher[1], scale), block) / len(queries)


def own_similarity(queries: Tensor, targets: Tensor) -> Tensor:
    """Similarities `(B, 1 + M)` of each query with its positive, then with its own hard negatives."""
    # (B, 1, D) times (B, 1 + M, D).
    return (queries[:, None] * targets[own_columns(targets, len(queries))]).sum(2)


def own_columns(targets: Tensor, count: int) -> Tensor:
    """Rows of `targets` `(B, 1 + M)` that belong to each of the `count` queries, its positive first."""
    place = torch.arange(len(targets), device=targets.device)
    return torch.cat([place[:count, None], place[count:].view(count, -1)], 1)


def check_scores(scores: Tensor, targets: Tensor) -> Tensor:
    """A reranker's scores, if they are one a candidate: `(B, 1 + M)` for `(B + B·M, D)` targets.

    Raises:
        LossError: they are not.
    """
    if scores.ndim != 2 or scores.numel() != len(targets):
        raise LossError(
            f"teacher_scores must be (B, 1 + M), one for each of the {len(targets)} targets, not {tuple(scores.shape)}"
        )
    return scores
