"""`zoo inspect` as people type it."""

import json
from pathlib import Path

import pytest

import zoo
from tests.publishing.card_support import TEMPLATE
from zoo.cli import main
from zoo.evaluation.inspecting import Inspection, read_inspection
from zoo.publishing import cards


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.build_model("text-test").save_pretrained(tmp_path_factory.mktemp("inspect") / "model")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "empty"))
    path = tmp_path / "pairs.csv"
    colours, things = ["red", "blue", "green", "small", "large", "old"], ["cat", "dog", "car", "boat"]
    rows = [f"a {colour} {thing},the {thing} is {colour}" for colour in colours for thing in things]
    path.write_text("\n".join(["query,positive", *rows]), encoding="utf-8")
    return path


def test_own_data_gives_json_a_page_and_a_card(saved: Path, table: Path, tmp_path: Path, capsys):
    page, readme = tmp_path / "page.html", saved / "README.md"
    readme.write_text("---\nlicense: mit\n---\n# mine\n", encoding="utf-8")
    assert main(["inspect", str(saved), "--data", f"mine={table}", "--html", str(page), "--json"]) == 0
    printed = capsys.readouterr()
    found = Inspection.from_dict(json.loads(printed.out))
    assert f"written: {page}" in printed.err
    assert {figure.source for figure in found.figures} == {"zoo inspect ./model --data mine=pairs.csv"}
    assert str(tmp_path) not in printed.out, "a folder of this machine"
    assert found.value("recall@1", part="unchanged", dataset="mine") > 0
    assert "<svg" in page.read_text("utf-8")

    assert main(["inspect", str(saved), "--data", f"mine={table}"]) == 0
    printed = capsys.readouterr()
    assert "typos, one" in printed.out
    assert "not measured: JPEG, rotation, crop: text-test does not read images" in printed.err


def test_without_packs_the_demo_stands_in_and_a_card_is_written(saved: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "nowhere"))
    (saved / "README.md").write_text("---\nlicense: mit\n---\n# mine\n", encoding="utf-8")
    assert main(["inspect", str(saved), "--card"]) == 0
    assert "the demo's images and recordings are taken in their place" in capsys.readouterr().err
    kept = read_inspection(saved / "inspection.json")
    assert kept is not None
    assert "demo images" in {figure.dataset for figure in kept.figures}
    assert kept.left_out["demo images, image"] == "text-test does not read images"
    assert "## What it is like" in (saved / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--split", "val"], "--split"),
        (["--card", "--data", "pack:photos"], "leave --data out"),
        (["--html", "/nowhere/at/all.html"], "cannot write"),
    ],
)
def test_options_that_say_nothing_are_refused_before_any_work(saved: Path, options: list[str], said: str, capsys):
    assert main(["inspect", str(saved), *options]) == 2
    assert said in capsys.readouterr().err


def test_cards_are_set_from_what_is_kept(tmp_path: Path, capsys):
    (tmp_path / "_template.md").write_text(TEMPLATE, encoding="utf-8")
    spec, readme = zoo.get_spec("text-test"), tmp_path / "none.md"
    kept = tmp_path / "inspected" / "text-test.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps(Inspection("text-test", ("text",), 32, ()).to_dict()), encoding="utf-8")
    (text,) = cards.outdated(tmp_path, readme, [spec]).values()
    assert "## What it is like" in cards.find(text, "inspected")
    assert cards.check(text) == []
    (kept.parent / "gone.json").write_text("{}", encoding="utf-8")
    assert cards.main(["--folder", str(tmp_path), "--table", str(readme), "--check"]) == 1
    assert "gone.json: no model of that name" in capsys.readouterr().out


def test_every_packaged_model_has_its_block():
    for name in zoo.list_models():
        if zoo.get_spec(name).packaged:
            block = cards.find((cards.CARDS / f"{name}.md").read_text("utf-8"), "inspected")
            assert block is not None, name
            assert f"`zoo inspect {name}`" in block
