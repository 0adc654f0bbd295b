"""The data packs as benchmarks: retrieval both ways and zero-shot accuracy, per source."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.embedder import Embedder
from zoo.evaluation.metrics import accuracy, bounds, hits, same
from zoo.evaluation.results import Result, today
from zoo.spec import need_one_vector
from zoo.tables.pack_files import read_pack

KS = (1, 5, 10)
ALL = "all"
RETRIEVAL, ZERO_SHOT = "image-text-retrieval", "zero-shot-image-classification"
IMAGE_TO_TEXT, TEXT_TO_IMAGE = "image → text", "text → image"


@dataclass(frozen=True)
class Benchmark:
    """How a pack's rows become images with one true text each.

    Attributes:
        pack: folder of the pack. source: column that names the part a row comes from, "" for one part.
        text: the true text of a row, among whose distinct values retrieval ranks.
        label: what zero-shot classification tells apart. prompt: how a label is put to the text tower.
    """

    pack: str
    source: str
    text: Callable[[dict[str, Any]], str]
    label: Callable[[dict[str, Any]], str]
    prompt: str = "{}"


# Automatic colour fields of the photos pack are unreliable by its README and stay unread.
BENCHMARKS = (
    Benchmark("photos", "source", lambda row: row["captions"][0], lambda row: row["label"], "a photo of a {}"),
    Benchmark("emoji", "vendor", lambda row: row["names"]["en"], lambda row: row["names"]["en"]),
    Benchmark("symbols", "", lambda row: row["text_en"], lambda row: row["text_en"]),
)


@dataclass(frozen=True)
class Score:
    """Figures of one part of a pack; shares from 0 to 1.

    Attributes:
        images, texts: how many were ranked. image_to_text, text_to_image: recall by k.
        zero_shot: share of images whose label comes first among the part's labels.
    """

    pack: str
    source: str
    images: int
    texts: int
    image_to_text: dict[int, float]
    text_to_image: dict[int, float]
    zero_shot: float
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoded:
    """A split of a pack and the vectors of its images, which several evaluations share.

    Attributes:
        rows: as the pack has them. vectors: of their images, `(rows, D)`.
    """

    rows: list[dict[str, Any]]
    vectors: Tensor


def encode_pack(model: Embedder, pack: str, split: str = "test") -> Encoded:
    """Embeds the images of a split, once for all that is measured on them."""
    need_one_vector(model.spec, "a benchmark of the zoo")
    rows = read_pack(pack, split)
    return Encoded(rows, model.encode([row["image"] for row in rows]))


def evaluate_pack(
    model: Embedder, benchmark: Benchmark, split: str = "test", encoded: Encoded | None = None
) -> list[Score]:
    """Scores of every source of a pack, and of all together where there are several.

    Image → text ranks the distinct texts of the part; text → image asks with each distinct text, and every image
    that has it is relevant.

    Args:
        encoded: the images of the split, where they have been embedded.
    """
    encoded = encoded or encode_pack(model, benchmark.pack, split)
    rows, vectors = encoded.rows, encoded.vectors
    parts: dict[str, list[int]] = {ALL: list(range(len(rows)))}
    for position, row in enumerate(rows):
        if benchmark.source:
            parts.setdefault(row[benchmark.source], []).append(position)
    return [
        _score(model, benchmark, name, [rows[i] for i in positions], vectors[positions])
        for name, positions in parts.items()
    ]


def _score(model: Embedder, benchmark: Benchmark, source: str, rows: Sequence[dict], images: Tensor) -> Score:
    texts = [benchmark.text(row) for row in rows]
    labels = [benchmark.label(row) for row in rows]
    queries, classes = sorted(set(texts)), sorted(set(labels))
    similarity = images @ model.encode(queries).T
    relevant = same(texts, queries)
    zero_shot = images @ model.encode([benchmark.prompt.format(label) for label in classes]).T
    truth = torch.tensor([classes.index(label) for label in labels])
    return Score(
        benchmark.pack,
        source,
        len(rows),
        len(queries),
        hits(similarity, relevant, KS),
        hits(similarity.T, relevant.T, KS),
        accuracy(zero_shot, truth),
    )


@dataclass(frozen=True)
class Descriptions:
    """Recall by k of images that were asked for by a description, and how many of both there were."""

    queries: int
    images: int
    recall: dict[int, float]


def evaluate_descriptions(model: Embedder, split: str = "test", encoded: Encoded | None = None) -> Descriptions:
    """Recall of grocery photos asked for by their product's shop description: real prose, one per product.

    Args:
        encoded: the photos of the split, where they have been embedded.
    """
    encoded = encoded or encode_pack(model, "photos", split)
    chosen = [i for i, row in enumerate(encoded.rows) if row["source"] == "grocery" and row["description"]]
    texts = [encoded.rows[i]["description"] for i in chosen]
    queries = sorted(set(texts))
    recall = hits(model.encode(queries) @ encoded.vectors[chosen].T, same(queries, texts), KS)
    return Descriptions(len(queries), len(chosen), recall)


# ---------------------------------------------------------------------------------------------------- as results


def pack_results(score: Score, split: str, source: str) -> list[Result]:
    """One part of a pack as results: recall both ways and zero-shot accuracy."""
    facts: dict[str, Any] = {
        "dataset": score.pack,
        "split": split,
        "part": "" if score.source == ALL else score.source,
        "source": source,
        "date": today(),
        "notes": f"{score.images:,} images, {score.texts:,} texts",
    }
    ways = {IMAGE_TO_TEXT: (score.image_to_text, score.images), TEXT_TO_IMAGE: (score.text_to_image, score.texts)}
    found = [
        Result(task=RETRIEVAL, metric=f"recall@{k}", value=value, direction=way, **bounds(value, asked), **facts)
        for way, (recalls, asked) in ways.items()
        for k, value in recalls.items()
    ]
    right = bounds(score.zero_shot, score.images)
    return [*found, Result(task=ZERO_SHOT, metric="accuracy", value=score.zero_shot, **right, **facts)]


def description_results(found: Descriptions, split: str, source: str) -> list[Result]:
    """Recall of grocery photos by their product's shop description."""
    part = "grocery, by shop description"
    return [
        Result(
            "photos",
            RETRIEVAL,
            f"recall@{k}",
            value,
            split=split,
            part=part,
            direction=TEXT_TO_IMAGE,
            source=source,
            date=today(),
            notes=f"{found.images:,} images, {found.queries:,} texts",
            **bounds(value, found.queries),
        )
        for k, value in found.recall.items()
    ]
