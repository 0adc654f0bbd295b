"""Model cards: every spec has one that says what spec and results say, and what people wrote into it is kept."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import zoo
from tests.every import every
from tests.publishing.card_support import OURS, SPECS, TEMPLATE, THEIRS, card_of, each_spec, notes_block
from zoo.errors import InvalidCardError
from zoo.evaluation.blocks import read_yaml, split
from zoo.evaluation.cards import EARLIER, write_card
from zoo.evaluation.results import BEFORE, DIFFERENCE, Result, read_results, write_results
from zoo.publishing import cards
from zoo.publishing.cards.facts import HUB_ID, usage
from zoo.publishing.cards.metadata import model_index


class TestRegistered:
    @each_spec
    def test_facts_equal_the_spec(self, spec):
        card, results = card_of(spec), cards.measured(spec.name)
        facts = cards.read_facts(card)
        assert facts == cards.fact_rows(spec)
        assert facts["dim"] == str(spec.dim)
        assert facts["licence"] == spec.license
        assert card.startswith(cards.front_matter(spec, results=results) + "\n")

    @each_spec
    def test_the_hub_would_take_it(self, spec):
        card = card_of(spec)
        assert cards.check(card) == []
        facts, _ = split(card)
        assert facts["library_name"] == "embedding-zoo"
        base = spec.base or spec.hub_id
        assert facts.get("base_model") == (base if "/" in base else None)  # another of the package is none of the Hub's
        if facts["license"] == "other":
            assert facts["license_name"] == spec.license.removeprefix("other: ")
        else:
            assert facts["license"] == spec.license

    @each_spec
    def test_notes_are_written(self, spec):
        notes = notes_block(card_of(spec))
        assert notes != notes_block(TEMPLATE), "the card still has the template's notes"
        if spec.hub_id:
            for heading in ("## Data and training", "## Limits and licence", "## Checked facts"):
                assert heading in notes
        if "## Published numbers" in notes:
            assert "Not run by us" in notes
            assert "Source:" in notes

    @each_spec
    def test_figures_stand_in_the_card_with_their_source(self, spec):
        results = read_results(cards.CARDS / "results" / f"{spec.name}.json")
        block = cards.find(card_of(spec), "measured")
        assert (block is None) == (not results)
        for result in results:
            assert result.source, f"{result} names no source"
            assert result.source in block
            if not result.unit:  # ours to one decimal, the authors' as they print it
                shown = f"{100 * result.value:.1f}" if result.ours else f"{round(100 * result.value, 6):.10g}"
                assert shown in block

    def test_nothing_is_stale_and_nothing_is_orphaned(self, capsys):
        assert cards.main(["--check"]) == 0, capsys.readouterr().out

    def test_what_zoo_mini_v1_was_measured_to_do_is_all_there(self):
        """The figures that were written as text before they became data (commit 510bc95), measured again with intervals."""
        results = [result for result in cards.measured("zoo-mini-v1") if result.split == "test"]
        found = {(r.dataset, r.part, r.direction, r.metric): round(r.value, 3) for r in results}
        row = [43.2, 77.5, 86.7, 60.3, 84.1, 91.0]
        ways = [(way, k) for way in ("image → text", "text → image") for k in (1, 5, 10)]
        for value, (way, k) in zip(row, ways, strict=True):
            assert found["photos", "", way, f"recall@{k}"] == pytest.approx(value / 100)
        assert found["emoji", "fxemoji", "", "accuracy"] == 0.231
        assert found["symbols", "", "text → image", "recall@10"] == 0.318
        assert found["photos", "grocery, by shop description", "text → image", "recall@10"] == 0.802
        assert found["paraphrases", "first 48", "text → image", "precision by chance"] == 0.012
        assert found["paraphrases", "first 48", "text → image", "hit@1"] == 0.438
        shares = [r for r in results if r.metric != "precision by chance" and "combiner" not in r.part]
        assert all(r.low <= r.value <= r.high for r in shares), "each with its interval"
        queries = cards.find((cards.CARDS / "zoo-mini-v1.md").read_text(encoding="utf-8"), "queries")
        assert len([line for line in queries.splitlines() if line.endswith((" no |", " yes |"))]) == 200

    def test_the_card_of_zoo_mini_shows_both(self):
        measured = cards.find((cards.CARDS / "zoo-mini.md").read_text(encoding="utf-8"), "measured")
        before = {r.key: r for r in cards.measured("zoo-mini-v1")}
        both = [r for r in cards.measured("zoo-mini") if r.key in before]
        assert len(both) > 80
        assert "| of zoo-mini-v1 |" in measured
        assert all(f"{100 * before[r.key].value:.1f}" in measured for r in both if not r.unit)

    def test_a_changed_fact_or_figure_makes_the_card_stale_and_keeps_what_people_wrote(self, tmp_path):
        spec = zoo.get_spec("text-test")
        (tmp_path / "_template.md").write_text(TEMPLATE, encoding="utf-8")
        card, table = tmp_path / "text-test.md", tmp_path / "models.md"
        table.write_text("# x\n<!-- models:start -->\nold\n<!-- models:end -->\ny\n", encoding="utf-8")
        first = cards.outdated(tmp_path, table, [spec])
        assert set(first) == {card, table}
        assert notes_block(first[card]) == notes_block(TEMPLATE)
        by_hand = (
            first[card]
            .replace("## Data and training", "by hand: $5 \\1 {x}")
            .replace("tags:", "language: en\ntags:\n- mine")
        )
        card.write_text(by_hand, encoding="utf-8")
        table.write_text(first[table], encoding="utf-8")
        settled = cards.outdated(tmp_path, table, [spec])  # the keys are put in order, once
        card.write_text(settled.get(card, by_hand), encoding="utf-8")
        assert cards.outdated(tmp_path, table, [spec]) == {}

        write_results(tmp_path / "results" / "text-test.json", [OURS])
        again = cards.outdated(tmp_path, table, [replace(spec, dim=31, license="mit")])
        assert set(again) == {card}
        text = again[card]
        assert cards.read_facts(text)["dim"] == "31"
        assert "| 43.2 |" in cards.find(text, "measured")
        assert "by hand: $5 \\1 {x}" in text
        facts, _ = split(text)
        assert facts["language"] == "en"
        assert "mine" in facts["tags"]
        assert facts["license"] == "mit"
        assert cards.read_facts(by_hand)["dim"] == "32"

    def test_the_table_of_models_lists_real_models_only(self):
        rows = cards.models_table(SPECS).splitlines()[2:]
        listed = [row.split("](")[0].removeprefix("| [") for row in rows]
        assert sorted(listed) == sorted(s.name for s in SPECS if s.hub_id or s.packaged)
        assert not any(name.endswith("-test") for name in listed)

    def test_orphans_are_reported(self, tmp_path, capsys):
        (tmp_path / "_template.md").write_text(TEMPLATE, encoding="utf-8")
        (tmp_path / "gone.md").write_text("x", encoding="utf-8")
        write_results(tmp_path / "results" / "gone.json", [OURS])
        assert cards.main(["--folder", str(tmp_path), "--table", str(tmp_path / "none.md"), "--check"]) == 1
        out = capsys.readouterr().out
        assert "gone.md: no model of that name" in out
        assert "gone.json: no model of that name" in out
        assert not list(tmp_path.glob("clip*.md")), "--check writes nothing"

    def test_a_folder_without_template_is_refused(self, tmp_path, capsys):
        assert cards.main(["--folder", str(tmp_path)]) == 2
        assert "_template.md" in capsys.readouterr().err
        assert not list(Path(tmp_path).iterdir())

    def test_a_broken_results_file_is_named(self, tmp_path, capsys):
        (tmp_path / "_template.md").write_text(TEMPLATE, encoding="utf-8")
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / "clip-test.json").write_text('[{"dataset": "x"}]', encoding="utf-8")
        assert cards.main(["--folder", str(tmp_path), "--check"]) == 2
        assert "clip-test.json holds no results: a result: it lacks metric, task, value" in capsys.readouterr().err

    def test_a_card_without_markers_is_refused(self):
        with pytest.raises(ValueError, match="facts:start"):
            cards.read_facts("# a card\n")


class TestFigures:
    def test_every_file_holds_shares_that_are_shares(self):
        files = sorted((cards.CARDS / "results").glob("*.json"))
        assert len(files) > 20
        for file in files:
            for result in read_results(file):
                assert math.isfinite(result.value)
                assert result.unit or 0 <= result.value <= 1, result
                assert not HUB_ID.fullmatch(result.dataset) or result.ours

    def test_ours_and_the_authors_are_never_in_one_table(self):
        same = replace(OURS, ours=False, value=0.99, source="their page")  # the same thing, measured by others
        text = cards.figures([OURS, same, THEIRS])
        ours, theirs = text.split("## Published numbers")
        assert "43.2" in ours
        assert "99.0" not in ours
        assert "43.2" not in theirs
        assert "Not run by us: their page" in theirs
        assert "99.0" in theirs
        assert "Again with `zoo eval x`." in ours
        for spec in SPECS:  # and so in every card that there is
            results = cards.measured(spec.name)
            if any(not result.ours for result in results):
                assert cards.figures([r for r in results if r.ours]) in cards.find(card_of(spec), "measured")

    def test_two_sources_of_the_authors_are_two_tables(self):
        text = cards.figures([THEIRS, replace(THEIRS, metric="recall@5", source="another page")])
        assert text.count("| data |") == 2
        assert text.index("their page") < text.index("56.3") < text.index("another page")

    def test_ours_are_rounded_and_theirs_kept_as_printed(self):
        assert "| 43.2 |" in cards.figures([OURS])
        assert "| 62.62 |" in cards.figures([replace(THEIRS, value=0.6262)])
        assert "| 86.0 |" in cards.figures([replace(THEIRS, value=0.86)])

    def test_before_and_after_stand_side_by_side(self):
        one = replace(OURS, dataset="held-out pairs", low=0.4, high=0.5)
        text = cards.figures(
            [one, replace(one, part=DIFFERENCE, value=0.1, low=0.05, high=0.2), replace(one, part=BEFORE, value=0.3321)]
        )
        assert "| direction | metric | before training | after training | difference |" in text
        row = "| image → text | recall@1 | 33.2 (40.0 to 50.0) | 43.2 (40.0 to 50.0) | +10.0 (+5.0 to +20.0) |"
        assert row in text

    def test_figures_of_an_earlier_model_stand_beside(self):
        """Only where both measured the same; what the earlier one alone has is on its own card."""
        speed = Result("texts", "speed", "throughput", 50.0, split="", unit="texts/s", source="zoo eval x")
        small = replace(OURS, value=0.25, low=0.2, high=0.3, source="zoo eval old", date="2026-01-02")
        old = [small, replace(small, part="gone", value=0.99), replace(speed, value=40.0), replace(THEIRS, value=0.11)]
        new = [OURS, replace(OURS, metric="recall@5", value=0.8), speed, THEIRS]
        text = cards.figures(new, {"old-model": old})
        assert "| data | direction | recall@1 | of old-model | recall@5 | of old-model |" in text
        assert "| photos | image → text | 43.2 | 25.0 (20.0 to 30.0) | 80.0 |  |" in text
        assert "| task | of | figure | value | of old-model |" in text
        assert "| speed | texts | throughput | 50.0 texts/s | 40.0 texts/s |" in text
        assert "99.0" not in text
        assert "11.0" not in text, "the authors' tables have one source each"
        assert (
            "Of old-model, all of whose figures stand on [its card](old-model.md): Measured 2026-01-02. Again " in text
        )
        assert "of old-model" not in cards.figures([replace(OURS, part="new")], {"old-model": old})

    def test_the_card_has_them_by_either_command(self, tmp_path, monkeypatch):
        spec = zoo.get_spec("text-test")
        monkeypatch.setitem(EARLIER, "text-test", ("old-model",))
        (tmp_path / "_template.md").write_text(TEMPLATE, encoding="utf-8")
        write_results(tmp_path / "results" / "old-model.json", [replace(OURS, value=0.25)])
        write_results(tmp_path / "results" / "text-test.json", [OURS])
        card = tmp_path / "text-test.md"
        card.write_text(cards.outdated(tmp_path, tmp_path / "no-models.md", [spec])[card], encoding="utf-8")
        measured = cards.find(card.read_text("utf-8"), "measured")
        assert "| 43.2 | 25.0 |" in measured
        write_card(card, tmp_path / "results" / "text-test.json", [replace(OURS, value=0.5)], "", "x")
        assert "| 50.0 | 25.0 |" in cards.find(card.read_text("utf-8"), "measured")

    def test_units_are_kept_out_of_the_shares(self):
        text = cards.figures([Result("texts", "speed", "throughput", 23848.4, split="", unit="texts/s"), OURS])
        assert "| speed | texts | throughput | 23,848.4 texts/s |" in text
        assert "%" not in text

    def test_two_protocols_are_two_rows_of_one_table(self, tmp_path):
        first = replace(THEIRS, dataset="MMEB-V2", direction="", protocol="v2.0.0", value=0.58)
        both = [first, replace(first, protocol="pages fixed", value=0.592)]
        text = cards.figures(both)
        assert text.count("| data | protocol | recall@1 |") == 1
        assert "| MMEB-V2 | v2.0.0 | 58.0 |" in text
        assert "| MMEB-V2 | pages fixed | 59.2 |" in text
        assert "not measured by us" in text
        write_results(tmp_path / "r.json", both)
        write_results(tmp_path / "r.json", [replace(first, value=0.6)])
        kept = {r.protocol: r.value for r in read_results(tmp_path / "r.json")}
        assert kept == {"v2.0.0": 0.6, "pages fixed": 0.592}
        assert "| protocol |" not in cards.figures([THEIRS]), "no column where nobody says one"

    def test_a_bar_in_a_name_breaks_no_table(self):
        line = next(x for x in cards.figures([replace(OURS, part="a|b\nc")]).splitlines() if "a\\|b c" in x)
        assert line.count("|") - line.count("\\|") == 5

    def test_nothing_measured_nothing_written(self):
        assert cards.figures([]) == ""


class TestMetadata:
    def test_the_model_index_is_read_back_by_the_hubs_own_class(self):
        from huggingface_hub import ModelCard

        spec = zoo.get_spec("zoo-mini")
        data = ModelCard(card_of(spec)).data
        found = {(e.dataset_type, e.metric_name or e.metric_type): e.metric_value for e in data.eval_results}
        ours = {
            (r.direction, r.metric): r.value
            for r in cards.measured("zoo-mini")
            if (r.dataset, r.part) == ("photos", "")
        }
        assert found["photos", "recall@1, image → text"] == ours["image → text", "recall@1"]
        assert found["photos", "accuracy"] == ours["", "accuracy"]
        assert {entry.dataset_config for entry in data.eval_results} == {None}, "parts of a pack stay in the text"
        assert data.model_name == "zoo-mini"

    def test_the_authors_figures_are_not_ours_to_state(self):
        spec = zoo.get_spec("clip-vit-b32-laion2b")
        facts, _ = split(card_of(spec))
        assert cards.measured(spec.name)
        assert "model-index" not in facts
        assert cards.eval_results([THEIRS, replace(THEIRS, dataset="org/coco")], "me/x") == {}

    def test_eval_results_are_read_back_by_the_hubs_own_function(self):
        from huggingface_hub import parse_eval_result_entries

        arguana = Result("mteb/arguana", "retrieval", "recall@10", 0.7, source="zoo eval x --tasks ArguAna")
        results = [
            arguana,
            replace(arguana, metric="ndcg@10", value=0.512345678, date="2026-11-25"),
            replace(arguana, part="de", metric="ndcg@10", value=0.1),  # a part of what was measured whole
            replace(arguana, metric="throughput", unit="texts/s", value=9.0),
            OURS,  # not on the Hub
        ]
        files = cards.eval_results(results, "me/mine")
        assert list(files) == [".eval_results/mteb-arguana.yaml"]
        (entry,) = parse_eval_result_entries(yaml.safe_load(files[".eval_results/mteb-arguana.yaml"]))
        assert (entry.dataset_id, entry.task_id, entry.value) == ("mteb/arguana", "default", 0.512346)
        assert entry.date == "2026-11-25"
        assert entry.source_url.endswith("/me/mine/blob/main/results.json")
        assert "ndcg@10" in entry.notes
        assert "zoo eval x --tasks ArguAna" in entry.notes

    def test_the_protocol_is_named_in_both_forms_of_the_hub(self):
        ours = [replace(OURS, dataset="org/d", protocol=p) for p in ("v1", "v2")]
        names = {entry.dataset_name for entry in model_index(ours)}
        assert names == {"org/d, v1", "org/d, v2"}
        (text,) = cards.eval_results(ours, "me/x").values()
        notes = [entry["notes"] for entry in yaml.safe_load(text)]
        assert ["v1" in notes[0], "v2" in notes[1]] == [True, True]

    def test_a_data_set_of_parts_alone_keeps_them(self):
        parts = [replace(OURS, dataset="org/d", part=part, direction="") for part in ("de", "fr")]
        (text,) = cards.eval_results(parts, "me/x").values()
        assert [entry["dataset"]["task_id"] for entry in yaml.safe_load(text)] == ["de", "fr"]


READERS = [spec for spec in SPECS if spec.format]
# Benchmarks that were scored by more than one protocol.
VERSIONED = {"MMEB", "MMEB-V2", "MMEB-V3", "M-BEIR", "ViDoRe"}


class TestVisionLanguage:
    """Cards of models that read an item as one sequence."""

    each_reader = every("spec", READERS, ids=lambda spec: spec.name)

    @each_reader
    def test_how_it_reads_stands_in_the_card(self, spec):
        facts = cards.find(card_of(spec), "facts")
        rows, shapes = cards.reading_rows(spec), cards.sequences(spec)
        assert {"backbone", "positions", "attention", "vector", "images", "instruction"} <= set(rows)
        for row, words in rows.items():
            assert f"- {row}: {words}" in facts
        for kind, words in shapes.items():
            assert f"- {kind}: `{words}`" in facts
        assert ("videos" in rows) == ("video" in spec.modalities)
        assert any("{instruction}" in words for words in shapes.values())
        assert split(card_of(spec))[0]["pipeline_tag"] == (
            "visual-document-retrieval" if spec.similarity == "maxsim" else "feature-extraction"
        )

    def test_sequences_are_what_the_model_is_given(self):
        """Typed out from the authors' repositories."""
        shapes = cards.sequences(zoo.get_spec("gme-qwen2vl-2b"))
        head = "<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n<|im_start|>user\\n"
        tail = "<|im_end|>\\n<|im_start|>assistant\\n<|endoftext|>"
        image = "<|vision_start|><|image_pad|><|vision_end|>"
        assert shapes["text"] == f"'{head}{{text}}{tail}'"
        assert shapes["image and text"] == f"'{head}{image}{{text}}{tail}'"
        assert "system\\n{instruction}<|im_end|>" in shapes["image and text, with an instruction"]
        assert cards.sequences(zoo.get_spec("vlm2vec-v2-qwen2vl-2b"))["text"] == "'{text}'"
        assert cards.sequences(zoo.get_spec("clip-test")) == {}
        assert cards.reading_rows(zoo.get_spec("clip-test")) == {}

    def test_switches_in_words(self):
        rows = cards.reading_rows(zoo.get_spec("u-marvel-qwen3vl-4b"))
        assert rows["attention"] == "in both directions"
        assert "outside the instruction" in rows["vector"]
        assert "one after another" in rows["positions"]
        assert "deepstack" in rows
        rows = cards.reading_rows(zoo.get_spec("qwen3vl-embedding-2b"))
        assert "row and a column" in rows["positions"]
        assert "4,096 and 1,843,200 pixels" in rows["images"]
        assert rows["videos"].startswith("1 frame a second, at most 64; each frame resized")
        assert "deepstack" not in rows
        assert "full stop" in rows["instruction"]

    def test_non_commercial_weights_are_called_so(self):
        for spec in SPECS:
            assert (cards.fact_rows(spec).get("use") == "non-commercial only") == spec.non_commercial
        assert zoo.get_spec("jina-embeddings-v4").non_commercial
        assert not zoo.get_spec("gme-qwen2vl-2b").non_commercial

    @each_reader
    def test_published_figures_name_their_protocol(self, spec):
        results = cards.measured(spec.name)
        assert not any(result.ours for result in results), "nothing was measured on weights that nobody downloaded"
        for result in results:
            assert result.protocol or result.dataset not in VERSIONED, result
            assert "Source: " in result.source
        if spec.hub_id:
            assert "weights were not\ndownloaded here" in notes_block(card_of(spec))

    @pytest.mark.parametrize("spec", [s for s in READERS if not s.hub_id], ids=lambda spec: spec.name)
    def test_the_program_of_the_card_runs(self, spec, tmp_path, monkeypatch):
        import numpy as np
        from PIL import Image

        for number, name in enumerate(("dress.jpg", "blue.jpg", "page1.png", "page2.png")):
            pixels = np.random.default_rng(number).integers(0, 255, (40, 56, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name)
        frames = np.random.default_rng(9).integers(0, 255, (3, 40, 56, 3), dtype=np.uint8)
        program = usage(spec).replace('Path("clip.mp4")', "Item(video=frames)")
        monkeypatch.chdir(tmp_path)
        names = {"frames": frames}
        exec(program, names)  # a program that this project wrote itself
        asked, found = ("query", "documents") if spec.format.mixed else ("queries", "pages")
        scores = names["model"].similarity(names[asked], names[found])
        assert bool(scores.isfinite().all())


GOOD = "---\nlicense: mit\nlibrary_name: embedding-zoo\n---\n# x\n"
INDEX = "model-index:\n- name: x\n  results:\n  - task: {type: t}\n    dataset: {name: d, type: org/d}\n    metrics: [{type: a, value: 0.5}]\n"


class TestCheck:
    def test_good_cards(self):
        assert cards.check(GOOD) == []
        assert cards.check(GOOD.replace("library", INDEX + "library")) == []

    @pytest.mark.parametrize(
        ("change", "wrong"),
        [
            (("license: mit", "licence: mit"), "licence: unknown key"),
            (("license: mit\n", ""), "license: missing"),
            (("license: mit", "license: MIT"), "'MIT' is no identifier"),
            (("license: mit", "license: other"), "license_name: `license: other` needs a name"),
            (("license: mit", "license: other\nlicense_name: my-1"), "license_link: `license: other` needs"),
            (("license: mit", "license: other\nlicense_name: My License\nlicense_link: LICENSE"), "license_name"),
            (("license: mit", "license: mit\nlicense_link: LICENSE"), "license_link: only with"),
            (("license: mit", "license: mit\nlicense: mit"), "'license' twice"),
            (("license: mit", "license: no"), "license: False is read as bool; write it in quotation marks"),
            (("license: mit", "license: mit\nlanguage: no"), "language: False is read as bool"),
            (("license: mit", "license: mit\nlanguage: English"), "'English' is no ISO 639 code"),
            (("license: mit", "license: mit\ntags: [a, 2]"), "tags: 2 is read as int"),
            (("license: mit", "license: mit\npipeline_tag: embeddings"), "'embeddings' is no task"),
            (("license: mit", "license: mit\nbase_model: zoo-mini"), "'zoo-mini' is no repository of the Hub"),
            (("license: mit", "license: mit\nbase_model: a/b\nbase_model_relation: child"), "'child' is none of"),
            (("license: mit", "license: mit\nbase_model_relation: merge"), "without base_model it means nothing"),
            (("license: mit", "license: mit\ndatasets: [./pairs.csv]"), "'./pairs.csv' is no repository"),
            (("license: mit", "license: [mit"), "no YAML"),
            (("license: mit", "- mit"), "no YAML"),
            (("license: mit\nlibrary_name: embedding-zoo", "- mit"), "must hold KEY: VALUE lines, not a list"),
            (("---\nlicense: mit\nlibrary_name: embedding-zoo\n---\n", ""), "there is no front matter"),
            (("# x\n", ""), "nothing below the front matter"),
            (("# x", "<!-- facts:start: -->\n# x"), "facts:start` stands 1 times and its end 0 times"),
            (("license: mit", "license: !!python/object/apply:os.getcwd []"), "no YAML"),
            (("library", INDEX.replace("0.5", "high") + "library"), "metrics[0].value: 'high' is no number"),
            (("library", INDEX.replace("0.5", ".nan") + "library"), "value: nan is no number"),
            (("library", INDEX.replace("org/d", "held-out pairs") + "library"), "dataset.type: must be an identifier"),
            (("library", INDEX.replace("- name: x", "- nam: x") + "library"), "model-index[0]: needs a name"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_the_hub_would_refuse(self, change, wrong):
        assert change[0] in GOOD
        found = cards.check(GOOD.replace(*change, 1))
        assert any(wrong in line for line in found), found

    def test_a_space(self):
        space = '---\ntitle: x\nsdk: gradio\nsdk_version: "6.31.0"\npython_version: "3.11"\napp_file: app.py\nlicense: mit\n---\nx\n'
        assert cards.check(space) == []
        assert cards.check(space.replace('"3.11"', "3.10")) == [
            "python_version: 3.1 is read as float; write it in quotation marks"
        ]
        (wrong,) = cards.check(space.replace("title: x", f"title: x\nshort_description: {'x' * 61}"))
        assert "61 characters" in wrong
        assert "colorTo: 'teal' is none of" in cards.check(space.replace("title: x", "title: x\ncolorTo: teal"))[0]

    def test_yaml_is_only_data(self):
        with pytest.raises(InvalidCardError):
            read_yaml("a: !!python/name:os.system")
