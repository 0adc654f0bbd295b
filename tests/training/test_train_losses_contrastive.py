"""Contrastive losses against open_clip, sentence-transformers, their formulas by loops, and finite differences."""

import math

import pytest
import torch
from torch.nn import functional as F
from zoo.training.errors import LossError
from zoo.training.losses import build_loss
from zoo.training.losses.infonce import InfoNCE
from zoo.training.losses.ranking import Ranking
from zoo.training.losses.sigmoid import Sigmoid

from tests.training.loss_support import Columns, columns_of, exact, made, right_of, same, same_on_sphere, st, units

ONE_WAY = {"temperature": 0.1, "symmetric": False}


def batch(count: int = 6, negatives: int = 2, dim: int = 5):
    """Queries, targets, and the tensors that say which targets are no negatives."""
    queries, targets = units(count, dim, grad=True), units(count * (1 + negatives), dim, grad=True)
    # Not even their own positives are right for some queries, so that rows and columns are never mistaken.
    right, ignore = (torch.rand(count, len(targets)) < share for share in (0.3, 0.2))
    return queries, targets, {"right": right_of(right), "ignore": ignore}


def teachers(count: int = 6, negatives: int = 2) -> dict[str, torch.Tensor]:
    return {"teacher_queries": units(count, 4), "teacher_targets": units(count * (1 + negatives), 4)}


def still(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Without gradient: what loops over numbers read."""
    return [tensor.detach() for tensor in tensors]


def left_out(i: int, j: int, extras: dict) -> bool:
    """Whether target j is no negative of query i, and is not its positive."""
    return bool(extras["ignore"][i, j]) or bool(extras["right"].matrix[i, j])


# ------------------------------------------------------------------------------------------------ all of them

WRITTEN = [
    "sigmoid",
    "ranking",
    "ranking(negatives='max')",
    "ranking(negatives='semi-hard', forth=0.5)",
    "gist(temperature=0.2, margin=0.05)",
    "focal(temperature=0.2)",
    "focal(temperature=0.2, gamma=2.0, query_query=True)",
    "mixing(temperature=0.2, pairs=2)",
    "mixing(temperature=0.2, pairs=0, symmetric=True)",
    "progressive(temperature=0.2, strongest=2.0)",
    "progressive(temperature=0.2, strongest=2.0, guard=0.8, query_query=True)",
    "progressive(temperature=0.2, strongest=2.0, mode='negatives')",
    "adaptive_margin(temperature=0.2, most=0.3)",
    "softened(temperature=0.2)",
]
# The weights of these are constants of the gradient by definition, not of the value.
DETACHED = ("progressive", "softened")


@pytest.mark.parametrize("text", WRITTEN)
def test_blocks_change_neither_value_nor_gradients(text):
    queries, targets, extras = batch(7)
    extras |= teachers(7) | {"progress": 0.7}
    results = []
    for block in (None, 1, 3):
        loss = exact(build_loss(text))
        loss.block = block
        torch.manual_seed(1)
        value = loss(queries, targets, **{k: v for k, v in extras.items() if k in loss.reads | loss.may_read})
        learned = [p for p in loss.parameters() if p.requires_grad]
        results.append((value.detach(), *torch.autograd.grad(value, [queries, targets, *learned])))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=1e-12, rtol=1e-10)
    assert results[0][1].abs().max() > 1e-4


@pytest.mark.parametrize("text", [text for text in WRITTEN if not text.startswith(DETACHED)])
def test_gradient_of_finite_differences(text):
    queries, targets, extras = batch(4, 2, 3)
    loss = exact(build_loss(text))
    extras |= teachers(4)
    extras = {k: v for k, v in extras.items() if k in loss.reads | loss.may_read}
    names, learned = zip(*loss.named_parameters(), strict=True) if list(loss.parameters()) else ((), ())

    def value(a, b, *parameters):
        torch.manual_seed(1)
        return torch.func.functional_call(loss, dict(zip(names, parameters, strict=True)), (a, b), extras)

    assert torch.autograd.gradcheck(value, (queries, targets, *learned), check_undefined_grad=False, fast_mode=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ranking(negatives='easy')", "sum, max or semi-hard, not 'easy'"),
        ("ranking(margin=-1)", "must not be negative"),
        ("ranking(margin=1e999)", "margin must be a number, not inf"),
        ("infonce(in_batch='no')", "in_batch must be True or False, not 'no'"),
        ("focal(margin=[1])", "margin must be a number or None"),
        ("infonce(block=-3)", "block must be 1 row or more"),
        ("infonce(block=2.5)", "block must be a whole number or None, not 2.5"),
        ("matryoshka(dims=['a']):infonce", "dims must be a list of numbers"),
        ("matryoshka(dims=8):infonce", "dims must be a list of numbers"),
        ("matryoshka(dims=[8, 4], weights=[0, 0]):infonce", "nor all of them 0"),
        ("ranking(forth=0, back=0)", "nor both weights 0"),
        ("gist(strategy='both')", "absolute or relative, not 'both'"),
        ("focal(gamma=-1)", "gamma must be at least 0, not -1"),
        ("focal(multi_positive=True)", "multi_positive=False"),
        ("mixing(pairs=-1)", "pairs of at least 0"),
        ("mixing(lists=2)", "lists of 0 or 1"),
        ("mixing(list_temperature=0)", "list_temperature above 0"),
        ("progressive(symmetric=True)", "symmetric=False"),
        ("progressive(multi_positive=True)", "multi_positive=False"),
        ("progressive(ramp=0)", "0 < ramp <= 1"),
        ("progressive(strongest=-1)", "strongest >= 0"),
        ("progressive(mode='columns')", "mode rows or negatives"),
        ("progressive(guard=2)", "guard must be a quantile"),
        ("adaptive_margin(least=0.2, most=0.1)", "0 <= least <= most"),
        ("softened(most=1)", "from 0 to below 1, not 1"),
        ("softened(multi_positive=True)", "multi_positive=False"),
    ],
)
def test_wrong_options_are_named(text, says):
    with pytest.raises(LossError, match=says):
        build_loss(text)


# ------------------------------------------------------------------------------------------------ sigmoid


def exact_sigmoid(**options) -> Sigmoid:
    return exact(Sigmoid(**options))


def test_sigmoid_equals_open_clip():
    from open_clip.loss import SigLipLoss

    queries, targets = units(6, 5, grad=True), units(6, 5, grad=True)
    loss = exact_sigmoid(block=4)
    leaves = (queries, targets, loss.bias, loss.temperature.log_scale)
    reference = SigLipLoss()(queries, targets, loss.temperature.log_scale.exp(), loss.bias)
    same(loss(queries, targets), reference, *leaves)


def test_sigmoid_equals_a_loop():
    queries, targets, extras = batch()
    total, cosines = 0.0, (queries @ targets.T).tolist()
    for i in range(6):
        for j in range(18):
            logit = 10 * cosines[i][j] - 10
            if i == j:
                total += math.log1p(math.exp(-logit))
            elif not left_out(i, j, extras):
                total += math.log1p(math.exp(logit))
    assert exact_sigmoid(block=4)(queries, targets, **extras).item() == pytest.approx(total / 6, rel=1e-10)


def test_sigmoid_starts_as_in_the_paper():
    loss = build_loss("sigmoid")
    assert loss.temperature.log_scale.item() == pytest.approx(math.log(10))
    assert loss.bias.item() == -10
    assert [p.requires_grad for p in build_loss("sigmoid(learn=False)").parameters()] == [False, False]


# ------------------------------------------------------------------------------------------------ ranking


def ranking_by_loops(queries, targets, extras, margin, negatives, forth, back) -> float:
    count, total = len(queries), 0.0

    def row(own, others):
        hinges = [margin - own + s for s in others]
        if negatives == "sum":
            return sum(max(0, h) for h in hinges)
        if negatives == "semi-hard":
            hinges = [h for h in hinges if h < margin] or hinges
        return max([0, *hinges])

    for i in range(count):
        own = float(queries[i] @ targets[i])
        there = [float(queries[i] @ targets[j]) for j in range(len(targets)) if j != i and not left_out(i, j, extras)]
        here = [float(queries[j] @ targets[i]) for j in range(count) if j != i and not left_out(j, i, extras)]
        total += forth * row(own, there) + back * row(own, here)
    return total / count


@pytest.mark.parametrize("negatives", ["sum", "max", "semi-hard"])
@pytest.mark.parametrize(("forth", "back"), [(1, 1), (1, 0), (0, 1), (0.3, 2.0)])
def test_ranking_equals_loops(negatives, forth, back):
    queries, targets, extras = batch(8, 1)
    loss = Ranking(0.3, negatives, forth, back, block=3)
    expected = ranking_by_loops(*still(queries, targets), extras, 0.3, negatives, forth, back)
    assert expected > 0.01
    assert loss(queries, targets, **extras).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("hardest", [False, True])
def test_ranking_equals_the_form_of_vse(hardest):
    """Faghri et al., 2018, eqs. 5 and 6, over the whole matrix of scores."""
    queries, targets = units(7, 5, grad=True), units(7, 5, grad=True)
    scores = queries @ targets.T
    own, itself = scores.diagonal()[:, None], torch.eye(7, dtype=torch.bool)
    of_queries = (0.2 + scores - own).clamp(min=0).masked_fill(itself, 0)
    of_targets = (0.2 + scores - own.T).clamp(min=0).masked_fill(itself, 0)
    if hardest:
        reference = of_queries.amax(1).sum() + of_targets.amax(0).sum()
    else:
        reference = of_queries.sum() + of_targets.sum()
    loss = Ranking(0.2, "max" if hardest else "sum", block=3)
    same(loss(queries, targets), reference / 7, queries, targets)


def test_ranking_by_hand():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    targets = torch.tensor([[0.8, 0.6], [0.6, 0.8], [1.0, 0.0], [1.0, 0.0]])
    # Forth: query 0 has 0.8 against 0.6, 1 and 1, query 1 has 0.8 against 0.6, 0 and 0; back each has 0.8 against 0.6.
    assert Ranking(0.25, back=0)(queries, targets).item() == pytest.approx((0.05 + 0.45 + 0.45 + 0.05) / 2)
    assert Ranking(0.25, "max", back=0)(queries, targets).item() == pytest.approx((0.45 + 0.05) / 2)
    assert Ranking(0.25, "semi-hard", back=0)(queries, targets).item() == pytest.approx((0.05 + 0.05) / 2)
    assert Ranking(0.25, forth=0)(queries, targets).item() == pytest.approx(0.05)
    assert Ranking(0.1)(queries[:1], targets[:1]).item() == 0.0
    # Both negatives of query 0 are nearer than its positive: no semi-hard one, so the hardest.
    nearer = targets[[1, 0, 2]]
    assert Ranking(0.25, "semi-hard", back=0)(queries[:1], nearer).item() == pytest.approx(0.25 - 0.6 + 1.0)


# ------------------------------------------------------------------------------------------------ gist


class WithTokenizer(Columns):
    """Given embeddings, and the tokenizer that GISTEmbedLoss wants to see."""

    max_seq_length = 8

    def __init__(self, columns):
        from transformers import PreTrainedTokenizerFast

        from zoo.models.text import byte_tokenizer

        super().__init__(columns)
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer())


@pytest.mark.parametrize("negatives", [0, 1])
@pytest.mark.parametrize(("strategy", "margin"), [("absolute", 0.0), ("absolute", 0.05), ("relative", 0.05)])
@pytest.mark.parametrize("more", [True, False])
def test_gist_equals_sentence_transformers(negatives, strategy, margin, more):
    queries, targets = units(8, 5, grad=True), units(8 * (1 + negatives), 5, grad=True)
    guides = teachers(8, negatives)
    model, features = columns_of(queries, targets)
    guide, _ = columns_of(*guides.values())
    reference = st("GISTEmbedLoss")(
        WithTokenizer(model.columns),
        WithTokenizer(guide.columns),
        temperature=0.1,
        margin_strategy=strategy,
        margin=margin,
        contrast_anchors=more,
        contrast_positives=more,
    )(features, None)
    options = {"temperature": 0.1, "query_query": more, "positive_positive": more, "block": 3}
    loss = made("gist", strategy=strategy, margin=margin, **options)
    same_on_sphere(loss(queries, targets, **guides), reference, queries, targets)
    unguided = exact(InfoNCE(symmetric=False, **options))
    assert unguided(queries, targets).item() > loss(queries, targets, **guides).item() + 1e-3


def test_gist_keeps_the_own_positive_and_no_diagonal():
    """A guide to whom query and positive are one: sentence-transformers keeps each query as a negative of itself."""
    queries, targets = units(5, 6), units(5, 6)
    same_thing = torch.eye(5, dtype=torch.float64)
    loss = made("gist", temperature=0.1)
    value = loss(queries, targets, teacher_queries=same_thing, teacher_targets=same_thing)
    expected = exact(InfoNCE(query_query=True, positive_positive=True, **ONE_WAY))(queries, targets)
    assert value.item() == pytest.approx(expected.item(), abs=1e-12)
    all_gone = made("gist", temperature=0.1, margin=9.0)
    assert all_gone(queries, targets, teacher_queries=same_thing, teacher_targets=same_thing).item() == 0.0


def test_gist_keeps_what_the_guide_finds_as_near_as_the_positive():
    """Strictly nearer is removed, as by sentence-transformers; one-hot vectors, so that ties are exact."""
    queries, targets = units(4, 5, grad=True), units(8, 5, grad=True)
    guide = torch.eye(4, dtype=torch.float64)
    plain = {"query_query": False, "positive_positive": False}
    value = made("gist", temperature=0.1, **plain)(
        queries, targets, teacher_queries=guide, teacher_targets=guide.repeat(2, 1)
    )
    same(value, exact(InfoNCE(**ONE_WAY))(queries, targets), queries, targets)


def test_gist_starts_as_in_the_paper():
    loss = build_loss("gist")
    assert loss.scale.item() == pytest.approx(100)
    assert not loss.temperature.log_scale.requires_grad
    assert (loss.symmetric, loss.query_query, loss.positive_positive) == (False, True, True)


def test_a_student_as_its_own_guide_removes_its_violators():
    queries, targets = units(6, 4, grad=True), units(6, 4, grad=True)
    scores = queries @ targets.T
    nearer = scores > scores.diagonal()[:, None]
    assert 3 < nearer.sum() < 25
    expected = F.cross_entropy((scores / 0.1).masked_fill(nearer, -torch.inf), torch.arange(6))
    loss = made("gist", temperature=0.1, query_query=False, positive_positive=False)
    value = loss(queries, targets, teacher_queries=queries.detach(), teacher_targets=targets.detach())
    same(value, expected, queries, targets)


@pytest.mark.parametrize("kind", ["adaptive_margin", "gist(margin=0.05)"])
def test_a_removed_candidate_gets_no_gradient(kind):
    queries, targets = units(2, 4, grad=True), units(4, 4, grad=True)
    guide = units(2, 4)
    teacher_targets = torch.cat([guide, guide])  # the negatives are what the positives are
    loss = exact(build_loss(f"infonce(0.1, symmetric=False, in_batch=False) + {kind}"))
    value = loss(queries, targets, teacher_queries=guide, teacher_targets=teacher_targets)
    assert torch.autograd.grad(value, targets)[0].abs().max() == 0
    teacher_targets[3] = -guide[1]
    value = loss(queries, targets, teacher_queries=guide, teacher_targets=teacher_targets)
    assert (torch.autograd.grad(value, targets)[0].abs().amax(1) > 1e-3).tolist() == [False, True, False, True]


# ------------------------------------------------------------------------------------------------ mixing


def test_list_mixture_has_a_gradient_through_its_weights():
    queries, targets = units(4, 5, grad=True), units(16, 5, grad=True)
    own = targets[4:].view(4, 3, 5)
    weights = ((queries[:, None] * own).sum(2) / 0.5).softmax(1)
    mixed = F.normalize((weights[:, :, None] * own).sum(1), dim=1)
    logits = torch.cat([queries @ targets.T, (queries * mixed).sum(1, keepdim=True)], 1) / 0.1
    loss = made("mixing", pairs=0, list_temperature=0.5, block=3, temperature=0.1)
    same(loss(queries, targets), F.cross_entropy(logits, torch.arange(4)), queries, targets)


def test_a_pair_with_one_unfair_negative_is_not_mixed():
    queries, targets = units(4, 5, grad=True), units(12, 5, grad=True)
    ignore = torch.zeros(4, 12, dtype=torch.bool)
    ignore[torch.arange(4), 4 + 2 * torch.arange(4)] = True
    loss = made("mixing", pairs=2, lists=0, block=3, temperature=0.1)
    same(
        loss(queries, targets, ignore=ignore),
        exact(InfoNCE(**ONE_WAY))(queries, targets, ignore=ignore),
        queries,
        targets,
    )


# ------------------------------------------------------------------------------------------------ weights of rows


def test_a_guard_of_1_leaves_out_no_row():
    queries, targets, _ = batch()
    guarded, free = (made("progressive", guard=guard, temperature=0.1) for guard in (1.0, None))
    same(guarded(queries, targets, progress=1.0), free(queries, targets, progress=1.0), queries, targets)


def test_focal_starts_as_in_the_paper():
    assert build_loss("focal").parts[0].gamma == 0.5


# ------------------------------------------------------------------------------------------------ adaptive margin


@pytest.mark.parametrize("most", [0.1, 0.6])
def test_adaptive_margin_equals_a_loop(most):
    queries, targets, extras = batch(40, 1)
    queries, targets = still(queries, targets)
    guides = teachers(40, 1)
    total, gone = 0.0, 0
    for i in range(40):
        scores = guides["teacher_targets"] @ guides["teacher_queries"][i]
        best = scores.sort(descending=True).values[:50]
        own = float(scores[i])
        spread = min(1.0, float(((best - best.mean()) ** 2).mean().sqrt()) / abs(own))
        limit = own - (0.1 + (most - 0.1) * spread) * abs(own)
        kept = [j for j in range(80) if j == i or not (scores[j] > limit or left_out(i, j, extras))]
        gone += 80 - len(kept)
        logits = [float(queries[i] @ targets[j]) / 0.1 for j in kept]
        total += math.log(sum(math.exp(x) for x in logits)) - float(queries[i] @ targets[i]) / 0.1
    loss = made("adaptive_margin", least=0.1, most=most, block=16, **ONE_WAY)
    assert 100 < gone < 3000
    assert loss(queries, targets, **extras, **guides).item() == pytest.approx(total / 40, rel=1e-10)


@pytest.mark.parametrize(
    ("options", "own", "negatives", "kept"),
    [
        ({"most": 0.05}, 0.8, (0.765, 0.755), [False, True]),  # 95 % of 0.8 is 0.76
        # The deviation of 0.8, x and 0 is 0.329 for 0.49 and 0.327 for 0.43: the limit is at 0.471 and 0.473.
        ({"least": 0.0, "most": 1.0}, 0.8, (0.49, 0.0), [False, True]),
        ({"least": 0.0, "most": 1.0}, 0.8, (0.43, 0.0), [True, True]),
        # The deviation is more than the positive's 0.1, so that the spread is 1 and the limit 0.05.
        ({"least": 0.0, "most": 0.5}, 0.1, (0.06, -0.9), [False, True]),
        ({"least": 0.0, "most": 0.5}, 0.1, (0.04, -0.9), [True, True]),
    ],
    ids=str,
)
def test_adaptive_margin_by_hand(options, own, negatives, kept):
    cosines = torch.tensor([own, *negatives], dtype=torch.float64)
    guides = {
        "teacher_queries": torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        "teacher_targets": torch.stack([cosines, (1 - cosines**2).sqrt()], 1),
    }
    queries, targets = units(1, 4), units(3, 4, grad=True)
    value = made("adaptive_margin", **options, **ONE_WAY)(queries, targets, **guides)
    (grad,) = torch.autograd.grad(value, targets)
    assert (grad[1:].abs().amax(1) > 0).tolist() == kept


def test_a_fixed_adaptive_margin_is_gist_with_a_relative_one():
    queries, targets, _ = batch()
    plain = {"query_query": False, "positive_positive": False, "temperature": 0.1}
    guides = teachers()
    mine = made("adaptive_margin", most=0.05, **ONE_WAY)(queries, targets, **guides)
    same(mine, made("gist", strategy="relative", margin=0.05, **plain)(queries, targets, **guides), queries, targets)


@pytest.mark.parametrize(("noise", "recall", "precision"), [(0.0, 1.0, 1.0), (0.25, 0.8, 0.9)])
def test_adaptive_margin_finds_planted_false_negatives(noise, recall, precision):
    """Of what is removed all was planted and the reverse; with a noisy teacher, nearly all."""
    meaning = torch.randn(64, 24, dtype=torch.float64)
    planted = torch.rand(64) < 0.3
    negatives = torch.where(planted[:, None], meaning, torch.randn(64, 24, dtype=torch.float64))
    seen = lambda x: F.normalize(x + noise * torch.randn_like(x), dim=1)  # noqa: E731
    guides = {"teacher_queries": seen(meaning), "teacher_targets": seen(torch.cat([meaning, negatives]))}
    own = torch.zeros(64, 128, dtype=torch.bool)
    own[torch.arange(64), torch.arange(64, 128)] = planted
    # A candidate is removed exactly where the loss has no gradient in its similarity.
    queries, targets = units(64, 128), torch.eye(128, dtype=torch.float64).requires_grad_()
    found = []
    for i in range(64):
        loss = made("adaptive_margin", least=0.1, most=0.1, **ONE_WAY)
        order = torch.cat([torch.tensor([i]), torch.tensor([j for j in range(64) if j != i])])
        both = torch.cat([order, order + 64])
        value = loss(
            torch.cat([queries[i : i + 1], torch.zeros(63, 128, dtype=torch.float64)]),
            targets[both],
            teacher_queries=guides["teacher_queries"][order],
            teacher_targets=guides["teacher_targets"][both],
        )
        (grad,) = torch.autograd.grad(value, targets)
        found.append(grad.abs().sum(1) == 0)
    found = torch.stack(found)
    hits = (found & own).sum().item()
    assert planted.sum() > 10
    assert hits / planted.sum().item() >= recall
    assert hits / found.sum().item() >= precision
