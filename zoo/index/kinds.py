"""Searching rows of several kinds: the best of each kind, side by side by their calibrated scores."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from zoo.arguments import checked, flag, optional, text, whole, wrong
from zoo.errors import ArgumentError
from zoo.index.base import SearchHit, VectorIndex, a_query
from zoo.index.where import Filter
from zoo.modalities import MODALITIES

if TYPE_CHECKING:
    from zoo.scales import Scales

KINDS = tuple(kind for kind in MODALITIES if kind != "regions")
_KNOWN: "WeakKeyDictionary[VectorIndex, tuple[tuple[str, str], tuple[str, ...]]]" = WeakKeyDictionary()


@dataclass(frozen=True)
class Compared(SearchHit):
    """A search result beside others of its kind or of several.

    Attributes:
        kind: what it is: "image", "audio". z: how many standard deviations its score stands above those of wrong results of
            its kind. fits: whether it answers, if anything of its kind does. Both None where the model has no calibration of it.
        ranks: of a hybrid search (`zoo.index.HybridIndex`) its rank, from 1, in each list that has it: "dense", "bm25", "sparse".
            fused: what those make together, by which the results are ordered. {} and None elsewhere.
    """

    kind: str = ""
    z: float | None = None
    fits: bool | None = None
    ranks: dict[str, int] = field(default_factory=dict)
    fused: float | None = None


class Mixed(NamedTuple):
    """What was found among rows of several kinds, best first, and the best score of each kind that there is."""

    matches: list[Compared]
    best: dict[str, float]


def _scales(name: str, value: Any) -> Any:
    if not hasattr(value, "order") or not hasattr(value, "known"):
        raise wrong(name, value, "the scales of a query", f'write {name}=Scales.of(model, "text") (zoo.scales)')
    return value


@checked(query=a_query, k=whole(), scales=_scales, column=text, where=optional(text), exact=flag)
def search_kinds(
    index: VectorIndex,
    query: Any,
    k: int = 10,
    *,
    scales: "Scales",
    column: str = "kind",
    where: str | None = None,
    exact: bool = False,
) -> Mixed:
    """The `k` best rows of an index whose rows are of several kinds.

    The k best of every kind are searched for, so that the first k of all are among them, and ranked by `Scales.order`: by how
    far each stands above wrong ones of its kind where all kinds that are found were measured, else by the scores themselves.
    Rows of one kind keep the order that `index.search` gives.

    Args:
        scales: of the query, `Scales.of(model, "text")`. column: the attribute that says what a row is.
        where, exact: as of `index.search`.

    Raises:
        ArgumentError: the index has no such column. Besides what `index.search` raises.
    """
    if column not in index.facts.columns.names:
        raise ArgumentError(
            f"column={column!r}: the index has no such attribute to tell what a row is; it has {index.facts.columns.names}"
        )
    asked = _conditions(index, column)
    if where is not None:
        Filter(where, index.facts.schema)  # by itself, before it stands beside another
        asked = [f"({where}) AND ({one})" for one in asked]
    lists = [index.search(query, k, where=one, exact=exact) for one in asked]
    found = [match for one in lists for match in one]
    kinds = [str(match.attributes.get(column) or "") for match in found]
    scores = [match.score for match in found]
    best: dict[str, float] = {}
    for score, kind in zip(scores, kinds, strict=True):
        best[kind] = max(score, best.get(kind, score))
    order = scales.order(scores, kinds)[:k]
    return Mixed([compared(found[place], kinds[place], scales) for place in order], best)


def _conditions(index: VectorIndex, column: str) -> tuple[str, ...]:
    """A filter for each kind of which an index has rows, and one for rows that say another or none; asked once a version."""
    version = index.commit(), column
    if _KNOWN.get(index, ((), ()))[0] != version:
        name = '"' + column.replace('"', '""') + '"'
        listed = ", ".join(f"'{kind}'" for kind in KINDS)
        every = [f"{name} = '{kind}'" for kind in KINDS] + [f"{name} NOT IN ({listed}) OR {name} IS NULL"]
        _KNOWN[index] = version, tuple(one for one in every if index.count(one))
    return _KNOWN[index][1]


def compared(match: SearchHit, kind: str, scales: "Scales") -> Compared:
    """A result of a kind with what its score says."""
    return Compared(**vars(match), kind=kind, z=scales.z(match.score, kind), fits=scales.fits(match.score, kind))
