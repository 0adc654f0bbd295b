"""Image → image: how many of the images nearest to a photo show the same thing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.embedder import Embedder
from zoo.evaluation.metrics import bootstrap, interval, relevant_places, same
from zoo.evaluation.packs import BENCHMARKS, Encoded, encode_pack
from zoo.evaluation.results import Result, today

IMAGE_TO_IMAGE = "image → image"
TASK = "image-to-image-retrieval"
KS = (1, 5)
PHOTOS = BENCHMARKS[0]


def neighbour_precisions(vectors: Tensor, labels: Sequence[str], k: int) -> Tensor:
    """Share of each image's `k` nearest others that have its label, `(images that have another of their label,)`.

    Of a label with fewer others only so many are looked at, so that nobody is asked for what is not there. Ties count
    against the model.

    Args:
        vectors: unit vectors `(images, D)`. labels: of each image.
    """
    relevant = same(labels, labels).fill_diagonal_(False)
    asked = relevant.any(1)
    similarity = (vectors @ vectors.T).fill_diagonal_(-torch.inf)  # nobody is his own neighbour
    places = relevant_places(similarity[asked], relevant[asked], k)
    looked = relevant[asked].sum(1).clamp(max=k)
    inside = torch.arange(k) < looked[:, None]
    return (places & inside).sum(1) / looked


def neighbour_results(model: Embedder, split: str, source: str, encoded: Encoded | None = None) -> list[Result]:
    """Precision among the nearest photos of the same source: of all photos that have another of their class, and by source.

    Args:
        encoded: the photos of the split, where they have been embedded.
    """
    encoded = encoded or encode_pack(model, PHOTOS.pack, split)
    sources: dict[str, list[int]] = {}
    for position, row in enumerate(encoded.rows):
        sources.setdefault(row[PHOTOS.source], []).append(position)
    found = []
    for k in KS:
        asked, among = {}, "those of their source"
        for name, positions in sources.items():
            labels = [PHOTOS.label(encoded.rows[i]) for i in positions]
            asked[name] = neighbour_precisions(encoded.vectors[positions], labels, k)
        for name, values in {"": torch.cat(list(asked.values())), **asked}.items():
            if not len(values):
                continue
            if name:
                among = f"{len(sources[name]):,}"
            # One of one is a share of queries; a mean of shares is not, and its queries are drawn anew.
            one = interval(int(values.sum()), len(values)) if k == 1 else bootstrap(values.numpy()[:, None])[0]
            notes = f"{len(values):,} images, among {among}"
            measured = {"value": one.value, "low": one.low, "high": one.high, "split": split, "part": name}
            facts = {"direction": IMAGE_TO_IMAGE, "source": source, "date": today(), "notes": notes}
            found.append(Result(PHOTOS.pack, TASK, f"precision@{k}", **measured, **facts))
    return found
