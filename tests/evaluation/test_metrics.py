"""Metrics against values worked out by hand."""

import pytest
import torch

from zoo.evaluation.metrics import accuracy, hits, precision, same

# Query 0 finds its candidate first, query 1 second, query 2 fourth.
SIMILARITY = torch.tensor([[0.9, 0.1, 0.2, 0.3], [0.8, 0.7, 0.1, 0.0], [0.6, 0.5, 0.4, 0.3]])
RELEVANT = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.bool)


def test_hits_by_hand():
    assert hits(SIMILARITY, RELEVANT, (1, 2, 3, 4)) == pytest.approx({1: 1 / 3, 2: 2 / 3, 3: 2 / 3, 4: 1.0})


def test_several_relevant_count_once():
    relevant = torch.tensor([[0, 1, 0, 1]], dtype=torch.bool)
    assert hits(torch.tensor([[0.9, 0.8, 0.1, 0.2]]), relevant, (1, 2)) == {1: 0.0, 2: 1.0}


def test_equal_vectors_score_nothing():
    assert hits(torch.ones(3, 4), RELEVANT, (1, 3, 4))[3] == 0.0
    assert hits(torch.ones(3, 4), RELEVANT, (4,))[4] == 1.0


def test_hits_refuses_queries_without_answer():
    with pytest.raises(ValueError, match="at least one relevant"):
        hits(SIMILARITY, torch.zeros(3, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="must agree"):
        hits(SIMILARITY, RELEVANT[:, :2])


def test_precision_by_hand():
    relevant = torch.tensor([[1, 0, 0, 1], [1, 1, 0, 0]], dtype=torch.bool)
    assert precision(SIMILARITY[:2], relevant, 2) == pytest.approx((2 / 2 + 2 / 2) / 2)
    assert precision(SIMILARITY[:2], relevant, 4) == pytest.approx(0.5)


def test_accuracy_by_hand():
    assert accuracy(SIMILARITY, torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)


def test_same_compares_strings():
    assert same(["a", "b"], ["b", "a", "b"]).tolist() == [[False, True, False], [True, False, True]]
