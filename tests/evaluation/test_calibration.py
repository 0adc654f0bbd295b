"""What a model's scores mean: measured exactly, kept with the model, and read by the page."""

import json
import math

import numpy as np
import pytest
import torch

import zoo
from tests.demos.demo_support import COLOURS, colour_model, colour_photos
from tests.every import every
from zoo.cli import main
from zoo.errors import TokenVectorsError, TooFewPairsError, UnrecognisedCheckpointError
from zoo.evaluation.calibration import calibrate, calibration_of, partners
from zoo.inputs.item import Item
from zoo.spec import Calibration


def test_mean_scale_and_the_score_that_answers_exceed_are_those_of_numpy():
    draw = np.random.default_rng(0)
    scores = draw.normal(0.1, 0.2, (200, 90)).astype(np.float32)
    right = draw.random((200, 90)) < 0.03
    scores[5, 7] = math.nan  # a query among the documents
    right[5, 7] = False
    found = calibration_of(torch.from_numpy(scores), torch.from_numpy(right))
    wrong = scores[~right & ~np.isnan(scores)].astype(np.float64)
    best = np.where(right, scores, -np.inf).max(1)
    assert found.mean == pytest.approx(wrong.mean(), abs=1e-6)
    assert found.scale == pytest.approx(wrong.std(), abs=1e-6)
    assert found.nothing == pytest.approx(np.quantile(best[np.isfinite(best)], 0.05), abs=1e-6)


def test_a_query_that_is_among_the_documents_is_no_wrong_match():
    """Row i asks with text i for text i + 1, which row i + 1 asks with."""
    texts, model = [Item(text=f"text {i} of {i * i}") for i in range(32)], zoo.build_model("mini-test")
    measured = calibrate(model, texts[:-1], texts[1:])
    queries, documents = (
        model.encode_query(texts[:-1], progress=False),
        model.encode_document(texts[1:], progress=False),
    )
    scores = model.similarity(queries, documents)
    scores[torch.arange(1, 31), torch.arange(30)] = torch.nan
    right = torch.eye(31, dtype=torch.bool)
    expected = calibration_of(scores, right)
    assert (measured.calibration.mean, measured.calibration.scale) == pytest.approx((expected.mean, expected.scale))
    nothing = measured.calibration.nothing
    assert measured.missed == (scores.nan_to_num(-1).amax(1) < nothing).double().mean().item()
    assert measured.empty == (scores.nan_to_num(-1).masked_fill(right, -1).amax(1) < nothing).double().mean().item()


def test_items_of_one_group_are_compared_among_themselves():
    """Each query asks for the others of its group; itself is neither right nor wrong, and equal items count once."""
    texts = [f"text {i} of {i * i}" for i in range(40)]
    groups = [f"group {i % 8}" for i in range(40)]
    items = [Item(text=text) for text in (*texts, texts[3], "alone", "in no group")]
    queries, targets, of = partners(items, [*groups, groups[3], "a group of one", ""])
    assert sorted(item.text for item in queries) == sorted(item.text for item in targets) == sorted(texts)
    assert all(a.text != b.text for a, b in zip(queries, targets, strict=True))
    assert all(of[row] == groups[texts.index(side[row].text)] for row in range(40) for side in (queries, targets))
    model = zoo.build_model("mini-test")
    measured = calibrate(model, queries, targets, of)
    vectors = [model.encode_query(queries, progress=False), model.encode_document(queries, progress=False)]
    scores = model.similarity(*vectors).fill_diagonal_(torch.nan)
    right = torch.tensor([[a == b for b in of] for a in of]).fill_diagonal_(False)
    expected = calibration_of(scores, right)
    assert (measured.pair, measured.queries, measured.documents) == ("text>text", 40, 40)
    found = measured.calibration.to_dict()
    assert found == pytest.approx(expected.to_dict(), abs=1e-6)
    assert measured.missed == (scores.nan_to_num(-1).amax(1) < found["nothing"]).double().mean().item()


def test_wrong_matches_that_are_all_alike_have_a_scale():
    eye = torch.eye(30, dtype=torch.bool)
    assert calibration_of(eye.float(), eye) == Calibration(0.0, 1e-6, 1.0)


def test_too_few_pairs_and_late_interaction_are_refused():
    eye = torch.eye(29, dtype=torch.bool)
    with pytest.raises(TooFewPairsError, match="29 queries have a right document"):
        calibration_of(eye.float(), eye)
    with pytest.raises(TooFewPairsError, match="0 a wrong one"):
        calibration_of(torch.ones(40, 1), torch.ones(40, 1, dtype=torch.bool))
    with pytest.raises(TokenVectorsError):
        calibrate(zoo.build_model("colqwen2-test"), [Item(text="a")], [Item(text="b")])


def test_queries_with_and_without_an_answer_are_told_apart(tmp_path):
    """Forty texts, each of two colours, and an image of its own: nothing else is of these two colours."""
    names = list(COLOURS)
    texts = [f"{a} {b} {number}" for number, (a, b) in enumerate(zip(names * 5, names[1:] * 6, strict=False))][:40]
    photos = colour_photos(tmp_path)
    queries = [Item(text=text) for text in texts]
    targets = [Item(image=photos / f"{text.split()[0]}.png") for text in texts]
    measured = calibrate(colour_model(), queries, targets)
    assert measured.pair == "text>image"
    assert (measured.queries, measured.documents) == (40, len(COLOURS))
    assert measured.missed <= 0.05
    with pytest.raises(ValueError, match="one modality on each side"):
        calibrate(colour_model(), [*queries[:-1], targets[0]], targets)


@every("numbers", [(math.nan, 1, 0), (0, 0, 0), (0, -1, 0), (0, 1, math.inf), ("0", 1, 0), (True, 1, 0)])
def test_a_calibration_is_of_finite_numbers(numbers):
    with pytest.raises(ValueError, match="of a calibration must be"):
        Calibration(*numbers)


def test_it_is_saved_opened_published_and_left_behind_by_training(tmp_path):
    model = zoo.build_model("mini-test")
    before = model.fingerprint()
    model.calibration = {"text>image": Calibration(0.1, 0.2, 0.3), "image>image": Calibration(0.4, 0.1, 0.6)}
    assert model.fingerprint() == before, "no vector depends on it"
    folder = model.save_pretrained(tmp_path / "saved")
    again = zoo.load_model(folder)
    assert again.calibration == model.calibration
    from zoo.publishing import stage

    assert stage(folder, "org/name", tmp_path / "staged") is not None
    assert zoo.load_model(tmp_path / "staged").calibration == model.calibration


@every(
    "calibration",
    [
        {"text": {"mean": 0.0, "scale": 1.0, "nothing": 0.0}},
        {"text>smell": {"mean": 0.0, "scale": 1.0, "nothing": 0.0}},
        {"text>image": {"mean": 0.0, "scale": 1.0}},
        {"text>image": {"mean": 0.0, "scale": 1.0, "nothing": 0.0, "more": 1.0}},
        {"text>image": {"mean": 0.0, "scale": 0.0, "nothing": 0.0}},
        {"text>image": 3},
        {"text>image": None},
        [],
        3,
    ],
)
def test_a_damaged_one_is_refused_by_name(tmp_path_factory, calibration):
    folder = zoo.build_model("mini-test").save_pretrained(tmp_path_factory.mktemp("damaged") / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "calibration": calibration}))
    with pytest.raises(UnrecognisedCheckpointError, match="calibration"):
        zoo.load_model(folder)


def test_the_embedded_default_brings_its_own():
    assert set(zoo.load_model("zoo-mini").calibration) == {"text>image", "image>text", "image>image"}


def test_the_command_measures_and_writes(tmp_path, capsys):
    from tests.demos.demo_support import colour_photos

    photos = colour_photos(tmp_path / "photos")
    folder = zoo.build_model("mini-test").save_pretrained(tmp_path / "model")
    rows = ["image,text", *(f"{name}.png,a {name} thing number {n}" for n in range(4) for name in COLOURS)]
    (photos / "pairs.csv").write_text("\n".join(rows))
    before = (folder / "model.safetensors").read_bytes()
    assert main(["calibrate", str(folder), "--pairs", str(photos / "pairs.csv"), "--write"]) == 2
    assert "9 queries have a right document" in capsys.readouterr().err  # nine images ask
    rows = ["query,positive", *(f"text {n},a long answer {n} {n * 7}" for n in range(40))]
    (tmp_path / "texts.csv").write_text("\n".join(rows))
    assert main(["calibrate", str(folder), "--pairs", str(tmp_path / "texts.csv"), "--write", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    kept = zoo.load_model(folder).calibration
    assert kept["text>text"].to_dict() == told[1]["calibration"]
    assert (folder / "model.safetensors").read_bytes() == before
    assert main(["calibrate", "mini-test", "--pairs", str(tmp_path / "texts.csv"), "--write"]) == 2
    assert "save_pretrained makes one" in capsys.readouterr().err
