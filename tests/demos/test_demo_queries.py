"""The demo's fifty queries: they keep their own rules, and what a model found is counted rightly."""

import json
from collections import Counter

import pytest
import torch

from zoo import build_model
from zoo.errors import ZooError
from zoo.evaluation.metrics import interval
from zoo.evaluation.results import FILE, read_results

pytest.importorskip("gradio")

from zoo.demos import queries
from zoo.demos.queries import KINDS, Answer, Query, answers, ask, report
from zoo.demos.samples import SAMPLES

NAMES = ("a.png", "b.png", "c.png")


def test_the_queries_keep_the_rules_that_are_written_beside_them():
    asked = queries.queries()
    texts = [query.text for query in asked]
    assert len(set(texts)) == len(texts) == 50
    assert all(1 <= len(text.split()) <= 8 for text in texts)
    assert not {text.lower() for text in texts} & {sample.caption.lower() for sample in SAMPLES}
    kinds = Counter(query.kind for query in asked)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) >= 5
    images = {sample.file.rpartition("/")[2] for sample in SAMPLES}
    assert len(images) == len(SAMPLES), "file names tell the images apart"
    written_for = Counter(query.right[0] for query in asked)
    assert set(written_for) == images
    assert max(written_for.values()) <= 2
    for query in asked:
        assert set(query.right) <= images, query
        assert len(set(query.right)) == len(query.right), query
    assert len(json.loads(queries.FILE.read_text(encoding="utf-8"))["rules"]) >= 5


def test_the_place_is_that_of_the_best_right_image_and_equal_scores_count_against_it():
    one = Query("one", "thing", ("a.png",))
    either = Query("either", "scene", ("a.png", "c.png"))
    scores = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.9, 0.2], [0.5, 0.5, 0.5], [0.3, 0.2, 0.9]])
    found = answers([one, one, one, either], scores, NAMES)
    assert [(answer.place, answer.first) for answer in found] == [
        (1, "a.png"),
        (3, "b.png"),
        (3, "b.png"),
        (1, "c.png"),
    ]
    found = answers([either], torch.tensor([[0.1, 0.9, 0.2]]), NAMES)
    assert found == [Answer(either, 2, "b.png")]


def test_what_cannot_be_counted_is_refused():
    query = Query("one", "thing", ("gone.png", "a.png"))
    with pytest.raises(ZooError, match=r"not among the images: gone\.png.*embedding-zoo\[demo\]"):
        answers([query], torch.zeros(1, 3), NAMES)
    with pytest.raises(ZooError, match="NaN"):
        answers([Query("one", "thing", ("a.png",))], torch.full((1, 3), torch.nan), NAMES)
    with pytest.raises(ZooError, match="reads no image"):
        ask(build_model("text-test"))


def test_the_report_counts_first_and_best_five_in_all_and_by_kind():
    made = [Answer(Query(f"query {place}", kind, ("a.png",)), place, "b.png") for place, kind in
            [(1, "thing"), (5, "thing"), (6, "scene"), (1, "colour")]]  # fmt: skip
    lines = report(made).splitlines()
    assert lines[0].split() == ["all", "2", "of", "4", "right", "first,", "3", "in", "the", "best", "5"]
    assert lines[1].split() == ["thing", "1", "of", "2", "right", "first,", "2", "in", "the", "best", "5"]
    assert lines[3].split() == ["scene", "0", "of", "1", "right", "first,", "0", "in", "the", "best", "5"]
    assert [line.strip() for line in lines[6:]] == [
        "5  query 5: b.png, not a.png",
        "6  query 6: b.png, not a.png",
    ]


def test_a_model_is_asked_all_of_them_from_the_command_line(tmp_path, capsys):
    build_model("mini-test").save_pretrained(tmp_path / "model")
    assert queries.main([str(tmp_path / "model")]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("all")
    assert " of 50 right first" in first
    assert not (tmp_path / "model" / FILE).exists()
    assert queries.main([str(tmp_path / "none")]) == 1
    assert "error:" in capsys.readouterr().err


def test_figures_of_answers_by_hand():
    found = [
        Answer(Query(kind, kind, ("a.png",)), place, "a.png")
        for kind, place in zip(KINDS * 2, range(1, 11), strict=False)
    ]
    rows = {(row.part, row.metric): row for row in queries.results(found, 34, "again")}
    assert set(rows) == {(part, f"hit@{most}") for part in ("", *KINDS) for most in (1, 5)}
    assert (rows["", "hit@1"].value, rows["", "hit@5"].value) == (0.1, 0.5)
    assert (rows[KINDS[0], "hit@1"].value, rows[KINDS[1], "hit@1"].value) == (0.5, 0)
    assert (rows["", "hit@5"].low, rows["", "hit@5"].high) == pytest.approx(interval(5, 10)[1:], abs=1e-6)
    assert rows["", "hit@1"].notes == "10 queries, 34 images"
    assert rows["", "hit@1"].source == "again"


def test_figures_are_kept_on_the_card(tmp_path, capsys):
    folder = build_model("mini-test").save_pretrained(tmp_path / "model")
    assert queries.main([str(folder), "--card"]) == 1
    assert "README.md does not exist" in capsys.readouterr().err
    (folder / "README.md").write_text("# mine\n", encoding="utf-8")
    assert queries.main([str(folder), "--card"]) == 0
    kept = read_results(folder / FILE)
    assert {row.dataset for row in kept} == {"demo queries"}
    assert f"{100 * kept[0].value:.1f} (" in (folder / "README.md").read_text("utf-8")
