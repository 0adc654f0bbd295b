"""Where each graded, distillation and size loss beats plain InfoNCE: small data made so that it should."""

import statistics
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo.training.losses import build_loss

from zoo.embedder import Tower
from zoo.encoders.text import TransformersText
from zoo.heads import Identity
from zoo.pooling import Mean

pytestmark = pytest.mark.slow  # nets trained from several seeds

SEEDS = range(3)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def beats(run: Callable[[int, str], float], loss: str, plain: str, by: float) -> None:
    """The mean gap over the seeds is above `by` and above two standard errors."""
    gaps = [run(seed, loss) - run(seed, plain) for seed in SEEDS]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    assert statistics.mean(gaps) > max(by, 2 * error), gaps


class Net(nn.Module):
    """One linear layer to unit vectors."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.layer(x), dim=-1)


def fit(net: nn.Module, batch: Callable, text: str, steps: int = 100, lr: float = 1e-2) -> None:
    """Trains with `batch()` → queries, targets, extras; only what the loss reads is handed on."""
    loss = build_loss(text)
    optimizer = torch.optim.Adam([*net.parameters(), *(p for p in loss.parameters() if p.requires_grad)], lr)
    for _ in range(steps):
        queries, targets, extras = batch()
        optimizer.zero_grad()
        loss(queries, targets, **{k: v for k, v in extras.items() if k in loss.reads | loss.may_read}).backward()
        optimizer.step()


def hidden(width: int) -> Tensor:
    """A rotation, so that no column says anything by itself."""
    return torch.linalg.qr(torch.randn(width, width))[0]


def spearman(a: Tensor, b: Tensor) -> float:
    ranks = [x.flatten().argsort().argsort().double() for x in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def recall(queries: Tensor, targets: Tensor, gold: Tensor | None = None) -> float:
    """Share of the queries whose nearest target is theirs."""
    gold = torch.arange(len(queries)) if gold is None else gold
    return ((queries @ targets.T).argmax(1) == gold).float().mean().item()


# ------------------------------------------------------------------------------------------------ graded pairs


@cache
def graded(seed: int, text: str) -> float:
    """Both halves of a pair share a topic; the grade says how alike, or opposite, they mean it. Spearman of held-out."""
    torch.manual_seed(seed)
    rotate, net = hidden(12), Net(12, 8)

    def pairs(count: int):
        topic, meaning, share = torch.randn(count, 4), torch.randn(count, 4), 2 * torch.rand(count, 1) - 1
        other = share * meaning + (1 - share.abs()) * torch.randn(count, 4)
        both = (
            torch.cat([topic + 0.3 * torch.randn(count, 4), half, torch.randn(count, 4)], 1) @ rotate
            for half in (meaning, other)
        )
        return *both, (F.cosine_similarity(meaning, other) + 1) / 2

    def batch():
        a, b, scores = pairs(96)
        return net(a), net(b), {"scores": scores}

    fit(net, batch, text)
    a, b, scores = pairs(1000)
    with torch.no_grad():
        return spearman((net(a) * net(b)).sum(1), scores)


@pytest.mark.parametrize(("loss", "by"), [("cosent", 0.6), ("angle", 0.3), ("angle(cosine=1.0)", 0.5)])
def test_graded_losses_learn_the_grade_where_infonce_learns_the_topic(loss, by):
    beats(graded, loss, "infonce(temperature=0.2)", by)


# ------------------------------------------------------------------------------------------------ distillation


@cache
def noisy(seed: int, text: str, measure: str = "recall") -> float:
    """Two in five positives are wrong; the teacher sees the meaning. Held-out recall@1, or Spearman with the teacher."""
    torch.manual_seed(seed)
    rotate, net = hidden(32), Net(32, 12)

    def pairs(count: int):
        meaning = torch.randn(count, 6)
        halves = (
            torch.cat([meaning + 0.3 * torch.randn(count, 6), 1.5 * torch.randn(count, 26)], 1) @ rotate
            for _ in range(2)
        )
        return F.normalize(meaning, dim=1), *halves

    meaning, queries, targets = pairs(512)
    other = torch.where(torch.rand(512) < 0.4, torch.randperm(512), torch.arange(512))
    targets, of_targets = targets[other], meaning[other]

    def batch():
        rows = torch.randint(0, 512, (64,))
        teachers = {"teacher_queries": meaning[rows], "teacher_targets": of_targets[rows]}
        return net(queries[rows]), net(targets[rows]), teachers

    fit(net, batch, text)
    meaning_, queries_, targets_ = pairs(300)
    with torch.no_grad():
        a, b = net(queries_), net(targets_)
        return recall(a, b) if measure == "recall" else spearman(a @ b.T, meaning_ @ meaning_.T)


@pytest.mark.parametrize("loss", ["distillation(temperature=0.1)", "distillation(temperature=0.1, infonce=0.2)"])
def test_distillation_withstands_wrong_positives(loss):
    beats(noisy, loss, "infonce(temperature=0.1)", 0.12)


def test_distilled_similarities_rank_as_the_teachers():
    beats(partial(noisy, measure="rank"), "distillation(temperature=0.1)", "infonce(temperature=0.1)", 0.06)


@cache
def rewarded(seed: int, text: str) -> float:
    """Six candidates a query, whose rewards fall with their meaning. Mean Spearman with the reward in held-out groups."""
    torch.manual_seed(seed)
    rotate, net = hidden(24), Net(24, 8)

    def groups(count: int):
        meaning, share = torch.randn(count, 1, 4), torch.rand(count, 6, 1)
        candidates = share * meaning + (1 - share) * torch.randn(count, 6, 4)
        rewards, order = F.cosine_similarity(meaning.expand_as(candidates), candidates, dim=2).sort(1, descending=True)
        candidates = candidates.gather(1, order[..., None].expand_as(candidates))
        noise = 2 * torch.randn(count, 7, 20)
        whole = torch.cat([torch.cat([meaning, candidates], 1), noise], 2) @ rotate
        return whole[:, 0], whole[:, 1:], rewards

    queries, candidates, rewards = groups(2048)

    def batch():
        rows = torch.randint(0, 2048, (32,))
        vectors = net(candidates[rows])
        targets = torch.cat([vectors[:, 0], vectors[:, 1:].flatten(0, 1)])
        return net(queries[rows]), targets, {"teacher_scores": 3 * rewards[rows]}

    fit(net, batch, text)
    queries_, candidates_, rewards_ = groups(400)
    with torch.no_grad():
        similarity = (net(queries_)[:, None] * net(candidates_)).sum(2)
    ranks = [x.argsort(1).argsort(1).float() - 2.5 for x in (similarity, rewards_)]
    return F.cosine_similarity(*ranks, dim=1).mean().item()


def test_stable_distillation_ranks_by_reward():
    beats(rewarded, "stable_distillation(temperature=0.05)", "infonce(temperature=0.05)", 0.01)


def test_a_reranker_says_more_of_a_group_than_its_positive_does():
    """Over the same candidates; InfoNCE that also sees the rest of the batch does better than either on these data."""
    plain = "infonce(temperature=0.05, symmetric=False, in_batch=False)"
    beats(rewarded, "distillation(space='group', temperature=0.1, teacher_temperature=0.3)", plain, 0.1)


# ------------------------------------------------------------------------------------------------ sizes


def short(seed: int, text: str) -> float:
    """24 meanings of falling strength behind a rotation. Held-out recall@1 of the first 6 of 32 columns."""
    torch.manual_seed(seed)
    rotate, net, strength = hidden(32), Net(32, 32), torch.linspace(2, 0.5, 24)

    def pairs(count: int):
        meaning = torch.randn(count, 24) * strength
        return (
            torch.cat([meaning + 0.5 * torch.randn(count, 24), torch.randn(count, 8)], 1) @ rotate for _ in range(2)
        )

    def batch():
        return *(net(half) for half in pairs(64)), {}

    fit(net, batch, text)
    with torch.no_grad():
        queries, targets = (F.normalize(net(half)[:, :6], dim=1) for half in pairs(300))
    return recall(queries, targets)


def test_matryoshka_finds_more_at_a_short_cut():
    plain = "infonce(temperature=0.05)"
    beats(short, f"matryoshka(dims=[32, 6]):{plain}", plain, 0.1)


PAIRS = [[1, 4], [2, 8], [3, 16], [4, 32]]


@cache
def sized(seed: int, text: str) -> float:
    """64 topics in words and noise, read by a BERT of 4 blocks. Mean recall@1 over the sizes in PAIRS."""
    torch.manual_seed(seed)
    config = {
        "model_type": "bert",
        "vocab_size": 260,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
    }
    config |= {"intermediate_size": 64, "max_position_embeddings": 16}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tower = Tower(TransformersText(config | still, 16), Mean(), Identity())
    words = torch.randint(20, 260, (64, 8))
    blocks = build_loss(text).layers
    blocks = (1, 2, 3, 4) if blocks == "all" else blocks

    def texts(topics: Tensor):
        own = words[topics].gather(1, torch.rand(len(topics), 8).argsort(1)[:, :4])
        ids = torch.cat([own, torch.randint(20, 260, (len(topics), 3))], 1)
        return {"ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool)}

    def batch():
        topics = torch.randperm(64)[:32]
        return *(tower(texts(topics), blocks, norms=bool(blocks)) for _ in range(2)), {}

    fit(tower, batch, text, steps=80, lr=3e-3)
    tower.eval()
    topics = torch.arange(64).repeat(4)
    with torch.no_grad():
        queries, targets = (tower(texts(which), (1, 2, 3, 4)) for which in (topics, torch.arange(64)))
    cuts = [[F.normalize(x[:, block - 1, :dim], dim=1) for x in (queries, targets)] for block, dim in PAIRS]
    return statistics.mean(recall(a, b, topics) for a, b in cuts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "by"), [("matryoshka_2d(dims=[32, 16, 8, 4])", 0.05), (f"starbucks(pairs={PAIRS})", 0.08)]
)
def test_size_losses_serve_every_depth_and_length(loss, by):
    beats(sized, f"{loss}:infonce(temperature=0.1)", "infonce(temperature=0.1)", by)


@pytest.mark.slow
def test_starbucks_beats_drawn_sizes_at_the_same_number_of_steps():
    plain = "infonce(temperature=0.1)"
    beats(sized, f"starbucks(pairs={PAIRS}):{plain}", f"matryoshka_2d(dims=[32, 16, 8, 4]):{plain}", 0.02)
