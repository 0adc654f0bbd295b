"""Comparisons and evaluations with reranked results: places against plain recomputations, both models in one table, refusals."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.cli import main
from zoo.errors import ArgumentError, QuestionsError
from zoo.evaluation.pairs import rank
from zoo.evaluation.ranking import Links
from zoo.evaluation.reordering import Reordering

NAME = "qwen3vl-reranker-test"
THINGS = ["cat", "dog", "boat", "tree", "house", "river", "stone", "cloud", "flower", "train", "bird", "fish"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("reranked")
    zoo.build_model("text-test").save_pretrained(folder / "model")
    zoo.build_reranker(NAME).save_pretrained(folder / "judge")
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "positive"])
        writer.writerows([f"what is a {thing}?", f"number {n} is a {thing}"] for n, thing in enumerate(THINGS))
    with (folder / "grades.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "positive", "score"])
        writer.writerows([f"a {thing}", f"the {thing}", n / 12] for n, thing in enumerate(THINGS))
    return folder


@pytest.mark.parametrize("top", [1, 3, 7, 40])
def test_places_are_those_of_the_new_order(top: int):
    rng = np.random.default_rng(top)
    queries, candidates = 25, 20
    asked, ranked = (torch.from_numpy(rng.normal(size=(n, 8)).astype(np.float32)) for n in (queries, candidates))
    linked = rng.random((queries, candidates)) < 0.15
    linked[np.arange(queries), rng.integers(0, candidates, queries)] = True
    right = Links.of(*np.nonzero(linked))
    none = Links.of(np.zeros(0), np.zeros(0))
    scores = rng.integers(0, 4, (queries, candidates)).astype(float)  # many ties
    scores[rng.random(scores.shape) < 0.1] = np.nan

    def links(*ends):
        return right.part(*ends), none.part(*ends)

    reorder = Reordering(lambda pairs: np.array([scores[pair] for pair in pairs]), top)
    found = rank(asked, ranked, links, reorder=reorder)
    plain = rank(asked, ranked, links)
    for row in range(queries):
        first = (-(asked[row] @ ranked.T)).argsort().tolist()
        told = np.nan_to_num(scores[row], nan=-1)
        again = sorted(first[:top], key=lambda c: (-told[c], linked[row, c], first.index(c)))
        order = [*again, *first[top:]]
        places = [order.index(c) + 1 for c in np.flatnonzero(linked[row])]
        assert found.ranks[row] == min(places)
        assert found.first[row] == order[0]
        assert found.recall[row].tolist() == [sum(at <= k for at in places) / len(places) for k in (1, 5, 10)]
        gained = sum(1 / np.log2(at + 1) for at in places if at <= 10)
        ideal = sum(1 / np.log2(at + 1) for at in range(1, min(len(places), 10) + 1))
        assert found.ndcg[row] == pytest.approx(gained / ideal)
    assert (found.right == plain.right).all()


def test_a_model_is_told_with_and_without_its_reranker(place: Path):
    model, judge = zoo.load_model(place / "model"), zoo.load_reranker(place / "judge", device="cpu")
    found = zoo.compare([model], place / "pairs.csv", speed=False, reranker=judge, rerank_top=5)
    assert [entry.name for entry in found.entries] == ["text-test", f"text-test + {NAME}"]
    (key,) = found.keys
    plain, again = (entry.scores[key] for entry in found.entries)
    queries, texts = ([f"what is a {t}?" for t in THINGS], [f"number {n} is a {t}" for n, t in enumerate(THINGS)])
    similarity = model.encode_query(queries) @ model.encode_document(texts).T
    ranks = []
    for row, query in enumerate(queries):
        order = (-similarity[row]).argsort().tolist()
        scores = dict(zip(order[:5], judge.score(query, [texts[c] for c in order[:5]]).tolist(), strict=True))
        order = [*sorted(order[:5], key=lambda c: -scores[c]), *order[5:]]
        ranks.append(order.index(row) + 1)
    assert again.ranking.ranks.tolist() == ranks
    assert again.figures["mrr"].value == pytest.approx(np.mean([1 / at for at in ranks]))
    assert "first 5 reranked by" in again.notes
    assert plain.direction == again.direction == "query → answer"
    results = [found.results(entry) for entry in found.entries]
    assert {one.protocol for one in results[0]} == {""}
    assert {one.protocol for one in results[1]} == {f"first 5 reranked by {NAME}"}
    assert f"--rerank {NAME} --rerank-top 5" in results[1][0].source
    assert found.entries[1].params > found.entries[0].params
    assert f"text-test + {NAME}" in found.html


def test_the_commands(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(place)
    assert (
        main(
            [
                "eval",
                "./model",
                "--data",
                "pairs.csv",
                "--rerank",
                "./judge",
                "--rerank-top",
                "2",
                "--out",
                "found.json",
                "--cache",
                "c",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert f"text-test + {NAME}" in out or f"model + {NAME}" in out
    kept = json.loads((place / "found.json").read_text("utf-8"))
    assert {one.get("protocol", "") for one in kept} == {"", f"first 2 reranked by {NAME}"}
    assert (
        main(
            [
                "compare",
                "./model",
                "--data",
                "pairs.csv",
                "--rerank",
                "./judge",
                "--rerank-top",
                "2",
                "--json",
                "--cache",
                "c",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert len(told["models"]) == 2
    assert "--rerank judge --rerank-top 2" in told["command"]


REFUSED = [
    (["eval", "./model", "--pairs", "pairs.csv", "--rerank", "./judge"], "--rerank is of --data"),
    (["eval", "./model", "--data", "pairs.csv", "--rerank-top", "3"], "--rerank-top is of --rerank"),
    (["eval", "./model", "--data", "grades.csv", "--rerank", "./judge"], "has no results to rerank"),
    (["compare", "./model", "--data", "pairs.csv", "--rerank", "./judge", "--budget", "dim=64"], "leave one of them out"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_what_cannot_be_reranked_is_refused_before_a_model_is_opened(
    place: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(place)
    monkeypatch.setattr("zoo.cli._data.open_reranker", None)
    assert main(arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_refusals_in_python(place: Path):
    model = zoo.load_model(place / "model")
    with pytest.raises(QuestionsError, match="has no results to rerank"):
        zoo.compare([model], place / "grades.csv", speed=False, reranker="never-opened")
    with pytest.raises(ArgumentError, match=r"write reranker="):
        zoo.compare([model], place / "pairs.csv", speed=False, reranker=5)
    judge = zoo.load_reranker(place / "judge", device="cpu")
    with pytest.raises(ArgumentError, match="budget is of one model"):
        zoo.compare([model], place / "pairs.csv", speed=False, reranker=judge, budget="dim=64")
