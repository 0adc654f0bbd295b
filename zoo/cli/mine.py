"""Find hard negatives for pairs: what a model takes for the answer and is not.

SOURCE holds pairs: a .csv, .tsv, .jsonl or .parquet file, a folder, shards, or hf:ORG/NAME, with columns such as
image,text or query,positive. The teacher ranks all positives for every query; the nearest that are not its own become
its negatives. What is as near as the answer itself is likely to be another answer: filters leave it out.

Start with --relative-margin 0.05 (keep what scores below 95 % of the positive), which is the default. Add --range 10 100
if the negatives shown at the end still look right, --max-score 0.7 if the teacher is weak, --keep-positive-rank 50 if
the pairs themselves are noisy. Pairs with one group, or with equal queries, are never each other's negatives.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._shared import (
    DEFAULT_MODEL,
    add_device,
    add_table_options,
    existing,
    integer,
    one_line,
    positive,
    print_json,
    print_table,
    real,
    separator,
    source,
    waiting,
)
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.items import Item

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
_WIDTH = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo mine`."""
    parser.add_argument("source", metavar="SOURCE", help="pairs: a file, a folder, shards, hf:ORG/NAME or pack:NAME")
    parser.add_argument("--out", required=True, type=existing, metavar="FILE", help="a .jsonl or .parquet file")
    parser.add_argument(
        "--teacher",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help=f"the model that ranks: a name of `zoo list`, or ./FOLDER (default: {DEFAULT_MODEL})",
    )
    parser.add_argument("--reranker", metavar="NAME", help="a cross-encoder of sentence-transformers that judges texts")
    add_device(parser, "or the pairs as if they had not this column; ")
    parser.add_argument(
        "--as-text",
        action="append",
        default=[],
        metavar="WORD",
        help="a text that looks like a missing one: nan, None, …",
    )
    add_table_options(parser)
    parser.add_argument("--corpus", type=existing, metavar="SOURCE", help="more candidates: .txt, a table, or pictures")
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
    filters.add_argument("--threshold", choices=("f1",), help="below the score that tells positives best from the rest")
    filters.add_argument("--keep-positive-rank", type=positive, metavar="K", help="drop pairs ranked lower than this")
    parser.add_argument("--sample", choices=("top", "random"), default="top", help="of what is left (default: top)")
    parser.add_argument("--seed", type=integer, default=0, metavar="N", help="of --sample random (default: 0)")
    parser.add_argument(
        "--too-few",
        choices=("keep", "drop", "repeat"),
        default="keep",
        help="pairs that get fewer negatives: keep, drop, or repeat theirs (default: keep)",
    )
    parser.add_argument("--cache", type=existing, metavar="DIR", help="keep the vectors here, and go on from them")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="a report for machines on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Mines and writes; status 1 if no pair is left."""
    from zoo.registry import load_model
    from zoo.tables import open_sources, write_pairs
    from zoo.tables.options import Options
    from zoo.training.mining import mine

    if arguments.out.suffix not in (".jsonl", ".parquet"):
        raise ZooError(f"--out {arguments.out} must end in .jsonl or .parquet")
    told = Options(
        split=arguments.split,
        ignore=tuple(arguments.ignore),
        as_text=tuple(arguments.as_text),
        encoding=arguments.encoding,
        separator=separator(arguments),
    )
    pairs = open_sources([arguments.source], told).check()
    for schema in pairs.schemas:
        if schema.unused:
            print(f"{schema.source}: not read, and not written: {', '.join(schema.unused)}", file=sys.stderr)
    columns = {column for schema in pairs.schemas for column in schema.ignored}
    settings = [key for key in arguments.ignore if key not in columns]
    with waiting(f"loading {arguments.teacher}"):
        teacher = load_model(source(arguments.teacher), device=arguments.device, ignore=settings)
    mined = mine(
        pairs,
        teacher,
        corpus=_corpus(arguments.corpus, teacher.spec.modalities) if arguments.corpus else (),
        reranker=_reranker(arguments.reranker, arguments.device) if arguments.reranker else None,
        cache=arguments.cache,
        progress=False if arguments.quiet else None,
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
    if len(mined):
        write_pairs(mined, arguments.out)
    if arguments.json:
        print_json({"out": str(arguments.out) if len(mined) else None, **vars(mined.report)})
    else:
        _summarise(mined, arguments)
    return 0 if len(mined) else 1


def _number_or_none(text: str) -> float | None:
    return None if text == "none" else real(text)


def _corpus(path: Path, modalities: frozenset[str]) -> "list[Item]":
    from zoo.bulk.sources import open_source
    from zoo.items import as_item

    return [as_item(r.value) for r in open_source(path, modalities=modalities).records() if r.error is None]


def _reranker(name: str, device: str | None) -> Any:
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


def _summarise(mined: Any, arguments: argparse.Namespace) -> None:  # of MinedPairs
    report = mined.report
    rows = [("candidates in the ranks", f"{report.candidates:,}", "")]
    left = report.candidates
    for name, count in report.removed.items():
        limits = ", ".join(f"{limit:.3f}" for limit in report.thresholds.values()) if name == "f1 threshold" else ""
        rows.append((f"- {name}{f' ({limits})' if limits else ''}", f"{count:,}", f"{count / max(1, left):.1%}"))
        left -= count
    rows.append(("left to choose from", f"{left:,}", f"{left / max(1, report.candidates):.1%}"))
    print_table(("filter", "candidates", "share"), rows, numbers=("candidates", "share"))
    print(
        f"mean score: {report.positive_mean:.3f} of the positives, {report.negative_mean:.3f} of the chosen negatives"
    )
    if report.far_positives:
        print(f"{report.far_positives:,} pairs dropped: their positive is not among the best of the ranking")
    if report.too_few:
        print(
            f"{report.too_few:,} pairs got fewer than {arguments.negatives} negatives: widen --range or relax a filter"
        )
    for place, reason in report.bad[:5]:
        print(f"left out: {place}: {reason}", file=sys.stderr)
    if len(report.bad) > 5:
        print(f"and {len(report.bad) - 5:,} more", file=sys.stderr)
    if not len(mined):
        print("no pair is left; nothing was written", file=sys.stderr)
        return
    for place in range(0, len(mined), max(1, -(-len(mined) // _SHOWN))):
        _show(mined[place])
    print(f"\n{arguments.out}: {report.kept:,} of {report.pairs:,} pairs")
    print(f"next: zoo train {arguments.out} --model {arguments.teacher} --out runs/mine")


def _show(pair: Any) -> None:
    print(f"\n{_described(pair.query)}")
    scores = [f"{score:.2f}" for score in pair.teacher_scores]
    print(f"  + {scores[0]}  {_described(pair.positive)}")
    for score, item in zip(scores[1:], pair.negatives, strict=True):
        print(f"  - {score}  {_described(item)}")


def _described(item: "Item") -> str:
    parts = [one_line(item.text)] if item.text is not None else []
    for kind in ("image", "video", "audio"):
        value = getattr(item, kind)
        if isinstance(value, bytes):
            parts.append(f"[{kind}, {len(value):,} bytes]")
        elif value is not None:
            parts.append(str(value.name) if isinstance(value, Path) else f"[{kind}]")
    text = " + ".join(parts)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
