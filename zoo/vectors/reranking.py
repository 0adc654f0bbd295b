"""What a search found, ranked anew by a reranker, which reads each document together with the query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import InputError, MissingFileError
from zoo.index import Compared, SearchHit
from zoo.inputs.excerpts import Excerpt
from zoo.inputs.item import Item
from zoo.inputs.kinds import kind_of
from zoo.tables.lines import whole_text
from zoo.tables.values import is_file
from zoo.vectors.lookup import Inputs
from zoo.vectors.opening import embedded_text

if TYPE_CHECKING:
    from zoo.reranking import Reranker


@dataclass(frozen=True)
class Reranked(Compared):
    """A search result that a reranker has read.

    Attributes:
        rerank: its score; None where the document could not be read.
    """

    rerank: float | None = None


class Unread(NamedTuple):
    """A search result whose document could not be read, and why."""

    match: SearchHit
    error: InputError


def rerank_matches(
    reranker: "Reranker",
    query: Any,
    matches: Sequence[SearchHit],
    inputs: Inputs,
    *,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> tuple[list[Reranked], list[Unread]]:
    """The same results, best first by the reranker; those that could not be read come last, in the order they had.

    Args:
        query: as of `Reranker.score`. inputs: where the documents of the searched folder are.
        batch_size, progress: as of `Reranker.score`.

    Raises:
        InputError: the query itself cannot be read.
    """
    documents: list[tuple[int, Item]] = []
    errors: dict[int, InputError] = {}
    for position, match in enumerate(matches):
        try:
            documents.append((position, document_of(match, inputs)))
        except InputError as error:
            errors[position] = error
    pairs = [(query, document) for _, document in documents]
    scores: dict[int, float] = {}
    for index, score, error in reranker.score_stream(pairs, batch_size=batch_size, progress=progress):
        if error is None:
            scores[documents[index][0]] = score
        else:
            errors[documents[index][0]] = error
    if matches and not scores:
        reranker.prepare(query, "a document")  # where the query is what cannot be read, that is the error
    order = sorted(scores, key=lambda position: -scores[position])
    found = [Reranked(**vars(matches[position]), rerank=scores[position]) for position in order]
    found += [Reranked(**vars(matches[position])) for position in sorted(errors)]
    return found, [Unread(matches[position], errors[position]) for position in sorted(errors)]


def document_of(match: SearchHit, inputs: Inputs) -> Item:
    """What was embedded for a search result.

    Raises:
        InputError: its file or table is gone, even if its text is not, or lies where nothing is opened.
    """
    source: Mapping[str, Any] = inputs.source
    kinds = source["kind"].split("+")
    values: dict[str, Any] = {}
    if "text" in kinds:
        text = match.attributes.get(embedded_text(source))
        values["text"] = text if text is None or str(text).strip() else None  # an empty cell was no part of the item
    for kind in (kind for kind in kinds if kind not in ("text", "regions")):
        value = inputs.find(match.reference)
        gone = value is None or (isinstance(value, Path) and not is_file(value))
        if gone and inputs.is_row(match.reference):
            continue  # a row without a medium, of a source whose items may have one
        if value is None:
            raise MissingFileError(
                f"the {kind} embedded for {match.reference} is not there any more", what=match.reference
            )
        part = inputs.part(value, match.attributes)
        if kind == "media":
            told = match.attributes.get((source.get("kinds") or {}).get("column"))
            kind, part = _told(value, part, told)  # type: ignore[arg-type]
        values[kind] = part
    there = {kind: value for kind, value in values.items() if value is not None}
    if not there:
        raise MissingFileError(f"what was embedded for {match.reference} is not there any more", what=match.reference)
    return Item(**there, regions=inputs.regions(match.attributes))


def _told(value: Path | bytes, part: Any, told: str | None) -> tuple[str, Any]:
    """As what a file of any kind, or its part, is read: pages of documents and frames are images, and texts stand in files.

    Args:
        told: the kind that stands beside its vector, where one does.

    Raises:
        InputError: it is none.
    """
    if told == "text" and isinstance(value, Path):
        return told, whole_text(value)
    kind = kind_of(value)
    framed = part is not value and not isinstance(part, Excerpt)
    return ("image" if framed else kind), part
