"""Texts that are truncated at a model's limit are counted on a sample and said before training."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from zoo.training.dry_run import rehearse
from zoo.training.trainer import train
from zoo.training.truncation import truncated

from tests.tables.train_tables import as_csv
from tests.training.train_support import fresh, quick, text_pairs
from zoo.cli import main
from zoo.encoders.base import Cut, Encoder
from zoo.encoders.open_clip import OpenClipText
from zoo.encoders.tokenizing import SlowTokenizer
from zoo.inputs.item import Item
from zoo.tables.pairs import Pair


def same(first, second) -> bool:
    """Whether two reads are of the same tokens."""
    first, second = (getattr(read, "ids", read) for read in (first, second))
    return list(map(int, first)) == list(map(int, second))


@pytest.mark.parametrize(
    ("name", "tokens"),  # of the word "a"
    [
        ("text-test", 2),
        ("modernbert-test", 2),
        ("mini-test", 1),
        ("clip-test", 1),
        ("siglip-test", 1),
        ("vlm2vec-test", 2),
    ],
)
def test_a_text_is_cut_where_more_of_it_changes_nothing(name, tokens):
    model = fresh(name)
    encoder: Encoder = model.routes[model.route_index(Item(text="a"))].encoder
    limit = encoder.context_length if isinstance(encoder, OpenClipText) else encoder.max_tokens
    texts = [Item(text=" ".join(["a"] * count)) for count in range(max(1, limit // 8), limit + 3)]
    reads = [encoder.prepare_item(item) for item in texts]
    full = next(i for i, (read, more) in enumerate(pairwise(reads)) if same(read, more))
    cuts = [encoder.cut(item) for item in texts]
    # Where a word has several tokens, the first of those texts may end within its last word.
    whole = full + (tokens == 1)
    assert cuts[:whole] == [None] * whole
    assert set(cuts[full + 1 :]) == {Cut(limit)}
    assert encoder.cut(Item(text="a " * 50_000)) == Cut(limit)


def test_a_tokenizer_in_python_and_one_that_cuts_the_beginning():
    class Words:
        """Splits at spaces, and adds a token at each end."""

        truncation_side = "left"
        all_special_ids = (1, 2)

        def __call__(self, text, add_special_tokens=True, truncation=False, max_length=None, verbose=True):
            ids = [len(word) + 3 for word in text.split()]
            ids = [1, *ids, 2] if add_special_tokens else ids
            return type("Encoding", (), {"input_ids": ids[-max_length:] if truncation else ids})

    tokenizer = SlowTokenizer.__new__(SlowTokenizer)
    tokenizer.tokenizer, tokenizer.max_tokens, tokenizer.lower, tokenizer.side = Words(), 6, False, "left"
    assert [tokenizer.cut("a " * count) for count in (1, 4, 5, 9)] == [None, None, Cut(6, "left"), Cut(6, "left")]
    tokenizer.max_tokens = None
    assert tokenizer.cut("a " * 9) is None


def test_an_image_with_a_text_is_cut_where_the_text_is():
    model = fresh("mini-test")
    long, short = (Item(image=b"", text=" ".join(["a"] * count)) for count in (40, 5))
    encoder = model.routes[model.route_index(long)].encoder
    assert encoder.cut(long) == Cut(32)
    assert encoder.cut(short) is None


# ------------------------------------------------------------------------------------------------ counted and said


def long_pairs(count: int, long: int) -> list[Pair]:
    """Questions and answers; the answers of the first `long` have 100 words."""
    pairs = text_pairs(count)
    return [replace(p, positive=Item(text=" ".join(["a"] * 100 * (i < long) + [f"b{i}"]))) for i, p in enumerate(pairs)]


def test_the_share_is_counted_by_role():
    model, recipe = fresh("text-test"), quick()
    assert truncated(model, text_pairs(8, 1), recipe) == []
    (line,) = truncated(model, long_pairs(8, 3), recipe)
    assert line.startswith(
        "38 % of the positives lose their end: the model reads 64 tokens (3 of 8 that were looked at"
    )
    captions = [replace(pair, query=Item(image=b"x")) for pair in long_pairs(8, 3)]
    (line,) = truncated(fresh("mini-test"), captions, recipe)
    assert line.startswith("38 % of the captions lose their end: the model reads 32 tokens")
    pairs = [replace(p, query=p.positive, negatives=(p.positive, p.query)) for p in long_pairs(8, 8)]
    assert [line.split(" lose")[0] for line in truncated(model, pairs, recipe)] == [
        "100 % of the queries",
        "100 % of the positives",
        "50 % of the negatives",
    ]


def test_the_prompt_counts():
    model = fresh("text-test")
    pairs = [replace(pair, positive=Item(text=" ".join(["a"] * 8))) for pair in text_pairs(8)]
    assert truncated(model, pairs, quick()) == []
    (line,) = truncated(model, pairs, quick(document_prompt="a " * 60))
    assert line.startswith("100 % of the positives")


def test_of_many_pairs_a_sample_is_looked_at():
    (line,) = truncated(fresh("text-test"), long_pairs(1000, 1), quick())
    assert line.startswith("under 1 % of the positives lose their end")
    assert "(1 of 256 that were looked at are truncated)" in line


def test_it_is_said_before_training_and_kept(tmp_path, capsys):
    train(fresh("text-test"), long_pairs(8, 3), quick(steps=1), tmp_path / "run", trackers=(), report=True)
    said = capsys.readouterr().out
    assert "38 % of the positives lose their end: the model reads 64 tokens" in said
    kept = json.loads((tmp_path / "run" / "data.json").read_text())
    assert kept["texts of quick"][0].startswith("38 % of the positives lose their end")
    assert "38 % of the positives lose their end" in (tmp_path / "run" / "report.md").read_text()
    facts = rehearse(fresh("text-test"), long_pairs(8, 3), quick(steps=1))
    assert facts["quick: texts"].startswith("38 % of the positives lose their end")


def test_the_command_says_it(tmp_path, capsys):
    rows = [{"query": pair.query.text, "positive": pair.positive.text} for pair in long_pairs(8, 3)]
    path = as_csv(rows, tmp_path / "t.csv")
    options = ["--model", "text-test", "--from-scratch", "--holdout", "0"]
    assert main(["train", str(path), *options, "--dry-run"]) == 0
    line = (
        "38 % of the positives lose their end: the model reads 64 tokens (3 of 8 that were looked at are truncated)\n"
    )
    assert line in capsys.readouterr().out
    assert main(["train", str(path), *options, "--out", str(tmp_path / "run"), "--steps", "1", "--log", "none"]) == 0
    assert line in capsys.readouterr().out
