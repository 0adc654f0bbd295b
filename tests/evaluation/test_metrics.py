"""Metrics against values worked out by hand."""

import pytest
import torch

from zoo.evaluation.metrics import accuracy, hits, interval, precision, same

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


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_interval_of_a_share_as_printed(count, total, low, high):
    """Newcombe (1998), table I, method 3."""
    found = interval(count, total)
    assert found.value == count / total
    assert found[1:] == pytest.approx((low, high), abs=5e-5)
    mirrored = interval(total - count, total)
    assert mirrored[1:] == pytest.approx((1 - high, 1 - low), abs=5e-5)
    assert 0 <= mirrored.low <= mirrored.value <= mirrored.high <= 1


def test_interval_follows_its_level():
    assert interval(5, 10, level=0.5).low > interval(5, 10).low
    middle = interval(5, 10)
    assert middle.low + middle.high == pytest.approx(1)


@pytest.mark.parametrize(("count", "total"), [(0, 0), (3, 2), (-1, 5)])
def test_interval_refuses_what_is_no_share(count, total):
    with pytest.raises(ValueError, match=f"{count} of {total} is no share"):
        interval(count, total)
