"""Compare models on your own data: quality, cost, where they differ.

MODEL is anything that load_model opens, also with settings: NAME@dim=64 (the first dimensions), NAME@layers=6 (the first blocks),
NAME@revision=COMMIT, several with commas. A model that cannot read the data is listed with the reason.

--data takes what `zoo train` takes, with the same options, and what its columns say is measured: retrieval both ways (recall@1, 5 and
10, nDCG@10, MRR), zero-shot classification where there is a column label or class, or a folder for each class (accuracy), changes of an
image in words (query_image, query_text, positive_image), graded pairs (score from 0 to 1: Spearman), and pairs that are right or wrong
(score 0 or 1: average precision, accuracy). A folder with corpus.jsonl, queries.jsonl and qrels.tsv is judged retrieval, as BEIR has it.
--tasks takes our packs: photos, emoji, symbols, composed, regions.

Every figure has a 95 % interval, and models are compared on the same rows: "no clear difference" is where the interval of the
paired difference holds 0. With --rerank every model is told a second time, with the first results of every query reranked; of that no
costs are measured. Quality is the mean of nDCG@10 (of packs recall@1), accuracy, Spearman and average precision over all that was
asked. Milliseconds, items a second and memory are measured here, each model in a process of its own, in turn.
"""

import argparse
import sys

from zoo.cli._data import (
    add_data_options,
    check_out,
    check_rerank,
    compared,
    contenders_of,
    print_found,
    questions_of,
    write_out,
)
from zoo.cli._shared import add_device, add_pair_options, check_output, existing, refuse_pair_options
from zoo.errors import ZooError

EXAMPLES = (
    "zoo compare zoo-mini clip-vit-b32-laion2b --data pairs.csv",
    "zoo compare zoo-mini zoo-mini@dim=64 siglip2-vit-b16-256 --data photos/ --html page.html",
    "zoo compare zoo-mini ./runs/mine --data test.csv --budget 'ms=20,mb=900,license=commercial,languages=en'",
    "zoo compare zoo-mini all-minilm-l6-v2 --data questions.csv --rerank qwen3vl-reranker-2b --no-speed   # each with and without",
    "zoo compare zoo-mini zoo-omni --tasks photos,emoji --no-speed --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo compare`."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="a name, ./FOLDER, hf:ORG/REPO; or NAME@dim=64 and the like"
    )
    add_data_options(parser)
    parser.add_argument("--tasks", metavar="A,B,…", help="data packs: photos, emoji, symbols, composed, regions")
    parser.add_argument(
        "--budget",
        metavar="LIMITS",
        help="'ms=20,mb=500,license=commercial,languages=de+fr': which model to take within it; also size, params, rate, dim",
    )
    parser.add_argument("--html", type=existing, metavar="FILE", help="write the page: one file, everything inside")
    parser.add_argument("--no-speed", action="store_true", help="leave speed and memory out")
    parser.add_argument("--split", metavar="S", help="of the data (default: test, else validation, else all)")
    parser.add_argument("--out", type=existing, metavar="DIR", help="the results, a JSON file for each model")
    add_device(parser, "or the data as if it had not this column; ")
    add_pair_options(parser)
    parser.add_argument("--max-bad", metavar="N|P%", help="fail where more rows cannot be measured")
    parser.add_argument(
        "--cache",
        type=existing,
        metavar="DIR",
        help="where vectors are kept (default: ~/.cache/embedding-zoo)",
    )
    parser.add_argument("--again", action="store_true", help="embed even what is kept")
    parser.add_argument("--json", action="store_true", help="everything for machines on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Compares; status 2 for an error, 0 even where some models cannot read the data."""
    from zoo.comparing.budget import Budget
    from zoo.comparing.measuring import with_costs

    if not (arguments.data or arguments.tasks):
        raise ZooError(
            "zoo compare needs data: zoo compare zoo-mini zoo-omni --data pairs.csv, or --tasks photos,emoji"
        )
    if not arguments.data:
        refuse_pair_options(arguments, "the data, and there is none: say --data", "max_bad")
    check_rerank(arguments)
    budget = Budget.parse(arguments.budget)
    if arguments.no_speed and (told := [name for name in ("ms", "rate", "mb") if getattr(budget, name) is not None]):
        raise ZooError(f"--budget {told[0]}=… needs the speed to be measured; leave --no-speed out")
    named = contenders_of(arguments.models)
    check_output(arguments.html)
    check_out(arguments.out, several=True)
    packs = [name.strip() for name in (arguments.tasks or "").split(",") if name.strip()]
    questions = questions_of(arguments, packs)
    found = compared(arguments, named, questions, packs)
    if not arguments.no_speed:
        found = with_costs(
            found, named, arguments.device, say=lambda message: print(message, file=sys.stderr, flush=True)
        )
    write_out(arguments.out, found, several=True)
    if arguments.html is not None:
        try:
            found.write_html(arguments.html)
        except OSError as error:
            raise ZooError(f"cannot write {arguments.html}: {error.strerror or error}") from error
    print_found(found, arguments.json)
    return 0
