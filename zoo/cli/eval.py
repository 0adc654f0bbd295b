"""Measure models on data packs, mteb's tasks and your own data.

The results have the form that cards show.

TASKS are names of our data packs (photos, emoji, symbols, composed), of what is asked of them besides (paraphrases,
scar-regions), of tasks of mteb (NanoArguAnaRetrieval) or of its benchmarks ("ViDoRe(v2)"); `--list` shows all. Packs are read
from the folder in the environment variable ZOO_DATA; mteb's tasks load their data from the Hugging Face Hub once, and need
`pip install "embedding-zoo[eval]"`. A name that ends in .json is a task file, for a benchmark whose files are on this machine:
{"task": "scar", "data": "SCaR-eval", "images": "SCaR-eval/images"}.

--data takes data of your own, with the options of `zoo train`: what its columns say is measured, retrieval both ways, zero-shot
classification, changes of an image in words, graded pairs, pairs that are right or wrong, judged queries (`zoo compare --help` says which
columns). Several models are set side by side with paired differences; a model may be cut, shortened or of another revision:
NAME@dim=64. Vectors are kept, so that no model embeds the same thing twice. With --rerank retrieval is told twice, the second time with
the first results of every query in the order of a reranker, and the paired difference of the two. With --tasks it is of mteb's tasks of
one model that rank, in mteb's two stages; those figures are not remembered.

--pairs measures retrieval alone. It takes what `zoo train` takes (a .csv, .tsv, .jsonl, .parquet or .tar file, a folder, hf:ORG/NAME) with the same
options, and measures recall@1, 5 and 10, nDCG@10 and MRR both ways with 95 % intervals: on the test rows where there is a
column split, else on the validation rows, else on all.

--mixed takes all items of all --pairs as one gallery. Asked is with every item that has right answers of several kinds: by the rows of
its table, and of other kinds by a text or name that tables share. Recall@10 and nDCG@10 over all kinds, what share of the first ten
each kind has (share@10) against its share of the right answers (share), and how far the two are apart (apart@10: 0 to 1) are told for
plain scores, and for those that the model's calibration makes comparable (`zoo calibrate --write`; where it has not every pair, they are
measured on the validation rows, if the tables have others to ask with). The modality gap is the distance of the kinds' mean vectors.

What is measured on tasks is remembered for this model, by the fingerprint of its weights, preprocessing and prompts: stopped
at any moment, the same command goes on where it stopped. A task that cannot be measured is named with the reason, and
the others go on. What has no embedding, such as an empty text, counts as similar to nothing, and the results' notes
tell how much of it there was.
"""

import argparse
import os
import re
import sys
import time
from typing import TYPE_CHECKING

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
from zoo.cli._shared import (
    add_backend,
    add_device,
    add_like,
    add_pair_options,
    add_pixels,
    check_output,
    existing,
    print_json,
    print_table,
    refuse_pair_options,
    say_backend,
    source,
    waiting,
)

if TYPE_CHECKING:
    from zoo.evaluation.mteb_rerank import SecondStage

EXAMPLES = (
    "zoo eval zoo-mini --tasks photos,emoji,paraphrases",
    "zoo eval zoo-mini --tasks photos --split val --out results.json",
    "zoo eval bge-small-en-v1.5 --tasks NanoArguAnaRetrieval,STSBenchmark --out results.json",
    "zoo eval ./runs/mine --tasks 'ViDoRe(v2)' --device cuda",
    "zoo eval zoo-mini --tasks scar.json --out results.json",
    "zoo eval ./runs/mine --data test.csv --out results.json",
    "zoo eval zoo-mini --data questions.csv --rerank qwen3vl-reranker-2b --rerank-top 50   # with and without",
    "zoo eval zoo-mini zoo-mini@dim=64 ./runs/mine --data photos/ --class-prompt 'a photo of a {}' --out results/",
    "zoo eval ./runs/mine --pairs test.csv --out results.json",
    "zoo eval zoo-mini --pairs photos.csv --column query_image=photo --column positive_text=title --split val",
    "zoo eval ./omni --mixed --pairs pack:photos --pairs pack:audio --pairs pack:video   # one gallery: is every kind found?",
    "zoo eval --list 'ViDoRe*'",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo eval`."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="NAME",
        help="anything that load_model opens: a name, ./FOLDER, hf:ORG/REPO, NAME@dim=64",
    )
    parser.add_argument("--tasks", metavar="A,B,…", help="packs, tasks, benchmarks and task files, separated by commas")
    add_data_options(parser)
    parser.add_argument(
        "--pairs",
        action="append",
        default=[],
        metavar="[NAME=]SOURCE",
        help="a table of pairs, in place of or beside --tasks; repeat",
    )
    parser.add_argument(
        "--mixed",
        action="store_true",
        help="all items of --pairs as one gallery of several kinds (text, image, audio, …), in place of each table for itself",
    )
    parser.add_argument(
        "--list", nargs="?", const="*", metavar="PATTERN", help="what can be measured; measures nothing"
    )
    parser.add_argument("--split", metavar="S", help="of the data (default: test, or what the task of mteb names)")
    parser.add_argument(
        "--out",
        type=existing,
        metavar="FILE",
        help="JSON that the figures are added to, after each task; of several models a folder, with a file for each",
    )
    add_like(parser, "models")
    add_device(parser, "or this column of the pairs; ")
    add_backend(parser)
    add_pixels(parser)
    add_pair_options(parser)
    parser.add_argument("--max-bad", metavar="N|P%", help="fail if more rows of --pairs cannot be measured")
    parser.add_argument(
        "--cache", type=existing, metavar="DIR", help="what is remembered (default: $MTEB_CACHE, else ~/.cache/mteb)"
    )
    parser.add_argument("--again", action="store_true", help="measure even what is remembered")
    parser.add_argument("--json", action="store_true", help="the figures for machines on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Measures, task by task; status 2 if one of them gave no figure, 1 if `--list` finds nothing."""
    from zoo.errors import ZooError

    if arguments.list is not None:
        return _list(arguments.list, arguments.json)
    if not arguments.models or not (arguments.tasks or arguments.pairs or arguments.data):
        raise ZooError(
            "zoo eval needs a model and --tasks or --data: zoo eval zoo-mini --tasks photos (`zoo eval --list` shows all), "
            "zoo eval zoo-mini --data test.csv"
        )
    check_rerank(arguments)
    if not (arguments.pairs or arguments.data):
        refuse_pair_options(arguments, "the pairs, and there are none: say --pairs", "max_bad", "mixed")
    if arguments.data or len(arguments.models) > 1:
        return _measure_data(arguments)
    (shown,) = arguments.models
    name = source(shown)
    check_output(arguments.out)
    from zoo.cli._mixed import measure_mixed
    from zoo.cli._pairs import command_of, measure_pairs, read_all
    from zoo.evaluation.jobs import default_cache, measure
    from zoo.evaluation.results import write_results
    from zoo.evaluation.tasks import find_jobs
    from zoo.loading import load_model
    from zoo.tables.ignoring import settings_to_ignore

    os.environ.setdefault("TQDM_DISABLE", "" if sys.stderr.isatty() else "1")
    second = _second(arguments)
    with waiting("finding the tasks"):
        jobs = find_jobs(_names_in(arguments.tasks or ""), arguments.split, second)
    sides = read_all(arguments, arguments.pairs)
    tables = [one.pairs for one in sides]
    with waiting(f"loading {shown}"), settings_to_ignore(arguments.ignore, *tables) as settings:
        options = {"backend": arguments.model_backend, "pixels": arguments.pixels}
        model = load_model(name, device=arguments.device, ignore=settings, **options)
    say_backend(model, arguments.model_backend)
    shown, cache = _shown(shown), arguments.cache or default_cache()
    every, failed = [], 0
    for one, place in zip(sides, arguments.pairs, strict=True) if not arguments.mixed else ():
        every += measure_pairs(one, model, arguments.max_bad, command_of(arguments, shown, [place]))
    if arguments.mixed:
        every += measure_mixed(sides, model, arguments, command_of(arguments, shown, arguments.pairs))
    if every and arguments.out:
        _write(write_results, arguments.out, every)
    for number, job in enumerate(jobs, start=1):
        _say(f"{number} of {len(jobs)}: {job.name}")
        start = time.monotonic()
        try:
            results, remembered = measure(job, model, shown=shown, cache=cache, again=arguments.again)
        except ZooError as error:
            failed += 1
            _say(f"  no result: {error}")
            continue
        how = f"measured on {results[0].date}" if remembered else f"in {time.monotonic() - start:.1f} s"
        _say(f"  {len(results)} figures, {how}")
        every += results
        if arguments.out:
            _write(write_results, arguments.out, results)
    if arguments.json:
        from dataclasses import asdict

        print_json([asdict(result) for result in every])
    elif every:
        _print(every, {job.name for job in jobs} | {one.name for one in sides})
    if failed:
        _say(f"{failed} of {len(jobs)} tasks gave no result")
    return 2 if failed else 0


def _second(arguments: argparse.Namespace) -> "SecondStage | None":
    """The reranker of mteb's tasks; None without `--rerank`."""
    if not arguments.rerank:
        return None
    from zoo.cli._rerank import TOP, open_reranker
    from zoo.evaluation.mteb_rerank import SecondStage

    return SecondStage(
        open_reranker(arguments.rerank, arguments.device, arguments.ignore),
        _shown(arguments.rerank),
        arguments.rerank_top or TOP,
    )


def _measure_data(arguments: argparse.Namespace) -> int:
    """Data of one's own, of any number of models; and the packs, of several."""
    from dataclasses import asdict

    from zoo.comparing.packs import NAMES
    from zoo.errors import ZooError

    if arguments.pairs or arguments.mixed:
        raise ZooError("--pairs and --mixed are of one model, without --data; several models are compared by --data")
    packs = _names_in(arguments.tasks or "")
    if others := [name for name in packs if name not in NAMES]:
        raise ZooError(
            f"--tasks {others[0]}: beside --data, or of several models, {', '.join(NAMES)} are measured; other tasks one model at a time"
        )
    backend = None if arguments.model_backend == "torch" else arguments.model_backend
    options = {"backend": backend, "pixels": arguments.pixels}
    named, several = (
        [one.with_settings(**options) for one in contenders_of(arguments.models)],
        len(arguments.models) > 1,
    )
    check_out(arguments.out, several)
    found = compared(arguments, named, questions_of(arguments, packs), packs)
    write_out(arguments.out, found, several)
    if several or arguments.rerank or not arguments.json:
        print_found(found, arguments.json, choose=False)
    else:
        print_json([asdict(result) for result in found.results(found.entries[0])])
    return 0


def _names_in(text: str) -> list[str]:
    """The names of a comma-separated list; commas inside brackets belong to a name: "MTEB(eng, v2)"."""
    return list(dict.fromkeys(name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()))


def _print(results, named) -> None:  # of zoo.evaluation.results; what is called by the name of its data
    """A table of figures; the intervals where there are any."""
    rows = []
    for r in results:
        interval = "-" if r.low is None else f"{r.low:.4f} to {r.high:.4f}"
        name = r.dataset if r.dataset in named else r.task
        rows.append((name, r.part or "all", r.split, r.direction or "-", r.metric, f"{r.value:.4f}", interval))
    headers = ("task", "part", "split", "way", "metric", "value", "95 % interval")
    if all(row[-1] == "-" for row in rows):
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    print_table(headers, rows, numbers=("value",))


def _list(pattern: str, as_json: bool) -> int:
    from zoo.evaluation.tasks import known_tasks

    with waiting("reading mteb's tasks"):
        known = known_tasks(pattern)
    if as_json:
        print_json([one._asdict() for one in known])
    elif not known:
        print(f"nothing is called {pattern!r}; `zoo eval --list` shows all", file=sys.stderr)
    else:
        print_table(("name", "reads", "about"), known)
    return 0 if known else 1


def _shown(model: str) -> str:
    """How the command names the model: of a folder the last part only, so that results tell nothing of this machine."""
    import shlex
    from pathlib import Path

    is_folder = Path(model).expanduser().is_absolute()
    return shlex.quote(f"./{Path(model).expanduser().resolve().name}" if is_folder else model)


def _write(write, path, results) -> None:  # of zoo.evaluation.results
    from zoo.errors import ZooError

    try:
        write(path, results)
    except (OSError, ValueError) as error:
        raise ZooError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
