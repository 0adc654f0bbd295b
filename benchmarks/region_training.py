"""What training on regions and their captions gives a model whose trunk stands still: zoo-mini on the regions pack, by recipe.

`python -m benchmarks region_training` trains on the scenes of train and prints figures of val, mean and spread over three seeds: how
often a region's own caption is above the others of its image, its rank among all captions, and what becomes of whole photos. The
steps are those of `zoo train --recipe regions`; what the trunk sees is computed once for all runs.
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
from zoo.training.frozen import lone_heads
from zoo.training.losses import build_loss
from zoo.training.optim import freeze
from zoo.training.run import Run
from zoo.training.trainer import make_feed, planned

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

MODEL = "zoo-mini"
SEEDS = (0, 1, 2)
PHOTOS = 6  # every so many photos of train, where whole images are learned too
REGIONS: dict[str, object] = {"holdout": 0.0, "datasets": (SCENES,), "batch_size": 256, "epochs": 10.0, "lr": 1e-4}
NAMES = ("text", "image.encoder", "image.head.classify", "image.head.names")


class Tried(NamedTuple):
    """A recipe, the rule of regions, and whether photos are learned beside."""

    recipe: Recipe
    rule: str = "masked-crop"
    photos: bool = False


def tried() -> dict[str, Tried]:
    """What is compared, by title."""
    usual = recipes.regions(**REGIONS)
    alone = replace(usual, freeze=NAMES)
    beside = replace(alone, datasets=(), epochs=10.0)
    return {
        "the whole head": Tried(usual),
        "the projection of the head": Tried(alone),
        "… at 3e-4": Tried(replace(alone, lr=3e-4)),
        "… at 3e-5": Tried(replace(alone, lr=3e-5)),
        "… without the image's other captions": Tried(replace(alone, negatives=0)),
        "… dense": Tried(alone, "dense"),
        "… with photos beside": Tried(beside, photos=True),
        "… with photos beside, at 5e-5": Tried(replace(beside, lr=5e-5), photos=True),
    }


class Val:
    """What the trunk sees of the val splits, once a rule; the figures of a head are then quick."""

    def __init__(self, model: zoo.Embedder) -> None:
        self.scenes = read_scenes("val", SCENES)
        self.captions = sorted({caption for scene in self.scenes for caption in scene.captions})
        self.texts = model.encode_query(self.captions)
        rows = read_pack("photos", "val")
        said = [BENCHMARKS[0].text(row) for row in rows]
        self.relevant = same(said, sorted(set(said)))
        self.names = model.encode(sorted(set(said)))
        self.photos = below(model, False).encode([row["image"] for row in rows])
        self._regions: dict[str, Tensor] = {}

    def figures(self, model: zoo.Embedder, rule: str) -> list[float]:
        """In-image accuracy, R@1 and R@5 of regions, R@1 of photos."""
        if rule not in self._regions:
            items = [Item(image=scene.image, regions=(shape,)) for scene in self.scenes for shape in scene.shapes()]
            self._regions[rule] = below(model, True).encode(items)
        tower = image_tower(model)
        with torch.no_grad():
            regions, photos = tower.headed(self._regions[rule]), tower.headed(self.photos)
        score = score_regions(rule, SCENES, self.scenes, self.captions, regions @ self.texts.T)
        whole = float((first_ranks(photos @ self.names.T, self.relevant) == 1).float().mean())
        return [score.in_image.value, *(found.value for found in score.region_to_text.values()), whole]


def image_tower(model: zoo.Embedder) -> Tower:
    """The tower that reads images."""
    return next(tower for tower in model.towers if "image" in tower.encoder.reads)


def below(model: zoo.Embedder, regions: bool) -> zoo.Embedder:
    """The model below its image head; its vectors are what the head reads."""
    freeze(model, NAMES[:2])
    heads = lone_heads(model)
    return heads[max(heads) if regions else min(heads)].below


def trained(tried: Tried, pairs: Sequence[Pair], seed: int, folder: Path) -> zoo.Embedder:
    """The steps of one run, on vectors of the trunk that all runs share."""
    model = zoo.load_model(MODEL, device="cpu", region=tried.rule)
    recipe = planned(replace(tried.recipe, seed=seed), pairs)
    run = Run(model, recipe, build_loss(recipe.loss))
    feed = make_feed(model, pairs, recipe, folder / f"{tried.rule}-{tried.photos}", progress=False)
    for batch in feed.batches(0, recipe.steps):
        run.advance(batch)
    return model.eval()


def main() -> None:
    """Trains and prints the table."""
    torch.set_num_threads(2)
    print(f"\n## Training on regions\n\n{machine()}", flush=True)
    scenes = [pair for pair in open_pairs("pack:regions") if pair.dataset == SCENES]
    photos = [replace(photo_pair(row), dataset="photos") for row in read_pack("photos", "train")[::PHOTOS]]
    start = zoo.load_model(MODEL, device="cpu")
    val = Val(start)
    rows = [
        [f"before, {rule}", "", *(f"{100 * v:.1f}" for v in val.figures(start.with_region_rule(rule), rule))]
        for rule in ("masked-crop", "dense")
    ]
    with tempfile.TemporaryDirectory() as folder:
        for title, one in tried().items():
            pairs = [*scenes, *photos] if one.photos else scenes
            found = [val.figures(trained(one, pairs, seed, Path(folder)), one.rule) for seed in SEEDS]
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
