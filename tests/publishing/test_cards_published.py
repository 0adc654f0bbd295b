"""The card that `zoo publish` writes, of a model and of a training run."""

from dataclasses import replace
from typing import ClassVar

import pytest

import zoo
from tests.publishing.card_support import OURS, SPECS, THEIRS, notes_block
from zoo.evaluation.blocks import split
from zoo.evaluation.results import BEFORE, DIFFERENCE, read_results, write_results
from zoo.publishing import cards

LOADERS = {"zoo": "", "transformers": "", "timm": "it reads no text"}
NOTES = """---
license: mit
language: en
base_model: a/b
datasets: org/pairs
tags: [shoes, timm]
---

My words: $1.
"""


class TestPublished:
    def card(self, **changes) -> str:
        spec = replace(zoo.get_spec("clip-test"), name="mine", hub_id="me/mine", base="laion/x", license="cc-by-4.0")
        given = {"repo": "me/mine", "results": [OURS, THEIRS], "notes": NOTES, "loaders": LOADERS}
        return cards.published_card(spec, **{**given, **changes})

    def test_facts_figures_and_use(self):
        card = self.card(space="me/mine-demo", certificate="certificate.json")
        assert cards.check(card) == []
        assert cards.read_facts(card)["Hub repository"] == "[me/mine](https://huggingface.co/me/mine)"
        assert 'load_model("hf:me/mine")' in card
        assert "### With transformers" in card
        assert "- timm: it reads no text" in card
        assert "spaces/me/mine-demo" in card
        assert "`zoo verify hf:me/mine`" in card
        assert "| 43.2 |" in cards.find(card, "measured")

    def test_the_front_matter_is_the_models_and_what_people_added_stays(self):
        facts, body = split(self.card())
        assert facts["license"] == "cc-by-4.0", "the spec's, not the old card's"
        assert facts["base_model"] == "laion/x"
        assert facts["language"] == "en"
        assert facts["datasets"] == "org/pairs"
        tags = ["embedding-zoo", "transformers", "feature-extraction", "arxiv:2103.00020", "shoes"]
        assert facts["tags"] == tags, "timm opens it no longer"
        assert [r["dataset"]["type"] for r in facts["model-index"][0]["results"]] == ["photos"]
        assert body.endswith("My words: $1.\n")

    def test_again_is_the_same(self):
        once = self.card()
        assert self.card(notes=once) == once

    def test_a_base_that_is_no_repository_is_no_base_model(self):
        spec = replace(zoo.get_spec("clip-test"), name="mine", base="zoo-mini")
        kept = "---\nbase_model_relation: finetune\n---\nx\n"
        card = cards.published_card(spec, repo="me/mine", results=[], notes=kept, loaders={"zoo": ""})
        facts, _ = split(card)
        assert "base_model" not in facts
        assert "base_model_relation" not in facts
        assert cards.read_facts(card)["starts from"] == "zoo-mini"
        assert cards.find(card, "measured") is None
        assert cards.check(card) == []

    def test_every_registered_card_can_be_published(self):
        for spec in SPECS:
            base = spec.base or spec.hub_id or None
            moved = replace(spec, name="mine", hub_id="me/mine", source="", revision=None, packaged=False, base=base)
            notes, results = cards.notes_of(spec.name), cards.measured(spec.name)
            card = cards.published_card(moved, repo="me/mine", results=results, notes=notes, loaders={"zoo": ""})
            assert cards.check(card) == [], spec.name
            assert notes_block(card).split("measured:start")[0] == notes_block(notes).split("measured:start")[0]
            assert 'load_model("hf:me/mine")' in card

    def test_a_merged_folder_says_what_it_is_of(self, tmp_path):
        (tmp_path / "merge.json").write_text(
            '{"method": "uniform", "models": ["/a/b/one", "two"], "weights": [0.25, 0.75]}'
        )
        spec = replace(zoo.get_spec("clip-test"), base="org/base")
        notes = cards.notes_of(tmp_path)
        card = cards.published_card(
            spec, repo="me/x", results=cards.measured(tmp_path), notes=notes, loaders={"zoo": ""}
        )
        assert "Merged without training (uniform) from one (0.250), two (0.750)." in card
        assert split(card)[0]["base_model_relation"] == "merge"
        assert cards.check(card) == []

    def test_commands_name_no_folder_of_this_machine(self, tmp_path):
        write_results(tmp_path / "results.json", [replace(OURS, source="zoo eval /home/me/runs/mine"), THEIRS])
        assert [result.source for result in cards.measured(tmp_path)] == ["zoo eval mine", "their page"]


class TestRun:
    """The card that `zoo train` writes, with figures of a real model over real pairs."""

    @pytest.fixture
    def run(self, tmp_path):
        from zoo.training.scoring import Scoring

        from zoo.tables.pairs import Pair

        model = zoo.build_model("text-test")
        model.spec = replace(model.spec, name="mine", base="org/base")
        words = ["a red bicycle", "two cats", "bread", "the sea at night"]
        pairs = [Pair(zoo.Item(text=word), zoo.Item(text=f"{word}, really")) for word in words]
        scoring = Scoring(tmp_path, model, pairs, ("", ""), resume=False, progress=False)
        scoring.before()
        scoring.after()
        return model, tmp_path, scoring

    DATA: ClassVar = {
        "pairs": 1234,
        "sources": ["hf:org/pairs@main", "/home/me/more.csv"],
        "command": "zoo train hf:org/pairs /home/me/more.csv --out runs/mine",
    }

    def write(self, run, data) -> str:
        from zoo.training import recipes
        from zoo.training.card import write_card

        model, out, scoring = run
        return write_card(model, out, [recipes.finetune()], scoring, data).read_text(encoding="utf-8")

    def test_its_card_and_figures(self, run):
        card = self.write(run, self.DATA)
        assert cards.check(card) == []
        facts, _ = split(card)
        assert (facts["base_model"], facts["base_model_relation"]) == ("org/base", "finetune")
        assert facts["datasets"] == ["org/pairs"]
        assert "/home/me" not in card
        assert "trained on 1,234 pairs" in cards.find(card, "training")
        results = read_results(run[1] / "results.json")
        after = {(r.direction, r.metric): r for r in results if not r.part}
        scores = run[2].score("after")
        found = after["query → target", "recall@1"]
        assert found.value == pytest.approx(scores.forward.values("recall@1").mean(), abs=1e-6)
        assert found.low <= found.value <= found.high
        assert {r.part for r in results} == {"", BEFORE, DIFFERENCE}
        assert all(r.value == 0 for r in results if r.part == DIFFERENCE), "nothing was trained here"
        index = [m["value"] for r in facts["model-index"][0]["results"] for m in r["metrics"]]
        assert index == [r.value for r in results if not r.part], "before and difference are not the model's figures"

    def test_what_people_write_stays_and_is_published(self, run):
        card = self.write(run, self.DATA)
        path = run[1] / "README.md"
        by_hand = card.replace("What it has not seen it may not know", "It knows bicycles only").replace(
            "datasets:", "language: en\ndatasets:"
        )
        path.write_text(by_hand, encoding="utf-8")
        again = self.write(run, {**self.DATA, "pairs": 99})
        assert "It knows bicycles only" in again
        assert "trained on 99 pairs" in again
        model, out, _ = run
        spec = replace(model.spec, name="bikes", hub_id="me/bikes")
        notes, results = cards.notes_of(out), cards.measured(out)
        public = cards.published_card(spec, repo="me/bikes", results=results, notes=notes, loaders={"zoo": ""})
        assert cards.check(public) == []
        assert cards.find(public, "training") == cards.find(again, "training")
        assert "| difference |" in cards.find(public, "measured")
        assert "It knows bicycles only" in public
        assert "# mine" not in public
        assert "./mine" not in public
        facts, _ = split(public)
        assert (facts["language"], facts["base_model_relation"]) == ("en", "finetune")

    def test_without_held_out_pairs_it_says_so(self, run, tmp_path):
        from zoo.training.scoring import Scoring

        model, *_ = run
        out = tmp_path / "other"
        out.mkdir()
        scoring = Scoring(out, model, None, ("", ""), resume=False, progress=False)
        card = self.write((model, out, scoring), {})
        assert "nothing was measured" in card
        assert "model-index" not in card
        assert cards.measured(out) == []
        assert cards.check(card) == []
