"""All commands: what is cheap to know is reported before a model is opened or anything written, and pipes get all of it."""

import os
import re
from pathlib import Path

import pytest
import torch

import zoo
import zoo.cli
from tests.bulk.bulk_support import make_images, make_table
from zoo.bulk import embed_dataset
from zoo.cli import main

COMMANDS = {path.stem for path in Path(zoo.cli.__file__).parent.glob("[!_]*.py")}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with photos/, t.csv, pairs.csv, a file, a folder that is not empty, vectors of texts and a saved model."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("here")
    make_images(folder / "photos", 4)
    make_table(folder / "t.csv", 12)
    (folder / "pairs.csv").write_text("query,positive\n" + "".join(f"query {i},text {i}\n" for i in range(12)))
    (folder / "file").write_text("a file")
    (folder / "full").mkdir()
    (folder / "full" / "x").write_text("x")
    model = zoo.build_model("text-test").save_pretrained(folder / "model")
    embed_dataset(str(model), folder / "t.csv", folder / "vectors", progress=False)
    return folder


# command line → what is said; all of them are run in `here`. Each command has one for a name that is none, or no model at all.
REFUSED = {
    "bench no-such": "no model is called 'no-such'",
    "bench model --images gone": "gone: it does not exist",
    "bench model --texts gone.txt": "gone.txt",
    "bench model --json no/x.json": "there is no folder",
    "card no-such": "no model is called 'no-such'",
    "card zoo-mini --write no/card.md": "no/card.md",
    "card zoo-mini --write file": "File exists",
    "calibrate no-such --pairs pairs.csv": "no model is called 'no-such'",
    "calibrate zoo-mini --pairs gone.csv": "gone.csv does not exist",
    "calibrate zoo-mini --pairs pairs.csv --write": "zoo-mini",
    "quantize no-such --calibrate photos --measure pairs.csv --out q": "no model is called 'no-such'",
    "quantize model --calibrate photos --measure gone.csv --out q": "gone.csv does not exist",
    "quantize model --calibrate gone --measure pairs.csv --out q": "gone does not exist",
    "quantize model --calibrate t.csv --measure pairs.csv --out full": "is not empty",
    "classify gone --labels a,b": "gone does not exist",
    "classify photos --labels a,b --model no-such": "no model is called 'no-such'",
    "classify photos --labels a,b --csv no/x.csv": "there is no folder",
    "classify photos --labels a,b --html full": "it is a folder",
    "cluster gone": "gone does not exist",
    "cluster photos --model no-such": "no model is called 'no-such'",
    "cluster photos --csv file/x.csv": "there is no folder",
    "dedupe gone": "gone does not exist",
    "dedupe photos --model no-such": "no model is called 'no-such'",
    "dedupe photos --html no/x.html": "there is no folder",
    "compare no-such --data pairs.csv": "no model is called 'no-such'",
    "compare zoo-mini --data gone.csv": "gone.csv does not exist",
    "compare zoo-mini --data pairs.csv --html no/x.html": "there is no folder",
    "compare zoo-mini --data pairs.csv --out file": "a folder is written",
    "compare zoo-mini --data pairs.csv --budget fast": "'fast' is no entry of a budget",
    "demo no-such": "no model is called 'no-such'",
    "demo zoo-mini --photos gone": "gone",
    "embed gone --out out": "gone does not exist",
    "embed photos --out out --model no-such": "no model is called 'no-such'",
    "embed photos --out file": "file is a file; --out takes a folder",
    "embed photos --out file/out": "cannot write into file/out",
    "embed photos --out out --column x": "takes no column",
    "encode a --model no-such": "no model is called 'no-such'",
    "encode --image gone.jpg": "gone.jpg does not exist",
    "encode a --out no/x.npy": "there is no folder",
    "encode a --out x.json": "ends in .npy",
    "eval no-such --pairs pairs.csv": "no model is called 'no-such'",
    "eval zoo-mini --pairs gone.csv": "gone.csv does not exist",
    "eval zoo-mini --data gone.csv": "gone.csv does not exist",
    "eval zoo-mini --data pairs.csv --out no/x.json": "there is no folder",
    "eval zoo-mini --pairs pairs.csv --out no/x.json": "there is no folder",
    "inspect no-such": "no model is called 'no-such'",
    "inspect zoo-mini --data gone.csv": "gone.csv does not exist",
    "inspect zoo-mini --data pairs.csv --html no/x.html": "there is no folder",
    "inspect zoo-mini --split val": "--data",
    "export gone --to npy --out out": "gone holds no vectors",
    "export vectors --to npy --out full": "is there already, and nothing is written over it",
    "export vectors --to npy --out no/x": "there is no folder",
    "index delete gone --ids a": "gone holds no vectors",
    "index delete vectors": "say what to delete",
    "index delete vectors --where labl=1": "labl",
    "index compact vectors --ids a": "--ids is of zoo index delete",
    "merge no-such model --out out": "no model is called 'no-such'",
    "merge ./gone model --out out": "gone",
    "merge model zoo-mini --out full": "--out full is there already",
    "merge model zoo-mini --out file/x": "cannot write into file/x",
    "mine gone.csv --teacher zoo-mini --out x.jsonl": "gone.csv does not exist",
    "mine pairs.csv --teacher no-such --out x.jsonl": "no model is called 'no-such'",
    "mine pairs.csv --teacher zoo-mini --out file/x.jsonl": "file cannot be written into",
    "mine pairs.csv --teacher zoo-mini --out full.exe": "full.exe",
    "publish no-such --to me/x --dry-run": "no model is called 'no-such'",
    "publish model --to me/x --dry-run --keep full": "--keep full is not empty",
    "publish model --to me/x --dry-run --keep file": "file is a file",
    "rerank no-such query photos": "no reranker is called 'no-such'",
    "rerank qwen3vl-reranker-2b query gone.txt": "gone.txt",
    "rerank qwen3vl-reranker-2b --data gone.csv": "gone.csv",
    "search gone a": "gone holds no vectors",
    "search vectors a --model no-such": "no model is called 'no-such'",
    "search vectors a --where labl=1": "labl",
    "search vectors a --html no/x.html": "there is no folder",
    "search vectors --image gone.jpg": "gone.jpg does not exist",
    "serve no-such": "no model is called 'no-such'",
    "show no-such": "no model is called 'no-such'",
    "train gone.csv --out out": "gone.csv does not exist",
    "train pairs.csv --out out --model no-such": "no model is called 'no-such'",
    "train pairs.csv --out file": "file is a file; --out takes a folder",
    "verify no-such": "no model is called 'no-such'",
    "verify zoo-mini --loaders no-such": "--loaders 'no-such'",
}


def test_every_command_is_walked():
    assert {line.split()[0] for line in REFUSED} | {"list"} == COMMANDS


@pytest.mark.parametrize("line", REFUSED)
def test_cheap_checks_come_before_costly_steps(line, here, monkeypatch, capsys):
    def load(*_, **__):
        raise AssertionError("a model is opened before the cheap checks")

    # First what holds a name of its own: imported later, it would hold the replacement, for all tests that follow.
    monkeypatch.setattr("zoo.training.command.build_model", load)
    monkeypatch.setattr("zoo.loading.open_model", load)
    monkeypatch.setattr("zoo.registry.build_model", load)
    monkeypatch.chdir(here)
    before = sorted(path.relative_to(here) for path in here.rglob("*"))
    status = main(line.split())
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, ""), captured.err
    assert re.search(rf"^error: .*{re.escape(REFUSED[line])}", captured.err, re.MULTILINE), captured.err
    assert "Traceback" not in captured.err
    assert sorted(path.relative_to(here) for path in here.rglob("*")) == before, "nothing is written"


@pytest.mark.parametrize(
    "line",
    [
        "classify photos --labels a,b --csv shut/x.csv",
        "embed photos --out shut/x",
        "encode a --out shut/x.npy",
        "eval zoo-mini --pairs pairs.csv --out shut/x.json",
        "export vectors --to npy --out shut/x",
        "merge model zoo-mini --out shut/x",
        "search vectors a --html shut/x.html",
        "train pairs.csv --out shut/x",
    ],
)
def test_a_folder_without_permission_is_named_before_a_model_is_opened(line, here, monkeypatch, capsys):
    """The tests may run as root, who may write everywhere: the system's answer is a fake."""
    (here / "shut").mkdir(exist_ok=True)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "shut" and access(path, mode))
    monkeypatch.setattr("zoo.loading.open_model", lambda *_, **__: pytest.fail("a model is opened"))
    monkeypatch.chdir(here)
    assert main(line.split()) == 2
    assert "no permission to write into" in capsys.readouterr().err
    assert not list((here / "shut").iterdir())


PIPED = (
    "list",
    "show zoo-mini",
    "card zoo-mini",
    "encode a --model ./model",
    "search vectors text --k 3",
    "dedupe vectors --threshold 0.5",
    "cluster vectors --no-words --k 3",
    "classify vectors --labels one,two --model ./model",
    "train --list",
)


@pytest.mark.parametrize("line", PIPED)
def test_what_a_pipe_gets_is_plain_and_complete(line, here, monkeypatch, capsys):
    monkeypatch.chdir(here)
    monkeypatch.setenv("COLUMNS", "40")
    main(line.split())
    out = capsys.readouterr().out
    assert out.strip()
    assert "\x1b" not in out
    assert not re.search(r"\S…$|…/", out, re.MULTILINE), out
    monkeypatch.setenv("COLUMNS", "200")
    main(line.split())
    assert capsys.readouterr().out == out, "no pipe is as narrow as a terminal"
