"""zoo-mini-region again: zoo-mini's head learns regions, whole photos beside; then what its scores mean, and what the package holds.

`python -m benchmarks region_model --folder runs/zoo-mini-region` trains as `zoo train --recipe regions` does, on the scenes and
every sixth photo of train, and writes the folder of the package into `runs/zoo-mini-region/packaged`. Nothing of val is learned.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from zoo.training import open_pairs, recipes, train

import zoo
from benchmarks.region_training import MODEL, NAMES, PHOTOS, RULE, SEEDS
from zoo.evaluation.calibration import calibrate_all
from zoo.evaluation.corpus import Corpus, Told
from zoo.formats.changes import write_changes
from zoo.publishing import certificate
from zoo.tables.pack_files import read_pack
from zoo.tables.pack_regions import SCENES
from zoo.tables.packs import photo_pair

PACKED = "packaged"


def calibrated(model: zoo.Embedder) -> zoo.Embedder:
    """What its scores mean, on photos of val, as `zoo calibrate --pairs pack:photos` measures it."""
    pairs = list(open_pairs("pack:photos", split="val"))
    rows = (
        Told(pair.query, text, pair.group, pair.name)
        for pair in pairs
        for text in (pair.positive, *pair.extra_positives)
    )
    model.calibration = {one.pair: one.calibration for one in calibrate_all(model, Corpus(rows))[0]}
    return model


def packed(model: zoo.Embedder, base: dict[str, Tensor], folder: Path) -> None:
    """Writes what the package holds of a trained model; `base` is the state that it began as."""
    changed = write_changes(model, base, folder, torch.float16)
    # As it is opened: what is stored has half precision.
    model.load_state_dict({n: t.half().float() if n in changed else base[n] for n, t in model.state_dict().items()})
    model.spec = zoo.get_spec("zoo-mini-region")
    write_changes(calibrated(model), base, folder, torch.float16)
    for path in certificate.make(model).save(folder):
        print(f"written {path}")


def main(folder: Path | None = None) -> None:
    """Trains, measures what scores mean, and writes."""
    torch.set_num_threads(2)
    folder = folder or Path("runs/zoo-mini-region")
    scenes = [pair for pair in open_pairs("pack:regions") if pair.dataset == SCENES]
    photos = [replace(photo_pair(row), dataset="photos") for row in read_pack("photos", "train")[::PHOTOS]]
    recipe = recipes.regions(name="zoo-mini-region", holdout=0.0, freeze=NAMES, seed=SEEDS[0], region=RULE)
    model = zoo.load_model(MODEL, device="cpu")
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pairs = [*scenes, *photos]
    train(model, pairs, recipe, folder, name="zoo-mini-region", report=False, trackers=(), device="cpu")
    packed(model.eval(), base, folder / PACKED)


if __name__ == "__main__":
    main()
