"""Graded and distillation losses against sentence-transformers, closed forms, naive loops and finite differences."""

import math

import pytest
import torch
from torch.nn import functional as F
from zoo.training.errors import LossError
from zoo.training.losses import build_loss
from zoo.training.losses.angle import AnglE, angle_similarity
from zoo.training.losses.cosent import CoSENT
from zoo.training.losses.distillation import Distillation
from zoo.training.losses.infonce import InfoNCE
from zoo.training.losses.stable_distillation import StableDistillation

from tests.training.loss_support import (
    columns_of,
    exact,
    plain_infonce,
    right_in_groups,
    same,
    same_on_sphere,
    st,
    units,
)

# ------------------------------------------------------------------------------------------------ graded pairs


@pytest.mark.parametrize(("name", "theirs"), [("cosent", "CoSENTLoss"), ("angle(in_batch=0, angle=1)", "AnglELoss")])
@pytest.mark.parametrize("dim", [6, 7])
def test_graded_losses_equal_sentence_transformers(name, theirs, dim):
    queries, targets = units(12, dim, grad=True), units(24, dim, grad=True)
    scores = torch.randint(0, 4, (12,)).double() / 3
    model, features = columns_of(queries, targets[:12])
    reference = st(theirs)(model, scale=20.0)(features, scores)
    same_on_sphere(exact(build_loss(name))(queries, targets, scores=scores), reference, queries, targets)


def test_cosent_equals_a_loop_over_pairs_of_pairs():
    queries, targets, scores = units(9, 5), units(9, 5), torch.tensor([0.0, 1, 0.5, 0.5, 1, 0, 0.2, 0.2, 0.9])
    cosines = (queries * targets).sum(1).tolist()
    total = 1.0
    for i in range(9):
        for j in range(9):
            if scores[i] > scores[j]:
                total += math.exp((cosines[j] - cosines[i]) / 0.05)
    assert exact(CoSENT())(queries, targets, scores=scores).item() == pytest.approx(math.log(total), abs=1e-10)


def test_angle_similarity_is_the_real_and_imaginary_parts_of_a_quotient():
    a, b = units(5, 8), units(5, 8)
    quotient = torch.complex(*a.chunk(2, 1)) * torch.complex(*b.chunk(2, 1)).conj()
    expected = (quotient.real + quotient.imag).sum(1).abs()
    assert (angle_similarity(a, b) - expected).abs().max() < 1e-12
    assert (angle_similarity(a, a) - 1).abs().max() < 1e-12


def authors_in_batch(queries, targets, scores) -> torch.Tensor:
    """In AnglE's code, rows in zigzag: a row whose pair is graded 1 picks its partner among all others; mean over all rows."""
    zigzag = torch.stack([queries, targets], 1).flatten(0, 1)
    logits = zigzag @ zigzag.T / 0.05 - 1e12 * torch.eye(len(zigzag))
    place = torch.arange(len(zigzag))
    label = (scores.repeat_interleave(2)[:, None] == 1) & (place == (place + 1 - place % 2 * 2)[:, None])
    return -(logits.log_softmax(1) * label).sum(1).mean()


def test_angle_is_the_sum_of_the_authors_parts_by_their_weights():
    queries, targets = units(8, 6, grad=True), units(8, 6, grad=True)
    scores = torch.tensor([1.0, 0.2, 1, 0, 0.5, 1, 0.9, 0.4], dtype=torch.float64)
    parts = {weight: exact(AnglE(in_batch=weight, angle=1.0))(queries, targets, scores=scores) for weight in (0.0, 3.0)}
    in_batch = authors_in_batch(queries, targets, scores)
    same(parts[3.0] - parts[0.0], 3 * in_batch, queries, targets)
    same(exact(AnglE())(queries, targets, scores=scores), in_batch + 0.02 * parts[0.0], queries, targets)
    with_cosine = exact(AnglE(in_batch=0, angle=1.0, cosine=2.0))(queries, targets, scores=scores)
    same(with_cosine - parts[0.0], 2 * exact(CoSENT())(queries, targets, scores=scores), queries, targets)


@pytest.mark.parametrize("name", ["cosent", "angle", "angle(cosine=1.0)"])
def test_equal_grades_cost_nothing_and_have_a_gradient_of_zero(name):
    queries, targets = units(6, 4, grad=True), units(6, 4, grad=True)
    loss = exact(build_loss(name))(queries, targets, scores=torch.full((6,), 0.5))
    assert loss.item() == 0
    assert all((grad == 0).all() for grad in torch.autograd.grad(loss, (queries, targets)))


@pytest.mark.parametrize("name", ["cosent(learn=True)", "angle(positive=0.5, cosine=0.3)"])
def test_graded_losses_have_the_gradient_of_finite_differences(name):
    loss, scores = exact(build_loss(name)), torch.tensor([0.0, 1, 0.5, 0.5, 1])
    queries, targets = units(5, 4, grad=True), units(5, 4, grad=True)
    assert torch.autograd.gradcheck(
        lambda q, t: loss(q, t, scores=scores), (queries, targets), check_undefined_grad=False
    )


def test_graded_losses_do_not_look_at_hard_negatives_and_check_their_scores():
    queries, targets, scores = units(4, 4), units(12, 4), torch.tensor([0.0, 1, 0.5, 1])
    for name in ("cosent", "angle"):
        loss = exact(build_loss(name))
        assert loss(queries, targets, scores=scores) == loss(queries, targets[:4], scores=scores)
        with pytest.raises(LossError, match=r"4 pairs need scores \(4,\), not \(4, 1\)"):
            loss(queries, targets, scores=scores[:, None])


# ------------------------------------------------------------------------------------------------ distillation


def test_group_distillation_equals_sentence_transformers():
    queries, targets, scores = units(6, 5, grad=True), units(24, 5, grad=True), torch.randn(6, 4, dtype=torch.float64)
    model, features = columns_of(queries, targets)
    theirs = st("DistillKLDivLoss")(model, similarity_fct=lambda a, b: (a * b).sum(1), temperature=0.5)
    theirs.teacher_temperature = 0.25
    mine = exact(Distillation("group", temperature=0.5, teacher_temperature=0.25))
    # Theirs is scaled by the square of the student's temperature.
    same(mine(queries, targets, teacher_scores=scores), theirs(features, scores) / 0.25, queries, targets)


@pytest.mark.parametrize("block", [None, 3])
def test_batch_distillation_equals_the_plain_formula(block):
    queries, targets = units(7, 5, grad=True), units(14, 5, grad=True)
    teachers = {"teacher_queries": units(7, 9), "teacher_targets": units(14, 9)}
    loss = exact(Distillation(temperature=0.2, teacher_temperature=0.1, block=block))(queries, targets, **teachers)
    teacher = (teachers["teacher_queries"] @ teachers["teacher_targets"].T / 0.1).softmax(1)
    student = (queries @ targets.T / 0.2).softmax(1)
    same(loss, (teacher * (teacher.log() - student.log())).sum(1).mean(), queries, targets)


def test_student_like_its_teacher_is_at_rest_and_the_teacher_gets_no_gradient():
    queries, targets = units(6, 5, grad=True), units(12, 5, grad=True)
    loss = exact(Distillation(temperature=0.1))
    value = loss(queries, targets, teacher_queries=queries.detach(), teacher_targets=targets.detach())
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert all(grad.abs().max() < 1e-12 for grad in torch.autograd.grad(value, (queries, targets)))
    teachers = {"teacher_queries": units(6, 3, grad=True), "teacher_targets": units(12, 3, grad=True)}
    loss(queries, targets, **teachers).backward()
    assert queries.grad.abs().max() > 0
    assert all(teacher.grad is None for teacher in teachers.values())
    scores = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    exact(Distillation("group", cosine=0.5))(queries, targets, teacher_scores=scores, **teachers).backward()
    assert scores.grad is None
    assert teachers["teacher_queries"].grad is None


def test_a_teacher_that_is_sure_makes_infonce():
    queries, targets = units(5, 8, grad=True), units(15, 8, grad=True)
    sure = torch.eye(15, dtype=torch.float64)
    loss = exact(Distillation(temperature=0.1, teacher_temperature=1e-3))
    same(
        loss(queries, targets, teacher_queries=sure[:5], teacher_targets=sure),
        plain_infonce()(queries, targets),
        queries,
    )
    scores = F.one_hot(torch.zeros(5, dtype=torch.long), 3).double()
    group = exact(Distillation("group", temperature=0.1, teacher_temperature=1e-3))(
        queries, targets, teacher_scores=scores
    )
    same(group, plain_infonce(in_batch=False)(queries, targets), queries, targets)


def test_distillation_adds_infonce_with_the_same_temperature_and_its_masks():
    queries, targets = units(5, 4, grad=True), units(10, 4, grad=True)
    extras = {"teacher_queries": units(5, 4), "teacher_targets": units(10, 4)}
    groups = {"right": right_in_groups(torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 0, 1, 2, 3, 1, 1, 4, 5, 6]))}
    alone, both = (exact(Distillation(temperature=0.1, infonce=w, symmetric=False)) for w in (0.0, 0.5))
    assert both.may_read == InfoNCE.may_read | {"empty"}
    assert alone.may_read == {"empty"}
    difference = both(queries, targets, **extras, **groups) - alone(queries, targets, **extras)
    same(difference, 0.5 * plain_infonce()(queries, targets, **groups), queries, targets)
    assert len(list(both.parameters())) == 1


def test_u_marvel_teacher_is_the_mean_of_cosine_and_reranker():
    queries, targets, scores = units(4, 5, grad=True), units(12, 5, grad=True), torch.rand(4, 3, dtype=torch.float64)
    extras = {"teacher_queries": units(4, 7), "teacher_targets": units(12, 7)}
    loss = Distillation("group", cosine=0.5)
    assert loss.reads == {"teacher_scores", "teacher_queries", "teacher_targets"}
    total = 0.0
    for i in range(4):
        own = [i, 4 + 2 * i, 5 + 2 * i]
        cosine = extras["teacher_targets"][own] @ extras["teacher_queries"][i]
        teacher = ((cosine + scores[i]) / 2 / 0.05).softmax(0)
        student = (targets[own] @ queries[i] / 0.05).softmax(0)
        total = total + (teacher * (teacher / student).log()).sum() / 4
    same(exact(loss)(queries, targets, teacher_scores=scores, **extras), total, queries, targets)


def test_learned_temperature_gets_the_gradient_of_finite_differences():
    queries, targets = units(4, 5, grad=True), units(8, 5, grad=True)
    extras = {"teacher_queries": units(4, 3), "teacher_targets": units(8, 3)}
    loss = exact(Distillation(temperature=0.5, learn=True, teacher_temperature=0.3, infonce=0.2))
    raw = loss.temperature.log_scale

    def value(q, t, log_scale):
        return torch.func.functional_call(loss, {"temperature.log_scale": log_scale}, (q, t), extras)

    assert torch.autograd.gradcheck(
        value, (queries, targets, raw.detach().requires_grad_()), check_undefined_grad=False
    )


def test_distillation_of_many_rows_keeps_memory_flat():
    queries, targets = (F.normalize(torch.randn(2048, 8), dim=1).requires_grad_() for _ in range(2))
    teachers = {"teacher_queries": queries.detach(), "teacher_targets": targets.detach()}
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            sizes.extend([out.numel()] if isinstance(out, torch.Tensor) else [])
            return out

    with Watch():
        Distillation()(queries, targets, **teachers).backward()
    assert max(sizes) <= 2**20 < 2048 * 2048


def test_distillation_says_what_is_wrong():
    with pytest.raises(LossError, match="zoo mine"):
        Distillation("group")(units(3, 4).float(), units(3, 4).float(), teacher_scores=torch.ones(3, 1))
    with pytest.raises(LossError, match="each of the 9 targets, not \\(3, 2\\)"):
        Distillation("group")(units(3, 4).float(), units(9, 4).float(), teacher_scores=torch.ones(3, 2))
    for wrong in ('space="rows"', "teacher_temperature=0", "cosine=0.5"):
        with pytest.raises(LossError, match=r"^distillation: "):
            build_loss(f"distillation({wrong})")


def naive_stable(queries, targets, scores, temperature, removed=()):
    """The loss as the paper has it: a loop over queries, ranks and candidates; `removed` holds (query, target)."""
    count, group = scores.shape
    weights, total = scores.softmax(1), 0.0
    for i in range(count):
        own = [i] + [count + i * (group - 1) + k for k in range(group - 1)]
        ranks = [0, *sorted(range(1, group), key=lambda k: -scores[i, k].item())]
        for g, k in enumerate(ranks):
            gone = {own[r] for r in ranks[:g]} | {n for query, n in removed if query == i}
            if own[k] not in gone:
                logits = torch.stack([queries[i] @ targets[n] for n in range(len(targets)) if n not in gone])
                likelihood = queries[i] @ targets[own[k]] / temperature - (logits / temperature).logsumexp(0)
                total = total - weights[i, k] * likelihood
    return total / count


@pytest.mark.parametrize("block", [None, 2])
def test_stable_distillation_equals_a_triple_loop(block):
    queries, targets, scores = units(5, 6, grad=True), units(20, 6, grad=True), torch.randn(5, 4, dtype=torch.float64)
    loss = exact(StableDistillation(temperature=0.2, block=block))(queries, targets, teacher_scores=scores)
    same(loss, naive_stable(queries, targets, scores, 0.2), queries, targets)


def test_stable_distillation_is_infonce_of_groups_of_one_and_of_sure_rewards():
    queries, targets = units(5, 6, grad=True), units(5, 6, grad=True)
    loss = exact(StableDistillation(temperature=0.1))
    same(loss(queries, targets, teacher_scores=torch.randn(5, 1)), plain_infonce()(queries, targets), queries, targets)
    targets = units(15, 6, grad=True)
    sure = torch.tensor([[1e4, 0.0, 1.0]]).expand(5, 3)
    same(loss(queries, targets, teacher_scores=sure), plain_infonce()(queries, targets), queries, targets)
    one = loss(queries[:1], targets[:3], teacher_scores=torch.zeros(1, 3))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(one, (queries, targets)))


def test_stable_distillation_of_a_lower_candidate_leaves_the_better_ones_alone():
    loss = exact(StableDistillation(temperature=0.1))
    loss(units(3, 4), units(9, 4), teacher_scores=torch.tensor([[0.0, -1, 1]] * 3, dtype=torch.float64))
    assert loss.ranked.tolist() == [[0, 4, 3], [1, 6, 5], [2, 8, 7]]
    loss.shares = torch.tensor([[0.0, 0, 1]] * 3, dtype=torch.float64)  # the last in rank alone
    logits = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(loss.row_losses(logits, torch.arange(3), 0).sum(), logits)
    assert (grad[0] != 0).tolist() == [False, True, True, True, False, True, True, True, True]


def test_stable_distillation_adds_infonce_and_leaves_out_what_is_right():
    queries, targets, scores = units(4, 5, grad=True), units(12, 5, grad=True), torch.randn(4, 3, dtype=torch.float64)
    alone, both = (exact(StableDistillation(0.1, infonce=w)) for w in (0.0, 2.0))
    difference = both(queries, targets, teacher_scores=scores) - alone(queries, targets, teacher_scores=scores)
    same(difference, 2 * plain_infonce()(queries, targets), queries, targets)
    groups = torch.arange(12)
    groups[4] = 0  # the first hard negative of query 0 is the very thing
    masked = alone(queries, targets, teacher_scores=scores, right=right_in_groups(groups[:4], groups))
    same(masked, naive_stable(queries, targets, scores, 0.1, removed=[(0, 4)]), queries, targets)
