"""InfoNCE: each query picks its positive among all targets (van den Oord et al., 2018; CLIP, Radford et al., 2021)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .base import Loss, Temperature, check_layout, register_loss
from .margin import Margin
from .parts import Block, Mask, Mixer, Part, Weight
from .picking import picking_loss
from .row_blocks import in_row_blocks


@register_loss("infonce")
class InfoNCE(Loss):
    """Cross-entropy over similarities, with a learned temperature: cosines, or dot products of vectors with norms, for which
    a temperature near 1 is usual.

    Masks, mixers and weights change which candidates there are and what counts how much: `infonce + focal(2)`.

    Args:
        temperature: at the start; by default the checkpoint's own, 0.07 where it has none. learn: whether it is trained.
        symmetric: also let each positive pick its query; the loss is then the mean of both directions.
        in_batch: whether other rows' positives and negatives are candidates; False leaves a query its own hard
            negatives alone (NV-Embed's second stage: rows of a classification batch may share a class).
        query_query, positive_positive: the other queries are candidates too, and the other positives of the own
            positive (GTE; Granite R2; QZhou uses the first).
        multi_positive: all targets that are right for a query are its positives, averaged (SupCon, Khosla et al., 2020,
            eq. 2), and so are all further positives of its pair; otherwise they are left out.
        margin: see `Margin`; None for none.
        divisor: the temperature itself is trained, not the logarithm of its inverse (see `Temperature`).
        block: rows whose similarities are in memory at once; None picks.
        parts: in any order; each kind of part once.

    Raises:
        ValueError: options or parts that do not go together.
    """

    may_read = frozenset({"right", "ignore"})
    similarities = frozenset({"cosine", "dot"})
    of_model = True
    takes = (Mask, Mixer, Weight)
    usual = 0.07  # temperature

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
        *,
        parts: Sequence[Part] = (),
    ) -> None:
        super().__init__()
        if symmetric and not in_batch:
            raise ValueError("without in-batch negatives a positive has no other query to tell apart: symmetric=False")
        # A subclass with a usual temperature of its own means that one where it is fixed.
        named = temperature is not None or not (learn or self.usual == InfoNCE.usual)
        self.temperature = Temperature(self.usual if temperature is None else temperature, learn, divisor, named=named)
        self.symmetric, self.in_batch, self.margin = symmetric, in_batch, margin
        self.multi_positive = self.all_positives = multi_positive
        self.query_query, self.positive_positive, self.block = query_query, positive_positive, block
        self.needs_negatives = not in_batch
        parts = [*parts, *([] if margin is None else [Margin(margin)])]
        if twice := {type(part).__name__ for part in parts if [type(p) for p in parts].count(type(part)) > 1}:
            raise ValueError(f"{twice.pop().lower()} stands twice among the parts")
        self.parts = nn.ModuleList(parts)
        self.masks, self.mixers, self.weights = (
            [part for part in parts if isinstance(part, kind)] for kind in (Mask, Mixer, Weight)
        )
        self.take_after([self, *parts])
        for part in parts:
            part.check(self)

    @property
    def scale(self) -> Tensor:
        """What similarities are multiplied by: the inverse of the temperature."""
        return self.temperature.scale

    def check_negatives(self, count: int) -> None:
        """See `Loss`; raises what the parts raise."""
        for part in self.parts:
            part.check_negatives(count)

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """Mean loss of the queries, in nats.

        Args:
            queries: unit vectors `(B, D)`. targets: unit vectors `(B + B·M, D)`, positives first.
            extras: `right`, `ignore`, and what the parts read; row i never loses its own positive, whatever they say.
        """
        self.check_negatives(check_layout(queries, targets))
        extras["count"] = len(queries)
        # Mixers and masks first: `Progressive` measures how hard a row is with their candidates already in place.
        for part in (*self.mixers, *self.masks, *self.weights):  # a weight may look at what the others do
            part.begin(self, queries, targets, extras)
        if self._is_plain(extras):
            return self._picked(queries, targets, extras) / len(queries)

        def block(start: int, *tensors: Tensor) -> Iterator[Tensor]:
            # CLIP's pseudocode (Radford et al., 2021, fig. 3): the mean of both directions' cross-entropies.
            share = 0.5 if self.symmetric else 1.0
            yield share * self._cost(*self._forth(start, tensors, extras)).sum()
            if self.symmetric:
                # Hard negatives are no rows of this direction: they have no query that they could pick.
                yield share * self._cost(*self._back(start, tensors, extras)).sum()

        return self._in_blocks(block, queries, targets) / len(queries)

    def _is_plain(self, extras: dict[str, Any]) -> bool:
        """Whether nothing stands among the candidates but the targets, and parts weigh rows alone: then it is `picking_loss`."""
        more = self.query_query or self.positive_positive or not self.in_batch or self.masks or self.mixers
        several = self.multi_positive and extras.get("right") is not None
        rows = all(
            type(part).of_candidates is Weight.of_candidates and type(part).of_labels is Weight.of_labels
            for part in self.weights
        )
        return rows and not more and not several and type(self).row_losses is InfoNCE.row_losses

    def _picked(self, queries: Tensor, targets: Tensor, extras: dict[str, Any]) -> Tensor:
        right, ignore = extras.get("right"), extras.get("ignore")

        def gone(rows: slice) -> Tensor | None:
            if right is None:
                return None if ignore is None else ignore[rows]
            spared = right.spared(rows)
            return spared if ignore is None else spared | ignore[rows]

        options = {"symmetric": self.symmetric, "gone": gone, "cost": self._of_rows if self.weights else None}
        return picking_loss(queries, targets, self.scale, **options, block=self.block)

    def _of_rows(self, losses: Tensor, rows: slice, whole: Tensor | None = None) -> Tensor:
        """What rows cost by the weights whose positives have these negative log-likelihoods `(b,)`; `whole` in their place."""
        whole = losses if whole is None else whole
        for weight in self.weights:
            if (factors := weight.of_rows(losses, rows)) is not None:
                whole = whole * factors
        return whole

    def row_losses(self, logits: Tensor, gold: Tensor, start: int) -> Tensor:
        """Loss `(b,)` of rows with these logits `(b, C)`, -inf where left out, whose positives are columns `gold`."""
        logits = self._weighed(logits, gold)
        # l = -log(e^(s⁺/t) / Σ e^(s/t)) = logsumexp(s/t) - s⁺/t. In logarithms: at t = 0.01 a cosine of
        # 0.9 is e^90, beyond float32.
        all_of_it = logits.logsumexp(1)
        losses = whole = all_of_it - logits.gather(1, gold[:, None])[:, 0]
        for weight in self.weights:
            if (softened := weight.of_labels(logits, gold)) is not None:
                # mass (b, C) sums to 1, 0 at the positive.
                share, mass = softened
                # Cross-entropy against `mass`: Σ mass · (logsumexp - logit). Where mass is 0 the logit may be
                # -inf, and 0 · -inf is NaN.
                wrong = all_of_it * mass.sum(1) - (mass * logits.masked_fill(mass == 0, 0.0)).sum(1)
                whole = (1 - share) * whole + share * wrong
        return self._of_rows(losses, slice(start, start + len(logits)), whole)

    @torch.no_grad()
    def difficulty(self, queries: Tensor, targets: Tensor, extras: dict[str, Any]) -> Tensor:
        """Log odds of the negatives of every query `(B,)`; its loss is softplus of that."""
        found = queries.new_empty(len(queries))

        def block(start: int, *tensors: Tensor) -> Tensor:
            _, logits, gold = self._forth(start, tensors, extras)
            logits = self._weighed(logits, gold)
            others = logits.scatter(1, gold[:, None], -torch.inf)
            # d = log Σ⁻ e^(s⁻/t) - s⁺/t, so that l = log(1 + e^d).
            found[start : start + len(logits)] = others.logsumexp(1) - logits.gather(1, gold[:, None])[:, 0]
            return found.new_zeros(())

        self._in_blocks(block, queries.detach(), targets.detach())
        return found

    # ------------------------------------------------------------------------------------------------- the maths

    def _in_blocks(self, block: Callable[..., Any], queries: Tensor, targets: Tensor) -> Tensor:
        """Sum over blocks that are given their queries and positives, all targets, the scale, and all queries if needed."""
        whole = (queries,) if self.symmetric or self.query_query else ()
        return in_row_blocks(block, (queries, targets), (targets, self.scale, *whole), self.block)

    def _forth(self, start: int, tensors: Sequence[Tensor], extras: dict[str, Any]) -> tuple[Block, Tensor, Tensor]:
        """Some queries against the targets and whatever else they are told apart from: logits `(b, C)`, and their positives."""
        mine, partners, columns, scale, *whole = tensors
        # Row i's positive is column i: positives come first in `targets`, see `Loss`.
        gold = torch.arange(start, start + len(mine), device=mine.device)
        similarity = mine @ columns.T  # (b, B + B·M)
        block = Block(start, "query", "target", similarity, similarity.gather(1, gold[:, None]), extras)
        logits = [self._masked(block, scale, gold)]
        if self.query_query:
            # GTE's further negatives: s(q_i, q_j) and, below, s(p_i, p_j) for j ≠ i, in the same denominator.
            part = block._replace(column_side="query", similarity=mine @ whole[0].T)
            logits.append(self._masked(part, scale, gold, keep_own=False))
        if self.positive_positive:
            others = partners @ columns[: extras["count"]].T  # (b, B)
            part = block._replace(row_side="positive", column_side="positive", similarity=others)
            logits.append(self._masked(part, scale, gold, keep_own=False))
        if self.mixers:
            there = logits[0].detach() > -torch.inf
            if self.multi_positive and extras.get("right") is not None:
                there &= ~_right(block)
            logits += self._mixed(start, mine, columns, scale, there, extras["count"])
        return block, torch.cat(logits, 1) if len(logits) > 1 else logits[0], gold

    def _back(self, start: int, tensors: Sequence[Tensor], extras: dict[str, Any]) -> tuple[Block, Tensor, Tensor]:
        """Some positives against the queries."""
        _, mine, _, scale, queries = tensors
        gold = torch.arange(start, start + len(mine), device=mine.device)
        similarity = mine @ queries.T  # (b, B)
        block = Block(start, "positive", "query", similarity, similarity.gather(1, gold[:, None]), extras)
        return block, self._masked(block, scale, gold), gold

    def _mixed(
        self, start: int, mine: Tensor, columns: Tensor, scale: Tensor, there: Tensor, count: int
    ) -> Iterator[Tensor]:
        """What the mixers add to some queries' logits; `there` `(b, N)` says which targets are candidates."""
        rows = slice(start, start + len(mine))
        negatives = len(columns) // count - 1
        place = torch.arange(count, len(columns), device=mine.device).view(count, negatives)[rows]
        own = columns[count:].view(count, negatives, columns.shape[1])[rows]  # (b, M, D)
        for mixer in self.mixers:
            if (more := mixer.extra_logits(start, mine, own, there.gather(1, place), scale)) is not None:
                yield more

    def _cost(self, block: Block, logits: Tensor, gold: Tensor) -> Tensor:
        """Losses `(b,)` of rows."""
        if self.multi_positive and block.extras.get("right") is not None:
            return _over_positives(logits, _right(block).scatter(1, gold[:, None], True))
        return self.row_losses(logits, gold, block.start)

    def _weighed(self, logits: Tensor, gold: Tensor) -> Tensor:
        """The logits of candidates that count as often as the weights say."""
        found = [weight.of_candidates(logits, gold, self.scale.detach()) for weight in self.weights]
        # A candidate that counts w times adds w · e^logit to the sum, which is e^(logit + log w).
        for more in found:
            logits = logits if more is None else logits + more
        return logits

    def _masked(self, block: Block, scale: Tensor, gold: Tensor, keep_own: bool = True) -> Tensor:
        """Logits `(b, N)` with -inf where a candidate is no negative; the row's own place is kept, or is the row itself."""
        logits, rows = scale * block.similarity, block.rows
        gone = [mask.removed(block) for mask in self.masks]
        if (right := block.extras.get("right")) is not None:
            spared = right.spared(rows, block.row_side, block.column_side)
            gone.append(spared & ~_right(block) if self.multi_positive and keep_own else spared)
        if keep_own and (ignore := block.extras.get("ignore")) is not None:
            gone.append(ignore[rows] if block.row_side == "query" else ignore[:, rows].T)
        # The query's own positive and hard negatives alone: in-batch ones may share its class.
        if not self.in_batch:
            gone.append(~_own_columns(gold, block.extras["count"], logits.shape[1]))
        if not gone and keep_own:
            return logits
        mask = gone[0].clone() if gone else torch.zeros_like(logits, dtype=torch.bool)
        for more in gone[1:]:
            mask |= more
        # The own positive always stays: without it the row has no right answer and its loss is infinite. Among queries
        # (or positives) the own place is the row itself, whose e^(1/t) would outweigh all others: it always goes.
        return logits.masked_fill(mask.scatter(1, gold[:, None], not keep_own), -torch.inf)


def _right(block: Block) -> Tensor:
    """`(b, N)`: targets that are right for the queries, or queries that the positives are right for."""
    right = block.extras["right"]
    return right.answers(block.rows) if block.row_side == "query" else right.askers(block.rows)


def _own_columns(gold: Tensor, count: int, columns: int) -> Tensor:
    """`(b, columns)`, True at the positive and the hard negatives of each row."""
    place = torch.arange(columns, device=gold.device)
    negatives = max(1, columns // count - 1)
    # Column c < B is the positive of row c; column B + i·M + k is hard negative k of row i.
    return torch.where(place < count, place, (place - count) // negatives)[None] == gold[:, None]


def _over_positives(logits: Tensor, positives: Tensor) -> Tensor:
    """Mean over a row's positives of their negative log-likelihood (SupCon, L_out)."""
    # SupCon, eq. 2 (L_out): the mean stands outside the logarithm, so every positive must be near. With the sum inside
    # it, one positive may take all the mass and the others stay wherever they are.
    inside = torch.zeros_like(logits, dtype=torch.bool)
    inside[:, : positives.shape[1]] = positives
    inside &= logits > -torch.inf
    return logits.logsumexp(1) - logits.masked_fill(~inside, 0.0).sum(1) / inside.sum(1)
