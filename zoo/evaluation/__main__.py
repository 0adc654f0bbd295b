"""`python -m zoo.evaluation NAME`: measures a model on the data packs; with --card it keeps the figures and sets the card's tables."""

import argparse
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from zoo.embedder import Embedder
from zoo.errors import InvalidCardError, ZooError
from zoo.evaluation.composed import PACK as COMPOSED
from zoo.evaluation.composed import evaluate_composed, facts_of
from zoo.evaluation.packs import ALL, BENCHMARKS, Score, evaluate_descriptions, evaluate_pack, evaluate_queries
from zoo.evaluation.results import FILE, Result, read_results, write_results
from zoo.loading import load_model
from zoo.publishing.cards import CARDS, figures, fill, render
from zoo.publishing.cards.pages import folder_of
from zoo.registry import get_spec
from zoo.spec import need_one_vector
from zoo.strangers.folders import Place
from zoo.strangers.terminal import clean_output

ROOT = Path(__file__).resolve().parents[2]
QUERIES = ROOT / "tests" / "data" / "paraphrases.json"
RETRIEVAL, ZERO_SHOT = "image-text-retrieval", "zero-shot-image-classification"
IMAGE_TO_TEXT, TEXT_TO_IMAGE = "image → text", "text → image"
# Names of `speed` → what was embedded, the figure, its unit.
SPEEDS = {
    "images/s": ("pictures", "throughput", "images/s"),
    "texts/s": ("texts", "throughput", "texts/s"),
    "ms for one image": ("one picture", "latency", "ms"),
    "ms for one text": ("one text", "latency", "ms"),
}
EPILOG = """examples:
  python -m zoo.evaluation zoo-mini                                    print all tables
  python -m zoo.evaluation zoo-mini --split val                        of the validation splits
  python -m zoo.evaluation zoo-mini --card                             keep them: results/zoo-mini.json, and the card
  python -m zoo.evaluation ./runs/mine --packs photos                  a model in a folder, one pack
  python -m zoo.evaluation ./runs/mine --packs composed                a picture and a change in words

The packs are read from the folder in the environment variable ZOO_DATA, by default ../shared/data beside the checkout.
"""


def pack_results(score: Score, split: str, source: str) -> list[Result]:
    """One part of a pack as results: recall both ways and zero-shot accuracy."""
    facts: dict[str, Any] = {
        "dataset": score.pack,
        "split": split,
        "part": "" if score.source == ALL else score.source,
        "source": source,
        "date": _today(),
        "notes": f"{score.images:,} pictures, {score.texts:,} texts",
    }
    ways = {IMAGE_TO_TEXT: score.image_to_text, TEXT_TO_IMAGE: score.text_to_image}
    found = [
        Result(task=RETRIEVAL, metric=f"recall@{k}", value=value, direction=way, **facts)
        for way, recalls in ways.items()
        for k, value in recalls.items()
    ]
    return [*found, Result(task=ZERO_SHOT, metric="accuracy", value=score.zero_shot, **facts)]


def composed_results(model: Embedder, split: str, source: str) -> list[Result]:
    """Recall of the composed pack, by picture and text together and by either alone."""
    return [
        Result(metric=f"recall@{k}", value=value, split=split, source=source, date=_today(), **facts_of(score))
        for score in evaluate_composed(model, split)
        for k, value in score.recall.items()
    ]


def description_results(recalls: dict[int, float], split: str, source: str) -> list[Result]:
    """Recall of grocery photos by their product's shop description."""
    part = "grocery, by shop description"
    return [
        Result(
            "photos",
            RETRIEVAL,
            f"recall@{k}",
            value,
            split=split,
            part=part,
            direction=TEXT_TO_IMAGE,
            source=source,
            date=_today(),
        )
        for k, value in recalls.items()
    ]


def query_results(found: dict[str, Any], split: str, source: str) -> list[Result]:
    """The figures of the free-form queries."""
    notes = f"{found['queries']:,} queries, {found['photos']:,} pictures"
    metrics = {"hit@1": "hit@1", "hit@5": "hit@5", "precision@10": "precision@10"}
    metrics["chance precision"] = "precision by chance"
    return [
        Result(
            "photos",
            RETRIEVAL,
            metric,
            found[key],
            split=split,
            part="free-form queries",
            direction=TEXT_TO_IMAGE,
            source=source,
            date=_today(),
            notes=notes,
        )
        for key, metric in metrics.items()
    ]


def query_table(found: dict[str, Any]) -> str:
    """What each free-form query finds first, as Markdown."""
    lines = [
        "### Free-form queries, one by one",
        "",
        "| query | label of the first photo | acceptable |",
        "| --- | --- | --- |",
        *(f"| {query} | {label} | {'yes' if right else 'no'} |" for query, label, right in found["first"]),
    ]
    return "\n".join(lines)


def speed_results(model: Embedder, rates: dict[str, float], source: str) -> list[Result]:
    """Size and speed as results."""
    facts: dict[str, Any] = {"split": "", "source": source, "date": _today()}
    count = sum(parameter.numel() for parameter in model.parameters())
    found = [Result("weights", "size", "count", count, unit="numbers", **facts)]
    packaged = ROOT / "zoo" / "weights" / model.spec.name / "model.safetensors"
    if model.spec.packaged and packaged.is_file():
        megabytes = round(packaged.stat().st_size / 1e6, 1)
        found.append(Result("model.safetensors", "size", "size", megabytes, unit="MB", **facts))
    notes = f"CPU, {torch.get_num_threads()} threads, 640x480 JPEG files, decoding included"
    for name, value in rates.items():
        of, metric, unit = SPEEDS[name]
        found.append(Result(of, "speed", metric, round(value, 1), unit=unit, notes=notes, **facts))
    return found


def _today() -> str:
    return date.today().isoformat()


def speed(model: Embedder, images: int = 256) -> dict[str, float]:
    """Items per second of whole calls of `encode`: JPEG files of 640x480 pixels, and short texts."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    texts = [f"a photo of thing number {i} on a table" for i in range(2000)]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number in range(images):
            coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
            grain = generator.normal(0, 8, (480, 640, 1))
            pixels = (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)
            paths.append(Path(folder) / f"{number}.jpg")
            Image.fromarray(pixels).save(paths[-1], quality=85)
        model.encode(paths[:32])
        model.encode(texts[:32])
        rates = {}
        for name, inputs in (("images/s", paths), ("texts/s", texts)):
            times = []
            for _ in range(3):
                start = time.perf_counter()
                model.encode(inputs, progress=False)
                times.append(time.perf_counter() - start)
            rates[name] = len(inputs) / min(times)
        for name, one in (("ms for one image", paths[0]), ("ms for one text", texts[0])):
            times = []
            for _ in range(15):
                start = time.perf_counter()
                model.encode(one)
                times.append(time.perf_counter() - start)
            rates[name] = 1000 * sorted(times)[len(times) // 2]
    return rates


def measure(
    model: Embedder, split: str, packs: list[str], queries: Path | None, timed: bool, source: str
) -> tuple[list[Result], str]:
    """All figures, and the Markdown table of the single queries ("" where they were not asked)."""
    need_one_vector(model.spec, "zoo.evaluation")
    scores = [score for b in BENCHMARKS if b.pack in packs for score in evaluate_pack(model, b, split)]
    results, table = [result for score in scores for result in pack_results(score, split, source)], ""
    if "photos" in packs:
        results += description_results(evaluate_descriptions(model, split), split, source)
        if queries is not None:
            found = evaluate_queries(model, queries, split)
            results += query_results(found, split, source)
            table = query_table(found)
    if COMPOSED in packs:
        results += composed_results(model, split, source)
    if timed:
        results += speed_results(model, speed(model), source)
    return results, table


@clean_output()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.evaluation",
        description="Measures a model on the data packs: recall both ways, zero-shot accuracy, free-form queries, speed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = [*(benchmark.pack for benchmark in BENCHMARKS), COMPOSED]
    parser.add_argument("model", help="any name or folder that load_model opens")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--packs", nargs="+", default=known, choices=known)
    parser.add_argument("--queries", type=Path, help="JSON of free-form queries (default: those of the tests)")
    parser.add_argument("--no-speed", action="store_true", help="leave the timing out")
    parser.add_argument(
        "--card",
        nargs="?",
        const="",
        metavar="FILE",
        help="keep the figures in the results file of this card, and set its tables anew (default: the model's own card)",
    )
    options = parser.parse_args(arguments)
    queries = options.queries or (QUERIES if QUERIES.is_file() else None)
    try:
        card = None if options.card is None else card_of(options.model, options.card)
        model = load_model(options.model)
        source = f"python -m zoo.evaluation {options.model}"
        source += "" if options.split == "test" else f" --split {options.split}"
        results, table = measure(model, options.split, options.packs, queries, not options.no_speed, source)
        if card is not None:
            write_card(*card, results, table, source)
    except (ZooError, ValueError, OSError) as error:
        print(f"zoo.evaluation: {error}", file=sys.stderr)
        return 1
    print("\n\n".join(filter(None, (figures(results), table))))
    return 0


def card_of(model: str, card: str = "") -> tuple[Path, Path]:
    """(card, results file) of a model: those of a folder are in it, those of a registered name in model_cards/.

    Args:
        card: another card's path, "" for the model's own.

    Raises:
        InvalidCardError: there is no such card.
    """
    folder = folder_of(model)
    path = Path(card) if card else folder / "README.md" if folder else CARDS / f"{model}.md"
    if not path.is_file():
        raise InvalidCardError(
            f"{path} does not exist; `python -m zoo.publishing.cards` writes the cards of registered models"
        )
    own = path.name == "README.md"
    return path, path.parent / FILE if own else path.parent / "results" / f"{path.stem}.json"


def write_card(card: Path, file: Path, results: list[Result], table: str, command: str) -> None:
    """Adds figures to a results file and sets the tables of the card from all that it holds."""
    write_results(file, results)
    text = (Place.of(card.parent) / card.name).read_text()
    if card.name == "README.md":
        text = fill(text, "measured", figures(read_results(file)), f"written by `{command} --card` from {FILE}")
    else:
        text = render(get_spec(card.stem), text, read_results(file))
    if table:
        text = fill(text, "queries", table, f"written by `{command} --card`")
    (Place.of(card.parent) / card.name).write(text.encode())


if __name__ == "__main__":
    sys.exit(main())
