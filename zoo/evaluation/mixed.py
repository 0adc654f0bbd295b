"""Galleries of several kinds: whether a search finds what is right of every kind, by plain and by calibrated scores.

A query is one that has right answers of several kinds, among all items of a `Corpus`. What its first ten are, kind by kind, is held
against what its right answers are: a model with a modality gap (Liang et al., 2022) shows ten of one kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    @classmethod
    def joined(cls, parts: "Sequence[Ranked]") -> "Ranked":
        """Those of queries one after the other."""
        arrays = {name: np.concatenate([getattr(one, name) for one in parts]) for name in ("recall", "ndcg", "apart")}
        shares = {kind: np.concatenate([one.shares[kind] for one in parts]) for kind in parts[0].shares}
        return cls(**arrays, shares=shares)


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
    # Where a table of items of one kind says which of them ask, the other kinds are asked by these too.
    asking = min((relation.queries for relation in relations), key=len)
    asking = asking.at(vectors.of(asking, "query", asking.kind)[1])
    sides, parts, kinds = [], [], []
    for relation in relations:
        others, there = vectors.of(relation.documents, "document", asking.kind)
        sides.append((vectors.of(asking, "query", relation.documents.kind)[0], others))
        parts.append(Relation(asking, relation.documents.at(there), relation.by))
        kinds += [relation.documents.kind] * len(there)
    columns = {kind: torch.tensor([one == kind for one in kinds]) for kind in dict.fromkeys(kinds)}
    compared = scales.compares(columns)
    found: dict[str, list[Any]] = {"plain": [], "calibrated": [], "right": []}
    for rows in row_blocks(len(asking), len(kinds)):
        scores, right = _block(vectors.model, sides, parts, rows)
        # (b,): queries with right answers of more than one kind; the others say nothing of mixing.
        several = torch.stack([right[:, own].any(1) for own in columns.values()]).sum(0) > 1
        scores, right = scores[several], right[several]
        found["plain"].append(ranked(scores, right, kinds))
        if compared:
            found["calibrated"].append(ranked(_z(scores, kinds, scales), right, kinds))
        found["right"].append({kind: (right[:, own].sum(1) / right.sum(1)).numpy() for kind, own in columns.items()})
    if not sum(len(one.recall) for one in found["plain"]):
        return None
    return MixedScores(
        asked=asking.kind,
        documents={kind: int(own.sum()) for kind, own in columns.items()},
        right={kind: np.concatenate([one[kind] for one in found["right"]]).astype(np.float64) for kind in columns},
        plain=Ranked.joined(found["plain"]),
        calibrated=Ranked.joined(found["calibrated"]) if compared else None,
        missing=scales.unmeasured(columns),
    )


def _block(
    model: "Embedder", sides: Sequence[tuple[Tensor, Tensor]], parts: Sequence[Relation], rows: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Scores of some queries with all documents `(b, N)`, -inf for the query itself, and which are right."""
    scores, right = [], []
    for (queries, documents), relation in zip(sides, parts, strict=True):
        relevant, itself = relation.block(*rows)
        scores.append(model.similarity(queries[slice(*rows)], documents).masked_fill(itself, -torch.inf))
        right.append(relevant)
    return torch.cat(scores, dim=1), torch.cat(right, dim=1)


def ranked(scores: Tensor, right: Tensor, kinds: Sequence[str], k: int = K) -> Ranked:
    """How documents of several kinds are ranked.

    Args:
        scores, right: `(queries, documents)`; the query itself has -inf. kinds: of each document.
    """
    columns = {kind: torch.tensor([one == kind for one in kinds]) for kind in dict.fromkeys(kinds)}
    counts, places = right.sum(1), relevant_places(scores, right, k)
    first = scores.topk(min(k, len(kinds)), dim=1).indices
    shares, apart = {}, torch.zeros(len(scores), dtype=torch.float64)
    for kind, own in columns.items():
        share = own[first].double().mean(1)
        shares[kind] = share.numpy()
        # Half the sum of absolute differences: the total variation distance of the two mixtures of kinds.
        apart += (share - right[:, own].sum(1).double() / counts).abs() / 2
    recall = recalls(places, counts, k).double().numpy()
    return Ranked(recall, ndcg(places, counts).numpy(), shares, apart.numpy())


def _z(scores: Tensor, kinds: Sequence[str], scales: Scales) -> Tensor:
    mean, scale = (
        torch.tensor([getattr(scales.known[kind], name) for kind in kinds], dtype=torch.float64)
        for name in ("mean", "scale")
    )
    return (scores.double() - mean) / scale
