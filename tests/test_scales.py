"""Scores of different kinds beside each other: ranked by z where every pair was measured, else as they are, and said."""

import numpy as np
import pytest
import torch

import zoo
from zoo.scales import Scales
from zoo.spec import Calibration

TEXT_IMAGE, TEXT_AUDIO = Calibration(0.10, 0.05, 0.20), Calibration(0.40, 0.20, 0.55)


def test_documents_of_several_kinds_are_ranked_by_how_far_they_stand_above_the_wrong_ones_of_their_kind():
    draw = np.random.default_rng(0)
    kinds = np.repeat(["image", "audio"], 40)
    scores = np.concatenate([draw.normal(0.1, 0.05, 40), draw.normal(0.4, 0.2, 40)]).astype(np.float32)
    scales = Scales("text", {"image": TEXT_IMAGE, "audio": TEXT_AUDIO})
    mean, scale = np.where(kinds == "image", [[0.10], [0.05]], [[0.40], [0.20]])
    expected = np.argsort(-((scores.astype(np.float64) - mean) / scale), kind="stable")
    assert scales.order(scores, kinds.tolist()) == expected.tolist()
    assert scales.order(torch.from_numpy(scores), kinds.tolist()) == expected.tolist()
    plain = np.argsort(-scores, kind="stable")[:10]
    assert set(kinds[plain]) == {"audio"}
    assert set(kinds[expected[:10]]) == {"image", "audio"}
    assert scales.unmeasured(kinds.tolist()) == ""


def test_of_one_kind_it_is_the_order_of_the_scores_with_equal_ones_as_they_came():
    scores = [0.3, 0.5, 0.5, 0.1, 0.3]
    for scales in (Scales("text", {"image": TEXT_IMAGE}), Scales("text")):
        assert scales.order(scores, ["image"] * 5) == [1, 2, 0, 4, 3]
        assert scales.unmeasured(["image"] * 5) == ""
        assert scales.ranked_by(scores, ["image"] * 5) == scores


def test_one_pair_that_nobody_measured_leaves_the_plain_scores_and_is_named_with_the_remedy():
    scales = Scales("text", {"image": TEXT_IMAGE, "audio": TEXT_AUDIO}, model="mine")
    scores, kinds = [0.21, 0.5, 0.3], ["image", "audio", "video"]
    assert scales.order(scores, kinds) == [1, 2, 0]
    told = scales.unmeasured(kinds)
    assert "mine has no calibration of text>video;" in told
    assert "zoo calibrate" in told
    assert scales.order(scores[:2], kinds[:2]) == [0, 1], "those that were measured compare where they are alone"
    with pytest.raises(ValueError, match="3 scores and 2 kinds"):
        scales.order(scores, kinds[:2])


def test_kinds_of_which_nothing_answers_are_named_with_their_best():
    scales = Scales("text", {"image": TEXT_IMAGE, "audio": TEXT_AUDIO})
    kinds = ["image", "image", "audio", "video"]
    assert scales.nothing_fits([0.1, 0.19, 0.6, 0.0], kinds) == {"image": 0.19}
    assert scales.nothing_fits([0.1, 0.20, 0.5, 0.0], kinds) == {"audio": 0.5}
    assert [scales.fits(0.2, kind) for kind in ("image", "audio", "video")] == [True, False, None]
    assert scales.z(0.2, "image") == pytest.approx(2.0)
    assert scales.z(0.2, "video") is None


def test_rank_compares_inputs_of_several_kinds_and_leaves_those_of_one_and_vectors_as_they_are():
    model = zoo.build_model("mini-test")
    draw = np.random.default_rng(0)
    documents = [draw.integers(0, 255, (16, 16, 3), np.uint8) for _ in range(4)] + [f"a text {n}" for n in range(4)]
    plain = {hit.index: hit.score for hit in model.rank("a query", documents)}
    images, texts = ([plain[n] for n in some] for some in (range(4), range(4, 8)))
    model.calibration = {
        "text>image": Calibration(float(np.mean(images)), float(np.std(images)), 0.0),
        "text>text": Calibration(float(np.mean(texts)), float(np.std(texts)), 0.0),
    }
    z = [
        (plain[n] - np.mean(some)) / np.std(some) for some, of in ((images, range(4)), (texts, range(4, 8))) for n in of
    ]
    found = model.rank("a query", documents)
    assert [hit.index for hit in found] == np.argsort(-np.array(z)).tolist()
    assert {hit.index: hit.score for hit in found} == pytest.approx(plain)
    assert [hit.index for hit in found] != sorted(plain, key=lambda n: -plain[n])
    ours = model.encode_document(documents)
    assert [hit.index for hit in model.rank("a query", ours)] == sorted(plain, key=lambda n: -plain[n])
    assert [hit.index for hit in model.rank("a query", documents[:4])] == np.argsort(-np.array(images)).tolist()


def test_kinds_whose_vectors_are_of_another_have_its_scale():
    """Pages of a model that reads whole documents too, and frames of videos, are images."""
    model = zoo.build_model("mini-test")
    model.calibration = {"text>image": TEXT_IMAGE, "text>video": TEXT_AUDIO, "text>text": TEXT_AUDIO}
    known = Scales.of(model, "text", read_as={"document": "image", "video": "image"}).known
    assert known == {"image": TEXT_IMAGE, "document": TEXT_IMAGE, "video": TEXT_IMAGE, "text": TEXT_AUDIO}
    del model.calibration["text>image"]
    assert Scales.of(model, "text", read_as={"video": "image"}).known == {"text": TEXT_AUDIO}


def test_those_of_a_model_are_of_whole_vectors_and_of_its_own_pairs():
    model = zoo.build_model("mini-test")
    model.calibration = {"text>image": TEXT_IMAGE, "image>image": TEXT_AUDIO}
    assert Scales.of(model, "text").known == {"image": TEXT_IMAGE, "document": TEXT_IMAGE}, "its pages are images"
    assert Scales.of(model, {"image"}).known == {"image": TEXT_AUDIO, "document": TEXT_AUDIO}
    assert Scales.of(model, "document").known == {"image": TEXT_AUDIO, "document": TEXT_AUDIO}
    assert Scales.of(model, {"text", "image"}).asked == "image+text"
    for cut in ({"dim": model.spec.dim // 2}, {"precision": "binary"}):
        scales = Scales.of(model, "text", **cut)
        assert not scales.known
        assert "scales are of whole ones" in scales.unmeasured(["image", "text"])
    assert Scales.of(model, "text", dim=model.spec.dim, precision="int8").known
