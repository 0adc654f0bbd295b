"""`python -m zoo.demos.queries MODEL`: fifty queries over the demo's sample images, and how many a model answers rightly.

The queries and the rules that they were written by are in `queries.json`.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import load_model
from zoo.cli._shared import source
from zoo.errors import ZooError
from zoo.evaluation.cards import card_of, write_card
from zoo.evaluation.metrics import interval
from zoo.evaluation.packs import RETRIEVAL, TEXT_TO_IMAGE
from zoo.evaluation.results import Result, rounded, today
from zoo.strangers.terminal import clean_output

from .gallery import GalleryFile, embed_files, sample_images

if TYPE_CHECKING:
    from torch import Tensor

    from zoo import Embedder

FILE = Path(__file__).with_name("queries.json")
KINDS = ("thing", "paraphrase", "scene", "colour", "action")
BEST = 5


@dataclass(frozen=True)
class Query:
    """What somebody types.

    Attributes:
        kind: one of KINDS. right: the file names of the images that answer it, first the one that it was written for.
    """

    text: str
    kind: str
    right: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a model found.

    Attributes:
        place: of the first right image, from 1; a wrong one with the same score comes before it. first: the file found first.
    """

    query: Query
    place: int
    first: str


def queries() -> list[Query]:
    """The fifty queries, in the order of the file."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))["queries"]
    return [Query(row["text"], row["kind"], tuple(row["right"])) for row in rows]


def answers(asked: Sequence[Query], scores: "Tensor", names: Sequence[str]) -> list[Answer]:
    """Where the right images are.

    Args:
        scores: `(queries, images)`, higher is nearer. names: the images' file names, column by column.

    Raises:
        ZooError: a right image is not among the names, or a score is no number.
    """
    missing = sorted({name for query in asked for name in query.right} - set(names))
    if missing:
        raise ZooError(
            f"not among the images: {', '.join(missing)}; the queries are for the demo's own, which come with "
            'pip install "embedding-zoo[demo]"'
        )
    if scores.isnan().any():
        raise ZooError("the model gives NaN for some of the images or queries, so they have no order")
    found = []
    for query, row in zip(asked, scores.tolist(), strict=True):
        best = max(score for score, name in zip(row, names, strict=True) if name in query.right)
        before = [
            (-score, name) for score, name in zip(row, names, strict=True) if score >= best and name not in query.right
        ]
        first = min(before)[1] if before else next(n for s, n in zip(row, names, strict=True) if s == best)
        found.append(Answer(query, len(before) + 1, first))
    return found


def ask(model: "Embedder", images: Sequence[GalleryFile] | None = None) -> list[Answer]:
    """A model's answers to the queries over the demo's sample images, or others with the same file names.

    Raises:
        ZooError: the model reads no images or no text, or as `answers` and `embed_files`.
    """
    unread = {"image", "text"} - model.spec.modalities
    if unread:
        raise ZooError(f"{model.spec.name} reads no {' and no '.join(sorted(unread))}: choose one that reads both")
    asked = queries()
    gallery = embed_files(model, sample_images() if images is None else images)
    vectors = model.encode_query([query.text for query in asked], progress=False)
    return answers(asked, model.similarity(vectors, gallery.vectors), [image.path.name for image in gallery.files])


def report(found: Sequence[Answer]) -> str:
    """How many were right first and among the best five, in all and by kind; then every query that was not."""
    lines = [_counts("all", found)]
    lines += [_counts(kind, [one for one in found if one.query.kind == kind]) for kind in KINDS]
    wrong = sorted((one for one in found if one.place > 1), key=lambda one: one.place)
    lines += [f"  {one.place:>3}  {one.query.text}: {one.first}, not {one.query.right[0]}" for one in wrong]
    return "\n".join(lines)


def results(found: Sequence[Answer], images: int, command: str) -> list[Result]:
    """The answers as figures of a card, in all and by kind.

    Args:
        images: how many there were to choose from. command: what gives the figures again.
    """
    rows = []
    for part in ("", *KINDS):
        asked = [one for one in found if part in ("", one.query.kind)]
        for most in (1, BEST) if asked else ():
            share = interval(sum(one.place <= most for one in asked), len(asked))
            measured = {"value": share.value, "low": share.low, "high": share.high, "source": command, "date": today()}
            told = {"part": part, "direction": TEXT_TO_IMAGE, "notes": f"{len(asked)} queries, {images} images"}
            rows.append(rounded(Result("demo queries", RETRIEVAL, f"hit@{most}", split="", **measured, **told)))
    return rows


def _counts(what: str, found: Sequence[Answer]) -> str:
    first, best = (sum(one.place <= most for one in found) for most in (1, BEST))
    return f"{what:<10} {first:>2} of {len(found)} right first, {best:>2} in the best {BEST}"


@clean_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line, prints the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m zoo.demos.queries", description=__doc__)
    parser.add_argument("model", help="a name of `zoo list`, or a folder")
    parser.add_argument(
        "--card",
        nargs="?",
        const="",
        metavar="FILE",
        help="keep the figures in the results file of this card, and set its tables anew (default: the model's own card)",
    )
    chosen = parser.parse_args(arguments)
    try:
        card = None if chosen.card is None else card_of(chosen.model, chosen.card)
        found = ask(load_model(source(chosen.model)))
        print(report(found))
        if card is not None:
            command = f"python -m zoo.demos.queries {shlex.quote(chosen.model)}"
            write_card(*card, results(found, len(sample_images()), command), "", command)
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
