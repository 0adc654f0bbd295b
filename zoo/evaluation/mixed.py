"""Galleries of several kinds: whether a search finds what is right of every kind, by plain and by calibrated scores.

A query is one that has right answers of several kinds, among all items of a `Corpus`. What its first ten are, kind by kind, is held
against what its right answers are: a model with a modality gap (Liang et al., 2022) shows ten of one kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import TooFewPairsError
from zoo.evaluation.corpus import Corpus, Relation, Vectors
from zoo.evaluation.metrics import modality_gaps, ndcg, recalls, relevant_places, row_blocks
from zoo.scales import Scales
from zoo.spec import Calibration, need_one_vector

if TYPE_CHECKING:
    from zoo.embedder import Embedder

K = 10


@dataclass(frozen=True, eq=False)
class Ranked:
    """One way of ranking; every array has an entry for each query.

    Attributes:
        recall, ndcg: recall@10 and nDCG@10 over all kinds. shares: kind → how much of the first ten is of it. apart: how far these
            shares are from those of the right answers, 0 (equal) to 1 (no kind in common): half the sum of the differences.
    """

    recall: np.ndarray
    ndcg: np.ndarray
    shares: dict[str, np.ndarray]
    apart: np.ndarray


@dataclass(frozen=True, eq=False)
class MixedScores:
    """Queries of one kind among documents of several.

    Attributes:
        asked: their kind. documents: kind → how many there are. right: kind → `(queries,)` its share of the right answers.
        plain, calibrated: rankings by the scores, and by how far they stand above wrong ones; None where a pair has no
            calibration, which `missing` says.
    """

    asked: str
    documents: dict[str, int]
    right: dict[str, np.ndarray]
    plain: Ranked
    calibrated: Ranked | None
    missing: str

    def __len__(self) -> int:
        return len(self.plain.recall)


def measured_whole(corpus: Corpus, calibration: Mapping[str, Calibration]) -> bool:
    """Whether every pair of kinds has a calibration."""
    return all(Calibration.key(query, document) in calibration for query in corpus.kinds for document in corpus.kinds)


def evaluate_mixed(
    model: "Embedder", corpus: Corpus, calibration: Mapping[str, Calibration] | None = None
) -> tuple[list[MixedScores], dict[tuple[str, str], float], list[str]]:
    """Measures searches of every kind of query among all items of a corpus.

    Args:
        calibration: by "query>document"; by default the model's own.

    Returns:
        Of every kind of which queries have right answers of several kinds; the modality gap of every two kinds; and what could not be
        embedded.

    Raises:
        TooFewPairsError: no query has right answers of several kinds. UnsupportedModalityError: the model does not read a kind.
        TokenVectorsError: late interaction.
    """
    need_one_vector(model.spec, "a gallery of several kinds")
    corpus.check_read(model)
    known = model.calibration if calibration is None else calibration
    vectors, found = Vectors(model), []
    by_query: dict[str, list[Relation]] = {}
    for relation in corpus.pairs():
        by_query.setdefault(relation.queries.kind, []).append(relation)
    for asked, relations in by_query.items():
        if one := _of_kind(vectors, relations, Scales.of(model, asked, calibration=known)):
            found.append(one)
    if not found:
        raise TooFewPairsError(
            f"of {', '.join(corpus.kinds)} no query has right answers of several kinds; add a table, or texts and names that tables share"
        )
    of_kinds = {kind: vectors.of(members, "document", kind)[0] for kind, members in corpus.kinds.items()}
    gaps = modality_gaps({kind: F.normalize(some, dim=-1) for kind, some in of_kinds.items() if len(some)})
    return found, gaps, vectors.skipped


def _of_kind(vectors: Vectors, relations: Sequence[Relation], scales: Scales) -> MixedScores | None:
    """Queries of one kind; None where none of them has right answers of several kinds."""
    scores, right, kinds = _matrices(vectors, relations)
    there = {kind: torch.tensor([one == kind for one in kinds]) for kind in dict.fromkeys(kinds)}
    several = torch.stack([right[:, columns].any(1) for columns in there.values()]).sum(0) > 1
    if not several.any():
        return None
    scores, right = scores[several], right[several]
    compared = scales.compares(there)
    return MixedScores(
        asked=relations[0].queries.kind,
        documents={kind: int(columns.sum()) for kind, columns in there.items()},
        right={kind: (right[:, columns].sum(1) / right.sum(1)).double().numpy() for kind, columns in there.items()},
        plain=ranked(scores, right, kinds),
        calibrated=ranked(_z(scores, kinds, scales), right, kinds) if compared else None,
        missing=scales.unmeasured(there),
    )


def ranked(scores: Tensor, right: Tensor, kinds: Sequence[str], k: int = K) -> Ranked:
    """How documents of several kinds are ranked.

    Args:
        scores, right: `(queries, documents)`; the query itself has -inf. kinds: of each document.
    """
    parts: dict[str, list[Tensor]] = {}
    columns = {kind: torch.tensor([one == kind for one in kinds]) for kind in dict.fromkeys(kinds)}
    for start, stop in row_blocks(*scores.shape):
        some, relevant = scores[start:stop], right[start:stop]
        counts, places = relevant.sum(1), relevant_places(some, relevant, k)
        first = some.topk(min(k, len(kinds)), dim=1).indices
        apart = torch.zeros(len(some), dtype=torch.float64)
        for kind, own in columns.items():
            share = own[first].double().mean(1)
            parts.setdefault(f"share {kind}", []).append(share)
            apart += (share - relevant[:, own].sum(1).double() / counts).abs() / 2
        for name, values in (("recall", recalls(places, counts, k)), ("ndcg", ndcg(places, counts)), ("apart", apart)):
            parts.setdefault(name, []).append(values.double())
    joined = {name: torch.cat(values).numpy() for name, values in parts.items()}
    shares = {kind: joined.pop(f"share {kind}") for kind in columns}
    return Ranked(**joined, shares=shares)


def _matrices(vectors: Vectors, relations: Sequence[Relation]) -> tuple[Tensor, Tensor, list[str]]:
    """Scores and what is right `(queries, documents)` over all kinds of documents, and the kind of each; the query itself is left out."""
    # Where a table of items of one kind says which of them ask, the other kinds are asked by these too.
    asking = min((relation.queries for relation in relations), key=len)
    asking = asking.at(vectors.of(asking, "query", asking.kind)[1])
    scores, right, kinds = [], [], []
    for relation in relations:
        kind = relation.documents.kind
        own, _ = vectors.of(asking, "query", kind)
        others, there = vectors.of(relation.documents, "document", asking.kind)
        part = Relation(asking, relation.documents.at(there), relation.by)
        relevant, itself = part.block(0, len(asking))
        scores.append(vectors.model.similarity(own, others).masked_fill(itself, -torch.inf))
        right.append(relevant)
        kinds += [kind] * len(there)
    return torch.cat(scores, dim=1), torch.cat(right, dim=1), kinds


def _z(scores: Tensor, kinds: Sequence[str], scales: Scales) -> Tensor:
    mean, scale = (
        torch.tensor([getattr(scales.known[kind], name) for kind in kinds], dtype=torch.float64)
        for name in ("mean", "scale")
    )
    return (scores.double() - mean) / scale
