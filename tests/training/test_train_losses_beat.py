"""Where each contrastive loss, and each option of InfoNCE, beats plain InfoNCE: small data made so that it should."""

import statistics
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from zoo.training.losses import build_loss

from tests.training.loss_support import right_in_groups
from tests.training.test_train_losses_graded_beat import Net, hidden, recall

pytestmark = pytest.mark.slow  # nets trained from several seeds: a minute of CPU together

SEEDS = range(4)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def beats(run: Callable[[int, str], float], loss: str, plain: str, by: float) -> None:
    """The mean paired gap over the seeds is above `by` and above two standard errors."""
    gaps = [run(seed, loss) - run(seed, plain) for seed in SEEDS]
    gap, error = statistics.mean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5
    assert gap > max(by, 2 * error), f"{loss} over {plain}: gap {gap:.3f}, standard error {error:.3f}, {gaps}"


def fit(net: Net, batch: Callable, text: str, steps: int) -> None:
    """Trains with `batch()` → queries, targets, extras; only what the loss reads is handed on."""
    loss = build_loss(text)
    optimizer = torch.optim.Adam([*net.parameters(), *(p for p in loss.parameters() if p.requires_grad)], 1e-2)
    for step in range(steps):
        queries, targets, extras = batch()
        extras["progress"] = step / steps
        optimizer.zero_grad()
        loss(queries, targets, **{k: v for k, v in extras.items() if k in loss.reads | loss.may_read}).backward()
        optimizer.step()


def same_label(queries: Tensor, targets: Tensor, labels: Tensor) -> float:
    """Share of the queries whose nearest target, their own partner aside, has their label."""
    similarity = (queries @ targets.T).fill_diagonal_(-2)
    return (labels[similarity.argmax(1)] == labels).float().mean().item()


# ------------------------------------------------------------------------------------- other pairs of the same topic


@cache
def topics(seed: int, text: str, grouped: bool) -> float:
    """Pairs share one of 16 topics and a detail of their own. How often the nearest of other held-out pairs is on topic.

    Four pairs a batch have the same topic and are no fair negatives of each other; a noisy teacher sees the topic, and
    where `grouped` the data say it.
    """
    torch.manual_seed(seed)
    rotate, net, centres = hidden(40), Net(40, 6), torch.randn(16, 8)

    def pairs(count: int):
        topic, detail = torch.randint(0, 16, (count,)), torch.randn(count, 8)
        meaning = torch.cat([centres[topic], detail], 1)
        halves = (
            torch.cat([meaning + 0.5 * torch.randn(count, 16), torch.randn(count, 24)], 1) @ rotate for _ in range(2)
        )
        return topic, *halves

    def batch():
        topic, queries, targets = pairs(64)
        seen = [F.normalize(centres[topic] + 0.3 * torch.randn(64, 8), dim=1) for _ in range(2)]
        extras = {"teacher_queries": seen[0], "teacher_targets": seen[1]}
        return net(queries), net(targets), extras | ({"right": right_in_groups(topic, topic)} if grouped else {})

    fit(net, batch, text, steps=60)
    topic, queries, targets = pairs(400)
    with torch.no_grad():
        return same_label(net(queries), net(targets), topic)


def test_multi_positive_brings_a_group_together():
    """Plain InfoNCE knows the groups too, and leaves their pairs out."""
    beats(lambda *run: topics(*run, True), "infonce(multi_positive=True)", "infonce", 0.1)


@pytest.mark.parametrize("loss", ["gist(temperature=0.07, margin=0.1)", "adaptive_margin(least=0.1, most=0.5)"])
def test_a_teacher_tells_false_negatives(loss):
    beats(lambda *run: topics(*run, False), loss, "infonce", 0.06)


# --------------------------------------------------------------------------------------- a few hard rows among easy ones


@cache
def hard_slice(seed: int, text: str, dim: int = 6, noise: float = 0.3) -> float:
    """Nine in ten rows have a topic of their own, the others share one and differ by a little. Recall@1 of the latter."""
    torch.manual_seed(seed)
    rotate, net, shared = hidden(40), Net(40, dim), torch.randn(1, 8)

    def pairs(hard: Tensor):
        count, hard = len(hard), hard[:, None]
        meaning = torch.cat([torch.where(hard, shared, torch.randn(count, 8)), 0.35 * hard * torch.randn(count, 8)], 1)
        return (
            torch.cat([meaning + 0.1 * torch.randn(count, 16), noise * torch.randn(count, 24)], 1) @ rotate
            for _ in range(2)
        )

    def batch():
        return *(net(half) for half in pairs(torch.rand(64) < 0.1)), {}

    fit(net, batch, text, steps=100)
    with torch.no_grad():
        return recall(*(net(half) for half in pairs(torch.ones(100, dtype=torch.bool))))


@pytest.mark.parametrize(
    ("loss", "by"), [("focal(gamma=3, {})", 0.03), ("progressive(strongest=3, ramp=0.3, {})", 0.1)]
)
def test_weights_of_rows_find_the_hard_ones(loss, by):
    """At a fixed temperature; with a learned one the weights gain nothing on these data."""
    fixed = "temperature=0.1, learn=False"
    beats(hard_slice, loss.format(fixed), f"infonce({fixed})", by)


def test_sigmoid_finds_the_hard_rows_in_more_noise():
    """With learned temperatures as they start by default; InfoNCE that starts at 0.2 gets half way to the sigmoid."""
    beats(partial(hard_slice, dim=16, noise=0.5), "sigmoid", "infonce", 0.08)


# --------------------------------------------------------------------------------------- a class within a subject


@cache
def classes(seed: int, text: str) -> float:
    """Pairs share a subject and one of 4 classes, hard negatives the subject alone. How often the nearest has the class."""
    torch.manual_seed(seed)
    rotate, net, centres = hidden(40), Net(40, 4), torch.randn(4, 6)

    def item(label: Tensor, subject: Tensor) -> Tensor:
        meaning = [centres[label] + 0.7 * torch.randn(len(label), 6), subject + 0.3 * torch.randn(len(label), 6)]
        return net(torch.cat([*meaning, torch.randn(len(label), 28)], 1) @ rotate)

    def batch():
        label, subject = torch.randint(0, 4, (32,)), torch.randn(32, 6)
        other = (label + torch.randint(1, 4, (32,))) % 4
        return item(label, subject), torch.cat([item(label, subject), item(other, subject)]), {}

    fit(net, batch, text, steps=60)
    label = torch.randint(0, 4, (400,))
    with torch.no_grad():
        return same_label(*(item(label, torch.randn(400, 6)) for _ in range(2)), label)


def test_own_negatives_alone_teach_the_class():
    """Other rows of the batch teach the subject, and often are of the same class."""
    beats(classes, "infonce(symmetric=False, in_batch=False)", "infonce(symmetric=False)", 0.05)


# --------------------------------------------------------------------------------------- wrong positives


@cache
def tuned(seed: int, text: str) -> float:
    """A tower that knows 8 topics is trained on pairs of which 7 in 10 are drawn at random. Share of nearest on topic."""
    torch.manual_seed(seed)
    rotate, net, centres = hidden(32), Net(32, 6), torch.randn(8, 8)

    def item(topic: Tensor) -> Tensor:
        return net(
            torch.cat([centres[topic] + 0.3 * torch.randn(len(topic), 8), torch.randn(len(topic), 24)], 1) @ rotate
        )

    def batch(wrong: float):
        topic = torch.randint(0, 8, (64,))
        return item(topic), item(torch.where(torch.rand(64) < wrong, torch.randint(0, 8, (64,)), topic)), {}

    fit(net, partial(batch, 0.0), "infonce", steps=40)
    fit(net, partial(batch, 0.7), text, steps=60)
    topic = torch.randint(0, 8, (400,))
    with torch.no_grad():
        return same_label(item(topic), item(topic), topic)


def test_a_margin_keeps_what_was_known_from_wrong_positives():
    """At one temperature: what is right looks nearer than the wrong positive, and is no negative then.

    A temperature near 1 withstands these data as well without a margin.
    """
    beats(tuned, "infonce(margin=0.1)", "infonce", 0.08)


# --------------------------------------------------------------------------------------- small batches


@cache
def small_batch(seed: int, text: str) -> float:
    """Twelve meanings in noise, four pairs a batch. Recall@1 of 300 held-out pairs."""
    torch.manual_seed(seed)
    rotate, net = hidden(32), Net(32, 12)

    def pairs(count: int):
        meaning = torch.randn(count, 12)
        return (
            net(torch.cat([meaning + 0.5 * torch.randn(count, 12), torch.randn(count, 20)], 1) @ rotate)
            for _ in range(2)
        )

    fit(net, lambda: (*pairs(4), {}), text, steps=100)
    with torch.no_grad():
        return recall(*pairs(300))


@pytest.mark.parametrize(("loss", "by"), [("sigmoid(temperature=0.1)", 0.04), ("ranking(margin=0.5)", 0.03)])
def test_sigmoid_and_ranking_learn_from_small_batches(loss, by):
    """At the temperature of 0.1 that the sigmoid starts from; InfoNCE at 0.5 draws level here."""
    beats(small_batch, loss, "infonce(temperature=0.1)", by)
