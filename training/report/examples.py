"""Examples for a report: the held-out queries that training helped most, hurt most and left furthest from right."""

import hashlib
import io
import json
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from zoo.errors import InputError
from zoo.evaluation.pairs import WAYS, PairScores, Ranking
from zoo.inputs.identity import Contents
from zoo.inputs.image import load_pixels
from zoo.inputs.item import Item
from zoo.inputs.outlines import outlined
from zoo.strangers.folders import Place
from zoo.strangers.schema import Range
from zoo.tables.pairs import Pair, PairTable

from ..own import read_facts
from .page import IMAGE, IMAGES, Case, Shown, shorten

EXAMPLES = "report/examples.json"
KINDS = {"helped": "Helped most", "hurt": "Hurt most", "best": "Best", "worst": "Furthest from right"}
_SIDE = 160  # of a thumbnail, pixels
_MOST = 1_000  # examples of a kind


def keep_examples(
    out: Path, pairs: Sequence[Pair] | PairTable, before: PairScores | None, after: PairScores | None, *, count: int = 3
) -> None:
    """Writes the examples of both ways into `out/report`, with thumbnails: all that a report needs of the pairs.

    Args:
        out: the run's folder. pairs: those that the scores are over, row by row. count: examples of each kind.
    """
    images = Place.of(out) / IMAGES
    images.make()
    for name in images.names():
        if IMAGE.fullmatch(f"{IMAGES}/{name}"):
            (images / name).remove()
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    contents = Contents()
    for way in WAYS:
        old, new = (None if scores is None else getattr(scores, way) for scores in (before, after))
        if old is not None and new is not None and not np.array_equal(old.rows, new.rows):
            old = None  # not the same queries: nothing to set side by side
        last = new if new is not None else old
        answers = [] if last is None else [_answer(pairs[int(row)], way, contents) for row in last.rows]
        kinds = {} if last is None else choose(old, new, answers, count)
        found[way] = {
            kind: [_case(out, pairs, way, old, new, place) for place in places] for kind, places in kinds.items()
        }
    (Place.of(out) / EXAMPLES).write(json.dumps(found, ensure_ascii=False, indent=1).encode("utf-8", "replace"))


def kept_examples(out: Path) -> dict[str, dict[str, list[Case]]]:
    """way → kind → examples, as `keep_examples` wrote them; empty where it did not.

    Raises:
        DamagedRunError: the file holds something else, such as images that lie elsewhere.
    """
    found = read_facts(out / EXAMPLES, dict[str, dict[str, Annotated[list[Case], Range(0, _MOST)]]])

    def shown(facts: dict[str, str] | None) -> Shown | None:
        return None if facts is None else Shown(**facts)

    def case(facts: dict[str, Any]) -> Case:
        items = {name: shown(facts[name]) for name in ("asked", "right", "before", "after")}
        return Case(**items, place_before=facts["place_before"], place_after=facts["place_after"])  # type: ignore[arg-type]

    return {
        way: {kind: list(map(case, cases)) for kind, cases in kinds.items()}
        for way, kinds in found.items()
        if way in WAYS
    }


def choose(
    before: Ranking | None, after: Ranking | None, answers: Sequence[Hashable], count: int
) -> dict[str, list[int]]:
    """Places in the rankings of the queries to show, by kind; of queries with the same answer one is shown."""
    ranks = (after if after is not None else before).ranks  # type: ignore[union-attr]
    taken: set[Hashable] = set()
    if before is not None and after is not None:
        gain = np.log(before.ranks) - np.log(after.ranks)  # from place 10 to 1 counts as much as from 100 to 10
        orders = {
            "helped": (np.lexsort((ranks, -gain)), gain > 0),
            "hurt": (np.lexsort((-ranks, gain)), gain < 0),
        }
    else:
        orders = {"best": (np.argsort(ranks, kind="stable"), ranks == 1)}
    orders["worst"] = (np.argsort(-ranks, kind="stable"), ranks > 1)

    def picked(order: np.ndarray, wanted: np.ndarray) -> Iterator[int]:
        for place in order[wanted[order]].tolist():
            if answers[place] not in taken:
                taken.add(answers[place])
                yield place

    return {
        kind: [place for place, _ in zip(picked(*order), range(count), strict=False)] for kind, order in orders.items()
    }


def _answer(pair: Pair, way: str, contents: Contents) -> Hashable:
    """Equal for queries whose right answers are the same thing."""
    return pair.group or contents.number(pair.positive if way == "forward" else pair.query)


def _case(
    out: Path, pairs: Sequence[Pair] | PairTable, way: str, before: Ranking | None, after: Ranking | None, place: int
) -> dict[str, Any]:
    def item(row: int, side: str) -> dict[str, str]:
        pair = pairs[row]
        return _shown(out, *((pair.query, pair.positive) if side == "query" else (pair.positive, pair.query)), row)

    asks, finds = ("query", "positive") if way == "forward" else ("positive", "query")
    last = after if after is not None else before
    row = int(last.rows[place])  # type: ignore[union-attr]
    facts: dict[str, Any] = {"asked": item(row, asks), "right": item(row, finds)}
    for name, ranking in (("before", before), ("after", after)):
        facts[name] = None if ranking is None else item(int(ranking.first[place]), finds)
        facts[f"place_{name}"] = None if ranking is None else int(ranking.ranks[place])
    return facts


def _shown(out: Path, item: Item, other: Item, row: int) -> dict[str, str]:
    """An item as a report shows it; `other`, the other side of its pair, tells what its image is of."""
    facts = {"text": shorten(item.text or ""), "image": "", "alt": "", "note": ""}
    if item.image is not None:
        try:
            facts["image"] = _thumbnail(out, item)
            facts["alt"] = shorten(f"image of pair {row + 1}" + (f": {other.text}" if other.text else ""))
        except InputError as error:
            facts["note"] = shorten(error)
    media = [f"{kind}: {_named(getattr(item, kind))}" for kind in ("video", "audio") if getattr(item, kind) is not None]
    media += [f"{len(item.regions)} regions"] if len(item.regions) > 1 else []
    facts["note"] = "; ".join(filter(None, (facts["note"], *media)))
    return facts


def _named(media: Any) -> str:
    return media.name if isinstance(media, Path) else type(media).__name__


def _thumbnail(out: Path, item: Item) -> str:
    from PIL import Image

    image = Image.fromarray(outlined(load_pixels(item.image), item.regions, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    name = f"{IMAGES}/{hashlib.blake2b(buffer.getvalue(), digest_size=8).hexdigest()}.jpg"
    (Place.of(out) / name).write(buffer.getvalue())
    return name
