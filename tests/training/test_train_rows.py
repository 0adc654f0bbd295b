"""Rows that are no pairs are set aside up to max_bad, in every kind of data; rows without a negative train all the same."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from zoo.training import Pair, Recipe, rehearse, train
from zoo.training.errors import PairsError, RecipeError
from zoo.training.losses import build_loss
from zoo.training.rows import GoodRows, known_answers, negatives_of, set_aside
from zoo.training.run import Run
from zoo.training.trainer import make_feed, of_stage

from tests.tables.train_tables import BLUE, KINDS, RED, as_csv, as_jsonl, as_parquet, source_of
from tests.training.train_support import fresh, quick, text_pairs
from zoo.bulk.limit import Limit
from zoo.cli import main
from zoo.errors import TooManyBadItemsError
from zoo.inputs.item import Item
from zoo.tables import open_pairs
from zoo.tables.pairs import Selection, answers_of

CALM = {"progress": False, "trackers": (), "report": False}


def text(words: str) -> Item:
    return Item(text=words)


@pytest.fixture
def images(tmp_path):
    """Two images, and one that is cut off."""
    for name, content in (("red.png", RED), ("blue.png", BLUE), ("cut.png", RED[:45])):
        (tmp_path / name).write_bytes(content)
    return tmp_path


# ------------------------------------------------------------------------------------------------ what is set aside


def rows_of(count: int, bad: dict[int, dict]) -> list[dict]:
    """Rows of an image and a text with a grade, some of which are something else."""
    good = ({"image": ("red.png", "blue.png")[i % 2], "text": f"text {i}", "score": 0.5} for i in range(count))
    return [{**row, **bad.get(i, {})} for i, row in enumerate(good)]


BAD = {3: {"image": "gone.png"}, 5: {"text": ""}, 8: {"image": None}, 9: {"score": 7.0}}
REASONS = {3: "no image", 5: "the text is empty", 8: "the image is empty", 9: "must be from 0 to 1"}


@pytest.mark.parametrize("kind", KINDS)
def test_bad_rows_of_every_kind_are_set_aside_up_to_the_limit(kind, images, client_hub, cache_home):
    pairs = open_pairs(source_of(kind, rows_of(12, BAD), images, client_hub), root=images)
    found = set_aside(pairs, 4)
    assert found.rows.tolist() == [row for row in range(12) if row not in BAD]
    assert (found.inputs, len(found), len(found.answers)) == (12, 8, 8)
    assert list(found.bad) == [pairs.where(row) for row in BAD]
    for reason, row in zip(found.bad.values(), BAD, strict=True):
        assert REASONS[row] in reason
        assert not reason.startswith(pairs.where(row))
    with pytest.raises(TooManyBadItemsError, match=r"4 of 12 inputs are bad \(33.33%\) and the limit is 3 ") as caught:
        set_aside(pairs, 3)
    assert f"\n  {pairs.where(3)}: no image" in str(caught.value)
    assert "--max-bad 4 (max_bad=4)" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "broken", "reason"),
    [
        ("t.csv", "only one cell\n", "1 cell"),
        ("t.csv", "a,b,c,d\n", "4 cells"),
        ("t.tsv", "only one cell\n", "1 cell"),
        ("t.jsonl", '{"query": "a", "posi\n', "no JSON"),
        ("t.jsonl", '["a", "b"]\n', "no JSON object"),
        ("t.jsonl", '{"query": "a"}\n', "the positive is empty"),
    ],
)
def test_rows_without_cells_count_as_inputs(name, broken, reason, tmp_path):
    good = [{"query": f"q {i}", "positive": f"p {i}"} for i in range(6)]
    path = (as_jsonl if name.endswith("jsonl") else as_csv)(good, tmp_path / name)
    lines = path.read_text().splitlines(keepends=True)
    if name.endswith("tsv"):
        lines = [line.replace(",", "\t") for line in lines]
    lines.insert(3, broken)
    path.write_text("".join(lines))
    found = set_aside(open_pairs(path), "20%")
    assert (found.inputs, len(found)) == (7, 6)
    assert [reason in told for told in found.bad.values()] == [True]
    assert list(found.bad) == [f"{name}, line 4"]
    with pytest.raises(TooManyBadItemsError, match="1 of 7 inputs are bad"):
        set_aside(open_pairs(path), 0)


def test_images_without_a_text_are_rows_that_are_no_pairs(tmp_path):
    for place in ("cat/a.png", "cat/b.png", "dog/a.png", "loose.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(RED)
    found = set_aside(open_pairs(tmp_path), 1)
    assert sorted(pair.positive.text for pair in found) == ["cat", "cat", "dog"]
    assert found.bad == {"loose.png": "it lies in no sub-folder, whose name would be its text"}
    for place in ("cat/a", "cat/b", "dog/a"):
        (tmp_path / f"{place}.txt").write_text(f"text of {place}")
    found = set_aside(open_pairs(tmp_path), "30%")
    assert sorted(pair.positive.text for pair in found) == ["text of cat/a", "text of cat/b", "text of dog/a"]
    assert "no text loose.txt beside it" in found.bad["loose.png"]
    with pytest.raises(TooManyBadItemsError, match="1 of 4 inputs"):
        set_aside(open_pairs(tmp_path), 0)


def test_images_of_a_folder_and_pairs_in_memory(images, tmp_path):
    for name in ("red", "blue", "cut"):
        (tmp_path / f"{name}.txt").write_text("" if name == "red" else name)
    assert list(set_aside(open_pairs(tmp_path), 1).bad) == ["red.png"]
    pairs = [Pair(Item(image=images / "red.png"), text("a"), where="one"), Pair(text("b"), text("c"))]
    pairs += [
        Pair(Item(image=images / "gone.png"), text("d")),
        Pair(text("e"), text("f"), score=math.nan, where="five"),
    ]
    pairs += [Pair(text("g"), text("h"), (text("i"),), teacher_scores=(0.5, math.inf))]
    pairs += [Pair(text("j"), text("k"), (text("l"),), teacher_scores=(0.5, 0.4, 0.3))]
    found = set_aside(pairs, 4)
    assert found.rows.tolist() == [0, 1]
    assert list(found.bad) == ["pair 2", "five", "pair 4", "pair 5"]
    assert "gone.png" in found.bad["pair 2"]
    assert "nan" in found.bad["five"]
    assert "inf" in found.bad["pair 4"]
    assert "teacher_scores are 3" in found.bad["pair 5"]


@pytest.mark.parametrize(
    ("limit", "inputs", "allowed"),
    [
        (0.01, 5000, 50),  # the limit itself is allowed
        ("1%", 5000, 50),
        ("1%", 150, 1),
        (0.01, 20, 1),  # one by any share
        ("2%", 100, 2),
        (0, 20, 0),
        ("0%", 20, 0),
        (0.0, 20, 0),
        (38, 20, 38),
        ("38", 5000, 38),
        (2.0, 10, 2),
        (None, 10, math.inf),
    ],
)
def test_one_reading_of_the_limit(limit, inputs, allowed):
    assert Limit.parse(limit).allowed(inputs) == allowed
    assert limit is None or Recipe(max_bad=limit).max_bad == limit


@pytest.mark.parametrize("limit", ["x", "-1", -0.5, "101%", 1.5, math.nan, True])
def test_what_is_no_limit(limit):
    with pytest.raises(RecipeError, match="max_bad is"):
        Recipe(max_bad=limit)


def test_the_boundary_is_exact():
    pairs = [text_pairs(1)[0]] * 197 + [Pair(text("a"), text("b"), score=math.nan)] * 3
    pairs = [replace(pair, where=f"line {i}") for i, pair in enumerate(pairs)]
    assert len(set_aside(pairs, "1.5%")) == 197
    with pytest.raises(
        TooManyBadItemsError, match=r"3 of 200 inputs are bad \(1.50%\) and the limit is 1% of the inputs"
    ):
        set_aside(pairs, "1%")
    with pytest.raises(TooManyBadItemsError, match="none of the 3 inputs can be trained"):
        set_aside(pairs[197:], "100%")


def test_what_is_right_is_told_by_the_rows_that_are_left():
    pairs = [replace(pair, where=f"line {i}") for i, pair in enumerate(text_pairs(8))]
    pairs[4] = replace(pairs[0], positive=pairs[4].positive)  # another answer of the first query
    pairs[5] = replace(pairs[5], score=math.nan)
    found = set_aside(pairs, 1)
    part = Selection(found, [0, 1, 2, 5])
    for these in (found, part, Selection(found, [0, 3, 4])):
        answers, plain = known_answers(these), answers_of(these)
        queries = [answers.of(row)[0] for row in range(len(these))]
        own = [plain.of(row)[0] for row in range(len(these))]
        told = answers.right(queries, [answers.of(row)[1] for row in range(len(these))]).answers(slice(None))
        expected = plain.right(own, [plain.of(row)[1] for row in range(len(these))]).answers(slice(None))
        assert torch.equal(told, expected)


# ------------------------------------------------------------------------------------------------ in a run


def test_a_run_lists_what_it_leaves_out_once(images):
    rows = [*rows_of(12, BAD), {"image": "cut.png", "text": "cut", "score": 0.1}]
    path = as_csv([{k: v for k, v in row.items() if k != "score" or v != 0.5} for row in rows], images / "t.csv")
    pairs = open_pairs(path, ignore=["score"])
    out, recipe = images / "run", quick(max_bad=4, steps=4, checkpoint_every=4)
    train(fresh(), pairs, recipe, out, **CALM)  # 9 is right without its grade
    listed = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [entry["pair"] for entry in listed] == [f"t.csv, line {line}" for line in (5, 7, 10, 14)]
    found = set_aside(pairs, 3)
    for recipe in (quick(max_bad=4), quick(max_bad=3)):  # as a resumed run would go on
        feed = make_feed(fresh(), found, recipe, out, progress=False)
        assert len(feed.skipped.reasons) == 4
    (images / "less").mkdir()
    feed = make_feed(fresh(), found, quick(max_bad=3), images / "less", progress=False)
    with pytest.raises(TooManyBadItemsError, match=r"4 pairs cannot be read and the recipe allows 3"):
        list(feed.batches(0, 4))  # known only when it is decoded
    with pytest.raises(TooManyBadItemsError, match=r"3 of 13 inputs are bad"):
        train(fresh(), pairs, quick(max_bad=2), images / "least", **CALM)
    assert not (images / "least").exists() or not list((images / "least").glob("*.json*"))


def test_the_command_stops_before_a_model_is_loaded(images, capsys):
    path = as_csv([{"image": row["image"], "text": row["text"]} for row in rows_of(12, BAD)], images / "t.csv")
    command = ["train", str(path), "--model", "clip-test", "--from-scratch", "--dry-run", "--batch-size", "4"]
    assert main(command) == 2
    captured = capsys.readouterr()
    assert "3 of 12 inputs are bad (25.00%) and the limit is 1% of the inputs" in captured.err
    assert "clip-test:" not in captured.out
    assert main([*command, "--max-bad", "25%"]) == 0
    assert "set aside: 3 of 12 inputs: t.csv, line 5: no image" in capsys.readouterr().out
    assert main([*command, "--held-out", str(path), "--max-bad", "2"]) == 2


def test_held_out_images_that_cannot_be_read_are_listed_and_count(images):
    pairs = [
        Pair(Item(image=images / ("red.png", "cut.png")[i == 3]), text(f"text {i}"), where=f"line {i}")
        for i in range(9)
    ]
    parts = Selection(found := set_aside(pairs, 1), range(4)), Selection(found, range(4, 9))
    out = images / "run"
    train(fresh(), parts[1], quick(steps=1, batch_size=4, max_bad=1), out, held_out=parts[0], **CALM)
    (line,) = map(json.loads, (out / "skipped.jsonl").read_text().splitlines())
    assert line["pair"] == "line 3"
    assert line["reason"].startswith("the query: ")
    with pytest.raises(TooManyBadItemsError, match="1 of 9 inputs are bad"):
        train(fresh(), parts[1], quick(steps=1, batch_size=4, max_bad=0), images / "no", held_out=parts[0], **CALM)


def test_rows_in_place_of_bad_ones_are_of_the_same_data_set(tmp_path):
    pairs = text_pairs(8, dataset="a") + text_pairs(8, dataset="b")
    pairs = [replace(pair, where=f"line {i}") for i, pair in enumerate(pairs)]
    for i in (2, 9):
        pairs[i] = replace(pairs[i], query=Item(image=RED[:45]))
    feed = make_feed(fresh(), pairs, quick(batch_size=4, sampler="homogeneous", max_bad=2), tmp_path, progress=False)
    rows = [feed.batch(step).rows for step in range(6)]
    assert {2, 9} & {int(row) for step in range(6) for row in feed.sampler.rows(step)}
    assert all(len({pairs[row].dataset for row in batch}) == 1 for batch in rows)
    assert not {2, 9} & {row for batch in rows for row in batch}


# ------------------------------------------------------------------------------------------------ rows without a negative


def tables(kind: str, folder):
    """Twelve rows with 2, 0, 1, 2, 0, 1 … negatives, written in one of the ways."""
    counts = [2, 0, 1] * 4
    rows = [{"query": f"what is {i}", "positive": f"it is {i}"} for i in range(12)]
    words = [[f"not {k} of {i}" for k in range(count)] for i, count in enumerate(counts)]
    lists = [{**row, "negatives": some} for row, some in zip(rows, words, strict=True)]
    columns = [
        {**row, **{f"negative_{k + 1}": some[k] if k < len(some) else None for k in range(2)}}
        for row, some in zip(rows, words, strict=True)
    ]
    if kind == "columns.csv":
        path = as_csv(columns, folder / kind)
    elif kind == "columns.parquet":
        path = as_parquet(columns, folder / kind)
    elif kind == "lists.csv":
        path = as_csv(lists, folder / kind)
    elif kind == "lists.jsonl":
        path = as_jsonl(lists, folder / kind)
    elif kind == "nulls.jsonl":
        path = as_jsonl([{**row, "negatives": row["negatives"] or None} for row in lists], folder / kind)
    elif kind == "keys.jsonl":
        path = as_jsonl([row if row["negatives"] else rows[i] for i, row in enumerate(lists)], folder / kind)
    elif kind == "holes.jsonl":
        path = as_jsonl([{**row, "negatives": [None, *row["negatives"], ""]} for row in lists], folder / kind)
    else:
        path = as_parquet([{**row, "negatives": row["negatives"] or None} for row in lists], folder / kind)
    return open_pairs(path), words


WAYS = ["columns.csv", "columns.parquet", "lists.csv", "lists.jsonl", "nulls.jsonl", "keys.jsonl", "holes.jsonl"]
WAYS += ["lists.parquet"]


@pytest.mark.parametrize("kind", WAYS)
def test_a_batch_has_the_negatives_that_there_are(kind, tmp_path):
    pairs, words = tables(kind, tmp_path)
    assert negatives_of(set_aside(pairs, 0)).tolist() == [2, 0, 1] * 4
    feed = make_feed(fresh("text-test"), pairs, quick(batch_size=12), tmp_path / "run", progress=False)
    batch = feed.batch(0)
    assert (batch.negatives, len(batch.targets)) == (2, 36)
    contents = feed.answers.contents
    places = batch.numbers[24:].view(12, 2).tolist()
    for row, found in zip(batch.rows, places, strict=True):
        own = [contents.number(text(some)) for some in words[row]]
        assert found == own + [-1] * (2 - len(own))
    assert [read.empty for read in batch.targets[12:]] == (batch.numbers[24:] < 0).tolist()


def exactly(model: nn.Module) -> nn.Module:
    """In float64, and without dropout."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.double()


def by_hand(model, pairs, rows, scale: float) -> torch.Tensor:
    """Mean InfoNCE of these rows, each against all the targets that there are, by loops."""

    def vector(item: Item, role: str) -> torch.Tensor:
        encoder = model.routes[0].encoder
        read = encoder.prepare_item(encoder.prompted(item, model.prompt_text(**model.for_role(role))))
        return model.routes[0](encoder.collate([read]))[0]

    targets = [vector(pairs[row].positive, "document") for row in rows]
    targets += [vector(item, "document") for row in rows for item in pairs[row].negatives]
    losses = []
    for i, row in enumerate(rows):
        query = vector(pairs[row].query, "query")
        logits = torch.stack([scale * (query * target).sum() for target in targets])
        losses.append(logits.logsumexp(0) - logits[i])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_a_step_is_infonce_over_the_real_targets(micro_batch, tmp_path):
    """Value and gradients of the weights, through the feed, the cache and the loss."""
    pairs, _ = tables("columns.csv", tmp_path)
    recipe = quick(batch_size=12, loss="infonce(temperature=0.1, symmetric=False)", micro_batch=micro_batch)
    model = exactly(fresh("text-test"))
    feed = make_feed(model, pairs, recipe, tmp_path / "run", progress=False)
    run = Run(model, recipe, build_loss(recipe.loss).double())
    batch = feed.batch(0)
    value = run._gradients(batch)
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    expected = by_hand(model, pairs, batch.rows, run.loss.scale.item())
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-9)
    assert len(found) > 5
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-7, atol=1e-11, msg=name)


@pytest.mark.parametrize(("asked", "places"), [(None, 3), (1, 1), (2, 2), (9, 5)])
def test_a_number_of_negatives_is_for_rows_with_more_and_with_fewer(asked, places, tmp_path):
    pairs = [
        replace(pair, negatives=pair.negatives[:n])
        for pair, n in zip(text_pairs(6, 5), [5, 0, 1, 3, 3, 2], strict=True)
    ]
    feed = make_feed(fresh("text-test"), pairs, quick(negatives=asked), tmp_path, progress=False)
    batch = feed.batch(0)
    assert batch.negatives == places
    contents = feed.answers.contents
    for row, found in zip(batch.rows, batch.numbers[12:].view(6, places).tolist(), strict=True):
        own = [contents.number(item) for item in pairs[row].negatives][:places]  # the nearest first
        assert found == own + [-1] * (places - len(own))


def test_what_is_said_of_them(tmp_path, capsys):
    pairs, _ = tables("lists.jsonl", tmp_path)
    path = str(tmp_path / "lists.jsonl")
    command = ["train", path, "--model", "text-test", "--from-scratch", "--dry-run", "--holdout", "0"]
    assert main([*command, "--negatives", "2"]) == 0
    said = capsys.readouterr().out
    assert (
        "4 of 12 rows have no negative: they learn from the others' negatives; 4 of 12 rows have fewer than 2" in said
    )
    assert main([*command, "--without-negatives", "drop", "--negatives", "1"]) == 0
    said = capsys.readouterr().out
    assert "4 of 12 rows have no negative: left out, as was asked for; 4 of 12 rows have more than 1 negatives" in said
    assert "8 queries, 16 targets" in said
    facts = rehearse(fresh("text-test"), pairs, quick(loss="infonce(symmetric=False, in_batch=False)"))
    assert "learns nothing from them (--without-negatives drop leaves them out)" in facts["rows"]
    assert (
        "does not look at the hard negatives"
        in rehearse(fresh("text-test"), [replace(pair, score=0.5) for pair in pairs], quick(loss="cosent"))["rows"]
    )
    empty = as_csv([{"query": f"q {i}", "positive": f"p {i}", "negative": None} for i in range(6)], tmp_path / "e.csv")
    assert main(["train", str(empty), *command[2:]]) == 0
    assert "e.csv: no row has a negative: negative holds nothing" in capsys.readouterr().out


def test_rows_are_dropped_where_that_is_asked_for(tmp_path):
    pairs, _ = tables("columns.csv", tmp_path)
    recipe = quick(without_negatives="drop", batch_size=8)
    found = of_stage(set_aside(pairs, 0), recipe)
    assert found.rows.tolist() == [i for i in range(12) if i % 3 != 1]
    train(fresh("text-test"), pairs, recipe, tmp_path / "run", **CALM)
    noted = json.loads((tmp_path / "run" / "data.json").read_text())
    assert noted["hard negatives"].startswith("4 of 12 rows have no negative: left out, as was asked for")
    with pytest.raises(PairsError, match="a batch of 9 is larger than the 8 pairs that are left"):
        train(fresh("text-test"), pairs, replace(recipe, batch_size=9), tmp_path / "more", **CALM)
    plain = text_pairs(6)
    with pytest.raises(PairsError, match="no pairs are left to train on: no pair has a hard negative"):
        train(fresh("text-test"), plain, quick(without_negatives="drop", batch_size=2), tmp_path / "none", **CALM)
    with pytest.raises(RecipeError, match="without_negatives must be keep or drop"):
        quick(without_negatives="leave")


def test_an_image_negative_that_is_not_there_is_lost_alone(images):
    rows = [{"query": f"q {i}", "positive_image": ("red.png", "blue.png")[i % 2]} for i in range(8)]
    for i, row in enumerate(rows):
        row["negative_1_image"] = ("blue.png", "gone.png", "cut.png")[i % 3]
        row["negative_2_image"] = "red.png" if i % 2 else "blue.png"
    pairs = open_pairs(as_csv(rows, images / "t.csv"))
    found = set_aside(pairs, 3)
    assert len(found) == 8
    assert list(found.bad) == [f"t.csv, line {i + 2}" for i in (1, 4, 7)]
    assert "gone.png; the pair goes without it" in found.bad["t.csv, line 3"]
    with pytest.raises(TooManyBadItemsError, match="3 of 8 inputs are bad"):
        set_aside(pairs, 2)
    feed = make_feed(fresh(), found, quick(batch_size=8, max_bad=5), images, progress=False)
    batch = feed.batch(0)
    assert sorted(batch.rows) == list(range(8))  # all of them train
    left = {row: (batch.numbers[16 + 2 * i : 18 + 2 * i] >= 0).sum().item() for i, row in enumerate(batch.rows)}
    assert left == {row: 2 if row % 3 == 0 else 1 for row in range(8)}
    listed = feed.skipped.reasons  # missing ones before, cut ones when they are decoded
    assert set(listed) == {f"t.csv, line {i + 2}" for i in (1, 2, 4, 5, 7)}
    assert "the pair goes without it" in listed["t.csv, line 4"]


def test_one_of_several_positives_that_is_not_there_is_lost_alone(images):
    rows = [{"query": f"q {i}", "positive_image": ["gone.png", "red.png"] if i else ["blue.png"]} for i in range(4)]
    found = set_aside(open_pairs(as_jsonl(rows, images / "t.jsonl")), 3)
    assert [pair.positive.image.name for pair in found] == ["blue.png", "red.png", "red.png", "red.png"]
    assert list(found.bad) == [f"t.jsonl, line {line}" for line in (2, 3, 4)]
    assert all("gone.png; the pair goes without it" in reason for reason in found.bad.values())
    gone = [{"query": "q", "positive_image": ["gone.png", "none.png"]}, rows[0]]
    assert len(set_aside(open_pairs(as_jsonl(gone, images / "u.jsonl")), 1)) == 1


def test_rows_without_scores_are_numbered_among_those_that_are_left():
    broken, scored, bare, alone = [*text_pairs(3, negatives=1), *text_pairs(1)]
    broken, scored = replace(broken, score=math.nan), replace(scored, teacher_scores=(0.9, 0.1))
    found = set_aside([broken, scored, bare, alone], 1)
    assert [found[row] for row in found.unscored] == [bare]


def test_rows_that_were_looked_at_are_looked_at_once():
    reads = []

    class Counted(list):
        def __getitem__(self, row):
            reads.append(row)
            return super().__getitem__(row)

    found = set_aside(Counted(text_pairs(6)), 0)
    reads.clear()
    assert set_aside(found, 0) is found
    assert isinstance(found, GoodRows)
    assert np.array_equal(negatives_of(Selection(found, [1, 2])), [0, 0])
    assert known_answers(Selection(found, [1, 2])).sizes.tolist() == [2, 2]
    assert not reads
