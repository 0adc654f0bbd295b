"""Model cards: every spec has one whose facts are the spec's, and what people wrote into it is kept."""

from dataclasses import replace
from pathlib import Path

import pytest

import zoo
from zoo import cards

FOLDER = cards.ROOT / "model_cards"
SPECS = [zoo.get_spec(name) for name in zoo.list_models()]
OURS = [spec for spec in SPECS if not spec.packaged]
TEMPLATE = (FOLDER / "_template.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.name)
def test_facts_equal_the_spec(spec):
    card = (FOLDER / f"{spec.name}.md").read_text(encoding="utf-8")
    facts = cards.read_facts(card)
    assert facts == cards.fact_rows(spec)
    assert facts["dim"] == str(spec.dim)
    assert facts["licence"] == spec.license
    assert card.startswith(cards.front_matter(spec) + "\n")


@pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.name)
def test_front_matter_is_what_the_hub_reads(spec):
    yaml = pytest.importorskip("yaml")
    facts = yaml.safe_load(cards.front_matter(spec).strip("-\n"))
    assert facts["library_name"] == "embedding-zoo"
    assert facts["pipeline_tag"] in {
        "feature-extraction",
        "image-feature-extraction",
        "sentence-similarity",
        "zero-shot-image-classification",
        "any-to-any",
    }
    assert facts.get("base_model") == (spec.base or spec.hub_id or None)
    if facts["license"] == "other":
        assert facts["license_name"] == spec.license.removeprefix("other: ")
        assert facts["license_link"].startswith("https://")
    else:
        assert facts["license"] == spec.license


@pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.name)
def test_notes_are_written(spec):
    notes = cards.NOTES.search((FOLDER / f"{spec.name}.md").read_text(encoding="utf-8"))
    assert notes is not None
    assert notes.group() != cards.NOTES.search(TEMPLATE).group(), "the card still has the template's notes"
    if spec.hub_id:
        for heading in ("## Data and training", "## Limits and licence", "## Checked facts"):
            assert heading in notes.group()
    if "## Published numbers" in notes.group():
        assert "Not run by us" in notes.group()
        assert "Source:" in notes.group()


def test_nothing_is_stale_and_nothing_is_orphaned(capsys):
    assert cards.main(["--check"]) == 0, capsys.readouterr().out


def test_a_changed_fact_makes_the_card_stale_and_keeps_the_notes(tmp_path):
    spec = zoo.get_spec("text-test")
    (tmp_path / "_template.md").write_text(TEMPLATE, encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text("# x\n<!-- models:start -->\nold\n<!-- models:end -->\ny\n", encoding="utf-8")
    first = cards.outdated(tmp_path, readme, [spec])
    assert set(first) == {tmp_path / "text-test.md", readme}
    written = first[tmp_path / "text-test.md"]
    start, end = cards.NOTES.search(written).span()
    edited = written[:start] + "<!-- notes:start -->\nby hand: $5 \\1 {x}\n<!-- notes:end -->" + written[end:]
    (tmp_path / "text-test.md").write_text(edited, encoding="utf-8")
    readme.write_text(first[readme], encoding="utf-8")
    assert cards.outdated(tmp_path, readme, [spec]) == {}

    changed = replace(spec, dim=31, license="mit")
    again = cards.outdated(tmp_path, readme, [changed])
    assert set(again) == {tmp_path / "text-test.md"}
    card = again[tmp_path / "text-test.md"]
    assert cards.read_facts(card)["dim"] == "31"
    assert "by hand: $5 \\1 {x}" in card
    assert cards.read_facts(edited)["dim"] == "32"


def test_the_readme_table_lists_real_models_only():
    table = cards.readme_table(SPECS)
    rows = table.splitlines()[2:]
    listed = [row.split("](")[0].removeprefix("| [") for row in rows]
    assert sorted(listed) == sorted(s.name for s in SPECS if s.hub_id or s.packaged)
    assert not any(name.endswith("-test") for name in listed)


def test_an_orphan_is_reported(tmp_path, capsys):
    (tmp_path / "_template.md").write_text(TEMPLATE, encoding="utf-8")
    (tmp_path / "gone.md").write_text("x", encoding="utf-8")
    assert cards.main(["--folder", str(tmp_path), "--readme", str(tmp_path / "none.md"), "--check"]) == 1
    assert "gone.md: no model of that name" in capsys.readouterr().out
    assert not list(tmp_path.glob("clip*.md")), "--check writes nothing"


def test_a_folder_without_template_is_refused(tmp_path, capsys):
    assert cards.main(["--folder", str(tmp_path)]) == 2
    assert "_template.md" in capsys.readouterr().err
    assert not list(Path(tmp_path).iterdir())


def test_a_card_without_markers_is_refused():
    with pytest.raises(ValueError, match="facts:start"):
        cards.read_facts("# a card\n")
