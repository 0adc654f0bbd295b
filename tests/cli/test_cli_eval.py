"""`zoo eval`: packs and mteb's tasks by name, remembered, one that fails never stops the others."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

import zoo
from zoo.cli import main
from zoo.evaluation.results import read_results

pytestmark = pytest.mark.skipif(find_spec("mteb") is None, reason="needs mteb (extra 'eval')")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval") / "model"
    return zoo.build_model("mini-test").save_pretrained(folder)


def test_a_pack_is_measured_once_and_a_task_without_data_stops_nothing(saved: Path, pack, tmp_path: Path, capsys):
    pack("emoji")
    out = tmp_path / "results.json"
    command = ["eval", str(saved), "--tasks", "NanoArguAnaRetrieval,emoji", "--split", "val", "--out", str(out)]
    command += ["--cache", str(tmp_path / "cache")]
    assert main([*command]) == 2, "one of two gave no result"
    said = capsys.readouterr().err
    assert "NanoArguAnaRetrieval" in said
    assert "1 of 2 tasks gave no result" in said
    results = read_results(out)
    assert {result.dataset for result in results} == {"emoji"}
    assert {result.split for result in results} == {"val"}
    assert all(result.ours and result.date and 0 <= result.value <= 1 for result in results)
    assert all(str(tmp_path) not in json.dumps(result.source) for result in results), "a folder of this machine"

    assert main(["eval", str(saved), "--tasks", "emoji", "--split", "val", "--cache", str(tmp_path / "cache")]) == 0
    assert "measured on" in capsys.readouterr().err, "remembered from the first time"

    for file in (tmp_path / "cache").rglob("*.json"):
        file.write_text("{")
    out.unlink()
    assert main([*command[:2], "--tasks", "emoji", *command[4:]]) == 0, "a damaged note is measured anew"
    assert read_results(out)


def test_unknown_tasks_name_the_nearest(saved: Path, capsys):
    assert main(["eval", str(saved), "--tasks", "NanoArguAna"]) == 2
    assert "NanoArguAnaRetrieval" in capsys.readouterr().err
    assert main(["eval", str(saved)]) == 2
    assert "--tasks" in capsys.readouterr().err


def test_the_list_holds_packs_tasks_and_benchmarks(capsys):
    assert main(["eval", "--list", "--json"]) == 0
    names = {one["name"] for one in json.loads(capsys.readouterr().out)}
    assert {"photos", "emoji", "symbols", "NanoArguAnaRetrieval"} <= names
    assert any(name.startswith("ViDoRe") for name in names)
    assert main(["eval", "--list", "ViDoRe*"]) == 0
    assert "ViDoRe" in capsys.readouterr().out
    assert main(["eval", "--list", "no-such-thing*"]) == 1
