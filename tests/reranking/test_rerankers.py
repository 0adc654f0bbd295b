"""Registered rerankers: facts against what is built, scores of seeded weights, saving, names, and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from tests.every import every
from tests.hub import LoopbackHub
from tests.hub.child import Child
from zoo.cli import main
from zoo.errors import (
    ArgumentError,
    EmptyTextError,
    MissingWeightsError,
    NotExportableError,
    NotPublishableError,
    NotSavedError,
    UnknownModelError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedModalityError,
)
from zoo.evaluation.blocks import split
from zoo.formats.checks.safetensors_checks import no_memory
from zoo.inputs.item import Item
from zoo.models.backbones import byte_processor, tiny_qwen2_vl
from zoo.publishing import cards, export, publish, stage
from zoo.publishing.cards import rerankers as reranker_cards
from zoo.reranking import RerankerFormat, RerankerSpec, registry
from zoo.reranking.parts import random_reranker

# Judges that read images; those of text, and cross-encoders, have files of their own.
TESTS = [name for name in zoo.list_rerankers("*-test") if "image" in zoo.get_reranker_spec(name).modalities]


def make_image(seed: int, width: int = 48, height: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


PAIRS = [
    (Item(text="a red bicycle"), Item(text="a bicycle in the rain")),
    (Item(text="a red bicycle"), Item(image=make_image(0))),
    (
        Item(text="a red bicycle", image=make_image(3), instruction="Find the same thing."),
        Item(text="a house, ", image=make_image(1, 160, 40)),
    ),
]
# Of the code at commit 58885c2, before rerankers had names: weights of seed 0.
GOLDEN = {
    "qwen3vl-reranker-test": [0.3676496148109436, 0.3542192578315735, 0.36002200841903687],
    "u-marvel-reranker-test": [0.4204527735710144, 0.423239141702652, 0.4215306341648102],
}


def seeded(name: str) -> zoo.Reranker:
    torch.manual_seed(0)
    return zoo.build_reranker(name)


@pytest.fixture(scope="module")
def rerankers() -> dict[str, zoo.Reranker]:
    return {name: seeded(name) for name in TESTS}


@pytest.fixture(scope="module")
def saved(rerankers: dict[str, zoo.Reranker], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("saved")
    return {name: model.save_pretrained(root / name) for name, model in rerankers.items()}


# --------------------------------------------------------------------------------------------------------------- facts


@every("name", zoo.list_rerankers(tests=True))
def test_what_is_built_has_the_registered_facts(name: str) -> None:
    spec = zoo.get_reranker_spec(name)
    with no_memory(name):
        model = zoo.build_reranker(name)
    assert model.spec == spec
    assert sum(weight.numel() for weight in model.parameters()) == spec.params
    assert spec.modalities == model.encoder.modalities
    assert spec.judge is None or model.encoder.backbone.config.model_type == spec.judge.format.backbone
    assert RerankerSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert name not in zoo.list_models(tests=True), "one name, two things"
    assert (Path(zoo.__file__).parent / "rerankers" / f"{spec.family}.py").is_file()


@every("name", zoo.list_rerankers(tests=True))
def test_it_has_a_card_of_its_facts(name: str) -> None:
    spec = zoo.get_reranker_spec(name)
    card = cards.card_text(name)
    assert cards.read_facts(card) == reranker_cards.fact_rows(spec)
    assert cards.check(card) == []
    assert card == reranker_cards.render_reranker(spec, card, cards.measured(name))
    facts, _ = split(card)
    assert (facts["license"], facts["pipeline_tag"]) == (spec.license, "text-ranking")
    assert facts.get("base_model") == (spec.base or spec.hub_id or None)
    notes = card.partition("<!-- notes:start")[2]
    assert "What it was trained on, by whom" not in notes, "the card still has the template's notes"
    for result in cards.measured(name):
        assert not result.ours
        assert result.source in card
    if not name.endswith("-test"):
        for heading in ("## Data and training", "## Limits and licence", "## Checked facts", "could not be checked"):
            assert heading in notes


def test_a_card_says_to_the_letter_what_the_model_is_given(rerankers: dict[str, zoo.Reranker]) -> None:
    for name, model in rerankers.items():
        query = Item(text="{query}", instruction="{instruction}")
        ids = model.encoder.prepare_item(model.pair(query, "{document}")).ids
        assert repr(model.encoder.tokenizer.decode(ids)) == reranker_cards.sequence(model.spec), name


def test_lists_and_filters() -> None:
    every_name = zoo.list_rerankers()
    assert {"qwen3vl-reranker-2b", "qwen3vl-reranker-8b"} <= set(every_name)
    assert not any(name.endswith("-test") for name in every_name)
    assert zoo.list_rerankers("qwen3vl-*", max_params=3 * 10**9) == ["qwen3vl-reranker-2b"]
    assert zoo.list_rerankers(modality="video", language="zh", license="apache*") == [
        "qwen3vl-reranker-2b",
        "qwen3vl-reranker-8b",
    ]


def test_a_name_that_is_none_is_told_with_its_neighbours() -> None:
    with pytest.raises(UnknownModelError, match="nearest: qwen3vl-reranker-2b"):
        zoo.get_reranker_spec("qwen3vl-reranker-2")
    for absent, why in (
        ("jina-reranker-v2-base-multilingual", "the zoo does not run"),
        ("bge-reranker-v2-gemma", "its code counts"),
    ):
        with pytest.raises(UnknownModelError, match=f"{why}.*What reads the same: bge-reranker-v2-m3"):
            zoo.load_reranker(absent)
    with pytest.raises(UnknownModelError, match="qwen3vl-reranker-8b"):
        zoo.load_reranker("Qwen3VL-reranker-8")
    with pytest.raises(MissingWeightsError, match="build_reranker"):
        zoo.load_reranker("qwen3vl-reranker-test")
    with pytest.raises(UnrecognisedCheckpointError, match="does not exist"):
        zoo.load_reranker("./nowhere")


def test_wrong_facts_are_refused() -> None:
    facts = zoo.get_reranker_spec("qwen3vl-reranker-test").to_dict()
    for name, value, error in [
        ("dim", 5, ArgumentError),
        ("judge", {"query": "Q"}, ArgumentError),
        ("judge", {**facts["judge"], "yes": "no"}, ValueError),
        ("judge", {**facts["judge"], "asked": "elsewhere"}, ValueError),
        ("judge", {**facts["judge"], "kinds": ["text"]}, ValueError),
        ("judge", {**facts["judge"], "format": {**facts["judge"]["format"], "prompt": "{{ content }}"}}, ValueError),
        ("judge", {**facts["judge"], "format": {**facts["judge"]["format"], "attention": "bidirectional"}}, ValueError),
        ("modalities", ["smell"], ValueError),
        ("max_tokens", "many", ArgumentError),
    ]:
        with pytest.raises(error):
            RerankerSpec.from_dict({**facts, name: value})
    judge = zoo.get_reranker_spec("u-marvel-reranker-test").judge
    assert replace(judge, kinds=("text", "image")).kinds == ("text", "image")
    heard = replace(
        judge, format=replace(judge.format, marks={"audio": "<|audio|>"}), media={}, kinds=("audio", "text")
    )
    assert RerankerFormat.from_dict(heard.to_dict()) == heard
    for kinds in (("text",), ("image", "image", "text"), ("image", "text", "smell")):
        with pytest.raises(ValueError, match="all that it reads"):
            replace(judge, kinds=kinds)
    with pytest.raises(ValueError, match="twice"):
        zoo.register_reranker(**facts)(lambda spec: None)


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, zoo; zoo.list_rerankers(); print(sorted(set(sys.modules) & {'torch', 'transformers', 'numpy'}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_another_package_registers_one_by_entry_point(tmp_path: Path) -> None:
    (tmp_path / "outside_reranker.py").write_text(
        """
import zoo

facts = zoo.get_reranker_spec("qwen3vl-reranker-test").to_dict()
facts |= {"name": "outside-reranker-test"}
facts.pop("family")

@zoo.register_reranker(**facts)
def outside(spec):
    raise AssertionError("only its facts are asked for")
"""
    )
    information = tmp_path / "outside_reranker-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-reranker\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[zoo.rerankers]\nmine = outside_reranker\n")
    code = "import zoo; print(zoo.get_reranker_spec('outside-reranker-test').family)"
    path = f"{tmp_path}{os.pathsep}{Path(zoo.__file__).parents[1]}"
    options = {"capture_output": True, "text": True, "check": False, "env": {**os.environ, "PYTHONPATH": path}}
    found = subprocess.run([sys.executable, "-c", code], **options)
    assert found.stdout.strip() == "outside_reranker", found.stderr


def test_one_that_is_registered_elsewhere_is_built_saved_and_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(registry.RERANKERS, "_found", dict(registry.RERANKERS._found))
    test = zoo.get_reranker_spec("u-marvel-reranker-test")
    facts = {**test.to_dict(), "name": "mine-reranker", "params": 0}
    zoo.register_reranker(**facts)(lambda spec: random_reranker(spec, tiny_qwen2_vl(), byte_processor()))
    model = zoo.build_reranker("mine-reranker")
    again = zoo.load_reranker(model.save_pretrained(tmp_path / "mine"), device="cpu")
    assert again.spec.name == "mine-reranker"
    assert again.score(PAIRS).equal(model.score(PAIRS))


# -------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("name", TESTS)
def test_scores_of_seeded_weights_stay(name: str, rerankers: dict[str, zoo.Reranker]) -> None:
    scores = rerankers[name].score(PAIRS)
    assert (scores - torch.tensor(GOLDEN[name])).abs().max() < 1e-6


def test_rank_orders_documents_and_skips_bad_ones(rerankers: dict[str, zoo.Reranker]) -> None:
    model, documents = rerankers[TESTS[0]], ["a bicycle", "b", "c d", make_image(0)]
    scores = model.score("a red bicycle", documents)
    hits = model.rerank("a red bicycle", documents)
    assert [hit.index for hit in hits] == scores.argsort(descending=True).tolist()
    assert [hit.score for hit in hits] == scores.sort(descending=True).values.tolist()
    assert model.rerank("a red bicycle", documents, 2) == hits[:2]
    assert model.rerank("a red bicycle", []) == []
    with pytest.raises(EmptyTextError) as caught:
        model.rerank("a red bicycle", ["a", " "])
    assert caught.value.index == 1
    with pytest.warns(UserWarning, match=r"1 of 3 documents are not ranked: item 1"):
        kept = model.rerank("a red bicycle", ["a bicycle", " ", "b"], on_error="skip")
    assert {hit.index for hit in kept} == {0, 2}


def test_what_a_reranker_does_not_read_is_said(rerankers: dict[str, zoo.Reranker]) -> None:
    video = np.stack([make_image(0), make_image(1)])
    assert rerankers["qwen3vl-reranker-test"].score("a", [Item(video=video)]).isfinite().all()
    for name, item in [
        ("u-marvel-reranker-test", Item(video=video)),
        ("u-marvel-reranker-test", Item(text="a", audio=np.zeros(160, dtype=np.float32))),
    ]:
        with pytest.raises(UnsupportedModalityError, match="reads image, text, not"):
            rerankers[name].score("a", [item])


def test_a_stream_goes_on_after_a_bad_pair(rerankers: dict[str, zoo.Reranker]) -> None:
    """More pairs than are read at a time, from an iterator that says no length."""
    model = rerankers[TESTS[0]]
    pairs = [("a", "bcdefg"[n % 6] if n % 30 else " ") for n in range(70)]
    found = list(model.score_stream(iter(pairs)))
    assert [one.index for one in found] == list(range(70))
    assert [one.index for one in found if one.score is None] == [0, 30, 60]
    assert all(isinstance(one.error, EmptyTextError) for one in found if one.score is None)
    good = [pair for pair in pairs if pair[1] != " "]
    assert (torch.tensor([one.score for one in found if one.error is None]) - model.score(good)).abs().max() < 1e-6


# ------------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("name", TESTS)
def test_a_saved_reranker_opens_again(name: str, rerankers: dict[str, zoo.Reranker], saved: dict[str, Path]) -> None:
    for place in (saved[name], f"{saved[name]} like {name}"):
        again = zoo.load_reranker(place, device="cpu")
        assert again.spec == rerankers[name].spec
        assert again.score(PAIRS).equal(rerankers[name].score(PAIRS))


def test_saving_over_another_and_in_half_precision(rerankers: dict[str, zoo.Reranker], tmp_path: Path) -> None:
    first, second = (rerankers[name] for name in TESTS)
    zoo.build_model("text-test").save_pretrained(tmp_path / "place")
    first.save_pretrained(tmp_path / "place")
    second.save_pretrained(tmp_path / "place", dtype="float16")
    again = zoo.load_reranker(tmp_path / "place", device="cpu")
    assert again.spec == second.spec
    assert (again.score(PAIRS) - second.score(PAIRS)).abs().max() < 1e-2
    zoo.build_model("text-test").save_pretrained(tmp_path / "place")
    assert zoo.load_model(tmp_path / "place", device="cpu").spec.name == "text-test"
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotSavedError, match="is a file"):
        first.save_pretrained(tmp_path / "file")


def test_an_embedder_is_no_reranker_and_the_other_way_round(saved: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UnrecognisedCheckpointError, match="load_reranker"):
        zoo.load_model(saved[TESTS[0]])
    with pytest.raises(UnknownModelError, match="leave `like` out"):
        zoo.load_reranker(saved[TESTS[0]], like="u-marvel-reranker-qwen2vl-7b")


def test_what_is_written_for_embedders_is_refused(
    rerankers: dict[str, zoo.Reranker], saved: dict[str, Path], tmp_path: Path
) -> None:
    model, folder = rerankers[TESTS[0]], saved[TESTS[0]]
    calls = [
        lambda: publish(model, "me/judge", space="me/judge-demo"),
        lambda: stage(folder, "me/judge", tmp_path / "staged"),
        lambda: export(model, tmp_path / "exported"),
    ]
    for call in calls:
        with pytest.raises((NotPublishableError, NotExportableError), match="is a reranker"):
            call()
    assert not any(tmp_path.iterdir())
    assert main(["publish", str(folder), "--to", "me/judge", "--dry-run", "--space"]) == 2


def test_a_saved_one_that_was_uploaded_opens_from_the_hub(
    saved: dict[str, Path], rerankers: dict[str, zoo.Reranker], child: Child, hub: LoopbackHub
) -> None:
    hub.add(saved[TESTS[0]], "me/judge")
    answer = child.call("tests.reranking.test_reranker:score_texts", "hf:me/judge")
    assert "error" not in answer, answer
    expected = rerankers[TESTS[0]].score("a red bicycle", ["a", "b c"]).tolist()
    assert answer["result"] == pytest.approx(expected, abs=1e-6)


def test_a_revision_of_a_folder_and_what_is_no_pair_are_refused(
    rerankers: dict[str, zoo.Reranker], saved: dict[str, Path]
) -> None:
    with pytest.raises(ArgumentError, match="revision='main' is of a repository"):
        zoo.load_reranker(saved[TESTS[0]], revision="main")
    for pairs in (["ab"], [("a", "b"), ("a", "b", "c")], [5]):
        with pytest.raises(ArgumentError, match=r"pair \d must be a query and a document"):
            rerankers[TESTS[0]].score(pairs)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda facts: facts["backbone"].update(trust_remote_code=True), UnsafeCheckpointError),
        (lambda facts: facts.update(assets="../elsewhere"), UnrecognisedCheckpointError),
        (lambda facts: facts.update(more=1), UnrecognisedCheckpointError),
        (lambda facts: facts.update(format=2), UnrecognisedCheckpointError),
        (lambda facts: facts["reranker"].update(judge={}), UnrecognisedCheckpointError),
        (lambda facts: facts["reranker"]["judge"].update(yes=""), UnrecognisedCheckpointError),
        (lambda facts: facts["reranker"].update(modalities=["audio"]), UnrecognisedCheckpointError),
        (lambda facts: facts["backbone"]["text_config"].update(hidden_size=10**9), UnrecognisedCheckpointError),
        (lambda facts: facts["backbone"]["text_config"].update(num_hidden_layers=3), MissingWeightsError),
        (lambda facts: facts["backbone"].update(model_type="nothing"), UnrecognisedCheckpointError),
    ],
)
def test_a_folder_that_was_tampered_with_is_refused(
    change: object, error: type, saved: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "tampered"
    shutil.copytree(saved[TESTS[0]], folder)
    facts = json.loads((folder / "config.json").read_text())
    change(facts)
    (folder / "config.json").write_text(json.dumps(facts))
    with pytest.raises(error):
        zoo.load_reranker(folder, device="cpu")


def test_checkpoints_that_several_rerankers_are_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    facts = zoo.get_reranker_spec("qwen3vl-reranker-2b").to_dict()
    other = RerankerSpec.from_dict({**facts, "name": "other-reranker", "judge": {**facts["judge"], "query": "Q:"}})
    monkeypatch.setitem(registry.RERANKERS._found, "other-reranker", (other, None))
    assert len(registry.for_backbone("qwen3_vl")) == 2
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    with pytest.raises(UnrecognisedCheckpointError, match="asked in several ways"):
        zoo.load_reranker(tmp_path)
    assert registry.like("qwen3vl-reranker").name == "qwen3vl-reranker-2b"
