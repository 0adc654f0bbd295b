"""`zoo eval --data` and `zoo compare`: data of one's own, read in one way, and asked of one model or several."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._rerank import NAMES, TOP, open_reranker
from zoo.cli._shared import check_folder, check_output, positive, print_json, source, waiting
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.comparing import Comparison
    from zoo.comparing.contenders import Contender
    from zoo.comparing.measuring import Asked
    from zoo.comparing.vectors import VectorCache


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """`--data`, and what is of it alone."""
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[NAME=]SOURCE",
        help="data of your own: a .csv, .tsv, .jsonl, .parquet or .tar file, a folder, hf:ORG/NAME, pack:NAME; repeat",
    )
    parser.add_argument(
        "--class-prompt",
        default="{}",
        metavar="TEXT",
        help="how the name of a class is put to the model: 'a photo of a {}'",
    )
    parser.add_argument(
        "--cache-size",
        type=positive,
        metavar="MB",
        help="what the vectors that are kept may take on disk (default: 4096)",
    )
    parser.add_argument(
        "--rerank",
        metavar="NAME",
        help=f"of --data that is retrieval, and of mteb's tasks: tell every model with its first results reranked, too: {NAMES}",
    )
    parser.add_argument("--rerank-top", type=positive, metavar="N", help=f"how many results it reads (default: {TOP})")


def check_rerank(arguments: argparse.Namespace) -> None:
    """Raises ZooError for options of reranking that there is nothing for; before anything is read."""
    if arguments.rerank_top is not None and not arguments.rerank:
        raise ZooError("--rerank-top is of --rerank NAME; give that too, or leave it out")
    of_tasks = (
        getattr(arguments, "tasks", None) and len(arguments.models) == 1 and not getattr(arguments, "pairs", None)
    )
    if arguments.rerank and not arguments.data and not of_tasks:
        raise ZooError(
            "--rerank is of --data SOURCE (a table, a folder, hf:ORG/NAME, pack:NAME), or of mteb's --tasks of one model; give that, "
            "or leave it out"
        )
    if arguments.rerank and getattr(arguments, "budget", None):
        raise ZooError(
            "--budget is of one model, and a reranker beside it costs more than is measured; leave one of them out"
        )


def contenders_of(names: Sequence[str]) -> "list[Contender]":
    """The models of a command; a name of no model and a folder that is not there are told before anything is read.

    Raises:
        ArgumentError, UnknownModelError: see `zoo.comparing.contenders`. ZooError: no such folder.
    """
    from dataclasses import replace

    from zoo.comparing.contenders import contenders

    return [replace(one, source=source(str(one.source))) for one in contenders(names)]


def questions_of(arguments: argparse.Namespace, packs: Sequence[str] = ()) -> "list[Asked]":
    """What `--data` and some packs ask; says on stderr how columns were understood.

    Raises:
        ZooError: `--max-bad` is exceeded. Besides what `read_questions` raises.
    """
    from zoo.cli._pairs import check_bad, check_columns, options_of, reading_words
    from zoo.comparing import read_questions
    from zoo.comparing.measuring import shown_source
    from zoo.comparing.packs import PackQuestion

    check_columns(arguments, arguments.data)
    found: list[Asked] = [PackQuestion.of(name, arguments.split) for name in packs]
    for one in arguments.data:
        words = ["--data", shown_source(one), *reading_words(arguments)]
        words += [] if arguments.class_prompt == "{}" else ["--class-prompt", arguments.class_prompt]
        with waiting(f"reading {one}"):
            asked = read_questions(one, options_of(arguments, one), class_prompt=arguments.class_prompt, words=words)
        told = asked[0].source
        for schema in told.table.schemas if told.table is not None else ():
            print(schema, file=sys.stderr)
        check_bad(len(told.bad), told.rows, arguments.max_bad)
        found += asked
    return found


def words_of(arguments: argparse.Namespace, packs: Sequence[str]) -> list[str]:
    """The command that compares again, after the names of the models."""
    from zoo.cli._pairs import reading_words
    from zoo.comparing.measuring import shown_source

    words = ["--tasks", ",".join(packs)] if packs else []
    words += [word for one in arguments.data for word in ("--data", shown_source(one))] + reading_words(arguments)
    words += [] if arguments.class_prompt == "{}" else ["--class-prompt", arguments.class_prompt]
    return words + (["--budget", arguments.budget] if getattr(arguments, "budget", None) else [])


def cache_of(arguments: argparse.Namespace) -> "VectorCache":
    """Where vectors are kept."""
    from zoo.comparing.vectors import MOST, VectorCache

    most = MOST if arguments.cache_size is None else arguments.cache_size * 2**20
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedding-zoo"
    return VectorCache((arguments.cache or home) / "vectors", most, again=arguments.again)


def compared(
    arguments: argparse.Namespace, named: "Sequence[Contender]", questions: "Sequence[Asked]", packs: Sequence[str]
) -> "Comparison":
    """Measures models on questions.

    Raises:
        ZooError: see `zoo.comparing.measuring.run`; and where more rows could not be measured than `--max-bad` allows.
    """
    from zoo.cli._pairs import check_bad
    from zoo.comparing.budget import Budget
    from zoo.comparing.measuring import run, shown_source
    from zoo.comparing.reranked import Reranking, check_reranked
    from zoo.tables.ignoring import settings_to_ignore

    tables = [one.source.table for one in questions if one.source.table is not None]
    if arguments.rerank:
        check_reranked(questions)
    with settings_to_ignore(arguments.ignore, *tables) as settings:
        rerank = None
        if arguments.rerank:
            judge = open_reranker(arguments.rerank, arguments.device, settings)
            rerank = Reranking(judge, shown_source(arguments.rerank), arguments.rerank_top or TOP)
        found = run(
            named,
            questions,
            device=arguments.device,
            ignore=settings,
            cache=cache_of(arguments),
            budget=Budget.parse(getattr(arguments, "budget", None)),
            words=[*words_of(arguments, packs), *(rerank.words if rerank else ())],
            rerank=rerank,
            say=lambda message: print(message, file=sys.stderr, flush=True),
        )
    check_bad(len(found.bad), sum({id(one.source): one.source.rows for one in questions}.values()), arguments.max_bad)
    return found


def check_out(out: Path | None, several: bool) -> None:
    """Raises ZooError where results could not be written: of one model into a file, of several into a folder."""
    if not several:
        check_output(out)
    elif out is not None and (out.suffix == ".json" or out.is_file()):
        raise ZooError(f"--out {out}: of several models a folder is written, a file for each; name a folder")
    elif out is not None:
        check_folder(out)


def write_out(out: Path | None, found: "Comparison", several: bool) -> None:
    """Adds the figures of every model to its file."""
    from zoo.evaluation.results import write_results

    for entry in found.entries if out is not None else ():
        name = "".join(letter if letter.isalnum() or letter in "._-=@," else "-" for letter in entry.name)
        path = out / f"{name}.json" if several else out
        try:
            write_results(path, found.results(entry))
        except (OSError, ValueError) as error:
            raise ZooError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def print_found(found: "Comparison", as_json: bool, *, choose: bool = True) -> None:
    """The tables, or everything for machines; `choose`: and which model to take."""
    if as_json:
        print_json(_finite(found.to_dict()))
    else:
        print(found.table if choose else found.figures)


def _finite(value: Any) -> Any:
    """JSON has no NaN: a figure that is none is null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and value != value else value
