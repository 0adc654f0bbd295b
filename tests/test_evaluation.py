"""Pack evaluation against values worked out by hand, on packs that the test writes itself."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from zoo.evaluation.__main__ import main, score_table, write_card
from zoo.evaluation.packs import (
    ALL,
    BENCHMARKS,
    MissingPackError,
    evaluate_descriptions,
    evaluate_pack,
    evaluate_queries,
    read_pack,
)

PHOTOS, EMOJI, SYMBOLS = BENCHMARKS
AXES = {"apple": 0, "pear": 1, "hat": 2}


class Named:
    """A model that sees what bytes and words name: the vector of "apple" is the first axis. "?" is taken for a pear."""

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
    assert evaluate_descriptions(Named())[1] == pytest.approx(0.5)


def test_queries_by_hand(packs):
    file = packs / "queries.json"
    file.write_text(json.dumps([{"query": "an apple", "labels": ["apple"]}, {"query": "hat", "labels": ["pear"]}]))
    found = evaluate_queries(Named(), file)
    assert found["hit@1"] == 0.5
    assert found["hit@5"] == 1.0
    assert found["precision@10"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert found["first"] == [("an apple", "apple", True), ("hat", "hat", False)]


def test_queries_with_unknown_labels(packs):
    file = packs / "queries.json"
    file.write_text(json.dumps([{"query": "an apple", "labels": ["aple"]}]))
    with pytest.raises(ValueError, match=r"names labels that no photo of test has: \['aple'\]"):
        evaluate_queries(Named(), file)


def test_missing_pack_names_the_variable(packs, capsys):
    with pytest.raises(MissingPackError, match="set ZOO_DATA"):
        read_pack("emoji", "test")
    assert main(["mini-test", "--packs", "emoji"]) == 1
    assert "zoo.evaluation: " in capsys.readouterr().err


def test_table_has_a_row_for_each_score(packs):
    lines = score_table(evaluate_pack(Named(), PHOTOS)).splitlines()
    assert len(lines) == 2 + 3
    assert lines[2] == "| photos | all | 4 | 3 | 75.0 | 100.0 | 100.0 | 66.7 | 100.0 | 100.0 | 75.0 |"


def test_card_block_is_replaced_and_the_rest_kept(tmp_path):
    card = tmp_path / "card.md"
    card.write_text("before\n<!-- measured:start: old -->\n1\n<!-- measured:end -->\nafter\n")
    write_card(card, "new \\1 figures", "python -m zoo.evaluation x")
    text = card.read_text()
    assert text.startswith(
        "before\n<!-- measured:start: written by `python -m zoo.evaluation x` -->\nnew \\1 figures\n"
    )
    assert text.endswith("<!-- measured:end -->\nafter\n")
    card.write_text("no block")
    with pytest.raises(ValueError, match="measured:start"):
        write_card(card, "x", "y")
