"""InfoNCE against loops, PyTorch, SupCon and sentence-transformers; how losses are named, written and cut into blocks."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from zoo.training.errors import LossError
from zoo.training.losses import build_loss, list_losses
from zoo.training.losses.base import Loss, Temperature, check_layout, register_loss
from zoo.training.losses.building import describe_losses
from zoo.training.losses.infonce import InfoNCE
from zoo.training.losses.row_blocks import in_row_blocks

from tests.training.loss_support import columns_of, exact, right_in_groups, right_of, same, same_on_sphere, st, units

ALL = {"query_query": True, "positive_positive": True}
OPTIONS = [
    {},
    {"symmetric": False},
    {"symmetric": False, **ALL},
    ALL,
    {"query_query": True},
    {"positive_positive": True, "margin": 0.1},
    {"margin": 0.0},
    {"symmetric": False, "in_batch": False},
    {"symmetric": False, "in_batch": False, **ALL},
    {"multi_positive": True},
    {"multi_positive": True, "margin": 0.1, **ALL},
]


def batch(count: int, negatives: int, dim: int = 5, grad: bool = False):
    """Queries and targets, and every named tensor that InfoNCE may read."""
    queries, targets = units(count, dim, grad=grad), units(count * (1 + negatives), dim, grad=grad)
    # Not even their own positives are right for some queries, so that rows and columns are never mistaken.
    right = torch.rand(count, len(targets)) < 0.3
    extras = {"right": right_of(right), "ignore": torch.rand(count, len(targets)) < 0.2}
    return queries, targets, extras


def naive(queries, targets, temperature=0.1, *, symmetric=True, in_batch=True, query_query=False,
          positive_positive=False, multi_positive=False, margin=None, right=None, ignore=None) -> float:  # fmt: skip
    """InfoNCE by loops over numbers, written from its definition."""
    count, negatives = len(queries), len(targets) // len(queries) - 1
    owner = lambda j: j if j < count else (j - count) // negatives  # noqa: E731
    known = torch.zeros(count, len(targets), dtype=torch.bool) if right is None else right.matrix
    total = 0.0

    def row(i, cosines, alike, ignored, owners, more=()):
        """One row: all logits, then the mean over its positives."""
        logits, positives = {}, []
        for j, cosine in enumerate(cosines):
            own = j == i
            gone = ignored[j] or (alike[j] and not multi_positive)
            gone |= margin is not None and cosine > cosines[i] + margin
            gone |= not in_batch and owners[j] != i
            if own or not gone:
                logits[j] = cosine / temperature
                if own or (multi_positive and alike[j]):
                    positives.append(j)
        others = [cosine / temperature for cosine in more if margin is None or cosine <= cosines[i] + margin]
        whole = math.log(sum(math.exp(x) for x in [*logits.values(), *others]))
        return sum(whole - logits[j] for j in positives) / len(positives)

    for i in range(count):
        more = []
        for wanted, side in ((query_query, queries), (positive_positive, targets[:count])):
            if wanted and in_batch:
                others = [j for j in range(count) if j != i and not known[i, j] and not known[j, i]]
                more += [float(side[i] @ side[j]) for j in others]
        size = len(targets)
        forth = row(
            i,
            (targets @ queries[i]).tolist(),
            known[i].tolist(),
            [ignore is not None and bool(ignore[i, j]) for j in range(size)],
            [owner(j) for j in range(size)],
            more,
        )
        if symmetric:
            back = row(
                i,
                (queries @ targets[i]).tolist(),
                known[:, i].tolist(),
                [ignore is not None and bool(ignore[j, i]) for j in range(count)],
                range(count),
            )
        total += (forth + back) / 2 if symmetric else forth
    return total / count


# ------------------------------------------------------------------------------------------------ values


def test_equal_vectors_give_log_n():
    vectors = torch.ones(7, 4) / 2
    assert InfoNCE()(vectors, vectors).item() == pytest.approx(math.log(7), rel=1e-6)


def test_two_by_two_by_hand():
    vectors = torch.eye(2)
    # Each row holds 1 / 0.5 = 2 for its own and 0 for the other: -log(e² / (e² + 1)).
    assert InfoNCE(temperature=0.5)(vectors, vectors).item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


@pytest.mark.parametrize("negatives", [0, 2])
def test_equals_cross_entropy(negatives):
    queries, targets = units(6, 5, grad=True), units(6 * (1 + negatives), 5, grad=True)
    logits, gold = queries @ targets.T / 0.1, torch.arange(6)
    expected = (F.cross_entropy(logits, gold) + F.cross_entropy(logits[:, :6].T, gold)) / 2
    same(exact(InfoNCE(temperature=0.1))(queries, targets), expected, queries, targets)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("given", [(), ("right",), ("ignore",), "all"], ids=str)
@pytest.mark.parametrize("negatives", [0, 2])
def test_equals_loops(options, given, negatives):
    queries, targets, extras = batch(6, negatives)
    extras = {name: value for name, value in extras.items() if given == "all" or name in given}
    loss = exact(InfoNCE(temperature=0.1, block=4, **options))
    assert loss(queries, targets, **extras).item() == pytest.approx(
        naive(queries, targets, **options, **extras), rel=1e-10
    )


def test_own_positive_is_never_left_out():
    queries, targets = units(4, 5), units(4, 5)
    loss = exact(InfoNCE(margin=-9.0))
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert loss(queries, targets, ignore=everything, right=right_of(everything)).item() == 0.0
    plain = exact(InfoNCE())
    assert torch.equal(plain(queries, targets, ignore=torch.eye(4, dtype=torch.bool)), plain(queries, targets))


def test_a_query_and_a_positive_that_are_equal_are_no_negatives_of_themselves():
    vectors = torch.eye(4)[:3]
    # Own positive 1; two other targets, queries and positives at 0 each: six candidates beside it.
    expected = math.log(1 + 6 * math.exp(-2))
    assert InfoNCE(0.5, symmetric=False, **ALL)(vectors, vectors).item() == pytest.approx(expected, rel=1e-6)


def test_margin_leaves_out_what_is_nearer_by_more():
    queries = torch.tensor([[1.0, 0.0]]).repeat(2, 1)
    at = lambda cosine: [cosine, math.sqrt(1 - cosine**2)]  # noqa: E731
    targets = torch.tensor([at(0.5), at(0.5), at(0.55), at(0.65), at(0.0), at(0.0)])
    loss = InfoNCE(1.0, symmetric=False, margin=0.1)
    # The negative at 0.65 is gone; the rest are the positives, one at 0.55 and two at 0.
    expected = math.log(2 * math.exp(0.5) + math.exp(0.55) + 2) - 0.5
    assert loss(queries, targets).item() == pytest.approx(expected, rel=1e-6)


def test_several_positives_are_supcon():
    """L_out of Khosla et al., eq. 2: one view of each label against the other."""
    queries, targets = units(8, 5, grad=True), units(8, 5, grad=True)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])
    log_p = (queries @ targets.T / 0.1).log_softmax(1)
    positive = (labels[:, None] == labels).double()
    expected = -((positive * log_p).sum(1) / positive.sum(1)).mean()
    loss = exact(InfoNCE(temperature=0.1, symmetric=False, multi_positive=True, block=3))
    same(loss(queries, targets, right=right_in_groups(labels, labels)), expected, queries, targets)


@pytest.mark.parametrize(
    ("negatives", "options", "directions"),
    [
        (0, {}, ("query_to_doc",)),
        (3, {}, ("query_to_doc",)),
        (0, {"query_query": True}, ("query_to_doc", "query_to_query")),
        (3, {"query_query": True}, ("query_to_doc", "query_to_query")),
        # With negatives theirs tells the positives from the negatives of all rows too, in doc_to_doc.
        (0, ALL, ("query_to_doc", "query_to_query", "doc_to_doc")),
    ],
    ids=str,
)
def test_equals_sentence_transformers(negatives, options, directions):
    queries, targets = units(7, 5, grad=True), units(7 * (1 + negatives), 5, grad=True)
    model, features = columns_of(queries, targets)
    reference = st("MultipleNegativesRankingLoss")(model, scale=20.0, directions=directions)(features, None)
    loss = exact(InfoNCE(temperature=0.05, symmetric=False, **options))
    same_on_sphere(loss(queries, targets), reference, queries, targets)


def test_symmetric_equals_sentence_transformers():
    queries, targets = units(7, 5, grad=True), units(7, 5, grad=True)
    model, features = columns_of(queries, targets)
    options = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    reference = st("MultipleNegativesRankingLoss")(model, scale=20.0, **options)(features, None)
    same_on_sphere(exact(InfoNCE(temperature=0.05))(queries, targets), reference, queries, targets)


# ------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradient_of_finite_differences(options):
    queries, targets, extras = batch(4, 2, dim=3, grad=True)
    loss = exact(InfoNCE(temperature=0.2, block=3, **options))
    scale = loss.temperature.log_scale

    def value(a, b, log_scale):
        return torch.func.functional_call(loss, {"temperature.log_scale": log_scale}, (a, b), extras)

    assert torch.autograd.gradcheck(value, (queries, targets, scale), check_undefined_grad=False, fast_mode=True)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_blocks_change_neither_value_nor_gradients(options):
    queries, targets, extras = batch(10, 1, grad=True)
    whole, cut = (exact(InfoNCE(temperature=0.1, block=block, **options)) for block in (None, 3))
    cut.temperature = whole.temperature
    leaves = (queries, targets, whole.temperature.log_scale)
    same(cut(queries, targets, **extras), whole(queries, targets, **extras), *leaves, tolerance=1e-12)


def test_one_tensor_as_queries_and_targets_gets_both_gradients():
    vectors = units(5, 4, grad=True)
    logits = vectors @ vectors.T / 0.1
    expected = F.cross_entropy(logits, torch.arange(5))
    same(exact(InfoNCE(temperature=0.1))(vectors, vectors), expected, vectors)


def test_temperature_is_learned_or_not():
    queries, targets = units(6, 5), units(6, 5)
    learned, still = exact(InfoNCE(0.2)), exact(InfoNCE(0.2, learn=False))
    learned(queries, targets).backward()
    step, values = 1e-5, []
    for sign in (1, -1):
        moved = exact(InfoNCE(0.2))
        moved.temperature.log_scale.data += sign * step
        values.append(moved(queries, targets).item())
    slope = (values[0] - values[1]) / (2 * step)
    assert learned.temperature.log_scale.grad.item() == pytest.approx(slope, rel=1e-6)
    assert not still(queries, targets).requires_grad


def test_scale_is_limited():
    for temperature, largest in ((0.07, 100.0), (0.01, 100.0), (1e-4, 10_000.0)):  # what is named is followed
        loss = InfoNCE(temperature=temperature)
        assert loss.scale.item() == pytest.approx(1 / temperature)
        loss.temperature.log_scale.data += 10
        loss.temperature.limit()
        assert loss.scale.item() == pytest.approx(largest)
    loss = InfoNCE(temperature=0.01)
    loss(units(4, 5).float(), units(4, 5).float()).backward()
    assert loss.temperature.log_scale.grad.abs() > 1e-3  # at the limit it may still come down


# ------------------------------------------------------------------------------------------------ memory


class Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that any operation makes."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.entries = max([self.entries, *sizes])
        return made


@pytest.mark.parametrize(
    "name", ["infonce", "sigmoid", "ranking", "gist", "focal", "mixing", "progressive", "adaptive_margin", "softened"]
)
def test_no_tensor_grows_with_the_square_of_the_batch(name):
    count, block = 256, 8
    loss = build_loss(f"{name}(block={block})")
    queries, targets = units(count, 4, grad=True), units(3 * count, 4, grad=True)
    extras = {"teacher_queries": units(count, 4), "teacher_targets": units(3 * count, 4), "progress": 0.9}
    extras["right"] = right_of(torch.rand(count, 3 * count) < 0.02)
    with Largest() as largest:
        value = loss.double()(queries, targets, **{k: v for k, v in extras.items() if k in loss.reads | loss.may_read})
        value.backward()
    assert block * 3 * count <= largest.entries < count * count / 4


# ------------------------------------------------------------------------------------------------ base


def test_layout():
    assert check_layout(torch.ones(4, 2), torch.ones(12, 2)) == 2
    for queries, targets in ((3, 2), (3, 4), (0, 0), (2, 0)):
        with pytest.raises(ValueError, match=f"{queries} queries need {queries} positives .* not {targets} rows"):
            InfoNCE()(torch.ones(queries, 4), torch.ones(targets, 4))


def test_in_row_blocks_takes_any_rows_and_sums():
    a, b, shared = units(7, 3, grad=True), units(9, 3, grad=True), units(5, 3, grad=True)

    def value(start, a, b, shared):
        places = torch.arange(start, start + len(a), dtype=a.dtype)
        yield (places[:, None] * (a @ shared.T).exp()).sum()
        yield (a * b).sum()

    expected = (torch.arange(7.0)[:, None] * (a @ shared.T).exp()).sum() + (a * b[:7]).sum()
    for block in (1, 3, 7, 50):
        same(in_row_blocks(value, (a, b), (shared,), block), expected, a, b, shared)


def test_a_tensor_among_rows_and_shared_has_one_gradient():
    vectors = units(7, 3, grad=True)
    value = in_row_blocks(lambda start, mine, whole: (mine @ whole.T).exp().sum(), (vectors,), (vectors,), 3)
    same(value, (vectors @ vectors.T).exp().sum(), vectors)
    assert sum(grad is not None for grad in value.grad_fn.grads) == 1


def test_in_row_blocks_has_no_second_derivative():
    vectors = units(4, 3, grad=True)
    value = in_row_blocks(lambda start, mine: (mine**3).sum(), (vectors,), (), 2)
    (grad,) = torch.autograd.grad(value, vectors, create_graph=True)
    assert not grad.requires_grad


def test_a_loss_must_define_forward():
    class Empty(Loss):
        pass

    with pytest.raises(NotImplementedError, match="Empty must define forward"):
        Empty()(torch.ones(1, 1), torch.ones(1, 1))


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="two losses are called 'infonce'"):
        register_loss("infonce")(InfoNCE)


def test_a_loss_as_a_recipe_writes_it():
    loss = build_loss(" infonce( temperature = 0.05, margin=0.1,symmetric=False ) ")
    assert isinstance(loss, InfoNCE)
    assert loss.scale.item() == pytest.approx(20.0)
    assert (loss.margin, loss.symmetric, loss.in_batch) == (0.1, False, True)
    wrapped = build_loss("matryoshka(dims=[4, 2]):infonce(temperature=0.1)")
    assert wrapped.inner.scale.item() == pytest.approx(10.0)
    twice = build_loss("matryoshka(dims=[4, 2]):matryoshka(dims=[2]):focal(gamma=2.0, temperature=0.1)")
    assert (twice.inner.inner.parts[0].gamma, twice.inner.inner.scale.item()) == (2.0, pytest.approx(10.0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("infonse", "no loss is called 'infonse'; nearest: infonce"),
        ("", "cannot read ''"),
        ("infonce(0.05, False)", "only the first option, temperature, may stand without its name"),
        ("infonce(temperature=open('x'))", "cannot read .*; write a loss like"),
        ("infonce(temperature=__import__('math').pi)", "cannot read .*; write a loss like"),
        ("infonce(temperature=0.05", "cannot read"),
        ("infonce(**{'temperature': 1})", "options are written name=value"),
        ("infonce(temprature=0.05)", "infonce: no option 'temprature'; nearest: temperature"),
        ("infonce(temperature=0)", "infonce: temperature must be above 0, not 0"),
        ("infonce(in_batch=False)", "infonce: without in-batch negatives .* symmetric=False"),
        ("focal(options=1)", "focal: no option 'options'"),
        ("focal(gama=1)", "nearest: gamma"),
        ("matryoshka(dims=[2])", "matryoshka wraps another loss: write 'matryoshka:infonce'"),
        ("infonce:infonce", "infonce wraps none: write 'infonce'"),
        ("matryoshka(dims=[2]):", "cannot read ''"),
        ("matryoshka(inner=3):infonce", "matryoshka: no option 'inner'"),
        ("matryoshka(dims=[2]):infonse", "no loss is called 'infonse'"),
    ],
)
def test_what_cannot_be_built_says_why(text, says):
    with pytest.raises(LossError, match=says):
        build_loss(text)


def test_options_of_the_parent_are_options_of_every_loss_built_on_infonce():
    for name in ("focal", "softened", "progressive", "mixing", "adaptive_margin", "gist"):
        loss = build_loss(f"{name}(temperature=0.5, symmetric=False, query_query=True, block=7)")
        assert (loss.scale.item(), loss.query_query, loss.block) == (pytest.approx(2.0), True, 7)


def test_every_loss_is_listed_with_a_line():
    assert {"infonce", "sigmoid", "ranking", "gist", "focal", "mixing", "progressive"} <= set(list_losses())
    lines = dict(describe_losses())
    assert {"… + matryoshka", "… + focal", "infonce"} <= set(lines)
    assert all(line and len(line) < 150 for line in lines.values())


def test_temperature_is_kept_as_a_logarithm():
    temperature = Temperature(0.05, learn=True)
    assert temperature.log_scale.item() == pytest.approx(math.log(20))
    with pytest.raises(ValueError, match="above 0, not -1"):
        Temperature(-1, learn=True)
