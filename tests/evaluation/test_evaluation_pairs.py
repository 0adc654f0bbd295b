"""Evaluation over pairs: against brute force, sklearn, scipy and closed forms, on the real zoo-mini and on random numbers."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from zoo import load_model
from zoo.errors import InputError, ScoresMismatchError, TooFewPairsError
from zoo.evaluation import metrics
from zoo.evaluation.metrics import (
    alignment,
    bootstrap,
    bootstrap_difference,
    first_ranks,
    hits,
    modality_gap,
    ndcg,
    recalls,
    relevant_places,
    uniformity,
)
from zoo.evaluation.pairs import WAYS, PairScores, compare, evaluate_pairs
from zoo.inputs.item import Item
from zoo.tables.pack_files import read_pack

WORDS = ("cat", "dog", "red car", "lorry", "apple", "pear", "house", "tree", "sun", "moon", "fish", "bird")


@pytest.fixture(scope="module")
def mini():
    torch.set_num_threads(1)
    return load_model("zoo-mini")


def texts(*words):
    return [Item(text=word) for word in words]


def random_case(queries=40, candidates=60, ties=False):
    similarity = torch.randn(queries, candidates)
    if ties:
        similarity = similarity.round()
    relevant = torch.rand(queries, candidates) < 0.08
    relevant[torch.arange(queries), torch.randint(candidates, (queries,))] = True
    return similarity, relevant


# --- measures of one ranking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_places_and_ranks_equal_a_sort_by_hand(ties):
    similarity, relevant = random_case(ties=ties)
    places, ranks = relevant_places(similarity, relevant, 10), first_ranks(similarity, relevant)
    for row in range(len(similarity)):
        # Wrong ones first among equals.
        order = sorted(range(60), key=lambda c: (-float(similarity[row, c]), bool(relevant[row, c])))
        right = [bool(relevant[row, c]) for c in order]
        assert places[row].tolist() == right[:10]
        assert ranks[row] == right.index(True) + 1


def test_recall_and_ndcg_equal_those_of_sklearn():
    sk = pytest.importorskip("sklearn.metrics")
    similarity, relevant = random_case()
    places, counts = relevant_places(similarity, relevant, 10), relevant.sum(1)
    each = [
        sk.ndcg_score(r[None].int().numpy(), s[None].numpy(), k=10) for s, r in zip(similarity, relevant, strict=True)
    ]
    assert ndcg(places, counts).numpy() == pytest.approx(np.array(each), abs=1e-9)
    top = similarity.topk(5).indices
    assert recalls(places, counts, 5).tolist() == pytest.approx((relevant.gather(1, top).sum(1) / counts).tolist())


def test_more_places_than_candidates():
    places = relevant_places(torch.tensor([[0.1, 0.3]]), torch.tensor([[True, True]]), 5)
    assert places.tolist() == [[True, True, False, False, False]]
    assert ndcg(places, torch.tensor([2])).tolist() == pytest.approx([1.0])


def test_hits_are_the_ranks():
    similarity, relevant = random_case()
    assert hits(similarity, relevant, (3,))[3] == pytest.approx(
        float((first_ranks(similarity, relevant) <= 3).float().mean())
    )


# --- measures of the space -----------------------------------------------------------------------------------------


def test_alignment_by_hand():
    x = torch.tensor([[1.0, 0], [0, 1]])
    assert alignment(x, torch.tensor([[1.0, 0], [0, -1]])) == pytest.approx((0 + 4) / 2)


def test_uniformity_in_blocks_equals_scipy_pdist(monkeypatch):
    distance = pytest.importorskip("scipy.spatial.distance")
    x = normalize(torch.randn(50, 8))
    expected = math.log(np.exp(-2 * distance.pdist(x.double().numpy(), "sqeuclidean")).mean())
    assert uniformity(x) == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(metrics, "_BLOCK", 7 * 50)
    assert uniformity(x) == pytest.approx(expected, abs=1e-5)


def test_uniformity_by_hand():
    assert uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    assert uniformity(torch.tensor([[1.0, 0], [0, 1]])) == pytest.approx(-4)
    assert math.isnan(uniformity(torch.tensor([[1.0, 0]])))


def test_modality_gap_by_hand():
    assert modality_gap(torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[-1.0, 0]])) == pytest.approx(
        math.hypot(1.5, 0.5)
    )


# --- bootstrap -----------------------------------------------------------------------------------------------------


def test_bootstrap_equals_scipys_percentile_method():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).random(80) ** 3
    (ours,) = bootstrap(values[:, None], resamples=6000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=6000, method="percentile", rng=2).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert ours.value == pytest.approx(values.mean())
    assert bootstrap(values[:, None], resamples=300) == bootstrap(values[:, None], resamples=300)


def coverage(repeats, probability=0.3, queries=150):
    draw = np.random.default_rng(0)
    held = 0
    for seed in range(repeats):
        values = (draw.random((queries, 1)) < probability).astype(float)
        (interval,) = bootstrap(values, resamples=400, seed=seed)
        held += interval.low <= probability <= interval.high
    return held / repeats


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    assert 0.90 <= coverage(150) <= 0.99


@pytest.mark.slow
def test_intervals_hold_the_truth_95_times_in_100():
    assert 0.93 <= coverage(3000) <= 0.965


def test_a_paired_difference_is_surer_than_two_intervals():
    draw = np.random.default_rng(0)
    hard = draw.random((200, 1))  # what both runs find hard
    before, after = hard, hard + 0.02 + 0.01 * draw.standard_normal((200, 1))
    (change,) = bootstrap_difference(before, after)
    assert 0.015 < change.low < change.value < change.high < 0.025
    assert change.share == pytest.approx(2 / 2001)
    assert bootstrap(before)[0].high > bootstrap(after)[0].low  # apart, nobody could tell them


def test_no_difference_is_told_as_chance():
    draw = np.random.default_rng(3)
    before = np.tile([[0.0], [1.0]], (150, 1))
    assert bootstrap_difference(before, before)[0] == (0.0, 0.0, 0.0, 1.0)
    again = [draw.integers(2, size=(300, 1)).astype(float) for _ in range(60)]
    shares = [bootstrap_difference(before, after, resamples=200)[0].share for after in again]
    assert 0.3 < np.mean(shares) < 0.7  # without an effect the share is spread evenly


def test_a_difference_needs_the_same_queries():
    with pytest.raises(ValueError, match="same queries"):
        bootstrap_difference(np.zeros((3, 1)), np.zeros((4, 1)))


# --- pairs through a real model ------------------------------------------------------------------------------------


def by_force(asked, ranked, right):
    """First ranks and top pair by a loop over everything."""
    ranks, tops = [], []
    for query, wanted in zip(asked, right, strict=True):
        order = sorted(range(len(ranked)), key=lambda c: (-float(query @ ranked[c]), c in wanted))
        ranks.append(1 + min(order.index(c) for c in wanted))
        tops.append(order[0])
    return ranks, tops


def test_ranks_equal_brute_force_with_repeats_and_groups(mini):
    # "cat" is asked twice, "an animal" is the target of two pairs, and the two fruit pairs are one group.
    queries = texts("cat", "dog", "cat", "apple", "pear", "car")
    targets = texts("an animal", "an animal", "a kitten", "red fruit", "yellow fruit", "vehicle")
    scores = evaluate_pairs(mini, queries, targets, ["", "", "", "fruit", "fruit", ""], ks=(1, 2))
    asked = mini.encode(["cat", "dog", "apple", "pear", "car"])
    ranked = mini.encode(["an animal", "a kitten", "red fruit", "yellow fruit", "vehicle"])
    forward = [{0, 1}, {0}, {2, 3}, {2, 3}, {4}]
    ranks, tops = by_force(asked, ranked, forward)
    assert scores.forward.ranks.tolist() == ranks
    assert scores.forward.rows.tolist() == [0, 1, 3, 4, 5]
    assert scores.forward.right.tolist() == [2, 1, 2, 2, 1]
    assert [[0, 2, 3, 4, 5].index(row) for row in scores.forward.first] == tops
    ranks, _ = by_force(ranked, asked, [{0, 1}, {0}, {2, 3}, {2, 3}, {4}])
    assert scores.backward.ranks.tolist() == ranks
    assert scores.pairs == 6
    both = torch.stack([asked[0] - ranked[0], asked[1] - ranked[0], asked[0] - ranked[1], *(asked - ranked)[2:]])
    assert scores.alignment == pytest.approx(float(both.square().sum(1).mean()), abs=1e-6)
    assert scores.uniformity == pytest.approx((uniformity(asked) + uniformity(ranked)) / 2, abs=1e-6)
    assert scores.gap is None
    assert scores.plane is None


def test_identical_sides_find_themselves(mini):
    scores = evaluate_pairs(mini, texts(*WORDS), texts(*WORDS))
    assert scores.forward.measures == ("recall@1", "recall@5", "recall@10", "ndcg@10", "mrr")
    assert all(interval == (1, 1, 1) for interval in scores.forward.intervals().values())
    assert scores.alignment == pytest.approx(0, abs=1e-9)


def test_blocks_change_nothing(mini, monkeypatch):
    shifted = WORDS[1:] + WORDS[:1]
    whole = evaluate_pairs(mini, texts(*WORDS), texts(*shifted))
    monkeypatch.setattr(metrics, "_BLOCK", 5 * len(WORDS))
    parts = evaluate_pairs(mini, texts(*WORDS), texts(*shifted))
    for way in WAYS:
        assert parts.to_dict()[way] == whole.to_dict()[way]
    assert parts.uniformity == pytest.approx(whole.uniformity, abs=1e-6)


def test_images_and_texts_have_a_gap_and_an_image_of_it(mini, pack):
    pack("emoji")
    rows = read_pack("emoji", "val")[:16]
    names = [row["names"]["en"] for row in rows]
    scores = evaluate_pairs(mini, [Item(image=row["image"]) for row in rows], texts(*names))
    left = mini.encode([row["image"] for row in rows])
    right = mini.encode(list(dict.fromkeys(names)))
    assert scores.gap == pytest.approx(float((left.mean(0) - right.mean(0)).norm()), abs=1e-5)
    decomposition = pytest.importorskip("sklearn.decomposition")
    both = torch.cat([left, mini.encode(names)]).numpy()
    expected = decomposition.PCA(2, svd_solver="full").fit_transform(both).reshape(2, 16, 2)
    assert np.abs(scores.plane) == pytest.approx(np.abs(expected), abs=1e-3)
    assert scores.plane[0, :, 0].mean() <= 0
    assert scores.sides == ("image", "text")


def test_equal_images_are_ranked_once(mini):
    grey, white = np.full((8, 8, 3), 90, np.uint8), np.full((8, 8, 3), 255, np.uint8)
    scores = evaluate_pairs(mini, texts("grey", "dull", "white"), [Item(image=x) for x in (grey, grey.copy(), white)])
    assert scores.forward.candidates == 2
    assert len(scores.backward) == 2


def test_scores_survive_json_and_compare(mini):
    before = evaluate_pairs(mini, texts(*WORDS), texts(*reversed(WORDS)))
    after = evaluate_pairs(mini, texts(*WORDS), texts(*WORDS))
    back = PairScores.from_dict(json.loads(json.dumps(before.to_dict())))
    assert back.to_dict() == before.to_dict()
    changes = compare(back, after)
    assert set(changes) == set(WAYS)
    # Every word now finds itself; in a list of even length turned round none did.
    assert changes["forward"]["recall@1"].value == 1.0
    assert changes["forward"]["mrr"].value == pytest.approx(1 - before.forward.intervals()["mrr"].value)


def test_scores_of_other_pairs_are_not_compared(mini):
    a, b = (evaluate_pairs(mini, texts(*words), texts(*words)) for words in (WORDS, WORDS[:5]))
    with pytest.raises(ScoresMismatchError, match="12 queries over 12 candidates before, 5 over 5 after"):
        compare(a, b)


def test_bad_items_are_left_out_and_listed(mini):
    queries = texts("cat", " ", "dog", "car")
    targets = [Item(text="kitten"), Item(text="blank"), Item(image=b"no image"), Item(text="lorry")]
    scores = evaluate_pairs(mini, queries, targets)
    assert scores.pairs == 2
    assert scores.forward.rows.tolist() == [0, 3]
    assert scores.forward.candidates == 2
    assert [message.split(":")[0] for message in scores.skipped] == ["query item 1", "document item 2"]
    with pytest.raises(InputError, match="item 1: "):
        evaluate_pairs(mini, queries, targets, on_bad="raise")


def test_nothing_to_evaluate(mini):
    with pytest.raises(TooFewPairsError, match="of 0 held-out pairs"):
        evaluate_pairs(mini, [], [])
    with pytest.raises(TooFewPairsError, match="first of 1 reasons: query item 0"):
        evaluate_pairs(mini, texts(""), texts("x"))
    with pytest.raises(ValueError, match="1 queries, 2 targets"):
        evaluate_pairs(mini, texts("a"), texts("a", "b"))
    with pytest.raises(ValueError, match="ks are places"):
        evaluate_pairs(mini, texts("a"), texts("a"), ks=(0,))


def test_unknown_measure_is_named(mini):
    with pytest.raises(ValueError, match=r"no measure 'recall@3' here; known are recall@1"):
        evaluate_pairs(mini, texts("a", "b"), texts("a", "b")).forward.values("recall@3")
