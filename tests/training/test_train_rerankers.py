"""Rerankers by the one trainer: they learn, go on in the same bits, are saved and opened again, and refuse what is not theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo.training import rehearse, train
from zoo.training.checkpoint import checkpoints_in, remove_checkpoint
from zoo.training.errors import LossError, PairsError, RecipeError, UnreadColumnError
from zoo.training.kinds import kind_of, trained
from zoo.training.kinds.group_feed import GroupFeed
from zoo.training.kinds.group_scoring import GroupScoring
from zoo.training.losses import build_loss
from zoo.training.recipes import Lora
from zoo.training.run import Run
from zoo.training.trainer import make_feed

import zoo
from tests.training.train_support import fresh, fresh_reranker, quick, same_weights, text_pairs
from zoo.cli import main
from zoo.errors import UnknownModelError, UnsupportedModalityError
from zoo.evaluation.reranked import Group, RerankedScores, compare_reranking, evaluate_reranking
from zoo.inputs.item import Item
from zoo.tables.pairs import Pair

CALM = {"progress": False, "trackers": (), "report": False}
COLOURS = ("red", "blue", "green", "black", "white", "brown")
THINGS = ("house", "boat", "tree", "coat", "stone", "bird")


def colours(count: int = 36, negatives: int = 0) -> list[Pair]:
    """A query is right for the document of its colour: what a tiny model can learn in a few steps."""
    rows = [(i % 6, (i // 6) % 6) for i in range(count)]
    return [
        Pair(
            Item(text=COLOURS[c]),
            Item(text=f"{COLOURS[c]} {THINGS[t]}"),
            tuple(Item(text=f"{COLOURS[(c + k + 1) % 6]} {THINGS[t]}") for k in range(negatives)),
            where=f"colours, line {i}",
        )
        for i, (c, t) in enumerate(rows)
    ]


def go(recipe, folder: Path, pairs=None, **options):
    return train(fresh_reranker(), colours() if pairs is None else pairs, recipe, folder, **{**CALM, **options})


def losses_of(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").open()]


# ------------------------------------------------------------------------------------------------------------ a run


@pytest.mark.parametrize("loss", [pytest.param("binary", marks=pytest.mark.slow), "plistmle"])
def test_a_run_learns_and_its_folder_is_a_reranker(loss: str, tmp_path: Path):
    """The loss falls, right documents come first, and what is opened scores as what was trained."""
    # Held out is what is learned: whether it learns is asked, not whether it generalises.
    recipe = quick(loss=loss, steps=40, batch_size=12, lr=1e-2, checkpoint_every=40, evaluate_every=20, keep_leaks=True)
    model = go(recipe, tmp_path, colours(36, 2), held_out=colours(36, 3))
    curve = losses_of(tmp_path)
    assert np.mean(curve[-5:]) < np.mean(curve[:5]) - 0.02
    before, *_, after = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").open()]
    assert before["measure"] == "MRR@10 of the right document"
    assert after["figures"]["mrr@10"] > before["figures"]["mrr@10"] + 0.2
    opened = zoo.load_reranker(tmp_path, device="cpu")
    documents = [pair.positive for pair in colours(6)]
    torch.testing.assert_close(opened.score("red", documents), model.score("red", documents), atol=1e-6, rtol=0)
    assert opened.spec.name == tmp_path.name.replace("_", "-").strip("-")
    card = (tmp_path / "README.md").read_text()
    assert "load_reranker(" in card
    assert "mrr@10" in card
    verdict = json.loads((tmp_path / "scores.json").read_text())["verdict"]
    assert verdict["kind"] == "better"


@pytest.mark.slow
def test_sentence_transformers_opens_the_folder_of_a_run(tmp_path: Path):
    """Its CrossEncoder gives the same scores, beside the card, the curves and the checkpoints."""
    from sentence_transformers import CrossEncoder

    model = go(quick(loss="binary", steps=2), tmp_path, colours(12, 1))
    pairs = [("red", "red house"), ("blue " * 9, "green boat " * 40)]
    theirs = CrossEncoder(str(tmp_path), device="cpu").predict(pairs, show_progress_bar=False)
    torch.testing.assert_close(model.score(pairs), torch.from_numpy(theirs), atol=1e-5, rtol=0)


def test_a_stopped_run_goes_on_in_the_same_bits(tmp_path: Path):
    recipe = quick(loss="binary + 0.5 * plistmle", steps=4, checkpoint_every=1, evaluate_every=2)
    pairs = colours(18, 2)
    pairs[1] = replace(pairs[1], negatives=pairs[1].negatives[:1])  # of which a place stays empty
    held = text_pairs(12)
    whole = go(recipe, tmp_path / "whole", pairs, held_out=held)
    go(recipe, tmp_path / "cut", pairs, held_out=held)
    for late in checkpoints_in(tmp_path / "cut" / "checkpoints")[2:]:
        remove_checkpoint(late)
    facts = json.loads((tmp_path / "cut" / "recipe.json").read_text())
    (tmp_path / "cut" / "recipe.json").write_text(json.dumps({k: v for k, v in facts.items() if k != "finished"}))
    assert same_weights(go(recipe, tmp_path / "cut", pairs, held_out=held, resume=True), whole)
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        rows = [
            [
                {k: v for k, v in json.loads(line).items() if k not in ("items_per_s", "wait_share")}
                for line in (tmp_path / run / name).open()
            ]
            for run in ("whole", "cut")
        ]
        assert rows[0] == rows[1]


def test_a_micro_batch_gives_the_same_gradient(tmp_path: Path):
    """Also where rows have fewer negatives than others, whose empty places cost nothing and teach nothing."""
    pairs = colours(12, 3)
    pairs[1] = replace(pairs[1], negatives=pairs[1].negatives[:1])
    found = []
    for micro in (None, 5):
        model = trained(fresh_reranker())
        recipe = quick(loss="plistmle", batch_size=12, micro_batch=micro)
        run = Run(model, recipe, build_loss(recipe.loss))
        model.eval()  # micro-batches draw dropout apart
        feed = make_feed(model, pairs, recipe, tmp_path, progress=False)
        run._gradients(feed.batch(0))
        found.append(torch.cat([p.grad.flatten() for p in run.weights]))
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-4)


def test_adapters_learn_beside_the_classifier(tmp_path: Path):
    base = fresh_reranker()
    model = go(quick(loss="binary", lora=Lora(rank=2), steps=2), tmp_path, colours(12, 1))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, base.state_dict()[name])}
    assert any(".query." in name for name in moved)
    assert any(name.startswith("head.") for name in moved)
    assert not any("word_embeddings" in name for name in moved)


# --------------------------------------------------------------------------------------------------------- the data


def feed_of(pairs: list[Pair], tmp_path: Path, **changes) -> GroupFeed:
    recipe = quick(loss="binary", **changes)
    return make_feed(trained(fresh_reranker()), pairs, recipe, tmp_path, progress=False)


def test_documents_of_other_rows_are_never_right(tmp_path: Path):
    """Of colours that come six times each, no document of the query's own colour; other ones in every step, the same when asked
    again."""
    feed = feed_of(colours(), tmp_path, batch_size=36)
    assert feed.told == "4 documents of other rows beside each query"
    drawn = []
    for step in (0, 1, 0):
        lines = feed._read_pairs(step, 0, range(36))
        for one in lines:
            query, _, *others = (item.text for item in one.items)
            assert len(others) == len(set(others)) == 4
            assert not any(other.startswith(query) for other in others)
        drawn.append([[item.text for item in one.items] for one in lines])
    assert drawn[0] == drawn[2] != drawn[1]
    batch = feed.batch(0)
    assert len(batch.reads) == 36 * 5
    assert torch.equal(batch.extras["labels"], torch.tensor([[1.0, 0, 0, 0, 0]]).expand(36, 5))


def test_hard_negatives_grades_and_empty_places_are_labels(tmp_path: Path):
    pairs = [replace(pair, score=0.5) for pair in colours(6, 2)]
    pairs[3] = replace(pairs[3], negatives=())
    feed = feed_of(pairs, tmp_path, batch_size=6, random_negatives=1)
    labels = feed.batch(0).extras["labels"][np.argsort(feed.batch(0).rows)]
    assert torch.equal(labels[0], torch.tensor([0.5, 0, 0, 0]))
    assert labels[3].tolist() == [0.5, 0, -np.inf, -np.inf]  # the document of another row comes first
    assert feed_of(pairs, tmp_path, batch_size=6).told == ""


def test_a_teacher_scores_the_pairs_once(tmp_path: Path, monkeypatch):
    """Its logits are what the loss reads; a run that goes on asks it for nothing."""
    teacher = fresh_reranker(seed=5)
    teacher.save_pretrained(tmp_path / "teacher")
    recipe = quick(loss="score_distillation", steps=2, teacher=str(tmp_path / "teacher"))
    pairs = colours(12, 2)
    model = trained(fresh_reranker())
    loss = build_loss(recipe.loss)
    taught = kind_of(model).teacher(model, pairs, recipe, tmp_path / "run", loss, progress=False)
    feed = make_feed(model, pairs, recipe, tmp_path / "run", progress=False, teacher=taught)
    batch = feed.batch(0)
    row = pairs[batch.rows[0]]
    inputs = teacher.collate([teacher.prepare(row.query, document) for document in (row.positive, *row.negatives)])
    with torch.no_grad():
        torch.testing.assert_close(batch.extras["teacher_scores"][0], teacher.logits(inputs), atol=1e-5, rtol=0)
    monkeypatch.setattr(
        "zoo.training.kinds.teacher_scores.PairScorer.__call__", lambda self, pairs: [1 / 0 for _ in pairs]
    )
    kind_of(model).teacher(model, pairs, recipe, tmp_path / "run", loss, progress=False)
    monkeypatch.undo()
    itself = kind_of(model).teacher(
        model, pairs, replace(recipe, teacher="itself"), tmp_path / "own", loss, progress=False
    )
    assert itself.score(row.query, row.positive) == pytest.approx(
        model.reranker.eval().logits(model.reranker.collate([model.reranker.prepare(row.query, row.positive)])).item(),
        abs=1e-5,
    )


def test_a_column_of_teacher_scores_is_read(tmp_path: Path):
    pairs = [replace(pair, teacher_scores=(3.0, -1.0, 0.5)) for pair in colours(12, 2)]
    go(quick(loss="score_distillation('listwise')", steps=1), tmp_path, pairs)
    with pytest.raises(PairsError, match="needs teacher_scores"):
        go(quick(loss="score_distillation", steps=1), tmp_path / "none", colours(12, 2))


def test_truncated_pairs_are_told(tmp_path: Path, capsys):
    model = trained(fresh_reranker())
    told = kind_of(model).truncated
    assert told(model, colours(12, 1), quick()) == []
    long = [replace(pair, negatives=(Item(text="a house " * 60),)) for pair in colours(12)]
    assert told(model, long, quick()) == [
        "50 % of the queries with their documents are truncated: the model reads 128 tokens of both (12 of 24 that were looked at)"
    ]
    limit = 129 - len(model.reranker.prepare("red", "a").ids)
    assert [model.reranker.lost_tokens("red", "a" * count) for count in (limit, limit + 1, limit + 9)] == [0, 1, 9]
    judge = fresh_reranker("qwen3vl-reranker-test")
    assert [judge.lost_tokens("red", "a" * count) > 0 for count in (8, 5000)] == [False, True]


# ------------------------------------------------------------------------------------------------------- held-out pairs


def test_the_candidates_of_a_held_out_query(tmp_path: Path):
    """Its hard negatives first, then documents that are right for no query of its content; ten in all, always the same."""
    options = {"resume": False, "progress": False}
    scoring = GroupScoring(tmp_path, trained(fresh_reranker()), colours(36, 2), ("", ""), **options)
    again = GroupScoring(tmp_path, trained(fresh_reranker()), colours(36, 2), ("", ""), **options)
    for one, other in zip(scoring._groups.values(), again._groups.values(), strict=True):
        texts = [item.text for item in one.others]
        assert texts == [item.text for item in other.others]
        assert len(set(texts)) == 9
        assert not any(text.startswith(one.query.text) for text in texts)
    first = next(iter(scoring._groups.values()))
    assert [item.text for item in first.others[:2]] == ["blue house", "green house"]


def test_places_and_their_differences():
    """Ties count against the right document; what cannot be read is left out and listed."""
    items = [Item(text=str(i)) for i in range(4)]
    groups = [Group(items[0], items[1], items[2:]), Group(items[1], items[0], items[2:]), Group(items[2], items[3], ())]
    bad = UnsupportedModalityError("no", what="image")
    scores = evaluate_reranking(lambda pairs: [3.0, 1.0, bad, 1.0, 1.0, 2.0, bad], groups)
    assert scores.ranks.tolist() == [1, 3]
    assert scores.candidates.tolist() == [2, 3]
    assert scores.values("mrr@10").tolist() == [1, 1 / 3]
    assert scores.values("accuracy@1").tolist() == [1, 0]
    assert [message.split(":")[0] for message in scores.skipped] == ["document item 0", "document item 2"]
    again = RerankedScores.from_dict(json.loads(json.dumps(scores.to_dict())))
    assert compare_reranking(scores, again)["mrr@10"].value == 0
    with pytest.raises(ValueError, match="behind the last"):
        RerankedScores.from_dict({**scores.to_dict(), "ranks": [9, 1]})


def test_graded_pairs_are_judged_by_their_order(tmp_path: Path):
    pairs = [replace(pair, score=i % 3 / 2) for i, pair in enumerate(colours(24))]
    go(quick(loss="binary", steps=1, evaluate_every=1), tmp_path, pairs[:12], held_out=pairs[12:])
    rows = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").open()]
    assert {row["measure"] for row in rows} == {"Spearman of similarity and grade"}
    assert "mrr@10" in rows[0]["figures"]


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"loss": "infonce"}, LossError, "infonce trains embedders, and ms-marco-test is a reranker; take binary"),
        ({"augment": "crop"}, RecipeError, "augment='crop' is of embedders"),
        ({"query_prompt": "query: "}, RecipeError, "query_prompt='query: ' is of embedders"),
        ({"combiner": 8}, RecipeError, "combiner=8 is of embedders"),
        ({"loss": "plistmle", "random_negatives": 0}, PairsError, "nothing to tell a query's document from"),
        ({"loss": "binary", "random_negatives": 0}, PairsError, "nothing to tell a query's document from"),
        ({"teacher": "ms-marco-test"}, RecipeError, "binary reads no teacher's scores"),
        (
            {"loss": "score_distillation", "teacher": "text-test"},
            UnknownModelError,
            "no reranker is called 'text-test'",
        ),
        (
            {"loss": "score_distillation", "teacher": "itself", "random_negatives": 2},
            PairsError,
            "a teacher's scores are of the pairs' own negatives",
        ),
    ],
)
def test_what_is_not_a_rerankers_is_refused_before_the_run(changes: dict, error: type, message: str, tmp_path: Path):
    recipe = quick(**{"loss": "binary", **changes})
    for run in (lambda: go(recipe, tmp_path / "run"), lambda: rehearse(fresh_reranker(), colours(), recipe)):
        with pytest.raises(error, match=message):
            run()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_grades_and_inputs_that_do_not_fit_are_refused(tmp_path: Path):
    with pytest.raises(PairsError, match=r"has the grade 2, and the loss binary reads 0 to 1"):
        go(quick(loss="binary"), tmp_path, [replace(pair, score=float(i)) for i, pair in enumerate(colours(5))] * 3)
    with pytest.raises(UnreadColumnError, match=r"Take a loss that reads it \(binary, plistmle\)"):
        go(quick(loss="score_distillation"), tmp_path, [replace(pair, score=0.5) for pair in colours(12, 1)])
    image = Item(image=np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UnsupportedModalityError, match="reads text, not image"):
        go(quick(loss="binary"), tmp_path, [replace(pair, positive=image) for pair in colours(12)])
    with pytest.raises(LossError, match="the loss binary trains rerankers, and text-test is an embedder"):
        train(fresh("text-test"), colours(), quick(loss="binary"), tmp_path, **CALM)
    with pytest.raises(RecipeError, match="random_negatives=2 is of rerankers"):
        train(fresh("text-test"), colours(), quick(random_negatives=2), tmp_path, **CALM)


# ------------------------------------------------------------------------------------------------------- the command


def test_the_command_trains_one_and_goes_on(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{pair.query.text},{pair.positive.text}" for pair in colours(18)]
    (tmp_path / "pairs.csv").write_text("query,positive\n" + "\n".join(rows) + "\n")
    options = ["--model", "ms-marco-test", "--from-scratch", "--recipe", "reranker", "--holdout", "0", "--log", "none"]
    command = ["train", "pairs.csv", *options, "--batch-size", "6", "--steps", "1", "--random-negatives", "2"]
    assert main([*command, "--out", "run"]) == 0
    told = capsys.readouterr().out
    assert "2 documents of other rows beside each query" in told
    assert "open it with load_reranker('./run')" in told
    assert main(["train", "--resume", "run", "--steps", "2"]) == 0
    assert len(losses_of(tmp_path / "run")) == 2
    assert main(["rerank", "run", "red", "--text", "red boat", "--text", "blue boat"]) == 0
    assert main([*command[:2], "--model", "run", "--loss", "infonce", "--out", "no"]) == 2
    assert "is a reranker; take binary" in capsys.readouterr().err
    assert main([*command, "--model", "ms-marco-tset", "--out", "no"]) == 2
    assert "no reranker is called 'ms-marco-tset'; nearest: " in capsys.readouterr().err
