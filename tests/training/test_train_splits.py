"""A column of splits is followed: rows for validation are held out, rows for the test not read; all readers."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zoo.training import open_all, open_pairs, train
from zoo.training.dry_run import rehearse
from zoo.training.errors import PairsError
from zoo.training.finalize import hold_out

from tests.tables.train_tables import KINDS, as_csv, as_jsonl, as_parquet, source_of
from tests.training.train_support import fresh, quick
from zoo.cli import main
from zoo.errors import NoSplitError, TableError
from zoo.tables import SplitTable, open_held_out
from zoo.tables.options import Options
from zoo.tables.pairs import block_numbers
from zoo.tables.splits import split_of_path

CALM = {"progress": False, "trackers": (), "report": False}
SPELLINGS = ["train", "Training", "valid", "validation", "dev", "val", "test", "eval", "testing", "train "]
IS = ["train", "train", *["validation"] * 4, "test", "validation", "test", "train"]


pytestmark = pytest.mark.usefixtures("cache_home")


def rows_of(splits, column: str = "split") -> list[dict]:
    return [{"query": f"what is {i}", "positive": f"it is {i}", column: split} for i, split in enumerate(splits)]


def numbers(pairs) -> list[int]:
    return [int(pair.query.text.split()[-1]) for pair in pairs]


SPLITS = ["train"] * 8 + ["val"] * 4 + ["test"] * 3


# ------------------------------------------------------------------------------------------------ which rows


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_the_split_in_every_spelling_and_reader(kind, tmp_path, client_hub):
    source = source_of(kind, rows_of(SPELLINGS), tmp_path, client_hub)
    for split, told in (("train", "train"), ("val", "validation"), ("dev", "validation"), ("test", "test")):
        pairs = open_pairs(source, split=split)
        assert numbers(pairs) == [i for i, name in enumerate(IS) if name == told]
        assert isinstance(pairs, SplitTable)
        assert (
            str(pairs.schemas[0]).splitlines()[-1]
            == f"  of column split: train 3, validation 5, test 2; these are {told}"
        )
        assert pairs.schemas[0].rows == len(pairs) == len(pairs.datasets)
        assert pairs.problems() == []
        assert str(next(iter(numbers(pairs)))) in pairs[0].query.text
        assert pairs.where(0) == pairs[0].where
    assert numbers(open_pairs(source)) == numbers(open_pairs(source, split="train"))
    assert len(open_pairs(source, ignore=["split"])) == len(SPELLINGS)


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_name_no_split_are_listed(kind, tmp_path, client_hub):
    rows = rows_of(["train", "part-a", "part-a", "", "test"])
    with pytest.raises(TableError) as caught:
        open_pairs(source_of(kind, rows, tmp_path, client_hub))
    said = str(caught.value)
    assert (
        "column split holds 'part-a' (2 rows), nothing (1 row), which name no split; known are train, training" in said
    )
    assert "--ignore split (ignore=['split'])" in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_without_rows_is_named(kind, tmp_path, client_hub):
    source = source_of(kind, rows_of(["train", "train", "test"]), tmp_path, client_hub)
    with pytest.raises(
        NoSplitError, match=r"has no row of the split 'val': column split holds train \(2 rows\), test \(1 row\)"
    ):
        open_pairs(source, split="val")
    plain = source_of(kind, [{"query": "a", "positive": "b"}], tmp_path, client_hub)
    with pytest.raises(
        NoSplitError, match=r"has no split 'test': no column says which rows .*columns: query, positive"
    ):
        open_pairs(plain, split="test")
    assert len(open_pairs(plain, split="train")) == 1


def test_a_row_that_cannot_be_read_makes_no_split(tmp_path):
    path = as_jsonl(rows_of(["train", "train"]), tmp_path / "t.jsonl")
    with path.open("a") as file:
        file.write("{\n")
    assert len(open_pairs(path)) == 3  # it may be of any split that there is
    with pytest.raises(NoSplitError, match="has no row of the split 'val'"):
        open_pairs(path, split="val")


def test_other_names_of_the_column_count_where_their_values_are_splits(tmp_path):
    assert numbers(open_pairs(as_csv(rows_of(SPLITS, "subset"), tmp_path / "a.csv"))) == list(range(8))
    assert len(open_pairs(as_jsonl(rows_of(["en", "de"], "subset"), tmp_path / "b.jsonl"))) == 2
    assert len(open_pairs(as_parquet(rows_of(["1", "2"], "fold"), tmp_path / "c.parquet"))) == 2
    where = as_csv(rows_of(SPLITS, "where"), tmp_path / "d.csv")
    assert numbers(open_pairs(where, columns={"split": "where"})) == list(range(8))


def test_rows_of_other_splits_need_no_files(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [{"image": name, "text": "x", "split": split} for name, split in (("a.png", "train"), ("gone.png", "test"))]
    path = as_csv(rows, tmp_path / "t.csv")
    assert len(open_pairs(path).check()) == 1
    with pytest.raises(TableError, match=r"line 3: no image .*gone.png"):
        open_pairs(path, split="test").check()
    parquet = open_pairs(as_parquet(rows, tmp_path / "t.parquet"))
    assert parquet.problems() == []
    assert "gone.png" in open_pairs(tmp_path / "t.parquet", split="test").problems()[0]


def test_blocks_and_data_sets_are_those_of_the_rows(tmp_path):
    rows = [{**row, "dataset": "ab"[i % 2]} for i, row in enumerate(rows_of(["train", "test"] * 5))]
    pairs = open_pairs(as_parquet(rows, tmp_path / "t.parquet"))  # row groups of three rows
    assert pairs.blocks() == [range(2), range(2, 3), range(3, 5)]
    assert block_numbers(pairs).tolist() == [0, 0, 1, 2, 2]
    assert [pairs.names[number] for number in pairs.datasets] == [pair.dataset for pair in pairs] == ["a"] * 5


def test_several_files_and_sources(tmp_path):
    as_csv(rows_of(["train", "val"]), tmp_path / "part-1.csv")
    as_csv(rows_of(["test", "test"]), tmp_path / "part-2.csv")
    pairs = open_pairs(tmp_path / "part-*.csv")
    assert numbers(pairs) == [0]
    plain = as_csv([{"query": "x 7", "positive": "y"}], tmp_path / "plain.csv")
    assert numbers(open_all([tmp_path / "part-1.csv", plain])) == [0, 7]
    as_csv([{"query": "x 9", "positive": "y"}], tmp_path / "part-3.csv")
    assert numbers(open_pairs(tmp_path / "part-*.csv")) == [0, 9]
    with pytest.raises(NoSplitError, match=r"part-3.csv has no column split, and part-1.csv has"):
        open_pairs(tmp_path / "part-*.csv", split="test")


def test_files_and_folders_of_splits(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("train", "val", "test"):
        as_csv([{"query": f"{name} 1", "positive": name}], folder / f"{name}.csv")
    pairs = open_pairs(folder)
    assert [pair.positive.text for pair in pairs] == ["train"]
    assert "files of other splits, not read: test.csv, val.csv (--held-out" in str(pairs.schemas[0])
    assert [pair.positive.text for pair in open_pairs(folder, split="dev")] == ["val"]
    (folder / "val.csv").unlink()
    with pytest.raises(NoSplitError, match=r"has no file of the split 'val'; it has test.csv \(test\), train.csv"):
        open_pairs(folder, split="val")
    images = tmp_path / "images"
    for name in ("training/cat/a.png", "Validation/cat/b.png"):
        (images / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(images / name)
    assert open_pairs(images)[0].where == "cat/a.png"
    assert open_pairs(images, split="val")[0].where == "cat/b.png"
    with pytest.raises(NoSplitError, match=r"has no split 'test'; its folders: Validation, training"):
        open_pairs(images, split="test")
    assert split_of_path("test/train-00000.parquet") == "train"  # what a file itself is called goes before its folder


def test_a_hub_data_set_whose_files_name_splits_and_whose_rows_do(client_hub, tmp_path):
    content = as_parquet(rows_of(SPLITS), tmp_path / "x.parquet").read_bytes()
    client_hub.clear()
    client_hub.add({"data/train.parquet": content, "data/test.parquet": content}, "datasets/org/both")
    assert numbers(open_pairs("hf:org/both")) == list(range(8))
    assert numbers(open_pairs("hf:org/both", split="test")) == [12, 13, 14]
    with pytest.raises(NoSplitError, match=r"has no split 'val'; it has test, train"):
        open_pairs("hf:org/both", split="val")


# ------------------------------------------------------------------------------------------------ held out


@pytest.mark.parametrize("kind", KINDS)
def test_validation_rows_are_the_held_out_pairs(kind, tmp_path, client_hub):
    pairs = open_pairs(source_of(kind, rows_of(SPLITS), tmp_path, client_hub))
    learned, held_out = hold_out(pairs, None, quick(holdout=0.5))
    assert numbers(learned) == list(range(8))
    assert numbers(held_out) == [8, 9, 10, 11]
    own = open_pairs(as_csv([{"query": "x 99", "positive": "y"}], tmp_path / "own.csv"))
    assert numbers(hold_out(pairs, own, quick())[1]) == [99]


def test_without_validation_rows_a_share_is_held_out(tmp_path):
    pairs = open_pairs(as_csv(rows_of(["train"] * 8 + ["test"] * 3), tmp_path / "t.csv"))
    learned, held_out = hold_out(pairs, None, quick(holdout=0.25))
    assert sorted([*numbers(learned), *numbers(held_out)]) == list(range(8))
    assert len(held_out) == 2


def test_of_many_validation_rows_some_are_held_out(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.training.finalize._MOST_HELD_OUT", 3)
    pairs = open_pairs(as_csv(rows_of(SPLITS), tmp_path / "t.csv"))
    held_out = hold_out(pairs, None, quick())[1]
    assert len(held_out) == 3
    assert set(numbers(held_out)) < {8, 9, 10, 11}
    assert "3 of 4 validation rows" in rehearse(fresh("text-test"), pairs, quick())["held-out rows"]


def test_only_rows_for_training_are_seen_by_a_run(tmp_path, monkeypatch, capsys):
    pairs = open_pairs(as_csv(rows_of(SPLITS), tmp_path / "t.csv"))
    read = set()
    of_table = SplitTable._pair

    def watched(self, row):
        pair = of_table(self, row)
        read.add((self.split, SPLITS[numbers([pair])[0]]))
        return pair

    monkeypatch.setattr(SplitTable, "_pair", watched)
    train(fresh("text-test"), pairs, quick(), tmp_path / "run", trackers=(), report=False)
    assert read == {("train", "train"), ("validation", "val")}
    assert "held out: the 4 validation rows by column split" in capsys.readouterr().out
    assert (tmp_path / "run" / "scores.json").is_file()
    kept = json.loads((tmp_path / "run" / "data.json").read_text())
    assert kept["held out"] == "the 4 validation rows by column split"


def test_rows_for_validation_alone_are_opened_and_not_trained_on(tmp_path):
    path = as_csv(rows_of(["val"] * 8), tmp_path / "t.csv")
    pairs = open_pairs(path)
    assert numbers(pairs) == list(range(8))
    with pytest.raises(
        PairsError, match=r"t.csv: all rows are of the split validation, which is not trained on; .*--split"
    ):
        train(fresh("text-test"), pairs, quick(), tmp_path / "run", **CALM)
    with pytest.raises(NoSplitError, match="has no row of the split 'train'"):
        open_pairs(path, split="train")
    train(fresh("text-test"), open_pairs(path, split="val"), quick(steps=1), tmp_path / "asked", **CALM)


@pytest.mark.parametrize(
    ("splits", "expected"),
    [(SPLITS, [8, 9, 10, 11]), (["train", "test", "test"], [1, 2]), (["train", "train"], [0, 1]), (None, [0, 1, 2])],
)
def test_held_out_data_is_for_validation_where_it_says_so(splits, expected, tmp_path):
    rows = rows_of(splits) if splits else [{"query": f"q {i}", "positive": "p"} for i in range(3)]
    assert numbers(open_held_out(as_csv(rows, tmp_path / "t.csv"), Options())) == expected


# ------------------------------------------------------------------------------------------------ the command


def test_the_command_follows_the_column_and_says_so(tmp_path, capsys):
    path = as_csv(rows_of(SPLITS), tmp_path / "t.csv")
    command = ["train", str(path), "--model", "text-test", "--from-scratch", "--dry-run"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "of column split: train 8, validation 4, test 3; these are train" in said
    assert "the 4 validation rows by column split" in said
    assert main([*command, "--split", "dev"]) == 0
    assert "these are validation" in capsys.readouterr().out
    assert main([*command, "--split", "nope"]) == 2
    assert "has no row of the split 'nope'" in capsys.readouterr().err
    assert main([*command, "--ignore", "split"]) == 0
    assert "15 pairs" in capsys.readouterr().out


def test_mining_is_for_the_rows_of_the_split(tmp_path, capsys):
    path, out = as_csv(rows_of(SPLITS), tmp_path / "t.csv"), tmp_path / "mined.jsonl"
    model = fresh("text-test")
    model.save_pretrained(tmp_path / "teacher")
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
    assert numbers(open_pairs(out)) == list(range(8))
    assert np.all([len(pair.negatives) == 1 for pair in open_pairs(out)])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TableError, match="does not exist"):
        open_held_out(Path(tmp_path / "gone.csv"), Options())
