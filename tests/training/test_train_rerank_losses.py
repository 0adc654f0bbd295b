"""Losses of rerankers: closed forms, sentence-transformers' cross-encoder losses over the same logits, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from zoo.training.errors import LossError
from zoo.training.losses import build_loss, list_losses
from zoo.training.losses.rerank import RerankLoss

from tests.training.loss_support import same

INF = math.inf
OURS = list_losses("rerankers")


def batch(count: int = 5, width: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(count + width)
    logits = torch.randn(count, width, dtype=torch.float64, requires_grad=True)
    labels = torch.zeros(count, width, dtype=torch.float64)
    labels[:, 0] = 1
    return logits, labels


def theirs(name: str, logits: torch.Tensor, **options) -> nn.Module:
    """A cross-encoder loss of sentence-transformers over given logits: pairs are numbers of places in them."""
    from sentence_transformers.cross_encoder import CrossEncoder, losses

    class Given(CrossEncoder):
        def __init__(self) -> None:
            nn.Module.__init__(self)

        num_labels, device = 1, torch.device("cpu")

        def preprocess(self, pairs, **_):
            return {"places": torch.tensor([int(query) * logits.shape[1] + int(place) for query, place in pairs])}

        def forward(self, inputs):
            return {"scores": logits.flatten()[inputs["places"]][:, None]}

    return getattr(losses, name)(Given(), **options)


def queries(logits: torch.Tensor) -> list[str]:
    return [str(row) for row in range(len(logits))]


def pairwise(logits: torch.Tensor) -> list[list[str]]:
    rows, width = logits.shape
    return [
        [str(row) for row in range(rows) for _ in range(width)],
        [str(k) for _ in range(rows) for k in range(width)],
    ]


def test_binary_is_theirs_and_its_closed_form():
    logits, labels = batch()
    labels[0, 0] = 0.3  # a grade
    ours = build_loss("binary")(logits, labels=labels)
    same(
        ours,
        theirs("BinaryCrossEntropyLoss", logits)(pairwise(logits), labels.flatten().float()),
        logits,
        tolerance=1e-7,
    )
    p = logits.sigmoid()
    same(ours, -(labels * p.log() + (1 - labels) * (1 - p).log()).mean(), logits)
    weighted = build_loss("binary(pos_weight=3)")(logits, labels=labels)
    same(weighted, -(3 * labels * p.log() + (1 - labels) * (1 - p).log()).mean(), logits)
    with pytest.raises(LossError, match="reads grades from 0 to 1, not 0 to 4"):
        build_loss("binary")(logits, labels=labels * 4)


@pytest.mark.parametrize("width", [2, 4, 140])
@pytest.mark.parametrize("weighted", [True, False])
def test_plistmle_is_theirs(width: int, weighted: bool):
    """Also of lists of over 127, whose weights are scaled, and of grades out of order; none are equal: their sort is not stable."""
    from sentence_transformers.cross_encoder.losses.plist_mle import PListMLELambdaWeight

    logits, labels = batch(3, width)
    labels[:, 1:] = torch.linspace(0.9, 0.1, width - 1, dtype=torch.float64)
    labels[1] = torch.rand(width, dtype=torch.float64)
    options = {"lambda_weight": PListMLELambdaWeight() if weighted else None, "respect_input_order": False}
    documents = [[str(place) for place in range(width)] for _ in range(3)]
    reference = theirs("PListMLELoss", logits, **options)((queries(logits), documents), list(labels))
    ours = build_loss(f"plistmle(weighted={weighted})")(logits, labels=labels)
    same(ours, reference, logits, tolerance=1e-5)  # they compute in float32


def test_plistmle_in_closed_form():
    """-log of the chance to draw the candidates in their order, place by place, weighted 3, 1, 0."""
    logits, labels = batch(1, 3)
    (z,) = logits
    first, second = z.logsumexp(0) - z[0], z[1:].logsumexp(0) - z[1]
    same(build_loss("plistmle")(logits, labels=labels), (3 * first + second) / (4 + 1e-10), logits)
    same(build_loss("plistmle(weighted=False)")(logits, labels=labels), first + second, logits)


def test_distillation_is_theirs_and_its_closed_form():
    logits, _ = batch()
    taught = torch.randn_like(logits)
    mse = build_loss("score_distillation('mse')")(logits, teacher_scores=taught)
    same(mse, theirs("MSELoss", logits)(pairwise(logits), taught.flatten()), logits, tolerance=1e-6)
    same(mse, (logits - taught).square().mean(), logits)
    columns = [queries(logits), *([str(place)] * len(logits) for place in range(logits.shape[1]))]
    margin = build_loss("score_distillation")(logits, teacher_scores=taught)
    same(margin, theirs("MarginMSELoss", logits)(columns, taught), logits, tolerance=1e-6)
    listwise = build_loss("score_distillation('listwise', temperature=0.5)")(logits, teacher_scores=taught)
    p, q = (taught / 0.5).softmax(1), (logits / 0.5).softmax(1)
    same(listwise, (p * (p / q).log()).sum(1).mean(), logits)


@pytest.mark.parametrize(
    "written", ["binary", "plistmle", *(f"score_distillation({by!r})" for by in ("mse", "margin_mse", "listwise"))]
)
def test_empty_places_are_nobodys(written: str):
    """Rows of fewer candidates are as by themselves, whatever stands in the places that are left."""
    loss, (logits, labels) = build_loss(written), batch(2, 4)
    told = "labels" if "labels" in loss.reads else "teacher_scores"
    values = labels if told == "labels" else torch.randn_like(labels)
    short = values.clone()
    short[:, 2:] = -INF
    garbage = logits.detach().clone()
    garbage[:, 2:] = 1e4
    whole = loss(garbage.requires_grad_(), **{told: short})
    alone = loss(logits[:, :2], **{told: values[:, :2]})
    assert whole.item() == pytest.approx(alone.item(), rel=1e-9)
    whole.backward()
    assert garbage.grad[:, 2:].abs().max() == 0
    half = loss(logits.detach().bfloat16(), **{told: short.float()})
    assert half.dtype == torch.float32
    assert bool(half.isfinite())


def test_a_sum_shares_a_batch_and_what_does_not_fit_is_refused():
    logits, labels = batch()
    both = build_loss("plistmle + 0.5 * binary")
    expected = build_loss("plistmle")(logits, labels=labels) + 0.5 * build_loss("binary")(logits, labels=labels)
    same(both(logits, labels=labels), expected, logits)
    assert both.trains == "rerankers"
    assert OURS == ["binary", "plistmle", "score_distillation"]
    for written, message in {
        "infonce + binary": "train one model, and these train embedders and rerankers",
        "binary + matryoshka(64)": "the loss inside trains rerankers",
        "binary + focal(2)": "focal does not fit",
        "binary(pos_weight=0)": "pos_weight must be above 0",
        "score_distillation('mse', temperature=2)": "a temperature is of by='listwise'",
        "score_distillation('kl')": "by",
    }.items():
        with pytest.raises(LossError, match=message):
            build_loss(written)
    with pytest.raises(LossError, match="labels must be one a logit"):
        build_loss("binary")(logits, labels=labels[:, :2])
    assert all(issubclass(type(build_loss(name)), RerankLoss) for name in OURS)
