"""`zoo search` among several kinds: side by side by calibrated scores, one kind as ever, and never a confident wrong answer."""

import io
import json
import sys

import numpy as np
import pytest
import torch

import zoo
from tests.bulk.bulk_support import make_images
from zoo.bulk import embed_dataset
from zoo.cli import main
from zoo.index import open_index
from zoo.spec import Calibration

K = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of 12 images and 12 texts, embedded by a model in a folder of its own; another of the images alone."""
    torch.manual_seed(0)
    home = tmp_path_factory.mktemp("mixed")
    model = zoo.build_model("clip-test")
    make_images(home / "stuff", 12)
    make_images(home / "photos", 12)
    for n in range(12):
        (home / "stuff" / f"note{n}.txt").write_text(f"a note about the number {n} of {n * n}")
    model.save_pretrained(home / "model")
    for name, kind in (("stuff", ["image", "text"]), ("photos", "image")):
        embed_dataset(home / "model", home / name, home / f"of-{name}", kind=kind, progress=False)
    return home


@pytest.fixture
def search(made, capsys):
    """`search(calibration, folder, *options)` → (status, results, stderr) by a model that has this calibration."""

    def call(calibration, name, *options):
        model = zoo.load_model(made / "model")
        model.calibration = calibration
        model.save_pretrained(made / "model")
        status = main(["search", str(made / f"of-{name}"), "a red thing", "--json", *map(str, options)])
        captured = capsys.readouterr()
        return status, json.loads(captured.out or "null"), captured.err

    return call


def scores_of(made, name):
    """Id → (score, kind) of every row, from the vectors alone."""
    model = zoo.load_model(made / "model")
    found = open_index(made / f"of-{name}", model=model, backend="exact").search(model.encode_query("a red thing"), K)
    return {match.id: (match.score, match.attributes.get("kind", "image")) for match in found}


def both(scores):
    """Calibrations by which every image fits and no text does; texts are ahead by their scores alone."""
    of = {kind: np.array([score for score, one in scores.values() if one == kind]) for kind in ("image", "text")}
    assert of["text"].mean() - of["image"].mean() > of["image"].std() + of["text"].std()
    nothing = {"image": -2.0, "text": 2.0}
    return {f"text>{k}": Calibration(float(v.mean()), float(v.std()), nothing[k]) for k, v in of.items()}


def test_kinds_stand_side_by_side_by_z_and_a_kind_in_which_nothing_fits_is_named(made, search):
    scores = scores_of(made, "stuff")
    known = both(scores)
    z = {
        one: (score - known[f"text>{kind}"].mean) / known[f"text>{kind}"].scale for one, (score, kind) in scores.items()
    }
    status, found, told = search(known, "stuff", "-k", 10)
    assert status == 0
    assert [one["id"] for one in found] == sorted(z, key=z.get, reverse=True)[:10]
    for one in found:
        score, kind = scores[one["id"]]
        assert (one["kind"], one["fits"]) == (kind, kind == "image")
        assert (one["score"], one["z"]) == pytest.approx((score, z[one["id"]]), abs=1e-4)
    best = max(score for score, kind in scores.values() if kind == "text")
    assert told.count("nothing clearly fits") == 1
    assert f"the best among text has {best:.3f}, and 95 % of right answers have over 2.000" in told
    assert "no calibration" not in told
    _, plain, _ = search(known, "stuff", "-k", 10, "--plain")
    assert [one["id"] for one in plain] == sorted(scores, key=lambda one: -scores[one][0])[:10]
    assert [one["id"] for one in plain] != [one["id"] for one in found]


def test_a_pair_that_is_missing_is_said_once_and_leaves_the_plain_order(made, search, monkeypatch, capsys):
    scores = scores_of(made, "stuff")
    known = {"text>image": both(scores)["text>image"]}
    _, found, told = search(known, "stuff", "-k", 10)
    assert [one["id"] for one in found] == sorted(scores, key=lambda one: -scores[one][0])[:10]
    assert "no calibration of text>text; `zoo calibrate FOLDER --pairs … --write` measures it" in told
    monkeypatch.setattr(sys, "stdin", io.StringIO("a red thing\nanother\n:kind text\na third\n"))
    assert main(["search", str(made / "of-stuff")]) == 0
    assert capsys.readouterr().err.count("no calibration of text>text") == 1
    _, _, told = search(known, "stuff", "--kind", "text")
    assert told == ""


def test_one_kind_keeps_its_order_and_says_nothing_of_scales(made, search):
    _, before, told = search({}, "photos", "-k", 12)
    assert told == ""
    assert {(one["kind"], one["z"], one["fits"]) for one in before} == {("image", None, None)}
    _, after, told = search({"text>image": Calibration(0.3, 0.1, -2.0)}, "photos", "-k", 12)
    assert [(one["id"], one["score"]) for one in after] == [(one["id"], one["score"]) for one in before]
    assert told == ""
    _, after, told = search({"text>image": Calibration(0.3, 0.1, 1.5)}, "photos", "-k", 12)
    assert [(one["id"], one["score"]) for one in after] == [(one["id"], one["score"]) for one in before]
    assert (
        told
        == f"nothing clearly fits: the best has {before[0]['score']:.3f}, and 95 % of right answers have over 1.500\n"
    )


def test_scales_are_of_whole_vectors_and_of_the_model_s_own_prompts(made, search, tmp_path, capsys):
    search(both(scores_of(made, "stuff")), "stuff")
    embed_dataset(
        made / "model", made / "stuff", tmp_path / "out", kind=["image", "text"], prompt="say ", progress=False
    )
    assert main(["search", str(tmp_path / "out"), "a red thing", "--json"]) == 0
    captured = capsys.readouterr()
    assert {one["z"] for one in json.loads(captured.out)} == {None}
    assert "the vectors were made with a prompt of their own" in captured.err


def test_a_person_sees_z_beside_the_scores_where_kinds_stand_side_by_side(made, search, capsys):
    search(both(scores_of(made, "stuff")), "stuff")
    assert main(["search", str(made / "of-stuff"), "a red thing", "-k", "24"]) == 0
    header, _, first = capsys.readouterr().out.splitlines()[:3]
    assert header.split() == ["score", "z", "kind", "file"]
    assert first.split()[3] in ("image", "text")
