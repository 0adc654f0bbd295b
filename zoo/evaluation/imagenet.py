"""Classes of the photos that ImageNet has, and those that it has not: how far a model sees beyond what its trunk was taught."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.embedder import Embedder
from zoo.evaluation.metrics import accuracy, bounds, hits, same
from zoo.evaluation.packs import (
    BENCHMARKS,
    IMAGE_TO_TEXT,
    KS,
    RETRIEVAL,
    TEXT_TO_IMAGE,
    ZERO_SHOT,
    Encoded,
    encode_pack,
)
from zoo.evaluation.results import Result, today

FILE = Path(__file__).parent / "imagenet.json"  # label of a photo → synsets of ImageNet-1k, and by which rule
PHOTOS = BENCHMARKS[0]
KNOWN, UNKNOWN = "classes in ImageNet", "classes not in ImageNet"


@cache
def synsets_of() -> dict[str, list[str]]:
    """Every label of the photos with the classes of ImageNet-1k that are it, or kinds of it; [] where there is none."""
    facts = json.loads(FILE.read_text(encoding="utf-8"))
    by_hand = {label: entry["synsets"] for label, entry in facts["by_hand"].items()}
    return {**{label: [] for label in facts["none"]}, **facts["same"], **by_hand}


def in_imagenet(labels: Sequence[str]) -> Tensor:
    """Bool `(labels,)`: which of them ImageNet has.

    Raises:
        ValueError: nobody has decided of a label.
    """
    synsets = synsets_of()
    if unknown := sorted(set(labels) - set(synsets)):
        raise ValueError(f"{FILE} does not say whether ImageNet has {unknown[:5]}; add them by its rule")
    return torch.tensor([bool(synsets[label]) for label in labels])


def imagenet_results(model: Embedder, split: str, source: str, encoded: Encoded | None = None) -> list[Result]:
    """Recall both ways and zero-shot accuracy of the photos, apart for classes that ImageNet has and has not.

    The ranking is that of the whole source (`evaluate_pack`): all of its texts, labels and images are candidates, and
    only what is asked is parted. A text belongs to the classes of its images.

    Args:
        encoded: the photos of the split, where they have been embedded.

    Raises:
        ValueError: imagenet.json lacks a label.
    """
    encoded = encoded or encode_pack(model, PHOTOS.pack, split)
    sources: dict[str, list[int]] = {}
    for position, row in enumerate(encoded.rows):
        sources.setdefault(row[PHOTOS.source], []).append(position)
    found = []
    for name, positions in sources.items():
        rows = [encoded.rows[i] for i in positions]
        found += _parted(model, name, rows, encoded.vectors[positions], {"split": split, "source": source})
    return found


def _parted(
    model: Embedder, name: str, rows: Sequence[dict[str, Any]], images: Tensor, facts: dict[str, Any]
) -> list[Result]:
    texts, labels = [PHOTOS.text(row) for row in rows], [PHOTOS.label(row) for row in rows]
    queries, classes = sorted(set(texts)), sorted(set(labels))
    similarity, relevant = images @ model.encode(queries).T, same(texts, queries)
    zero_shot = images @ model.encode([PHOTOS.prompt.format(label) for label in classes]).T
    truth = torch.tensor([classes.index(label) for label in labels])
    known = in_imagenet(labels)
    found: list[Result] = []
    for part, asked in ((KNOWN, known), (UNKNOWN, ~known)):
        if not asked.any():
            continue
        texts_asked = relevant[asked].any(0)
        images_asked, among = int(asked.sum()), f"asked among {len(rows):,} and {len(queries):,}"
        told = {
            **facts,
            "dataset": PHOTOS.pack,
            "part": f"{name}, {part}",
            "date": today(),
            "notes": f"images {images_asked:,}, texts {int(texts_asked.sum()):,}, {among}",
        }
        ways = {
            IMAGE_TO_TEXT: (similarity[asked], relevant[asked]),
            TEXT_TO_IMAGE: (similarity.T[texts_asked], relevant.T[texts_asked]),
        }
        for way, (scores, right) in ways.items():
            found += [
                Result(
                    task=RETRIEVAL,
                    metric=f"recall@{k}",
                    value=share,
                    direction=way,
                    **bounds(share, len(scores)),
                    **told,
                )
                for k, share in hits(scores, right, KS).items()
            ]
        share = accuracy(zero_shot[asked], truth[asked])
        found.append(Result(task=ZERO_SHOT, metric="accuracy", value=share, **bounds(share, images_asked), **told))
    return found
