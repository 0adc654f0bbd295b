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
from zoo.evaluation.packs import (
    BENCHMARKS,
    description_results,
    evaluate_descriptions,
    evaluate_pack,
    pack_results,
)
from zoo.evaluation.queries import PARAPHRASES, QUERIES, evaluate_queries, query_results, query_scores, query_table
from zoo.evaluation.results import Result
from zoo.evaluation.speed import speed, speed_results
from zoo.loading import load_model
from zoo.spec import need_one_vector
from zoo.strangers.terminal import clean_output
from zoo.tables.pack_files import COMPOSED

EPILOG = """examples:
  python -m zoo.evaluation zoo-mini                                    print all tables
  python -m zoo.evaluation zoo-mini --split val                        of the validation splits
  python -m zoo.evaluation zoo-mini --card                             keep them: results/zoo-mini.json, and the card
  python -m zoo.evaluation ./runs/mine --packs photos                  a model in a folder, one pack
  python -m zoo.evaluation ./runs/mine --packs composed                a picture and a change in words
  python -m zoo.evaluation zoo-mini --packs paraphrases                the free-form queries: docs/paraphrases.md
  python -m zoo.evaluation zoo-mini --packs photos --queries mine.json  queries of one's own beside a pack

The packs are read from the folder in the environment variable ZOO_DATA, by default ../shared/data beside the checkout.
"""


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
        answers = evaluate_queries(model, queries, split)
        again = source if queries == QUERIES else f"{source} --queries {shlex.quote(str(queries))}"
        results += query_results(query_scores(answers), queries.stem, split, again)
        table = query_table(answers)
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
    known = [*(benchmark.pack for benchmark in BENCHMARKS), COMPOSED, PARAPHRASES]
    parser.add_argument("model", help="any name or folder that load_model opens")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument(
        "--packs",
        nargs="+",
        choices=known,
        help=f"what to measure (default: all; {PARAPHRASES}, the free-form queries of the package, are of the test split only)",
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
    packs = options.packs or known
    if options.packs is None and options.split != "test" and options.queries is None:
        packs = [pack for pack in known if pack != PARAPHRASES]
        print(f"zoo.evaluation: {PARAPHRASES} left out: their labels are those of the test split", file=sys.stderr)
    queries = options.queries or (QUERIES if PARAPHRASES in packs else None)
    try:
        card = None if options.card is None else card_of(options.model, options.card)
        model = load_model(options.model)
        source = f"python -m zoo.evaluation {options.model}"
        source += "" if options.split == "test" else f" --split {options.split}"
        results, table = measure(model, options.split, packs, queries, not options.no_speed, source)
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
