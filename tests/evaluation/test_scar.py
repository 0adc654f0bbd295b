"""SCaR against figures worked out by hand, on files that the test writes itself; every bad row and file by its name."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zoo
from tests.evaluation.scar_support import OTHERS, apart, row, save, together, two_halves
from tests.every import every
from zoo.errors import NoResultError, TableError, TaskFileError, UnsupportedModalityError
from zoo.evaluation.jobs import measure
from zoo.evaluation.metrics import interval
from zoo.evaluation.results import read_results
from zoo.evaluation.scar import evaluate_scar, reads_question, scar_results
from zoo.evaluation.scar_files import NAMES, PARTS, find_parts, read_samples
from zoo.evaluation.tasks import find_jobs

RIGHT_HALF, WHOLE = [10.0, 0.0, 10.0, 10.0], [0.0, 0.0, 20.0, 10.0]
# The fourth region is red and blue in equal parts, at 45 degrees to both; the second one's caption has an equal.
ROWS = [
    row(),
    row(tgt_text=["blue", "also blue", *OTHERS], bbox=RIGHT_HALF),
    row(tgt_text=["green", "blue", "red", *OTHERS[1:]], bbox=RIGHT_HALF),
    row(tgt_text=["red and blue", "blue", *OTHERS], bbox=WHOLE),
]


@pytest.fixture
def images(tmp_path):
    two_halves(tmp_path / "images" / "halves.png")
    return tmp_path / "images"


def task(folder, **told):
    file = folder / "scar.json"
    file.write_text(json.dumps({"task": "scar", "data": "data", "images": "images", **told}), encoding="utf-8")
    return file


def test_hits_and_margins_by_hand(images, tmp_path):
    samples, bad = read_samples(save(tmp_path / "mine.parquet", ROWS), images)
    choices = evaluate_scar(apart(), samples, bad)
    assert choices.hits().tolist() == [True, False, False, True], "a tie is lost"
    assert choices.margins[0].tolist() == [1.0] * 9
    assert choices.margins[1].tolist() == [0.0] + [1.0] * 8
    np.testing.assert_allclose(choices.margins[2], [-1, 0, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(choices.margins[3], [1 - 0.5**0.5] + [1] * 8, atol=1e-6)
    (result,) = scar_results(choices, dataset="mine", task="mine", split="all", part="a")
    expected = interval(2, 4)
    assert (result.metric, result.value, result.low, result.high) == ("hit@1", 0.5, expected.low, expected.high)
    assert (result.direction, result.part) == ("image + region → text", "a")
    assert result.notes == "4 regions, 10 captions each, ties lose; the question is not read"


def test_a_caption_of_many_rows_is_embedded_once(images, tmp_path):
    samples, _ = read_samples(save(tmp_path / "mine.parquet", ROWS), images)
    model = apart()
    evaluate_scar(model, samples)
    texts = model.towers[1].encoder.texts
    assert sorted(texts) == sorted({text for one in ROWS for text in one["tgt_text"]})


def test_the_question_is_read_where_one_tower_reads_it_with_the_region_and_not_where_it_would_be_fused(
    images, tmp_path
):
    reversed_ = row(qry_text="<|image_1|>\nWhich, reversed?", tgt_text=["blue", "red", *OTHERS])
    samples, _ = read_samples(save(tmp_path / "mine.parquet", [reversed_]), images)
    assert samples[0].question == "Which, reversed?"
    model = together()
    choices = evaluate_scar(model, samples)
    assert choices.told
    assert choices.hits().tolist() == [True]
    assert "Which, reversed?" in model.towers[0].encoder.texts
    (result,) = scar_results(choices, dataset="mine", task="mine", split="all")
    assert "question" not in result.notes
    choices = evaluate_scar(apart(), samples)
    assert not choices.told
    assert choices.hits().tolist() == [False]
    unasked, _ = read_samples(save(tmp_path / "none.parquet", [row(qry_text=None), row()]), images)
    assert unasked[0].question == ""
    assert evaluate_scar(together(), unasked).hits().tolist() == [True, True]


@every("name", ["clip-test", "siglip-test", "mini-test", "vlm2vec-test", "gme-test"])
def test_vision_language_models_read_the_question_by_any_rule_of_regions(name):
    assert reads_question(zoo.build_model(name)) == (name in ("vlm2vec-test", "gme-test"))


BAD = {
    "9 captions; SCaR has 10": row(tgt_text=["red", "blue", *OTHERS[:7]]),
    "is empty, not a list of 10": row(tgt_text=None),
    "caption 3 of tgt_text is empty": row(tgt_text=["red", "blue", "", *OTHERS[1:]]),
    "caption 10 of tgt_text is the right one again": row(tgt_text=["red", "blue", *OTHERS[1:], "red"]),
    "bbox is empty, not [x, y, width, height]": row(bbox=None),
    "bbox is a list of 3": row(bbox=[0.0, 0.0, 10.0]),
    "bbox [0.0, 0.0, 0.0, 10.0] has no area": row(bbox=[0.0, 0.0, 0.0, 10.0]),
    "bbox [0.0, 0.0, -5.0, 10.0] has no area": row(bbox=[0.0, 0.0, -5.0, 10.0]),
    "bbox [0.0, 0.0, nan, 10.0] is not made of four finite": row(bbox=[0.0, 0.0, float("nan"), 10.0]),
    "lies outside": row(bbox=[30.0, 0.0, 10.0, 10.0]),
    "there is no image 'gone.png'": row(qry_image_path="gone.png"),
    "qry_image_path is empty": row(qry_image_path=None),
    "'../halves.png' leads out of": row(qry_image_path="../halves.png"),
    "'/etc/hosts' leads out of": row(qry_image_path="/etc/hosts"),
    "broken.png": row(qry_image_path="broken.png"),
}


def test_every_bad_row_is_named_and_costs_itself_alone(images, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.evaluation.scar._SHOWN", 99)
    (images / "broken.png").write_bytes((images / "halves.png").read_bytes()[:60])
    file = save(tmp_path / "mine.parquet", [*BAD.values(), *ROWS])
    samples, bad = read_samples(file, images)
    with pytest.warns(UserWarning, match="15 of 19 rows are left out") as warned:
        choices = evaluate_scar(apart(), samples, bad)
    assert choices.hits().tolist() == [True, False, False, True]
    for number, why in enumerate(BAD):
        assert any(f"mine.parquet, row {number}: " in one and why in one for one in choices.bad), why
        assert why in str(warned[0].message)
    (result,) = scar_results(choices, dataset="mine", task="mine", split="all")
    assert result.notes.endswith("; 15 of 19 rows left out")
    with pytest.raises(NoResultError, match="none of 15 rows can be measured; the first of 15 reasons: mine"):
        evaluate_scar(apart(), *read_samples(save(file, list(BAD.values())), images))


def test_both_namings_are_found_and_nothing_else_is_passed_over(tmp_path):
    for pattern in NAMES:
        folder = tmp_path / pattern[:5]
        for name in PARTS.values():
            save(folder / pattern.format(name), [row()])
        assert list(find_parts(folder)) == ["RefCOCO+", "RefCOCOg", "VisualGenome", "COCO-Stuff", "ADE20K"]
    save(tmp_path / "twice" / NAMES[0].format("ADE20K"), [row()])
    save(tmp_path / "twice" / NAMES[1].format("ADE20K"), [row()])
    with pytest.raises(TaskFileError, match=r"twice, as SCAR_ADE20K_val_filtered.parquet and as SCaR_eval_ADE20K"):
        find_parts(tmp_path / "twice")
    save(tmp_path / "train" / NAMES[1].format("ADE20K"), [row()])
    save(tmp_path / "train" / "SCAR_ADE20K.parquet", [row()])
    with pytest.raises(TaskFileError, match=r"holds SCAR_ADE20K.parquet, which SCaR has not"):
        find_parts(tmp_path / "train")
    with pytest.raises(TaskFileError, match="is no folder"):
        find_parts(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskFileError, match="holds no file of SCaR"):
        find_parts(tmp_path / "empty")


def test_task_files_that_cannot_be_followed(images, tmp_path):
    def refused(match, kind=TaskFileError, split=None, **told):
        with pytest.raises(kind, match=match):
            find_jobs([str(task(tmp_path, **told))], split)

    save(tmp_path / "data" / NAMES[0].format("ADE20K"), [row()])
    with pytest.raises(TaskFileError, match="cannot read the task file"):
        find_jobs([str(tmp_path / "absent.json")])
    (tmp_path / "list.json").write_text("[1", encoding="utf-8")
    with pytest.raises(TaskFileError, match="cannot be read as JSON"):
        find_jobs([str(tmp_path / "list.json")])
    refused("unknown", speed=3)
    refused("must be one of", task="scan")
    refused("data", data=3)
    refused("names no file", data={})
    refused("is no folder", images="nowhere")
    refused("is measured on 'val', not on 'test'", split="test")
    refused("there is no file", TableError, data={"mine": "mine.parquet"})
    (tmp_path / "text.parquet").write_text("no table", encoding="utf-8")
    refused("text.parquet", TableError, data={"mine": "text.parquet"})
    pq.write_table(pa.table({"qry_text": ["a"], "tgt_text": [["a"]]}), tmp_path / "few.parquet")
    refused("no column qry_image_path, bbox", TableError, data={"mine": "few.parquet"})
    other = tmp_path / "other"
    save(other / "data" / NAMES[0].format("ADE20K"), [row()])
    (other / "images").mkdir()
    with pytest.raises(TaskFileError, match=r"two task files are called scar.json"):
        find_jobs([str(task(tmp_path)), str(task(other))])


def test_five_parts_and_their_mean_are_measured_once_and_again_where_an_image_has_come(images, tmp_path):
    rows = {part: [ROWS[0]] * 2 for part in PARTS} | {
        "ADE20K": ROWS,
        "RefCOCOg": [row(qry_image_path="later.png"), *ROWS[:2]],
    }
    for part, name in PARTS.items():
        save(tmp_path / "data" / NAMES[1].format(name), rows[part])
    model, cache, told = apart(), tmp_path / "cache", task(tmp_path)

    def figures(again=False):
        jobs = find_jobs([str(told)], "val")
        found = {}
        for job in jobs:
            found[job.name.removeprefix("scar.json: ")] = measure(job, model, shown="mine", cache=cache, again=again)
        return found

    with pytest.warns(
        UserWarning, match=r"1 of 3 rows are left out: SCaR_eval_RefCOCOg.parquet, row 0: there is no image"
    ):
        found = figures()
    values = {name: results[0].value for name, (results, _) in found.items()}
    assert values == {
        "RefCOCO+": 1.0,
        "RefCOCOg": 0.5,
        "VisualGenome": 1.0,
        "COCO-Stuff": 1.0,
        "ADE20K": 0.5,
        "mean": pytest.approx(0.8),
    }
    mean = found["mean"][0][0]
    assert (mean.dataset, mean.task, mean.part, mean.split) == ("Sony/SCaR-Eval", "SCaR", "", "val")
    assert "1 of 3 rows left out" in mean.notes
    assert mean.low is None
    assert all(remembered for _, remembered in figures().values())
    two_halves(images / "later.png")
    found = figures()
    assert [name for name, (_, remembered) in found.items() if not remembered] == ["RefCOCOg", "mean"]
    assert found["RefCOCOg"][0][0].value == pytest.approx(2 / 3)
    assert found["mean"][0][0].value == pytest.approx((3 + 2 / 3 + 0.5) / 5)


def test_the_mean_needs_all_parts(images, tmp_path):
    for part, name in PARTS.items():
        gone = part == "COCO-Stuff"
        save(tmp_path / "data" / NAMES[1].format(name), [row(qry_image_path="gone.png") if gone else row()])
    *parts, mean = find_jobs([str(task(tmp_path))])
    for job in parts[:3]:
        measure(job, apart(), shown="mine", cache=tmp_path / "cache")
    with pytest.raises(NoResultError, match=r"without a figure: scar\.json: COCO-Stuff, scar\.json: ADE20K"):
        measure(mean, apart(), shown="mine", cache=tmp_path / "cache")
    (tmp_path / "data" / NAMES[1].format("ADE20K")).unlink()
    assert len(find_jobs([str(task(tmp_path))])) == 4, "and has none where a part is not there"


def test_the_command_line_measures_a_model_that_reads_no_regions_by_itself(images, tmp_path, run):
    zoo.build_model("clip-test").save_pretrained(tmp_path / "model")
    save(tmp_path / "mine.parquet", [*ROWS, row(qry_image_path="gone.png")])
    told = task(tmp_path, data={"halves": "mine.parquet"})
    out = tmp_path / "results.json"
    command = ["eval", tmp_path / "model", "--tasks", told, "--cache", tmp_path / "cache"]
    with pytest.warns(
        UserWarning, match=r"1 of 5 rows are left out: mine\.parquet, row 4: there is no image 'gone\.png'"
    ):
        status, printed, _ = run(*command, "--out", out)
    assert status == 0
    assert "halves" in printed
    (result,) = read_results(out)
    assert (result.dataset, result.task, result.part, result.split) == ("scar", "scar", "halves", "all")
    assert result.value in (0, 0.25, 0.5, 0.75, 1)
    assert result.source == "zoo eval ./model --tasks scar.json"
    assert str(tmp_path) not in out.read_text("utf-8"), "a folder of this machine"
    status, _, said = run(*command)
    assert "measured on" in said, "remembered"


@pytest.mark.parametrize("name", ["text-test", "image-test"])
def test_a_model_without_images_or_without_texts_is_refused_before_anything_is_embedded(name, images, tmp_path):
    samples, _ = read_samples(save(tmp_path / "mine.parquet", ROWS), images)
    with pytest.raises(UnsupportedModalityError, match=name):
        evaluate_scar(zoo.build_model(name), samples)
