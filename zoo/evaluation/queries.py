"""Free-form queries over the images of the data packs: those of the package (docs/paraphrases.md) or of a file of one's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.embedder import Embedder
from zoo.errors import InvalidQueriesError
from zoo.evaluation.metrics import Interval, bootstrap, first_ranks, interval, precisions, same
from zoo.evaluation.packs import ALL, BENCHMARKS, RETRIEVAL, TEXT_TO_IMAGE, Encoded
from zoo.evaluation.results import Result, today
from zoo.spec import need_one_vector
from zoo.strangers.schema import check, parse
from zoo.tables.pack_files import read_pack

QUERIES = Path(__file__).parent / "paraphrases.json"
PARAPHRASES = QUERIES.stem  # their name among the packs of a command
_PACKS = {benchmark.pack: benchmark for benchmark in BENCHMARKS}
_COUNTED = ("pack", "group", "kind")  # fields of a query whose values have a row each


@dataclass(frozen=True)
class Query:
    """One entry of a file of queries.

    Attributes:
        query: what is asked. labels: those whose images answer it. pack: whose images are searched.
        kind, group: what it is counted with besides, "" for nothing; a kind is of all entries, a group of some.
    """

    query: str
    labels: list[str]
    pack: str = "photos"
    kind: str = ""
    group: str = ""


@dataclass(frozen=True)
class Answer:
    """What one query finds among all images of its pack.

    Attributes:
        images: how many are searched. first: label of the first image, and `right`, whether it answers.
        rank: place of the first image that answers, 1 being the best; ties count against it.
        precision, chance: share of images that answer among the first ten, and among all.
    """

    asked: Query
    images: int
    first: str
    right: bool
    rank: int
    precision: float
    chance: float


@dataclass(frozen=True)
class QueryScore:
    """Figures of one part of the queries; shares from 0 to 1.

    Attributes:
        part: a pack, a kind, a group, or `ALL`. images: of the packs that its queries search, together.
        hits: k → share of queries that an image among the k best answers, with Wilson's interval.
        precision: mean share of answering images among the ten best, with its bootstrap interval over the queries.
        chance: what a random order gives for `precision`, and for the first hit.
    """

    part: str
    queries: int
    images: int
    hits: dict[int, Interval]
    precision: Interval
    chance: float


def read_queries(file: Path) -> list[Query]:
    """The queries of a JSON list of objects, as `Query` has them.

    Raises:
        InvalidQueriesError: the file is no such list or an empty one, an entry has no label or an unknown pack, or two of
            packs, kinds and groups have one name.
    """
    rows = check(parse(file.read_bytes(), file, InvalidQueriesError), list[Query], file, InvalidQueriesError)
    asked = [Query(**row) for row in rows]
    if not asked:
        raise InvalidQueriesError(f"{file} holds no query")
    for query in asked:
        if not query.labels:
            raise InvalidQueriesError(f"{file}: {query.query!r} has no label; name those whose images answer it")
        if query.pack not in _PACKS:
            known = ", ".join(_PACKS)
            raise InvalidQueriesError(f"{file}: {query.query!r} is over the pack {query.pack!r}; there are {known}")
    parts = [ALL, *(part for name in _COUNTED for part in {getattr(query, name) for query in asked} - {""})]
    if twice := sorted({part for part in parts if parts.count(part) > 1}):
        raise InvalidQueriesError(
            f"{file}: {twice} would be counted in one row; call packs, kinds and groups differently"
        )
    return asked


def evaluate_queries(
    model: Embedder, file: Path, split: str = "test", encoded: Mapping[str, Encoded] | None = None
) -> list[Answer]:
    """What each query of a file finds among the images of its pack, in the file's order.

    Args:
        encoded: by pack the images of the split, where they have been embedded.

    Raises:
        InvalidQueriesError: as `read_queries`, or the split has no image of a label. MissingPackError: no such pack or split.
    """
    need_one_vector(model.spec, "a benchmark of the zoo")
    asked = read_queries(file)
    encoded = dict(encoded or {})
    packs = dict.fromkeys(query.pack for query in asked)
    rows = {pack: encoded[pack].rows if pack in encoded else read_pack(pack, split) for pack in packs}
    labels = {pack: [_PACKS[pack].label(row) for row in of] for pack, of in rows.items()}
    known = {(pack, label) for pack, of in labels.items() for label in of}
    if missing := sorted({(query.pack, label) for query in asked for label in query.labels} - known):
        named = ", ".join(f"{label!r} of {pack}" for pack, label in missing[:5])
        raise InvalidQueriesError(
            f"{file} names {len(missing)} labels that no image of the split {split!r} has, such as {named}; ask on the split "
            "that the queries were written for (those of the package: test)"
        )
    answers: dict[int, Answer] = {}
    for pack in packs:
        places = [place for place, query in enumerate(asked) if query.pack == pack]
        images = encoded[pack].vectors if pack in encoded else model.encode([row["image"] for row in rows[pack]])
        found = _answers(model, [asked[place] for place in places], images, labels[pack])
        answers.update(zip(places, found, strict=True))
    return [answers[place] for place in range(len(asked))]


def _answers(model: Embedder, asked: Sequence[Query], images: Tensor, labels: Sequence[str]) -> list[Answer]:
    similarity = model.encode([query.query for query in asked]) @ images.T  # (queries, images)
    relevant = torch.stack([same(query.labels, labels).any(0) for query in asked])
    first, ranks = similarity.argmax(1).tolist(), first_ranks(similarity, relevant).tolist()
    shares, chances = precisions(similarity, relevant, 10).tolist(), relevant.double().mean(1).tolist()
    return [
        Answer(query, len(labels), labels[best], bool(right[best]), rank, share, chance)
        for query, best, right, rank, share, chance in zip(asked, first, relevant, ranks, shares, chances, strict=True)
    ]


def query_scores(answers: Sequence[Answer]) -> list[QueryScore]:
    """Figures of all queries, and of every pack, group and kind that is not all of them."""
    parts: dict[str, list[Answer]] = {ALL: list(answers)}
    for name in _COUNTED:
        for answer in answers:
            if part := getattr(answer.asked, name):
                parts.setdefault(part, []).append(answer)
    return [_score(part, some) for part, some in parts.items() if part == ALL or len(some) < len(answers)]


def _score(part: str, answers: Sequence[Answer]) -> QueryScore:
    total = len(answers)
    return QueryScore(
        part,
        total,
        sum({answer.asked.pack: answer.images for answer in answers}.values()),
        {k: interval(sum(answer.rank <= k for answer in answers), total) for k in (1, 5)},
        bootstrap(torch.tensor([[answer.precision] for answer in answers]).double().numpy())[0],
        sum(answer.chance for answer in answers) / total,
    )


def query_results(scores: Sequence[QueryScore], name: str, split: str, source: str) -> list[Result]:
    """The figures of the queries as results.

    Args:
        name: of the queries, such as the stem of their file: they are a benchmark of their own beside the packs.
    """
    found = []
    for score in scores:
        facts: dict[str, Any] = {
            "dataset": name,
            "task": RETRIEVAL,
            "split": split,
            "part": "" if score.part == ALL else score.part,
            "direction": TEXT_TO_IMAGE,
            "source": source,
            "date": today(),
            "notes": f"{score.queries:,} queries, {score.images:,} images",
        }
        measured = {**{f"hit@{k}": share for k, share in score.hits.items()}, "precision@10": score.precision}
        found += [
            Result(metric=metric, value=share.value, low=share.low, high=share.high, **facts)
            for metric, share in measured.items()
        ]
        found.append(Result(metric="precision by chance", value=score.chance, **facts))
    return found


def query_table(answers: Sequence[Answer]) -> str:
    """What each free-form query finds first, as Markdown."""
    lines = [
        "### Free-form queries, one by one",
        "",
        "| query | over | label of the first image | acceptable |",
        "| --- | --- | --- | --- |",
        *(f"| {a.asked.query} | {a.asked.pack} | {a.first} | {'yes' if a.right else 'no'} |" for a in answers),
    ]
    return "\n".join(lines)
