"""Pack evaluation against values worked out by hand, on packs that the test writes itself."""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import zoo
from zoo.errors import MissingPackError, ZooError
from zoo.evaluation.__main__ import main
from zoo.evaluation.cards import card_of, write_card
from zoo.evaluation.metrics import interval
from zoo.evaluation.packs import (
    ALL,
    BENCHMARKS,
    evaluate_descriptions,
    evaluate_pack,
    pack_results,
)
from zoo.evaluation.results import FILE, Result, read_results, write_results
from zoo.publishing.cards import check, find
from zoo.tables.pack_files import read_pack

PHOTOS, EMOJI, SYMBOLS = BENCHMARKS
AXES = {"apple": 0, "pear": 1, "hat": 2}


class Named:
    """A model that sees what bytes and words name: the vector of "apple" is the first axis. "?" is taken for a pear."""

    spec = zoo.get_spec("clip-test")

    def encode(self, inputs):
        rows = torch.zeros(len(inputs), 3)
        for row, value in zip(rows, inputs, strict=True):
            words = value.decode() if isinstance(value, bytes) else value
            row[next((axis for name, axis in AXES.items() if name in words), 1)] = 1
        return rows


def photo(label: str, source: str, image: str, description: str = "") -> dict:
    return {
        "image": image.encode(),
        "source": source,
        "label": label,
        "captions": [f"a {label}"],
        "description": description,
    }


@pytest.fixture
def packs(tmp_path, monkeypatch):
    rows = [
        photo("apple", "grocery", "apple", "round apple, red"),
        photo("pear", "grocery", "pear", "green pear"),
        photo("apple", "grocery", "?", "round apple, red"),  # looks like a pear
        photo("hat", "clothing", "hat"),
    ]
    (tmp_path / "photos").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "photos" / "test.parquet")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    return tmp_path


def test_scores_by_hand(packs):
    scores = {score.source: score for score in evaluate_pack(Named(), PHOTOS)}
    assert set(scores) == {ALL, "grocery", "clothing"}
    together = scores[ALL]
    assert (together.images, together.texts) == (4, 3)
    # Three of four photos find their text first. The third finds "pear" first, then ties of no similarity, which count
    # as lost, so that its own text comes third.
    assert together.image_to_text == {1: 0.75, 5: 1.0, 10: 1.0}
    assert together.text_to_image[1] == pytest.approx(2 / 3)  # "a pear" meets the photo in disguise on equal terms
    assert together.zero_shot == 0.75
    assert scores["clothing"].image_to_text[1] == 1.0


def test_descriptions_by_hand(packs):
    found = evaluate_descriptions(Named())
    assert (found.queries, found.images) == (2, 3)
    assert found.recall[1] == pytest.approx(0.5)


def test_missing_pack_names_the_variable(packs, capsys):
    with pytest.raises(MissingPackError, match="set ZOO_DATA"):
        read_pack("emoji", "test")
    assert main(["mini-test", "--packs", "emoji"]) == 1
    assert "zoo.evaluation: " in capsys.readouterr().err


def test_scores_become_results(packs):
    together, *parts = evaluate_pack(Named(), PHOTOS)
    results = pack_results(together, "test", "zoo eval x")
    assert {(r.direction, r.metric): r.value for r in results} == {
        ("image → text", "recall@1"): 0.75,
        ("image → text", "recall@5"): 1.0,
        ("image → text", "recall@10"): 1.0,
        ("text → image", "recall@1"): pytest.approx(2 / 3),
        ("text → image", "recall@5"): 1.0,
        ("text → image", "recall@10"): 1.0,
        ("", "accuracy"): 0.75,
    }
    assert {(r.dataset, r.part, r.split, r.notes) for r in results} == {("photos", "", "test", "4 images, 3 texts")}
    intervals = {(r.direction, r.metric): (r.low, r.high) for r in results}
    assert intervals["image → text", "recall@1"] == intervals["", "accuracy"] == interval(3, 4)[1:], "of the images"
    assert intervals["text → image", "recall@1"] == interval(2, 3)[1:], "of the texts"
    assert {r.part for score in parts for r in pack_results(score, "test", "x")} == {"grocery", "clothing"}


CARD = """---
license: mit
---
before
<!-- measured:start: old -->
1
<!-- measured:end -->
after
"""


def test_figures_are_kept_beside_the_card_and_its_tables_set_anew(tmp_path):
    card, file = tmp_path / "README.md", tmp_path / FILE
    card.write_text(CARD)
    one = Result("photos", "image-text-retrieval", "recall@1", 0.25, source="python -m zoo.evaluation x")
    write_card(card, file, [one], "| a \\1 table |", "python -m zoo.evaluation x")
    write_card(card, file, [Result("emoji", "image-text-retrieval", "recall@1", 0.5, source="y")], "", "y")
    text = card.read_text()
    assert text.startswith("---\nlicense: mit\n---\nbefore\n")
    assert text.endswith("after\n")
    measured = find(text, "measured")
    assert "| photos | 25.0 |" in measured, "what was measured before stays"
    assert "| emoji | 50.0 |" in measured
    assert find(text, "queries") == "| a \\1 table |"
    assert [result.value for result in read_results(file)] == [0.25, 0.5]


def test_where_a_models_card_is(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    assert card_of(str(tmp_path)) == (tmp_path / "README.md", tmp_path / FILE)
    card, file = card_of("zoo-mini")
    assert (card.name, file.name, file.parent.name) == ("zoo-mini.md", "zoo-mini.json", "results")
    assert file.is_file()
    with pytest.raises(ZooError, match=r"nowhere.md does not exist"):
        card_of("zoo-mini", str(tmp_path / "nowhere.md"))


@pytest.mark.usefixtures("packs")
def test_the_command_measures_a_real_model_into_its_card(tmp_path, capsys):
    generator = np.random.default_rng(0)
    rows = []
    for number in range(4):
        buffer = io.BytesIO()
        Image.fromarray(generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(buffer, "PNG")
        rows.append(photo("Lemon" if number % 2 else "Peach", "grocery", "", "a fruit") | {"image": buffer.getvalue()})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "photos" / "test.parquet")
    zoo.build_model("mini-test").save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_text(CARD)
    arguments = [
        str(tmp_path / "mine"),
        "--packs",
        "photos",
        "--no-speed",
        "--queries",
        str(tmp_path / "q.json"),
        "--card",
    ]
    (tmp_path / "q.json").write_text(json.dumps([{"query": "fruit", "labels": ["Peach"]}]))
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    results = read_results(tmp_path / "mine" / FILE)
    # All, its one source, by description, in ImageNet and not, nearest photos, queries.
    assert len(results) == 7 + 7 + 3 + 2 * 7 + 2 * 2 + 4
    assert all(result.value == round(result.value, 6) for result in results)
    card = (tmp_path / "mine" / "README.md").read_text()
    assert find(card, "measured") in printed
    assert find(card, "queries").splitlines()[-1].startswith("| fruit | ")
    assert check(card) == []


def test_results_are_written_and_read_back(tmp_path):
    file = tmp_path / "r.json"
    ours = Result("photos", "image-text-retrieval", "recall@1", 0.4321, low=0.4, high=0.5, source="zoo eval x")
    theirs = Result("photos", "image-text-retrieval", "recall@1", 0.563, ours=False, source="their page")
    speed = Result("texts", "speed", "throughput", 9.5, split="", unit="texts/s")
    write_results(file, [ours, speed, theirs])
    assert read_results(file) == [ours, speed, theirs]
    write_results(file, [replace(ours, value=0.5)])
    assert [result.value for result in read_results(file)] == [0.5, 9.5, 0.563]
