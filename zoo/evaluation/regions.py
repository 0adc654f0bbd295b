"""The pack of regions: a region finds its caption, among those of its image and among all; and a caption its region."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.embedder import Embedder
from zoo.embedder.aiming import facing
from zoo.evaluation.metrics import Interval, bootstrap, first_ranks, percentiles, resampled_means, same
from zoo.evaluation.results import Result, today
from zoo.inputs.item import Item
from zoo.regions import Dense, Ensemble, MaskedCrop, RegionRule
from zoo.spec import need_one_vector
from zoo.tables.pack_files import REGIONS
from zoo.tables.pack_regions import CELLS, SCENES, Scene, read_scenes

TASK = "region-text-retrieval"
REGION_TO_TEXT, TEXT_TO_REGION = "region → text", "text → region"
KS = (1, 5)
IN_IMAGE = "accuracy in image"
WHOLE, OWN = "whole image", "its own way"
# What stands for a region; None: the image without it.
WAYS: dict[str, RegionRule | None] = {
    WHOLE: None,
    "tight crop": MaskedCrop(1.0, "none", square=False),
    "masked crop": MaskedCrop(),
    "ensemble": Ensemble(),
    "dense": Dense(),
}


@dataclass(frozen=True)
class RegionScore:
    """Figures of one way to read regions, on one part of the pack; shares from 0 to 1, with 95 % intervals.

    Attributes:
        way: of `WAYS`, or `OWN` of a model that reads regions by itself. part: `SCENES` or `CELLS`.
        regions, images, captions: how many there were.
        in_image: share of regions whose own caption is above all others of its image; images are drawn anew for the interval.
        region_to_text: recall by k among all captions, in the same way. text_to_region: of each caption, whether a region that it
            is of is among the k best of all; captions are drawn anew.
    """

    way: str
    part: str
    regions: int
    images: int
    captions: int
    in_image: Interval
    region_to_text: dict[int, Interval]
    text_to_region: dict[int, Interval]


def ways_of(model: Embedder) -> dict[str, RegionRule | None]:
    """The ways that a model can follow; one that reads regions by itself has its own alone, beside the whole image."""
    readers = [tower for tower in model.towers if "image" in tower.encoder.modalities]
    if any("regions" in tower.encoder.modalities for tower in readers):
        return {WHOLE: None, OWN: None}
    return {
        way: rule for way, rule in WAYS.items() if rule is None or not all(rule.refusal(tower) for tower in readers)
    }


def evaluate_regions(
    model: Embedder, split: str = "test", ways: Mapping[str, RegionRule | None] | None = None, part: str | None = None
) -> list[RegionScore]:
    """Scores of every way and part of the pack.

    Args:
        ways: by default all that the model can follow. part: `SCENES` or `CELLS`; both by default.

    Raises:
        MissingPackError: the pack is not here. UnsupportedModalityError: the model does not read images and texts.
    """
    need_one_vector(model.spec, "a benchmark of the zoo")
    scores = []
    for name in (SCENES, CELLS) if part is None else (part,):
        scenes = read_scenes(split, name)
        captions = sorted({caption for scene in scenes for caption in scene.captions})
        texts, aimed = model.encode_query(captions), facing(model, [("image", "regions")])
        named = texts if aimed is model else aimed.encode_query(captions)
        for way, rule in (ways_of(model) if ways is None else ways).items():
            reader = model if rule is None else model.with_region_rule(rule)
            vectors = region_vectors(reader, scenes, whole=way == WHOLE)
            scores.append(
                score_regions(way, name, scenes, captions, model.similarity(vectors, texts if way == WHOLE else named))
            )
    return scores


def region_vectors(model: Embedder, scenes: Sequence[Scene], *, whole: bool = False) -> Tensor:
    """Vectors of all regions `(regions, dim)`, image by image; of the whole image for each of its regions."""
    if whole:
        counts = torch.tensor([len(scene.regions) for scene in scenes])
        return model.encode_document([scene.image for scene in scenes]).repeat_interleave(counts, 0)
    items = [Item(image=scene.image, regions=(shape,)) for scene in scenes for shape in scene.shapes()]
    return model.encode_document(items)


def score_regions(
    way: str, part: str, scenes: Sequence[Scene], captions: Sequence[str], similarity: Tensor
) -> RegionScore:
    """Figures of similarities `(regions, captions)`, the regions image by image. Ties count against the model."""
    truth = [caption for scene in scenes for caption in scene.captions]
    relevant = same(truth, captions)
    image = torch.tensor([number for number, scene in enumerate(scenes) for _ in scene.regions])
    # (regions, captions): which captions are of the region's own image.
    here = torch.stack([same([*dict.fromkeys(scene.captions)], captions).any(0) for scene in scenes])[image]
    own = first_ranks(similarity.masked_fill(~here, -torch.inf), relevant) == 1
    ranks = first_ranks(similarity, relevant)
    columns = torch.stack([own, *(ranks <= k for k in KS)], 1).double().numpy()
    in_image, *recalls = over_images(columns, image.numpy())
    asked = first_ranks(similarity.T, relevant.T)
    found = bootstrap(torch.stack([asked <= k for k in KS], 1).double().numpy())
    sizes = len(truth), len(scenes), len(captions)
    return RegionScore(
        way, part, *sizes, in_image, dict(zip(KS, recalls, strict=True)), dict(zip(KS, found, strict=True))
    )


def over_images(values: np.ndarray, image: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> list[Interval]:
    """Means of columns `(regions, columns)` and their 95 % intervals, the images drawn anew with all of their regions.

    Args:
        image: number of the image of each region `(regions,)`, from 0.
    """
    # Of each image the sums and, last, how many regions: drawn together, a mean is sum over count of the drawn images.
    # Regions of one image are alike, and drawn one by one the interval would be too narrow.
    sums = np.zeros((image.max() + 1, values.shape[1] + 1))
    np.add.at(sums, image, np.column_stack([values, np.ones(len(values))]))
    drawn = resampled_means(sums, resamples, seed)
    low, high = percentiles(drawn[:, :-1] / drawn[:, -1:], 0.95)
    return [Interval(*map(float, row)) for row in zip(values.mean(0), low, high, strict=True)]


def region_results(model: Embedder, split: str, source: str) -> list[Result]:
    """All figures of the pack as results."""
    return [
        Result(
            REGIONS,
            TASK,
            metric,
            found.value,
            split=split,
            part=f"{score.part}, {score.way}",
            direction=direction,
            low=found.low,
            high=found.high,
            source=source,
            date=today(),
            notes=f"{score.regions:,} regions of {score.images:,} images, {score.captions:,} captions",
        )
        for score in evaluate_regions(model, split)
        for direction, figures in (
            (REGION_TO_TEXT, {IN_IMAGE: score.in_image} | {f"recall@{k}": r for k, r in score.region_to_text.items()}),
            (TEXT_TO_REGION, {f"hit@{k}": r for k, r in score.text_to_region.items()}),
        )
        for metric, found in figures.items()
    ]
