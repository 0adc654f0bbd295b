"""InfoNCE: each query picks its positive among all targets (van den Oord et al., 2018; CLIP, Radford et al., 2021)."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .base import Loss, Temperature, check_layout, in_row_blocks, register_loss

Side = Literal["query", "positive", "target"]


class Part(NamedTuple):
    """Some rows against all candidates of one kind, as the hooks of `InfoNCE` see them.

    Attributes:
        start: number of the first row. row_side, column_side: what the rows and the columns are.
        similarity: cosines or dot products `(b, N)`, with their gradient. own: `(b, 1)` of each row with its own partner.
        extras: the named tensors of the batch, whole.
    """

    start: int
    row_side: Side
    column_side: Side
    similarity: Tensor
    own: Tensor
    extras: dict[str, Any]

    def of_rows(self, name: str) -> Tensor | None:
        """The rows' part of an extra: `teacher` reads `teacher_queries` or the positives' part of `teacher_targets`."""
        whole = side_of(self.extras, name, self.row_side)
        return None if whole is None else whole[self.start : self.start + len(self.similarity)]

    def of_columns(self, name: str) -> Tensor | None:
        """The columns' part of an extra."""
        return side_of(self.extras, name, self.column_side)


def side_of(extras: dict[str, Any], name: str, side: Side) -> Tensor | None:
    """`query_<name>` or `<name>` of the batch for one side; the positives are the first targets."""
    queries, targets = (
        (extras.get("teacher_queries"), extras.get("teacher_targets"))
        if name == "teacher"
        else (extras.get(f"query_{name}"), extras.get(f"target_{name}"))
    )
    if side == "query":
        return queries
    return targets if side == "target" or targets is None else targets[: extras["count"]]


@register_loss("infonce")
class InfoNCE(Loss):
    """Cross-entropy over similarities, with a learned temperature: cosines, or dot products of vectors with norms, for which
    a temperature near 1 is usual.

    Subclasses change one of three hooks: `removed` (which candidates are no negatives), `row_losses` (what the logits
    of a row cost) and `extra_logits` (further candidates of a row).

    Args:
        temperature: at the start; by default the checkpoint's own, 0.07 where it has none. learn: whether it is trained.
        symmetric: also let each positive pick its query; the loss is then the mean of both directions.
        in_batch: whether other rows' positives and negatives are candidates; False leaves a query its own hard
            negatives alone (NV-Embed's second stage: rows of a classification batch may share a class).
        query_query, positive_positive: the other queries are candidates too, and the other positives of the own
            positive (GTE; Granite R2; QZhou uses the first).
        multi_positive: all targets that are right for a query are its positives, averaged (SupCon, Khosla et al., 2020,
            eq. 2), and so are all further positives of its pair; otherwise they are left out.
        margin: leave out candidates more similar than the own positive by this much, as likely false negatives
            (Qwen3-Embedding uses 0.1); None keeps all.
        divisor: the temperature itself is trained, not the logarithm of its inverse (see `Temperature`).
        block: rows whose similarities are in memory at once; None picks.
    """

    may_read = frozenset({"right", "ignore"})
    similarities = frozenset({"cosine", "dot"})
    of_model = True
    usual = 0.07  # temperature

    def __init_subclass__(cls) -> None:
        # `**options` of a subclass stand for those of its parent: in help, and where a recipe's options are checked.
        own = [p for p in inspect.signature(cls.__init__).parameters.values() if p.name != "self"]
        if own and own[-1].kind is inspect.Parameter.VAR_KEYWORD:
            more = inspect.signature(cls.__mro__[1]).parameters.values()
            own = own[:-1] + [p for p in more if p.name not in {o.name for o in own}]
        cls.__signature__ = inspect.Signature(own)

    def __init__(
        self,
        temperature: float | None = None,
        learn: bool = True,
        symmetric: bool = True,
        in_batch: bool = True,
        query_query: bool = False,
        positive_positive: bool = False,
        multi_positive: bool = False,
        margin: float | None = None,
        divisor: bool = False,
        block: int | None = None,
    ) -> None:
        super().__init__()
        if symmetric and not in_batch:
            raise ValueError("without in-batch negatives a positive has no other query to tell apart: symmetric=False")
        # A subclass with a usual temperature of its own means that one where it is fixed.
        named = temperature is not None or not (learn or self.usual == InfoNCE.usual)
        self.temperature = Temperature(self.usual if temperature is None else temperature, learn, divisor, named=named)
        self.symmetric, self.in_batch, self.margin = symmetric, in_batch, margin
        self.needs_negatives = not in_batch
        self.multi_positive = self.all_positives = multi_positive
        self.query_query, self.positive_positive, self.block = query_query, positive_positive, block

    @property
    def scale(self) -> Tensor:
        """What similarities are multiplied by: the inverse of the temperature."""
        return self.temperature.scale

    # ------------------------------------------------------------------------------------------------- the hooks

    def removed(self, part: Part) -> Tensor | None:
        """Candidates `(b, N)` that are no negatives of a row, None for no further ones; the own positive always stays."""
        return None

    def extra_logits(self, start: int, queries: Tensor, targets: Tensor, scale: Tensor) -> Tensor | None:
        """Logits `(b, K)` of further negatives of these queries alone."""
        return None

    def row_losses(self, logits: Tensor, gold: Tensor, start: int) -> Tensor:
        """Loss `(b,)` of rows with these logits `(b, C)`, -inf where left out, whose positives are columns `gold`."""
        return logits.logsumexp(1) - logits.gather(1, gold[:, None])[:, 0]

    # ------------------------------------------------------------------------------------------------- the maths

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """Mean loss of the queries, in nats.

        Args:
            queries: unit vectors `(B, D)`. targets: unit vectors `(B + B·M, D)`, positives first.
            extras: `right`, `ignore`; row i never loses its own positive, whatever they say.
        """
        check_layout(queries, targets)
        extras["count"] = len(queries)

        share = 0.5 if self.symmetric else 1.0

        def block(start: int, *tensors: Tensor) -> Iterator[Tensor]:
            mine, partners, columns, scale, *whole = tensors
            yield share * self._forth(start, mine, partners, columns, scale, whole[0] if whole else None, extras)
            if self.symmetric:
                yield share * self._rows(start, partners, whole[0], scale, "positive", "query", extras)

        whole = (queries,) if self.symmetric or self.query_query else ()
        total = in_row_blocks(block, (queries, targets), (targets, self.scale, *whole), self.block)
        return total / len(queries)

    def _forth(
        self,
        start: int,
        mine: Tensor,
        partners: Tensor,
        columns: Tensor,
        scale: Tensor,
        queries: Tensor | None,
        extras: dict[str, Any],
    ) -> Tensor:
        """Summed loss of some queries against the targets and whatever else they are told from."""
        more = []
        gold = torch.arange(start, start + len(mine), device=mine.device)
        if self.query_query or self.positive_positive:
            own = (mine * partners).sum(1, keepdim=True)
        if self.query_query:
            part = Part(start, "query", "query", mine @ queries.T, own, extras)
            more.append(self._masked(part, scale, gold, keep_own=False))
        if self.positive_positive:
            part = Part(start, "positive", "positive", partners @ columns[: extras["count"]].T, own, extras)
            more.append(self._masked(part, scale, gold, keep_own=False))
        if (others := self.extra_logits(start, mine, columns, scale)) is not None:
            more.append(others)
        return self._rows(start, mine, columns, scale, "query", "target", extras, more)

    def _rows(
        self,
        start: int,
        mine: Tensor,
        columns: Tensor,
        scale: Tensor,
        row_side: Side,
        column_side: Side,
        extras: dict[str, Any],
        more: Sequence[Tensor] = (),
    ) -> Tensor:
        """Summed loss of some rows against the columns, and against further logits `(b, K)`."""
        gold = torch.arange(start, start + len(mine), device=mine.device)
        similarity = mine @ columns.T
        part = Part(start, row_side, column_side, similarity, similarity.gather(1, gold[:, None]), extras)
        logits = self._masked(part, scale, gold)
        if more:
            logits = torch.cat([logits, *more], 1)
        if self.multi_positive and extras.get("right") is not None:
            return _over_positives(logits, _right(part).scatter(1, gold[:, None], True)).sum()
        return self.row_losses(logits, gold, start).sum()

    def _masked(self, part: Part, scale: Tensor, gold: Tensor, keep_own: bool = True) -> Tensor:
        """Logits `(b, N)` with -inf where a candidate is no negative; the row's own place is kept, or is the row itself."""
        logits = scale * part.similarity
        gone, rows = [self.removed(part)], slice(part.start, part.start + len(logits))
        if (right := part.extras.get("right")) is not None:
            spared = right.spared(rows, part.row_side, part.column_side)
            gone.append(spared & ~_right(part) if self.multi_positive and keep_own else spared)
        if keep_own and (ignore := part.extras.get("ignore")) is not None:
            gone.append(ignore[rows] if part.row_side == "query" else ignore[:, rows].T)
        if self.margin is not None:
            gone.append(part.similarity.detach() > part.own.detach() + self.margin)
        if not self.in_batch:
            gone.append(~_own_columns(gold, part.extras["count"], logits.shape[1]))
        gone = [mask for mask in gone if mask is not None]
        if not gone and keep_own:
            return logits
        mask = gone[0].clone() if gone else torch.zeros_like(logits, dtype=torch.bool)
        for more in gone[1:]:
            mask |= more
        return logits.masked_fill(mask.scatter(1, gold[:, None], not keep_own), -torch.inf)


def _right(part: Part) -> Tensor:
    """`(b, N)`: targets that are right for the queries, or queries that the positives are right for."""
    rows, right = slice(part.start, part.start + len(part.similarity)), part.extras["right"]
    return right.answers(rows) if part.row_side == "query" else right.askers(rows)


def _own_columns(gold: Tensor, count: int, columns: int) -> Tensor:
    """`(b, columns)`, True at the positive and the hard negatives of each row."""
    place = torch.arange(columns, device=gold.device)
    negatives = max(1, columns // count - 1)
    return torch.where(place < count, place, (place - count) // negatives)[None] == gold[:, None]


def _over_positives(logits: Tensor, positives: Tensor) -> Tensor:
    """Mean over a row's positives of their negative log-likelihood (SupCon, L_out)."""
    inside = torch.zeros_like(logits, dtype=torch.bool)
    inside[:, : positives.shape[1]] = positives
    inside &= logits > -torch.inf
    return logits.logsumexp(1) - logits.masked_fill(~inside, 0.0).sum(1) / inside.sum(1)
