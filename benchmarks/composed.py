"""Composed retrieval by a tiny vision-language model with random weights, before and after minutes of training.

Pack `composed`: an image and a change described in text ("as a flat drawing without shading") find the changed image among those
of the test split, whose concepts no training pair shows. The registered test model (VLM2Vec's way of reading, 0.1 million
weights) goes through `zoo.training.train` as any model does; this equals

    zoo train pack:composed --model vlm2vec-test --from-scratch --steps 200 --lr 3e-3 --batch-size 64 --holdout 0 \\
        --loss "infonce(temperature=0.05, symmetric=False)" --out runs/composed
    python -m zoo.evaluation ./runs/composed --packs composed
"""

import tempfile
import time
from pathlib import Path

from benchmarks.common import machine, table

MODEL, STEPS, BATCH = "vlm2vec-test", 200, 64


def main() -> None:
    """Trains, and prints recall of all ways of asking before and after."""
    import torch
    from zoo.training import open_pairs, recipes, train

    from zoo import build_model
    from zoo.evaluation.composed import evaluate_composed

    print(f"\n## Composed retrieval\n\n{machine()}")
    torch.manual_seed(0)
    model = build_model(MODEL)
    before = evaluate_composed(model)
    recipe = recipes.finetune(
        steps=STEPS, lr=3e-3, batch_size=BATCH, holdout=0.0, loss="infonce(temperature=0.05, symmetric=False)"
    )
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train(model, open_pairs("pack:composed"), recipe, Path(folder), progress=False, trackers=(), report=False)
    seconds = time.perf_counter() - begun
    rows = [
        [old.way, old.kind or "all", old.queries, *(f"{old.recall[k]:.3f} → {new.recall[k]:.3f}" for k in old.recall)]
        for old, new in zip(before, evaluate_composed(model), strict=True)
    ]
    title = f"{MODEL}: {STEPS} steps of {BATCH} triplets in {seconds:.0f} s; {before[0].images} images ranked"
    table(title, ["asked by", "change", "queries", *(f"recall@{k}" for k in before[0].recall)], rows)
