"""Rows with fewer hard negatives than others: every loss sees the real targets alone, in value and in gradient."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from zoo.training import Pair, train
from zoo.training.errors import LossError, PairsError
from zoo.training.losses import build_loss, list_losses
from zoo.training.losses.base import Loss
from zoo.training.losses.imitation import Imitation
from zoo.training.rows import set_aside
from zoo.training.trainer import make_feed

from tests.tables.train_tables import as_jsonl
from tests.training.loss_support import exact, right_of, units
from tests.training.train_support import fresh, quick, text_pairs
from zoo.tables import open_pairs

CALM = {"progress": False, "trackers": (), "report": False}

# Each loss with its options; those of several layers are written at their end.
WRITTEN = [
    "infonce",
    "infonce(query_query=True, positive_positive=True)",
    "infonce(multi_positive=True)",
    "infonce(symmetric=False, in_batch=False)",
    "infonce(symmetric=False, margin=0.1)",
    "adaptive_margin(least=0.05, most=0.4)",
    "angle",
    "cosent",
    "distillation(temperature=0.5)",
    "distillation(space='group', temperature=0.5)",
    "distillation(space='group', cosine=0.5, infonce=1.0)",
    "distillation(space='group', cosine=1.0)",
    "focal",
    "gist",
    "guided",
    "hardness",
    "imitation(temperature=0.5)",
    "layers:infonce",
    "margin",
    "matryoshka(dims=[8, 4]):infonce",
    "matryoshka_2d(dims=[8]):infonce",
    "mixing(pairs=0)",
    "progressive",
    "progressive(mode='negatives')",
    "ranking",
    "ranking(negatives='max')",
    "ranking(negatives='semi-hard')",
    "sigmoid",
    "softened",
    "stable_distillation(temperature=0.5, infonce=0.5)",
    "starbucks(pairs=[[1, 4], [2, 8]]):infonce",
    "starbucks(pairs=[[1, 4], [2, 8]], space='columns'):infonce",
]
COUNTS = [2, 0, 1, 3, 0, 2]  # hard negatives of the rows
DIM = 8


def test_every_loss_is_here():
    assert {written.partition("(")[0].partition(":")[0] for written in WRITTEN} == set(list_losses("embedders"))


class Batch:
    """Six rows with as many negatives as `counts` says, laid out with `width` places each."""

    def __init__(self, loss: Loss, counts: list[int], width: int, stand_in: float = 0.0) -> None:
        torch.manual_seed(5)
        count, shape = len(counts), ((2, DIM) if loss.layers else (DIM,))
        self.queries, positives = units(count, *shape, grad=True), units(count, *shape)
        negatives = [units(3, *shape)[:n] for n in counts]  # drawn alike, whatever the counts
        dim = DIM if isinstance(loss, Imitation) else 5  # a teacher that is copied has as many columns
        taught, teachers = units(count, dim), units(count, dim)
        taught_negatives = [units(3, dim)[:n] for n in counts]
        scores = torch.rand(count, 4, dtype=torch.float64)
        self.real = torch.cat([positives, *negatives]).requires_grad_()
        place = torch.full((count, width), -1)
        start = count
        for row, n in enumerate(counts):
            place[row, :n] = torch.arange(start, start + n)
            start += n
        place = torch.cat([torch.arange(count), place.flatten()])
        empty = place < 0
        filler = stand_in * units(1, *shape)
        self.targets = torch.cat([self.real, filler])[place]
        teacher_targets = torch.cat([teachers, *taught_negatives, stand_in * units(1, dim)])[place]
        right = torch.zeros(count, len(place), dtype=torch.bool)
        right[range(count), range(count)] = True
        right[0, 1] = right[1, 0] = True  # two rows are right for each other as well
        known = right_of(right)
        known._empty = empty if empty.any() else None
        own = ~empty[count:].view(count, width)
        own_scores = F.pad(scores[:, : 1 + width], (0, max(0, width - 3)))
        own_scores[:, 1:][~own] = -math.inf
        everything = {
            "right": known,
            "teacher_queries": taught,
            "teacher_targets": teacher_targets,
            "teacher_scores": own_scores,
            "scores": torch.linspace(0, 1, count, dtype=torch.float64),
            "progress": 0.7,
            **({"empty": empty} if empty.any() else {}),
        }
        self.extras = {k: v for k, v in everything.items() if k in loss.reads | loss.may_read}


def outcome(written: str, counts: list[int], width: int, stand_in: float = 0.0) -> list[torch.Tensor]:
    """The value of a loss and its gradients: of queries, of real targets, and of its own parameters."""
    loss = exact(build_loss(written))
    batch = Batch(loss, counts, width, stand_in)
    torch.manual_seed(9)
    value = loss(batch.queries, batch.targets, **batch.extras)
    leaves = [batch.queries, batch.real, *(p for p in loss.parameters() if p.requires_grad)]
    grads = torch.autograd.grad(value, leaves, allow_unused=True)
    return [value, *(torch.zeros(1) if grad is None else grad for grad in grads)]


@pytest.mark.parametrize("written", WRITTEN)
def test_empty_places_are_nobodys_candidates(written):
    expected = outcome(written, COUNTS, 3)
    assert all(part.isfinite().all() for part in expected)
    for width, stand_in in ((3, 1.0), (5, 0.0), (4, 1.0)):  # other vectors in them, and more of them
        for ours, theirs in zip(outcome(written, COUNTS, width, stand_in), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("each", [2, 0])
def test_a_place_that_is_empty_in_all_rows_is_none(written, each):
    if each == 0 and ("group" in written or "mixing" in written):
        return  # they refuse rows that have no negatives at all
    for ours, theirs in zip(outcome(written, [each] * 6, 3), outcome(written, [each] * 6, each), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_infonce_over_the_real_targets_by_loops():
    """The closed form: each row against all positives and all negatives that there are; the rows 0 and 1 share an answer."""
    loss = exact(build_loss("infonce(temperature=0.2, symmetric=False)"))
    batch = Batch(loss, COUNTS, 3)
    value = loss(batch.queries, batch.targets, **batch.extras)
    total = 0.0
    for i in range(6):
        logits = [5.0 * (batch.queries[i] * target).sum() for target in batch.real]
        spared = {1: 0, 0: 1}.get(i)
        rest = [logit for j, logit in enumerate(logits) if j != spared]
        total = total + torch.stack(rest).logsumexp(0) - logits[i]
    assert len(batch.real) == 6 + sum(COUNTS)
    leaves = (batch.queries, batch.real)
    torch.testing.assert_close(value, total / 6, rtol=1e-12, atol=0)
    for ours, theirs in zip(torch.autograd.grad(value, leaves), torch.autograd.grad(total / 6, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_group_distillation_over_the_real_candidates_by_loops():
    loss = exact(build_loss("distillation(space='group', temperature=0.5)"))
    batch = Batch(loss, COUNTS, 3)
    value, total, start = loss(batch.queries, batch.targets, **batch.extras), 0.0, 6
    for i, n in enumerate(COUNTS):
        own = torch.cat([batch.real[i : i + 1], batch.real[start : start + n]])
        start += n
        student = (2.0 * own @ batch.queries[i]).log_softmax(0)
        teacher = (2.0 * batch.extras["teacher_scores"][i, : 1 + n]).log_softmax(0)
        total = total + (teacher.exp() * (teacher - student)).sum()
    torch.testing.assert_close(value, total / 6, rtol=1e-10, atol=1e-12)


def test_mixtures_are_of_two_real_negatives():
    loss = exact(build_loss("mixing(pairs=4, lists=0)"))
    batch = Batch(loss, COUNTS, 3)
    loss(batch.queries, batch.targets, **batch.extras)
    seen = [{tuple(sorted(which[row].tolist())) for which, _ in loss.mixers[0]._drawn} for row in range(6)]
    assert all(first != second for pairs in seen for first, second in pairs)
    assert seen[0] == seen[5] == {(0, 1)}  # two negatives
    assert len(seen[3]) > 1
    assert all(max(pair) < 3 for pair in seen[3])
    tensors = (batch.queries, batch.targets[:6], batch.targets, loss.scale)
    _, logits, _ = loss._forth(0, tensors, {**batch.extras, "count": 6})
    assert (logits[2, -4:] == -torch.inf).all()  # a row with one: its mixtures fall away
    assert (logits[3, -4:] > -torch.inf).all()


# ------------------------------------------------------------------------------------------------ teachers' scores


def scored(counts=(2, 0, 1, 2, 1, 0)) -> list[Pair]:
    pairs = text_pairs(6, 2)
    return [
        replace(pair, negatives=pair.negatives[:n], teacher_scores=(0.9, 0.4, 0.2)[: 1 + n] if n else ())
        for pair, n in zip(pairs, counts, strict=True)
    ]


@pytest.mark.parametrize("loss", ["distillation(space='group')", "stable_distillation"])
def test_losses_that_read_scores_take_rows_with_fewer(loss, tmp_path):
    recipe = quick(loss=loss)
    feed = make_feed(fresh("text-test"), scored(), recipe, tmp_path / "feed", progress=False)
    batch = feed.batch(0)
    for row, scores in zip(batch.rows, batch.extras["teacher_scores"], strict=True):
        n = len(scored()[row].negatives)
        assert scores.isfinite().tolist() == [k <= n for k in range(3)]
    train(fresh("text-test"), scored(), recipe, tmp_path / "run", **CALM)
    some = scored()
    some[3] = replace(some[3], teacher_scores=())
    with pytest.raises(PairsError, match=r"1 of 6 pairs have no teacher_scores for their negatives.*texts, line 4"):
        train(fresh("text-test"), some, recipe, tmp_path / "none", **CALM)


def test_scores_beside_empty_columns_are_of_the_others(tmp_path):
    rows = [
        {"query": "a", "positive": "b", "negative_1": "c", "negative_2": None, "teacher_scores": [0.9, 0.5, None]},
        {"query": "d", "positive": "e", "negative_1": None, "negative_2": "f", "teacher_scores": [0.9, 0.4]},
        {"query": "g", "positive": "h", "negative_1": "i", "negative_2": "j", "teacher_scores": [0.9, None, 0.1]},
        {"query": "k", "positive": "l", "negative_1": None, "negative_2": None, "teacher_scores": [None]},
    ]
    pairs = open_pairs(as_jsonl(rows, tmp_path / "t.jsonl"))
    assert [pairs[row].teacher_scores for row in (0, 1)] == [(0.9, 0.5), (0.9, 0.4)]
    assert list(set_aside(pairs, 2).bad) == ["t.jsonl, line 3", "t.jsonl, line 4"]


@pytest.mark.parametrize("loss", ["mixing", "matryoshka(dims=[8]):mixing", "matryoshka_2d(dims=[8]):mixing"])
def test_too_few_negatives_to_mix_are_told_before_the_run(loss, tmp_path):
    for each, says in ((0, "not 0: mine them"), (1, "not 1: .*or mixing")):
        with pytest.raises(LossError, match=says):
            train(fresh("text-test"), text_pairs(12, each), quick(loss=loss), tmp_path / "run", **CALM)
    with pytest.raises(LossError, match="not 1"):
        train(fresh("text-test"), text_pairs(12, 2), quick(loss=loss, negatives=1), tmp_path / "run", **CALM)
    assert not (tmp_path / "run").exists()


class Own(Loss):
    """A loss that knows of no empty places."""

    def forward(self, queries, targets, **extras):
        return (queries @ targets.T).logsumexp(1).mean() - (queries * targets[: len(queries)]).sum(1).mean()


def test_a_loss_that_cannot_tell_empty_places_is_refused(tmp_path):
    with pytest.raises(PairsError, match=r"4 of 6 pairs have fewer than 2 hard negatives, and the loss Own"):
        train(fresh("text-test"), scored((2, 0, 1, 2, 1, 0)), quick(negatives=2), tmp_path, loss=Own(), **CALM)
    even = [replace(pair, teacher_scores=()) for pair in text_pairs(6, 2)]
    train(fresh("text-test"), even, quick(steps=1), tmp_path / "even", loss=Own(), **CALM)
