"""`python -m zoo.evaluation NAME`: measures a model on the data packs; with --card it writes the tables into a card."""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

import torch

from zoo.embedder import Embedder
from zoo.errors import ZooError
from zoo.evaluation.packs import BENCHMARKS, KS, Score, evaluate_descriptions, evaluate_pack, evaluate_queries
from zoo.registry import load_model

ROOT = Path(__file__).resolve().parents[2]
QUERIES = ROOT / "tests" / "data" / "paraphrases.json"
MEASURED = re.compile(r"<!-- measured:start.*?<!-- measured:end -->", re.DOTALL)
EPILOG = """examples:
  python -m zoo.evaluation zoo-mini                                    print all tables
  python -m zoo.evaluation zoo-mini --split val                        of the validation splits
  python -m zoo.evaluation zoo-mini --card model_cards/zoo-mini.md     and write them into the card
  python -m zoo.evaluation ./runs/mine --packs photos                  a model in a folder, one pack

The packs are read from the folder in the environment variable ZOO_DATA, by default ../shared/data beside the checkout.
"""


def percent(value: float) -> str:
    """0.4567 → "45.7"."""
    return f"{100 * value:.1f}"


def score_table(scores: list[Score]) -> str:
    """Scores as a Markdown table, in percent."""
    head = ["pack", "part", "pictures", "texts", *(f"i→t R@{k}" for k in KS), *(f"t→i R@{k}" for k in KS), "zero-shot"]
    rows = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    for s in scores:
        recalls = [percent(side[k]) for side in (s.image_to_text, s.text_to_image) for k in KS]
        rows.append([s.pack, s.source or "all", str(s.images), str(s.texts), *recalls, percent(s.zero_shot)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def query_table(found: dict) -> str:
    """The free-form figures, and what each query finds first."""
    lines = [
        f"{found['queries']} hand-written queries over {found['photos']:,} photos: the first photo is acceptable for "
        f"{percent(found['hit@1'])} %, one of the first five for {percent(found['hit@5'])} %; of the first ten photos "
        f"{percent(found['precision@10'])} % are acceptable (by chance {percent(found['chance precision'])} %).",
        "",
        "| query | label of the first photo | acceptable |",
        "| --- | --- | --- |",
        *(f"| {query} | {label} | {'yes' if right else 'no'} |" for query, label, right in found["first"]),
    ]
    return "\n".join(lines)


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


def speed_table(model: Embedder, rates: dict[str, float]) -> str:
    """Size and speed as a Markdown table."""
    count = sum(parameter.numel() for parameter in model.parameters())
    rows = ["| figure | value |", "| --- | ---: |", f"| weights | {count:,} |"]
    packaged = ROOT / "zoo" / "weights" / model.spec.name / "model.safetensors"
    if packaged.is_file():
        rows.append(f"| model.safetensors | {packaged.stat().st_size / 1e6:.1f} MB |")
    rows += [f"| {name} | {value:,.1f} |" for name, value in rates.items()]
    return "\n".join([*rows, "", f"CPU, {torch.get_num_threads()} threads, 640x480 JPEG files, decoding included."])


def report(model: Embedder, split: str, packs: list[str], queries: Path | None, timed: bool) -> str:
    """All tables as Markdown."""
    scores = [s for b in BENCHMARKS if b.pack in packs for s in evaluate_pack(model, b, split)]
    parts = [f"### Retrieval and zero-shot accuracy, {split} splits (percent)", score_table(scores)]
    if "photos" in packs:
        prose = ", ".join(f"R@{k} {percent(v)}" for k, v in evaluate_descriptions(model, split).items())
        parts.append(f"Grocery photos by their product's shop description (text → image): {prose}.")
        if queries is not None:
            parts += ["### Free-form queries", query_table(evaluate_queries(model, queries, split))]
    if timed:
        parts += ["### Size and speed", speed_table(model, speed(model))]
    return "\n\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.evaluation",
        description="Measures a model on the data packs: recall both ways, zero-shot accuracy, free-form queries, speed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = [benchmark.pack for benchmark in BENCHMARKS]
    parser.add_argument("model", help="any name or folder that load_model opens")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--packs", nargs="+", default=known, choices=known)
    parser.add_argument("--queries", type=Path, help="JSON of free-form queries (default: those of the tests)")
    parser.add_argument("--no-speed", action="store_true", help="leave the timing out")
    parser.add_argument("--card", type=Path, help="card whose `<!-- measured:start … end -->` block is replaced")
    options = parser.parse_args(arguments)
    queries = options.queries or (QUERIES if QUERIES.is_file() else None)
    try:
        model = load_model(options.model)
        text = report(model, options.split, options.packs, queries, not options.no_speed)
        if options.card:
            write_card(options.card, text, f"python -m zoo.evaluation {options.model} --card {options.card}")
    except (ZooError, ValueError, OSError) as error:
        print(f"zoo.evaluation: {error}", file=sys.stderr)
        return 1
    print(text)
    return 0


def write_card(card: Path, text: str, command: str) -> None:
    """Replaces the measured block of a card.

    Raises:
        ValueError: the card has no such block.
    """
    old = card.read_text(encoding="utf-8")
    if not MEASURED.search(old):
        raise ValueError(f"{card} has no `<!-- measured:start … measured:end -->` block to write into")
    block = f"<!-- measured:start: written by `{command}` -->\n{text}\n<!-- measured:end -->"
    card.write_text(MEASURED.sub(lambda _: block, old), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
