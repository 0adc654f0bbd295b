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
from zoo.errors import TokenVectorsError, TooFewPairsError, UnrecognisedCheckpointError, UnsupportedModalityError
from zoo.evaluation.calibration import calibrate, calibrate_all, calibration_of
from zoo.evaluation.corpus import Corpus, Told
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


def numpy_calibration(model, queries, documents, right):
    """Mean, scale, nothing, told and missed of items by numpy alone; a query is no document of its own."""
    sides = (model.encode_query(queries, progress=False), model.encode_document(documents, progress=False))
    scores = (sides[0].double() @ sides[1].double().T).numpy()
    itself = np.array([[query is document for document in documents] for query in queries])
    wrong, right = scores[~right & ~itself], right & ~itself
    best = np.where(right, scores, -np.inf).max(1)
    answered = best[np.isfinite(best)]
    nothing = np.quantile(answered, 0.05) if len(answered) >= 30 else None
    if nothing is None:
        return wrong.mean(), wrong.std(), None, None, None
    without = np.where(~right & ~itself, scores, -np.inf).max(1)
    whole = np.where(itself, -np.inf, scores).max(1)
    return wrong.mean(), wrong.std(), nothing, (without < nothing).mean(), (whole < nothing).mean()


def check(measured, expected):
    found = (*vars(measured.calibration).values(), measured.empty, measured.missed)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == (None if theirs is None else pytest.approx(theirs, abs=1e-5))


def test_items_of_one_group_are_compared_among_themselves():
    """Images of a group ask for each other, and so do the texts of an image; itself is neither right nor wrong."""
    draw = np.random.default_rng(0)
    images = [Item(image=draw.integers(0, 255, (16, 16, 3), np.uint8)) for _ in range(40)]
    groups = [f"group {n % 8}" for n in range(36)] + [""] * 4
    rows = [
        Told(image, Item(text=f"{group} {n}"), group)
        for n, (image, group) in enumerate(zip(images, groups, strict=False))
    ]
    rows += [Told(rows[3].query, rows[3].target, rows[3].group), Told(images[39], Item(text="alone again"))]
    texts = [row.target for row in rows[:40]] + [rows[-1].target]
    model = zoo.build_model("mini-test")
    found, left_out = calibrate_all(model, Corpus(rows))
    assert [one.pair for one in found] == ["image>image", "image>text", "text>image", "text>text"]
    assert left_out == []
    of_images, of_texts = groups[:36] + list("abcd"), groups[:36] + list("abcdd")
    for one, queries, documents, left, right in zip(
        found, (images, images, texts, texts), (images, texts, images, texts), (of_images, of_images, of_texts, of_texts),
        (of_images, of_texts, of_images, of_texts), strict=True,
    ):  # fmt: skip
        check(one, numpy_calibration(model, queries, documents, np.array([[a == b for b in right] for a in left])))
        assert (one.queries, one.documents) == (len(queries), len(documents))


def test_kinds_that_no_table_pairs_are_measured_by_the_texts_and_names_that_both_have():
    """Two tables, of images and of recordings; thirty-two texts or names are of both, letter case and full stop aside."""
    draw = np.random.default_rng(0)
    images = [Item(image=draw.integers(0, 255, (32, 32, 3), np.uint8)) for _ in range(40)]
    audio = [Item(audio=zoo.Waveform(draw.normal(size=1600).astype(np.float32), 16000)) for _ in range(44)]
    rows = [Told(image, Item(text=f"A thing {n}."), name=f"n {n}") for n, image in enumerate(images)]
    rows += [Told(one, Item(text=f"a thing {n}" if n % 2 else f"noise {n}"), name=f"N {n}" if n < 32 else "", table=1)
             for n, one in enumerate(audio)]  # fmt: skip
    model = zoo.build_model("omni-test")
    found, left_out = calibrate_all(model, Corpus(rows))
    kinds = ("audio", "image", "text")
    assert [one.pair for one in found] == [f"{a}>{b}" for a in kinds for b in kinds]
    assert left_out == []
    by_pair = {one.pair: one for one in found}
    same = np.array([[n == m and (n < 32 or n % 2 == 1) for m in range(40)] for n in range(44)])
    check(by_pair["audio>image"], numpy_calibration(model, audio, images, same))
    check(by_pair["image>audio"], numpy_calibration(model, images, audio, same.T))
    assert by_pair["image>audio"].answered == 36
    few = Corpus(row._replace(name="") for row in rows)
    open_end = next(one for one in calibrate_all(model, few)[0] if one.pair == "image>audio")
    assert open_end.answered == 20
    odd = np.array([[n == m and n % 2 == 1 for m in range(44)] for n in range(40)])
    check(open_end, numpy_calibration(model, images, audio, odd))
    assert open_end.calibration.nothing is None, "twenty answers are too few to say from where on something fits"
    with pytest.raises(
        UnsupportedModalityError, match="reads image, text, and 44 items of recordings are audio; leave that out"
    ):
        calibrate_all(zoo.build_model("mini-test"), Corpus(rows, ["images", "recordings"]))


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
    model.calibration = {"text>image": Calibration(0.1, 0.2, 0.3), "image>image": Calibration(0.4, 0.1, None)}
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
    rows = ["image,text", *(f"{name}.png,a {name} thing number {n}" for n in range(3) for name in COLOURS)]
    (photos / "pairs.csv").write_text("\n".join(rows))
    before = (folder / "model.safetensors").read_bytes()
    assert main(["calibrate", str(folder), "--pairs", str(photos / "pairs.csv"), "--write"]) == 2
    assert "image>text: 9 queries have a right document" in capsys.readouterr().err  # nine images ask
    rows = ["query,positive", *(f"text {n},a long answer {n} {n * 7}" for n in range(40))]
    (tmp_path / "texts.csv").write_text("\n".join(rows))
    told = ["--pairs", f"images={photos / 'pairs.csv'}", "--pairs", f"texts={tmp_path / 'texts.csv'}"]
    assert main(["calibrate", str(folder), *told, "--write", "--json"]) == 0
    answer = capsys.readouterr()
    assert "image>text: 9 queries" in answer.err
    told = {one["pair"]: one["calibration"] for one in json.loads(answer.out)}
    kept = zoo.load_model(folder).calibration
    assert {pair: one.to_dict() for pair, one in kept.items()} == told
    assert set(told) == {"text>text", "text>image"}
    assert (folder / "model.safetensors").read_bytes() == before
    assert main(["calibrate", "mini-test", "--pairs", str(tmp_path / "texts.csv"), "--write"]) == 2
    assert "save_pretrained makes one" in capsys.readouterr().err
    column = ["--column", "other:query=query"]
    assert main(["calibrate", "mini-test", "--pairs", f"texts={tmp_path / 'texts.csv'}", *column]) == 2
    assert "no data set is called 'other'; there are texts" in capsys.readouterr().err
