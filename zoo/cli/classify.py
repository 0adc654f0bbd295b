"""Sort images or texts by labels of your own, without training.

Each item gets the label nearest to it.

SOURCE is a folder of images, a table as `zoo embed` takes it, or a folder that `zoo embed` made, whose vectors are used as they are.
Labels are texts: --labels "rose,tulip,dandelion", or a file with one per line. Models of images and texts often do better
with a sentence around the label (--prompt "a photo of a {}"); given several, their mean is used, as in CLIP.

The score is the similarity of item and label. The share is the softmax over all labels at the model's own temperature
(1/100 if it has none): how clearly the first label leads among these, not how sure it is that any of them fits.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli._shared import existing, positive, print_json
from zoo.cli._vectors import add_result_options, add_source_options, opened, print_rows, tell_bad, write_csv
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.vectors import Classified, Vectors

EXAMPLES = (
    'zoo classify ~/Pictures --labels "rose,tulip,dandelion"',
    'zoo classify ~/Pictures --labels "rose,tulip" --prompt "a photo of a {}" --html sorted.html',
    "zoo classify vectors/ --labels-file labels.txt --top 3 --csv labels.csv",
    'zoo classify reviews.csv --labels "praise,complaint,question" --where "lang = \'en\'"',
    'zoo classify vectors/ --labels "day,night" --json',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo classify`."""
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", metavar="A,B,…", help="the labels, separated by commas")
    labels.add_argument("--labels-file", type=existing, metavar="FILE", help="the labels, one in each line (UTF-8)")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="a sentence with {} for the label (default: the label alone; the model's own prompt for queries goes before "
        "either); repeat for the mean of several",
    )
    parser.add_argument("--top", type=positive, default=1, metavar="N", help="labels for each item (default: 1)")
    add_source_options(parser)
    add_result_options(parser, html="write a page with the images under their labels")


def run(arguments: argparse.Namespace) -> int:
    """Classifies; status 1 if there is nothing to classify."""
    from zoo.vectors import check_labels, classify, label_vectors

    labels = check_labels(_labels(arguments), arguments.prompt)
    with opened(arguments, check=lambda model: label_vectors(model, labels, arguments.prompt)) as (vectors, model):
        found = classify(vectors, model, labels, prompts=arguments.prompt, top=arguments.top)
        _write(arguments, vectors, found)
    return 0 if len(vectors) else 1


def _labels(arguments: argparse.Namespace) -> list[str]:
    path: Path | None = arguments.labels_file
    if path is None:
        return arguments.labels.split(",")
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except OSError as error:
        raise ZooError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ZooError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error


def _write(arguments: argparse.Namespace, vectors: "Vectors", found: "Classified") -> None:
    """The results wherever they are asked for, and on stderr what could not be read and how many each label has."""
    places = vectors.places()
    rows = [
        (place, rank, found.labels[label], score, share)
        for place, *ranked in zip(places, found.best, found.scores, found.shares, strict=True)
        for rank, (label, score, share) in enumerate(zip(*(one.tolist() for one in ranked), strict=True), start=1)
    ]
    if arguments.csv:
        bad = [(one["reference"], "", "", "", "", one["message"]) for one in vectors.bad]
        told = [(place, label, f"{score:.6f}", f"{share:.6f}", rank, "") for place, rank, label, score, share in rows]
        write_csv(arguments.csv, ("path", "label", "score", "share", "rank", "error"), [*told, *bad])
    if arguments.html:
        from zoo.cli._page import write_groups

        write_groups(arguments.html, "classified", _facts(arguments, vectors), _groups(found), vectors)
        print(f"{arguments.html}: written", file=sys.stderr)
    if arguments.json:
        keys = ("path", "rank", "label", "score", "share")
        items = [dict(zip(keys, row, strict=True)) for row in rows]
        print_json({"items": items, "counts": found.counts(), "bad": vectors.bad})
    elif not arguments.csv and not arguments.html:
        shown = [(label, f"{share:.1%}", f"{score:.3f}", place) for place, _, label, score, share in rows]
        print_rows(("label", "share", "score", "path"), shown, numbers=("share", "score"))
    tell_bad(vectors.bad)
    if len(vectors):
        print(" · ".join(f"{label} {count:,}" for label, count in found.counts().items()), file=sys.stderr)
    else:
        print(f"there is nothing to classify where {arguments.where}", file=sys.stderr)


def _facts(arguments: argparse.Namespace, vectors: "Vectors") -> str:
    bad = f", {len(vectors.bad):,} could not be read" if vectors.bad else ""
    return f"{len(vectors):,} of {arguments.source}, by {vectors.manifest['model']}{bad}"


def _groups(found: "Classified") -> list[tuple[str, list[tuple[int, str]]]]:
    """Under each label those that it is the best of, the clearest first."""
    groups = []
    for label, count in found.counts().items():
        members = (found.best[:, 0] == found.labels.index(label)).nonzero()[0]
        members = members[(-found.shares[members, 0]).argsort(kind="stable")]
        captions = [(int(one), f"{found.shares[one, 0]:.1%}") for one in members]
        groups.append((f"{label}: {count:,}", captions))
    return groups
