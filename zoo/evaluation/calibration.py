"""What a model's scores mean: how similar it finds what does not belong together, and from where on something fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.errors import TooFewPairsError
from zoo.evaluation.corpus import Corpus, Relation, Told, Vectors
from zoo.evaluation.metrics import row_blocks
from zoo.spec import Calibration, need_one_vector

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.inputs.item import Item

FEWEST = 30  # queries with an answer and without one, below which nothing is said
_MISSED = 0.05  # share of right answers below `nothing`


@dataclass(frozen=True)
class Measured:
    """A calibration, and how well it tells queries that have an answer from those that have none.

    Attributes:
        pair: the modalities, "text>image". queries: how many were asked. documents: among how many.
        empty: of queries whose answers were taken away, the share whose best match lies below `nothing`, as it should.
        missed: of queries with their answers, the share whose best match lies below it all the same. Both None where too few
            answers are known to say `nothing`.
        answered: how many queries have a right document.
    """

    pair: str
    calibration: Calibration
    queries: int
    documents: int
    empty: float | None
    missed: float | None
    answered: int


def calibrate(
    model: "Embedder", queries: Sequence["Item"], targets: Sequence["Item"], groups: Sequence[str] | None = None
) -> Measured:
    """Measures a model on pairs, one way: row i of `queries` and `targets` belongs together, and rows of one group do.

    Args:
        queries, targets: items, of one kind on each side; equal ones count once. A query itself is neither right nor wrong for
            it where it is among the targets.

    Raises:
        TooFewPairsError: fewer than 30 queries, or none has a document that is not right. TokenVectorsError: late
            interaction. ValueError: items of different modalities on one side.
    """
    for side in (queries, targets):
        if len(mixed := {item.modalities for item in side}) > 1:
            raise ValueError(f"a calibration is of one modality on each side, not of {sorted(map(sorted, mixed))}")
    corpus = Corpus(map(Told, queries, targets, groups or [""] * len(queries)))
    pair = tuple("+".join(sorted(side[0].modalities)) for side in (queries, targets))
    relation = next(one for one in corpus.pairs() if (one.queries.kind, one.documents.kind) == pair)
    need_one_vector(model.spec, "a calibration")
    return _measured(Vectors(model), relation, must=True)


def calibrate_all(model: "Embedder", corpus: Corpus) -> tuple[list[Measured], list[str]]:
    """Measures a model on every pair of kinds of a corpus: also of kinds that no table pairs, and within a kind.

    What is wrong for a query tells mean and scale. What is right tells `nothing`, where enough is known to be: by the rows of a
    table, or because one text is said of two items of different kinds.

    Returns:
        What was measured, by pair; and a line for every pair of which too little is there, and for every item that could not be embedded.

    Raises:
        UnsupportedModalityError: the model does not read one of the kinds. TokenVectorsError: late interaction.
        TooFewPairsError: no pair can be measured.
    """
    need_one_vector(model.spec, "a calibration")
    corpus.check_read(model)
    vectors, found, left_out = Vectors(model), [], []
    for relation in corpus.pairs():
        try:
            found.append(_measured(vectors, relation, must=False))
        except TooFewPairsError as error:
            left_out.append(f"{Calibration.key(relation.queries.kind, relation.documents.kind)}: {error}")
    if not found:
        raise TooFewPairsError("; ".join(left_out))
    return sorted(found, key=lambda one: one.pair), left_out + vectors.skipped


def _measured(vectors: Vectors, relation: Relation, *, must: bool) -> Measured:
    """`must`: whether 30 queries have to have a right document; without it `nothing` may be left open."""
    kinds = relation.queries.kind, relation.documents.kind
    asking, kept = vectors.of(relation.queries, "query", kinds[1])
    answering, there = vectors.of(relation.documents, "document", kinds[0])
    relation = relation.at(kept, there)
    blocks = []
    for start, stop in row_blocks(len(kept), len(there)) if there else ():
        right, itself = relation.block(start, stop)
        scores = vectors.model.similarity(asking[start:stop], answering).masked_fill(itself, torch.nan)
        blocks.append(_gathered(scores, right))
    if not blocks:
        raise TooFewPairsError(f"no {kinds[not kept]} could be embedded")
    found, best, empty, answered = _joined(blocks, must=must)
    shares = (None, None)
    if found.nothing is not None:
        shares = tuple(float((one < found.nothing).double().mean()) for one in (empty, best))
    return Measured(Calibration.key(*kinds), found, len(kept), len(there), *shares, answered)


def calibration_of(scores: Tensor, right: Tensor) -> Calibration:
    """From similarities `(queries, documents)` and which of them are right; NaN is left out.

    Raises:
        TooFewPairsError: fewer than 30 queries with a right document, or with a wrong one.
    """
    return _joined([_gathered(scores, right)], must=True)[0]


def _gathered(scores: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a block of rows: (count, sum, sum of squares) of the wrong; best right, best of all and best wrong of each row."""
    wrong = ~right & ~scores.isnan()
    some = scores.double()[wrong]
    low = torch.finfo(scores.dtype).min
    sums = torch.tensor([len(some), some.sum(), some.square().sum()], dtype=torch.float64)
    best, of_wrong = (scores.masked_fill(~which, low).amax(1) for which in (right, wrong))
    return sums, best, torch.maximum(best, of_wrong), of_wrong


def _joined(
    blocks: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], *, must: bool
) -> tuple[Calibration, Tensor, Tensor, int]:
    """The calibration; best scores of queries with their answers, and without them; how many have one."""
    count, total, squares = torch.stack([block[0] for block in blocks]).sum(0).tolist()
    answers, best, empty = (torch.cat([block[place] for block in blocks]).double() for place in (1, 2, 3))
    low = torch.finfo(torch.float32).min
    best, answers, empty = best[best > low], answers[answers > low], empty[empty > low]
    if len(empty) < FEWEST or (must and len(answers) < FEWEST):
        raise TooFewPairsError(
            f"{len(answers)} queries have a right document and {len(empty)} a wrong one; a calibration needs {FEWEST} of each"
        )
    # By sums in float64, block after block: the whole matrix of similarities is never in memory.
    mean = total / count
    scale = max(squares / count - mean * mean, 0.0) ** 0.5
    nothing = float(torch.quantile(answers, _MISSED)) if len(answers) >= FEWEST else None
    # A model that gives everything one score must not divide by 0.
    return Calibration(mean, max(scale, 1e-6), nothing), best, empty, len(answers)
