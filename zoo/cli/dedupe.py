"""Find images or texts that are the same, or nearly the same.

Nothing is deleted.

SOURCE is a folder of images, a table as `zoo embed` takes it, or a folder that `zoo embed` made, whose vectors are used as they are,
so that no model is loaded. A group begins with its first item in the order of SOURCE; the others are near it: "same" has
identical bytes or letters, "near" does not, "gone" can no longer be read.

--threshold is the cosine from which items count as near. The default, 0.95, was measured on small photos with zoo-mini: it finds 86 % of brightened
copies and 72 % of slightly cropped ones, but only a third of low-quality JPEGs and a twelfth of copies at half the size; 0.8 % of
photos have a different photo that near. At 0.9 the figures are 99, 96, 70 and 31 %, and 8 % have a different photo of the
same kind of thing that near. Models differ: check with --html.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from zoo.cli._shared import print_json, real
from zoo.cli._vectors import add_result_options, add_source_options, opened, print_rows, tell_bad, write_csv

if TYPE_CHECKING:
    from zoo.vectors import Copy, Group, Vectors

EXAMPLES = (
    "zoo dedupe ~/Pictures",
    "zoo dedupe ~/Pictures --html twice.html                # side by side",
    "zoo dedupe vectors/ --threshold 0.99 --csv twice.csv",
    "zoo dedupe captions.csv --column text --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo dedupe`."""
    parser.add_argument(
        "--threshold", type=real, metavar="X", help="cosine from which two items are near copies (default: 0.95)"
    )
    add_source_options(parser)
    add_result_options(parser, html="write a page with the images of each group side by side")


def run(arguments: argparse.Namespace) -> int:
    """Looks for groups; status 1 if there are none."""
    from zoo.vectors import check_threshold, find_duplicates

    check_threshold(arguments.threshold, "float32")
    with opened(arguments, model=False) as (vectors, _):
        with _bar(len(vectors)) as moved:
            groups = find_duplicates(vectors, arguments.threshold, progress=moved)
        _write(arguments, vectors, groups)
    return 0 if groups else 1


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar of what is compared, on a terminal where that takes its time."""
    from tqdm.auto import tqdm

    with tqdm(total=total, unit=" items", delay=2, disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:
        yield lambda done, _: bar.update(done - bar.n) and None


def kind_of(copy: "Copy") -> str:
    """One word for how a copy is like the first."""
    return {True: "same", False: "near", None: "gone"}[copy.same]


def _write(arguments: argparse.Namespace, vectors: "Vectors", groups: "list[Group]") -> None:
    places = vectors.places()
    rows = [
        row
        for number, group in enumerate(groups, start=1)
        for row in (
            (number, "first", 1.0, places[group.first]),
            *((number, kind_of(copy), copy.score, places[copy.position]) for copy in group.others),
        )
    ]
    if arguments.csv:
        told = [(number, kind, f"{score:.6f}", place) for number, kind, score, place in rows]
        write_csv(arguments.csv, ("group", "kind", "score", "path"), told)
    if arguments.html:
        _write_page(arguments, vectors, groups)
    if arguments.json:
        items = [dict(zip(("group", "kind", "score", "path"), row, strict=True)) for row in rows]
        print_json({"groups": len(groups), "items": items, "bad": vectors.bad})
    elif not arguments.csv and not arguments.html:
        shown = [(str(number), kind, f"{score:.3f}", place) for number, kind, score, place in rows]
        print_rows(("group", "kind", "score", "path"), shown, numbers=("group", "score"))
    tell_bad(vectors.bad)
    copies = [copy for group in groups for copy in group.others]
    same = sum(copy.same is True for copy in copies)
    print(
        f"{len(groups):,} groups: of {len(vectors):,} items {len(copies):,} repeat another, {same:,} of them the very same",
        file=sys.stderr,
    )


def _write_page(arguments: argparse.Namespace, vectors: "Vectors", groups: "list[Group]") -> None:
    from zoo.cli._page import write_groups

    shown = []
    for number, group in enumerate(groups, start=1):
        others = [(copy.position, f"{kind_of(copy)} {copy.score:.3f}") for copy in group.others]
        shown.append((f"group {number}: {1 + len(others):,}", [(group.first, "first"), *others]))
    write_groups(arguments.html, "there twice", f"{len(groups):,} groups in {arguments.source}", shown, vectors)
    print(f"{arguments.html}: written", file=sys.stderr)
