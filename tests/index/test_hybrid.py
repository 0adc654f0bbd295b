"""Hybrid search: fusion and BM25 against plain recomputations, both stores, filters, updates, what is kept and what is refused."""

import contextlib
import math
import random
import warnings
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch

import zoo
from tests.index.index_support import BACKENDS, DIM, PRINT, vectors
from zoo.errors import ArgumentError, IndexStateError
from zoo.index import HybridIndex, SearchHit, reciprocal_rank_fusion
from zoo.index import bm25 as module
from zoo.index.bm25 import K1, B, terms
from zoo.index.text_rows import keep
from zoo.similarity import lexical

TEXTS = [
    "a red boat on the river",
    "the river in the evening",
    "a cat sleeps on the boat",
    "error E1234 of the motor",
    None,
    "the motor of a red boat, a boat with a motor",
    "",
    "猫が寝ている",
]
COLUMNS = pa.schema([("text", pa.string()), ("title", pa.string()), ("year", pa.int64())])


@pytest.fixture(params=BACKENDS)
def index(request, tmp_path):
    """Eight rows, of which two have no text."""
    if request.param == "lancedb":
        pytest.importorskip("lancedb")
    made = BACKENDS[request.param].create(tmp_path / "index", fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    rows = range(len(TEXTS))
    columns = {"text": TEXTS, "title": [f"title{i}" for i in rows], "year": [2000 + i for i in rows]}
    made.upsert([f"r{i}" for i in rows], vectors(len(TEXTS)), columns, [f"lines.txt#{i}" for i in rows])
    return made


QUERY = vectors(1, seed=7)[0]


def closed_form(query, texts):
    """BM25 of every text as in Lucene: idf ln(1 + (N - n + 0.5) / (n + 0.5)), terms of more than half of the texts left out."""
    documents = [terms(text or "") for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    most = sum(map(bool, documents)) / 2
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for term in terms(query):
            n = sum(term in one for one in documents)
            if not n or n > most:
                continue
            idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
            tf = counts[term]
            score += idf * tf / (tf + K1 * (1 - B + B * len(document) / mean))
        scores.append(score)
    return scores


def test_fusion_equals_the_formula():
    chance = random.Random(0)
    for _ in range(20):
        lists = {name: chance.sample(range(30), chance.randrange(1, 20)) for name in ("dense", "bm25", "sparse")}
        found = reciprocal_rank_fusion({name: list(map(str, ids)) for name, ids in lists.items()})
        for one in found:
            ranks = {name: ids.index(int(one.id)) + 1 for name, ids in lists.items() if int(one.id) in ids}
            assert one.ranks == ranks
            assert one.score == pytest.approx(sum(1 / (60 + rank) for rank in ranks.values()))
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        assert {one.id for one in found} == {str(one) for ids in lists.values() for one in ids}
    assert [one.id for one in reciprocal_rank_fusion({"a": ["x", "y"], "b": ["y", "x"]})] == ["x", "y"]  # as they came
    assert reciprocal_rank_fusion({"a": [], "b": []}) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red BOATS, e-mail x_1; 3.5", ["red", "boats", "e", "mail", "x_1", "3", "5"]),
        ("Straße ＡＢＣ ﬁn", ["strasse", "abc", "fin"]),
        ("東京tower 猫", ["東", "京", "東京", "tower", "猫"]),
        ("딸기", ["딸", "기", "딸기"]),
        ("स्ट्रॉबेरी फल।", ["स्ट्रॉबेरी", "फल"]),
        ("قِطّ", ["قِطّ"]),
        ("", []),
        ("…—!", []),
    ],
)
def test_terms_of_many_scripts(text, expected):
    assert terms(text) == expected


@pytest.mark.parametrize(
    "query", ["red boat", "boat boat motor", "the river", "E1234", "猫", "寝て", "of nothing", "xyz"]
)
def test_bm25_equals_the_closed_form_and_the_library(index, query):
    import bm25s

    scores = closed_form(query, TEXTS)
    expected = sorted((i for i, score in enumerate(scores) if score > 0), key=lambda i: (-scores[i], i))
    assert HybridIndex(index).bm25.search(index, query, 10) == [f"r{i}" for i in expected]
    library = bm25s.BM25(k1=K1, b=B, method="lucene")
    library.index([terms(text or "") for text in TEXTS], show_progress=False)
    asked = [term for term in terms(query) if sum(term in terms(text or "") for text in TEXTS) <= 3]
    found = library.get_scores(asked) if asked else np.zeros(len(TEXTS))
    np.testing.assert_allclose(found, scores, atol=1e-6)


@pytest.mark.parametrize("where", [None, "year >= 2002", "title IN ('title0', 'title5', 'title4')", "year < 1900"])
def test_both_lists_are_those_of_their_searches(index, where):
    hybrid = HybridIndex(index)
    found = hybrid.search("red boat motor", QUERY, 8, where=where)
    dense = index.search(QUERY, 100, where=where)
    allowed = {hit.id for hit in dense}
    words = [one for one in hybrid.bm25.search(index, "red boat motor", 100) if one in allowed]
    expected = reciprocal_rank_fusion({"dense": [hit.id for hit in dense], "bm25": words})
    assert [(hit.id, hit.fused, hit.ranks) for hit in found] == [(one.id, one.score, one.ranks) for one in expected]
    scores = {hit.id: hit for hit in dense}
    for hit in found:
        assert (hit.score, hit.reference, hit.attributes) == (
            scores[hit.id].score, scores[hit.id].reference, scores[hit.id].attributes,
        )  # fmt: skip


def test_what_the_vectors_did_not_reach_is_fetched_with_its_similarity(index):
    far = index.search(QUERY, 8)[-1]
    dense = index.search(QUERY, 2)
    found = HybridIndex(index, ["title"]).fuse(f"title{far.id[1:]}", QUERY, dense, depth=2)
    last = next(hit for hit in found if hit.id == far.id)
    assert last.ranks == {"bm25": 1}
    assert last.score == pytest.approx(far.score, abs=1e-6)
    assert last.attributes == far.attributes


def test_several_columns_and_rows_without_text(index):
    found = HybridIndex(index, ["text", "title"]).search("title4 river", QUERY, 8)
    assert {"r0", "r1", "r4"} == {hit.id for hit in found if "bm25" in hit.ranks}
    assert {hit.id for hit in HybridIndex(index).search("river", QUERY, 8)} == {f"r{i}" for i in range(8)}
    with pytest.raises(ArgumentError, match=r"no such attribute.*text, title, year"):
        HybridIndex(index, ["caption"])
    with pytest.raises(ArgumentError, match="empty"):
        HybridIndex(index, [])
    index.delete([f"r{i}" for i in range(8) if i not in (4, 6)])
    with pytest.raises(IndexStateError, match=r"no row of .* has a text in text"):
        HybridIndex(index).search("river", QUERY)


def test_changes_are_seen_and_what_is_kept_is_not_built_again(index, monkeypatch):
    hybrid = HybridIndex(index)
    words = lambda one, text: [hit.id for hit in one.search(text, QUERY) if "bm25" in hit.ranks]  # noqa: E731
    assert words(hybrid, "cat") == ["r2"]
    kept = {path.name for path in index.folder.glob("bm25-*")}
    assert len(kept) == 1
    with monkeypatch.context() as patch:
        patch.setattr(module, "_built", None)
        assert words(HybridIndex(type(index).open(index.folder)), "cat") == ["r2"]
    index.delete(["r2"])
    index.upsert(["new"], vectors(1, seed=3), {"text": ["a cat in the evening"]})
    assert words(hybrid, "cat") == ["new"]
    assert len(now := {path.name for path in index.folder.glob("bm25-*")}) == 1
    assert now != kept
    folder = next(index.folder.glob("bm25-*"))
    (folder / "ids.arrow").write_bytes(b"cut off")
    assert words(HybridIndex(index), "cat") == ["new"], "a damaged one is built again"
    assert (folder / "ids.arrow").stat().st_size > 100


def test_what_another_process_has_kept_meanwhile_stays(tmp_path):
    folder = tmp_path / "bm25-1"

    def save(draft):
        (draft / "a").write_text("mine")
        if not folder.exists():
            folder.mkdir()
            (folder / "a").write_text("theirs")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keep(folder, pa.array(["x"]), save, "bm25-")
    assert (folder / "a").read_text() == "theirs"
    assert {path.name for path in tmp_path.iterdir()} == {"bm25-1", ".lock-bm25-"}


def test_what_a_killed_writer_has_left_goes_and_a_living_ones_stays(tmp_path):
    import os
    import signal
    import time

    def wait(draft):
        (tmp_path / "begun").touch()
        time.sleep(60)

    def child():
        keep(tmp_path / "bm25-1", pa.array(["x"]), wait, "bm25-")

    def drafts():
        return [path.name for path in tmp_path.iterdir() if path.name.startswith(".bm25-")]

    if not (number := os.fork()):
        with contextlib.suppress(BaseException):
            child()
        os._exit(1)
    try:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        keep(tmp_path / "bm25-2", pa.array(["x"]), lambda draft: None, "bm25-")
        assert len(drafts()) == 1
        assert not (tmp_path / "bm25-2").exists(), "the other one has the lock"
    finally:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
    keep(tmp_path / "bm25-2", pa.array(["x"]), lambda draft: None, "bm25-")
    assert not drafts()
    assert (tmp_path / "bm25-2").is_dir()


def test_where_nothing_can_be_written_it_lives_for_the_process(index, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zoo.index.text_rows.writing_folder", refuse)
    hybrid = HybridIndex(index)
    with pytest.warns(UserWarning, match="for this process alone"):
        hybrid.search("cat", QUERY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [hit.id for hit in hybrid.search("cat", QUERY) if "bm25" in hit.ranks] == ["r2"]
    assert not list(index.folder.glob("bm25-*"))


@pytest.fixture(scope="module")
def weighing():
    """A model that gives sparse vectors, of random weights."""
    torch.manual_seed(0)
    return zoo.build_model("bge-m3-test").eval()


def by_weights(model, query, texts, k=100):
    """Places of the texts by the dot product of their sparse vectors with the query's, best first; none of 0."""
    filled = [i for i, text in enumerate(texts) if text]
    dots = lexical(model.encode_sparse([query]), model.encode_sparse([texts[i] for i in filled]))[0].tolist()
    return [filled[i] for i in sorted(range(len(filled)), key=lambda i: (-dots[i], i)) if dots[i] > 0][:k]


@pytest.mark.parametrize("where", [None, "year >= 2002"])
def test_sparse_vectors_are_a_third_list(index, weighing, where):
    hybrid = HybridIndex(index, model=weighing)
    found = hybrid.search("a red boat", QUERY, 8, where=where)
    dense = [hit.id for hit in index.search(QUERY, 100, where=where)]
    sparse = [f"r{i}" for i in by_weights(weighing, "a red boat", TEXTS) if f"r{i}" in dense]
    assert sparse
    words = hybrid.bm25.search(index, "a red boat", 100, where)
    expected = reciprocal_rank_fusion({"dense": dense, "bm25": words, "sparse": sparse})
    assert [(hit.id, hit.ranks) for hit in found] == [(one.id, one.ranks) for one in expected]


def test_a_text_is_weighed_once(index, weighing, monkeypatch):
    asked: list[str] = []
    encode = type(weighing).encode_sparse
    monkeypatch.setattr(
        type(weighing), "encode_sparse", lambda self, inputs, **o: asked.append(inputs) or encode(self, inputs, **o)
    )
    HybridIndex(index, model=weighing).search("boat", QUERY)
    assert asked == [[text for text in TEXTS if text], "boat"]
    HybridIndex(type(index).open(index.folder), model=weighing).search("boat", QUERY)
    assert asked[2:] == ["boat"], "kept"
    index.delete(["r0"])
    index.upsert(["new", "again"], vectors(2, seed=3), {"text": ["a boat at night", TEXTS[1]]})
    hybrid = HybridIndex(index, model=weighing)
    assert [one.id for one in hybrid.search("boat", QUERY) if one.id == "new"]
    assert asked[3:] == [["a boat at night"], "boat"], "of an update only what is new"
    rows = index.rows(["id", "text"])
    texts = dict(zip(rows.column("id").to_pylist(), rows.column("text").to_pylist(), strict=True))
    ids = list(texts)
    assert hybrid.sparse.search(index, "river boat", 20) == [
        ids[i] for i in by_weights(weighing, "river boat", [texts[one] for one in ids])
    ]
    assert len(list(index.folder.glob("sparse-*"))) == 1


def test_a_model_without_sparse_vectors_is_refused(index):
    with pytest.raises(ArgumentError, match="gives no sparse vectors"):
        HybridIndex(index, model=zoo.build_model("text-test"))


def test_arguments_are_checked(index):
    hybrid = HybridIndex(index)
    for arguments in ((3, QUERY), ("cat", "cat"), ("cat", QUERY, 0)):
        with pytest.raises(ArgumentError):
            hybrid.search(*arguments)
    assert all(isinstance(hit, SearchHit) for hit in hybrid.search("cat", QUERY.tolist(), 3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_ids_with_quotes_and_many_of_them(tmp_path, backend):
    if backend == "lancedb":
        pytest.importorskip("lancedb")
    index = BACKENDS[backend].create(
        tmp_path / "i", fingerprint=PRINT, dim=DIM, columns=pa.schema([("text", pa.string())])
    )
    ids = [f'it\'s "{i}" é#{i}' for i in range(600)]
    index.upsert(ids, vectors(600), {"text": [f"number {i} {'odd' if i % 3 else 'third'}" for i in range(600)]})
    dense = index.search(QUERY, 5)
    found = HybridIndex(index).fuse("third", QUERY, dense, depth=200)
    third = {ids[i] for i in range(0, 600, 3)}
    assert {hit.id for hit in found} == third | {hit.id for hit in dense}
    assert {hit.id for hit in found if "bm25" in hit.ranks} == third
