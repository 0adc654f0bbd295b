"""A run goes on from its folder alone, is lengthened, and leaves a folder that says what it is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from zoo.training import train
from zoo.training.claims import held
from zoo.training.errors import RecipeMismatchError
from zoo.training.optim import schedule
from zoo.training.trainer import finish

from tests.training.train_support import fresh, quick, remove, text_pairs, without_plots
from zoo import load_model
from zoo.cli import main

OTHERS = text_pairs(24)[12:]
CALM = {"progress": False, "trackers": (), "report": False}


def steps_in(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in sorted((folder / "checkpoints").glob("step-*"))]


def run_facts(folder: Path) -> dict:
    return json.loads((folder / "recipe.json").read_text())


def go(recipe, folder, **options):
    return train(fresh("text-test"), text_pairs(12), recipe, folder, **{**CALM, **options})


# ------------------------------------------------------------------------------------------------- from Python


def test_a_run_is_lengthened_and_keeps_what_it_did(tmp_path):
    recipe = quick(steps=3, keep_checkpoints="last", checkpoint_every=1, evaluate_every=1)
    go(recipe, tmp_path, held_out=OTHERS)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert steps_in(tmp_path) == [3]
    longer = replace(recipe, steps=6)
    go(longer, tmp_path, resume=True, held_out=OTHERS)
    after = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert after[:3] == lines
    assert [json.loads(line)["step"] for line in after] == [1, 2, 3, 4, 5, 6]
    # The rate of the steps to come is that of a run of six steps.
    rates = [3e-3 * schedule("cosine", step, 6, longer.warmup_steps) for step in (3, 4, 5)]
    assert [json.loads(line)["lr"] for line in after[3:]] == pytest.approx(rates)
    assert run_facts(tmp_path)["lengthened"] == [{"stage": "quick", "from": 3, "to": 6, "at": 3}]
    assert json.loads((tmp_path / "data.json").read_text())["lengthened"] == run_facts(tmp_path)["lengthened"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run of two stages with held-out pairs, and one that kept no checkpoints."""
    folder = tmp_path_factory.mktemp("done")
    stages = (quick(name="first", steps=1), quick(name="second", steps=2, keep_checkpoints="last"))
    go(stages, folder / "two", held_out=OTHERS)
    go(quick(steps=2, keep_checkpoints="none"), folder / "none")
    return folder, stages


def test_of_stages_only_the_last_can_be_lengthened(done):
    folder, (first, second) = done
    with pytest.raises(RecipeMismatchError, match="first is over and a later stage has begun"):
        go((replace(first, steps=5), second), folder / "two", resume=True, held_out=OTHERS)
    with pytest.raises(RecipeMismatchError, match=r"other stages \(2, not 1\)"):
        go(first, folder / "two", resume=True)
    go((first, replace(second, steps=3)), folder / "two", resume=True, held_out=OTHERS)
    assert [entry["stage"] for entry in run_facts(folder / "two")["lengthened"]] == ["second"]
    assert steps_in(folder / "two" / "stage-2-second") == [3]


def test_without_checkpoints_it_cannot_be_lengthened_and_says_why(done):
    out = done[0] / "none"
    assert not (out / "checkpoints").exists()
    recipe = quick(steps=2, keep_checkpoints="none")
    with pytest.raises(
        RecipeMismatchError, match=r"checkpoints were dropped \(keep_checkpoints none\), so it cannot be lengthened"
    ):
        go(replace(recipe, steps=9), out, resume=True)
    with pytest.raises(RecipeMismatchError, match="finished and kept no checkpoints: open its model"):
        go(recipe, out, resume=True)
    with pytest.raises(RecipeMismatchError, match="already holds a run"):
        go(recipe, out)
    assert load_model(out).encode(["still there"]).shape == (1, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 1.0}, "other lr; name another folder. A run that goes on may only change checkpoint_every, epochs"),
        ({"keep": "last"}, "other keep;"),
        ({"steps": 1}, "and cannot be shortened to 1;"),
    ],
)
def test_what_may_not_change_is_named_and_changes_nothing(done, changes, message):
    folder, (first, second) = done
    before = (folder / "two" / "recipe.json").read_bytes()
    with pytest.raises(RecipeMismatchError, match=message):
        go((first, replace(second, **changes)), folder / "two", resume=True, held_out=OTHERS)
    assert (folder / "two" / "recipe.json").read_bytes() == before


@pytest.mark.parametrize("what", ["training", "held-out"])
def test_other_data_are_refused_even_one_row(what, done):
    folder, (first, second) = done
    before = (folder / "two" / "recipe.json").read_bytes()
    pairs, others = text_pairs(12), list(OTHERS)
    changed = pairs if what == "training" else others
    changed[7] = replace(changed[7], positive=changed[8].positive)
    options = {"resume": True, "held_out": others, **CALM}
    with pytest.raises(
        RecipeMismatchError, match=f"other {'held-out ' if what != 'training' else ''}pairs: rows or files"
    ):
        train(fresh("text-test"), pairs, (first, replace(second, steps=9)), folder / "two", **options)
    assert (folder / "two" / "recipe.json").read_bytes() == before


def test_a_run_that_failed_before_its_first_step_leaves_a_usable_folder(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the first batch fails")

    from zoo.training.run import Run

    monkeypatch.setattr(Run, "advance", broken)
    with pytest.raises(RuntimeError):
        go(quick(steps=1), tmp_path, held_out=OTHERS)
    monkeypatch.undo()
    (tmp_path / "skipped.jsonl").write_text('{"pair": "of the first", "reason": "x"}\n')
    go(quick(steps=2, lr=1e-4), tmp_path)  # another recipe, no --resume
    assert run_facts(tmp_path)["stages"][0]["lr"] == 1e-4
    assert not (tmp_path / "skipped.jsonl").exists()
    assert "before" not in json.loads((tmp_path / "scores.json").read_text())


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path):
    with held(tmp_path), pytest.raises(RecipeMismatchError, match="another process trains in"):
        go(quick(steps=1), tmp_path)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- from the command line


@pytest.fixture
def table(tmp_path, monkeypatch) -> Path:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "my pairs.csv"
    path.write_text("query,positive\n" + "".join(f"what is it {i},it is {i}\n" for i in range(40)))
    monkeypatch.chdir(tmp_path)
    without_plots(monkeypatch)
    return path


BEGIN = ["train", "data/my pairs.csv", "--model", "text-test", "--from-scratch", "--lr", "1e-3", "--batch-size", "8"]
BEGIN += ["--log", "none", "--out", "runs/x", "--checkpoint-every", "1"]


def test_resume_alone_is_enough(table, tmp_path, monkeypatch, capsys):
    from zoo.training.run import Run

    advance = Run.advance

    def stopped(self, batch):
        if self.step == 2:
            raise KeyboardInterrupt
        return advance(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stopped)
        assert main([*BEGIN, "--steps", "4"]) == 130
    assert "go on with: zoo train --resume runs/x" in capsys.readouterr().err
    monkeypatch.chdir("/")  # anywhere: the data are found from where the run began
    assert main(["train", "--resume", str(tmp_path / "runs" / "x")]) == 0
    assert Path.cwd() == Path("/")
    assert steps_in(tmp_path / "runs" / "x") == [4]
    card = (tmp_path / "runs" / "x" / "README.md").read_text()
    command = "zoo train 'my pairs.csv'"
    assert f"Made by `{command}" in card.replace("'data/my pairs.csv'", "'my pairs.csv'")
    assert "--resume" not in card
    assert str(tmp_path) not in card

    # Finished: said at once; lengthened: done, and noted.
    monkeypatch.chdir(tmp_path)
    for words in (["--resume", "runs/x"], ["--out", "runs/x", "--resume"], [*BEGIN[1:], "--steps", "4", "--resume"]):
        assert main(["train", *words]) == 0
        assert "runs/x: finished already; open the model with" in capsys.readouterr().out
    assert main(["train", "--out", "runs/x", "--epochs", "1.5", "--resume"]) == 0
    assert steps_in(tmp_path / "runs" / "x") == [6]  # 36 pairs by 8: 4 steps an epoch
    assert "&& zoo train --out runs/x --epochs 1.5 --resume" in (tmp_path / "runs" / "x" / "README.md").read_text()

    # Refused by name.
    for more, said in (
        (["--lr", "3"], "other lr"),
        (["--recipe", "lora"], "other "),
        (["--steps", "2"], "cannot be shortened to 2"),
    ):
        assert main(["train", "--resume", "runs/x", *more]) == 2
        assert said in capsys.readouterr().err
    table.rename(table.with_name("moved.csv"))
    assert main(["train", "--resume", "runs/x", "--steps", "9"]) == 2
    said = capsys.readouterr().err
    assert "my pairs.csv does not exist" in said
    assert "began in" in said
    assert "where its data have moved, name them" in said
    assert main(["train", "data/moved.csv", "--resume", "--out", "runs/x", "--steps", "7"]) == 0


def test_what_there_is_not_to_go_on_with(table, capsys):
    for words, said in (
        (["--resume", "--out", "runs/new"], "runs/new holds no run to go on with: name the pairs to begin one"),
        (["--resume"], "--out is needed"),
        (["--resume", "runs/new"], "runs/new holds no run to go on with: to begin one name the pairs"),
        (["--finish", "--out", "runs/new"], "holds no run to go on with"),
    ):
        assert main(["train", *words]) == 2
        assert said in capsys.readouterr().err


def test_a_run_begun_in_python_needs_its_pairs(done, capsys):
    assert main(["train", "--resume", str(done[0] / "two"), "--steps", "30"]) == 2
    assert "the run was begun in Python, so its pairs must be named again" in capsys.readouterr().err


def test_a_folder_with_a_run_is_refused_before_anything_is_read(done, capsys):
    assert main(["train", "nowhere.csv", "--out", str(done[0] / "two")]) == 2
    said = capsys.readouterr()
    assert "already holds a run; pass resume=True (--resume) or another folder" in said.err
    assert said.out == ""


def test_finishing_needs_the_folder_alone(table, tmp_path, monkeypatch):
    from zoo.training.run import Run

    advance = Run.advance

    def stopped(self, batch):
        if self.step == 2:
            raise KeyboardInterrupt
        return advance(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stopped)
        assert main([*BEGIN, "--steps", "4"]) == 130
    remove(tmp_path / "runs" / "x" / "metrics.jsonl")
    assert main(["train", "--finish", "--out", "runs/x"]) == 0
    assert load_model(tmp_path / "runs" / "x").encode(["it is 3"]).shape == (1, 32)
    with pytest.raises(RecipeMismatchError, match="holds a run on other pairs"):
        finish(fresh("text-test"), text_pairs(12), tmp_path / "runs" / "x", report=False)
