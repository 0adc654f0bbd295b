"""The parts of a contrastive objective: what is no negative, what counts how much, what else a query is contrasted with.

`infonce + focal(2) + mixing(4)` is an `InfoNCE` with a weight and a mixer. A part is a file of its own, under
`register_loss_part`; it sees blocks of rows, never a model, and never holds the whole matrix of similarities.
"""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from torch import Tensor, nn

from .base import Loss

if TYPE_CHECKING:
    from .infonce import InfoNCE

Side = Literal["query", "positive", "target"]


class Block(NamedTuple):
    """Some rows against all candidates of one kind.

    Attributes:
        start: number of the first row. row_side, column_side: what the rows and the columns are.
        similarity: cosines or dot products `(b, N)`, with their gradient. own: `(b, 1)` of each row with its own partner.
        extras: the named tensors of the batch, whole; `count` is B.
    """

    start: int
    row_side: Side
    column_side: Side
    similarity: Tensor
    own: Tensor
    extras: dict[str, Any]

    @property
    def rows(self) -> slice:
        """Which rows these are."""
        return slice(self.start, self.start + len(self.similarity))

    def teacher(self) -> tuple[Tensor, Tensor]:
        """The teacher's cosines of the rows with the candidates `(b, N)`, and of each row's query with its positive `(b, 1)`."""
        rows, columns = (self._taught(side) for side in (self.row_side, self.column_side))
        # Row i of the targets is the positive of query i, so one slice takes both.
        pairs = self.extras["teacher_queries"][self.rows] * self.extras["teacher_targets"][self.rows]
        return rows[self.rows] @ columns.T, pairs.sum(1, keepdim=True)

    def _taught(self, side: Side) -> Tensor:
        if side == "query":
            return self.extras["teacher_queries"]
        targets = self.extras["teacher_targets"]
        return targets if side == "target" else targets[: self.extras["count"]]


class Part(nn.Module):
    """Base of masks, weights and mixers.

    Attributes:
        reads, may_read, similarities, teachers, teacher: as of `Loss`.
    """

    reads: frozenset[str] = frozenset()
    may_read: frozenset[str] = frozenset()
    similarities: frozenset[str] = frozenset({"cosine", "dot"})
    teachers: frozenset[str] = frozenset({"cosine", "dot"})
    teacher: str = ""
    grades: int | None = None
    all_positives = hard_negatives = needs_negatives = False

    def check(self, objective: "InfoNCE") -> None:
        """Raises ValueError where it does not go together with the options or the other parts of an objective."""

    def check_negatives(self, count: int) -> None:
        """As `Loss.check_negatives`."""

    def begin(self, objective: "InfoNCE", queries: Tensor, targets: Tensor, extras: dict[str, Any]) -> None:
        """What it needs once a batch: what is drawn must not depend on how the rows are cut into blocks."""


class Mask(Part):
    """Which candidates are no negatives."""

    def removed(self, block: Block) -> Tensor:
        """`(b, N)`, True for candidates that are left out; the own positive always stays."""
        raise NotImplementedError(f"{type(self).__name__} must define removed")


class Mixer(Part):
    """Further negatives of a query, made of its own ones."""

    def extra_logits(self, start: int, queries: Tensor, own: Tensor, fair: Tensor, scale: Tensor) -> Tensor | None:
        """Logits `(b, K)` of further negatives of these queries alone, -inf for none; None for none at all.

        Args:
            start: number of the first query. queries: `(b, D)`. own: their hard negatives `(b, M, D)`.
            fair: `(b, M)`, False for those that the masks of the objective leave out. scale: of the similarities.
        """
        raise NotImplementedError(f"{type(self).__name__} must define extra_logits")


class Weight(Part):
    """How much rows and candidates count: one or more of its three methods."""

    def of_candidates(self, logits: Tensor, gold: Tensor, scale: Tensor) -> Tensor | None:
        """Logarithms `(b, C)` of how often each candidate counts, 0 for the positive in column `gold` `(b,)` and for what
        is left out; None for once each.

        Args:
            logits: `(b, C)`, of further candidates too; -inf is left out. scale: what they have been multiplied by.
        """
        return None

    def of_labels(self, logits: Tensor, gold: Tensor) -> tuple[float, Tensor] | None:
        """Share of a row's label that goes to its negatives, and how that is spread over them `(b, C)`; None for nothing."""
        return None

    def of_rows(self, losses: Tensor, rows: slice) -> Tensor | None:
        """Factors `(b,)` on the losses of some rows; None for 1 each.

        Args:
            losses: -log of the probability of the own positive `(b,)`, with its gradient.
        """
        return None


class Wrapper(Loss):
    """Base of losses that compute another one over cuts or layers of the embeddings.

    Args:
        inner: any loss over final embeddings.

    Attributes:
        over_layers: whether it is given those of several layers; it is then the outermost, wherever it is written.

    Raises:
        ValueError: the inner loss compares layers itself, or is none over embeddings.
    """

    over_layers: bool = False

    def __init__(self, inner: Loss) -> None:
        super().__init__()
        if inner.trains != "embedders":
            raise ValueError("it compares cuts or layers of embeddings, and the loss inside trains rerankers")
        if inner.layers:
            raise ValueError(
                "the loss inside compares layers already, and this one is around a loss over final embeddings"
            )
        self.take_after([inner])
