"""Figures and their intervals: against scipy, sklearn, a plain bootstrap and data whose truth is known."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from zoo.comparing import read_questions, scoring
from zoo.comparing.differences import difference, is_clear
from zoo.comparing.scoring import Scores, _means, average_precision, judged_right, scores_of
from zoo.evaluation.pairs import WAYS, evaluate_pairs
from zoo.inputs.item import Item


def everything(question):
    return np.ones(len(question.left), bool), np.ones(len(question.right), bool)


def vectors(question, dim=16):
    return normalize(torch.randn(len(question.left), dim)), normalize(torch.randn(len(question.right), dim))


def plain(values, statistic, resamples=1000):
    """Percentiles of a statistic of rows that are drawn anew, one draw after the other."""
    draw = np.random.default_rng(7)
    count = len(values[0])
    rows = (draw.integers(count, size=count) for _ in range(resamples))
    return np.nanquantile([statistic(*(column[some] for column in values)) for some in rows], [0.025, 0.975])


def test_retrieval_is_that_of_pairs():
    from zoo import build_model

    model = build_model("text-test")
    queries = [f"q {n}" for n in range(30)]
    targets = [f"t {n % 20}" for n in range(30)]
    (asked,) = read_questions(list(zip(queries, targets, strict=True)))
    left, right = model.encode_query([*asked.left]), model.encode_document([*asked.right])
    mine = scores_of(asked, left, right, everything(asked))
    theirs = evaluate_pairs(model, [Item(text=q) for q in queries], [Item(text=t) for t in targets])
    for scores, way in zip(mine, WAYS, strict=True):
        wanted = getattr(theirs, way).intervals()
        assert {name: told.value for name, told in scores.figures.items()} == pytest.approx(
            {name: told.value for name, told in wanted.items()}, abs=1e-12
        )


def test_intervals_are_those_of_a_plain_bootstrap():
    (asked,) = read_questions([(f"a {n}", f"b {n}") for n in range(150)])
    left, right = vectors(asked)
    right = normalize(left + 1.2 * right)
    forward = scores_of(asked, left, right, everything(asked))[0]
    for measure in ("mrr", "ndcg@10"):
        low, high = plain([forward.ranking.values(measure)], np.mean)
        told = forward.figures[measure]
        assert (told.low, told.high) == pytest.approx((low, high), abs=0.006)


def test_spearman_and_average_precision_with_their_intervals():
    stats, sk = pytest.importorskip("scipy.stats"), pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    for grades in (draw.random(200).round(2), (draw.random(200) < 0.3).astype(float)):
        (asked,) = read_questions([(f"a {n}", f"b {n}", float(grade)) for n, grade in enumerate(grades)])
        left, right = vectors(asked, 4)
        similarity = (left.double() * right.double()).sum(1).numpy()
        (scores,) = scores_of(asked, left, right, everything(asked))
        told = scores.figures[scores.headline]
        if scores.headline == "spearman":
            assert told.value == pytest.approx(stats.spearmanr(grades, similarity)[0])
            low, high = plain([grades, similarity], lambda a, b: stats.spearmanr(a, b)[0], 250)
            assert (told.low, told.high) == pytest.approx((low, high), abs=0.04)
        else:
            assert told.value == pytest.approx(sk.average_precision_score(grades, similarity))
            low, high = plain([similarity, grades > 0], average_precision, 400)
            assert (told.low, told.high) == pytest.approx((low, high), abs=0.03)


def test_pairs_of_equal_similarity_stand_at_one_place():
    sk = pytest.importorskip("sklearn.metrics")
    similarity, verdicts = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([True, False, True, False, True])
    assert average_precision(similarity, verdicts) == pytest.approx(sk.average_precision_score(verdicts, similarity))


def test_a_threshold_judges_no_pair_that_it_was_chosen_by():
    similarity = np.array([0.9, 0.8, 0.2, 0.1, 0.95, 0.05])
    assert judged_right(similarity, similarity > 0.5).tolist() == [1] * 6
    draw = np.random.default_rng(0)
    chance = [judged_right(draw.random(60), draw.random(60) < 0.5).mean() for _ in range(200)]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.02), (
        "a threshold chosen on the same pairs would seem better than chance"
    )


def simulated(asked, table: np.ndarray) -> Scores:
    return _means(asked, ("recall@1",), table[:, None], direction="a → b", rows=np.arange(len(table)))


@pytest.mark.parametrize("recall", [0.3, 0.7, 0.9])
def test_intervals_hold_a_known_recall(recall, monkeypatch):
    monkeypatch.setattr(scoring, "RESAMPLES", 20)  # Wilson's interval draws nothing
    (asked,) = read_questions([("a", "b"), ("c", "d")])
    draw = np.random.default_rng(int(100 * recall))
    held = 0
    for _ in range(400):
        told = simulated(asked, (draw.random(120) < recall).astype(float)).figures["recall@1"]
        held += told.low <= recall <= told.high
    assert 0.93 <= held / 400 <= 0.97


def test_intervals_of_differences_hold_the_known_one(monkeypatch):
    """Two models on the same queries, of which some are hard for both."""
    monkeypatch.setattr(scoring, "RESAMPLES", 300)
    (asked,) = read_questions([("a", "b"), ("c", "d")])
    draw = np.random.default_rng(3)
    held = clear = 0
    for _ in range(400):
        hard = draw.random(100)
        first, second, same = (hard + 0.25 * draw.standard_normal(100) < edge for edge in (0.6, 0.7, 0.6))
        scores = [simulated(asked, one.astype(float)) for one in (first, second, same)]
        told, none = (
            difference(
                one.figures["recall@1"].value - scores[0].figures["recall@1"].value, (one.drawn - scores[0].drawn)[:, 0]
            )
            for one in scores[1:]
        )
        held += told.low <= TRUE <= told.high
        clear += is_clear(none)
    assert 0.93 <= held / 400 <= 0.97
    assert 0.02 <= clear / 400 <= 0.08, "of two equal models one in twenty seems clearly better"


def _true_difference() -> float:
    """Of a uniform hardness and a normal error: how often the sum lies between the two edges."""
    grid = (np.arange(200_000) + 0.5) / 200_000
    from math import erf

    share = [np.mean([0.5 * (1 + erf((edge - h) / 0.25 / 2**0.5)) for h in grid[::100]]) for edge in (0.6, 0.7)]
    return float(share[1] - share[0])


TRUE = _true_difference()
