"""The loss imitation: its formula in numpy, its gradient by differences, and a student that comes to where its teacher is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from zoo.training import train
from zoo.training.errors import LossError
from zoo.training.losses.building import build_loss, describe_losses
from zoo.training.losses.imitation import Imitation

from tests.training.loss_support import units
from tests.training.train_support import fresh, quick, text_pairs
from zoo import Embedder


def formula(queries: Tensor, targets: Tensor, taught: tuple[Tensor, Tensor], relations: float, tau: float) -> float:
    """1 - mean cosine of both sides + `relations` times the mean over queries of KL(teacher ‖ student)."""
    own, theirs = ([t.detach().numpy() for t in side] for side in ((queries, targets), taught))
    cosines = [np.einsum("bd,bd->b", a, b) for a, b in zip(own, theirs, strict=True)]
    soft = []
    for left, right in (own, theirs):
        weights = np.exp(left @ right.T / tau)
        soft.append(weights / weights.sum(1, keepdims=True))
    student, teacher = soft
    return 1 - np.concatenate(cosines).mean() + relations * (teacher * np.log(teacher / student)).sum(1).mean()


def loss_of(loss: Imitation, queries: Tensor, targets: Tensor, taught: tuple[Tensor, Tensor]) -> Tensor:
    return loss(queries, targets, teacher_queries=taught[0], teacher_targets=taught[1])


@pytest.mark.parametrize(("relations", "temperature"), [(0.0, 0.05), (0.5, 0.05), (2.0, 0.3)])
def test_value_is_the_formulas(relations: float, temperature: float) -> None:
    queries, targets, taught = units(7, 5), units(7, 5), (units(7, 5), units(7, 5))
    found = loss_of(Imitation(relations, temperature), queries, targets, taught)
    assert found.item() == pytest.approx(formula(queries, targets, taught, relations, temperature), rel=1e-10)


def test_gradient_is_that_of_differences() -> None:
    queries, targets, taught = units(4, 3, grad=True), units(4, 3, grad=True), (units(4, 3), units(4, 3))
    loss = Imitation(relations=0.7, temperature=0.2)
    loss_of(loss, queries, targets, taught).backward()
    for leaf in (queries, targets):
        differences = torch.empty_like(leaf)
        for place in np.ndindex(*leaf.shape):
            ends = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    leaf[place] += step
                    ends.append(formula(queries, targets, taught, 0.7, 0.2))
                    leaf[place] -= step
            differences[place] = (ends[0] - ends[1]) / 2e-6
        torch.testing.assert_close(leaf.grad, differences, atol=1e-7, rtol=1e-6)


def test_nothing_is_left_to_learn_from_oneself_and_the_teacher_is_not_taught() -> None:
    queries, targets = units(6, 4, grad=True), units(6, 4, grad=True)
    teachers = queries.detach().clone().requires_grad_(), targets.detach().clone().requires_grad_()
    loss = loss_of(Imitation(), queries, targets, teachers)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    loss.backward()
    # Only a change of length is left, and the vectors are of unit length: the gradient lies along them.
    for leaf in (queries, targets):
        along = (leaf.grad * leaf).sum(1, keepdim=True) * leaf
        torch.testing.assert_close(leaf.grad, along, atol=1e-12, rtol=0)
        assert along.abs().max() > 0.01
    assert [teacher.grad for teacher in teachers] == [None, None]
    assert loss_of(Imitation(), units(6, 4), targets, teachers).item() > 0.1


def test_hard_negatives_are_passed_over() -> None:
    queries, targets, taught = units(3, 4, grad=True), units(3 + 3 * 2, 4, grad=True), (units(3, 4), units(9, 4))
    whole = loss_of(Imitation(), queries, targets, taught)
    assert not Imitation.hard_negatives
    assert whole.item() == loss_of(Imitation(), queries, targets[:3], (taught[0], taught[1][:3])).item()
    whole.backward()
    assert not targets.grad[3:].any()
    assert targets.grad[:3].any()


def test_a_teacher_of_other_dimensions_is_refused() -> None:
    with pytest.raises(
        LossError, match=r"have 6 dimensions where the model has 4; take a teacher of as many, or the loss dist"
    ):
        loss_of(Imitation(), units(3, 4), units(3, 4), (units(3, 6), units(3, 6)))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("imitation(relations=-0.1)", "relations is a weight from 0, not -0.1"),
        ("imitation(relations=float('nan'))", "relations"),
        ("imitation(temperature=0)", "temperature must be above 0, not 0"),
        ("imitation(weight=1)", "weight"),
        ("imitation:infonce", "imitation wraps none: write 'imitation'"),
    ],
)
def test_options_are_checked(written: str, said: str) -> None:
    with pytest.raises(LossError, match=said):
        build_loss(written)


def test_it_is_written_and_listed_by_its_name() -> None:
    assert dict(describe_losses())["imitation"].startswith("1 minus the cosine of each vector to the teacher's")
    found = build_loss("imitation(relations=0.25, temperature=0.1)")
    assert isinstance(found, Imitation)
    assert (found.relations, found.temperature) == (0.25, 0.1)


def test_a_student_comes_to_where_its_teacher_is(tmp_path: Path) -> None:
    """Texts that it has not read too: what is copied is the map, not the rows."""
    teacher, student = fresh("text-test", seed=5), fresh("text-test", seed=6)
    folder = teacher.save_pretrained(tmp_path / "teacher")
    pairs = text_pairs(48)
    others = [f"a {animal} and a {other}" for animal in ("cow", "fox", "yak") for other in ("hen", "eel", "dog")]

    def near(model: Embedder, texts: list[str]) -> float:
        return (model.encode(texts) * teacher.encode(texts)).sum(1).mean().item()

    taught = [pair.positive.text for pair in pairs]
    before = near(student, taught), near(student, others)
    recipe = quick(loss="imitation", teacher=str(folder), steps=16, batch_size=24, lr=1e-2, checkpoint_every=16)
    train(student, pairs, recipe, tmp_path / "run", progress=False, trackers=(), report=False)
    after = near(student, taught), near(student, others)
    assert after[0] > before[0] + 0.3
    assert after[1] > before[1] + 0.2
