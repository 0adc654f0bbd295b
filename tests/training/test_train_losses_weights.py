"""Losses that weigh rows, mix negatives and soften labels against their formulas, by loops and to the bit."""

import math

import pytest
import torch
from torch.nn import functional as F
from zoo.training.errors import LossError
from zoo.training.losses import build_loss
from zoo.training.losses.infonce import InfoNCE

from tests.training.loss_support import made, right_in_groups, same, units
from tests.training.test_train_losses_contrastive import ONE_WAY, batch, left_out, still

# ------------------------------------------------------------------------------------------------ focal


def test_focal_at_gamma_0_is_infonce_to_the_bit():
    queries, targets, extras = batch()
    plain, focal = InfoNCE(0.1), build_loss("infonce(0.1) + focal(0)")
    for a, b in zip(results(plain, queries, targets, extras), results(focal, queries, targets, extras), strict=True):
        assert torch.equal(a, b)


def results(loss, queries, targets, extras):
    """Value and gradients."""
    value = loss(queries, targets, **extras)
    return (value, *torch.autograd.grad(value, (queries, targets, *loss.parameters())))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("detach", [False, True])
def test_focal_equals_its_formula(gamma, detach):
    queries, targets, extras = batch()
    gone = extras["ignore"] | extras["right"].matrix
    own = torch.zeros_like(gone)
    own.fill_diagonal_(True)
    p = (queries @ targets.T / 0.1).masked_fill(gone & ~own, -torch.inf).softmax(1).diagonal()
    weights = (1 - p) ** gamma
    expected = (-(weights.detach() if detach else weights) * p.log()).mean()
    same(
        made("focal", gamma=gamma, detach_weight=detach, block=4, **ONE_WAY)(queries, targets, **extras),
        expected,
        queries,
        targets,
    )


def test_focal_forgets_easy_rows_and_stays_finite():
    """One row at p = 1 to the last bit, one undecided: plain InfoNCE's slope is kept in the second alone."""
    vectors = torch.eye(4)[:3].requires_grad_()
    targets = torch.tensor([[1.0, 0, 0, 0], [0, 0.7, 0.7, 0.1], [0, 0.7, 0.7, -0.1]], requires_grad=True)
    for gamma in (0.25, 0.5, 2.0):
        loss = build_loss(f"infonce(0.01, symmetric=False) + focal({gamma})")
        grads = torch.autograd.grad(loss(vectors, targets), (vectors, targets, loss.temperature.log_scale))
        assert all(grad.isfinite().all() for grad in grads)
        assert grads[0][0].abs().max() < 1e-9 < 1e-2 < grads[0][1].abs().max()


# ------------------------------------------------------------------------------------------------ mixing


def test_list_mixture_equals_a_loop():
    queries, targets, extras = batch(5, 3)
    queries, targets = still(queries, targets)
    total = 0.0
    for i in range(5):
        own = [5 + 3 * i + k for k in range(3)]
        fair = [j for j in own if not left_out(i, j, extras)]
        logits = [float(queries[i] @ targets[j]) / 0.1 for j in range(20) if j == i or not left_out(i, j, extras)]
        if fair:
            weights = torch.tensor([float(queries[i] @ targets[j]) / 0.2 for j in fair]).double().softmax(0)
            mixed = sum(w * targets[j] for w, j in zip(weights, fair, strict=True))
            logits.append(float(queries[i] @ mixed / mixed.norm()) / 0.1)
        total += math.log(sum(math.exp(x) for x in logits)) - float(queries[i] @ targets[i]) / 0.1
    loss = made("mixing", pairs=0, list_temperature=0.2, block=2, temperature=0.1)
    assert loss(queries, targets, **extras).item() == pytest.approx(total / 5, rel=1e-6)


def test_mixtures_of_equal_negatives_count_these_again():
    queries, positives, one = units(5, 6, grad=True), units(5, 6), units(5, 6)
    targets = torch.cat([positives, one.repeat_interleave(3, 0)]).requires_grad_()
    logits = queries @ targets.T / 0.1
    again = (queries * one).sum(1, keepdim=True) / 0.1
    expected = F.cross_entropy(torch.cat([logits, again, again, again], 1), torch.arange(5))
    loss = made("mixing", pairs=2, lists=1, temperature=0.1)
    assert loss(queries, targets).item() == pytest.approx(expected.item(), rel=1e-12)


def test_pair_mixtures_are_of_two_own_negatives_by_beta_2_2():
    """Negatives along axes of their own: the axes that get a gradient are those that were mixed."""
    count = 4000
    loss = build_loss("mixing(pairs=1, lists=0)")
    (mixer,) = loss.mixers
    loss(units(count, 4).float(), units(4 * count, 4).float())
    ((which, share),) = mixer._drawn
    assert (which[:, 0] != which[:, 1]).all()
    assert torch.bincount(which.flatten(), minlength=3).min() > 2 * count / 3 * 0.9
    assert (share.mean() - 0.5).abs() < 0.02
    assert (share.var() - 0.05).abs() < 0.004  # of Beta(2, 2): 1 / 20
    axes = torch.eye(3).repeat(count, 1)
    queries = torch.ones(count, 3) / 3**0.5
    fair = torch.ones(count, 3, dtype=torch.bool)
    mixed = mixer.extra_logits(0, queries, axes.view(count, 3, 3), fair, torch.tensor(1.0))[:, 0]
    a, b = share[:, 0], 1 - share[:, 0]
    torch.testing.assert_close(mixed, (a + b) / (a * a + b * b).sqrt() / 3**0.5)


def test_mixtures_are_negatives_of_their_own_query_alone():
    queries, targets, _ = batch(4, 2)
    loss = made("mixing", pairs=1, lists=1, in_batch=False, temperature=0.1)
    terms = []
    for i in range(4):
        torch.manual_seed(2)
        (grad,) = torch.autograd.grad(loss(queries, targets), queries)
        other = targets.clone().detach()
        other[4 + 2 * i : 6 + 2 * i] = units(2, 5)
        torch.manual_seed(2)
        (changed,) = torch.autograd.grad(loss(queries, other), queries)
        terms.append((grad - changed).abs().amax(1) > 1e-9)
    assert torch.equal(torch.stack(terms), torch.eye(4, dtype=torch.bool))


def test_what_is_no_negative_is_not_mixed():
    queries, targets, _ = batch(4, 2)
    everything = torch.ones(4, 12, dtype=torch.bool)
    loss = made("mixing", temperature=0.1)
    value = loss(queries, targets, ignore=everything)
    grads = torch.autograd.grad(value, (queries, targets))
    assert value.item() == 0
    assert all((grad == 0).all() for grad in grads)
    own = right_in_groups(torch.arange(4), torch.cat([torch.arange(4), torch.arange(8) // 2]))
    only = made("mixing", in_batch=False, temperature=0.1)
    assert only(queries, targets, right=own).item() == 0


def test_mixing_needs_negatives_to_mix():
    with pytest.raises(LossError, match=r"needs 2 hard negatives a query, not 1.*or mixing"):
        build_loss("mixing")(units(3, 4), units(6, 4))
    with pytest.raises(LossError, match="needs 2 hard negatives a query, not 0: mine them"):
        build_loss("mixing")(units(3, 4), units(3, 4))
    with pytest.raises(LossError, match="needs 1 hard negatives"):
        build_loss("mixing(pairs=0)")(units(3, 4), units(3, 4))
    queries, targets = units(3, 4), units(3, 4)
    assert torch.equal(
        build_loss("mixing(pairs=0, lists=0)")(queries, targets), InfoNCE(symmetric=False)(queries, targets)
    )


# ------------------------------------------------------------------------------------------------ progressive


@pytest.mark.parametrize("mode", ["rows", "negatives"])
def test_progressive_starts_as_infonce(mode):
    queries, targets, extras = batch()
    plain = InfoNCE(**ONE_WAY)
    for strongest, progress in ((2.0, 0.0), (0.0, 0.8)):
        loss = build_loss(f"progressive({strongest}, mode={mode!r}, temperature=0.1)")
        found = results(loss, queries, targets, {**extras, "progress": progress})
        for a, b in zip(results(plain, queries, targets, extras), found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("progress", "power"), [(0.2, 0.8), (0.5, 2.0), (0.9, 2.0)])
def test_progressive_rows_equal_the_formula(progress, power):
    queries, targets, _ = batch()
    logits = queries @ targets.T / 0.1
    own = torch.eye(6, 18, dtype=torch.bool)
    d = logits.masked_fill(own, -torch.inf).logsumexp(1) - logits.diagonal()
    u = d.sigmoid().detach() ** power
    expected = (u / u.mean() * F.softplus(d)).mean()
    loss = made("progressive", strongest=2.0, block=4, temperature=0.1)
    same(loss(queries, targets, progress=progress), expected, queries, targets)
    torch.testing.assert_close(loss.difficulty(queries, targets, {"count": 6}), d.detach())
    (weight,) = loss.weights
    assert weight._weights.mean().item() == pytest.approx(1.0)
    assert not weight._weights.requires_grad


def test_progressive_negatives_equal_the_formula():
    queries, targets, extras = batch()
    gone = extras["ignore"] | extras["right"].matrix
    similarity = queries @ targets.T
    total = 0.0
    for i in range(6):
        others = [j for j in range(18) if j != i and not gone[i, j]]
        shares = len(others) * (1.5 * similarity[i, others]).softmax(0).detach()
        wrong = (shares * (similarity[i, others] / 0.1).exp()).sum()
        total = total + (wrong + (similarity[i, i] / 0.1).exp()).log() - similarity[i, i] / 0.1
    loss = made("progressive", strongest=3.0, ramp=1.0, mode="negatives", block=4, temperature=0.1)
    same(loss(queries, targets, progress=0.5, **extras), total / 6, queries, targets)


def test_a_nearer_negative_raises_the_weight():
    loss = made("progressive", temperature=0.1)
    (weight,) = loss.weights
    queries, targets = units(5, 4), units(10, 4)
    before = loss.difficulty(queries, targets, {"count": 5})
    nearer = targets.clone()
    nearer[5] = F.normalize(targets[5] + queries[0], dim=0)
    after = loss.difficulty(queries, nearer, {"count": 5})
    weight._power = 1.0
    assert after[0] > before[0]
    assert weight.weights(after, done=False)[0] > weight.weights(before, done=False)[0]


def test_guard_leaves_out_the_hardest_rows_after_the_ramp():
    queries, targets = units(10, 4, grad=True), units(10, 4)
    loss = made("progressive", ramp=0.5, guard=0.8, temperature=0.1)
    hardest = loss.difficulty(queries, targets, {"count": 10}).argsort(descending=True)[:2]
    for progress, gone in ((0.4, 0), (0.5, 2)):
        (grad,) = torch.autograd.grad(loss(queries, targets, progress=progress), queries)
        still = grad.abs().amax(1) == 0
        assert still.sum() == gone
        assert still[hardest].sum() == gone


def test_progressive_stands_rows_that_are_too_easy_for_float32():
    """Odds of e^-200, and a batch of one, which has no negative at all."""
    vectors = torch.eye(4)
    loss = build_loss("progressive(temperature=0.01)")
    opposite = torch.cat([vectors, -vectors.repeat_interleave(2, 0)])
    for queries, targets in ((vectors, opposite), (vectors[:1], vectors[:1])):
        for mode in ("rows", "negatives"):
            loss.weights[0].mode = mode
            queries = queries.clone().requires_grad_()
            value = loss(queries, targets, progress=1.0)
            (grad,) = torch.autograd.grad(value, queries)
            assert value.isfinite()
            assert grad.isfinite().all()


# ------------------------------------------------------------------------------------------------ softened


def test_softened_starts_as_infonce():
    queries, targets, extras = batch()
    plain = InfoNCE(temperature=0.1)
    for most, progress in ((0.2, 0.0), (0.0, 0.7)):
        found = results(
            build_loss(f"softened({most}, temperature=0.1)"), queries, targets, {**extras, "progress": progress}
        )
        for a, b in zip(results(plain, queries, targets, extras), found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("progress", [0.25, 1.0])
def test_softened_equals_cross_entropy_against_soft_labels(progress):
    queries, targets, extras = batch(negatives=1)
    gone = extras["ignore"] | extras["right"].matrix
    own = torch.eye(6, 12, dtype=torch.bool)
    logits = (queries @ targets.T / 0.1).masked_fill(gone & ~own, -1e3)
    alpha, expected = 0.4 * progress, 0.0
    for scores in (logits, logits[:, :6].T):
        itself = own[:, : scores.shape[1]]
        labels = (1 - alpha) * itself.double() + alpha * scores.detach().masked_fill(itself, -torch.inf).softmax(1)
        expected = expected + F.cross_entropy(scores, labels) / 2
    loss = made("softened", most=0.4, block=4, temperature=0.1)
    same(loss(queries, targets, progress=progress, **extras), expected, queries, targets)


def test_softened_stands_rows_without_negatives():
    vectors = units(4, 5, grad=True)
    loss = build_loss("softened(0.5, temperature=0.1)")
    value = loss(vectors, vectors, progress=1.0, ignore=torch.ones(4, 4, dtype=torch.bool))
    assert value.item() == 0
    assert torch.autograd.grad(value, vectors)[0].abs().max() == 0
