"""Filters that keep recall, on both stores; how a search says what it does; conditions put together in Python."""

import datetime
import decimal
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.index import filter_cases
from tests.index.filter_cases import K, made, recall
from tests.index.index_support import BACKENDS
from zoo.errors import ArgumentError, FilterError
from zoo.index import ExactIndex, LanceIndex
from zoo.index.predicates import Predicate, among, between, contains, equal

DIM = 32


def filled(kind, folder, data):
    index = kind.create(folder, fingerprint={"model": "m", "dim": DIM}, dim=DIM, columns=filter_cases.COLUMNS)
    index.upsert([str(row) for row in range(len(data.matrix))], data.matrix, data.columns)
    return index


def recalls(index, data):
    found = {case.name: index.search(data.queries, K, where=case.where) for case in data.cases}
    return {
        case.name: recall([[hit.id for hit in hits] for hits in found[case.name]], data, case) for case in data.cases
    }


@pytest.fixture(scope="module")
def data():
    return made(6000, DIM, 20)


@pytest.fixture(scope="module")
def partitioned(data, tmp_path_factory):
    """A LanceDB table with an approximate index of many partitions, as that of millions of rows has."""
    pytest.importorskip("lancedb")
    from lancedb.index import IvfSq

    index = filled(LanceIndex, tmp_path_factory.mktemp("of") / "lance", data)
    index._table.create_index("vector", config=IvfSq(distance_type="cosine", num_partitions=77))
    return index


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_every_row_of_the_table_almost_all_is_found(backend, data, tmp_path):
    if backend == "lancedb":
        pytest.importorskip("lancedb")
    index = filled(BACKENDS[backend], tmp_path / "i", data)
    index.tune(1000)
    found = recalls(index, data)
    assert min(found.values()) >= 0.95, found
    assert all(index.explain(case.where).exact for case in data.cases)


def test_an_approximate_index_is_searched_wider_the_fewer_rows_match(partitioned, data, monkeypatch):
    monkeypatch.setattr("zoo.index.lance.compared", lambda dim: 0)
    assert not any(partitioned.explain(case.where).exact for case in data.cases)
    found = recalls(partitioned, data)
    assert min(found.values()) >= 0.95, found
    real = LanceIndex._plan
    monkeypatch.setattr(LanceIndex, "_plan", lambda *a, **o: replace(real(*a, **o), probes=20))
    partitioned._known = (None, None)
    assert min(recalls(partitioned, data).values()) < 0.9, "as wide as without a filter is what collapses"


def test_where_too_few_come_back_all_are_compared(partitioned, data, monkeypatch):
    monkeypatch.setattr("zoo.index.lance.compared", lambda dim: 0)
    real, asked = LanceIndex._plan, []

    def narrow(self, where, exact):
        plan = real(self, where, exact)
        asked.append(plan.exact)
        return plan if plan.exact else replace(plan, probes=1)

    monkeypatch.setattr(LanceIndex, "_plan", narrow)
    few = next(case for case in data.cases if case.name == "clusters 2 %")
    hits = partitioned.search(data.queries, K, where=few.where)
    assert asked == [False, True]
    assert recall([[hit.id for hit in one] for one in hits], data, few) == 1
    assert {len(one) for one in partitioned.search(data.queries[:3], 500, where=few.where)} == {int(few.kept.sum())}


def test_a_plan_says_what_is_done(partitioned, data, tmp_path):
    exact = ExactIndex.create(tmp_path / "i", fingerprint={"model": "m", "dim": DIM}, dim=DIM)
    exact.upsert(["a", "b"], data.matrix[:2])
    assert str(exact.explain()) == "2 rows: every one of them is compared"
    assert str(exact.explain("id = 'a'")) == "1 of 2 rows match the filter: every one of them is compared"
    assert str(exact.explain("id = 'x'")) == "none of 2 rows matches"
    few = str(partitioned.explain(between("dice", high=0.1)))
    assert few.endswith("of 6,000 rows match the filter: every one of them is compared")
    assert str(partitioned.explain()) == "6,000 rows: the approximate index is searched, up to 20 partitions of it"
    assert str(partitioned.explain(exact=True)) == "6,000 rows: every one of them is compared"
    with pytest.raises(FilterError):
        partitioned.explain("dise < 1")


@pytest.mark.parametrize("backend", BACKENDS)
def test_conditions_put_together_in_python_keep_what_they_say(backend, tmp_path):
    if backend == "lancedb":
        pytest.importorskip("lancedb")
    names = ["it's", "50%", "a_b", "axb", 'say "x"', "c:\\d", "É", None]
    days = [datetime.date(2024, 12, day + 1) for day in range(8)]
    columns = pa.schema(
        [
            ("the name", pa.string()),
            ("size", pa.float64()),
            ("day", pa.date32()),
            ("fresh", pa.bool_()),
            ("n", pa.int64()),
        ]
    )
    index = BACKENDS[backend].create(tmp_path / "i", fingerprint={"model": "m", "dim": 4}, dim=4, columns=columns)
    size = [1e-7, 0.5, -2.25, 1e20, 3.0, 0.1, 7.0, None]
    told = {"the name": names, "size": size, "day": days, "fresh": [True, False] * 4, "n": list(range(8))}
    index.upsert([str(row) for row in range(8)], np.eye(4).repeat(2, 0), told)

    def kept(where):
        return [int(one) for one in index.rows(["id"], where).column("id").to_pylist()]

    name = "the name"
    for row, value in enumerate(names):
        assert kept(equal(name, value)) == [row]
    for row, value in enumerate(size):
        assert kept(equal("size", value)) == [row]
    assert kept(contains(name, "_")) == [2]
    assert kept(contains(name, "%")) == [1]
    assert kept(contains(name, "\\")) == [5]
    assert kept(contains(name, "'")) == [0]
    assert kept(between("n", 2, 4)) == [2, 3, 4]
    assert kept(between("n", high=np.int64(1)) | equal("n", 7)) == [0, 1, 7]
    assert kept(between("day", low=datetime.date(2024, 12, 7))) == [6, 7]
    assert kept(equal("fresh", False) & ~between("n", high=3)) == [5, 7]
    assert kept(among("n", [1, 5, 99])) == [1, 5]
    assert kept(between("size", decimal.Decimal("0.1"), 3)) == [1, 4, 5]
    every = equal("n", 0)
    for number in range(1, 60):  # side by side, not one in the other
        every |= equal("n", number)
    assert kept(every & (equal("fresh", True) | "n = 1")) == [0, 1, 2, 4, 6]
    assert isinstance(every, Predicate)


def test_what_no_condition_is_made_of():
    for make in (
        lambda: equal("a", float("nan")),
        lambda: equal("a", [1]),
        lambda: among("a", []),
        lambda: among("a", "xyz"),
        lambda: between("a"),
        lambda: contains("a", 5),
    ):
        with pytest.raises(ArgumentError):
            make()
