"""Mining: planted false negatives through a real model whose vectors are known; ranks, sampling, bad input."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from zoo.training import mining
from zoo.training.errors import MiningError
from zoo.training.mining import f1_threshold, mine

from tests.training.mining_support import DIM, at_cosine, cosine, random_cloud, ranking, teacher_of, text, words
from zoo import build_model
from zoo.encoders.static import StaticText
from zoo.errors import InputError, TooManyBadItemsError, ZooError
from zoo.inputs.item import Item
from zoo.tables.pairs import Pair, PairTable


@pytest.fixture(scope="module")
def planted():
    """Queries with a positive at 0.8, planted false negatives at 0.78 to 0.9, hard negatives at 0.5 to 0.6."""
    generator = torch.Generator().manual_seed(0)
    vectors, pairs, corpus = {}, [], []
    for i in range(40):
        query = F.normalize(torch.randn(DIM, generator=generator), dim=0)
        near = {f"q{i}": 1.0, f"p{i}": 0.8, f"f{i}a": 0.78, f"f{i}b": 0.9}
        near |= {f"h{i}{letter}": 0.5 + 0.1 * k / 4 for k, letter in enumerate("abcd")}
        vectors |= {word: at_cosine(query, cosine, generator) for word, cosine in near.items()}
        pairs.append(Pair(text(f"q{i}"), text(f"p{i}"), where=f"line {i + 2}"))
        corpus += [text(word) for word in near if word[0] in "fh"]
    return teacher_of(vectors), pairs, corpus


# -- the filters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("margin", {"margin": 0.1, "relative_margin": None}),
        ("relative margin", {"relative_margin": 0.05}),
        ("adaptive margin", {"adaptive": (0.05, 0.2)}),
        ("max score", {"max_score": 0.7, "relative_margin": None}),
        ("f1 threshold", {"threshold": "f1", "relative_margin": None}),
    ],
)
def test_every_filter_removes_all_planted_false_negatives_and_no_hard_one(planted, name, rules):
    teacher, pairs, corpus = planted
    pairs_without = mine(pairs, teacher, corpus=corpus, negatives=4, relative_margin=None)
    assert all(words(pair)[:2] == [f"f{i}b", f"f{i}a"] for i, pair in enumerate(pairs_without))  # the trap is there
    mined = mine(pairs, teacher, corpus=corpus, negatives=4, **rules)
    found = [set(words(pair)) for pair in mined]
    planted_left = sum(word[0] == "f" and int(word[1:-1]) == i for i, each in enumerate(found) for word in each)
    hard_found = sum(word[0] == "h" and int(word[1:-1]) == i for i, each in enumerate(found) for word in each)
    removed = mined.report.removed[name]
    if name == "f1 threshold":
        # What scores as positives do is dropped: those above 0.8 for certain; the best F1 leaves those just below.
        assert not any(word.endswith("b") and word[0] == "f" for each in found for word in each)
        assert mined.report.thresholds[""] == pytest.approx(0.8, abs=0.02)
    else:
        assert planted_left == 0  # recall of the filter 1
        assert removed == 80  # precision 1: nothing but the planted ones
        assert hard_found == 160
    assert mined.report.pairs == mined.report.kept == 40
    assert mined.report.documents == 40 + 40 * 6


def test_min_score_and_sequential_counts(planted):
    teacher, pairs, corpus = planted
    mined = mine(pairs, teacher, corpus=corpus, negatives=4, min_score=0.49, ranks=(0, 20))
    assert mined.report.candidates == 40 * 20
    assert mined.report.removed == {"relative margin": 80, "min score": 40 * 20 - 80 - 160}
    assert mined.report.too_few == 0
    assert mined.report.positive_mean == pytest.approx(0.8, abs=1e-5)
    assert mined.report.negative_mean == pytest.approx(0.5375, abs=1e-5)


def test_scores_are_the_teachers_of_positive_then_negatives_best_first(planted):
    teacher, pairs, corpus = planted
    pair = mine(pairs, teacher, corpus=corpus, negatives=6)[7]
    expected = [cosine(teacher, "q7", word) for word in ("p7", *words(pair))]
    assert pair.teacher_scores == pytest.approx(expected, abs=1e-6)
    assert list(pair.teacher_scores[1:]) == sorted(pair.teacher_scores[1:], reverse=True)
    assert pair.query is pairs[7].query
    assert pair.where == "line 9"


def test_a_relative_margin_of_a_negative_positive_is_below_it():
    vectors = {"q": torch.eye(4)[0], "p": torch.tensor([-0.2, 0.98, 0, 0])}
    vectors |= {"near": torch.tensor([-0.205, 0, 0.979, 0]), "far": torch.tensor([-0.3, 0, 0, 0.954])}
    pairs = [Pair(text("q"), text("p"), negatives=(text("near"), text("far")))]
    mined = mine(pairs, teacher_of(vectors), negatives=1, relative_margin=0.05)
    assert words(mined[0]) == ["far"]  # 0.95 · -0.2 = -0.19 would have let the near one in


def test_adaptive_margin_follows_its_formula(planted):
    teacher, pairs, corpus = planted
    low, high = 0.02, 0.4
    mined = mine(pairs, teacher, corpus=corpus, negatives=60, ranks=(0, 60), adaptive=(low, high))
    every = mine(pairs, teacher, corpus=corpus, negatives=60, ranks=(0, 60), relative_margin=None)
    for got, all_of in zip(mined, every, strict=True):
        positive, scores = all_of.teacher_scores[0], np.array(all_of.teacher_scores[1:])
        share = low + (high - low) * min(1.0, scores[:50].std() / positive)
        assert low < share < high
        assert len(got.negatives) == (scores < positive - share * positive).sum()


def test_f1_threshold_at_the_crossing_of_two_gaussians():
    generator = torch.Generator().manual_seed(3)
    positives = 0.7 + 0.1 * torch.randn(40_000, generator=generator)
    others = 0.3 + 0.1 * torch.randn(40_000, generator=generator)
    assert f1_threshold(positives, others) == pytest.approx(0.5, abs=0.02)  # equal sizes and widths: in the middle
    # Ten times as many cross pairs: where F1 of the two distributions is best, by its own closed form.
    grid = torch.linspace(0.2, 0.9, 7001, dtype=torch.float64)
    hit, miss = torch.special.ndtr((0.7 - grid) / 0.1), 10 * torch.special.ndtr((0.3 - grid) / 0.1)
    best = float(grid[(2 * hit / (hit + miss + 1)).argmax()])
    assert best > 0.52
    many = torch.cat([0.3 + 0.1 * torch.randn(40_000, generator=generator) for _ in range(10)])
    assert f1_threshold(positives, many) == pytest.approx(best, abs=0.02)
    counted = many.histc(4096, -1, 1)
    assert f1_threshold(positives, torch.linspace(-1, 1, 4097)[:-1], counted) == pytest.approx(best, abs=0.02)
    assert f1_threshold(torch.tensor([0.5, 0.5, 0.2]), torch.tensor([0.5, 0.1])) == pytest.approx(0.2)


def test_no_negative_at_or_above_the_f1_threshold_of_its_own_data_set(planted):
    teacher, pairs, corpus = planted
    named = [Pair(p.query, p.positive, dataset="even" if i % 2 == 0 else "odd") for i, p in enumerate(pairs)]
    named = [Pair(p.query, text(f"h{i}d"), dataset="odd") if i % 2 else p for i, p in enumerate(named)]
    mined = mine(named, teacher, corpus=corpus, negatives=5, threshold="f1", relative_margin=None)
    assert mined.report.thresholds["even"] > mined.report.thresholds["odd"] + 0.1
    assert list(mined.names) == ["even", "odd"]
    for number, pair in zip(mined.datasets, mined, strict=True):
        assert max(pair.teacher_scores[1:]) < mined.report.thresholds[mined.names[number]]


# -- ranks, groups, sampling -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud():
    return random_cloud()


@pytest.mark.parametrize("ranks", [(0, 5), (3, 8), (10, 15)])
@pytest.mark.parametrize("entries", [mining._BLOCK_ENTRIES, 150])
def test_rank_windows_equal_a_full_sort_for_every_block_size(cloud, ranks, entries, monkeypatch):
    monkeypatch.setattr(mining, "_BLOCK_ENTRIES", entries)
    teacher, pairs = cloud
    mined = mine(pairs, teacher, negatives=5, ranks=ranks, relative_margin=None)
    for i in (0, 17, 49):
        others = [f"p{j}" for j in range(50) if j != i]
        assert words(mined[i]) == ranking(teacher, f"q{i}", others)[slice(*ranks)]


def test_group_also_equal_queries_and_the_query_itself_are_never_negatives(cloud):
    teacher, _ = cloud
    pairs = [
        Pair(text("q0"), text("p0"), extra_positives=(text("p1"),), group="g"),
        Pair(text("q1"), text("p2"), group="g"),
        Pair(text("q0"), text("p3")),
        Pair(text("q2"), text("q0")),
        Pair(text("q3"), text("p4"), negatives=(text("p5"),)),
    ]
    mined = mine(pairs, teacher, negatives=3, relative_margin=None)
    assert (
        [set(words(pair)) for pair in mined]
        == [
            {"p4", "p5"},  # p1 is also right, p2 is of its group, p3 answers the same query, q0 is the query
            {"p3", "q0", "p4", "p5"} - {ranking(teacher, "q1", ["p3", "q0", "p4", "p5"])[-1]},
            {"p4", "p5"},
            set(ranking(teacher, "q2", ["p0", "p1", "p2", "p3", "p4", "p5"])[:3]),
            set(ranking(teacher, "q3", ["p0", "p1", "p2", "p3", "q0", "p5"])[:3]),
        ]
    )
    assert mined.report.too_few == 2
    assert [len(pair.teacher_scores) for pair in mined] == [3, 4, 3, 4, 4]


def test_pairs_with_too_few_are_kept_dropped_or_filled(cloud):
    teacher, _ = cloud
    pairs = [
        Pair(text("q0"), text("p0"), extra_positives=(text("p1"),)),
        Pair(text("q1"), text("p2")),
        Pair(text("q2"), text("p3")),
    ]
    options = {"negatives": 3, "relative_margin": None, "corpus": [text("p1")]}
    assert [len(p.negatives) for p in mine(pairs, teacher, **options)] == [2, 3, 3]
    dropped = mine(pairs, teacher, too_few="drop", **options)
    assert [p.query.text for p in dropped] == ["q1", "q2"]
    assert dropped.rows.tolist() == [1, 2]
    filled = mine(pairs, teacher, too_few="repeat", **options)
    first = words(filled[0])
    assert len(first) == 3
    assert first[2] == first[0] != first[1]
    assert filled[0].teacher_scores[3] == filled[0].teacher_scores[1]


def test_pairs_whose_positive_is_far_are_dropped(cloud):
    teacher, pairs = cloud
    place = [ranking(teacher, f"q{i}", [f"p{j}" for j in range(50)]).index(f"p{i}") for i in range(50)]
    mined = mine(pairs, teacher, negatives=2, keep_positive_rank=10)
    assert mined.rows.tolist() == [i for i in range(50) if place[i] < 10]
    assert mined.report.far_positives == 50 - mined.report.kept


def test_random_sampling_is_seeded_within_the_window_and_uniform(cloud):
    teacher, pairs = cloud
    options = {"negatives": 5, "ranks": (5, 15), "relative_margin": None, "sampling": "random"}
    one, same, other = (mine(pairs, teacher, seed=seed, **options) for seed in (0, 0, 1))
    assert [words(p) for p in one] == [words(p) for p in same] != [words(p) for p in other]
    counts = np.zeros(10)
    for i, pair in enumerate(one):
        window = ranking(teacher, f"q{i}", [f"p{j}" for j in range(50) if j != i])[5:15]
        places = [window.index(word) for word in words(pair)]  # raises if one lies outside
        assert places == sorted(places)
        counts[places] += 1
    assert counts.min() > 10
    assert counts.max() < 40


def test_only_documents_of_the_positives_kind_unless_told():
    model = build_model("mini-test")
    generator = np.random.default_rng(0)
    images = [Item(image=generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)) for _ in range(8)]
    captions = [text(f"caption number {i}") for i in range(8)]
    pairs = [Pair(p, c) for p, c in zip(images, captions, strict=True)]
    pairs += [Pair(c, p) for p, c in zip(images, captions, strict=True)]
    mined = mine(pairs, model, negatives=3, relative_margin=None)
    assert all(n.modalities == pair.positive.modalities for pair in mined for n in pair.negatives)
    every = mine(pairs, model, negatives=3, relative_margin=None, same_kind=False)
    assert any(n.modalities != pair.positive.modalities for pair in every for n in pair.negatives)


# -- bad input -------------------------------------------------------------------------------------------------------


def test_bad_items_are_set_aside_and_named(planted):
    teacher, pairs, corpus = planted
    broken = [*pairs[:6], Pair(text(" "), text("p6"), where="line 8"), Pair(text("q7"), Item(image=b"x"))]
    mined = mine(broken, teacher, corpus=[*corpus, text("")], negatives=2, max_bad=2)
    with pytest.raises(TooManyBadItemsError, match=r"2 of 8 inputs are bad .*\n  line 8: .*visible(.|\n)*--max-bad 2"):
        mine(broken, teacher, corpus=corpus, negatives=2)
    assert mined.rows.tolist() == list(range(6))
    assert [place for place, _ in mined.report.bad] == [
        "line 8, query",
        "pair 7, positive",
        f"corpus, item {len(corpus)}",
    ]
    assert "no visible character" in mined.report.bad[0][1]
    assert all(n.text for pair in mined for n in pair.negatives)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"negatives": 0}, "at least 1"),
        ({"ranks": (10, 12)}, "widen"),
        ({"ranks": (80, 100)}, "too few"),
        ({"threshold": "f2"}, "max_score"),
        ({"sampling": "best"}, "top or random"),
        ({"adaptive": (0.3, 0.1)}, "low <= high"),
        ({"negatives": 50}, "too few"),
    ],
)
def test_rules_that_cannot_work_are_refused(cloud, rules, says):
    teacher, pairs = cloud
    with pytest.raises(MiningError, match=says):
        mine(pairs, teacher, **rules)


def test_no_pairs_and_no_usable_pairs(cloud):
    teacher, _ = cloud
    with pytest.raises(MiningError, match="no pairs"):
        mine([], teacher)
    with pytest.raises(ZooError, match="pair 0, query"):
        mine([Pair(text(""), text("p0"))], teacher)


def test_mined_pairs_are_a_table_and_can_be_mined_again(planted):
    teacher, pairs, corpus = planted
    mined = mine(pairs, teacher, corpus=corpus, negatives=3)
    assert isinstance(mined, PairTable)
    assert len(mined) == len(list(mined)) == 40
    with pytest.raises(IndexError):
        mined[40]
    again = mine(mined, teacher, negatives=3)
    assert sum(len(set(words(a)) & set(words(b))) for a, b in zip(mined, again, strict=True)) > 100


def test_a_cache_spares_a_second_run_the_embedding_and_changes_nothing(planted, tmp_path, monkeypatch):
    teacher, pairs, corpus = planted
    broken = [*pairs, Pair(text(" "), text("p6"), where="line 99")]
    plain = mine(broken, teacher, corpus=corpus, negatives=3)
    first = mine(broken, teacher, corpus=corpus, negatives=3, cache=tmp_path / "vectors")
    seen = []
    forward = StaticText.forward
    monkeypatch.setattr(StaticText, "forward", lambda self, batch: seen.append(1) or forward(self, batch))
    second = mine(broken, teacher, corpus=corpus, negatives=3, cache=tmp_path / "vectors")
    assert not seen
    for one, two, three in zip(plain, first, second, strict=True):
        assert words(one) == words(two) == words(three)
        assert one.teacher_scores == pytest.approx(three.teacher_scores)
    assert plain.report.bad == first.report.bad == second.report.bad
    assert plain.report.bad[0][0] == "line 99, query"


class Rows:
    """A table whose third row is no pair."""

    datasets, names = np.zeros(40, dtype=np.int64), ("",)

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, row):
        if row == 2:
            raise InputError("the text is empty")
        return self.pairs[row]

    def where(self, row):
        return f"rows.csv, line {row + 2}"


def test_rows_that_are_no_pairs_are_left_out_and_named(planted):
    teacher, pairs, corpus = planted
    mined = mine(Rows(pairs), teacher, corpus=corpus, negatives=2)
    assert mined.rows.tolist() == [0, 1, *range(3, 40)]
    assert mined.report.bad == [("rows.csv, line 4", "the text is empty")]
    assert [pair.query.text for pair in mined][:3] == ["q0", "q1", "q3"]
