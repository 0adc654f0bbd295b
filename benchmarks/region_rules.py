"""Which rule of regions finds what is pointed at: zoo-mini on the regions pack's val, the table that the default was chosen by.

Scenes of two to four objects put together by program (`composed`), each with an exact mask, its box and a caption. In-image: the
region's own caption is the best of those of its image. R@1, R@5: among the captions of all images.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

import zoo
from benchmarks.common import table
from zoo.regions import Dense, DenseHd, Ensemble, MaskedCrop, RegionRule
from zoo.tables.pack_files import packs_folder

RULES: dict[str, RegionRule | None] = {
    "whole image": None,
    "tight crop, squeezed": MaskedCrop(1.0, "none", square=False),
    "crop × 1.2": MaskedCrop(1.2, "none"),
    "masked crop, white (default)": MaskedCrop(),
    "masked crop, not square": MaskedCrop(square=False),
    "masked crop × 1": MaskedCrop(1.0),
    "masked crop × 1.5": MaskedCrop(1.5),
    "masked crop, grey": MaskedCrop(fill="grey"),
    "masked crop, mean": MaskedCrop(fill="mean"),
    "masked crop, blur": MaskedCrop(fill="blur"),
    "ensemble": Ensemble(),
    "dense × 1": Dense(1),
    "dense × 2 (default of dense)": Dense(),
    "dense × 3": Dense(3),
    "dense-hd, 6 × 2 tiles (default of dense-hd)": DenseHd(),
    "dense-hd, 8 × 3 tiles": DenseHd(long=8, short=3),
}


def scenes(split: str = "val") -> list[dict[str, Any]]:
    """Rows of the pack's `composed` part, with `pixels` and `masks` decoded."""
    import pyarrow.parquet as pq

    rows = pq.read_table(packs_folder() / "regions" / f"{split}.parquet").to_pylist()
    found = [row for row in rows if row["source"] == "composed"]
    for row in found:
        row["pixels"] = np.array(Image.open(io.BytesIO(row["image"])).convert("RGB"))
        values = np.array(Image.open(io.BytesIO(row["mask"])))
        row["masks"] = [values == region["mask_value"] for region in row["regions"]]
    return found


def figures(model: Any, rows: Sequence[dict[str, Any]], marks: str) -> list[float]:
    """In-image accuracy, R@1 and R@5 of a model's own rule. marks: "mask", "box", or "none" for whole images."""
    captions = sorted({region["caption"] for row in rows for region in row["regions"]})
    texts = model.encode_query(captions)
    hits = []
    for row in rows:
        gold = torch.tensor([captions.index(region["caption"]) for region in row["regions"]])
        if marks == "none":
            vectors = model.encode([row["pixels"]]).expand(len(gold), -1)
        else:
            masks, boxes = map(zoo.Mask, row["masks"]), (zoo.Box(*region["box"]) for region in row["regions"])
            vectors = model.encode_regions(row["pixels"], list(masks if marks == "mask" else boxes))
        scores = vectors @ texts.T
        own = scores.gather(1, gold[:, None])
        here = gold.unique()
        rank = (scores > own).sum(1)
        hits.append(torch.stack([here[scores[:, here].argmax(1)] == gold, rank < 1, rank < 5]).float())
    return torch.cat(hits, 1).mean(1).tolist()


def main() -> None:
    """Prints the table, by masks and by boxes alone."""
    model, rows = zoo.load_model("zoo-mini"), scenes()
    lines = []
    for name, rule in RULES.items():
        chosen = model if rule is None else model.with_region_rule(rule)
        kinds = ("none",) if rule is None else ("mask", "box")
        found = [figures(chosen, rows, kind) for kind in kinds]
        lines.append([name, *(f"{value:.3f}" for each in found for value in each)])
        lines[-1] += [""] * (7 - len(lines[-1]))
    regions = sum(len(row["regions"]) for row in rows)
    header = ["rule", *(f"{figure}, {kind}" for kind in ("mask", "box") for figure in ("in-image", "R@1", "R@5"))]
    table(f"zoo-mini, {regions} regions of {len(rows)} images of val", header, lines)


if __name__ == "__main__":
    main()
