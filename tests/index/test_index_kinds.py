"""Rows of several kinds are ranked by their calibrated scores: equal to brute force, in both stores, exact or approximate."""

import numpy as np
import pyarrow as pa
import pytest

from tests.every import every
from tests.index.index_support import BACKENDS, DIM, PRINT, vectors
from zoo.errors import ArgumentError, FilterError
from zoo.index import LanceIndex, search_kinds
from zoo.scales import Scales
from zoo.spec import Calibration

ROWS, KINDS = 600, ("image", "audio", "video")
COLUMNS = pa.schema([("kind", pa.string()), ("year", pa.int64())])
SCALES = Scales(
    "text",
    {"image": Calibration(0.0, 0.25, 0.3), "audio": Calibration(0.5, 0.2, 0.7), "video": Calibration(0.02, 0.22, 0.9)},
    "mine",
)


@pytest.fixture(scope="module", params=BACKENDS)
def filled(request, tmp_path_factory):
    """An index whose recordings all lie near to each other, as those of a model with a modality gap do; kinds and vectors."""
    matrix = vectors(ROWS)
    kinds = np.array([KINDS[row % 3] for row in range(ROWS)])
    matrix[kinds == "audio"] += 0.6 * vectors(1, seed=7)[0]
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    index = BACKENDS[request.param].create(
        tmp_path_factory.mktemp("kinds") / "index", fingerprint=PRINT, dim=DIM, columns=COLUMNS
    )
    index.upsert(range(ROWS), matrix, {"kind": kinds.tolist(), "year": [2000 + row % 20 for row in range(ROWS)]})
    return index, matrix, kinds


def brute(matrix, kinds, query, rows, k):
    """Ids and z of the k best of some rows, by numpy alone."""
    scores = matrix.astype(np.float64) @ query
    mean = np.array([SCALES.known[kind].mean for kind in kinds])
    scale = np.array([SCALES.known[kind].scale for kind in kinds])
    z = (scores - mean) / scale
    best = sorted(rows, key=lambda row: -z[row])[:k]
    return [str(row) for row in best], z[best], scores[best]


@every("k", [1, 10, 250])
def test_the_first_of_all_kinds_are_those_of_brute_force(filled, k):
    index, matrix, kinds = filled
    query = vectors(1, seed=7)[0]
    found = search_kinds(index, query, k, scales=SCALES)
    ids, z, scores = brute(matrix, kinds, query, range(ROWS), k)
    assert [match.id for match in found.matches] == ids
    assert [match.z for match in found.matches] == pytest.approx(z, abs=1e-4)
    assert [match.score for match in found.matches] == pytest.approx(scores, abs=1e-5)
    assert all(match.fits == (match.score >= SCALES.known[match.kind].nothing) for match in found.matches)
    assert {match.kind: match.attributes["kind"] for match in found.matches}.items() <= {(k, k) for k in KINDS}
    best = {kind: (matrix[kinds == kind] @ query).max() for kind in KINDS}
    assert found.best == pytest.approx(best, abs=1e-5)


def test_plain_scores_give_one_kind_alone_where_calibrated_ones_give_all(filled):
    index, _, _ = filled
    query = vectors(1, seed=7)[0]
    assert {match.attributes["kind"] for match in index.search(query, 20)} == {"audio"}
    assert {match.kind for match in search_kinds(index, query, 20, scales=SCALES).matches} == set(KINDS)


def test_a_filter_holds_and_one_that_leaves_a_single_kind_keeps_its_order(filled):
    index, matrix, kinds = filled
    query = vectors(1, seed=7)[0]
    rows = [row for row in range(ROWS) if row % 20 < 4]
    found = search_kinds(index, query, 15, scales=SCALES, where="year < 2004 OR year > 3000")
    assert [match.id for match in found.matches] == brute(matrix, kinds, query, rows, 15)[0]
    for kind in KINDS:
        alone = search_kinds(index, query, 15, scales=SCALES, where=f"kind = '{kind}'")
        plain = index.search(query, 15, where=f"kind = '{kind}'")
        assert [(match.id, match.score) for match in alone.matches] == [(match.id, match.score) for match in plain]
        assert set(alone.best) == {kind}


def test_a_kind_that_nobody_measured_leaves_the_order_of_index_search(filled):
    index, _, _ = filled
    query = vectors(1, seed=3)[0]
    scales = Scales("text", {kind: SCALES.known[kind] for kind in ("image", "audio")}, "mine")
    found = search_kinds(index, query, 40, scales=scales)
    assert [match.id for match in found.matches] == [match.id for match in index.search(query, 40)]
    assert "no calibration of text>video" in scales.unmeasured(found.best)
    assert {match.z is None for match in found.matches if match.kind == "video"} == {True}
    both = search_kinds(index, query, 40, scales=scales, where="kind <> 'video'")
    assert scales.unmeasured(both.best) == ""
    assert [match.z for match in both.matches] == sorted((match.z for match in both.matches), reverse=True)


@every("name", BACKENDS)
def test_rows_that_say_no_kind_or_another_are_not_lost(name, tmp_path_factory):
    index = BACKENDS[name].create(tmp_path_factory.mktemp("odd") / "i", fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    index.upsert(["a", "b", "c"], vectors(3), {"kind": ["image", None, "image+text"], "year": [1, 2, 3]})
    found = search_kinds(index, vectors(1, seed=1)[0], scales=SCALES)
    assert sorted(match.id for match in found.matches) == ["a", "b", "c"]
    assert set(found.best) == {"image", "", "image+text"}
    assert [match.score for match in found.matches] == sorted((m.score for m in found.matches), reverse=True)
    index.upsert(["d"], vectors(1, seed=1), {"kind": ["audio"], "year": [4]})
    assert search_kinds(index, vectors(1, seed=1)[0], 1, scales=SCALES).matches[0].id == "d", "a kind that came later"
    index.delete(["b"])
    assert set(search_kinds(index, vectors(1, seed=1)[0], scales=SCALES).best) == {"image", "audio", "image+text"}


def test_what_cannot_be_asked_is_refused_by_name(filled):
    index, _, _ = filled
    query = vectors(1)[0]
    with pytest.raises(ArgumentError, match=r"column='sort'.*it has \['kind', 'year'\]"):
        search_kinds(index, query, scales=SCALES, column="sort")
    with pytest.raises(ArgumentError, match="scales must be the scales of a query"):
        search_kinds(index, query, scales={"image": 1})
    with pytest.raises(FilterError, match=r"filter 'year = 1\) OR \(year = 2'"):
        search_kinds(index, query, scales=SCALES, where="year = 1) OR (year = 2")


def test_of_an_approximate_index_the_same_rows_are_found(tmp_path):
    """A calibrated ranking needs the best of each kind, which an approximate search of all kinds would not hold."""
    matrix, kinds = vectors(3000, seed=5), np.array([KINDS[row % 3] for row in range(3000)])
    index = LanceIndex.create(tmp_path / "index", fingerprint=PRINT, dim=DIM, columns=COLUMNS)
    index.upsert(range(3000), matrix, {"kind": kinds.tolist(), "year": [0] * 3000})
    index.tune(1000)
    assert index.approximate
    query = vectors(1, seed=9)[0]
    ids = brute(matrix, kinds, query, range(3000), 10)[0]
    assert [match.id for match in search_kinds(index, query, scales=SCALES, exact=True).matches] == ids
    near = {match.id for match in search_kinds(index, query, scales=SCALES).matches}
    assert len(near & set(ids)) >= 9
