"""Sort images or texts into groups, and name the groups.

SOURCE is a folder of images, a table as `zoo embed` takes it, or a folder that `zoo embed` made, whose vectors are used as they are.
The groups come from k-means. Without --k, the number of groups is the largest one whose silhouette is close to the best. The same
--seed gives the same groups.

A group is named by the word that is nearer to it than to the other groups, out of five hundred English words that come with
the zoo, or out of --words FILE. If the model reads no text, and with --no-words, it is named by the item in its middle. Names are
hints: a small model, or a vocabulary that does not fit, gives odd ones.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from zoo.cli._shared import existing, integer, positive, print_json, print_table, waiting
from zoo.cli._vectors import add_result_options, add_source_options, opened, tell_bad, write_csv
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.vectors import Cluster, Vectors

EXAMPLES = (
    "zoo cluster ~/Pictures --html groups.html",
    "zoo cluster vectors/ --k 12 --csv groups.csv",
    "zoo cluster vectors/ --words products.txt",
    "zoo cluster reviews.csv --k 8 --no-words --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo cluster`."""
    parser.add_argument("--k", type=positive, metavar="N", help="how many groups (default: found)")
    parser.add_argument("--seed", type=integer, default=0, metavar="N", help="seed of the random start (default: 0)")
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--words", type=existing, metavar="FILE", help="names to choose from, one in each line (UTF-8)")
    words.add_argument("--no-words", action="store_true", help="call each group by the item in its middle")
    add_source_options(parser)
    add_result_options(parser, html="write a page with the images of each group")


def run(arguments: argparse.Namespace) -> int:
    """Groups; status 1 if there is nothing to group."""
    from zoo.vectors import find_clusters, vocabulary

    if arguments.seed < 0:
        raise ZooError(f"--seed is a whole number from 0, not {arguments.seed}")
    words = [] if arguments.no_words else vocabulary(arguments.words)
    with opened(arguments, model=not arguments.no_words) as (vectors, model):
        if not len(vectors):
            print(f"there is nothing to group where {arguments.where}", file=sys.stderr)
            return 1
        with waiting(f"grouping {len(vectors):,} vectors"):
            clusters = find_clusters(vectors, arguments.k, seed=arguments.seed)
        _write(arguments, vectors, clusters, _names(clusters, vectors, model, words))
    return 0


def _names(clusters: "list[Cluster]", vectors: "Vectors", model: "Embedder | None", words: list[str]) -> list[str]:
    from zoo.vectors import middle_names, name_clusters

    if model is None or not words:
        return middle_names(clusters, vectors)
    if "text" not in model.spec.modalities:
        print(f"{model.spec.name} reads no text: groups are called by the item in their middle", file=sys.stderr)
        return middle_names(clusters, vectors)
    names = name_clusters(clusters, vectors, model, words)
    return [name or other for name, other in zip(names, middle_names(clusters, vectors), strict=True)]


def _write(arguments: argparse.Namespace, vectors: "Vectors", clusters: "list[Cluster]", names: list[str]) -> None:
    places = vectors.places()
    named = list(enumerate(zip(names, clusters, strict=True), start=1))
    if arguments.csv:
        rows = [
            (places[member], number, name, f"{score:.6f}", "yes" if member == one.middle else "")
            for number, (name, one) in named
            for member, score in zip(one.members.tolist(), one.scores.tolist(), strict=True)
        ]
        write_csv(arguments.csv, ("path", "group", "name", "score", "middle"), rows)
    if arguments.html:
        from zoo.cli._page import write_groups

        groups = [
            (
                f"{number}. {name}: {len(one.members):,}",
                [(member, f"{score:.3f}") for member, score in zip(one.members.tolist(), one.scores, strict=True)],
            )
            for number, (name, one) in named
        ]
        facts = f"{len(vectors):,} items of {arguments.source}, by {vectors.manifest['model']}"
        write_groups(arguments.html, f"{len(clusters)} groups", facts, groups, vectors)
        print(f"{arguments.html}: written", file=sys.stderr)
    if arguments.json:
        told = [
            {
                "group": number,
                "name": name,
                "middle": places[one.middle],
                "items": [
                    {"path": places[member], "score": score}
                    for member, score in zip(one.members.tolist(), one.scores.tolist(), strict=True)
                ],
            }
            for number, (name, one) in named
        ]
        print_json({"groups": told, "seed": arguments.seed, "bad": vectors.bad})
    elif not arguments.csv and not arguments.html:
        table = [
            (str(number), f"{len(one.members):,}", name, f"{float(one.scores.mean()):.3f}", places[one.middle])
            for number, (name, one) in named
        ]
        print_table(("group", "items", "name", "alike", "middle"), table, numbers=("group", "items", "alike"))
    tell_bad(vectors.bad)
