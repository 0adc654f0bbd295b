"""Rank documents with a reranker, which reads each with the query.

A document is an image or video file, or a --text; every image of a folder, every line of a .txt file, every row of a table. `zoo
show NAME` says what its scores are: probabilities from 0 to 1, or logits. What cannot be read is reported, and does not stop the rest.

With --data the queries come from a table too, each with its documents: rows with the same query are ranked together. The columns
are inferred from their names, as in training (query, positive, negative_1, query_image, …), or named by --query-column and
--document-column.

A reranker takes far longer than a search by vectors. For many documents, find a hundred first and rank those:
`zoo search vectors/ "a cat asleep" --rerank NAME`.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._rerank import NAMES, open_reranker, tell_unread
from zoo.cli._shared import (
    add_device,
    add_like,
    add_pair_options,
    add_truncation,
    described,
    existing,
    positive,
    print_json,
    print_table,
    reading,
    refuse_pair_options,
)
from zoo.errors import InputError, MissingFileError, ZooError

if TYPE_CHECKING:
    from zoo.inputs.item import Item
    from zoo.reranking import Reranker
    from zoo.tables.table import Table

EXAMPLES = (
    'zoo rerank qwen3vl-reranker-2b "a red bicycle" photos/*.jpg',
    'zoo rerank qwen3vl-reranker-2b "how do I reset it?" manual.txt -k 3',
    'zoo rerank qwen3vl-reranker-2b "how do I reset it?" --text "Hold the button." --text "It is blue." --json',
    'zoo rerank qwen3vl-reranker-2b "the same in blue" shoes/ --image shoe.jpg --instruction "Find the product."',
    "zoo rerank qwen3vl-reranker-2b --data questions.csv --query-column question --document-column passage",
    'zoo rerank "./my-checkpoint like u-marvel-reranker" "a red bicycle" photos/',
)
MIXED = True  # documents may follow an option
TOP = 10


@dataclass
class Ranking:
    """A query and its documents.

    Attributes:
        query: as it was given. documents: (place, document) of each. bad: (place, why) of those that cannot be read.
    """

    query: "Item"
    documents: list[tuple[str, Any]] = field(default_factory=list)
    bad: list[tuple[str, InputError]] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo rerank`."""
    parser.add_argument("name", metavar="NAME", help=NAMES)
    parser.add_argument("query", nargs="?", metavar="QUERY", help='what the documents should answer; "" beside --image')
    parser.add_argument(
        "sources", nargs="*", metavar="FILE", help="images, videos, folders of images, .txt files, tables"
    )
    parser.add_argument("--text", action="append", default=[], metavar="TEXT", help="a document; repeat")
    parser.add_argument("--image", type=existing, metavar="FILE", help="an image that belongs to the query")
    parser.add_argument("--instruction", metavar="TEXT", help="instruction to the reranker: what to look for")
    parser.add_argument(
        "-k", "--k", type=positive, metavar="N", help="the best of a query (default: 10, with --json all)"
    )
    add_like(parser, "name")
    add_device(parser, "or this column of a table; ")
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="pairs at once (default: what suits the model)"
    )
    add_truncation(parser, "a query with its document")
    data = parser.add_argument_group("many queries")
    data.add_argument("--data", metavar="SOURCE", help="queries with their documents: a table, a folder or hf:ORG/NAME")
    data.add_argument("--query-column", metavar="C", help="the column of --data that holds the query")
    data.add_argument("--document-column", metavar="C", help="the column of --data that holds a document of it")
    data.add_argument("--split", metavar="S", help="of --data with several splits (default: train)")
    add_pair_options(data)
    parser.add_argument("--json", action="store_true", help="for machines, what cannot be read included")


def run(arguments: argparse.Namespace) -> int:
    """Ranks; status 1 if no document could be scored."""
    from zoo.tables.ignoring import settings_to_ignore

    tables: list[Any] = []
    rankings = _of_data(arguments, tables) if arguments.data else [_of_files(arguments, tables)]
    if not any(ranking.documents for ranking in rankings):
        why = next((f": {error}" for ranking in rankings for _, error in ranking.bad), "")
        raise ZooError(f"there is no document to rank{why}")
    with settings_to_ignore(arguments.ignore, *tables) as settings:
        reranker = open_reranker(arguments.name, arguments.device, settings)
    ranked = _score(reranker, rankings, batch_size=arguments.batch_size, truncation=arguments.truncation)
    if not any(ranked):
        _check_query(reranker, rankings[0].query)
    if arguments.json:
        many = [_json(ranking, hits[: arguments.k]) for ranking, hits in zip(rankings, ranked, strict=True)]
        print_json(many if arguments.data else many[0])
    else:
        _print(rankings, ranked, arguments.k or TOP, bool(arguments.data))
        tell_unread([one for ranking in rankings for one in ranking.bad])
    return 0 if any(ranked) else 1


def _of_files(arguments: argparse.Namespace, tables: list[Any]) -> Ranking:
    """The one query of the command line, and the documents named there; tables among them are added to `tables`."""
    from zoo.inputs.item import Item
    from zoo.tables.options import check_format

    columns = ("query_column", "document_column", "column", "split")
    if given := [name for name in columns if getattr(arguments, name)]:
        raise ZooError(f"--{given[0].replace('_', '-')} is of --data SOURCE; give that too, or leave it out")
    if arguments.query is None or not (arguments.query or arguments.image):
        raise ZooError('say what the documents should answer: zoo rerank NAME "a red bicycle" photos/')
    if not arguments.sources and not arguments.text:
        raise ZooError(f"name the documents that should answer {arguments.query!r}: files, folders, or --text TEXT")
    if arguments.image is not None and not arguments.image.is_file():
        raise ZooError(f"{arguments.image} is no file; --image takes one")
    _say_if_file(arguments.query)
    query = Item(text=arguments.query or None, image=arguments.image, instruction=arguments.instruction)
    ranking = Ranking(query, [(text, text) for text in arguments.text])
    for source in arguments.sources:
        for place, value, error in _documents(source, arguments, tables):
            ranking.bad.append((place, error)) if error is not None else ranking.documents.append((place, value))
    if not tables:
        refuse_pair_options(arguments, "a table or a folder; name one")
    check_format(reading(arguments), *tables)
    return ranking


def _say_if_file(query: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        if len(query) < 4096 and Path(query).is_file():
            print(f'note: {query!r} is the query\'s text; for the image, write "" and --image {query}', file=sys.stderr)


def _documents(
    source: str, arguments: argparse.Namespace, tables: list[Any]
) -> Iterator[tuple[str, Any, InputError | None]]:
    """Place, document and error of everything that an argument names."""
    from zoo.bulk.opening import prepare
    from zoo.bulk.sources import LINES
    from zoo.tables.files import KINDS, suffix_of

    path = Path(source).expanduser()
    named = source.startswith(("hf:", "pack:")) or (any(c in source for c in "*?[{") and not path.exists())
    if not (named or path.is_dir() or (path.is_file() and suffix_of(path) in (*LINES, *KINDS))):
        gone = None if path.exists() else MissingFileError(f"{path} does not exist; check the path", what=str(path))
        yield str(path), path, gone  # whatever else it is, it is reported when it is read
        return
    tables.append(prepare(source, reading(arguments)))
    for record in tables[-1].choose([], None, frozenset({"text", "image", "video"})).records():
        value = record.value
        place = value if isinstance(value, str) else str(value) if isinstance(value, Path) else record.reference
        yield place, value, record.error


def _of_data(arguments: argparse.Namespace, tables: list[Any]) -> list[Ranking]:
    """The queries of --data in the order in which they first come, each with all its documents."""
    from zoo.inputs.hashing import item_key
    from zoo.tables import open_sources
    from zoo.tables.options import check_format
    from zoo.tables.pairs import place_of

    if arguments.query is not None or arguments.image or arguments.text:
        raise ZooError("--data has the queries and the documents; leave QUERY, FILE, --image and --text out")
    told = reading(arguments)
    said = {"query": arguments.query_column, "positive": arguments.document_column}
    columns = {**(told.columns or {}), **{role: column for role, column in said.items() if column}}
    told = replace(told, columns=columns or None)
    table: Table = open_sources([arguments.data], told)
    check_format(told, table)
    tables.append(table)
    rankings: dict[Any, Ranking] = {}
    unread: list[tuple[str, InputError]] = []
    for row in range(len(table)):
        try:
            pair = table[row]
            key = item_key(pair.query)
        except InputError as error:
            unread.append((place_of(table, row), error))
            continue
        query = replace(pair.query, instruction=arguments.instruction) if arguments.instruction else pair.query
        ranking = rankings.setdefault((key, pair.query.instruction), Ranking(query))
        ranking.documents += [(_whole(item), item) for item in (pair.positive, *pair.extra_positives, *pair.negatives)]
    tell_unread(unread)
    return list(rankings.values())


def _score(reranker: "Reranker", rankings: list[Ranking], **options: Any) -> list[list[tuple[float, str]]]:
    """(score, place) of the documents of each query, best first; what cannot be scored goes to `Ranking.bad`."""
    pairs = [(ranking.query, value) for ranking in rankings for _, value in ranking.documents]
    scores = reranker.score_stream(pairs, **options)
    ranked = []
    for ranking in rankings:
        hits = []
        for (place, _), (_, score, error) in zip(ranking.documents, scores, strict=False):
            hits.append((score, place)) if error is None else ranking.bad.append((place, error))
        ranked.append(sorted(hits, key=lambda hit: -hit[0]))
    return ranked


def _check_query(reranker: "Reranker", query: "Item") -> None:
    """Raises ZooError where the query is what cannot be read, for which no document is to blame."""
    try:
        reranker.prepare(query, "a document")
    except InputError as error:
        raise ZooError(f"the query cannot be read: {error}") from error


def _json(ranking: Ranking, hits: list[tuple[float, str]]) -> dict[str, Any]:
    results = [{"rank": rank, "score": score, "document": place} for rank, (score, place) in enumerate(hits, start=1)]
    results += [{"rank": None, "score": None, "document": place, "error": str(error)} for place, error in ranking.bad]
    return {"query": _whole(ranking.query), "results": results}


def _whole(item: "Item") -> str:
    """An item in words: texts and places of files, nothing cut."""
    values = [*([] if item.text is None else [item.text]), *item.media]
    return " + ".join(f"[{len(value):,} bytes]" if isinstance(value, bytes) else str(value) for value in values)


def _print(rankings: list[Ranking], ranked: list[list[tuple[float, str]]], k: int, many: bool) -> None:
    rows = []
    for ranking, hits in zip(rankings, ranked, strict=True):
        for rank, (score, place) in enumerate(hits[:k], start=1):
            rows.append([*([described(ranking.query)] if many else []), str(rank), f"{score:.3f}", place])
    if rows:
        print_table((*(["query"] if many else []), "", "score", "document"), rows, numbers=("", "score"))
