"""Galleries of several kinds: every figure equals numpy's own, and calibrated scores bring back what a modality gap hides."""

import csv
import json

import numpy as np
import pytest
import torch

import zoo
from tests.every import every
from zoo.cli import main
from zoo.errors import TooFewPairsError
from zoo.evaluation.calibration import calibrate_all
from zoo.evaluation.corpus import Corpus, Told
from zoo.evaluation.metrics import modality_gaps
from zoo.evaluation.mixed import evaluate_mixed, ranked
from zoo.inputs.item import Item

KINDS = np.array(["image"] * 60 + ["audio"] * 40 + ["text"] * 25)


def by_numpy(scores, right, kinds, k=10):
    """Recall, nDCG, share of each kind among the first, and how far that is from the right answers, a query at a time."""
    rows = []
    for row, relevant in zip(scores, right, strict=True):
        first = np.argsort(-row, kind="stable")[:k]
        gains = relevant[first]
        ideal = (1 / np.log2(np.arange(min(relevant.sum(), k)) + 2)).sum()
        shares = {kind: (kinds[first] == kind).mean() for kind in dict.fromkeys(kinds)}
        wanted = {kind: relevant[kinds == kind].sum() / relevant.sum() for kind in shares}
        apart = sum(abs(shares[kind] - wanted[kind]) for kind in shares) / 2
        rows.append((gains.sum() / relevant.sum(), (gains / np.log2(np.arange(k) + 2)).sum() / ideal, shares, apart))
    return rows


def test_a_ranking_of_several_kinds_is_measured_as_numpy_does():
    draw = np.random.default_rng(0)
    scores, right = draw.normal(size=(30, 125)), draw.random((30, 125)) < 0.1
    right[:, :2] = True
    scores[4, 7], right[4, 7] = -np.inf, False  # the query itself
    found = ranked(torch.from_numpy(scores), torch.from_numpy(right), KINDS.tolist())
    for number, (recall, ndcg, shares, apart) in enumerate(by_numpy(scores, right, KINDS)):
        assert found.recall[number] == pytest.approx(recall, abs=1e-6)
        assert found.ndcg[number] == pytest.approx(ndcg)
        assert {kind: values[number] for kind, values in found.shares.items()} == pytest.approx(shares)
        assert found.apart[number] == pytest.approx(apart)


def test_the_gap_of_every_two_kinds_is_the_distance_of_their_means():
    draw = np.random.default_rng(0)
    some = {kind: draw.normal(size=(n, 8)) + n for kind, n in (("text", 5), ("image", 9), ("audio", 3))}
    some = {kind: one / np.linalg.norm(one, axis=1, keepdims=True) for kind, one in some.items()}
    found = modality_gaps({kind: torch.from_numpy(one).float() for kind, one in some.items()})
    expected = {
        (a, b): np.sqrt(((some[a].mean(0) - some[b].mean(0)) ** 2).sum())
        for a, b in (("audio", "image"), ("audio", "text"), ("image", "text"))
    }
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def corpus():
    """Images and recordings, each with a text of its own and one that an image and a recording share."""
    draw = np.random.default_rng(0)
    rows = []
    for n in range(32):
        image = Item(image=draw.integers(0, 255, (24, 24, 3), np.uint8))
        audio = Item(audio=zoo.Waveform(draw.normal(size=800).astype(np.float32), 16000))
        for table, medium in enumerate((image, audio)):
            rows += [Told(medium, Item(text=text), table=table) for text in (f"thing {n}", f"{n} {'ab'[table]}")]
    return Corpus(rows)


def test_searches_among_all_items_are_those_of_numpy(corpus):
    """By a model with weights by chance, whose kinds lie far apart; the scales are measured on the same items."""
    model = zoo.build_model("omni-test")
    calibration = {one.pair: one.calibration for one in calibrate_all(model, corpus)[0]}
    found, gaps, skipped = evaluate_mixed(model, corpus, calibration)
    assert [one.asked for one in found] == ["image", "text", "audio"]
    assert skipped == []
    items = [(kind, item) for kind, members in corpus.kinds.items() for item in members.items]
    kinds = np.array([kind for kind, _ in items])
    vectors = model.encode([item for _, item in items], progress=False).double().numpy()
    assert gaps["audio", "text"] == pytest.approx(
        np.linalg.norm(vectors[kinds == "audio"].mean(0) - vectors[kinds == "text"].mean(0)), abs=1e-5
    )
    says = [{item.text} if kind == "text" else None for kind, item in items]
    for place, (kind, _) in enumerate(items):
        if kind != "text":  # "thing 3", "3 a"
            n = [at for at in range(len(items)) if items[at][0] == kind].index(place)
            says[place] = {f"thing {n}", f"{n} {'ab'[kind == 'audio']}"}
    right = np.array([[bool(a & b) and i != j for j, b in enumerate(says)] for i, a in enumerate(says)])
    for i, j in np.argwhere(right):  # texts of one thing, which the rows of an image or recording say
        assert kinds[i] != kinds[j]
    for one in found:
        asking = np.flatnonzero(kinds == one.asked)
        relevant = right[asking].copy()
        for row, i in enumerate(asking):
            if one.asked == "text":  # other texts of the same image or recording
                media = [j for j in np.flatnonzero(right[i]) if kinds[j] != "text"]
                relevant[row] |= [
                    kinds[j] == "text" and j != i and any(right[m, j] for m in media) for j in range(len(items))
                ]
        several = [len(set(kinds[row])) > 1 for row in relevant]
        asking, relevant = asking[several], relevant[several]
        scores = vectors[asking] @ vectors.T
        scores[np.arange(len(asking)), asking] = -np.inf
        assert len(one) == len(asking)
        known = [calibration[f"{one.asked}>{kind}"] for kind in kinds]
        z = (scores - [known[j].mean for j in range(len(items))]) / [known[j].scale for j in range(len(items))]
        for ranking, by in ((one.plain, scores), (one.calibrated, z)):
            expected = by_numpy(by, relevant, kinds)
            for values, column in ((ranking.recall, 0), (ranking.ndcg, 1), (ranking.apart, 3)):
                theirs = np.array([row[column] for row in expected])
                # Two scores that are equal but for the last digit of float32 may change places.
                assert np.isclose(values, theirs, atol=1e-6).mean() >= 0.9
                assert values.mean() == pytest.approx(theirs.mean(), abs=0.01)
        assert one.calibrated.apart.mean() < one.plain.apart.mean()


def test_what_cannot_be_measured_is_said(corpus):
    model = zoo.build_model("omni-test")
    found, _, _ = evaluate_mixed(model, corpus)
    assert {one.calibrated for one in found} == {None}
    assert "no calibration of text>audio, text>image, text>text" in next(o for o in found if o.asked == "text").missing
    alone = Corpus([Told(Item(text=f"a {n}"), Item(text=f"b {n}")) for n in range(5)])
    with pytest.raises(TooFewPairsError, match="of text no query has right answers of several kinds"):
        evaluate_mixed(model, alone)


def test_the_command_measures_both_rankings_and_says_where_the_scales_are_from(tmp_path, capsys):
    from tests.demos.demo_support import COLOURS, colour_photos

    photos = colour_photos(tmp_path)
    rows = [
        (f"{name}.png", f"a {name} thing {split} {n}", split)
        for split in ("val", "test")
        for n in range(8)
        for name in COLOURS
    ]
    with (photos / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "text", "split"), *rows])
    folder, out = zoo.build_model("mini-test").save_pretrained(tmp_path / "model"), tmp_path / "results.json"
    asked = ["eval", str(folder), "--mixed", "--pairs", str(photos / "pairs.csv"), "--json", "--out", str(out)]
    assert main(asked) == 0
    answer = capsys.readouterr()
    told = json.loads(answer.out)
    parts = {(one["part"], one["direction"], one["metric"]) for one in told}
    assert parts >= {
        ("plain", "text → all", "ndcg@10"),
        ("calibrated", "text → all", "apart@10"),
        ("calibrated", "text → image", "share@10"),
        ("right answers", "text → image", "share"),
        ("centroids", "image - text", "modality gap"),
    }
    assert "image → all" not in {direction for _, direction, _ in parts}, "right for an image are texts alone"
    assert "image>text: 9 queries have a right document" in answer.err, "nine images are too few to ask with"
    assert {one["split"] for one in told} == {"test"}
    assert told[0]["source"] == "zoo eval ./model --pairs pairs.csv --mixed"
    notes = {one["part"]: one["notes"] for one in told if one["direction"] == "text → all"}
    assert notes["plain"] == "72 queries with right answers of several kinds, among 9 image, 72 text"
    assert notes["calibrated"] == notes["plain"] + "; scales measured on the validation rows"
    assert len(json.loads(out.read_text())) == len(told)


@every("asked", [["--mixed", "--tasks", "photos"], ["--mixed"]])
def test_a_gallery_of_nothing_is_refused(asked):
    assert main(["eval", "mini-test", *asked]) == 2
