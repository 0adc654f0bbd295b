"""mteb's retrieval tasks in two stages: the figures are those of a plain recomputation, and what ranks nothing is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.errors import ArgumentError, NoResultError
from zoo.evaluation.jobs import measure

pytest.importorskip("mteb")

DOCUMENTS = [
    "a red boat",
    "a cat sleeps",
    "the motor stopped",
    "a boat at night",
    "two dogs",
    "error of the motor",
    " ",
]
QUERIES = {"q0": ("which boat", "d3"), "q1": ("what is broken", "d5"), "q2": ("an animal", "d1")}


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    torch.manual_seed(0)
    return zoo.build_model("text-test").eval()


@pytest.fixture(scope="module")
def reranker() -> zoo.Reranker:
    torch.manual_seed(0)
    return zoo.build_reranker("ms-marco-test").eval()


def task() -> Any:
    import datasets

    from tests.evaluation.mteb_tasks import retrieval

    queries = datasets.Dataset.from_dict({"id": list(QUERIES), "text": [text for text, _ in QUERIES.values()]})
    corpus = datasets.Dataset.from_dict({"id": [f"d{at}" for at in range(len(DOCUMENTS))], "text": DOCUMENTS})
    return retrieval("Rerank", "t2t", queries, corpus, {query: {right} for query, (_, right) in QUERIES.items()})


def job(task: Any, reranker: zoo.Reranker, top: int) -> Any:
    from zoo.evaluation.mteb_rerank import SecondStage
    from zoo.evaluation.tasks import _mteb_job

    return _mteb_job(task, None, SecondStage(reranker, "ms-marco-test", top))


def expected(model: zoo.Embedder, reranker: zoo.Reranker, top: int) -> tuple[float, float]:
    """nDCG@10 of the one right document, by the vectors alone and with the first ones ranked anew."""
    figures: list[list[float]] = [[], []]
    readable = [at for at, text in enumerate(DOCUMENTS) if text.strip()]
    vectors = model.encode_document([DOCUMENTS[at] for at in readable])
    for query, right in QUERIES.values():
        similar = dict.fromkeys(range(len(DOCUMENTS)), 0.0)  # what has no vector is similar to nothing
        similar |= dict(zip(readable, (model.encode_query(query) @ vectors.T).tolist(), strict=True))
        first = sorted(similar, key=similar.__getitem__, reverse=True)
        best = [at for at in first[:top] if at in readable]
        scores = reranker.score(query, [DOCUMENTS[at] for at in best])
        again = [best[at] for at in scores.argsort(descending=True).tolist()]
        for found, order in zip(figures, (first, again), strict=True):
            place = order.index(int(right[1:])) if int(right[1:]) in order else None
            found.append(0.0 if place is None else 1 / math.log2(place + 2))
    return tuple(sum(some) / len(some) for some in figures)  # type: ignore[return-value]


@pytest.mark.parametrize("top", [2, 7])
def test_both_stages_are_as_computed_plainly(
    top: int, model: zoo.Embedder, reranker: zoo.Reranker, tmp_path: Any
) -> None:
    results, remembered = measure(job(task(), reranker, top), model, shown="text-test", cache=tmp_path)
    alone, ranked = expected(model, reranker, top)
    assert not remembered
    assert [(one.part, one.value) for one in results] == [
        ("", pytest.approx(alone, abs=1e-4)),
        ("reranked", pytest.approx(ranked, abs=1e-4)),
    ]
    assert results[1].source.endswith(f"--tasks Rerank --rerank ms-marco-test --rerank-top {top}")
    assert f"the first {top} in the order of ms-marco-test" in results[1].notes
    assert not list(tmp_path.rglob("*.json")), "the reranker's weights have no fingerprint, so nothing is remembered"


def test_what_has_no_second_stage_is_refused(
    reranker: zoo.Reranker, model: zoo.Embedder, tmp_path: Any, capsys: Any
) -> None:
    import mteb

    from zoo.evaluation.mteb_rerank import SecondStage
    from zoo.evaluation.tasks import find_jobs

    with pytest.raises(NoResultError, match=r"ranks nothing .it is of the type STS.; leave --rerank out"):
        measure(job(mteb.get_task("STS12"), reranker, 2), model, shown="text-test", cache=tmp_path)
    with pytest.raises(ArgumentError, match="--rerank is of mteb's tasks, and photos is none"):
        find_jobs(["photos"], None, SecondStage(reranker, "x", 2))
    assert main(["eval", "text-test", "--rerank", "ms-marco-minilm-l6-v2"]) == 2
    assert main(["eval", "text-test", "--pairs", "a.csv", "--rerank", "ms-marco-minilm-l6-v2"]) == 2
    assert "or of mteb's --tasks of one model" in capsys.readouterr().err
