"""Embed a folder, a text file or a table into a folder of vectors.

SOURCE is one of: a folder (every file below it that the model reads: images, videos, audio, PDFs page by page, and text files if the
model reads several media); a .txt file with one text per line; a table as `zoo train` reads it (.csv, .tsv, .jsonl, .parquet or .tar,
also with .gz or .zst; a glob, or a folder of such files, partitioned or not); hf:ORG/NAME; or pack:NAME. What a column holds is
inferred from its name, as in training (text, caption, query, image, file_name, query_image, …); --column chooses. Relative paths start at the
table. All other columns are kept, and `zoo search --where` filters by them.

With --regions an image gets one vector per region instead of one for the whole. "grid" takes the image and nine overlapping halves of
it, "grid:3" another 49 quarters. "owl" finds objects with OWLv2 and "sam2" outlines with SAM 2.1; their weights come from the Hub, or from a
folder (owl:FOLDER). A .json file lists the regions itself: {"photo.jpg": [[x0, y0, x1, y1], …]}, or in COCO's format. Invalid
regions are listed with a reason. A column `regions`, `box` or `mask` beside a table's images is followed too. `zoo
search` then returns places: a file and a box in it.

PDFs get one vector per page, read as an image (one for all pages with --per document). With --per second or --per frame, videos and audio get one
vector per moment; with both, frames of videos and seconds of audio. `zoo search` then returns pages and moments.

In a folder of several kinds, the kind of a file is read from its content, never from its name, and is kept in the column `kind` (`zoo search
--kind audio`). Files that the model does not read are counted by kind. Silent recordings are embedded and reported.

If the command is stopped, even killed, run it again: it continues where it stopped. Inputs that cannot be embedded, missing files and empty
cells among them, are listed in quarantine.jsonl with the reason.

With --watch it goes on: what is added to SOURCE, changed or removed is embedded, embedded again or let go of as soon as it is at rest, by
the model that is open. A source that is empty or not mounted removes nothing. Ctrl-C ends it, with everything saved.

Run again later, the command embeds new and changed inputs only. Files that were moved, renamed or touched are recognised by their content.
Vectors of deleted inputs stay unless --update removes them. --force also looks into files whose name, size and time have not changed. Until a
run is complete, searches use the vectors from before it.
"""

import argparse
import sys
import time
from typing import TYPE_CHECKING

from zoo.cli._regions import add_rule_option
from zoo.cli._shared import (
    above_zero,
    add_backend,
    add_model_options,
    add_pixels,
    add_reading_options,
    add_task_option,
    add_vector_options,
    check_folder,
    existing,
    positive,
    print_json,
    separator,
    source,
)
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.bulk import BulkReport

EXAMPLES = (
    "zoo embed ~/Pictures --out vectors/",
    "zoo embed ~/Stuff --out vectors/ --model zoo-omni   # images, videos, audio, PDFs and texts, in one space",
    "zoo embed ~/Stuff --kind video --kind audio --per second --seconds 5 --out moments/ --model zoo-omni",
    "zoo embed ~/Videos --kind video --out vectors/ --model qwen3vl-embedding-2b",
    "zoo embed ~/Papers --out vectors/                     # PDFs: a vector for each page",
    "zoo embed ~/Videos --kind video --per frame --fps 0.5 --out moments/   # a frame each two seconds, as images",
    "zoo embed captions.csv --out vectors/ --model bge-small-en-v1.5",
    "zoo embed products.parquet --column photo --kind image --out vectors/",
    "zoo embed products.csv --column image+title --out vectors/     # one vector of both",
    "zoo embed clips.csv --column video=clip+text=title --out vectors/   # the same, where names do not say what they hold",
    "zoo embed ~/Pictures --regions grid --out places/      # ten boxes of each image, to find things in images",
    "zoo embed ~/Pictures --regions boxes.json --out places/ --region dense",
    "zoo embed hf:org/name --split test --column image --out vectors/",
    "zoo embed ~/Pictures --out vectors/ --max-bad 1%       # stop if more are unreadable",
    "zoo embed ~/Pictures --out vectors/                    # again: embeds what is new or has changed",
    "zoo embed ~/Pictures --out vectors/ --watch            # and goes on as images come and go",
    "zoo embed ~/Pictures --out vectors/ --update           # and vectors of deleted images go",
    'zoo search vectors/ "a red motorbike"',
)
_NAMED = 5  # silent recordings
# Seconds between lines of progress where there is no terminal for a bar.
EVERY = 10.0
WATCH_EVERY = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo embed`."""
    parser.add_argument("source", metavar="SOURCE", help="a folder, a .txt file, a table, hf:ORG/NAME or pack:NAME")
    parser.add_argument("--out", required=True, type=existing, metavar="DIR", help="where the vectors go")
    add_model_options(parser, more="or this column of the table; ")
    parser.add_argument(
        "--devices",
        metavar="D,D",
        help="several in place of --device, a process each: cuda:0,cuda:1, or all for every GPU",
    )
    add_backend(parser)
    add_pixels(parser)
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="C",
        help="the column to embed (default: found by its name); several, or A+B, are one item; image=A+text=B says what they hold",
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=("text", "image", "video", "audio", "document"),
        help="what the column holds, if its name does not say it; of a folder which files are embedded (default: all that the "
        "model reads; repeat)",
    )
    parser.add_argument("--split", metavar="S", help="rows of this split only: train, val, test (default: all)")
    parser.add_argument(
        "--regions",
        metavar="HOW",
        help="of images: a vector for each region, by grid, grid:LEVELS, owl, sam2 or FILE.json (default: one of the whole image)",
    )
    add_rule_option(parser)
    parser.add_argument(
        "--per",
        action="append",
        choices=("page", "document", "second", "frame"),
        help="a vector for each page of a PDF (default) or for the whole document; for each second or frame of a video, each "
        "second of audio (default: one for the whole); repeat",
    )
    parser.add_argument(
        "--seconds", type=above_zero, metavar="S", help="with --per second: length of a segment (default: 1)"
    )
    parser.add_argument("--hop", type=above_zero, metavar="S", help="from one segment to the next (default: --seconds)")
    parser.add_argument("--fps", type=above_zero, metavar="N", help="with --per frame: frames per second (default: 1)")
    add_reading_options(parser)
    add_vector_options(parser)
    add_task_option(parser, "document")
    parser.add_argument("--max-bad", metavar="N|P%", help="stop after more bad inputs than this (default: never)")
    parser.add_argument(
        "--shard-size", type=positive, default=4096, metavar="N", help="inputs in a file (default: 4096)"
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="remove vectors whose inputs are no longer in SOURCE (default: they stay)",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=above_zero,
        const=WATCH_EVERY,
        metavar="SECONDS",
        help=f"go on until Ctrl-C: look at SOURCE so often (default: {WATCH_EVERY:g}) and embed what has changed, as --update",
    )
    parser.add_argument(
        "--force", action="store_true", help="also look into inputs whose name, size and time have not changed"
    )
    parser.add_argument(
        "--undelete",
        action="store_true",
        help="embed again what `zoo index delete` has deleted (default: it stays deleted)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="a report for machines on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Embeds; on Ctrl-C says what is saved."""
    from zoo.bulk import embed_dataset
    from zoo.bulk.watching import watch

    model = source(arguments.model)
    _check_watched(arguments)
    check_folder(arguments.out)

    def embed() -> "BulkReport":
        return embed_dataset(
            model,
            arguments.source,
            arguments.out,
            prompt=arguments.prompt,
            prompt_name=arguments.prompt_name,
            column=arguments.column or None,
            kind=arguments.kind,
            dim=arguments.dim,
            precision=arguments.precision,
            batch_size=arguments.batch_size,
            shard_size=arguments.shard_size,
            max_bad=arguments.max_bad,
            update=arguments.update or arguments.watch is not None,
            force=arguments.force,
            undelete=arguments.undelete,
            device=arguments.device,
            devices=arguments.devices,
            backend=arguments.model_backend,
            pixels=arguments.pixels,
            ignore=arguments.ignore,
            split=arguments.split,
            root=arguments.root,
            as_text=arguments.as_text,
            encoding=arguments.encoding,
            separator=separator(arguments),
            allow_outside=arguments.allow_outside,
            regions=arguments.regions,
            region=arguments.region,
            per=arguments.per,
            seconds=arguments.seconds,
            hop=arguments.hop,
            fps=arguments.fps,
            against=arguments.against,
            task=arguments.task,
            truncation=arguments.truncation,
            say=None if arguments.quiet or arguments.json else _say,
            progress=_progress(arguments.quiet),
        )

    def tell(report: "BulkReport") -> None:
        if arguments.json:
            facts = {**vars(report), "new": report.new, "folder": str(report.folder), "reasons": dict(report.reasons)}
            print_json(facts)
        else:
            _summarise(report)

    try:
        if arguments.watch is None:
            tell(embed())
        else:
            watch(embed, arguments.source, arguments.out, every=arguments.watch, say=_say, told=tell)
    except KeyboardInterrupt:
        _say_what_is_saved(arguments.out)
        raise
    return 0


def _check_watched(arguments: argparse.Namespace) -> None:
    """Raises ZooError for what is of one run alone."""
    if arguments.watch is None:
        return
    if arguments.undelete:
        raise ZooError(
            "--undelete is of one run, and --watch would bring back all that is deleted later; run it once before"
        )
    if arguments.devices is not None:
        raise ZooError("--devices is of one run of many inputs; leave it out beside --watch, or run it once before")


def _say(note: str) -> None:
    print(note, file=sys.stderr, flush=True)


def _progress(quiet: bool):  # -> bool | zoo.bulk.run.Progress
    if quiet or sys.stderr.isatty():
        return not quiet
    last = [time.monotonic()]

    def line(done: int, total: int) -> None:
        if time.monotonic() - last[0] >= EVERY:
            last[0] = time.monotonic()
            print(f"{done:,} of {total:,} inputs", file=sys.stderr, flush=True)

    return line


def _say_what_is_saved(folder: object) -> None:
    from zoo.shards.folder import ShardFolder

    manifest = ShardFolder(str(folder)).manifest()
    saved = (manifest.get("building") or manifest["counts"])["inputs"] if manifest else 0
    print(f"\n{saved:,} inputs are saved in {folder}; the same command goes on from there", file=sys.stderr)


def _summarise(report) -> None:  # of a BulkReport
    from zoo.bulk.kinds import PLURALS

    rate = f", {report.new / report.seconds:,.0f}/s" if report.seconds > 1 and report.new else ""
    print(f"{report.folder}: {report.vectors:,} vectors in {report.seconds:.1f} s{rate}")
    if report.added < report.vectors or report.removed or report.deleted:
        print(", ".join(f"{count:,} {what}" for what, count in _done(report).items() if count))
    if report.bad:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in report.reasons.most_common())
        print(f"{report.bad:,} inputs could not be embedded ({reasons}): see {report.folder / 'quarantine.jsonl'}")
    if report.kinds:
        print("of " + ", ".join(f"{report.kinds[kind]:,} {kind}" for kind in PLURALS if report.kinds[kind]))
    if report.silent:
        more = f" and {report.silent - _NAMED:,} more" if report.silent > _NAMED else ""
        print(f"silence, whose vectors say nothing: {', '.join(report.silences[:_NAMED])}{more}")
    unread = {kind: count for kind, count in report.ignored.items() if kind in PLURALS}
    if unread:
        listed = ", ".join(f"{count:,} {PLURALS[kind]}" for kind, count in unread.items())
        media = [kind for kind in unread if kind not in ("text", "document")]  # texts and pages many models read
        models = f"; zoo list --modality {media[0]} names models that read {PLURALS[media[0]]}" if media else ""
        print(f"not embedded, being of other kinds: {listed} (--kind chooses{models})")
    if others := {kind: count for kind, count in report.ignored.items() if kind not in PLURALS}:
        print("ignored: " + ", ".join(f"{count:,} {kind}" for kind, count in others.items()))
    print(f'next: zoo search {report.folder} "what you are looking for"')


def _done(report) -> dict[str, int]:  # of a BulkReport
    """What was done with how many vectors, in words."""
    return {
        "added": report.added,
        "changed and embedded again": report.changed,
        "moved or touched, not embedded again": report.moved,
        "unchanged": report.unchanged,
        "kept of inputs that have vanished (--update lets them go)": report.kept,
        "removed": report.removed,
        "deleted before, and not embedded again (--undelete does)": report.deleted,
    }
