"""`python -m zoo.evaluation NAME`: measures a model on the data packs; with --card it keeps the figures and sets the card's tables."""

import argparse
import shlex
import sys
from pathlib import Path

from zoo.embedder import Embedder
from zoo.errors import ZooError
from zoo.evaluation.cards import card_of, write_card
from zoo.evaluation.composed import composed_results
from zoo.evaluation.figures import figures
from zoo.evaluation.imagenet import imagenet_results
from zoo.evaluation.neighbours import neighbour_results
from zoo.evaluation.packs import (
    BENCHMARKS,
    description_results,
    encode_pack,
    evaluate_descriptions,
    evaluate_pack,
    pack_results,
)
from zoo.evaluation.queries import PARAPHRASES, QUERIES, evaluate_queries, query_results, query_scores, query_table
from zoo.evaluation.regions import region_results
from zoo.evaluation.results import Result, rounded
from zoo.evaluation.speed import size_results, speed_results
from zoo.loading import load_model
from zoo.spec import need_one_vector
from zoo.strangers.terminal import clean_output
from zoo.tables.pack_files import COMPOSED, REGIONS

EPILOG = """examples:
  python -m zoo.evaluation zoo-mini                                    print all tables
  python -m zoo.evaluation zoo-mini --split val                        of the validation splits
  python -m zoo.evaluation zoo-mini --no-speed                         without timing: on a machine that has other work
  python -m zoo.evaluation zoo-mini --packs --card                     speed alone, kept beside the other figures
  python -m zoo.evaluation zoo-mini --card                             keep them: results/zoo-mini.json, and the card
  python -m zoo.evaluation ./runs/mine --packs photos                  a model in a folder, one pack
  python -m zoo.evaluation ./runs/mine --packs composed                an image and a change described in text
  python -m zoo.evaluation zoo-mini --packs regions                    regions of images, in every way to read them
  python -m zoo.evaluation zoo-mini --packs paraphrases                the free-form queries: docs/paraphrases.md
  python -m zoo.evaluation zoo-mini --packs photos --queries mine.json  queries of one's own beside a pack

The packs are read from the folder in the environment variable ZOO_DATA, by default ../shared/data beside the checkout.
"""


def measure(
    model: Embedder, split: str, packs: list[str], queries: Path | None, where: str | None, source: str
) -> tuple[list[Result], str]:
    """All figures, and the Markdown table of the single queries ("" where they were not asked).

    Args:
        where: what the model was opened as; its speed is measured there, None leaves the timing out.
        source: the command that gives the figures again.
    """
    need_one_vector(model.spec, "zoo.evaluation")
    results, table, encoded = [], "", {}
    for benchmark in BENCHMARKS:
        if benchmark.pack in packs:
            images = encoded[benchmark.pack] = encode_pack(model, benchmark.pack, split)
            for score in evaluate_pack(model, benchmark, split, images):
                results += pack_results(score, split, source)
    if photos := encoded.get("photos"):
        results += description_results(evaluate_descriptions(model, split, photos), split, source)
        results += imagenet_results(model, split, source, photos)
        results += neighbour_results(model, split, source, photos)
    if queries is not None:
        answers = evaluate_queries(model, queries, split, encoded)
        again = source if queries == QUERIES else f"{source} --queries {shlex.quote(str(queries))}"
        results += query_results(query_scores(answers), queries.stem, split, again)
        table = query_table(answers)
    if COMPOSED in packs:
        results += composed_results(model, split, source)
    if REGIONS in packs:
        results += region_results(model, split, source)
    if where is not None:
        results += [*size_results(model, where, source), *speed_results(where, source)]
    return [rounded(result) for result in results], table


@clean_output()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.evaluation",
        description="Measures a model on the data packs: recall both ways, zero-shot accuracy, classes that ImageNet has and "
        "has not, image → image, composed and free-form queries; size, speed and memory.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = [*(benchmark.pack for benchmark in BENCHMARKS), COMPOSED, PARAPHRASES]
    parser.add_argument("model", help="any name or folder that load_model opens")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument(
        "--packs",
        nargs="*",
        choices=[*usual, REGIONS],
        help=f"what to measure besides speed (default: all but {REGIONS}, which takes every region in five ways; {PARAPHRASES}, the "
        "free-form queries of the package, are of the test split only)",
    )
    parser.add_argument(
        "--queries", type=Path, metavar="FILE", help=f"JSON of free-form queries, in place of {PARAPHRASES}"
    )
    parser.add_argument("--no-speed", action="store_true", help="leave the timing out")
    parser.add_argument(
        "--card",
        nargs="?",
        const="",
        metavar="FILE",
        help="keep the figures in the results file of this card, and set its tables anew (default: the model's own card)",
    )
    options = parser.parse_args(arguments)
    packs = usual if options.packs is None else options.packs
    if options.packs is None and options.split != "test" and options.queries is None:
        packs = [pack for pack in usual if pack != PARAPHRASES]
        print(f"zoo.evaluation: {PARAPHRASES} left out: their labels are those of the test split", file=sys.stderr)
    queries = options.queries or (QUERIES if PARAPHRASES in packs else None)
    try:
        card = None if options.card is None else card_of(options.model, options.card)
        model = load_model(options.model)
        source = f"python -m zoo.evaluation {options.model}"
        source += "" if options.split == "test" else f" --split {options.split}"
        where = None if options.no_speed else options.model
        results, table = measure(model, options.split, packs, queries, where, source)
        if card is not None:
            write_card(*card, results, table, source)
            if card[0].name != "README.md":
                hint = "its front matter repeats figures too; `python -m zoo.publishing.cards` sets those"
                print(f"{card[0].name}: {hint}", file=sys.stderr)
    except (ZooError, ValueError, OSError) as error:
        print(f"zoo.evaluation: {error}", file=sys.stderr)
        return 1
    print("\n\n".join(filter(None, (figures(results), table))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
