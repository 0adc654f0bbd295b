"""Nothing in the data goes unread without a word: columns that matter stop a run, others are named; all readers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from zoo.training import open_all, open_pairs, recipes, train
from zoo.training.checks import check_run
from zoo.training.dry_run import rehearse
from zoo.training.errors import PairsError, UnreadColumnError
from zoo.training.losses import Loss, build_loss
from zoo.training.losses.base import _Registry, register_loss
from zoo.training.losses.building import losses_reading
from zoo.training.mining import mine
from zoo.training.samplers.plain import Shuffled
from zoo.training.unread import check_unread, unread_lines

from tests.tables.train_tables import KINDS, as_csv, as_jsonl, as_parquet, shard, source_of
from tests.training.train_support import fresh, quick, text_pairs
from zoo.cli import main
from zoo.errors import TableError, ZooError
from zoo.tables import write_pairs
from zoo.tables.pairs import of_datasets

CALM = {"progress": False, "trackers": (), "report": False}
INFONCE, COSENT = quick(), quick(loss="cosent")


pytestmark = pytest.mark.usefixtures("cache_home")


def rows_with(**columns) -> list[dict]:
    """Eight questions and answers with further columns, each given by a function of the row's number."""
    rows = [{"query": f"what is {i}", "positive": f"it is {i}"} for i in range(8)]
    return [{**row, **{name: of(i) for name, of in columns.items()}} for i, row in enumerate(rows)]


def graded(i: int) -> float:
    return (i % 3) / 2


# ------------------------------------------------------------------------------------------------ columns that matter


@pytest.mark.parametrize("kind", KINDS)
def test_a_grade_is_read_or_ignored_by_name_in_every_reader(kind, tmp_path, client_hub):
    source = source_of(kind, rows_with(score=graded), tmp_path, client_hub)
    pairs = open_pairs(source)
    assert pairs[0].score == 0.0
    with pytest.raises(UnreadColumnError) as caught:
        check_unread(pairs, INFONCE)
    said = str(caught.value)
    assert "column score grades the pairs (0: not alike), and the loss infonce does not read it" in said
    assert "Take a loss that reads it (angle, cosent) or a recipe that does (--recipe graded)" in said
    assert "--ignore score (open_pairs(..., ignore=['score']))" in said
    check_unread(pairs, COSENT)
    left_out = open_pairs(source, ignore=["score"])
    assert left_out[0].score is None
    assert "ignored, as was asked for: score" in str(left_out.schemas[0])
    check_unread(left_out, INFONCE)
    with pytest.raises(
        TableError, match=r"ignore=\['scor'\]: there is no such column; there are query, positive, score"
    ):
        open_pairs(source, ignore=["scor"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("weight", 0.5, r"column weight holds weights of the pairs, and no loss .*: leave it out: --ignore weight"),
        ("sample_weight", 2, r"column sample_weight holds weights"),
        ("long_caption", "a further one", r"column long_caption is a further text .*--column also_text=long_caption"),
        ("caption_de", "a further one", r"column caption_de is a further text"),
        ("neg_score", 0.5, r"column neg_score holds a teacher's scores"),
        ("caption", "a further one", r"column caption is a further text .*--column also_text=caption"),
        ("image2", "red.png", r"column image2 is a further image .*--column also_image=image2"),
        ("teacher_score", 0.5, r"teacher_score holds a teacher's scores.*--column teacher_scores=teacher_score"),
        ("similarity", 0.5, r"column similarity grades the pairs"),
    ],
)
def test_columns_with_a_known_meaning_stop_the_run(column, value, message, kind, tmp_path, client_hub):
    source = source_of(kind, rows_with(**{column: lambda i: value}), tmp_path, client_hub)
    with pytest.raises(UnreadColumnError, match=message):
        check_unread(open_pairs(source), INFONCE)
    check_unread(open_pairs(source, ignore=[column]), INFONCE)


def test_a_teachers_scores_are_for_losses_that_read_them(tmp_path):
    rows = rows_with(negative=lambda i: f"not {i}", teacher_scores=lambda i: [0.9, 0.1])
    pairs = open_pairs(as_jsonl(rows, tmp_path / "rows.jsonl"))
    with pytest.raises(UnreadColumnError, match=r"stable_distillation.*--recipe .*umarvel.*--ignore teacher_scores"):
        check_unread(pairs, INFONCE)
    check_unread(pairs, quick(loss="distillation(space='group')"))
    check_unread(pairs, (INFONCE, quick(name="second", loss="stable_distillation")))  # some stage reads them


def test_all_such_columns_of_all_tables_are_named_at_once(tmp_path):
    first = as_csv(rows_with(score=graded, weight=lambda i: 1), tmp_path / "a.csv")
    second = as_csv(rows_with(similarity=graded), tmp_path / "b.csv")
    with pytest.raises(UnreadColumnError) as caught:
        check_unread(open_all([first, second]), INFONCE)
    assert [line.split(" ")[:3] for line in str(caught.value).splitlines()] == [
        ["a.csv:", "column", "score"],
        ["a.csv:", "column", "weight"],
        ["b.csv:", "column", "similarity"],
    ]
    check_unread(open_all([first, second], ignore=["score", "weight", "similarity"]), INFONCE)
    with pytest.raises(TableError, match=r"ignore=\['grade'\]: there is no such column"):
        open_all([first, second], ignore=["grade"])


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        ("image,text,url,width", ""),
        ("image,text,caption2", "caption2"),
        ("image,image2,text,path", "image2"),
        ("sentence1,sentence2,text", "text"),
        ("image,query,positive", "image"),
        ("query,positive,query_id,title,source", ""),
        ("image,text,group,label", "label"),
        ("path,audio,sentence", ""),
    ],
)
def test_what_no_role_took_is_told_by_its_name(columns, left):
    from zoo.tables import Column, infer

    schema = infer(
        "t", [Column(name) for name in columns.split(",")], {"text": "text"} if "caption2" in columns else None
    )
    assert ",".join(column for column, _ in schema.left) == left


def test_further_captions_are_named_and_have_a_way_on(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "caption": f"one {i}", "caption2": f"two {i}"} for i in range(4)]
    path = as_csv(rows, tmp_path / "t.csv")
    with pytest.raises(
        TableError, match=r"caption and caption2 could both .*positive_text=caption2.*--ignore caption$"
    ):
        open_pairs(path)
    pairs = open_pairs(path, columns={"positive_text": "caption"})
    with pytest.raises(UnreadColumnError, match=r"column caption2 is a further text .*also_text=caption2.*--ignore"):
        check_unread(pairs, INFONCE)
    both = open_pairs(path, columns={"positive_text": "caption", "also_text": "caption2"})
    check_unread(both, INFONCE)
    assert [both[1].positive.text, both[1].extra_positives[0].text] == ["one 1", "two 1"]
    assert open_pairs(path, ignore=["caption2"])[1].positive.text == "one 1"


def test_numbered_captions_beside_an_image_are_no_pair_of_texts(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    path = as_csv([{"image": "a.png", "caption1": "one", "caption2": "two"}], tmp_path / "t.csv")
    with pytest.raises(TableError, match="caption1 and caption2 could both be the positive's text"):
        open_pairs(path)


def test_fields_beside_the_files_of_a_shard(tmp_path):
    """img2dataset's layout: of the .json the caption stands in for the .txt, and the rest counts."""
    fields = {"caption": "the same", "url": "x", "width": 8}
    content = {"0.jpg": b"x", "0.txt": b"a tile", "0.json": json.dumps(fields).encode()}
    pairs = open_pairs(shard(tmp_path / "a.tar", content))
    assert pairs.schemas[0].unused == ("caption", "url", "width")
    check_unread(pairs, INFONCE)
    for field, value in {"similarity": 0.3, "weight": 2, "caption_2": "another", "label": 1, "image2": "x.png"}.items():
        more = {**content, "0.json": json.dumps({**fields, field: value}).encode()}
        path = shard(tmp_path / f"{field}.tar", more)
        with pytest.raises(ZooError, match=f"column {field} "):
            check_unread(open_pairs(path), INFONCE)
        check_unread(open_pairs(path, ignore=[field]), INFONCE)


def test_further_parts_of_an_object(tmp_path):
    rows = [{"query": {"text": f"q {i}", "image": "a.png", "id": i}, "positive": f"p {i}"} for i in range(4)]
    for path in (as_jsonl(rows, tmp_path / "t.jsonl"), as_parquet(rows, tmp_path / "t.parquet")):
        pairs = open_pairs(path)
        assert pairs[1].query.text == "q 1"
        assert sorted(pairs.schemas[0].unused) == ["query.id", "query.image"]
        with pytest.raises(UnreadColumnError, match=r"column query.image is not read, .*--ignore query.image"):
            check_unread(pairs, INFONCE)


# ------------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "hub"])
def test_labels_of_0_and_1_grade_the_pairs(kind, tmp_path, client_hub):
    rows = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "label": i % 2} for i in range(8)]
    pairs = open_pairs(source_of(kind, rows, tmp_path, client_hub))
    assert [pairs[i].score for i in range(3)] == [0.0, 1.0, 0.0]
    with pytest.raises(UnreadColumnError, match=r"column label grades the pairs.*--ignore label"):
        check_unread(pairs, INFONCE)
    check_unread(pairs, COSENT)
    classes = [{"query": row["sentence1"], "positive": row["sentence2"], "class": row["label"]} for row in rows]
    with pytest.raises(TableError, match="column class holds whole numbers: a score of 0 or 1, or a class"):
        open_pairs(source_of(kind, classes, tmp_path, client_hub))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "hub"])
def test_three_labels_are_asked_about_and_text_refused(kind, tmp_path, client_hub):
    rows = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "label": i % 3} for i in range(8)]
    with pytest.raises(
        TableError, match=r"label holds whole numbers: .*where every row is a right pair, .*group=label"
    ):
        open_pairs(source_of(kind, rows, tmp_path, client_hub))
    words = ("entailment", "neutral", "contradiction")
    source = source_of(kind, [{**row, "label": words[row["label"]]} for row in rows], tmp_path, client_hub)
    with pytest.raises(TableError, match=r"column label says whether a pair is right .*--ignore label"):
        open_pairs(source)
    assert len(open_pairs(source, ignore=["label"])) == 8


def test_labels_of_0_and_1_beside_captions_are_asked_about(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "text": f"one {i}", "label": i % 2} for i in range(4)]
    path = as_csv(rows, tmp_path / "t.csv")
    with pytest.raises(TableError, match="label holds whole numbers: a score of 0 or 1, or a class"):
        open_pairs(path)
    assert open_pairs(path, columns={"group": "label"})[1].group == "1"
    classes = as_csv([{**row, "label": i} for i, row in enumerate(rows)], tmp_path / "classes.csv")
    assert open_pairs(classes)[3].group == "3"


# ------------------------------------------------------------------------------------------------ losses and samplers


def test_a_new_loss_and_a_sampler_appear_by_themselves(monkeypatch, tmp_path):
    pairs = open_pairs(as_csv(rows_with(score=graded), tmp_path / "t.csv"))
    monkeypatch.setattr(_Registry, "makers", dict(_Registry.makers))

    @register_loss("graded_of_mine")
    class Mine(Loss):
        """One of mine."""

        may_read = frozenset({"scores"})

        def __init__(self, needed: int) -> None:
            super().__init__()

    assert losses_reading("scores") == ["angle", "cosent", "graded_of_mine"]
    with pytest.raises(UnreadColumnError, match=r"\(angle, cosent, graded_of_mine\)"):
        check_unread(pairs, INFONCE)
    check_unread(pairs, INFONCE, loss=Mine(1))
    monkeypatch.setattr(Shuffled, "reads", frozenset({"scores"}))
    check_unread(pairs, INFONCE)


def test_losses_of_teacher_scores_are_written_as_they_read_them():
    assert losses_reading("teacher_scores") == ["distillation(space='group')", "stable_distillation"]
    for written in losses_reading("teacher_scores"):
        assert "teacher_scores" in build_loss(written).reads


def test_each_stage_reads_the_grades_that_it_learns_from(tmp_path):
    """A pair graded 0 is no positive in any stage, whatever another one reads."""
    graded_pairs = as_csv(rows_with(score=graded), tmp_path / "graded.csv")
    plain = as_csv(rows_with(), tmp_path / "plain.csv")
    pairs = open_all([graded_pairs, plain])
    apart = (quick(name="one", datasets=("plain",)), quick(name="two", loss="cosent", datasets=("graded",)))
    check_unread(pairs, apart)
    with pytest.raises(UnreadColumnError, match="and the loss infonce does not read it"):
        check_unread(pairs, (quick(name="one"), replace(apart[1])))
    assert unread_lines(pairs, quick(datasets=("plain",))) == ["no stage learns from the data set graded"]


def test_two_grades_where_a_loss_tells_two_apart(tmp_path):
    class Binary(Loss):
        """Right or wrong."""

        reads = frozenset({"scores"})
        grades = 2

    pairs = open_pairs(as_csv(rows_with(score=graded), tmp_path / "three.csv"))
    with pytest.raises(PairsError, match=r"tells 2 grades apart.*: 0 \(.*line 2\), 0.5 \(.*, 1 \("):
        check_run(fresh("text-test"), pairs, INFONCE, Binary())
    many = [replace(pair, score=0.5 if i == 601 else float(i % 2)) for i, pair in enumerate(text_pairs(700))]
    with pytest.raises(PairsError, match=r"0.5 \(texts, line 602\)"):  # however many rows are alike
        check_run(fresh("text-test"), many, INFONCE, Binary())
    two = open_pairs(as_csv(rows_with(score=lambda i: i % 2), tmp_path / "two.csv"))
    check_run(fresh("text-test"), two, INFONCE, Binary())


# ------------------------------------------------------------------------------------------------ runs


def test_train_stops_before_it_writes_anything(tmp_path):
    pairs = open_pairs(as_csv(rows_with(score=graded), tmp_path / "t.csv"))
    with pytest.raises(UnreadColumnError, match="column score"):
        train(fresh("text-test"), pairs, INFONCE, tmp_path / "run", **CALM)
    with pytest.raises(UnreadColumnError, match="column score"):
        rehearse(fresh("text-test"), pairs, INFONCE)
    plain = open_pairs(as_csv(rows_with(), tmp_path / "plain.csv"))
    with pytest.raises(UnreadColumnError, match=r"t.csv: column score"):
        train(fresh("text-test"), plain, INFONCE, tmp_path / "run", held_out=pairs, **CALM)
    assert not (tmp_path / "run").exists()


def test_pairs_made_in_python_are_graded_too(tmp_path):
    pairs = [replace(pair, score=i / 12) for i, pair in enumerate(text_pairs(12))]
    with pytest.raises(UnreadColumnError, match=r"the pairs have a score \(from 0 to 0.916667\).*score=None"):
        train(fresh("text-test"), pairs, INFONCE, tmp_path / "run", **CALM)
    check_unread(pairs, COSENT)
    mixed = [replace(pair, dataset="graded") for pair in pairs] + text_pairs(6, dataset="plain")
    check_unread(mixed, quick(datasets=("plain",)))
    check_unread(of_datasets(mixed, ["plain"]), INFONCE)
    with pytest.raises(UnreadColumnError):
        check_unread(text_pairs(600) + pairs[:1] + text_pairs(600), INFONCE)
    with pytest.raises(UnreadColumnError):
        check_unread(mixed, quick(datasets=("graded",)))


def test_other_columns_are_named_in_one_line(tmp_path, capsys):
    rows = rows_with(**{f"fact{i}": lambda row: row for i in range(12)})
    pairs = open_pairs(as_csv(rows, tmp_path / "t.csv"))
    names = ", ".join(f"fact{i}" for i in range(12))
    assert f"  12 columns not used: {names}" in str(pairs.schemas[0]).splitlines()
    train(fresh("text-test"), pairs, quick(steps=1), tmp_path / "run", trackers=(), report=False)
    assert f"t.csv: not read: {names}\n" in capsys.readouterr().out


def test_what_mining_writes_is_trained_on(tmp_path):
    mined = mine(text_pairs(12), fresh("text-test"), negatives=1, relative_margin=None)
    pairs = open_pairs(write_pairs(mined, tmp_path / "mined.jsonl"))
    assert len(pairs[0].teacher_scores) == 2
    check_unread(pairs, recipes.hard_negatives())
    assert unread_lines(pairs, INFONCE, shown=True) == ["mined.jsonl: not read: mined_scores"]
    assert unread_lines(pairs, quick(loss="stable_distillation"), shown=True) == []
    again = open_pairs(write_pairs(mined, tmp_path / "mined.parquet"))
    assert again[0].teacher_scores == pytest.approx(pairs[0].teacher_scores)


# ------------------------------------------------------------------------------------------------ the command


def command(path: Path, *options: str) -> list[str]:
    return ["train", str(path), "--model", "text-test", "--from-scratch", "--dry-run", *options]


def test_the_command_stops_before_a_model_is_loaded(tmp_path, capsys, monkeypatch):
    path = as_csv(rows_with(score=graded), tmp_path / "t.csv")
    monkeypatch.setattr("zoo.training.command.build_model", lambda name: pytest.fail("the model was built"))
    assert main(command(path)) == 2
    assert "or, where all are right, leave it out: --ignore score" in capsys.readouterr().err


def test_the_command_follows_its_own_advice(tmp_path, capsys):
    path = as_csv(rows_with(score=graded, url=lambda i: "x"), tmp_path / "t.csv")
    assert main(command(path, "--ignore", "score")) == 0
    said = capsys.readouterr().out
    assert "ignored, as was asked for: score" in said
    assert "1 column not used: url" in said
    assert main(command(path, "--recipe", "graded")) == 0
    assert main(command(path, "--loss", "angle")) == 0


def test_ignore_names_columns_and_settings_of_a_checkpoint(tmp_path, capsys, monkeypatch):
    path = as_csv(rows_with(score=graded), tmp_path / "t.csv")
    given = []

    def load(name, *, device, ignore):
        given.append(list(ignore))
        return fresh("text-test")

    monkeypatch.setattr("zoo.training.command.load_model", load)
    options = ["--ignore", "score", "--ignore", "truncate_dim"]
    assert main([option for option in command(path, *options) if option != "--from-scratch"]) == 0
    assert given == [["truncate_dim"]]


def test_a_name_that_is_neither_is_an_error(tmp_path, capsys):
    path = as_csv(rows_with(), tmp_path / "t.csv")
    assert main(command(path, "--ignore", "scor")) == 2
    assert "--ignore scor: there is no such column, and no checkpoint is read" in capsys.readouterr().err


def test_a_mined_file_trains_as_the_command_says(tmp_path, capsys):
    path, out = as_csv(rows_with(weight=lambda i: 1), tmp_path / "t.csv"), tmp_path / "mined.jsonl"
    fresh("text-test").save_pretrained(tmp_path / "teacher")
    options = [
        "--teacher",
        str(tmp_path / "teacher"),
        "--out",
        str(out),
        "--negatives",
        "1",
        "--relative-margin",
        "none",
    ]
    assert main(["mine", str(path), *options, "--quiet"]) == 0
    assert "t.csv: not read, and not written: weight" in capsys.readouterr().err
    assert main(command(out, "--recipe", "hard-negatives")) == 0
    assert "mined.jsonl: not read: mined_scores" in capsys.readouterr().out
    assert main(["mine", str(path), *options, "--quiet", "--ignore", "weight"]) == 0
    assert "weight" not in capsys.readouterr().err


def test_held_out_data_is_shown_and_held_to_the_same(tmp_path, capsys):
    path = as_csv(rows_with(), tmp_path / "t.csv")
    others = [
        {**row, "positive": f"other {i}"} for i, row in enumerate(rows_with(score=graded))
    ]  # else all are learned
    held_out = as_csv(others, tmp_path / "held.csv")
    assert main(command(path, "--held-out", str(held_out))) == 2
    assert "held.csv: column score grades the pairs" in capsys.readouterr().err
    assert main(command(path, "--held-out", str(held_out), "--ignore", "score")) == 0
    assert "held out: held.csv: 8 pairs" in capsys.readouterr().out
