"""`zoo embed --watch`: files that come, change and go while it looks; what may pass; one watcher; Ctrl-C."""

import json
import shutil

import pytest
import torch

import zoo
from zoo import loading
from zoo.bulk import embed_dataset, watching
from zoo.bulk.watching import look, watch
from zoo.cli import main
from zoo.errors import DiskFullError, FolderError
from zoo.index import iter_tables
from zoo.shards.folder import ShardFolder


@pytest.fixture
def here(tmp_path):
    """Three text files, a model, and where the vectors go."""
    torch.manual_seed(0)
    zoo.build_model("text-test").save_pretrained(tmp_path / "model")
    (tmp_path / "texts").mkdir()
    for name in "abc":
        (tmp_path / "texts" / f"{name}.txt").write_text(f"the text {name}")
    return tmp_path


class Steps:
    """In place of sleeping: each sleep is one step of what happens meanwhile; after the last one comes Ctrl-C."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def __call__(self, seconds):
        if not self.steps:
            raise KeyboardInterrupt
        if (step := self.steps.pop(0)) is not None:
            step()


def watched(here, *steps, embed=None):
    """(what each run did, what was said) of a watch during which the steps happen."""
    reports, said = [], []

    def run():
        return embed_dataset(
            str(here / "model"), here / "texts", here / "out", kind="text", update=True, progress=False
        )

    with pytest.raises(KeyboardInterrupt):
        watch(
            embed or run,
            here / "texts",
            here / "out",
            every=1,
            say=said.append,
            told=reports.append,
            wait=Steps(*steps),
        )
    return reports, said


def texts_in(folder):
    return {one for table in iter_tables(folder, ["id"]) for one in table.column("id").to_pylist()}


def test_what_comes_changes_and_goes_is_followed_with_one_model(here, monkeypatch):
    loads, load = [], loading.load_model
    monkeypatch.setattr(loading, "load_model", lambda *a, **o: loads.append(a) or load(*a, **o))
    texts = here / "texts"
    reports, said = watched(
        here,
        None,
        lambda: (texts / "d.txt").write_text("the text d"),
        None,  # at rest: it is embedded
        lambda: (texts / "a.txt").write_text("quite another text"),
        lambda: (texts / "b.txt").unlink(),  # not at rest yet
        None,
        None,
        lambda: shutil.move(texts / "c.txt", texts / "moved.txt"),
        None,
    )
    assert [(one.added, one.changed, one.moved, one.removed, one.vectors) for one in reports] == [
        (3, 0, 0, 0, 3),
        (1, 0, 0, 0, 4),
        (0, 1, 0, 1, 3),
        (0, 0, 1, 0, 3),
    ]
    assert said == []
    assert texts_in(here / "out") == {"a.txt", "d.txt", "moved.txt"}
    assert len(loads) == 1
    assert json.loads((here / "out" / "manifest.json").read_text())["model"] == str(here / "model")
    assert look(texts) != look(here)


def test_a_source_that_is_away_removes_nothing_and_comes_back(here):
    reports, said = watched(
        here,
        lambda: (here / "texts").rename(here / "away"),
        None,
        None,
        lambda: (here / "away").rename(here / "texts"),
        None,
        lambda: (here / "texts" / "d.txt").write_text("the text d"),
        None,
    )
    assert [one.vectors for one in reports] == [3, 3, 4]
    (problem,) = said
    assert "texts" in problem
    assert problem.endswith("watching goes on")


def test_while_another_process_writes_it_waits_and_says_so_once(here):
    held = ShardFolder(here / "out").locked()
    reports, said = watched(
        here,
        held.__enter__,
        lambda: (here / "texts" / "d.txt").write_text("the text d"),
        None,
        None,
        lambda: held.__exit__(None, None, None),
        None,
    )
    assert [one.vectors for one in reports] == [3, 4]
    assert [line.partition(" is writing")[0] for line in said] == ["another process"]


def test_what_does_not_pass_ends_it_and_a_second_watcher_is_refused(here):
    def full():
        raise DiskFullError("no space left")

    def second():
        with pytest.raises(FolderError, match="another process watches"):
            watch(lambda: None, here / "texts", here / "out", every=1, say=print, told=lambda _: None)

    reports, _ = watched(here, second)  # which begins while that one waits
    assert len(reports) == 1
    with ShardFolder(here / "out").locked():  # nothing is held any more
        pass
    done = []

    def embed():
        done.append(1)
        return full() if len(done) > 1 else None

    def change():
        (here / "texts" / "e.txt").write_text("e")

    with pytest.raises(DiskFullError):
        watch(
            embed, here / "texts", here / "out", every=1, say=print, told=lambda _: None, wait=Steps(change, None, None)
        )


def test_the_command(here, monkeypatch, capsys):
    wait = Steps(lambda: (here / "texts" / "d.txt").write_text("the text d"), None)
    real = watching.watch
    monkeypatch.setattr(watching, "watch", lambda *a, **o: real(*a, **o, wait=wait))
    command = ["embed", str(here / "texts"), "--out", str(here / "out"), "--model", str(here / "model")]
    command += ["--kind", "text", "--quiet", "--watch"]
    assert main(command) == 130
    captured = capsys.readouterr()
    assert captured.out.count("next: zoo search") == 2
    assert "4 inputs are saved" in captured.err
    assert main([*command, "--undelete"]) == 2
    assert "--undelete is of one run" in capsys.readouterr().err
    assert main(["embed", "hf:org/name", *command[2:]]) == 2
    assert "no folder or file of this machine" in capsys.readouterr().err
