"""What the commands with a reranker share: opening it by NAME, and its options of a search."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._shared import one_line, positive, waiting
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.index import SearchHit
    from zoo.reranking import Reranker
    from zoo.vectors.lookup import Inputs
    from zoo.vectors.reranking import Reranked

NAMES = 'a name of `zoo list --rerankers`, ./FOLDER, or hf:ORG/REPO; of any other checkpoint "./FOLDER like NAME"'
TOP = 100
_TOLD = 5


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """`--rerank`, `--rerank-top` and `--rerank-instruction`."""
    group = parser.add_argument_group("reranking")
    group.add_argument(
        "--rerank",
        metavar="NAME",
        help=f"rank the best results again with a reranker, which reads them together with the query: {NAMES}",
    )
    group.add_argument("--rerank-top", type=positive, metavar="N", help=f"how many results it reads (default: {TOP})")
    group.add_argument("--rerank-instruction", metavar="TEXT", help="instruction to the reranker: what to look for")


def check_search_options(arguments: argparse.Namespace) -> None:
    """Raises ZooError for options of reranking without a reranker."""
    for name in ("rerank_top", "rerank_instruction"):
        if getattr(arguments, name) is not None and not arguments.rerank:
            raise ZooError(f"--{name.replace('_', '-')} is of --rerank NAME; give that too, or leave it out")


def meant(name: str) -> bool:
    """Whether a NAME is of a registered reranker, or is misspelled and meant as one."""
    from zoo.registry import is_registered
    from zoo.reranking import is_reranker

    plain = not (is_registered(name) or "/" in name or Path(name).is_dir())
    return is_reranker(name) or (plain and "rerank" in name)


def of_reranker(name: str) -> bool:
    """Whether a NAME is of files of a reranker: a folder of one, or any checkpoint "like" a reranker."""
    from zoo.registry import LIKE
    from zoo.reranking.recognising import says_reranker

    if Path(name).expanduser().is_dir():
        return says_reranker(Path(name).expanduser())
    return LIKE in name and meant(name.rpartition(LIKE)[2])


def open_reranker(name: str, device: str | None, ignore: Sequence[str] = ()) -> "Reranker":
    """The reranker of a NAME, on a device; of its checkpoint these settings are ignored."""
    from zoo.reranking import load_reranker

    with waiting(f"loading {name}"):
        return load_reranker(name, device=device, ignore=ignore)


def reranked(
    reranker: "Reranker", asked: Any, found: "list[SearchHit]", top: int, inputs: "Inputs", instruction: str | None
) -> "list[Reranked]":
    """What was found, the first `top` ranked anew, then the others; what could not be read is reported on stderr."""
    from dataclasses import replace

    from zoo.inputs.item import as_item
    from zoo.vectors.reranking import Reranked, rerank_matches

    query = as_item(asked)
    query = replace(query, instruction=instruction) if instruction else query
    ranked, unread = rerank_matches(reranker, query, found[:top], inputs)
    tell_unread([(one.match.reference, one.error) for one in unread])
    return [*ranked, *(Reranked(**vars(match)) for match in found[top:])]


def tell_unread(unread: "list[tuple[str, Exception]]") -> None:
    """Says on stderr which documents have no score, and why."""
    for place, error in unread[:_TOLD]:
        print(f"not scored: {one_line(place)}: {one_line(str(error))}", file=sys.stderr)
    if len(unread) > _TOLD:
        print(f"not scored: {len(unread) - _TOLD:,} more", file=sys.stderr)
