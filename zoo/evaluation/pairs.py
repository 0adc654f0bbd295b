"""Retrieval over held-out pairs, both ways, with what is needed to compare two runs and to show examples."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple, Self, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.embedder import Embedder
from zoo.embedder.aiming import facing
from zoo.embedder.streaming import Encoded
from zoo.errors import ScoresMismatchError, TooFewPairsError
from zoo.evaluation.metrics import (
    Difference,
    Interval,
    alignment,
    bootstrap,
    bootstrap_difference,
    modality_gap,
    ndcg,
    uniformity,
)
from zoo.evaluation.ranking import Links, places_by_block
from zoo.evaluation.reordering import Reordering
from zoo.inputs.identity import Answers, Row
from zoo.inputs.item import Item
from zoo.prompts import Role
from zoo.spec import need_one_vector
from zoo.strangers import schema
from zoo.strangers.schema import Like, Range

KS = (1, 5, 10)
WAYS = ("forward", "backward")
DEPTH = 10  # of nDCG
_PLANE = 300  # pairs drawn in the image of both sides
_SPREAD = 20_000  # items of a side whose distances to each other are all taken
_FARTHEST = 1e12  # of vectors with any norms
Encode = Callable[..., Iterable[Encoded]]  # as `Embedder.encode_stream`


class _Lists(TypedDict):
    """A `Ranking` as JSON has it."""

    candidates: Annotated[int, Range(1, 2**40)]
    ks: Annotated[list[Annotated[int, Range(1, 2**40)]], Range(1, 32)]
    rows: list[Any]
    first: list[Any]
    ranks: list[Any]
    right: list[Any]
    recall: list[Any]
    ndcg: list[Any]


class _Facts(TypedDict):
    """`PairScores` as JSON has them; of figures that may be NaN `Any`."""

    pairs: Annotated[int, Range(1, 2**40)]
    skipped: list[str]
    sides: tuple[Annotated[str, Like("[a-z+]{1,60}", "modalities")], Annotated[str, Like("[a-z+]{1,60}", "modalities")]]
    forward: _Lists
    backward: _Lists
    alignment: Any
    uniformity: Any
    gap: Any
    plane: list[Any] | None


@dataclass(frozen=True, eq=False)
class Ranking:
    """Retrieval one way; every array has one entry for each distinct query.

    Attributes:
        candidates: how many distinct ones were ranked. ks: cuts of `recall`.
        rows: pair in which the query was first seen. first: pair of the candidate that came first.
        ranks: place of the first right candidate, 1 being the best; ties count against the query.
        right: number of right candidates. recall: `(queries, len(ks))` share of them among the k best. ndcg: nDCG@10.
    """

    candidates: int
    ks: tuple[int, ...]
    rows: np.ndarray
    first: np.ndarray
    ranks: np.ndarray
    right: np.ndarray
    recall: np.ndarray
    ndcg: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what `values` knows. Where every query has one right candidate hit@k is recall@k, and left out."""
        hits = () if (self.right == 1).all() else tuple(f"hit@{k}" for k in self.ks)
        return (*hits, *(f"recall@{k}" for k in self.ks), f"ndcg@{DEPTH}", "mrr")

    def values(self, measure: str) -> np.ndarray:
        """A measure of every query `(queries,)`, 0 to 1: "hit@k", "recall@k", "ndcg@10" or "mrr"."""
        name, _, k = measure.partition("@")
        if name == "hit":
            return (self.ranks <= int(k)).astype(np.float64)
        if name == "recall" and int(k) in self.ks:
            return self.recall[:, self.ks.index(int(k))]
        if measure == f"ndcg@{DEPTH}":
            return self.ndcg
        if measure == "mrr":
            return 1 / self.ranks
        raise ValueError(f"no measure {measure!r} here; known are {', '.join(self.measures)}")

    def table(self) -> np.ndarray:
        """All measures of all queries `(queries, measures)`."""
        return np.stack([self.values(measure) for measure in self.measures], axis=1)

    def of(self, rows: np.ndarray, candidates: np.ndarray) -> Self:
        """The same, with other numbers of queries and candidates."""
        return replace(self, rows=rows[self.rows], first=candidates[self.first])

    def intervals(self) -> dict[str, Interval]:
        """Mean of every measure with its 95 % bootstrap interval over the queries."""
        return dict(zip(self.measures, bootstrap(self.table()), strict=True))


@dataclass(frozen=True, eq=False)
class PairScores:
    """How well a model puts pairs together.

    Attributes:
        pairs: how many were ranked. skipped: what could not be embedded, and why.
        sides: modality of the queries and of the targets: "image", "image+text", or "mixed".
        forward: from queries to targets. backward: from targets to queries.
        alignment: mean squared distance of the pairs. uniformity: mean of the two sides' uniformity, of a side with more than 20,000
            distinct items by that many of them or fewer, evenly chosen.
        gap: distance of the sides' centroids, None where both sides are of the same modality.
        plane: `(2, points, 2)` queries and targets of up to 300 pairs on the two main axes of both; None without a gap.
    """

    pairs: int
    skipped: tuple[str, ...]
    sides: tuple[str, str]
    forward: Ranking
    backward: Ranking
    alignment: float
    uniformity: float
    gap: float | None
    plane: np.ndarray | None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for JSON; `from_dict` reads them."""
        facts = {name: plain(value) for name, value in vars(self).items() if name not in (*WAYS, "plane")}
        facts["plane"] = None if self.plane is None else self.plane.round(4).tolist()
        facts |= {way: {name: plain(value) for name, value in vars(getattr(self, way)).items()} for way in WAYS}
        return facts

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """The scores that `to_dict` wrote; raises ValueError for anything else."""
        if problem := schema.wrong(facts, _Facts):
            raise ValueError(problem)
        found: dict[str, Any] = {name: tuple(facts[name]) for name in ("skipped", "sides")}
        found |= {name: facts[name] for name in ("pairs", "alignment", "uniformity", "gap", "plane")}
        for name in ("alignment", "uniformity", "gap"):
            value = facts[name]
            none = value is None and name == "gap"
            if not none and not (isinstance(value, int | float) and (abs(value) <= _FARTHEST or value != value)):
                raise ValueError(f"{name} is {schema.shown(value)}; it must be a number")
        if facts["plane"] is not None:
            found["plane"] = numbers(facts["plane"], "plane", -_FARTHEST, _FARTHEST)
            if found["plane"].ndim != 3 or found["plane"].shape[::2] != (2, 2) or len(found["plane"][0]) > _PLANE:
                raise ValueError(f"plane has the shape {found['plane'].shape}")
        return cls(**found, **{way: _ranking(facts[way], way) for way in WAYS})


def plain(value: Any) -> Any:
    """An array or tuple as a list, everything else as it is."""
    return value.tolist() if isinstance(value, np.ndarray) else list(value) if isinstance(value, tuple) else value


def _ranking(facts: dict[str, Any], way: str) -> Ranking:
    """A ranking from its lists; raises ValueError where they do not belong together."""
    candidates, ks = facts["candidates"], tuple(facts["ks"])
    lists = {name: numbers(facts[name], f"{way}.{name}", 0, 2**40, whole=True) for name in ("rows", "first")}
    lists |= {name: numbers(facts[name], f"{way}.{name}", 1, candidates, whole=True) for name in ("ranks", "right")}
    lists |= {name: numbers(facts[name], f"{way}.{name}", 0, 1) for name in ("recall", "ndcg")}
    count = len(lists["rows"])
    for name, array in lists.items():
        if array.shape != ((count, len(ks)) if name == "recall" else (count,)):
            raise ValueError(f"{way}.{name} has the shape {array.shape}; there are {count:,} queries")
    return Ranking(candidates, ks, **lists)


def numbers(values: list[Any], name: str, least: float, most: float, *, whole: bool = False) -> np.ndarray:
    """A list of JSON, of lists or not, as an array; raises ValueError for what is empty, no number, or out of range."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:  # of different lengths
        raise ValueError(f"{name} is no list of numbers: {error}") from error
    if not array.size or array.dtype.kind not in ("i" if whole else "if"):
        raise ValueError(f"{name} is no list of {'whole ' if whole else ''}numbers")
    if not (np.isfinite(array).all() and array.min() >= least and array.max() <= most):
        raise ValueError(f"{name} has numbers outside {least:,} to {most:,}")
    return array


def evaluate_pairs(
    model: Embedder,
    queries: Sequence[Item],
    targets: Sequence[Item],
    groups: Sequence[str] | None = None,
    *,
    ks: Sequence[int] = KS,
    on_bad: Literal["skip", "raise"] = "skip",
    prompts: tuple[str | None, str | None] | None = None,
    prompt_names: tuple[str | None, str | None] | None = None,
    encode: Encode | None = None,
) -> PairScores:
    """Ranks all distinct targets for each distinct query, and the other way round.

    A target is right for a query if a pair joins them, or if both are in pairs of the same group: what trainer and
    miner take for right (`zoo.inputs.identity`). Items of equal content are asked and ranked once, and a query that is among the
    candidates without being right is left out of its own ranking. Memory: the vectors, and one block of rows of the
    similarities.

    Args:
        queries, targets: row i of both is a pair. groups: of every pair, "" for none.
        on_bad: "skip" leaves out pairs of which one side cannot be embedded, and lists them.
        prompts, prompt_names: of the queries and the targets, as `encode` takes them; by default the model's own by role.
        encode: in place of `model.encode_stream`.

    Raises:
        TooFewPairsError: there is no pair, or none could be embedded. InputError: a bad item, with `on_bad="raise"`.
    """
    if len(queries) != len(targets) or (groups is not None and len(groups) != len(queries)):
        counts = f"{len(queries)} queries, {len(targets)} targets, {'no' if groups is None else len(groups)} groups"
        raise ValueError(f"row i of every list is one pair, but there are {counts}")
    if not (ks := tuple(ks)) or min(ks) < 1:
        raise ValueError(f"ks are places counted from 1, not {ks}")
    if on_bad not in ("skip", "raise"):
        raise ValueError(f"on_bad must be skip or raise, not {on_bad!r}")
    need_one_vector(model.spec, "the evaluation of pairs")
    told = zip(queries, targets, groups or [""] * len(queries), strict=True)
    answers = Answers(Row(query, (target,), group=group) for query, target, group in told)
    numbers = (answers.numbers[answers.starts + side] for side in (0, 1))
    asked = asked_with(model, prompts, prompt_names)
    sides, kept = embed_sides(model, (queries, targets), tuple(numbers), asked, on_bad, encode)
    skipped = tuple(message for side in sides for message in side.skipped)
    left, right = (side.kept(kept) for side in sides)
    crossing = sides[0].modalities != sides[1].modalities
    # These three are of directions alone, whatever norms say in the ranking.
    ways = [side._replace(vectors=F.normalize(side.vectors, dim=-1)) for side in (left, right)]
    return PairScores(
        pairs=len(kept),
        skipped=skipped,
        sides=tuple(side.kind for side in sides),  # type: ignore[arg-type]
        forward=rank(left.vectors, right.vectors, relation_of(answers.right_for, left.contents, right.contents), ks).of(
            left.rows, right.rows
        ),
        backward=rank(
            right.vectors, left.vectors, relation_of(answers.asking_for, right.contents, left.contents), ks
        ).of(right.rows, left.rows),
        alignment=alignment(ways[0].paired, ways[1].paired),
        uniformity=sum(uniformity(side.vectors[:: 1 + len(side.vectors) // _SPREAD]) for side in ways) / 2,
        gap=modality_gap(ways[0].vectors, ways[1].vectors) if crossing else None,
        plane=_plane(left.paired, right.paired) if crossing and len(kept) > 2 else None,
    )


def compare(before: PairScores, after: PairScores) -> dict[str, dict[str, Difference]]:
    """How much `after` is above `before`: by way and measure, with a paired bootstrap over the same queries.

    Raises:
        ScoresMismatchError: the two are not over the same queries, candidates and cuts.
    """
    found: dict[str, dict[str, Difference]] = {}
    for way in WAYS:
        a, b = getattr(before, way), getattr(after, way)
        if a.ks != b.ks or a.candidates != b.candidates or not np.array_equal(a.rows, b.rows):
            raise ScoresMismatchError(
                f"{way}: {len(a)} queries over {a.candidates} candidates before, {len(b)} over {b.candidates} after; "
                "evaluate both on the same pairs"
            )
        found[way] = dict(zip(a.measures, bootstrap_difference(a.table(), b.table()), strict=True))
    return found


def asked_with(
    model: Embedder,
    prompts: tuple[str | None, str | None] | None,
    prompt_names: tuple[str | None, str | None] | None = None,
) -> list[dict[str, Any]]:
    """`encode`'s arguments for queries and for targets: the prompts given, else the model's own by role."""
    if prompts or prompt_names:
        given = zip(prompts or (None, None), prompt_names or (None, None), strict=True)
        return [{"prompt": prompt, "prompt_name": name} for prompt, name in given]
    roles: tuple[Role, Role] = ("query", "document")
    return [model.for_role(role) for role in roles]


def embed_sides(
    model: Embedder,
    items: tuple[Sequence[Item], Sequence[Item]],
    contents: tuple[np.ndarray, np.ndarray],
    asked: Sequence[dict[str, Any]],
    on_bad: str,
    encode: Encode | None,
) -> tuple[list["_Side"], list[int]]:
    """Both sides of pairs, each distinct content embedded once, and the rows of which both are there.

    Raises:
        TooFewPairsError: there is no such row.
    """
    read = [{item.modalities for item in side} if model.spec.targets else set() for side in items]
    sides = [
        _embed(encode or facing(model, others).encode_stream, some, own, role, prompt, on_bad)
        for some, own, others, role, prompt in zip(
            items, contents, reversed(read), ("query", "document"), asked, strict=True
        )
        if len(some)
    ]
    kept = [row for row in range(len(items[0])) if all(side.vector_of[row] >= 0 for side in sides)]
    if not kept:
        skipped = [message for side in sides for message in side.skipped]
        why = f"; the first of {len(skipped)} reasons: {skipped[0]}" if skipped else ""
        raise TooFewPairsError(f"of {len(items[0])} held-out pairs none can be evaluated{why}")
    return sides, kept


@dataclass
class _Side:
    """One side of the pairs: vectors of its distinct items, which row has which (-1: none), and their contents."""

    vectors: Tensor
    vector_of: np.ndarray
    contents: np.ndarray
    skipped: list[str]
    modalities: set[frozenset[str]]

    @property
    def kind(self) -> str:
        """The modality of every item, "mixed" where they differ."""
        return "+".join(sorted(next(iter(self.modalities)))) if len(self.modalities) == 1 else "mixed"

    def kept(self, rows: list[int]) -> "_Distinct":
        """What these rows use."""
        numbers, first = _numbered(self.vector_of[rows].tolist())
        rows = np.asarray(rows)[first]
        return _Distinct(self.vectors[self.vector_of[rows]], numbers, rows, self.contents[rows])


class _Distinct(NamedTuple):
    """Distinct vectors `(n, dim)`, which of them each pair has, in which row each is first used, and its content."""

    vectors: Tensor
    of: np.ndarray
    rows: np.ndarray
    contents: np.ndarray

    @property
    def paired(self) -> Tensor:
        """The vector of every pair `(pairs, dim)`."""
        return self.vectors[self.of]


def _embed(
    encode: Encode, items: Sequence[Item], contents: np.ndarray, role: str, prompt: dict[str, Any], on_bad: str
) -> _Side:
    modalities = {item.modalities for item in items}
    numbers, first = _numbered(contents.tolist())
    vectors, place, skipped = [], np.full(len(first), -1), []
    stream = encode((items[row] for row in first), progress=False, **prompt)
    for index, vector, error in stream:
        if vector is not None:
            place[index] = len(vectors)
            vectors.append(vector)
        elif on_bad == "raise":
            raise error.at(int(first[index]))  # type: ignore[union-attr]
        else:
            skipped.append(f"{role} {error.at(int(first[index]))}")  # type: ignore[union-attr]
    return _Side(torch.stack(vectors) if vectors else torch.zeros(0, 1), place[numbers], contents, skipped, modalities)


def _numbered(keys: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Equal keys get equal numbers, counted from 0 as they come; and where each number is first seen."""
    numbers = dict.fromkeys(keys)
    for number, key in enumerate(numbers):
        numbers[key] = number
    of = np.fromiter((numbers[key] for key in keys), dtype=np.int64, count=len(keys))
    return of, np.unique(of, return_index=True)[1]


Relation = Callable[[int, int], tuple[Links, Links]]  # of some queries what is right, and what is not ranked
Gains = Callable[[int, Links], np.ndarray]


def relation_of(
    answers: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    asked: np.ndarray,
    ranked: np.ndarray,
    spared: np.ndarray | None = None,
) -> Relation:
    """What is right for which query, for `rank`; a query that is a candidate without being right is left out of its own ranking.

    Args:
        answers: contents → (place among them, content that is right for it). asked, ranked: contents of queries and candidates.
        spared: of each query a content that is left out, too.
    """
    place = np.full(int(max(side.max(initial=0) for side in (asked, ranked) if side is not None)) + 2, -1)
    place[ranked] = np.arange(len(ranked))

    def links(start: int, stop: int) -> tuple[Links, Links]:
        rows, contents = answers(asked[start:stop])
        columns = place[np.minimum(contents, len(place) - 1)]
        right = Links.of(rows[columns >= 0], columns[columns >= 0])
        left = [asked[start:stop], *([] if spared is None else [spared[start:stop]])]
        columns = place[np.minimum(np.concatenate(left), len(place) - 1)]
        rows = np.tile(np.arange(stop - start), len(left))
        # (row, column) as one number, so that membership is one look-up.
        keys = right.rows * len(ranked) + right.columns
        out = (columns >= 0) & ~np.isin(rows * len(ranked) + columns, keys)
        return right, Links.of(rows[out], columns[out])

    return links


def rank(
    asked: Tensor,
    ranked: Tensor,
    links: Relation,
    ks: tuple[int, ...] = KS,
    gains: Gains | None = None,
    reorder: Reordering | None = None,
) -> Ranking:
    """The ranking of all candidates `(N, dim)` for every query `(Q, dim)`; rows and first are their numbers.

    Args:
        gains: of what is right for the queries from a start on, in the order of the links; for nDCG alone. 1 by default.
        reorder: puts the first candidates into another order.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("first", "ranks", "right", "recall", "ndcg")}
    depth = max(*ks, DEPTH, reorder.top if reorder else 1)
    for right, places in places_by_block(asked, ranked, links, depth=depth):
        count, start = len(places.first), sum(map(len, parts["ranks"]))
        places = places if reorder is None else reorder(start, right, places)
        counts = right.counts(count)
        found = np.zeros((count, depth))  # which of the first places hold a right one
        inside = places.right > 0
        found[right.rows[inside], places.right[inside] - 1] = 1
        recall = np.stack([found[:, :k].sum(1) / counts for k in ks], axis=1)
        block = {"first": places.top[:, 0], "ranks": places.first, "right": counts, "recall": recall}
        block["ndcg"] = (
            ndcg(torch.from_numpy(found[:, :DEPTH]), torch.from_numpy(counts)).numpy()
            if gains is None
            else _graded(right, places.right, gains(start, right), count)
        )
        for name, values in block.items():
            parts[name].append(values)
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return Ranking(len(ranked), ks, np.arange(len(asked)), **joined)


def _graded(right: Links, places: np.ndarray, gains: np.ndarray, count: int) -> np.ndarray:
    """nDCG@10 of each query with gains (Järvelin & Kekäläinen, 2002), as trec_eval has it: the best order has the largest first."""
    order = np.lexsort((-gains, right.rows))
    rows = right.rows[order]
    # Places 1, 2, … within each query, whose answers stand together, the largest gain first.
    ideal = 1 + np.arange(len(rows)) - np.searchsorted(rows, rows)

    def summed(rows: np.ndarray, places: np.ndarray, gains: np.ndarray) -> np.ndarray:
        there = (places > 0) & (places <= DEPTH)
        return np.bincount(rows[there], gains[there] / np.log2(places[there] + 1), minlength=count)

    return summed(right.rows, places, gains) / summed(rows, ideal, gains[order])


def _plane(left: Tensor, right: Tensor) -> np.ndarray:
    """Both sides of evenly chosen pairs on their two main axes `(2, points, 2)`; the queries' centroid lies left."""
    chosen = torch.linspace(0, len(left) - 1, min(len(left), _PLANE)).long()
    both = torch.cat([left[chosen], right[chosen]]).double()
    both = both - both.mean(0)
    # The two right singular vectors of the centred points are their principal axes.
    axes = torch.linalg.svd(both, full_matrices=False).Vh[:2]
    points = (both @ axes.T).view(2, len(chosen), 2)
    if points[0, :, 0].mean() > 0:
        points[..., 0] *= -1
    return points.numpy()
