"""Types of Arrow, from a Parquet table through the shards of `zoo embed` into both stores and back, and in filters."""

import datetime as dt
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import zoo
from zoo.bulk import embed_dataset
from zoo.errors import FilterError
from zoo.index import open_index

# lancedb takes seconds to import: what it is asked is tested as text.
STORES = ["exact", *([pytest.param("lancedb", marks=pytest.mark.slow)] if find_spec("lancedb") else [])]
UTC, BERLIN = dt.UTC, "Europe/Berlin"
IDS = [UUID(int=2**100 + number) for number in range(2)]
# Column → its type, two values of it (the third row has none), and filters with the rows that they keep.
COLUMNS = {
    "price": (
        pa.decimal128(10, 2),
        [Decimal("1.30"), Decimal("2.00")],
        {"price = 1.3": "0", "price > 1.305": "1", "price in (1.30, 5)": "0", "price >= -1 and price <> 2": "0"},
    ),
    "wide": (pa.decimal256(50, 3), [Decimal("1e40"), Decimal("-0.001")], {"wide < 0": "1", "wide = -0.001": "1"}),
    "day": (
        pa.date32(),
        [dt.date(2020, 1, 2), dt.date(2021, 1, 2)],
        {"day >= '2021-01-01'": "1", "day between '2020-01-01' and '2020-12-31'": "0"},
    ),
    "at": (
        pa.timestamp("us"),
        [dt.datetime(2020, 1, 2, 3, 4, 5, 6), dt.datetime(2021, 1, 2)],
        {"at > '2020-06-01'": "1"},
    ),
    "there": (
        pa.timestamp("us", BERLIN),
        [dt.datetime(2020, 1, 2, 3, tzinfo=UTC), dt.datetime(2021, 1, 2, tzinfo=UTC)],
        {"there = '2020-01-02T03:00:00+00:00'": "0", "there = '2020-01-02 04:00:00'": "0", "there > '2020-06-01'": "1"},
    ),
    "fine": (pa.timestamp("ns", "UTC"), [dt.datetime(2020, 1, 2, tzinfo=UTC), dt.datetime(2021, 1, 2, tzinfo=UTC)], {}),
    "hour": (pa.time64("us"), [dt.time(1, 2, 3, 4), dt.time(2)], {"hour > '01:30:00'": "1"}),
    "short": (pa.time32("ms"), [dt.time(1, 2, 3), dt.time(2)], {"short = '02:00:00'": "1"}),
    "took": (pa.duration("us"), [dt.timedelta(seconds=3), dt.timedelta(hours=30)], {"took > '24:00:00'": "1"}),
    "key": (pa.uuid(), IDS, {f"key = '{IDS[1]}'": "1", f"key in ('{IDS[0]}')": "0", "key is null": "2"}),
    "large": (pa.uint64(), [2**63 + 1, 2**63 + 2], {f"large = {2**63 + 1}": "0"}),
    "number": (pa.int64(), [1000000000000000001, 1000000000000000002], {"number = 1000000000000000001": "0"}),
    "kind": (pa.dictionary(pa.int8(), pa.string()), ["a", "b"], {"kind = 'b'": "1"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("types")
    columns = {name: pa.array([*values, None], kind) for name, (kind, values, _) in COLUMNS.items()}
    nested = pa.array([{"price": Decimal("1.30"), "key": "x"}, None, {"price": None, "key": None}])
    pq.write_table(pa.table({"text": ["a", "b", "c"], **columns, "nested": nested}), path / "t.parquet")
    model = zoo.build_model("text-test")
    for new in (3, 0):
        report = embed_dataset(model, path / "t.parquet", path / "out", progress=False)
        assert (report.vectors, report.bad, report.new) == (3, 0, new)
    return path / "out"


def test_shards_keep_the_types_and_dictionaries_are_their_values(folder):
    (shard,) = (folder / "shards").glob("*.parquet")
    found = pq.read_table(shard)
    for name, (kind, values, _) in COLUMNS.items():
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        assert found.schema.field(name).type == kind
        assert found.column(name).combine_chunks().equals(pa.array([*values, None], kind))
    assert found.column("nested").to_pylist() == ['{"price": 1.30, "key": "x"}', None, '{"price": null, "key": null}']


@pytest.mark.parametrize("store", STORES)
def test_both_stores_give_them_back_and_compare_them(folder, store):
    index = open_index(folder, backend=store)
    (query,) = [torch.randn(index.facts.dim)]
    found = {match.id: match.attributes for match in index.search(query)}
    for name, (kind, values, _) in COLUMNS.items():
        if name != "fine":
            own = pa.array([*values, None], kind).to_pylist()
            assert [found[str(row)][name] for row in range(3)] == own
    of_all = {where: kept for _, _, filters in COLUMNS.values() for where, kept in filters.items()}
    for where, kept in of_all.items():
        assert index.count(f"({where}) and id = '{kept}'") == 1, where
    nothing = " or ".join(f"({where}) and id <> '{kept}'" for where, kept in of_all.items())
    assert index.count(nothing) == 0
    everything = " or ".join(f"({where})" for where in of_all)
    assert [match.id for match in index.search(query, where=f"({everything}) and key is null")] == ["2"]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("day > 5", "the number 5 is compared with '.*', a column of type date32.* written '2024-12-31'"),
        ("day > 'soon'", "the text 'soon' is compared with '.*', a column of type date32.* written '2024-12-31'"),
        ("price = 'much'", r"the text 'much' is compared with '.*', a column of type decimal128.* written 1.30"),
        (
            "key = 'no-uuid'",
            "the text 'no-uuid' is compared with '.*', a column of type extension<arrow.uuid>, which is written",
        ),
        ("took > '5'", r"the text '5' is compared with '.*', a column of type duration.* \(hours, minutes, seconds\)"),
    ],
)
def test_a_literal_that_is_no_value_of_the_type_says_how_it_is_written(folder, store, where, message):
    with pytest.raises(FilterError, match=message):
        open_index(folder, backend=store).count(where)
