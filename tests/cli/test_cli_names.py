"""NAME on the command line: every command takes a registered name, a folder by its plain name, ./FOLDER and hf: alike."""

import json

import pytest

import zoo
from zoo.cli import build_parser, main
from zoo.cli._shared import source, spelled

# Of every command that opens a model: what stands before the name, and what is said once it has been found.
COMMANDS = {
    "show": (["show", "NAME"], 0, "text-test"),
    "card": (["card", "NAME", "--raw"], 0, "a card"),
    "encode": (["encode", "a cat", "--model", "NAME", "--json"], 0, "text-test"),
    "embed": (["embed", "texts.txt", "--out", "out", "--model", "NAME"], 0, ""),
    "eval": (["eval", "NAME", "--tasks", "nothing-is-called-so"], 2, "nothing-is-called-so"),
    "compare": (["compare", "NAME", "--data", "pairs.csv", "--no-speed"], 0, "mymodel: "),
    "bench": (
        ["bench", "NAME", "--count", "2", "--rounds", "1", "--backend", "torch", "--beside", "none"],
        0,
        "text-test",
    ),
    "inspect": (["inspect", "NAME", "--data", "pairs.csv"], 0, "text-test"),
    "mine": (["mine", "pairs.csv", "--teacher", "NAME", "--out", "mined.jsonl", "--quiet"], None, "mined"),
    "merge": (["merge", "NAME", "./NAME", "--out", "merged"], 0, ""),
    "train": (["train", "pairs.csv", "--model", "NAME", "--dry-run"], 0, "mymodel: 20 pairs"),
    "verify": (["verify", "NAME", "--quick", "--loaders", "zoo"], 1, "NO CERTIFICATE: there is no certificate"),
    "publish": (["publish", "NAME", "--to", "me/mine", "--dry-run"], 0, ""),
    "quantize": (
        ["quantize", "NAME", "--calibrate", "texts.txt", "--measure", "pairs.csv", "--out", "small"],
        2,
        "at least 8 real inputs of a tower",
    ),
    "calibrate": (["calibrate", "NAME", "--pairs", "pairs.csv"], 2, "a calibration needs 30"),
    "classify": (["classify", "texts.txt", "--labels", "a cat,a dog", "--model", "NAME"], 0, "a cat "),
    "cluster": (["cluster", "texts.txt", "--k", "2", "--model", "NAME"], 0, "text"),
    "dedupe": (["dedupe", "texts.txt", "--model", "NAME"], 0, "groups: of 2 items"),
}
LONGER = {"eval", "compare", "bench", "inspect", "merge", "train", "publish", "verify", "mine", "calibrate", "quantize"}
NO_MODEL = {"list", "export", "index", "rerank"}
LONG_RUNNING = {"demo", "serve", "search"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    folder = zoo.build_model("text-test").save_pretrained(place / "mymodel")
    (folder / "README.md").write_text("a card\n")
    (place / "texts.txt").write_text("a cat\na dog\n")
    rows = "\n".join(f"query {i},text {i} of a long answer" for i in range(20))
    (place / "pairs.csv").write_text(f"query,positive\n{rows}\n")
    return place


def test_every_command_is_in_one_of_the_lists():
    commands = {name for action in build_parser()._actions for name in getattr(action, "choices", None) or ()}
    assert commands == {*COMMANDS, *NO_MODEL, *LONG_RUNNING}


@pytest.mark.parametrize("command", sorted({*COMMANDS} - LONGER))
def test_a_folders_plain_name_is_found(saved, monkeypatch, capsys, command):
    arguments, expected, said = COMMANDS[command]
    monkeypatch.chdir(saved)
    status = main([part.replace("NAME", "mymodel") for part in arguments])
    out, err = capsys.readouterr()
    assert status == expected, err
    assert said in out + err
    assert "no model is called" not in err


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(LONGER))
def test_a_folders_plain_name_is_found_by_those_that_work_longer(saved, monkeypatch, capsys, command):
    arguments, expected, said = COMMANDS[command]
    monkeypatch.chdir(saved)
    status = main([part.replace("NAME", "mymodel") for part in arguments])
    out, err = capsys.readouterr()
    assert expected is None or status == expected, err
    assert said in out + err
    assert "no model is called" not in err


def test_search_and_what_serves_pages_find_it_too(saved, monkeypatch, capsys):
    monkeypatch.chdir(saved)
    assert main(["embed", "texts.txt", "--out", "found", "--model", "mymodel", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["search", "found", "a cat", "--model", "mymodel", "-k", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["attributes"]["text"] == "a cat"
    started = []
    monkeypatch.setattr("zoo.demos.launch", lambda name, *_, **__: started.append(zoo.load_model(name).spec.name))
    monkeypatch.setattr("zoo.serving.run_server", lambda app, **options: started.append(options["ready"].split()[0]))
    assert main(["demo", "mymodel"]) == 0
    assert main(["serve", "mymodel", "--device", "cpu"]) == 0
    assert started == ["text-test", "text-test"]


def test_show_tells_how_a_folder_is_opened_and_names_still_come_first(saved, monkeypatch, capsys):
    monkeypatch.chdir(saved)
    assert main(["show", "mymodel", "--json"]) == 0
    assert zoo.ModelSpec.from_dict(json.loads(capsys.readouterr().out)) == zoo.load_model("./mymodel").spec
    assert main(["show", "mymodel"]) == 0
    shown = capsys.readouterr().out
    assert 'zoo.load_model("./mymodel")' in shown
    assert "--model mymodel" in shown
    assert main(["show", "no-such-model"]) == 2
    assert "no model is called 'no-such-model'" in capsys.readouterr().err
    (saved / "zoo-mini").mkdir(exist_ok=True)
    assert main(["show", "zoo-mini"]) == 0
    assert "inside the package" in capsys.readouterr().out
    assert main(["card", "zoo-mini", "--raw"]) == 0
    assert "# zoo-mini" in capsys.readouterr().out


def test_one_function_says_what_a_name_means(saved, monkeypatch):
    monkeypatch.chdir(saved)
    assert source("mymodel").is_dir()
    assert source("zoo-mini") == "zoo-mini"
    assert [spelled(name) for name in ("mymodel", "./mymodel", "zoo-mini", "hf:a/b")] == [
        "./mymodel",
        "./mymodel",
        "zoo-mini",
        "hf:a/b",
    ]
    assert spelled(str(saved / "mymodel")) == str(saved / "mymodel")
