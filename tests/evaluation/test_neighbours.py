"""Image → image precision against values worked out by hand."""

import pytest
import torch

from zoo import get_spec
from zoo.evaluation.metrics import bootstrap, interval
from zoo.evaluation.neighbours import neighbour_precisions, neighbour_results
from zoo.evaluation.packs import Encoded


def at(*degrees: float) -> torch.Tensor:
    """Unit vectors of a plane."""
    angles = torch.tensor(degrees) * torch.pi / 180
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_precision_by_hand() -> None:
    """Two apples side by side, the third among the pears; the hat has no other and is not asked."""
    vectors = at(0, 10, 95, 90, 102, 180)
    labels = ["apple", "apple", "apple", "pear", "pear", "hat"]
    assert neighbour_precisions(vectors, labels, 1).tolist() == [1, 1, 0, 0, 0]
    # Of two other apples: the first finds the second, then the pear at 90; the third two pears. Of one pear: the apple.
    assert neighbour_precisions(vectors, labels, 5).tolist() == [0.5, 0.5, 0, 0, 0]
    assert neighbour_precisions(at(0, 10, 20, 90, 102, 180), labels, 5).tolist() == [1, 1, 1, 1, 1]


def test_ties_count_against_the_model() -> None:
    assert neighbour_precisions(torch.ones(4, 2) / 2**0.5, ["a", "a", "b", "b"], 1).tolist() == [0, 0, 0, 0]


def test_no_label_twice_asks_nothing() -> None:
    assert neighbour_precisions(at(0, 10), ["a", "b"], 5).tolist() == []


def test_each_source_is_ranked_alone() -> None:
    rows = [{"source": "grocery", "label": label} for label in ("apple", "apple", "pear", "pear", "plum")]
    rows += [{"source": "clothing", "label": label} for label in ("hat", "hat", "sock", "shoe")]
    vectors = at(0, 10, 90, 40, 200, 0, 90, 10, 270)
    found = {(r.part, r.metric): r for r in neighbour_results(None, "test", "again", Encoded(rows, vectors))}
    assert set(found) == {(s, f"precision@{k}") for s in ("", "grocery", "clothing") for k in (1, 5)}
    assert found["", "precision@1"].value == 3 / 6, "three groceries and no garment, of four and two"
    assert found["", "precision@1"].notes == "6 images, among those of their source"
    first = found["grocery", "precision@1"]
    assert first.value == 0.75, "the pear at 40 is nearer to an apple than to the other pear"
    assert (first.low, first.high) == interval(3, 4)[1:]
    assert first.notes == "4 images, among 5"
    five = found["grocery", "precision@5"]
    expected = neighbour_precisions(vectors[:5], [row["label"] for row in rows[:5]], 5)
    assert (five.value, five.low, five.high) == bootstrap(expected.numpy()[:, None])[0]
    assert found["clothing", "precision@1"].value == 0
    assert {(r.task, r.direction, r.dataset) for r in found.values()} == {
        ("image-to-image-retrieval", "image → image", "photos")
    }


def test_a_model_of_many_vectors_is_refused() -> None:
    from zoo import build_model
    from zoo.errors import TokenVectorsError

    name = "colqwen2-test"
    assert get_spec(name).similarity == "maxsim"
    with pytest.raises(TokenVectorsError):
        neighbour_results(build_model(name), "test", "again")
