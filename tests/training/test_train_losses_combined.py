"""Losses put together of parts: against one formula over whole matrices, in blocks, through GradCache, and what is refused."""

import pytest
import torch
from torch.nn import functional as F
from zoo.training import train
from zoo.training.errors import LossError, PairsError, RecipeError
from zoo.training.losses import Mask, build_loss, register_loss_part
from zoo.training.losses.adaptive_margin import AdaptiveMargin
from zoo.training.losses.base import Temperature, _Registry
from zoo.training.recipe import stages_of
from zoo.training.recipes import get_recipe

from tests.training.loss_support import exact, same, units
from tests.training.test_train_grad_cache import assert_same, extras_of, gradients, model_of
from tests.training.test_train_losses_contrastive import batch, teachers
from tests.training.train_support import fresh, quick, text_pairs
from zoo.errors import UnknownModelError

ONE_WAY = "infonce(0.1, symmetric=False)"
COMBINED = [
    "infonce(0.2) + focal(2)",
    "infonce(0.2, symmetric=False) + focal(0.5) + mixing(4) + guided + matryoshka(16, 8)",
    "infonce(0.2) + mixing(2) + hardness(3) + margin(0.3)",
    "infonce(0.2, symmetric=False) + progressive(2) + guided(strategy='relative', margin=0.1) + focal",
    "infonce(0.2) + softened(0.4) + focal + margin",
    "gist(temperature=0.2) + focal + hardness(1) + mixing",
    "infonce(0.2) + adaptive_margin(0.05, most=0.3) + 0.5 * distillation + matryoshka(16, 8, per_step=1)",
    "infonce(0.2, symmetric=False) + stable_distillation + 2 * distillation(space='group', temperature=0.5)",
    "infonce(0.2) + 0.3 * cosent + focal",
    "infonce(0.2) + guided + starbucks([1, 8], [2, 32])",
    "infonce(0.2, symmetric=False) + focal + mixing + matryoshka_2d(16, 8)",
    "sigmoid + 0.5 * distillation",
    "stable_distillation(temperature=0.2) + guided + margin",
]


# ------------------------------------------------------------------------------------------------ values


def whole(queries, targets, extras, *, gamma, alpha, most, margin, symmetric) -> torch.Tensor:
    """Guided InfoNCE with list mixtures, hardness, softened labels and focal weights, over whole matrices."""
    count, negatives = len(queries), len(targets) // len(queries) - 1
    taught_queries, taught = extras["teacher_queries"], extras["teacher_targets"]
    nearest = (taught_queries * taught[:count]).sum(1)
    gone = extras["ignore"] | extras["right"].matrix

    def rows(similarity, guide, known, more):
        own = torch.eye(*similarity.shape, dtype=torch.bool)
        left_out = known | (guide > nearest[:, None]) | (similarity > similarity.diagonal()[:, None] + margin)
        similarity = torch.cat([similarity.masked_fill(left_out & ~own, -torch.inf), more(left_out)], 1)
        own = F.pad(own, (0, similarity.shape[1] - own.shape[1]))
        weigh = (alpha * similarity.detach()).masked_fill(own | similarity.isinf(), 0.0)
        log_p = (similarity / 0.1 + weigh).log_softmax(1)
        wrong = (similarity / 0.1 + weigh).detach().masked_fill(own, -torch.inf).softmax(1).nan_to_num(0.0)
        labels = (1 - most) * own.double() + most * wrong
        return -((1 - log_p[own].exp()) ** gamma) * (labels * log_p.masked_fill(labels == 0, 0.0)).sum(1)

    def mixed(left_out):
        hard = targets[count:].view(count, negatives, -1)
        fair = ~left_out[:, count:].view(count, count, negatives)[range(count), range(count)]
        weights = ((queries[:, None] * hard).sum(2) / 0.2).masked_fill(~fair, -1e4).softmax(1)
        mixture = F.normalize((weights[:, :, None] * hard).sum(1), dim=1)
        return (queries * mixture).sum(1, keepdim=True).masked_fill(~fair.any(1, keepdim=True), -torch.inf)

    loss = rows(queries @ targets.T, taught_queries @ taught.T, gone, mixed)
    if symmetric:
        back = taught[:count] @ taught_queries.T, gone[:, :count].T, lambda left_out: queries[:, :0]
        loss = (loss + rows(targets[:count] @ queries.T, *back)) / 2
    return loss.mean()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("block", [None, 4])
def test_parts_together_equal_one_formula_in_blocks_of_any_size(symmetric, block):
    queries, targets, extras = batch(9, 3)
    extras |= teachers(9, 3)
    loss = exact(
        build_loss(
            f"infonce(0.1, symmetric={symmetric}, block={block}) + guided + margin(0.2) + hardness(2)"
            " + mixing(0, list_temperature=0.2) + softened(0.4) + focal(1.5)"
        )
    )
    options = {"gamma": 1.5, "alpha": 2.0, "most": 0.4 * 0.7, "margin": 0.2, "symmetric": symmetric}
    expected = whole(queries, targets, extras, **options)
    same(loss(queries, targets, progress=0.7, **extras), expected, queries, targets)


@pytest.mark.parametrize(
    ("apart", "together"),
    [
        ("focal(2, temperature=0.1, symmetric=False)", f"{ONE_WAY} + focal(2)"),
        ("mixing(2, temperature=0.1)", f"{ONE_WAY} + mixing(2)"),
        ("hardness(3, temperature=0.1, symmetric=False)", f"{ONE_WAY} + hardness(3)"),
        ("progressive(2, temperature=0.1)", f"{ONE_WAY} + progressive(2)"),
        ("softened(0.3, temperature=0.1, symmetric=False)", f"{ONE_WAY} + softened(0.3)"),
        ("adaptive_margin(temperature=0.1, most=0.3)", f"{ONE_WAY} + adaptive_margin(0.05, most=0.3)"),
        ("infonce(0.1, symmetric=False, margin=0.1)", f"{ONE_WAY} + margin(0.1)"),
        (
            "gist(temperature=0.1, margin=0.1)",
            "infonce(0.1, symmetric=False, query_query=True, positive_positive=True) + guided(margin=0.1)",
        ),
        ("distillation(temperature=0.1, infonce=2.0)", "distillation(temperature=0.1) + 2 * infonce"),
        (f"matryoshka(dims=[4, 2]): {ONE_WAY} + focal", f"{ONE_WAY} + focal + matryoshka(4, 2)"),
        (f"matryoshka(4): {ONE_WAY} + focal", f"matryoshka([4]): {ONE_WAY} + focal"),
    ],
)
def test_a_part_alone_is_the_part_beside_infonce(apart, together):
    queries, targets, extras = batch()
    extras |= {**teachers(), "progress": 0.7}
    values = []
    for written in (apart, together):
        loss = exact(build_loss(written))
        torch.manual_seed(3)
        values.append(loss(queries, targets, **{k: v for k, v in extras.items() if k in loss.reads | loss.may_read}))
    same(*values, queries, targets, tolerance=1e-12)


def test_a_sum_is_the_sum_of_its_losses_at_one_temperature():
    queries, targets, extras = batch()
    extras |= {**teachers(), "teacher_scores": torch.rand(6, 3, dtype=torch.float64)}
    loss = exact(build_loss("infonce(0.1) + 0.5 * distillation + 2 * distillation(space='group', temperature=0.3)"))
    terms = [
        exact(build_loss(written))
        for written in ("infonce(0.1)", "distillation(temperature=0.1)", "distillation(space='group', temperature=0.3)")
    ]
    give = lambda one: one(queries, targets, **{k: v for k, v in extras.items() if k in one.reads | one.may_read})  # noqa: E731
    expected = sum(weight * give(term) for weight, term in zip((1, 0.5, 2), terms, strict=True))
    same(give(loss), expected, queries, targets)
    assert len({id(p) for p in loss.parameters()}) == 2  # the distillation that names none follows infonce's
    assert loss.reads == {"teacher_queries", "teacher_targets", "teacher_scores"}


def test_a_mixture_takes_nothing_that_a_mask_leaves_out():
    """A guide to whom all hard negatives are nearer than the positives: the mixer has nothing left to mix."""
    queries, targets = units(4, 5, grad=True), units(12, 5, grad=True)
    guide = units(4, 6)
    extras = {"teacher_queries": guide, "teacher_targets": torch.cat([-guide, guide.repeat_interleave(2, 0)])}
    guided = exact(build_loss(f"{ONE_WAY} + guided"))(queries, targets, **extras)
    same(exact(build_loss(f"{ONE_WAY} + mixing(3) + guided"))(queries, targets, **extras), guided, queries, targets)
    assert exact(build_loss(f"{ONE_WAY} + mixing(3)"))(queries, targets).item() > guided.item() + 1e-3


# ------------------------------------------------------------------------------------------------ blocks and GradCache


@pytest.mark.parametrize("written", COMBINED)
def test_blocks_of_a_combined_loss_change_nothing(written):
    if "starbucks" in written or "2d" in written:
        return  # of several layers: through GradCache below
    queries, targets, extras = batch(7, 2, 32)
    extras |= teachers(7) | {"progress": 0.7, "scores": torch.rand(7), "teacher_scores": torch.rand(7, 3).double()}
    results = []
    for block in (None, 1, 3):
        loss = exact(build_loss(written))
        for part in loss.modules():
            if hasattr(part, "block"):
                part.block = block
        torch.manual_seed(1)
        value = loss(queries, targets, **{k: v for k, v in extras.items() if k in loss.reads | loss.may_read})
        learned = [p for p in loss.parameters() if p.requires_grad]
        results.append((value.detach(), *torch.autograd.grad(value, [queries, targets, *learned])))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=1e-12, rtol=1e-10)
    assert results[0][1].abs().max() > 1e-4


@pytest.mark.parametrize("written", COMBINED)
def test_a_cached_combined_loss_has_the_gradient_of_the_whole_batch(written):
    model, loss = model_of("text-test"), build_loss(written).double()
    assert_same(*(gradients(model, loss, micro, 2, extras_of(2)) for micro in (None, 5)))


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("infonce + fokal(2)", "no loss is called 'fokal'; nearest: focal"),
        ("infonce + focal + focal(2)", "focal stands twice"),
        ("infonce(margin=0.1) + margin(0.2)", "margin stands twice"),
        ("infonce + matryoshka(8) + matryoshka(4)", "matryoshka stands twice"),
        (
            "infonce + matryoshka_2d(8) + starbucks([1, 4], [2, 8])",
            "starbucks: the loss inside compares layers already",
        ),
        ("infonce + progressive", "infonce . progressive: .* symmetric=False"),
        ("infonce(multi_positive=True) + focal", "focal weights are of rows with one positive"),
        (
            "sigmoid + focal",
            "focal does not fit: it changes an InfoNCE, and sigmoid takes no part; write infonce . focal",
        ),
        ("cosent + mixing + guided", "mixing does not fit"),
        (
            "distillation + guided",
            "guided does not fit: .*distillation takes no part; write infonce . guided . distillation",
        ),
        ("stable_distillation + focal", "focal does not fit: .* takes no part but a mask"),
        ("infonce + focal(gama=2)", "focal: no option 'gama'; nearest: gamma"),
        ("infonce + focal(temperature=0.1)", r"temperature is an option of infonce: write infonce\(temperature=…\)"),
        ("infonce + focal(2, True)", "only the first option, gamma, may stand without its name"),
        ("infonce + focal(2, gamma=1)", "gamma is given twice: 2 and 1"),
        ("infonce + focal('much')", "gamma must be a number"),
        ("infonce + 0.5 * focal", "focal is no loss that a number could weigh"),
        ("infonce + -1 * cosent", "a number above 0, not -1"),
        ("infonce - cosent", "cannot read"),
        (
            "infonce + guided(a-model) + adaptive_margin(teacher='other')",
            "several: a-model and other|several: other and a-model",
        ),
        ("infonce(multi_positive=True) + cosent", "further positives stand among the targets"),
        ("matryoshka(8)", "matryoshka wraps another loss"),
        ("infonce + guided(open('x'))", "cannot read .* in quotes"),
        ("distillation(space='group', teacher=a)", "a teacher's vectors are read in space='batch'"),
    ],
)
def test_what_does_not_go_together_is_named(written, says):
    with pytest.raises(LossError, match=says):
        build_loss(written)


def test_a_loss_names_its_teacher():
    (stage,) = stages_of(quick(loss="infonce + focal + guided(zoo-mini)"))
    assert stage.teacher == "zoo-mini"
    (stage,) = stages_of(quick(loss="infonce + matryoshka(8)", losses=(("a", "gist('./mine')"),)))
    assert stage.teacher == "./mine"
    assert stages_of(quick(loss="gist", teacher="itself"))[0].teacher == "itself"
    with pytest.raises(RecipeError, match=r"teacher is zoo-mini, and the loss .* names itself"):
        stages_of(quick(loss="infonce + guided(itself)", teacher="zoo-mini"))
    with pytest.raises(LossError, match=r"one teacher, .* several: a and b"):
        stages_of(quick(loss="gist(a)", losses=(("x", "gist(b)"),)))


@pytest.mark.parametrize(
    ("written", "error", "says"),
    [
        ("infonce + guided", PairsError, r"needs teacher_queries, teacher_targets: give a teacher .*guided\(NAME\)"),
        ("infonce + guided(bge)", UnknownModelError, "bge"),
        ("infonce + cosent", PairsError, "needs scores: give a column score"),
        ("infonce + stable_distillation", PairsError, "needs teacher_scores"),
        ("infonce + mixing(4)", LossError, "mixing needs 2 hard negatives a query, not 0"),
        ("infonce + starbucks([1, 8], [7, 32])", PairsError, "takes block 7 for the last; .* has 2"),
        ("infonce + matryoshka(256, 128)", LossError, "cannot be cut to 256"),
        ("infonce + focl", LossError, "no loss is called 'focl'"),
    ],
)
def test_what_is_missing_is_said_before_the_run(written, error, says, tmp_path):
    with pytest.raises(error, match=says):
        train(fresh("text-test"), text_pairs(12), quick(loss=written), tmp_path / "run", progress=False, trackers=())
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_part_of_ones_own_goes_with_the_others(monkeypatch):
    monkeypatch.setattr(_Registry, "makers", dict(_Registry.makers))
    monkeypatch.setattr(_Registry, "alone", dict(_Registry.alone))

    @register_loss_part("far")
    class Far(Mask):
        """Leaves out what is further away than this.

        Args:
            least: a cosine.
        """

        def __init__(self, least: float = 0.0) -> None:
            super().__init__()
            self.least = least

        def removed(self, block):
            return block.similarity < self.least

    queries, targets = units(6, 5, grad=True), units(6, 5, grad=True)
    cosines = queries @ targets.T
    kept = cosines.masked_fill((cosines < 0.1) & ~torch.eye(6, dtype=torch.bool), -torch.inf) / 0.1
    expected = F.cross_entropy(kept, torch.arange(6), reduction="none")
    expected = ((1 - (-expected).exp()) * expected).mean()
    same(exact(build_loss(f"{ONE_WAY} + far(0.1) + focal(1)"))(queries, targets), expected, queries, targets)


@pytest.mark.slow
def test_a_run_with_a_combined_loss(tmp_path):
    pairs = text_pairs(24, 2)
    recipe = quick(loss="infonce + focal(2) + mixing(2) + guided(itself) + matryoshka(32, 16)", steps=3, batch_size=8)
    model = train(fresh("text-test"), pairs, recipe, tmp_path / "run", progress=False, trackers=(), report=False)
    assert model.encode("a", dim=16).shape == (16,)


# ------------------------------------------------------------------------------------------------ published recipes


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("kalm", {"lr": 1e-5, "batch_size": 48, "negatives": 7, "temperature": 0.01}),
        ("nv-embed", {"lr": 2e-5, "batch_size": 128, "negatives": 7, "temperature": 0.02}),
        ("qzhou", {"lr": 3e-5, "batch_size": 256, "warmup": 300, "temperature": 0.02}),
        ("peg", {"batch_size": 13_334, "negatives": 5, "temperature": 0.02}),
        ("lg-anna", {"temperature": 0.02}),
        ("llm-embedder", {"lr": 5e-6, "batch_size": 800, "negatives": 7, "steps": 10_000, "temperature": 0.01}),
        ("lightclip", {"temperature": 0.07}),
    ],
)
def test_published_recipes_have_their_constants_and_say_what_is_not_published(name, facts):
    make = get_recipe(name)
    stages = stages_of(make())
    loss = build_loss(stages[0].loss)
    found = next(module for module in loss.modules() if isinstance(module, Temperature))
    given = {**stages[0].to_dict(), "temperature": 1 / found.scale.item()}
    assert {fact: given[fact] for fact in facts} == pytest.approx(facts)
    assert name in ("qzhou", "llm-embedder") or "ot published" in make.__doc__
    assert stages_of(make(lr=1.0))[-1].lr == 1.0


def test_published_losses_are_of_the_parts_that_the_papers_name():
    kalm = build_loss(get_recipe("kalm")().loss)
    assert (kalm.dims, kalm.weights) == ((896, 512, 256, 128, 64), (1.0, 0.3, 0.2, 0.1, 0.1))
    assert [type(part).__name__ for part in kalm.inner.parts] == ["Focal", "Mixing"]
    first, second = get_recipe("nv-embed")()
    assert (build_loss(first.loss).in_batch, build_loss(second.loss).in_batch) == (True, False)
    (margin,) = build_loss(get_recipe("lg-anna")().loss).terms[0].masks
    assert margin.least < margin.most  # an adaptive margin adapts
    assert AdaptiveMargin().least < AdaptiveMargin().most
    tasks = get_recipe("llm-embedder")(tasks=["chat", "tool"])
    assert tasks.losses == (("tool*", "infonce(temperature=0.01, learn=False, symmetric=False)"),)
    assert "teacher_temperature=0.1" in tasks.loss


def test_kalm_trains(tmp_path):
    recipe = get_recipe("kalm")(dims=[32, 16], weights=[1, 0.3], batch_size=8, steps=2, negatives=2, holdout=0.0)
    model = train(fresh("text-test"), text_pairs(16, 2), recipe, tmp_path, progress=False, trackers=(), report=False)
    assert model.spec.dims == (16,)
