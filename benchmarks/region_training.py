"""What training on regions and their captions gives a model whose trunk stands still: zoo-mini on the regions pack, by recipe.

`python -m benchmarks region_training` trains on the scenes of train and prints figures of val, mean and spread over three seeds: how
often a region's own caption is above the others of its image, its rank among all captions, and what becomes of whole photos. The
steps are those of `zoo train --recipe regions`.
"""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from zoo.training import Pair, Recipe, open_pairs, recipes
from zoo.training.cached_embeddings import lone_heads
from zoo.training.losses import build_loss
from zoo.training.optim import freeze
from zoo.training.run import Run
from zoo.training.trainer import make_feed, planned
from zoo.training.vector_cache import VectorCache, encode_cached

import zoo
from benchmarks.common import machine, table
from zoo.embedder import Tower
from zoo.evaluation.metrics import first_ranks, same
from zoo.evaluation.packs import BENCHMARKS
from zoo.evaluation.regions import score_regions
from zoo.inputs.item import Item
from zoo.tables.pack_files import read_pack
from zoo.tables.pack_regions import SCENES, read_scenes
from zoo.tables.packs import photo_pair

MODEL, RULE = "zoo-mini", "masked-crop"
SEEDS = (0, 1, 2)
PHOTOS = 6  # every so many photos of train, where whole images are learned too
REGIONS: dict[str, object] = {"holdout": 0.0, "datasets": (SCENES,)}
NAMES = ("text", "image.encoder", "image.head.classify", "image.head.names")


class Tried(NamedTuple):
    """A recipe, and whether photos are learned beside."""

    recipe: Recipe
    photos: bool = False


def tried() -> dict[str, Tried]:
    """What is compared, by title."""
    usual = recipes.regions(**REGIONS)
    alone = replace(usual, freeze=NAMES)
    return {
        "the head's projection": Tried(alone),
        "… with photos beside": Tried(replace(alone, datasets=()), photos=True),
        "… without the image's other captions": Tried(replace(alone, negatives=0)),
        "… at three times the rate": Tried(replace(alone, lr=3 * alone.lr)),
        "the whole head": Tried(usual),
    }


class Val:
    """What the trunk sees of the val splits, once a rule; the figures of a head are then quick."""

    def __init__(self, model: zoo.Embedder, folder: Path) -> None:
        self.scenes = read_scenes("val", SCENES)
        self.captions = sorted({caption for scene in self.scenes for caption in scene.captions})
        self.texts = model.encode_query(self.captions)
        rows = read_pack("photos", "val")
        said = [BENCHMARKS[0].text(row) for row in rows]
        self.relevant = same(said, sorted(set(said)))
        self.names = model.encode(sorted(set(said)))
        self.photos = remembered(below(model, False), [row["image"] for row in rows], folder / "photos")
        self.folder = folder

    def figures(self, model: zoo.Embedder, rule: str) -> list[float]:
        """In-image accuracy, R@1 and R@5 of regions, R@1 of photos."""
        items = [Item(image=scene.image, regions=(shape,)) for scene in self.scenes for shape in scene.shapes()]
        seen = remembered(below(model.with_region_rule(rule), True), items, self.folder / rule)
        tower = image_tower(model)
        with torch.no_grad():
            regions, photos = tower.headed(seen), tower.headed(self.photos)
        score = score_regions(rule, SCENES, self.scenes, self.captions, regions @ self.texts.T)
        whole = float((first_ranks(photos @ self.names.T, self.relevant) == 1).float().mean())
        return [score.in_image.value, *(found.value for found in score.region_to_text.values()), whole]


def image_tower(model: zoo.Embedder) -> Tower:
    """The tower that reads images."""
    return next(tower for tower in model.towers if "image" in tower.encoder.modalities)


def below(model: zoo.Embedder, regions: bool) -> zoo.Embedder:
    """The model below its image head; its vectors are what the head reads."""
    freeze(model, NAMES[:2])
    heads = lone_heads(model)
    return heads[max(heads) if regions else min(heads)].below


def remembered(model: zoo.Embedder, items: Sequence[object], folder: Path) -> Tensor:
    """Vectors of a model below its head, kept in a folder."""
    return encode_cached(model, items, VectorCache.for_towers(folder, model, range(len(model.routes))), progress=False)


def trained(tried: Tried, pairs: Sequence[Pair], seed: int, folder: Path) -> zoo.Embedder:
    """The steps of one run, on vectors of the trunk that all runs share."""
    model = zoo.load_model(MODEL, device="cpu", region=RULE)
    recipe = planned(replace(tried.recipe, seed=seed), pairs)
    run = Run(model, recipe, build_loss(recipe.loss))
    feed = make_feed(model, pairs, recipe, folder / RULE, progress=False)
    for batch in feed.batches(0, recipe.steps):
        run.advance(batch)
    return model.eval()


def main(folder: Path | None = None) -> None:
    """Trains and prints the table; what the trunk sees is kept in a folder, where one is named."""
    torch.set_num_threads(2)
    print(f"\n## Training on regions\n\n{machine()}", flush=True)
    scenes = [pair for pair in open_pairs("pack:regions") if pair.dataset == SCENES]
    photos = [replace(photo_pair(row), dataset="photos") for row in read_pack("photos", "train")[::PHOTOS]]
    start = zoo.load_model(MODEL, device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder or Path(temporary)
        val = Val(start, folder / "val")
        rows = []
        for rule in (RULE, "dense"):
            rows.append(
                [f"before, {rule}", "", *(f"{100 * v:.1f}" for v in val.figures(start.with_region_rule(rule), rule))]
            )
        for title, one in tried().items():
            pairs = [*scenes, *photos] if one.photos else scenes
            found = [val.figures(trained(one, pairs, seed, folder), RULE) for seed in SEEDS]
            cells = [
                f"{100 * statistics.mean(f):.1f} ± {100 * statistics.pstdev(f):.1f}" for f in zip(*found, strict=True)
            ]
            rows.append([title, len(pairs), *cells])
            print(" | ".join(map(str, rows[-1])), flush=True)
    header = ["what learns", "pairs", "in-image", "R@1", "R@5", "photos, R@1"]
    regions = sum(len(scene.regions) for scene in val.scenes)
    table(
        f"{MODEL}: {regions} regions of {len(val.scenes)} images of val, {len(val.photos)} photos of val", header, rows
    )


if __name__ == "__main__":
    main()
