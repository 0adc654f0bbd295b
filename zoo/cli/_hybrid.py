"""`--hybrid` of a search: which texts of a folder of vectors there are to look for words in, and the two ranks for people."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import ZooError

LISTS = ("dense", "bm25", "sparse")  # zoo.index.hybrid, which is not imported for --help

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.index import Compared
    from zoo.index.store import Store
    from zoo.vectors.file_texts import FileTexts
    from zoo.vectors.lookup import Inputs


def add_hybrid_options(parser: argparse.ArgumentParser) -> None:
    """`--hybrid` and `--hybrid-column`."""
    group = parser.add_argument_group("words and vectors")
    group.add_argument(
        "--hybrid",
        action="store_true",
        help="look for the words of TEXT too (BM25), and rank by both lists together (reciprocal rank fusion)",
    )
    group.add_argument(
        "--hybrid-column",
        action="append",
        default=[],
        metavar="C",
        help="the column whose words are looked for, such as the titles of images (default: the embedded text; repeat)",
    )
    group.add_argument(
        "--sparse",
        action="store_true",
        help="with --hybrid and a model that weighs the words of a text itself (bge-m3): its sparse vectors as a third list. The "
        "first such search reads all texts, later ones what is new",
    )


class Words(NamedTuple):
    """Where the words of a query are looked for: columns of a folder, or its text files."""

    columns: Sequence[str]
    files: "FileTexts | None" = None


def words_of(
    arguments: argparse.Namespace, manifest: Mapping[str, Any], inputs: "Callable[[], Inputs]"
) -> Words | None:
    """Where words are looked for; None without `--hybrid`. inputs: says where the files are that were embedded.

    Raises:
        ZooError: there is no such column, or no text beside the vectors; or the query is an image alone.
    """
    from zoo.vectors.file_texts import FileTexts, holds_file_texts
    from zoo.vectors.opening import embedded_text

    if not arguments.hybrid:
        if given := [name for name in ("hybrid_column", "sparse") if getattr(arguments, name)]:
            raise ZooError(f"--{given[0].replace('_', '-')} is of --hybrid; give that too, or leave it out")
        return None
    if arguments.image is not None and arguments.query is None:
        raise ZooError("--hybrid looks for words, and an image has none; add a TEXT, or leave --hybrid out")
    there = list(manifest["attributes"])
    if unknown := [name for name in arguments.hybrid_column if name not in there]:
        raise ZooError(f"--hybrid-column {unknown[0]}: there is no such column; there are {', '.join(there) or 'none'}")
    if arguments.hybrid_column:
        return Words(arguments.hybrid_column)
    if holds_file_texts(manifest["source"]):
        return Words((), FileTexts(arguments.folder, inputs()))
    column = embedded_text(manifest["source"])
    if column not in there:
        named = f" (there are {', '.join(there)})" if there else ""
        remedy = f"name a column that describes them{named}: --hybrid-column C" if there else "leave --hybrid out"
        raise ZooError(
            f"{arguments.folder} keeps no texts beside its vectors, which are of {manifest['source']['kind']}; --hybrid looks for "
            f"words: {remedy}"
        )
    return Words([column])


def check_words(asked: Any) -> str:
    """The words of a query; raises ZooError where it has none."""
    from zoo.inputs.item import as_item

    text = as_item(asked).text
    if text is None:
        raise ZooError("--hybrid looks for words, and this query has none; add a text, or leave --hybrid out")
    return text


def told_ranks(match: "Compared", names: Sequence[str]) -> list[str]:
    """Cells of the table: the rank of a result in each list, "–" where it is in none."""
    return [str(match.ranks.get(name, "–")) for name in names]


def lists_of(found: "Sequence[Compared]") -> list[str]:
    """The lists that were fused, in their order; [] for a search of vectors alone."""
    names = {name: None for match in found for name in match.ranks}
    return [name for name in LISTS if name in names]


def open_hybrid(index: "Store", words: Words | None, model: "Embedder | None") -> Any:
    """The index asked by words too, and by the sparse vectors of a model; None where no words are looked for."""
    from zoo.index import HybridIndex

    return None if words is None else HybridIndex(index, words.columns, model=model, files=words.files)
