"""Where each contrastive loss beats plain InfoNCE: small data made so that it should."""

import statistics
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo.training.losses import build_loss

from tests.training.test_train_losses_graded_beat import Net, hidden, recall

pytestmark = pytest.mark.slow  # nets trained from several seeds: a minute of CPU together


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def beats(run: Callable[[int, str], float], loss: str, plain: str, by: float, seeds: int = 4) -> None:
    """The mean gap over the seeds is above `by` and above two standard errors."""
    gaps = [run(seed, loss) - run(seed, plain) for seed in range(seeds)]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    assert statistics.mean(gaps) > max(by, 2 * error), gaps


def fit(net: nn.Module, batch: Callable, text: str, seed: int, steps: int = 100, lr: float = 1e-2) -> None:
    """Trains with `batch()` → queries, targets, extras; every loss sees the same batches, whatever it draws itself."""
    loss = build_loss(text)
    optimizer = torch.optim.Adam([*net.parameters(), *(p for p in loss.parameters() if p.requires_grad)], lr)
    for step in range(steps):
        torch.manual_seed(1000 * (seed + 1) + step)
        queries, targets, extras = batch()
        extras["progress"] = step / steps
        optimizer.zero_grad()
        loss(queries, targets, **{k: v for k, v in extras.items() if k in loss.reads | loss.may_read}).backward()
        optimizer.step()
    torch.manual_seed(seed)


def one_way(temperature: float) -> str:
    return f"temperature={temperature}, learn=False, symmetric=False"


# ------------------------------------------------------------------------------------------------ false negatives


class Table(nn.Module):
    """A free vector for each of 40 things in 4 wordings."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(160, 16))

    def forward(self) -> Tensor:
        return F.normalize(self.vectors, dim=1)


@cache
def wordings(seed: int, text: str) -> float:
    """Wordings (0, 1) and (2, 3) of a thing are pairs of one batch. Mean cosine of (0, 2), which no pair says."""
    torch.manual_seed(seed)
    table, teacher = Table(), F.normalize(torch.randn(40, 12), dim=1)

    def batch():
        things = torch.randperm(40)[:8]
        queries, same = torch.cat([4 * things, 4 * things + 2]), teacher[torch.cat([things, things])]
        return table()[queries], table()[queries + 1], {"teacher_queries": same, "teacher_targets": same}

    fit(table, batch, text, seed, steps=200, lr=2e-2)
    vectors = table().detach().view(40, 4, 16)
    return (vectors[:, 0] * vectors[:, 2]).sum(1).mean().item()


def test_gist_leaves_other_wordings_together():
    plain = f"infonce({one_way(0.1)}, query_query=True, positive_positive=True)"
    beats(wordings, "gist(temperature=0.1, margin=0.05)", plain, 0.03, seeds=3)


@pytest.mark.parametrize("most", [0.05, 0.3])
def test_adaptive_margin_leaves_other_wordings_together(most):
    beats(wordings, f"adaptive_margin(most={most}, {one_way(0.1)})", f"infonce({one_way(0.1)})", 0.02)


# ------------------------------------------------------------------------------------------------ wrong positives


@cache
def noisy(seed: int, text: str) -> float:
    """Two in five positives are wrong. Held-out recall@1 of 500."""
    torch.manual_seed(seed)
    rotate, net = hidden(32), Net(32, 12)

    def pairs(count: int) -> list[Tensor]:
        meaning = torch.randn(count, 6)
        halves = (torch.cat([meaning + 0.3 * torch.randn(count, 6), 1.5 * torch.randn(count, 26)], 1) for _ in range(2))
        return [half @ rotate for half in halves]

    queries, targets = pairs(512)
    targets = targets[torch.where(torch.rand(512) < 0.4, torch.randperm(512), torch.arange(512))]

    def batch():
        rows = torch.randint(0, 512, (64,))
        return net(queries[rows]), net(targets[rows]), {}

    fit(net, batch, text, seed)
    with torch.no_grad():
        return recall(*(net(half) for half in pairs(500)))


def test_progressive_guard_withstands_wrong_positives():
    beats(noisy, f"progressive(guard=0.7, {one_way(0.2)})", f"infonce({one_way(0.2)})", 0.05)


def test_semi_hard_ranking_withstands_wrong_positives():
    beats(noisy, "ranking(negatives='semi-hard')", "infonce", 0.03)


# ------------------------------------------------------------------------------------------------ few negatives


@cache
def confusable(seed: int, text: str) -> float:
    """128 queries, each with two hard negatives of its topic that differ in details. Recall@1 among ten such, held out."""
    torch.manual_seed(seed)
    rotate, net = hidden(28), Net(28, 12)

    def view(topic: Tensor, detail: Tensor) -> Tensor:
        parts = [x + 0.3 * torch.randn_like(x) for x in (topic, detail)]
        return torch.cat([*parts, torch.randn(*detail.shape[:-1], 12)], -1) @ rotate

    def data(count: int, negatives: int) -> tuple[Tensor, Tensor]:
        topic, details = 1.5 * torch.randn(count, 1, 8), 0.5 * torch.randn(count, 1 + negatives, 8)
        return view(topic, details[:, :1])[:, 0], view(topic.expand_as(details), details)

    queries, candidates = data(128, 2)

    def batch():
        rows = torch.randint(0, 128, (32,))
        vectors = net(candidates[rows])
        return net(queries[rows]), torch.cat([vectors[:, 0], vectors[:, 1:].flatten(0, 1)]), {}

    fit(net, batch, text, seed)
    queries_, candidates_ = data(1000, 9)
    with torch.no_grad():
        return ((net(queries_)[:, None] * net(candidates_)).sum(2).argmax(1) == 0).float().mean().item()


@pytest.mark.parametrize(("mixed", "by"), [("pairs=4", 0.025), ("pairs=4, lists=0", 0.02), ("pairs=0", 0.005)])
def test_mixing_makes_more_of_few_negatives(mixed, by):
    beats(confusable, f"mixing({mixed}, {one_way(0.05)})", f"infonce({one_way(0.05)})", by)


# ------------------------------------------------------------------------------------------------ small batches


def small_batches(seed: int, text: str) -> float:
    """Two towers in batches of 8, halves of uneven noise. Best F1 that one threshold gives all 300 x 300 held-out pairs."""
    torch.manual_seed(seed)
    rotations, towers = [hidden(32), hidden(32)], nn.ModuleList([Net(32, 12), Net(32, 12)])

    def pairs(count: int) -> list[Tensor]:
        meaning, unevenly = torch.randn(count, 8), torch.empty(count, 1).uniform_(0.2, 1.2)
        halves = []
        for rotate, tower in zip(rotations, towers, strict=True):
            style = 2 * torch.randn(count, 1) + 0.3 * torch.randn(count, 4)
            parts = [meaning + unevenly * torch.randn(count, 8), style, torch.randn(count, 20)]
            halves.append(tower(torch.cat(parts, 1) @ rotate))
        return halves

    fit(towers, lambda: (*pairs(8), {}), text, seed)
    with torch.no_grad():
        queries, targets = pairs(300)
    order = (queries @ targets.T).flatten().argsort(descending=True)
    right = torch.eye(300).flatten()[order].cumsum(0)
    return (2 * right / (torch.arange(1, 300 * 300 + 1) + 300)).max().item()


def test_sigmoid_learns_from_small_batches():
    beats(small_batches, "sigmoid", "infonce(temperature=0.2)", 0.02)


# ------------------------------------------------------------------------------------------------ many to many


@cache
def captions(seed: int, text: str, steps: int = 150) -> float:
    """96 captions that drop one of three attributes, and items that could be learned by heart.

    Mean average precision of the other captions that fit an item just as well.
    """
    torch.manual_seed(seed)
    words, attributes, dropped = torch.randn(3, 4, 6), torch.randint(0, 4, (96, 3)), torch.randint(0, 3, (96,))
    kept = torch.ones(96, 3).scatter(1, dropped[:, None], 0)
    parts = words[torch.arange(3), attributes]
    seen = [
        torch.cat([x.flatten(1) + 0.5 * torch.randn(96, 18), 3 * torch.eye(96)], 1)
        for x in (parts, parts * kept[..., None])
    ]
    towers = nn.ModuleList([Net(114, 16), Net(114, 16)])

    def batch():
        rows = torch.randperm(96)[:64]
        return towers[0](seen[0][rows]), towers[1](seen[1][rows]), {}

    fit(towers, batch, text, seed, steps)
    fits = ((attributes[:, None] == attributes[None]) | ~kept.bool()[None]).all(2).float().fill_diagonal_(0)
    with torch.no_grad():
        similarity = (towers[0](seen[0]) @ towers[1](seen[1]).T).fill_diagonal_(-2)
    found = fits.gather(1, similarity.argsort(1, descending=True))
    precision = found.cumsum(1) / torch.arange(1, 97)
    some = fits.sum(1) > 0
    return ((precision * found).sum(1)[some] / fits.sum(1)[some]).mean().item()


def test_ranking_stops_at_its_margin_where_captions_fit_many():
    beats(captions, "ranking", "infonce", 0.04, seeds=3)


@pytest.mark.parametrize(("loss", "by"), [("focal", 0.02), ("focal(gamma=2.0)", 0.04)])
def test_focal_stops_at_rows_that_it_knows(loss, by):
    beats(captions, loss, "infonce", by, seeds=3)


@pytest.mark.slow
def test_softened_labels_spare_captions_that_fit():
    """At a temperature where InfoNCE learns by heart; at half of it the soft labels are wrong too often, and lose."""
    fixed = "temperature=0.1, learn=False"
    beats(lambda *run: captions(*run, 200), f"softened({fixed})", f"infonce({fixed})", 0.01)


# ------------------------------------------------------------------------------------------------ hard rows


def uneven(seed: int, text: str) -> float:
    """Rows agree in six loud columns, or, three in ten, in six others where all else is noise. Recall@1 of the latter."""
    torch.manual_seed(seed)
    rotate, net = hidden(12), Net(12, 12)

    def pairs(hard: Tensor) -> list[Tensor]:
        count, halves = len(hard), []
        easy, rare = torch.randn(count, 6), torch.randn(count, 6)
        for _ in range(2):
            loud = torch.where(hard, torch.randn(count, 6), easy + 0.1 * torch.randn(count, 6))
            quiet = torch.where(hard, rare + 0.3 * torch.randn(count, 6), torch.randn(count, 6))
            halves.append(net(torch.cat([loud, quiet], 1) @ rotate))
        return halves

    fit(net, lambda: (*pairs(torch.rand(64, 1) < 0.3), {}), text, seed, steps=60)
    with torch.no_grad():
        queries, targets = (half.view(80, 25, 12) for half in pairs(torch.ones(2000, 1, dtype=torch.bool)))
    return ((queries @ targets.mT).argmax(2) == torch.arange(25)).float().mean().item()


def test_progressive_raises_the_hard_rows():
    beats(uneven, f"progressive({one_way(0.2)})", f"infonce({one_way(0.2)})", 0.015)


# ------------------------------------------------------------------------------------------------ directions


@cache
def directed(seed: int, text: str, back: bool = False) -> float:
    """Half of either side is vague, and says so in a column. Held-out recall@1 of one direction among 64."""
    torch.manual_seed(seed)
    rotations, towers = [hidden(14), hidden(14)], nn.ModuleList([Net(14, 10), Net(14, 10)])

    def pairs(count: int) -> list[Tensor]:
        meaning, halves = torch.randn(count, 6), []
        for rotate, tower in zip(rotations, towers, strict=True):
            vague = torch.rand(count, 1) < 0.5
            read = meaning + torch.where(vague, 0.8, 0.1) * torch.randn(count, 6)
            flag = torch.where(vague, 2.0, -2.0)
            halves.append(tower(torch.cat([read, torch.randn(count, 6), flag, 2 * torch.ones(count, 1)], 1) @ rotate))
        return halves

    fit(towers, lambda: (*pairs(64), {}), text, seed)
    with torch.no_grad():
        queries, targets = (half.view(30, 64, 10) for half in pairs(30 * 64))
    found = (queries @ targets.mT).argmax(1 if back else 2) == torch.arange(64)
    return found.float().mean().item()


@pytest.mark.parametrize("back", [False, True])
def test_a_ranking_of_one_direction_serves_that_direction(back):
    """Negatives of one side specialise the model (Ma, thesis, 2015)."""
    forth, backwards = "ranking(negatives='max', back=0)", "ranking(negatives='max', forth=0)"
    beats(lambda *a: directed(*a, back), *((backwards, forth) if back else (forth, backwards)), 0.15)
