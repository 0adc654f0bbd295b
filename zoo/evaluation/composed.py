"""The composed pack: a reference image and a change described in text find the changed image; with either alone as baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from zoo.embedder import Embedder
from zoo.evaluation.metrics import bounds, hits
from zoo.evaluation.packs import KS
from zoo.evaluation.results import Result, today
from zoo.inputs.item import Item
from zoo.tables.pack_files import COMPOSED, Triplet, read_composed

FUSED, IMAGE, TEXT = "image + text → image", "image → image", "text → image"


@dataclass(frozen=True)
class ComposedScore:
    """Recall by k of one way of asking.

    Attributes:
        way: `FUSED`, or `IMAGE` and `TEXT`, the baselines of either part alone.
        kind: of change ("style"), "" for all. queries, images: how many asked, and among how many.
        recall: k → share of queries whose target is among the best k, the reference left out.
    """

    way: str
    kind: str
    queries: int
    images: int
    recall: dict[int, float]


def evaluate_composed(model: Embedder, split: str = "test") -> list[ComposedScore]:
    """Ranks all images of the split but the reference; by image and text together, by the text, and by the image.

    Raises:
        UnsupportedModalityError: the model does not read an image with a text.
    """
    images, triplets = read_composed(split)
    ids = list(images)
    gallery = model.encode_document([Item(image=images[name]) for name in ids])
    asked = {
        FUSED: [Item(image=images[t.reference], text=t.text) for t in triplets],
        TEXT: [Item(text=t.text) for t in triplets],
        IMAGE: [Item(image=images[t.reference]) for t in triplets],
    }
    scores = []
    for way, items in asked.items():
        similarity = model.similarity(model.encode_query(items), gallery)
        scores.append(_score(way, "", similarity, triplets, ids))
        for kind in sorted({t.kind for t in triplets}) if way == FUSED else ():
            rows = [i for i, t in enumerate(triplets) if t.kind == kind]
            scores.append(_score(way, kind, similarity[rows], [triplets[i] for i in rows], ids))
    return scores


def composed_recall(
    similarity: torch.Tensor, triplets: Sequence[Triplet], ids: Sequence[str], ks: Sequence[int] = KS
) -> dict[int, float]:
    """Recall by k of similarities `(triplets, images)`, each triplet's own reference left out of the ranking."""
    return hits(*composed_ranks(similarity, triplets, ids), ks)


def composed_ranks(
    similarity: torch.Tensor, triplets: Sequence[Triplet], ids: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities without each triplet's own reference, and which images are right: `(triplets, images)` both."""
    place = {name: i for i, name in enumerate(ids)}
    rows = torch.arange(len(triplets))
    similarity = similarity.clone()
    # The reference is the most similar image of all, and never the answer: left in, it would
    # take rank 1 of every query.
    similarity[rows, torch.tensor([place[t.reference] for t in triplets])] = -torch.inf
    relevant = torch.zeros_like(similarity, dtype=torch.bool)
    right: dict[tuple[str, str], list[int]] = {}
    for t in triplets:  # the same question may have several answers
        right.setdefault((t.reference, t.text), []).append(place[t.target])
    for row, t in enumerate(triplets):
        relevant[row, right[t.reference, t.text]] = True
    return similarity, relevant


def _score(
    way: str, kind: str, similarity: torch.Tensor, triplets: Sequence[Triplet], ids: Sequence[str]
) -> ComposedScore:
    return ComposedScore(way, kind, len(triplets), len(ids), composed_recall(similarity, triplets, ids))


def facts_of(score: ComposedScore) -> dict[str, Any]:
    """What a `Result` says of all figures of a score."""
    return {
        "dataset": COMPOSED,
        "task": "composed-image-retrieval",
        "part": score.kind,
        "direction": score.way,
        "notes": f"{score.queries:,} queries, {score.images:,} images, the reference left out",
    }


def composed_results(model: Embedder, split: str, source: str) -> list[Result]:
    """Recall of the composed pack, by image and text together and by either alone."""
    return [
        Result(
            metric=f"recall@{k}",
            value=value,
            split=split,
            source=source,
            date=today(),
            **bounds(value, score.queries),
            **facts_of(score),
        )
        for score in evaluate_composed(model, split)
        for k, value in score.recall.items()
    ]
