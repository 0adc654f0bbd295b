"""Search vectors by text, by image, or by an image and a change.

DIR is what `zoo embed --out DIR` made.

--box, --point, --polygon and --mask search with a region of the image that --image names. If the vectors are of regions (`zoo embed
--regions`), the results are places: the table shows file and box, and the page of --html draws the outlines.

With --hybrid the words of TEXT are looked for too, as a search engine does: names, numbers and rare words that an embedding blurs are
found. The texts must stand beside the vectors: those that were embedded, or a column that --hybrid-column names. Text files of a folder
of several kinds are read again; what one does not hold any more is found by its vector alone.

With --rerank a second model reads the query together with each of the best results and ranks them again: slower, and better. Its
scores are shown beside the similarities; results that it cannot read come last.

Without a query a prompt opens: the model is loaded once, and every line is a query (:help shows what else it takes). Lines from a pipe are answered
too, as tab-separated columns, or with --json as one line of JSON per query.

--queries FILE answers a file of them, many at a time, which is far quicker: a text to a line, or in a .jsonl file {"id": …, "text": …,
"image": …}, where an image's path starts at the file. It prints one line of JSON per query.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._finding import Finder, as_json
from zoo.cli._hybrid import LISTS, add_hybrid_options, lists_of, told_ranks, words_of
from zoo.cli._queries import answer_all, read_queries
from zoo.cli._regions import add_region_options, check_regions, to_json, told
from zoo.cli._rerank import TOP, add_search_options, check_search_options, open_reranker, reranked
from zoo.cli._shared import (
    add_against_option,
    add_backend,
    add_model_options,
    add_outside,
    add_task_option,
    check_output,
    existing,
    on_terminal,
    open_made_by,
    positive,
    print_json,
    print_table,
    task_of,
    waiting,
)
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.cli._prompt import Search
    from zoo.embedder import Embedder
    from zoo.index import Compared, SearchHit
    from zoo.inputs.item import Item
    from zoo.inputs.regions import Region
    from zoo.vectors.lookup import Inputs

EXAMPLES = (
    'zoo search vectors/ "a red motorbike"',
    "zoo search vectors/ --image cat.jpg --k 20",
    'zoo search vectors/ --image shoe.jpg "the same but in blue"',
    'zoo search vectors/ --image shoe.jpg "in blue" --image-weight 0.3     # the text counts for more',
    'zoo search vectors/ "a cat" --where "label = \'pet\' AND year >= 2020"',
    'zoo search vectors/ "sunset" --html found.html       # a page with thumbnails',
    'zoo search vectors/ "sunset" --json',
    "zoo search places/ --image photo.jpg --box 10,20,200,220    # what is in the box, wherever else it is",
    'zoo search places/ "a wheel" --where "area < 0.3" --html found.html   # places, outlined',
    'zoo search vectors/ "a cat asleep" --rerank qwen3vl-reranker-2b --rerank-top 50   # the best 50 are read again',
    'zoo search vectors/ "a dog barking" --kind audio --html found.html   # of several kinds of files those alone, with players',
    'zoo search vectors/ "error E1234" --hybrid           # by the words as well as by the meaning',
    'zoo search photos/ "Lisbon at night" --hybrid --hybrid-column title   # images by their titles too',
    "zoo search vectors/ --queries queries.txt            # a line of JSON for each line of the file",
    "zoo search vectors/                                  # a prompt: a line is a query",
    "zoo search vectors/ --json                           # the same of a pipe: < queries.txt > found.jsonl",
)
MIXED = True  # the text may follow the image
# Attributes shown in the table besides the input itself.
SHOWN = 2
BOX = ("x0", "y0", "x1", "y1", "area")  # of the region that the table shows
TELLING = ("label", "title", "name", "caption", "captions", "description", "category")


KINDS = ("image", "video", "audio", "document", "text")  # zoo.index.narrowing, which is not imported for --help


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo search`."""
    parser.add_argument("folder", type=existing, metavar="DIR", help="what `zoo embed --out DIR` made")
    parser.add_argument("query", nargs="?", metavar="TEXT", help="what to look for")
    parser.add_argument(
        "--image",
        "--file",
        type=existing,
        metavar="FILE",
        help="find what resembles this image, video or audio file, changed as TEXT says",
    )
    parser.add_argument(
        "--image-weight",
        type=share,
        metavar="X",
        help="weight of the image beside the text: 0 is the text alone, 1 the image alone (default: the model's own rule)",
    )
    parser.add_argument("--queries", type=existing, metavar="FILE", help="answer many: a text to a line, or .jsonl")
    add_against_option(parser)
    add_task_option(parser, "query")
    add_region_options(parser)
    parser.add_argument("-k", "--k", type=positive, default=10, metavar="N", help="how many results (default: 10)")
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        choices=KINDS,
        help="results of this kind only; a page counts as document, a frame as video (default: all; repeat)",
    )
    parser.add_argument("--where", metavar="SQL", help="rows that match: \"label = 'cat' AND year >= 2020\"")
    parser.add_argument(
        "--explain", action="store_true", help="say how the index is searched: which rows are compared, and why"
    )
    parser.add_argument(
        "--plain", action="store_true", help="rank several kinds together by their raw scores, not by calibrated ones"
    )
    add_model_options(parser, default=None)
    add_backend(parser, "--model-backend")
    add_hybrid_options(parser)
    add_search_options(parser)
    parser.add_argument(
        "--root", type=existing, metavar="DIR", help="where the files are, for --html, --rerank and --hybrid"
    )
    add_outside(parser)
    parser.add_argument("--backend", choices=("lancedb", "exact"), help="the store (default: lancedb if installed)")
    parser.add_argument(
        "--adopt", action="store_true", help="keep the index inside DIR (default: only if DIR was made on this machine)"
    )
    parser.add_argument("--html", type=existing, metavar="FILE", help="write a page with thumbnails")
    parser.add_argument("--json", action="store_true", help="for machines")


def run(arguments: argparse.Namespace) -> int:
    """Searches, or opens a prompt; status 1 if nothing is found."""
    from zoo.index import open_index, read_manifest
    from zoo.index.narrowing import check_kinds, narrowed
    from zoo.inputs.silence import refuse_silence
    from zoo.shards.folder import unfinished
    from zoo.tables.ignoring import settings_to_ignore
    from zoo.vectors.opening import place_of

    _check_options(arguments)
    queries = None if arguments.queries is None else read_queries(arguments.queries)
    many = arguments.query is None and arguments.image is None
    manifest = read_manifest(arguments.folder)
    if arguments.where is not None:
        _check_filter(arguments.folder, arguments.where)
    words = words_of(arguments, manifest, lambda: _inputs(arguments, manifest))
    narrowed(manifest, arguments.kind)  # what is never there is refused before a model is loaded
    if state := unfinished(manifest):
        print(f"{arguments.folder}: {state}", file=sys.stderr)
    if arguments.rerank and "regions" in manifest["source"]["kind"]:
        raise ZooError(
            f"{arguments.folder} holds vectors of regions, and rerankers read whole images; leave --rerank out"
        )
    reranker = None
    if arguments.rerank is None:
        model = open_made_by(arguments, arguments.folder, manifest)
    else:
        with settings_to_ignore(arguments.ignore) as settings:  # of either checkpoint
            reranker = open_reranker(arguments.rerank, arguments.device, settings)
            model = open_made_by(arguments, arguments.folder, manifest)
    with waiting(f"opening the index of {manifest['counts']['vectors']:,} vectors"):
        index = open_index(arguments.folder, model=model, backend=arguments.backend, adopt=arguments.adopt)
    if arguments.explain:
        print(f"plan: {index.explain(narrowed(manifest, arguments.kind, arguments.where))}", file=sys.stderr)
    if arguments.image_weight is not None:
        _weigh(model, arguments.image_weight)

    quiet = (arguments.json and many) or queries is not None
    told = {"sparse": arguments.sparse, "task": task_of(arguments)}
    finder = Finder(model, index, manifest, plain=arguments.plain, quiet=quiet, words=words, **told)

    def search(asked: "str | Path | Item", k: int, where: str | None, kinds: "Sequence[str]") -> "list[SearchHit]":
        refuse_silence(asked)
        check_kinds(manifest, kinds, index.count)
        where = narrowed(manifest, kinds, where)
        if reranker is None:
            return finder.search(asked, k, where)
        top = arguments.rerank_top or TOP
        found = finder.search(asked, max(k, top), where)
        return reranked(reranker, asked, found, top, _inputs(arguments, manifest), arguments.rerank_instruction)[:k]

    def check(kinds: "Sequence[str]") -> None:
        check_kinds(manifest, kinds, index.count)

    def answer(asked: "Sequence[Any]") -> "list[list[SearchHit]]":
        if reranker is not None:
            return [search(one, arguments.k, arguments.where, arguments.kind) for one in asked]
        for one in asked:
            refuse_silence(one)
        check_kinds(manifest, arguments.kind, index.count)
        return finder.search_many(asked, arguments.k, narrowed(manifest, arguments.kind, arguments.where))

    if queries is not None:
        return answer_all(queries, answer, lambda match: place_of(match.reference, manifest))
    return _ask(arguments, manifest, search, check) if many else _once(arguments, manifest, search)


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises ZooError for options that say nothing together, before anything is opened."""
    from zoo.inputs.silence import refuse_silence

    if arguments.queries is not None and (arguments.query is not None or arguments.image is not None or arguments.html):
        raise ZooError("--queries FILE has the queries; leave TEXT, --image and --html out")
    composed = arguments.query is not None and arguments.image is not None
    if arguments.image_weight is not None and not composed:
        raise ZooError("--image-weight is of an image and a text together; give --image FILE and TEXT")
    reads = arguments.html or arguments.rerank or arguments.hybrid
    if not reads and (arguments.root or arguments.allow_outside):
        raise ZooError(
            "--root and --allow-outside are of what --html shows, and of the files that --rerank or --hybrid reads"
        )
    check_regions(arguments, int(arguments.image is not None))
    check_search_options(arguments)
    if arguments.html and arguments.query is None and arguments.image is None:
        raise ZooError("--html is a page of one search; say what to look for: words, or --image FILE")
    check_output(arguments.html)
    if arguments.image is not None and not arguments.image.exists():
        raise ZooError(f"{arguments.image} does not exist")
    if arguments.image is not None:
        refuse_silence(arguments.image)  # before a model is loaded


def _check_filter(folder: Path, where: str) -> None:
    """Raises FilterError before a model is loaded."""
    from zoo.index.where import Filter
    from zoo.shards.folder import ShardFolder

    if shards := ShardFolder(folder).finished():
        schema = shards[-1].schema
        Filter(where, schema.remove(schema.get_field_index("vector")))


def _ask(
    arguments: argparse.Namespace,
    manifest: dict[str, Any],
    search: "Search",
    check_kinds: "Callable[[Sequence[str]], None]",
) -> int:
    from zoo.cli._prompt import Prompt
    from zoo.vectors.opening import place_of

    return Prompt(
        search=search,
        check=lambda where: _check_filter(arguments.folder, where),
        check_kinds=check_kinds,
        place=lambda match: place_of(match.reference, manifest),
        columns=list(manifest["attributes"]),
        rerank=bool(arguments.rerank),
        lists=LISTS[: 2 + arguments.sparse] if arguments.hybrid else (),
        show=lambda found: _print(found, manifest),
        k=arguments.k,
        where=arguments.where,
        kinds=arguments.kind,
        machine=arguments.json,
    ).run()


def _once(arguments: argparse.Namespace, manifest: dict[str, Any], search: "Search") -> int:
    from zoo.inputs.item import Item
    from zoo.inputs.kinds import kind_of

    composed = arguments.query is not None and arguments.image is not None
    several = composed or arguments.regions
    media = {kind_of(arguments.image): arguments.image} if several else {}
    whole = Item(text=arguments.query, **media, regions=arguments.regions)
    asked = whole if several else arguments.image or arguments.query
    found = search(asked, arguments.k, arguments.where, arguments.kind)
    if arguments.html:
        from zoo.cli._page import write_page

        shown = arguments.query if arguments.image is None else arguments.image
        inputs = _inputs(arguments, manifest)
        change = arguments.query if composed else ""
        write_page(arguments.html, shown, found, manifest, inputs, change=change, regions=arguments.regions)
        print(f"{arguments.html}: {len(found)} results", file=sys.stderr)
    if arguments.json:
        inputs = _inputs(arguments, manifest)
        print_json([{**as_json(match), **_regions(match, inputs)} for match in found])
    elif not arguments.html:
        _print(found, manifest)
    if not found:
        print("nothing was found" + (f" where {arguments.where}" if arguments.where else ""), file=sys.stderr)
    return 0 if found else 1


def _inputs(arguments: argparse.Namespace, manifest: dict[str, Any]) -> "Inputs":
    """Where the inputs of the vectors are, and which of them are opened."""
    from zoo.vectors.lookup import Inputs

    folder, outside = arguments.folder, arguments.allow_outside
    return Inputs.of(folder, manifest, arguments.root, allow_outside=outside, ours=arguments.adopt)


def _regions(match: "SearchHit", inputs: "Inputs") -> dict[str, Any]:
    """The regions of a result as JSON; nothing where the vectors are of whole images."""
    return {"regions": to_json(inputs.regions(match.attributes))} if inputs.source.get("regions") else {}


def share(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def _weigh(model: "Embedder", weight: float) -> None:
    from zoo.fusion import WeightedSum

    if model.fusion is None:
        raise ZooError(f"{model.spec.name} reads image and text together; --image-weight is for models that do not")
    model.fusion = WeightedSum(weight)


def _print(found: "list[Compared]", manifest: dict[str, Any]) -> None:
    if not found:
        return
    from zoo.vectors.opening import place_of, text_column

    main, boxed = text_column(manifest), manifest["source"].get("regions")
    places = (manifest["source"].get("parts") or {}).get("columns", [])  # of a page or moment
    sorts = [kinds["column"]] if (kinds := manifest["source"].get("kinds")) else []
    places = [*sorts, *(name for name in places if any(match.attributes.get(name) is not None for match in found))]
    hidden = (main, "folder", boxed, *(BOX if boxed else ()), *places)
    others = [name for name in manifest["attributes"] if name not in hidden]
    filled = [name for name in others if any(match.attributes.get(name) not in (None, "") for match in found)]
    # What says most first: telling names, then what differs between the results.
    filled.sort(key=lambda name: (name.lower() not in TELLING, len({str(m.attributes[name]) for m in found}) == 1))
    names = [*places, *(filled[:SHOWN] if on_terminal() else filled)]
    read_again = hasattr(found[0], "rerank")
    standing = bool(manifest["source"].get("kinds")) and all(match.z is not None for match in found)
    lists = lists_of(found)
    rows = []
    for rank, match in enumerate(found, start=1):
        place = match.reference if on_terminal() else place_of(match.reference, manifest)
        shown = place if main is None else str(match.attributes.get(main) or place)
        cells = [told(_pointed_at(match.attributes.get(boxed)))] if boxed else []
        cells += [_cut(match.attributes.get(name), 16) for name in names]
        scores = [f"{match.score:.3f}", *([f"{match.z:.1f}"] if standing else [])]
        scores += told_ranks(match, lists)
        scores += [_score(match.rerank)] if read_again else []
        rows.append([str(rank), *scores, *cells, _shorter(shown, main is None)])
    headers = (
        "",
        "score",
        *(["z"] * standing),
        *lists,
        *(["rerank"] * read_again),
        *(["region"] * bool(boxed)),
        *names,
        ("file" if sorts else manifest["source"]["kind"]) if main is None else "text",
    )
    print_table(headers, rows, numbers=("", "score", "z", *lists, "rerank"))


def _pointed_at(cell: Any) -> "Sequence[Region]":
    """The regions of a row for the table, in which a mask is a word: its file is not opened."""
    from zoo.inputs.region_json import regions_from_json

    return regions_from_json(cell, Path)


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.3f}"


def _cut(value: Any, width: int) -> str:
    """An attribute for the table: on a terminal short, but no number is ever cut."""
    text = "" if value is None else str(value)
    fits = len(text) <= width or not on_terminal() or isinstance(value, int | float)
    return text if fits else text[: width - 1] + "…"


def _shorter(text: str, is_path: bool, width: int = 44) -> str:
    # The end of a path says more than its beginning.
    if not is_path or len(text) <= width or not on_terminal():
        return text
    name = Path(text).name
    return "…/" + name if len(name) < width else "…" + name[-width:]
