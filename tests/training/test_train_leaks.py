"""Held-out pairs that stand in the training data are found by content, told and left out."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from zoo.training import open_pairs, train
from zoo.training.dry_run import rehearse
from zoo.training.errors import PairsError
from zoo.training.leaks import check_held_out

from tests.tables.train_tables import KINDS, source_of
from tests.training.train_support import fresh, make_image, quick, text_pairs, without_plots
from zoo.cli import main
from zoo.inputs.item import Item
from zoo.tables.pairs import Pair, answers_of

CALM = {"progress": False, "trackers": (), "report": False}

pytestmark = pytest.mark.usefixtures("cache_home")


def pair(query: str, positive: str, *also: str, **facts) -> Pair:
    return Pair(Item(text=query), Item(text=positive), extra_positives=tuple(Item(text=text) for text in also), **facts)


LEARNED = [pair("a", "1"), pair("b", "2", "two"), pair("c", "3", group="g"), pair("d", "3")]


@pytest.mark.parametrize(
    ("held_out", "left", "told"),
    [
        ([pair("a", "1"), pair("x", "9")], ["9"], "1 of 2 held-out pairs stand in the training data: left out"),
        ([pair("b", "two"), pair("x", "9")], ["9"], "1 of 2"),  # a further positive
        ([pair("x", "9", "10"), pair("y", "8")], ["9", "10", "8"], ""),
        ([pair("b", "9", "two")], ["9"], "1 of 2"),  # of a held-out list the one that is learned
        ([pair("1", "a"), pair("x", "9")], ["9"], "1 of 2"),  # the other way round
        (
            [pair("a", "2"), pair("x", "9")],
            ["2", "9"],
            "1 of 2 held-out pairs share an item with a pair that is learned: kept",
        ),
        ([pair("y", "1"), pair("x", "9")], ["1", "9"], "1 of 2 held-out pairs share an item"),
        ([pair("d", "3", group="h"), pair("x", "9")], ["9"], "1 of 2 held-out pairs stand"),
        ([pair("A", "1 "), pair("x", "9")], ["1 ", "9"], ""),  # other letters
    ],
)
def test_whole_pairs_are_left_out_and_shared_items_told(held_out, left, told):
    found = check_held_out(held_out, answers_of(LEARNED))
    assert [p.positive.text for p in found.pairs] == left
    assert told in "; ".join(found.told)
    assert bool(found.told) == bool(told)
    kept = check_held_out(held_out, answers_of(LEARNED), keep_leaks=True)
    assert len(kept.pairs) == sum(1 + len(p.extra_positives) for p in held_out)
    if "stand" in "; ".join(found.told):
        assert "are kept, as asked: the figures flatter" in kept.told[0]
    else:
        assert kept.told == found.told


def test_nothing_held_out_is_nothing_to_find():
    assert check_held_out(None, answers_of(LEARNED)) is None
    assert check_held_out([], answers_of(LEARNED)) is None


def test_images_are_found_whatever_they_are_called(tmp_path):
    for name, shape in (("a", "bar"), ("b", "circle"), ("c", "cross")):
        Image.fromarray(make_image(shape, "red")).save(tmp_path / f"{name}.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "copy.png")
    learned = [Pair(Item(image=tmp_path / f"{name}.png"), Item(text=name)) for name in "ab"]
    ways = {
        "copy": tmp_path / "copy.png",
        "bytes": (tmp_path / "a.png").read_bytes(),
        "other": tmp_path / "c.png",
        "array": np.array(Image.open(tmp_path / "a.png")),  # pixels are other content than a file
    }
    held_out = [Pair(Item(image=image), Item(text="a")) for image in ways.values()]
    found = check_held_out(held_out, answers_of(learned))
    assert len(found.pairs) == 2
    assert found.told[0].startswith("2 of 4 held-out pairs stand in the training data: left out")


@pytest.mark.parametrize("kind", KINDS)
def test_in_every_kind_of_source(kind, tmp_path, client_hub):
    """Rows for validation that repeat rows for training, as scraped data sets have them."""
    rows = [{"query": f"what is {i}", "positive": f"it is {i}", "split": "train"} for i in range(6)]
    rows += [{**rows[2], "split": "val"}, {"query": "what else", "positive": "nothing", "split": "val"}]
    learned = open_pairs(source_of(kind, rows, tmp_path, client_hub))
    held_out = learned.of_split("validation")
    found = check_held_out(held_out, answers_of(learned))
    assert [p.query.text for p in found.pairs] == ["what else"]
    assert found.told == ["1 of 2 held-out pairs stand in the training data: left out"]


def test_all_of_them_is_a_named_error_before_long_work(tmp_path, capsys, monkeypatch):
    without_plots(monkeypatch)
    (tmp_path / "pairs.csv").write_text("query,positive\n" + "".join(f"what {i},it {i}\n" for i in range(8)))
    command = ["train", str(tmp_path / "pairs.csv"), "--held-out", str(tmp_path / "pairs.csv"), "--model", "text-test"]
    command += ["--from-scratch", "--out", str(tmp_path / "run"), "--steps", "2", "--log", "none"]
    for dry in ([], ["--dry-run"]):
        assert main([*command, *dry]) == 2
        said = capsys.readouterr().err
        assert "error: all 8 held-out pairs stand in the training data" in said
        assert "--keep-leaks" in said
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert main([*command, "--keep-leaks"]) == 0
    said = capsys.readouterr().out
    assert "8 of 8 held-out pairs stand in the training data and are kept, as asked" in said
    assert "Nothing can be said: 8 held-out queries are too few" in said


def test_the_run_says_what_it_left_out_and_where(tmp_path):
    held_out = [*text_pairs(2), pair("else", "nothing")]
    train(fresh("text-test"), text_pairs(8), quick(steps=1), tmp_path, held_out=held_out, **CALM)
    assert json.loads((tmp_path / "scores.json").read_text())["before"]["pairs"] == 1
    told = json.loads((tmp_path / "data.json").read_text())["held-out pairs"]
    assert told == "2 of 3 held-out pairs stand in the training data: left out"
    facts = rehearse(fresh("text-test"), text_pairs(8), quick(), held_out=held_out)
    assert (facts["held out"], facts["held-out pairs"]) == (1, told)


class Unreadable:
    """A table of which some rows cannot be read."""

    def __init__(self, pairs, bad):
        self.pairs, self.bad = pairs, bad

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, row):
        from zoo.errors import UnsupportedInputError

        if row in self.bad:
            raise UnsupportedInputError(f"row {row} is broken")
        return self.pairs[row]


def test_rows_that_cannot_be_read_are_told():
    found = check_held_out(Unreadable([pair("x", "9"), pair("y", "8")], {1}), answers_of(LEARNED))
    assert len(found.pairs) == 1
    assert found.told == ["1 held-out rows cannot be read and are left out; the first: row 1 is broken"]
    with pytest.raises(PairsError, match="none of the 2 held-out rows can be read; the first: row 0"):
        check_held_out(Unreadable([pair("x", "9"), pair("y", "8")], {0, 1}), answers_of(LEARNED))


def test_grades_do_not_make_another_pair():
    graded = [replace(p, score=0.1) for p in LEARNED]
    with pytest.raises(PairsError, match="all 1 held-out pairs"):
        check_held_out([pair("a", "1", score=0.9)], answers_of(graded))
