"""Stores of vectors: both backends against a plain matrix product, filters, refusals, growth, kills, the ANN index."""

import json
import signal
import sys

import numpy as np
import pytest
import torch

import zoo
from tests import warm
from tests.bulk.bulk_support import ANIMALS, make_table
from tests.index.index_support import BACKENDS, COLUMNS, DIM, PRINT, vectors
from zoo.bulk import embed_dataset
from zoo.errors import FilterError, FingerprintMismatchError, IndexStateError, VectorError, ZooError
from zoo.index import ExactIndex, LanceIndex, VectorIndex, iter_tables, open_index


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "lancedb":
        pytest.importorskip("lancedb")
    return BACKENDS[request.param]


@pytest.fixture
def index(backend, tmp_path):
    return backend.create(tmp_path / "index", fingerprint=PRINT, dim=DIM, columns=COLUMNS)


def attributes(count):
    return {
        "label": [ANIMALS[i % 3] for i in range(count)],
        "year": [1990 + i % 30 if i % 7 else None for i in range(count)],
        "score": [i / 8 for i in range(count)],
        "fresh": [i % 2 == 0 for i in range(count)],
    }


def fill(index, count, seed=0):
    matrix = vectors(count, seed)
    index.upsert([f"r{i}" for i in range(count)], matrix, attributes(count), [f"{i}.jpg" for i in range(count)])
    return matrix


def ids(found):
    return [match.id for match in found]


# -- one store ------------------------------------------------------------------------------------------------------


def test_search_equals_a_matrix_product(index):
    assert isinstance(index, VectorIndex)
    matrix = fill(index, 300)
    for query in vectors(5, seed=1):
        scores = matrix @ query
        best = np.argsort(-scores)[:12]
        found = index.search(query * 7, 12)
        assert ids(found) == [f"r{i}" for i in best]
        np.testing.assert_allclose([match.score for match in found], scores[best], atol=1e-5)
    top = index.search(matrix[4], 1)[0]
    assert (top.id, top.reference) == ("r4", "4.jpg")
    assert top.attributes == {"label": "dog", "year": 1994, "score": 0.5, "fresh": True}
    assert ids(index.search(torch.from_numpy(matrix[9]), 1)) == ["r9"]
    assert ids(index.search(matrix[9], 1, exact=True)) == ["r9"]


@pytest.mark.parametrize("where", [None, "label = 'cat'", "year = 2001", "label = 'zebra'"])
def test_many_queries_find_what_each_finds_alone(index, where):
    fill(index, 300)
    queries = vectors(7, seed=1)
    found = index.search(torch.from_numpy(queries), 12, where=where)
    assert found == index.search(list(queries), 12, where=where)
    for query, hits in zip(queries, found, strict=True):
        alone = index.search(query, 12, where=where)
        assert ids(hits) == ids(alone)
        np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in alone], atol=1e-5)
    assert [ids(one) for one in index.search(queries[:1], 3, where=where)] == [ids(found[0])[:3]]
    assert index.search(np.empty((0, DIM)), where=where) == []
    with pytest.raises(VectorError, match="vector 1 is zero"):
        index.search(np.stack([queries[0], np.zeros(DIM)]))
    assert {len(hits) for hits in index.search(queries, 500)} == {300}


CONDITIONS = {
    "label = 'cat'": lambda label, year, score, fresh, i: label == "cat",
    "LABEL != 'cat'": lambda label, year, score, fresh, i: label != "cat",
    "label = 'it''s' AND year >= 2010": lambda label, year, score, fresh, i: (
        label == "it's" and bool(year) and year >= 2010
    ),
    "year is null": lambda label, year, score, fresh, i: year is None,
    "year IS NOT NULL and fresh": lambda label, year, score, fresh, i: year is not None and fresh,
    "not fresh": lambda label, year, score, fresh, i: not fresh,
    "fresh = false": lambda label, year, score, fresh, i: not fresh,
    "not (year > 2000)": lambda label, year, score, fresh, i: year is not None and year <= 2000,
    "score between 3 and 9.5": lambda label, year, score, fresh, i: 3 <= score <= 9.5,
    "score not between 3 and 9.5": lambda label, year, score, fresh, i: not 3 <= score <= 9.5,
    "label in ('cat', 'dog') and score < 1": lambda label, year, score, fresh, i: label in ("cat", "dog") and score < 1,
    "year not in (1991, 1992)": lambda label, year, score, fresh, i: year is not None and year not in (1991, 1992),
    "label like '%o_'": lambda label, year, score, fresh, i: label == "dog",
    "label not like 'c%'": lambda label, year, score, fresh, i: label != "cat",
    "label ilike 'C%'": lambda label, year, score, fresh, i: label == "cat",
    "year < 1995 or year > 2015 and label = 'dog'": lambda label, year, score, fresh, i: (
        year is not None and (year < 1995 or (year > 2015 and label == "dog"))
    ),
    "(year < 1995 or year > 2015) and label = 'dog'": lambda label, year, score, fresh, i: (
        year is not None and (year < 1995 or year > 2015) and label == "dog"
    ),
    "id = 'r17'": lambda label, year, score, fresh, i: i == 17,
    "`reference` = '17.jpg'": lambda label, year, score, fresh, i: i == 17,
    "score > -1.5 and score <= 2": lambda label, year, score, fresh, i: score <= 2,
    "label = 'zebra'": lambda label, year, score, fresh, i: False,
    "year = 2001 and label = 'it''s' and fresh": lambda label, year, score, fresh, i: (
        year == 2001 and label == "it's" and fresh
    ),
}


def test_filters_keep_what_they_say_and_the_best_of_it(index):
    matrix = fill(index, 240)
    columns = attributes(240)
    query = vectors(1, seed=2)[0]
    order = np.argsort(-(matrix @ query))
    for where, keeps in CONDITIONS.items():
        kept = [i for i in order if keeps(*(columns[name][i] for name in columns), i)]
        assert index.count(where) == len(kept), where
        assert ids(index.search(query, 9, where=where)) == [f"r{i}" for i in kept[:9]], where


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("labl = 'cat'", "no column 'labl'; did you mean 'label'.*Columns: id, reference, label, year"),
        ("label = cat", "no column 'cat'; a text is written in single quotes: 'cat'"),
        ("year =", r"something is missing after '=' \(letter 6\)"),
        ("year = 'x'", "'x' is compared with 'year', a column of type int64"),
        ("label = 5", "number 5 is compared with 'label', a column of type string"),
        ("year 5", r"'5' \(letter 6\) was not expected there; understood are"),
        ("(fresh", r"'\)' was expected after 'fresh'"),
        ("label ~ 'x'", r"'~' \(letter 7\) is not understood"),
        ("label = 'x' and", "something is missing after 'and'"),
        ("vector = 1", "no column 'vector'"),
    ],
)
def test_filters_that_cannot_be_understood(index, where, message):
    fill(index, 10)
    with pytest.raises(FilterError, match=message):
        index.search(vectors(1)[0], where=where)
    with pytest.raises(FilterError, match=message):
        index.count(where)
    with pytest.raises(FilterError):
        index.delete(where=where)


def test_more_than_there_is_and_nothing_at_all(index):
    assert index.search(vectors(1)[0], 5) == []
    assert index.count() == 0
    assert index.delete(["r1"]) == 0
    fill(index, 4)
    assert len(index.search(vectors(1)[0], 100)) == 4
    with pytest.raises(ValueError, match="k must be at least 1"):
        index.search(vectors(1)[0], 0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full(DIM, np.nan), "NaN"),
        (np.full(DIM, np.inf), "NaN or infinity"),
        (np.zeros(DIM), "zero"),
        (np.ones(DIM + 1), "length 16"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(index, bad, message):
    fill(index, 4)
    with pytest.raises(VectorError, match=message):
        index.search(bad)
    rows = np.stack([np.ones_like(bad), bad])
    with pytest.raises(VectorError, match=message if len(bad) != DIM else f"vector 1.*{message}"):
        index.upsert(["a", "b"], rows)
    assert index.count() == 4


def test_upsert_refuses_what_does_not_fit_together(index):
    with pytest.raises(VectorError, match="id 'a' comes twice"):
        index.upsert(["a", "a"], vectors(2))
    with pytest.raises(VectorError, match="2 ids, but 3 vectors"):
        index.upsert(["a", "b"], vectors(3))
    with pytest.raises(VectorError, match="unknown attributes"):
        index.upsert(["a"], vectors(1), {"colour": ["red"]})
    index.upsert([], np.empty((0, DIM)))
    assert index.count() == 0


def test_upsert_replaces_delete_removes_and_both_last(backend, index, tmp_path):
    matrix = fill(index, 50)
    new = vectors(3, seed=5)
    index.upsert(["r7", "r8", "new's"], new, {"label": ["x", "x", "x"]})
    assert index.count() == 51
    assert ids(index.search(new[0], 1)) == ["r7"]
    assert ids(index.search(matrix[7], 1)) != ["r7"]
    assert index.search(new[0], 1)[0].attributes["year"] is None
    assert index.delete(["r7", "r7", "new's", "not there"]) == 2
    assert index.delete(where="label = 'cat'") == 17
    assert index.count() == 32
    before = index.commit()
    again = backend.open(tmp_path / "index", fingerprint=PRINT)
    assert (again.count(), again.commit()) == (32, before)
    found = ids(again.search(new[0], 100))
    assert len(found) == len(set(found)) == 32
    assert not {"r7", "new's", "r0"} & set(found)
    again.upsert(["r7"], new[:1])
    assert ids(again.search(new[0], 1)) == ["r7"]
    assert again.commit() != before
    with pytest.raises(ValueError, match="one of the two"):
        again.delete()


def test_another_fingerprint_is_refused(backend, index, tmp_path):
    fill(index, 3)
    with pytest.raises(FingerprintMismatchError, match="weights: 'w' there, 'other' here"):
        backend.open(tmp_path / "index", fingerprint={**PRINT, "weights": "other"})
    with pytest.raises(IndexStateError, match="holds an index already"):
        backend.create(tmp_path / "index", fingerprint=PRINT, dim=DIM)
    with pytest.raises(IndexStateError, match="no index that can be opened"):
        backend.open(tmp_path / "nowhere")


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_the_exact_store_searches_compressed_vectors(tmp_path, precision):
    index = ExactIndex.create(tmp_path / "i", fingerprint=PRINT, dim=DIM, columns=COLUMNS, precision=precision)
    matrix = fill(index, 100)
    found = index.search(matrix[5], 100)
    if precision == "int8":
        assert found[0].id == "r5"
        assert found[0].score == pytest.approx(1, abs=1e-3)
    else:
        signs = np.where(matrix > 0, 1, -1) / np.sqrt(DIM)
        scores = {f"r{i}": float(s) for i, s in enumerate(signs @ matrix[5])}
        np.testing.assert_allclose([m.score for m in found], [scores[m.id] for m in found], atol=1e-5)
        assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)


def test_an_exact_scan_in_many_blocks_equals_one(tmp_path, monkeypatch):
    index = ExactIndex.create(tmp_path / "i", fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    fill(index, 300)
    query = vectors(1, seed=3)[0]
    whole = index.search(query, 20, where="label = 'cat'")
    monkeypatch.setattr("zoo.index._scan.BLOCK", 7)
    found = index.search(query, 20, where="label = 'cat'")
    assert ids(found) == ids(whole)
    np.testing.assert_allclose([m.score for m in found], [m.score for m in whole], atol=1e-6)


def test_equal_scores_keep_the_order_of_the_rows(tmp_path, monkeypatch):
    """Rows 3, 10, 17, … are one vector: more of them than are asked for, in several blocks."""
    index = ExactIndex.create(tmp_path / "i", fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    matrix = np.where(vectors(70) > 0, 0.25, -0.25)  # whose products have no rounding
    matrix[3::7] = matrix[3]
    index.upsert([f"r{i}" for i in range(70)], matrix)
    for block in (5, 65536):
        monkeypatch.setattr("zoo.index._scan.BLOCK", block)
        monkeypatch.setattr("zoo.index._scan.FEWEST", block)
        assert ids(index.search(matrix[3], 4)) == ["r3", "r10", "r17", "r24"]
        assert ids(index.search(matrix[:9], 4)[3]) == ["r3", "r10", "r17", "r24"]


def test_an_ascending_scan_finds_the_last_rows(tmp_path, monkeypatch):
    """The order in which every row is better than all before it."""
    monkeypatch.setattr("zoo.index._scan.BLOCK", 16)
    index = ExactIndex.create(tmp_path / "i", fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    query = vectors(1, seed=4)[0]
    matrix = vectors(200)
    matrix = matrix[np.argsort(matrix @ query)]
    index.upsert([f"r{i}" for i in range(200)], matrix)
    assert ids(index.search(query, 20)) == [f"r{i}" for i in range(199, 179, -1)]
    index.delete([f"r{i}" for i in range(150, 200, 2)])
    assert ids(index.search(query, 3)) == ["r199", "r197", "r195"]


# -- folders of `zoo embed` -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(0)
    return zoo.build_model("text-test")


@pytest.fixture
def folder(text, tmp_path):
    embed_dataset(text, make_table(tmp_path / "t.csv", 120), tmp_path / "out", shard_size=25, progress=False)
    return tmp_path / "out"


def backend_name(backend):
    return next(name for name, kind in BACKENDS.items() if kind is backend)


def test_a_folder_is_opened_and_grows_with_its_shards(backend, text, folder, tmp_path):
    name = backend_name(backend)
    index = open_index(folder, model=text, backend=name)
    assert isinstance(index, backend)
    assert index.count() == 120
    query = text.encode_document("text 77")
    assert ids(index.search(query, 1)) == ["77"]
    version = index.commit()
    assert open_index(folder, model=text, backend=name).commit() == version  # nothing to do
    make_table(tmp_path / "t.csv", 140, start=120)
    embed_dataset(text, tmp_path / "t.csv", folder, shard_size=25, progress=False)
    index = open_index(folder, backend=name)
    assert index.count() == 140
    assert len(set(ids(index.search(query, 200)))) == 140
    assert ids(index.search(text.encode_document("text 130"), 1)) == ["130"]


def test_both_backends_give_the_same_results(text, folder):
    pytest.importorskip("lancedb")
    exact, lance = (open_index(folder, backend=name) for name in ("exact", "lancedb"))
    for where in (None, "label = 'dog' and year > 2000", "note is not null", "fresh", "score < 4 or label = 'it''s'"):
        query = text.encode_query(f"query {where}")
        first, second = exact.search(query, 15, where=where), lance.search(query, 15, where=where)
        assert ids(first) == ids(second)
        assert [m.attributes for m in first] == [m.attributes for m in second]
        np.testing.assert_allclose([m.score for m in first], [m.score for m in second], atol=1e-5)


def test_after_an_update_the_index_is_made_anew(backend, text, folder, tmp_path):
    name = backend_name(backend)
    open_index(folder, backend=name)
    lines = (tmp_path / "t.csv").read_text().splitlines(keepends=True)
    (tmp_path / "t.csv").write_text("".join([lines[0], "changed,cat,2000,1,True,\n", *lines[2:100]]))
    embed_dataset(text, tmp_path / "t.csv", folder, shard_size=25, update=True, progress=False)
    index = open_index(folder, backend=name)
    assert index.count() == 99
    assert index.search(text.encode_document("changed"), 1)[0].attributes["text"] == "changed"
    assert index.count("text = 'text 0'") == 0


KILLED = """
import os, signal, sys
import zoo.index.building as building
from zoo.index import ExactIndex, LanceIndex, open_index
folder, backend, commits = sys.argv[1], sys.argv[2], int(sys.argv[3])
building.ROWS_PER_COMMIT = 30
kind = LanceIndex if backend == "lancedb" else ExactIndex
real, left = kind.add_shards, [commits]
def dying(self, shards):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    real(self, shards)
kind.add_shards = dying
open_index(folder, backend=backend)
"""


@pytest.mark.parametrize("commits", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_killed_while_it_is_built_it_is_completed(backend, text, folder, commits):
    name = backend_name(backend)
    command = [sys.executable, "-c", KILLED, str(folder), name, str(commits)]
    assert warm.run(command, timeout=600).returncode == -signal.SIGKILL
    index = open_index(folder, backend=name)
    assert index.count() == 120
    assert sorted(map(int, ids(index.search(text.encode_document("a"), 500)))) == list(range(120))


def test_an_exact_index_survives_a_kill_before_each_file_has_its_name(tmp_path, monkeypatch):
    """The vector file is longer than its segments say: what a kill between the two writes leaves."""
    index = ExactIndex.create(tmp_path / "i", fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    matrix = fill(index, 20)

    def killed(place, data):
        raise SystemExit

    monkeypatch.setattr("zoo.strangers.folders.Place.write", killed)
    with pytest.raises(SystemExit):
        index.upsert(["late"], vectors(1, seed=9))
    monkeypatch.undo()
    again = ExactIndex.open(tmp_path / "i")
    assert again.count() == 20
    again.upsert(["later"], vectors(1, seed=8))
    assert ids(again.search(vectors(1, seed=8)[0], 1)) == ["later"]
    assert ids(again.search(matrix[3], 1)) == ["r3"]
    assert (tmp_path / "i" / "vectors.bin").stat().st_size == 21 * DIM * 4


def test_what_cannot_be_opened(text, folder, tmp_path):
    with pytest.raises(IndexStateError, match=r"no manifest\.json.*zoo embed"):
        open_index(tmp_path / "nowhere")
    with pytest.raises(ZooError, match="unknown backend"):
        open_index(folder, backend="faiss")
    other = zoo.build_model("text-test")
    torch.nn.init.ones_(next(other.parameters()))
    with pytest.raises(FingerprintMismatchError, match=r"weights: .* there, .* here.*Search with the model"):
        open_index(folder, model=other)
    with pytest.raises(FingerprintMismatchError, match=r"model: .text-test. there"):
        open_index(folder, model=zoo.build_model("clip-test"))
    for path in (folder / "shards").iterdir():
        path.unlink()
    with pytest.raises(IndexStateError, match="no vectors yet"):
        open_index(folder)


def test_without_lancedb_the_exact_store_serves(folder, monkeypatch):
    monkeypatch.setattr("zoo.index.opening.has_lancedb", lambda: False)
    assert isinstance(open_index(folder), ExactIndex)
    with pytest.raises(ZooError, match="not installed"):
        open_index(folder, backend="lancedb")


def test_compressed_folders(backend, text, tmp_path):
    source = make_table(tmp_path / "t.csv", 60)
    for precision in ("int8", "binary"):
        out = tmp_path / precision
        embed_dataset(text, source, out, precision=precision, progress=False)
        assert isinstance(open_index(out), ExactIndex)
        found = open_index(out, backend=backend_name(backend)).search(text.encode_document("text 30"), 5)
        assert "30" in ids(found)
        assert all(-1 <= match.score <= 1.001 for match in found)


def test_above_the_threshold_an_approximate_index_finds_almost_all(text, tmp_path):
    pytest.importorskip("lancedb")
    index = LanceIndex.create(tmp_path / "i", fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    matrix = fill(index, 2000)
    index.tune(threshold=2001)
    assert not index.approximate
    index.tune(threshold=2000)
    assert index.approximate
    reference = ExactIndex.create(tmp_path / "e", fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    fill(reference, 2000)
    shared = {"": 0, "label = 'cat'": 0, "year = 2001": 0}
    for query in vectors(20, seed=6):
        for where in shared:
            truth = set(ids(reference.search(query, 10, where=where or None)))
            shared[where] += len(truth & set(ids(index.search(query, 10, where=where or None)))) / len(truth)
            assert set(ids(index.search(query, 10, where=where or None, exact=True))) == truth
    assert min(shared.values()) / 20 >= 0.9
    index.upsert(["fresh"], matrix[:1] * -1)
    assert ids(index.search(-matrix[0], 1)) == ["fresh"]  # rows that are not in the index yet are found too
    index.upsert([f"n{i}" for i in range(500)], vectors(500, seed=7))
    index.tune(threshold=2000)
    assert index._table.index_stats("vector_idx").num_unindexed_rows == 0


def test_iter_tables(folder):
    tables = list(iter_tables(folder, ["id", "label"]))
    assert [len(table) for table in tables] == [25, 25, 25, 25, 20]
    assert tables[0].column_names == ["id", "label"]
    assert json.loads((folder / "manifest.json").read_text())["counts"]["vectors"] == 120
