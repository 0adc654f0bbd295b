"""Imitation: the student's vectors come to lie where a teacher's lie, so that the one can stand for the other."""

from typing import Any

import torch
from torch import Tensor

from ..errors import LossError
from .base import Loss, check_layout, register_loss
from .distillation import row_divergence


@register_loss("imitation")
class Imitation(Loss):
    """1 minus the cosine of each vector to the teacher's of the same item, plus the divergence of the similarities in the batch
    (DistilBERT's cosine loss, Sanh et al., 2019; relational distillation, Park et al., 2019).

    The teacher has as many dimensions as the student, and they mean the same afterwards. Which pairs belong together does not
    matter: every text that is read teaches, and related ones side by side teach the fine differences.

    Args:
        relations: weight of the divergence of a query's similarities to all targets from the teacher's, in nats.
        temperature: of these similarities, the student's and the teacher's.
    """

    reads = frozenset({"teacher_queries", "teacher_targets"})
    hard_negatives = False
    teachers = frozenset({"cosine"})

    def __init__(self, relations: float = 0.5, temperature: float = 0.05) -> None:
        super().__init__()
        if not relations >= 0:
            raise ValueError(f"relations is a weight from 0, not {relations!r}")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature!r}")
        self.relations, self.temperature = relations, temperature

    def forward(
        self, queries: Tensor, targets: Tensor, *, teacher_queries: Tensor, teacher_targets: Tensor, **extras: Any
    ) -> Tensor:
        """Mean over queries and their positives.

        Args:
            queries: unit vectors `(B, D)`. targets: unit vectors, the first B of which are the positives.
            teacher_queries, teacher_targets: the teacher's unit vectors of the same items, of D dimensions too.

        Raises:
            LossError: the teacher has another number of dimensions.
        """
        check_layout(queries, targets)
        if teacher_queries.shape[-1] != queries.shape[-1]:
            raise LossError(
                f"imitation copies a teacher's vectors, and those have {teacher_queries.shape[-1]} dimensions where the model has "
                f"{queries.shape[-1]}; take a teacher of as many, or the loss distillation, which compares similarities"
            )
        count = len(queries)
        taught = teacher_queries.detach(), teacher_targets[:count].detach()
        cosine = torch.stack([(queries * taught[0]).sum(1), (targets[:count] * taught[1]).sum(1)])  # (2, B)
        loss = 1 - cosine.mean()
        if not self.relations:
            return loss
        scale = queries.new_tensor(1 / self.temperature)
        return loss + self.relations * row_divergence(queries, targets[:count], *taught, scale, scale)
