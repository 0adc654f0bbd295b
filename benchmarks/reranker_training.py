"""Rerankers trained on real pairs: a cross-encoder that begins as MiniLM ranks anew the ten concepts that MiniLM finds for a name.

Pairs are English names of emoji and their keywords (`pack:text`), split by concept. Every run is 100 steps of 8 names, each with its
keywords and the three wrong ones that MiniLM finds nearest. Of several rates each loss takes the one that is best on the validation
concepts by one seed; the figures are of the test concepts. By default these are two rates and one seed, within ten minutes; `--full`
takes five and three, as the documented figures did. Every run is written down at once, so that a stopped table goes on:
`python -m benchmarks reranker_training --full --folder runs/rerankers`.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common import machine, table

if TYPE_CHECKING:
    from torch import Tensor
    from zoo.training import Pair

    from zoo.reranking import Reranker

LOSSES = ("binary", "plistmle", "score_distillation")
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
SEEDS = (0, 1, 2)
QUICK_RATES, QUICK_SEEDS = RATES[2:4], SEEDS[:1]
STEPS, BLOCKS, TOKENS, NEGATIVES, FOUND = 100, 3, 64, 3, 10  # of MiniLM's six blocks the first three
SHARPNESS = 20.0  # what MiniLM's cosines are multiplied by as a teacher's scores


def main(folder: Path | None = None, full: bool = False) -> None:
    """Prints what ranks the test concepts how well, and how long it took."""
    print(f"\n## Rerankers trained\n\n{machine()}")
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        rates, seeds = (RATES, SEEDS) if full else (QUICK_RATES, QUICK_SEEDS)
        experiment(place, rates, seeds)


def experiment(place: Path, rates: Sequence[float], seeds: Sequence[int]) -> None:
    """The rates of every loss on the validation concepts, then its seeds on the test concepts."""
    begun, rows = time.perf_counter(), []
    alone = first_stage("test")
    rows.append(["MiniLM's vectors alone", "", *_cells([reciprocal(alone)])])
    untrained = [measured(place, "", 0.0, seed, "test") for seed in seeds]
    rows.append(["the cross-encoder, untrained", "", *_cells(untrained)])
    found = {}
    for loss in LOSSES:
        by_rate = {rate: measured(place, loss, rate, seeds[0], "val") for rate in rates}
        best = max(by_rate, key=by_rate.__getitem__)
        found[loss] = [measured(place, loss, best, seed, "test") for seed in seeds]
        rows.append([f"trained with {loss}", f"{best:g}", *_cells(found[loss])])
    table(f"MRR@10 of the test concepts, {len(alone)} names", ["ranked by", "rate", "MRR@10", "spread"], rows)
    print(f"\n{time.perf_counter() - begun:,.0f} s")


def _cells(figures: Sequence[float]) -> list[str]:
    spread = f"{min(figures):.3f} to {max(figures):.3f}" if len(figures) > 1 else ""
    return [f"{statistics.mean(figures):.3f}", spread]


def measured(place: Path, loss: str, rate: float, seed: int, split: str) -> float:
    """MRR@10 of a trained cross-encoder over a split; without a loss of the one that it begins as. Done once."""
    from zoo import load_reranker

    notes, key = place / "figures.jsonl", [loss, rate, seed, split]
    known = [json.loads(line) for line in notes.read_text().splitlines()] if notes.is_file() else []
    for line in known:
        if line["key"] == key:
            return line["figure"]
    out = place / f"{loss or 'untrained'}-{rate:g}-{seed}"
    model = load_reranker(
        trained(out, loss, rate, seed) if loss else begun_as_minilm(place / f"start-{seed}", seed), device="cpu"
    )
    figure = reciprocal(reranked(model, split))
    with notes.open("a") as file:
        file.write(json.dumps({"key": key, "figure": figure}) + "\n")
    return figure


def trained(out: Path, loss: str, rate: float, seed: int) -> Path:
    """The folder of a run, which goes on where it was stopped."""
    from zoo.training import recipes, train
    from zoo.training.claims import is_finished

    from zoo import load_reranker

    if not is_finished(out):
        start = begun_as_minilm(out.parent / f"start-{seed}", seed)
        recipe = recipes.reranker(
            loss=loss, lr=rate, seed=seed, batch_size=8, steps=STEPS, holdout=0.0, checkpoint_every=STEPS
        )
        pairs = learned(taught=loss == "score_distillation")
        train(
            load_reranker(start, device="cpu"),
            pairs,
            recipe,
            out,
            resume=True,
            trackers=(),
            report=False,
            progress=False,
        )
    return out


def begun_as_minilm(folder: Path, seed: int) -> Path:
    """A cross-encoder of MiniLM's first blocks with a classifier of random weights, as transformers writes one."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    from benchmarks.finetune import minilm

    if not (folder / "config.json").is_file():
        torch.manual_seed(seed)
        options = {"num_labels": 1, "num_hidden_layers": BLOCKS}
        BertForSequenceClassification.from_pretrained(minilm(folder), **options).save_pretrained(folder)
        AutoTokenizer.from_pretrained(minilm(folder), model_max_length=TOKENS).save_pretrained(folder)
    return folder


# ------------------------------------------------------------------------------------------------------- the first stage


@cache
def embedder() -> Any:
    """MiniLM, all of it."""
    from benchmarks.finetune import minilm
    from zoo import load_model

    return load_model(minilm(Path()), device="cpu")


@cache
def concepts(split: str) -> list[tuple[str, str]]:
    """Name and keywords of the concepts of a split; a keyword that is the name itself is left out."""
    import pyarrow.parquet

    from zoo.tables.pack_files import packs_folder

    rows = pyarrow.parquet.read_table(packs_folder() / "text" / "multilingual-names.parquet").to_pylist()
    found = []
    for row in rows:
        words = [word for word in row["keywords_en"] if word.lower() != row["name_en"].lower()]
        if row["split"] == split and words:
            found.append((row["name_en"], ", ".join(words)))
    return found


@cache
def cosines(split: str) -> "Tensor":
    """MiniLM's cosines of the names of a split with all its keywords `(n, n)`; row and column i are one concept."""
    names, keywords = zip(*concepts(split), strict=True)
    return embedder().encode(list(names)) @ embedder().encode(list(keywords)).T


def first_stage(split: str) -> list[int]:
    """Where MiniLM puts the keywords of each name."""
    return [_place(row, own) for own, row in enumerate(cosines(split))]


def _place(scores: "Tensor", own: int) -> int:
    """Place of the right one, 1 being the best; ties count against it."""
    return int((scores >= scores[own]).sum())


def reranked(model: "Reranker", split: str) -> list[int]:
    """Where the right keywords come once the ten that were found are ranked anew; what was not found stays where it was."""
    found = cosines(split).topk(FOUND, dim=1).indices.tolist()
    pairs = [(concepts(split)[own][0], concepts(split)[i][1]) for own, row in enumerate(found) for i in row]
    scores = model.score(pairs, progress=False).view(-1, FOUND)
    places = first_stage(split)
    return [_place(scores[own], row.index(own)) if own in row else places[own] for own, row in enumerate(found)]


def reciprocal(places: Sequence[int]) -> float:
    """MRR@10."""
    return statistics.mean(1 / place if place <= FOUND else 0.0 for place in places)


@cache
def learned(taught: bool) -> "list[Pair]":
    """The training concepts with the wrong keywords that MiniLM finds nearest, and its cosines as a teacher's scores."""
    from zoo.training import Pair

    from zoo.inputs.item import Item

    found = []
    for own, row in enumerate(cosines("train")):
        wrong = [i for i in row.argsort(descending=True).tolist() if i != own][:NEGATIVES]
        name, keywords = concepts("train")[own]
        negatives = tuple(Item(text=concepts("train")[i][1]) for i in wrong)
        scores = tuple((SHARPNESS * row[[own, *wrong]]).tolist()) if taught else ()
        found.append(Pair(Item(text=name), Item(text=keywords), negatives, teacher_scores=scores))
    return found
