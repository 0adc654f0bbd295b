"""Samplers: pure functions of seed and step, each with the property that it is for, and worth it on data made for it."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from zoo.training.balancing import balance_weights, sinkhorn
from zoo.training.errors import SamplerError
from zoo.training.losses.infonce import InfoNCE
from zoo.training.samplers import build_sampler, describe_samplers
from zoo.training.samplers.base import Rows
from zoo.training.samplers.duplicates import pair_keys

from zoo.errors import UnsupportedInputError
from zoo.inputs.item import Item
from zoo.tables.pairs import Pair

SIZES = (300, 120, 60)
SETS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], SIZES))
NAMES = ["photos", "emoji", "symbols"]
ALL = [
    "shuffled",
    "local(window=2, block=16)",
    "no_duplicates",
    "homogeneous",
    'homogeneous(mode="epoch-static")',
    'homogeneous(mode="random")',
    'homogeneous(exchange=0.25, tails="mix")',
    "mixed",
    "interleaved(sub_batch=8)",
    'interleaved(sub_batch=8, order="drawn")',
    "label_balanced",
    "curriculum",
]


def sampler(text, batch_size=32, seed=3, **given):
    given = {"keys": np.arange(480) % 240, "labels": SETS, "difficulty": np.arange(480), "steps": 40, **given}
    return build_sampler(text, SETS, names=NAMES, batch_size=batch_size, seed=seed, **given)


@pytest.mark.parametrize("text", ALL)
def test_rows_are_a_function_of_seed_and_step_alone(text):
    one, other = sampler(text), sampler(text)
    steps = range(2 * one.steps_per_epoch + 3)
    walked = [one.rows(step) for step in steps]
    # A resumed run asks for late steps first.
    for step in reversed(steps):
        np.testing.assert_array_equal(other.rows(step), walked[step])
    assert all(rows.shape == (32,) and rows.min() >= 0 and rows.max() < 480 for rows in walked)
    assert not all(np.array_equal(sampler(text, seed=4).rows(step), walked[step]) for step in range(5))
    assert not np.array_equal(one.batches(0), one.batches(1))


@pytest.mark.parametrize("text", ALL)
def test_an_epoch_is_a_table_of_whole_batches_and_says_what_is_in_it(text):
    one = sampler(text)
    assert one.batches(1).shape == (one.steps_per_epoch, 32)
    composition = one.composition(1)
    assert list(composition) == NAMES
    assert sum(composition.values()) == one.steps_per_epoch * 32


@pytest.mark.parametrize("text", ["shuffled", "local(window=2, block=16)", 'homogeneous(exchange=0.25, tails="mix")'])
def test_every_row_comes_once_an_epoch(text):
    assert sorted(sampler(text).batches(1).ravel()) == list(range(480))


def test_all_samplers_are_tested():
    assert {text.split("(")[0] for text in ALL} == {name for name, _ in describe_samplers()}


# ------------------------------------------------------------------------------------------------- one by one


@pytest.mark.parametrize(("count", "size", "seed"), [(1000, 64, 0), (77, 7, 5), (64, 64, -2)])
def test_shuffled_draws_what_the_first_trainer_drew(count, size, seed):
    one = build_sampler("shuffled", np.zeros(count, int), batch_size=size, seed=seed)
    for step in (0, 1, count // size, 3 * (count // size) + 1):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step // (count // size))
        start = step % (count // size) * size
        expected = torch.randperm(count, generator=generator)[start : start + size]
        assert one.rows(step).tolist() == expected.tolist()


def test_local_reads_few_blocks_at_a_time_and_mixes_all_of_them():
    blocks = np.repeat(np.arange(100), 50)
    one = build_sampler("local(window=4)", np.zeros(5000, int), batch_size=50, seed=0, blocks=blocks)
    for epoch in range(3):
        touched = [set(blocks[rows]) for rows in one.batches(epoch)]
        assert all(len(a) <= 8 for a in touched)  # at most two windows meet in a batch
        assert np.mean([len(a) for a in touched]) > 3.9
    # Over the epochs two rows of different blocks meet, in all places of the epoch.
    firsts = {int(blocks[one.batches(epoch)[0, 0]]) for epoch in range(60)}
    assert len(firsts) > 35


def zipf(count, rng):
    return np.minimum((rng.pareto(1.2, count) * 20).astype(int), count)


def repeats(rows, keys):
    sets = [set(row) for row in keys.reshape(len(keys), -1)[rows].tolist()]
    return sum(map(len, sets)) - len(set().union(*sets))


@pytest.mark.parametrize("columns", [1, 2])
def test_no_duplicates_have_none_and_lose_none(columns):
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 400, (3000, columns))  # the same texts on both sides, about eight times each
    one = build_sampler("no_duplicates", np.zeros(3000, int), batch_size=64, seed=0, keys=keys)
    for epoch in (0, 1, 5):
        batches = one.batches(epoch)
        assert sum(repeats(rows, keys) for rows in batches) == 0
        assert len(np.unique(batches)) == batches.size == 3000 // 64 * 64
    plain = build_sampler("shuffled", np.zeros(3000, int), batch_size=64, seed=0)
    assert sum(repeats(rows, keys) for rows in plain.batches(0)) > 100


def test_no_duplicates_fill_as_many_batches_as_is_possible():
    rng = np.random.default_rng(2)
    for _ in range(20):
        keys, size = zipf(300, rng), int(rng.integers(2, 12))
        one = build_sampler("no_duplicates", np.zeros(300, int), batch_size=size, seed=0, keys=keys)
        counts = np.bincount(keys)
        assert sum(repeats(rows, keys) for rows in one.batches(3)) == 0
        assert len(np.unique(one.batches(3))) == one.steps_per_epoch * size
        more = one.steps_per_epoch + 1  # a batch takes no key twice: so many would need more rows than may be used
        assert np.minimum(counts, more).sum() < more * size


def test_no_duplicates_of_two_frequent_keys_give_clean_batches_still():
    rng = np.random.default_rng(3)
    keys = np.stack([zipf(2000, rng), 5000 + zipf(2000, rng)], 1)
    one = build_sampler("no_duplicates", np.zeros(2000, int), batch_size=8, seed=0, keys=keys)
    for epoch in (0, 1):
        assert sum(repeats(rows, keys) for rows in one.batches(epoch)) == 0
    assert one.steps_per_epoch > 100


def test_no_duplicates_read_the_pairs_themselves():
    pairs = [Pair(Item(text=f"q{i % 40}"), Item(text=f"p{i % 30}")) for i in range(120)]
    for by, number in (("both", None), ("query", 40), ("positive", 30)):
        one = build_sampler(f'no_duplicates(by="{by}")', pairs=pairs, batch_size=20, seed=0)
        for rows in one.batches(0):
            if number != 30:
                assert len({pairs[row].query.text for row in rows}) == 20
            if number != 40:
                assert len({pairs[row].positive.text for row in rows}) == 20


def test_homogeneous_batches_are_of_one_data_set():
    for text in ("homogeneous", 'homogeneous(mode="epoch-static")', 'homogeneous(mode="random")'):
        assert all(len(set(SETS[rows])) == 1 for rows in sampler(text).batches(1))
    assert sampler("homogeneous").composition(0) == {"photos": 288, "emoji": 96, "symbols": 32}


def test_static_batches_keep_their_members_and_change_their_order():
    one = sampler('homogeneous(mode="epoch-static")')
    first, second = one.batches(0), one.batches(1)
    assert {frozenset(rows) for rows in first} == {frozenset(rows) for rows in second}
    assert not np.array_equal(first, second)
    fresh = sampler("homogeneous")
    assert {frozenset(rows) for rows in fresh.batches(0)} != {frozenset(rows) for rows in fresh.batches(1)}


def test_random_homogeneous_batches_follow_the_sizes():
    one = sampler('homogeneous(mode="random")')
    drawn = np.concatenate([SETS[one.batches(epoch)[:, 0]] for epoch in range(100)])
    for number, size in enumerate(SIZES):
        share = size / 480
        assert abs((drawn == number).mean() - share) < 3 * np.sqrt(share * (1 - share) / len(drawn))
    assert all(len(set(rows)) == 32 for rows in one.batches(0))


def test_exchange_moves_exactly_its_share_of_every_batch():
    plain, mixed = sampler('homogeneous(tails="mix")'), sampler('homogeneous(exchange=0.25, tails="mix")')
    before, after = plain.batches(2), mixed.batches(2)
    np.testing.assert_array_equal(before[:, :24], after[:, :24])
    assert (before[:, 24:] != after[:, 24:]).mean() > 0.8
    assert sorted(before.ravel()) == sorted(after.ravel())


def test_mixing_follows_the_temperature_and_every_row_comes_alike():
    for temperature in (0.0, 0.5, 1.0):
        one = sampler(f"mixed(temperature={temperature})")
        shares = np.array(SIZES) ** temperature / (np.array(SIZES) ** temperature).sum()
        for epoch in (0, 1):
            counts = np.array(list(one.composition(epoch).values()))
            assert np.abs(counts - shares * 480).max() < 1
    one = sampler("mixed(temperature=0.0)")
    seen = np.bincount(np.concatenate([one.batches(epoch).ravel() for epoch in range(9)]), minlength=480)
    for number in range(3):
        assert np.ptp(seen[number == SETS]) <= 1  # 160 rows an epoch: of 60 as well as of 300


def test_weights_and_caps_are_kept():
    one = sampler('mixed(temperature=1.0, weights={"sym*": 3.0, "emoji": 0})')
    assert one.composition(0) == {"photos": 220, "emoji": 0, "symbols": 132}  # 300 : 3 · 60 of 352
    capped = sampler('mixed(temperature=1.0, caps={"photos": 60, "*": 50})')
    assert all(count <= cap for count, cap in zip(capped.composition(0).values(), (60, 50, 50), strict=True))
    assert sum(capped.composition(0).values()) == 160


def test_interleaved_batches_are_runs_of_one_data_set_each():
    one = sampler("interleaved(sub_batch=0.25, temperature=0.0)", batch_size=32)
    for epoch in (0, 1):
        runs = SETS[one.batches(epoch)].reshape(-1, 8)
        assert (runs == runs[:, :1]).all()
        counts = np.bincount(runs[:, 0])
        assert np.ptp(counts) <= 1
        assert set(one.batches(epoch)[SETS[one.batches(epoch)] == 0]) == set(np.flatnonzero(SETS == 0))  # all exhausted
    assert len({tuple(runs[i : i + 4, 0]) for i in range(0, len(runs), 4)}) > 5  # the order is drawn
    first = sampler('interleaved(sub_batch=8, temperature=0.0, stop="first")')
    assert first.steps_per_epoch < one.steps_per_epoch


def test_interleaving_by_weight_has_the_weights_frequencies():
    one = sampler('interleaved(sub_batch=8, temperature=0.0, weights={"photos": 5.0})')
    firsts = np.concatenate([SETS[one.batches(epoch)[:, 0]] for epoch in range(30)])
    for number, share in enumerate((5 / 7, 1 / 7, 1 / 7)):
        assert abs((firsts == number).mean() - share) < 3 * np.sqrt(share * (1 - share) / len(firsts))


@pytest.mark.parametrize("stop", ["all", "first"])
def test_runs_drawn_by_chance_last_until_all_are_exhausted(stop):
    """VLM2Vec's sampler (vlm_embedders.md, section 1.4): a set by probability, k of its rows, repeat."""
    weights = {"photos": 1.0, "emoji": 5.0, "symbols": 2.0}
    one = sampler(f'interleaved(sub_batch=8, temperature=0.0, weights={weights}, stop="{stop}", order="drawn")')
    runs = one.batches(0).reshape(-1, 8)
    assert (SETS[runs] == SETS[runs[:, :1]]).all()
    unseen = [set(np.flatnonzero(number == SETS)) for number in range(3)]
    whole = []
    for run in runs:
        unseen = [rows - set(run) for rows in unseen]
        whole.append([not rows for rows in unseen])
    finished = all if stop == "all" else any
    # The epoch ends with the first whole batch in which it is so; a batch holds four runs.
    assert finished(whole[-1]) if stop == "all" else not finished(whole[-5]) or finished(whole[-1])
    assert not all(whole[-5])
    firsts = np.concatenate([SETS[one.batches(epoch).reshape(-1, 8)[:, 0]] for epoch in range(40)])
    counts = [np.bincount(SETS[one.batches(epoch).reshape(-1, 8)[:, 0]], minlength=3)[1] for epoch in range(40)]
    for number, share in enumerate((1 / 8, 5 / 8, 2 / 8)):
        assert abs((firsts == number).mean() - share) < 3 * np.sqrt(share * (1 - share) / len(firsts))
    runs_each = len(firsts) / 40
    assert np.var(counts) > 0.3 * runs_each * 15 / 64  # each by itself: not the same number in every epoch


def test_rows_of_a_set_all_come_before_one_comes_again():
    for order in ("even", "drawn"):
        one = sampler(f'interleaved(sub_batch=8, temperature=0.0, order="{order}")')
        small = one.batches(1).ravel()
        small = small[SETS[small] == 2]
        assert len(small) > 120
        assert all(len(set(small[i : i + 60])) == 60 for i in range(0, len(small) - 60, 60))


def test_balanced_labels_come_alike_however_rare():
    labels = np.repeat([0, 1, 2, 3], [400, 60, 15, 5])
    one = build_sampler("label_balanced(per_label=2)", np.zeros(480, int), batch_size=32, seed=0, labels=labels)
    for rows in one.batches(0):
        assert np.bincount(labels[rows]).tolist() == [8, 8, 8, 8]
        pairs = labels[rows].reshape(-1, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all()
    seen = np.bincount(one.batches(0).ravel(), minlength=480)
    for label in range(4):
        assert np.ptp(seen[labels == label]) <= 1


def test_a_curriculum_admits_the_hard_rows_late():
    one = sampler("curriculum(start=0.2, until=0.5)")
    admitted = [one.admitted(step) for step in range(40)]
    assert admitted[0] == 96
    assert admitted == sorted(admitted)
    assert admitted[10] == round(480 * np.sqrt(0.5 * (1 - 0.04) + 0.04))  # half of the way, eq. 7
    assert set(admitted[20:]) == {480}
    for step in range(40):
        assert one.rows(step).max() < admitted[step]
        assert len(set(one.rows(step))) == 32
    late = np.concatenate([one.rows(step) for step in range(20, 40)])
    assert late.max() > 470


def test_a_curriculum_of_data_sets_begins_with_the_first():
    one = sampler('curriculum(order=["emo*", "*"], start=0.25)')
    assert set(SETS[one.rows(0)]) == {1}
    assert set(np.concatenate([SETS[one.rows(step)] for step in range(20, 25)])) == {0, 1, 2}


def test_a_curriculum_of_texts_begins_with_short_ones():
    pairs = [Pair(Item(text="word " * (1 + i % 10)), Item(text="x")) for i in range(100)]
    one = build_sampler("curriculum(start=0.2)", pairs=pairs, batch_size=8, seed=0, steps=20)
    assert max(len(pairs[row].query.text) for row in one.rows(0)) <= 10


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shufled", "nearest: shuffled"),
        ("shuffled(3)", "name=value"),
        ("mixed(temprature=1)", "nearest: temperature"),
        ("mixed(temperature=-1)", "from 0"),
        ("mixed(weights={'videos': 2})", "no data set is called 'videos'"),
        ("interleaved(sub_batch=7)", "does not divide"),
        ("interleaved(sub_batch=8, order='odd')", "even or drawn"),
        ('homogeneous(mode="often")', "epoch-static"),
        ("__import__('os').system('true')", "cannot read"),
        ("no_duplicates(by='photo')", "both, query or positive"),
        ("curriculum(start=0)", "above 0"),
    ],
)
def test_what_is_misspelt_is_named_with_what_there_is(text, said):
    with pytest.raises((SamplerError, SamplerError), match=said.replace("(", r"\(")):
        sampler(text)


def test_batches_that_cannot_be_are_refused_with_numbers_and_a_remedy():
    with pytest.raises(
        SamplerError, match="a batch of 64 is larger than the data, 10 pairs; set batch_size to at most 10"
    ):
        build_sampler("shuffled", np.zeros(10, int), batch_size=64, seed=0)
    with pytest.raises(SamplerError, match="no pairs"):
        build_sampler("shuffled", pairs=[], batch_size=4, seed=0)
    with pytest.raises(SamplerError, match="'symbols' has 60 rows, fewer than the 64 of a batch"):
        sampler("homogeneous", batch_size=64)
    with pytest.raises(SamplerError, match="'symbols' has 60 rows, fewer than the 64 of a run"):
        sampler("interleaved(sub_batch=64)", batch_size=128)
    same = [Pair(Item(text=f"query {i}"), Item(text="the same")) for i in range(50)]
    with pytest.raises(SamplerError, match="needs as many different positives, and the 50 pairs have 1"):
        build_sampler("no_duplicates", pairs=same, batch_size=8, seed=0)
    with pytest.raises(SamplerError, match="all 50 pairs have one label"):
        build_sampler("label_balanced", pairs=same, batch_size=8, seed=0)
    with pytest.raises(SamplerError, match="set steps"):
        sampler("curriculum", steps=None)
    with pytest.raises(SamplerError, match="needs keys"):
        build_sampler("no_duplicates", np.zeros(50, int), batch_size=8, seed=0)


# ------------------------------------------------------------------------------------------------- what they are good for


def train(queries, targets, text, seed, steps=120, batch_size=16, **given):
    """Recall of linear maps `(D, D)` that were trained on batches of a sampler."""
    one = build_sampler(text, given.pop("datasets"), batch_size=batch_size, seed=seed, **given)
    weights = [torch.nn.Parameter(torch.eye(queries.shape[1])) for _ in range(2)]
    loss = InfoNCE(temperature=0.1, learn=False)
    optimizer = torch.optim.Adam(weights, lr=0.02)
    for step in range(steps):
        rows = torch.from_numpy(one.rows(step))
        value = loss(*(F.normalize(x[rows] @ w, dim=1) for x, w in zip((queries, targets), weights, strict=True)))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return [w.detach() for w in weights]


def gap(scores):
    """Mean paired gain over its standard error."""
    gains = np.array([a - b for a, b in scores])
    return gains.mean() / (gains.std(ddof=1) / np.sqrt(len(gains)) + 1e-12)


def recall(queries, targets, weights):
    a, b = (F.normalize(x @ w, dim=1) for x, w in zip((queries, targets), weights, strict=True))
    return float(((a @ b.T).argmax(1) == torch.arange(len(a))).float().mean())


def test_homogeneous_batches_teach_what_tells_rows_of_one_data_set_apart():
    scores = []
    for seed in range(5):
        torch.manual_seed(seed)
        datasets = torch.arange(640) % 40
        # The data set is plain to see, the thing itself is faint beside noise: in a mixed batch the first is enough.
        kind, thing = 4 * F.one_hot(datasets, 40).float(), 0.5 * torch.randn(640, 12)
        queries, targets = (
            torch.cat([kind, thing + 0.1 * torch.randn(640, 12), torch.randn(640, 12)], 1) for _ in range(2)
        )
        given = {"datasets": datasets.numpy(), "seed": seed, "steps": 60}
        scores.append(
            [recall(queries, targets, train(queries, targets, text, **given)) for text in ("homogeneous", "shuffled")]
        )
    assert gap(scores) > 2


def test_batches_without_duplicates_learn_better_from_repeated_texts():
    scores = []
    for seed in range(5):
        torch.manual_seed(seed)
        texts = torch.arange(640) % 20  # 20 texts, 32 queries each: a shuffled batch of 16 holds several twice
        meaning = torch.randn(20, 24)
        rotation = torch.linalg.qr(torch.randn(24, 24))[0]
        queries = meaning[texts] @ rotation + 1.2 * torch.randn(640, 24)
        fresh = meaning[texts] @ rotation + 1.2 * torch.randn(640, 24)
        given = {"datasets": np.zeros(640, int), "seed": seed, "keys": texts.numpy(), "steps": 80}
        pair = []
        for text in ("no_duplicates", "shuffled"):
            a, b = train(queries, meaning[texts], text, **given)
            similar = F.normalize(fresh @ a, dim=1) @ F.normalize(meaning @ b, dim=1).T
            pair.append(-float(F.cross_entropy(similar / 0.1, texts)))
        scores.append(pair)
    assert gap(scores) > 2


# ------------------------------------------------------------------------------------------------- balancing


def test_a_sinkhorn_plan_has_even_margins_and_prefers_what_is_cheap():
    rng = np.random.default_rng(0)
    cost = rng.random((5, 7))
    plan = sinkhorn(cost)
    np.testing.assert_allclose(plan.sum(1), 1 / 5, rtol=1e-9)
    np.testing.assert_allclose(plan.sum(0), 1 / 7, rtol=1e-3)
    assert (plan * cost).sum() < cost.mean()
    best = min(
        sum(1 / 3 * c[i, p[i]] for i in range(3)) for p in itertools.permutations(range(3)) for c in [cost[:3, :3]]
    )
    assert (sinkhorn(cost[:3, :3], entropy=0.005, rounds=2000) * cost[:3, :3]).sum() == pytest.approx(best, abs=0.01)


def test_data_sets_near_to_the_purpose_weigh_more():
    rng = np.random.default_rng(0)

    def around(centre, spread):
        vectors = centre + spread * rng.standard_normal((200, 16))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    centre, other = np.eye(16)[0], np.eye(16)[1]
    purpose = around(centre, 0.2)
    weights = balance_weights([around(centre, 0.2), around(centre + other, 0.2), around(other, 0.2)], [purpose])
    assert weights[0] > weights[1] > weights[2]
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(balance_weights([purpose, purpose], [purpose]), 0.5)


def test_items_whose_content_cannot_be_told_are_no_duplicates_of_each_other(monkeypatch):
    def untold(item: Item, *more: object) -> bytes:
        raise UnsupportedInputError("no content")

    monkeypatch.setattr("zoo.inputs.identity.item_key", untold)
    pairs = [Pair(Item(image=object()), Item(audio=object())) for _ in range(40)]
    keys = pair_keys(Rows(np.zeros(40, dtype=np.int64), ["own"], pairs))
    assert len(set(keys.ravel().tolist())) == 80
