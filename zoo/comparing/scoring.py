"""Vectors → figures: what a question measures, with intervals, and all that is needed to set two models side by side."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from zoo.comparing.questions import TASKS, Question
from zoo.comparing.reranked import Reranking
from zoo.errors import QuestionsError
from zoo.evaluation.graded import correlations, spearman
from zoo.evaluation.metrics import Interval, drawn_rows, interval, percentiles, resampled_means
from zoo.evaluation.pairs import DEPTH, KS, Ranking, rank, relation_of
from zoo.evaluation.ranking import QUERIES, Links

RESAMPLES = 2000
LEVEL = 0.95
SPEARMAN, PRECISION, ACCURACY = "spearman", "average precision", "accuracy"
HEADLINES = {"retrieval": f"ndcg@{DEPTH}", "classes": ACCURACY, "grades": SPEARMAN, "verdicts": PRECISION}


@dataclass(frozen=True, eq=False)
class Scores:
    """Figures of one model on one question, one way.

    Attributes:
        task, direction: as `zoo.evaluation.results.Result` has them. measures: names of the figures.
        figures: of each its value and 95 % interval. drawn: `(resamples, measures)` the same of rows drawn anew, as for any other
            model on the same rows.
        headline: the figure by which models are compared, "" where it is a baseline. rows: of `Question.left` (`backward`: right) that were asked, or pairs.
        protocol: as of `Result`: with which reranker, "" without one.
        ranking: of retrieval and classes, what came first; its numbers are places in the question's sides. notes: what was ranked.
    """

    task: str
    direction: str
    measures: tuple[str, ...]
    figures: dict[str, Interval]
    drawn: np.ndarray
    headline: str
    rows: np.ndarray
    backward: bool = False
    ranking: Ranking | None = None
    notes: str = ""
    dataset: str = ""
    split: str = "all"
    part: str = ""
    words: tuple[str, ...] = field(default=())
    protocol: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What the same figures of another model share."""
        return self.dataset, self.task, self.split, self.part, self.direction


def scores_of(
    question: Question,
    left: Tensor,
    right: Tensor,
    there: tuple[np.ndarray, np.ndarray],
    more: str = "",
    rerank: Reranking | None = None,
) -> list[Scores]:
    """The figures of a question, a `Scores` each way.

    Args:
        left, right: vectors `(n, dim)` of both sides. there: of each side `(n,)` what counts: what all models could embed.
        more: for the notes. rerank: of retrieval, puts the first results into another order.

    Raises:
        QuestionsError: nothing is left. OneClassError: what is left is of one class.
    """
    if rerank is not None:
        found = _retrieval(question, left, right, there, f"; {rerank.protocol}{more}", rerank)
        return [replace(one, protocol=rerank.protocol, words=(*one.words, *rerank.words)) for one in found]
    measure = {"retrieval": _retrieval, "classes": _classes, "grades": _grades, "verdicts": _verdicts}[question.kind]
    return list(measure(question, left, right, there, more))


def _facts(question: Question) -> dict[str, object]:
    source = question.source
    return {"dataset": source.name, "split": source.split, "words": source.words, "task": TASKS[question.kind]}


def _retrieval(
    question: Question,
    left: Tensor,
    right: Tensor,
    there: tuple[np.ndarray, np.ndarray],
    more: str,
    rerank: Reranking | None = None,
) -> Iterator[Scores]:
    assert question.answers is not None
    asked, ranked = question.contents[0][there[0]], question.contents[1][there[1]]
    ways: list[tuple[bool, Callable, np.ndarray, np.ndarray]] = [(False, question.answers.right_for, asked, ranked)]
    if question.both:
        ways.append((True, question.answers.asking_for, ranked, asked))
    names = question.sides if question.sides[0] != question.sides[1] else ("query", "answer")
    for backward, answers, first, second in ways:
        places = [np.flatnonzero(side) for side in (reversed(there) if backward else there)]
        vectors = (right, left) if backward else (left, right)
        able = _answered(answers, first, second)
        if not able.any():
            raise QuestionsError(f"{question.name}: of no query is any right answer left that every model could embed")
        spared = None if question.spared is None else question.spared[there[0]][able]
        relation = relation_of(answers, first[able], second, spared)
        gains = None if question.gains is None or backward else _gains(question.gains, first[able], second)
        kept = places[0][able]
        order = None if rerank is None else rerank.reordering(question, kept, places[1])
        ranking = rank(vectors[0][kept], vectors[1][places[1]], relation, KS, gains, order).of(kept, places[1])
        notes = f"{len(ranking):,} queries, {ranking.candidates:,} candidates" + more
        notes += "; the image that is to be changed left out" * (question.spared is not None)
        yield _means(
            question,
            ranking.measures,
            ranking.table(),
            direction=" → ".join(reversed(names) if backward else names),
            rows=kept,
            backward=backward,
            ranking=ranking,
            notes=notes,
        )


def _answered(answers: Callable, asked: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """Which queries have a right answer among the candidates; others are not asked (they were of no side, or cannot be embedded)."""
    able = np.zeros(len(asked), bool)
    for start in range(0, len(asked), QUERIES):
        rows, contents = answers(asked[start : start + QUERIES])
        able[start + rows[np.isin(contents, ranked)]] = True
    return able


def _gains(
    told: dict[tuple[int, int], float], asked: np.ndarray, ranked: np.ndarray
) -> Callable[[int, Links], np.ndarray]:
    def gains(start: int, right: Links) -> np.ndarray:
        pairs = zip(asked[start + right.rows].tolist(), ranked[right.columns].tolist(), strict=True)
        return np.array([told[pair] for pair in pairs])

    return gains


def _classes(
    question: Question, left: Tensor, right: Tensor, there: tuple[np.ndarray, np.ndarray], more: str
) -> Iterator[Scores]:
    if not there[1].all():
        name = question.right[int(np.flatnonzero(~there[1])[0])].text
        raise QuestionsError(
            f"{question.name}: the name of the class {name!r} cannot be embedded by every model; call it otherwise"
        )
    kept = np.flatnonzero(there[0])
    place = np.full(len(there[0]), -1)
    place[kept] = np.arange(len(kept))
    pairs = question.pairs[there[0][question.pairs[:, 0]]]
    if not len(kept):
        raise QuestionsError(f"{question.name}: no item is left that every model could embed")
    links = Links.of(place[pairs[:, 0]], pairs[:, 1])
    none = Links.of(np.zeros(0), np.zeros(0))
    ranking = rank(left[kept], right, lambda *ends: (links.part(*ends), none), KS).of(kept, np.arange(len(right)))
    correct = (ranking.ranks == 1).astype(np.float64)[:, None]
    notes = f"{len(kept):,} items, {len(question.right):,} classes" + more
    direction = f"{question.sides[0]} → class"
    yield _means(question, (ACCURACY,), correct, direction=direction, rows=kept, ranking=ranking, notes=notes)


def _means(question: Question, measures: Sequence[str], table: np.ndarray, **facts: object) -> Scores:
    """Figures that are means over what was asked `(n, measures)`."""
    drawn = resampled_means(table, RESAMPLES, seed=0)
    low, high = percentiles(drawn, LEVEL)
    figures = {}
    for place, measure in enumerate(measures):
        column = table[:, place]
        shares = np.isin(column, (0.0, 1.0)).all()
        # Of shares Wilson's: where all of a few succeed, what is drawn anew has no width.
        told = interval(round(float(column.sum())), len(column)) if shares else (column.mean(), low[place], high[place])
        figures[measure] = Interval(*map(float, told))
    return Scores(
        measures=tuple(measures),
        figures=figures,
        drawn=drawn,
        headline=HEADLINES[question.kind],
        **_facts(question),
        **facts,
    )  # type: ignore[arg-type]


def _similarity(
    question: Question, left: Tensor, right: Tensor, there: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pairs count, their values and their similarities."""
    a, b = question.pairs.T
    kept = np.flatnonzero(there[0][a] & there[1][b])
    values = question.values[kept]
    if len(np.unique(values)) < 2:
        raise QuestionsError(
            f"{question.name}: the {len(kept):,} pairs that every model could embed have one grade; there is no order in them"
        )
    return kept, values, (left[a[kept]].double() * right[b[kept]].double()).sum(1).numpy()


def _grades(
    question: Question, left: Tensor, right: Tensor, there: tuple[np.ndarray, np.ndarray], more: str
) -> Iterator[Scores]:
    kept, grades, similarity = _similarity(question, left, right, there)
    drawn = correlations(grades, similarity)
    value, (low, high) = spearman(grades, similarity), percentiles(drawn, LEVEL)
    figures = {SPEARMAN: Interval(value, float(low[0]), float(high[0]))}
    notes = f"{len(kept):,} graded pairs" + more
    facts = {"direction": " - ".join(question.sides), "rows": kept, "notes": notes, **_facts(question)}
    yield Scores(measures=(SPEARMAN,), figures=figures, drawn=drawn, headline=SPEARMAN, **facts)  # type: ignore[arg-type]


def _verdicts(
    question: Question, left: Tensor, right: Tensor, there: tuple[np.ndarray, np.ndarray], more: str
) -> Iterator[Scores]:
    kept, verdicts, similarity = _similarity(question, left, right, there)
    verdicts = verdicts > 0
    correct = judged_right(similarity, verdicts)
    columns = [
        np.array([average_precision(similarity, verdicts)]),
        correct.mean(keepdims=True),
    ]
    draws = drawn_rows(len(kept), RESAMPLES, seed=0)
    counts = [(average_precisions(similarity, verdicts, times), times @ correct / len(kept)) for times in draws]
    drawn = np.stack([np.concatenate(column) for column in zip(*counts, strict=True)], axis=1)
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    precision = Interval(float(columns[0][0]), float(low[0]), float(high[0]))
    figures = {PRECISION: precision, ACCURACY: interval(int(correct.sum()), len(kept))}
    notes = (
        f"{len(kept):,} pairs, {int(verdicts.sum()):,} of them right; the threshold of one half is chosen on the other"
        + more
    )
    facts = {"direction": " - ".join(question.sides), "rows": kept, "notes": notes, **_facts(question)}
    yield Scores(measures=(PRECISION, ACCURACY), figures=figures, drawn=drawn, headline=PRECISION, **facts)  # type: ignore[arg-type]


def average_precision(similarity: np.ndarray, verdicts: np.ndarray) -> float:
    """Mean precision at every right pair, the most similar first; pairs of equal similarity stand at one place, the last of them."""
    return float(average_precisions(similarity, verdicts, np.ones((1, len(similarity))))[0])


def average_precisions(similarity: np.ndarray, verdicts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The same `(n,)` of pairs of which each is there so many times `(n, pairs)`; NaN where no right one is."""
    order = np.argsort(-similarity, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(similarity[order])), len(order) - 1)
    seen = times[:, order].cumsum(1)[:, ends]
    right = (times[:, order] * verdicts[order]).cumsum(1)[:, ends]
    precision = np.divide(right, seen, out=np.zeros(seen.shape), where=seen > 0)
    gained = np.diff(right, axis=1, prepend=0)
    total = right[:, -1]
    return np.divide((gained * precision).sum(1), total, out=np.full(len(times), np.nan), where=total > 0)


def judged_right(similarity: np.ndarray, verdicts: np.ndarray) -> np.ndarray:
    """Of each pair 1.0 where a threshold judges it right: that which is best on every other pair, so that none judges itself."""
    correct = np.zeros(len(similarity))
    halves = np.arange(len(similarity)) % 2
    for half in (0, 1):
        others = halves != half
        threshold = _best_threshold(similarity[others], verdicts[others]) if others.any() else 0.0
        own = halves == half
        correct[own] = (similarity[own] >= threshold) == verdicts[own]
    return correct


def _best_threshold(similarity: np.ndarray, verdicts: np.ndarray) -> float:
    """From where on as many as possible are judged as people judged them: halfway between two pairs."""
    order = np.argsort(-similarity, kind="stable")
    values, right = similarity[order], verdicts[order]
    # The first n count as right, n from 0.
    judged = np.concatenate([[0], np.cumsum(np.where(right, 1, -1))])
    allowed = np.concatenate([[True], np.diff(values) != 0, [True]])
    best = int(np.where(allowed, judged, judged.min() - 1).argmax())
    if best == 0:
        return float(values[0]) + 1
    return float(values[-1]) - 1 if best == len(values) else float(values[best - 1] + values[best]) / 2
