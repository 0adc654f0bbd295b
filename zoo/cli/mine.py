"""Find hard negatives for pairs: close to the answer, and wrong.

SOURCE holds pairs: a .csv, .tsv, .jsonl or .parquet file, a folder, shards, or hf:ORG/NAME, with columns such as
image,text or query,positive. The teacher ranks all positives for every query; the nearest ones that are not its own become
its negatives. A candidate as near as the answer itself is probably another right answer: filters leave it out.

Start with --relative-margin 0.05 (keep what scores below 95 % of the positive), the default. Add --range 10 100
if the negatives shown at the end still look right, --max-score 0.7 if the teacher is weak, --keep-positive-rank 50 if
the pairs themselves are noisy. Pairs of the same group, or with equal queries, are never each other's negatives.
"""

import argparse
import json
import math
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._shared import (
    DEFAULT_MODEL,
    add_device,
    add_like,
    add_pair_options,
    described,
    existing,
    integer,
    positive,
    print_json,
    print_table,
    reading,
    real,
    source,
    waiting,
)
from zoo.errors import ZooError
from zoo.strangers.folders import Place

if TYPE_CHECKING:
    from zoo.bulk.sources import Opened
    from zoo.inputs.item import Item
    from zoo.tables.options import Options
    from zoo.tables.schema import Schema

EXAMPLES = (
    "zoo mine pairs.csv --out mined.jsonl",
    "zoo mine pairs.csv --teacher zoo-mini --negatives 5 --relative-margin 0.05 --range 10 100 --out mined.jsonl",
    "zoo mine pairs.parquet --teacher bge-small-en-v1.5 --corpus passages.txt --out mined.parquet",
    "zoo mine noisy.csv --keep-positive-rank 50 --range 50 100 --sample random --negatives 7 --out mined.jsonl",
    "zoo mine pairs.csv --threshold f1 --relative-margin none --out mined.jsonl    # one threshold a data set",
    "zoo mine pairs.csv --cache vectors/ --out mined.jsonl     # stopped? the same command goes on",
    "zoo train mined.jsonl --model zoo-mini --out runs/mine",
)
_SHOWN = 3  # examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo mine`."""
    parser.add_argument("source", metavar="SOURCE", help="pairs: a file, a folder, shards, hf:ORG/NAME or pack:NAME")
    parser.add_argument(
        "--out", required=True, type=existing, metavar="FILE", help="a .csv, .tsv, .jsonl or .parquet file"
    )
    parser.add_argument(
        "--teacher",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help=f"the model that ranks: a name of `zoo list`, or ./FOLDER (default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--reranker",
        metavar="NAME",
        help="scores what the teacher ranks: a name of `zoo list --rerankers`, or a cross-encoder of sentence-transformers (texts)",
    )
    add_like(parser, "teacher")
    add_device(parser, "or this column of the pairs; ")
    add_pair_options(parser)
    parser.add_argument("--corpus", type=existing, metavar="SOURCE", help="more candidates: .txt, a table, or images")
    parser.add_argument("--split", default="train", metavar="S", help="of a column split, a Hub data set or a pack")
    parser.add_argument("--negatives", type=positive, default=5, metavar="N", help="of every pair (default: 5)")
    filters = parser.add_argument_group("which candidates count")
    filters.add_argument(
        "--range", nargs=2, type=integer, default=(0, 100), metavar=("FROM", "TO"), help="ranks (default: 0 100)"
    )
    filters.add_argument(
        "--relative-margin",
        type=_number_or_none,
        default=0.05,
        metavar="X",
        help="at least this share below the positive's score (default: 0.05; none: no such filter)",
    )
    filters.add_argument("--margin", type=real, metavar="X", help="at least this far below the positive's score")
    filters.add_argument(
        "--adaptive",
        nargs=2,
        type=real,
        metavar=("LOW", "HIGH"),
        help="a relative margin between these, wider where the candidates' scores are spread",
    )
    filters.add_argument("--max-score", type=real, metavar="X", help="at most this score")
    filters.add_argument("--min-score", type=real, metavar="X", help="at least this score")
    filters.add_argument(
        "--threshold", choices=("f1",), help="below the score that best separates positives from the rest"
    )
    filters.add_argument("--keep-positive-rank", type=positive, metavar="K", help="drop pairs ranked lower than this")
    parser.add_argument("--sample", choices=("top", "random"), default="top", help="of what is left (default: top)")
    parser.add_argument("--seed", type=integer, default=0, metavar="N", help="seed of --sample random (default: 0)")
    parser.add_argument(
        "--too-few",
        choices=("keep", "drop", "repeat"),
        default="keep",
        help="pairs that get fewer negatives: keep, drop, or repeat theirs (default: keep)",
    )
    parser.add_argument(
        "--max-bad",
        default="1%",
        metavar="N|P%",
        help="number or share of inputs that may be broken, empty, missing or unreadable; they are left out (default: 1%%)",
    )
    parser.add_argument("--cache", type=existing, metavar="DIR", help="keep the vectors here, and go on from them")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="a report for machines on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Mines and writes; status 1 if no pair is left."""
    from zoo.loading import load_model
    from zoo.tables import open_sources, write_pairs
    from zoo.tables.ignoring import settings_to_ignore
    from zoo.tables.options import check_format
    from zoo.tables.writing import check_writable
    from zoo.training.dataloader import sample_of
    from zoo.training.mining import mine
    from zoo.training.rows import set_aside

    _check_out(arguments.out)
    name = source(arguments.teacher)
    told = reading(arguments)
    table = open_sources([arguments.source], told)
    corpus = _corpus(arguments.corpus, told) if arguments.corpus else None
    check_format(told, table, *([corpus] if corpus is not None else []))
    for schema in table.schemas:
        _say_lost(schema)
    pairs = set_aside(table, arguments.max_bad, progress=False if arguments.quiet else None)
    check_writable(sample_of(pairs), arguments.out)
    with settings_to_ignore(arguments.ignore, table) as settings:
        with waiting(f"loading {arguments.teacher}"):
            teacher = load_model(name, device=arguments.device, ignore=settings)
        reranker = _reranker(arguments.reranker, arguments.device, settings) if arguments.reranker else None
    mined = mine(
        pairs,
        teacher,
        corpus=_candidates(corpus, arguments.corpus, teacher.spec.modalities) if corpus is not None else (),
        reranker=reranker,
        cache=arguments.cache,
        progress=False if arguments.quiet else None,
        max_bad=arguments.max_bad,
        negatives=arguments.negatives,
        ranks=tuple(arguments.range),
        margin=arguments.margin,
        relative_margin=arguments.relative_margin,
        adaptive=tuple(arguments.adaptive) if arguments.adaptive else None,
        max_score=arguments.max_score,
        min_score=arguments.min_score,
        threshold=arguments.threshold,
        keep_positive_rank=arguments.keep_positive_rank,
        sampling=arguments.sample,
        too_few=arguments.too_few,
        seed=arguments.seed,
    )
    skipped = None
    if len(mined):
        write_pairs(mined, arguments.out)
        skipped = _list_skipped(mined.report.bad, arguments.out)
    if arguments.json:
        facts = {name: _finite(value) for name, value in vars(mined.report).items()}
        print_json({"out": str(arguments.out) if len(mined) else None, "skipped": skipped and str(skipped), **facts})
    else:
        _summarise(mined, arguments, skipped, _next(arguments, settings))
    return 0 if len(mined) else 1


def _check_out(out: Path) -> None:
    """Raises before any work where the file cannot be written."""
    from zoo.errors import TableError
    from zoo.tables.writing import check_ending

    try:
        check_ending(out)
    except TableError as error:
        raise ZooError(f"--out {error}") from None
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ZooError(f"--out {out}: {'it is a folder' if out.is_dir() else f'{folder} cannot be written into'}")


def _say_lost(schema: "Schema") -> None:
    """What of the source is in no column of the written file, and what is replaced."""
    if schema.score is not None:
        raise ZooError(
            f"{schema.source}: column {schema.score} grades the pairs (0: not alike), and a miner takes each positive for an "
            f"answer. Keep the rows whose pairs are right; where all are, leave it out: --ignore {schema.score}"
        )
    lost = [*schema.unused, *([schema.split] if schema.split is not None else [])]
    if lost:
        print(f"{schema.source}: not read, and not written: {', '.join(lost)}", file=sys.stderr)
    replaced = [part.column for parts in schema.negatives for part in parts]
    replaced += [schema.teacher_scores] if schema.teacher_scores is not None else []
    if replaced:
        names = ", ".join(dict.fromkeys(replaced))
        print(f"{schema.source}: candidates as all others are, and replaced by what is mined: {names}", file=sys.stderr)


def _list_skipped(bad: list[tuple[str, str]], out: Path) -> Path | None:
    """Writes what was left out beside the pairs; its ending is of no table, so that a folder is read without it."""
    path = out.with_name(f"{out.name}.skipped")
    path.unlink(missing_ok=True)
    if not bad:
        return None
    lines = [json.dumps({"pair": place, "reason": reason}, ensure_ascii=False) + "\n" for place, reason in bad]
    (Place.of(path.parent) / path.name).write("".join(lines).encode())
    return path


def _finite(value: Any) -> Any:
    """NaN, which is no JSON, as null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _next(arguments: argparse.Namespace, settings: list[str]) -> str:
    """The command that trains the teacher on the mined pairs, into a folder that is free."""
    out, number = Path("runs/mine"), 1
    while out.exists():
        number += 1
        out = Path(f"runs/mine-{number}")
    words = ["zoo", "train", str(arguments.out), "--model", arguments.teacher, "--out", str(out)]
    for option, values in (("--ignore", settings), ("--as-text", arguments.as_text)):
        words += [word for value in values for word in (option, value)]
    words += ["--device", arguments.device] if arguments.device else []
    return shlex.join(words)


def _number_or_none(text: str) -> float | None:
    return None if text == "none" else real(text)


def _corpus(place: Path, told: "Options") -> "Opened":
    """The further candidates, opened; what is said of the pairs' columns and paths is not of them."""
    from zoo.bulk.opening import prepare

    return prepare(place, replace(told, columns=None, split=None, root=None, ignore=()))


def _candidates(corpus: "Opened", place: Path, modalities: frozenset[str]) -> "list[Item]":
    """What is in it, without the rows that cannot be read, which are named."""
    from zoo.inputs.item import as_item

    records = list(corpus.choose([], None, modalities).records())
    if bad := [record.error for record in records if record.error is not None]:
        print(f"{place}: {len(bad):,} of {len(records):,} rows are left out; the first: {bad[0]}", file=sys.stderr)
    return [as_item(record.value) for record in records if record.error is None]


def _reranker(name: str, device: str | None, ignore: list[str]) -> Any:
    """A reranker of the zoo, or a cross-encoder that sentence-transformers fetches by ORG/NAME, which reads texts."""
    if _is_ours(name):
        from zoo.cli._rerank import open_reranker

        return open_reranker(name, device, ignore)
    try:
        from sentence_transformers import CrossEncoder
    except ImportError as error:
        raise ZooError("--reranker needs sentence-transformers: pip install sentence-transformers") from error
    from zoo.arguments import device as device_here

    place = str(device_here("--device", device)) if device else None
    try:
        return CrossEncoder(name, device=place)
    except (OSError, ValueError) as error:
        raise ZooError(f"--reranker {name}: {error}") from error


def _is_ours(name: str) -> bool:
    """Whether a NAME is of a reranker of the zoo: registered, hf:, "… like NAME", or a folder.

    Raises:
        UnknownModelError: it is nothing, with the nearest names. ORG/NAME is sentence-transformers'.
    """
    from zoo.registry import LIKE
    from zoo.reranking import get_reranker_spec, is_reranker

    if is_reranker(name) or name.startswith("hf:") or LIKE in name:
        return True
    if Path(name).expanduser().is_dir():
        return True
    if "/" not in name:
        get_reranker_spec(name)
    return False


def _summarise(mined: Any, arguments: argparse.Namespace, skipped: Path | None, following: str) -> None:
    """A table of the filters, some pairs, and what to do next; `mined` are MinedPairs."""
    report = mined.report
    rows = [("candidates in the ranks", f"{report.candidates:,}", "")]
    left = report.candidates
    for name, count in report.removed.items():
        limits = ", ".join(f"{limit:.3f}" for limit in report.thresholds.values()) if name == "f1 threshold" else ""
        rows.append((f"- {name}{f' ({limits})' if limits else ''}", f"{count:,}", f"{count / max(1, left):.1%}"))
        left -= count
    rows.append(("left to choose from", f"{left:,}", f"{left / max(1, report.candidates):.1%}"))
    print_table(("filter", "candidates", "share"), rows, numbers=("candidates", "share"))
    means = {"positives": report.positive_mean, "chosen negatives": report.negative_mean}
    if told := [f"{mean:.3f} of the {what}" for what, mean in means.items() if not math.isnan(mean)]:
        print(f"mean score: {', '.join(told)}")
    if report.far_positives:
        print(f"{report.far_positives:,} pairs dropped: their positive is not among the best of the ranking")
    if report.too_few:
        none = f", {report.without:,} of them none" if report.without else ""
        print(
            f"{report.too_few:,} pairs got fewer than {arguments.negatives} negatives{none}: widen --range or relax a filter"
        )
    for place, reason in report.bad[:5]:
        print(f"left out: {place}: {reason}", file=sys.stderr)
    if len(report.bad) > 5:
        print(f"and {len(report.bad) - 5:,} more", file=sys.stderr)
    if skipped is not None:
        print(f"all that was left out is in {skipped}", file=sys.stderr)
    if not len(mined):
        print("no pair is left; nothing was written", file=sys.stderr)
        return
    for place in range(0, len(mined), max(1, -(-len(mined) // _SHOWN))):
        _show(mined[place])
    print(f"\n{arguments.out}: {report.kept:,} of {report.pairs:,} pairs")
    print(f"next: {following}")


def _show(pair: Any) -> None:
    print(f"\n{described(pair.query)}")
    scores = [f"{score:.2f}" for score in pair.teacher_scores]
    print(f"  + {scores[0]}  {described(pair.positive)}")
    for score, item in zip(scores[1:], pair.negatives, strict=True):
        print(f"  - {score}  {described(item)}")
