"""What a model is worth at each depth and width: MiniLM fine-tuned on papers plainly, by 2DMSE and by Starbucks, then shortened.

Quality is nDCG@10 of held-out sentences among the paragraphs that they were taken out of; speed is that of the shortened model.
Runs are kept in a folder: `python -m benchmarks depths --folder runs/depths`.
"""

import copy
import tempfile
import warnings
from functools import partial
from pathlib import Path

from benchmarks.common import machine, realistic_texts, rounds, speed_rows, table
from benchmarks.finetune import minilm, passage_pairs

LAYERS, DIMS = (1, 2, 3, 4, 5, 6), (384, 192, 96, 48)
PAIRS = "[1, 48], [2, 96], [3, 96], [4, 192], [5, 192], [6, 384]"
TRAINED = {
    "plain": "infonce(0.05, symmetric=False)",
    "2DMSE": "infonce(0.05, symmetric=False) + matryoshka_2d(384, 192, 96, 48)",
    "layers and Matryoshka": "infonce(0.05, symmetric=False) + matryoshka(384, 192, 96, 48) + layers(None)",
    "Starbucks": f"infonce(0.05, symmetric=False) + starbucks({PAIRS})",
}


def main(folder: Path | None = None, epochs: float = 3.0) -> None:
    """Trains what the folder does not hold, and prints a table of quality for each loss, and one of speed."""
    from zoo import load_model
    from zoo.formats.shortening import shorten

    print(f"\n## Depths and widths\n\n{machine()}")
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        models = {
            title: trained(place / title.replace(" ", "-").lower(), loss, epochs) for title, loss in TRAINED.items()
        }
    pairs = passage_pairs("test")
    for title, model in {"not at all": load_model(minilm(Path())), **models}.items():
        rows = []
        for layers in LAYERS:
            short = shorten(copy.deepcopy(model), layers)
            rows.append([layers, *(f"{quality(short, pairs, dim):.3f}" for dim in DIMS)])
        table(f"trained: {title}; nDCG@10 of {len(pairs)} sentences", ["blocks", *(f"{dim} dim" for dim in DIMS)], rows)
    texts = realistic_texts(128)
    short = {f"{n} blocks": shorten(copy.deepcopy(models["plain"]), n) for n in LAYERS}
    times = rounds({name: partial(one.encode, texts, progress=False) for name, one in short.items()}, repeat=3)
    weights = {name: sum(p.numel() for p in one.parameters()) for name, one in short.items()}
    speeds = speed_rows(times, len(texts), f"{LAYERS[-1]} blocks")
    table("speed", ["", "texts/s", "speed", "weights"], [[*row, f"{weights[row[0]]:,}"] for row in speeds])


def trained(out: Path, loss: str, epochs: float):
    """MiniLM fine-tuned by a loss; the folder's model where the run is done."""
    from zoo.training import recipes, train

    from zoo import load_model

    if not (out / "report.md").exists():
        recipe = recipes.finetune(loss=loss, epochs=epochs, batch_size=32, lr=5e-5, holdout=0.0)
        train(load_model(minilm(out)), passage_pairs("train"), recipe, out, resume=True, trackers=())
    return load_model(out)


def quality(model, pairs, dim: int) -> float:
    """nDCG@10 of the queries among all distinct positives."""
    warnings.filterwarnings("ignore", message=".*lose accuracy")  # which is what is measured
    said = list(dict.fromkeys(pair.positive.text for pair in pairs))
    gold = [said.index(pair.positive.text) for pair in pairs]
    documents = model.encode(said, dim=dim, progress=False)
    scores = model.encode([pair.query for pair in pairs], dim=dim, progress=False) @ documents.T
    better = (scores > scores[range(len(gold)), gold][:, None]).sum(1)
    return (1 / (better + 2.0).log2()).masked_fill(better >= 10, 0.0).mean().item()


if __name__ == "__main__":
    main()
