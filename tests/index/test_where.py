"""Filters: type × operator × literal × null on both stores, against plain comparisons of Python; refusals in the same words."""

from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest

from tests.index.where_cases import KEYS, OTHERS, ROWS, TYPES, patterns, stored, walk
from zoo.errors import FilterError
from zoo.index import ExactIndex, LanceIndex
from zoo.index._syntax import DEEPEST
from zoo.index.where import Filter

BACKENDS = {"exact": ExactIndex, **({"lancedb": LanceIndex} if find_spec("lancedb") else {})}


@pytest.fixture(scope="module")
def table():
    columns = {name: (kind, values) for name, (kind, values, _) in TYPES.items()} | OTHERS
    rows = {
        name: [stored(value, kind) for value in values] + [None] * (ROWS - len(values))
        for name, (kind, values) in columns.items()
    }
    return pa.table(rows, pa.schema([(name, kind) for name, (kind, _) in columns.items()]))


@pytest.fixture(scope="module")
def stores(tmp_path_factory, table):
    """The same rows in both stores: id "3" is row 3."""
    ids = [str(row) for row in range(ROWS)]
    rows = {name: table.column(name).to_pylist() for name in table.column_names}
    made = {}
    for name, backend in BACKENDS.items():
        made[name] = backend.create(tmp_path_factory.mktemp(name) / "i", fingerprint={}, dim=8, columns=table.schema)
        made[name].upsert(ids, np.ones((ROWS, 8)), rows, [f"{one}.jpg" for one in ids])
    return made


def kept(index, where):
    return sorted(int(match.id) for match in index.search(np.ones(8), ROWS, where=where))


@pytest.mark.parametrize("name", TYPES)
def test_every_literal_of_a_type_as_a_mask(table, name):
    # Every fifth of the 24 for a literal, so that all operators have their turn with one or another.
    for where, rows in list(walk(name))[::5]:
        assert np.flatnonzero(Filter(where, table.schema).mask(table)).tolist() == rows, where


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", TYPES)
def test_every_operator_and_literal_of_a_type_in_a_store(stores, name, backend):
    for where, rows in walk(name):
        assert kept(stores[backend], where) == rows, where


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_part_of_the_walk_in_a_store(stores, backend):
    for name in TYPES:
        for where, rows in list(walk(name))[3::113]:
            assert kept(stores[backend], where) == rows, where
    for name in ("text", "view", "entry"):
        for test, rows in list(patterns(TYPES[name][1]))[1::17]:
            assert kept(stores[backend], f"{name} {test}") == rows, test


CONDITIONS = {
    # booleans
    "flag": [0],
    "NOT flag": [1],
    "flag = true": [0],
    "true = flag": [0],
    "flag <> true": [1],
    "flag is true": [0],
    "flag IS FALSE": [1],
    "flag is not true": list(range(1, ROWS)),
    "flag is not false": [0, *range(2, ROWS)],
    "not flag is null": [0, 1],
    "flag in (false, null)": [1],
    "flag = other_flag": [0],
    "flag <> other_flag": [1],
    # columns with columns
    "small < order": [3],
    "small = order": [0],
    "order >= small": [0, 3],
    "near = far": [0],
    "near <> far": [1, 2, 4],  # NaN is unlike itself; beside null it is unknown
    "not near = far": [1, 2, 4],
    "near > far": [2],
    "near <= far": [0, 4],
    "not near <= far": [1, 2],
    "text = large and large = view and view = entry": list(range(10)),
    "id < reference": list(range(ROWS)),
    # what has no comparison
    "tags is null": [1, *range(3, ROWS)],
    "nested is not null": [0, 1],
    "blob is not null": [0],
    "nothing is null": list(range(ROWS)),
    "nothing is not null": [],
    # names
    '"Größe ß" = 1': [0],
    "`grösse ß` = 1 or `größe ß` = 2": None,
    "`GRÖßE ß` = 2": [1],
    '"say ""x""" = 2': [1],
    "select = 2": [1],
    "SELECT = 2": [1],
    "escape like 'a!%' escape '!'": [0],
    "escape = 'ab'": [1],
    "Twice = 1 or TWICE = 4": [0, 1],
    "date > '2024-12-20'": [1],
    "ID = '3' or reference = '4.jpg'": [3, 4],
    # one word after the other
    "id = '1' or id = '2' and flag": [1],
    "(id = '1' or id = '2') and not flag": [1],
    "not (id = '1' or flag)": [],
    "id = '1'\n\tOR\nid = '2'": [1, 2],
    "order == 5 and small != 5": [1, 3],
    "order = (5)": list(range(4)),
    # nanoseconds, and a literal with more digits than any column
    "at_ns > '2024-12-20 00:00:00.000000999'": [1, 3],
    "at_us > '2024-12-20 00:00:00.000000999'": [1, 3],
    "at_us = '2024-12-20 00:00:00.000001000'": [3],
    "at_us = '2024-12-20 00:00:00.0000010001'": [],
    # numbers of a billion digits
    "int64 < 1e999999999": list(range(5)),
    "int64 > 1e-999999999": [1, 2, 4],
    "float64 > -1e-999999999": [2, 4, 5],  # the nearest that the column holds is 0
    f"float64 = 0.1{'0' * 10000}": [2],
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_else_is_understood(stores, backend):
    index = stores[backend]
    for where, rows in CONDITIONS.items():
        if rows is None:  # ß is no ss
            with pytest.raises(FilterError, match="no column 'grösse ß'; did you mean 'Größe ß'"):
                kept(index, where)
            continue
        assert kept(index, where) == rows, where[:200]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_long_list_and_a_long_chain(stores, backend):
    count = stores[backend].count
    assert count(f"int32 not in ({', '.join(map(str, range(10_000)))})") == 2
    assert count(" or ".join(f"int16 = {number}" for number in range(6, 1000)) + " or id = '7'") == 1


@pytest.mark.parametrize("name", ["text", "large", "view", "entry"])
def test_patterns_as_a_mask(table, name):
    for test, rows in list(patterns(TYPES[name][1]))[::3]:
        assert np.flatnonzero(Filter(f"{name} {test}", table.schema).mask(table)).tolist() == rows, test


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["text", "large", "view", "entry"])
def test_patterns_in_a_store(stores, backend, name):
    for test, rows in patterns(TYPES[name][1]):
        assert kept(stores[backend], f"{name} {test}") == rows, test


def test_as_deep_as_is_allowed_and_one_deeper(stores, table):
    worst = "near > far"  # the longest that Lance is asked
    for opening, level in (("(", 1), ("not (", 2), ("flag is null and (", 1), ("flag or not (", 2), ("not ", 1)):
        closing = ")" if "(" in opening else ""
        deepest = opening * (DEEPEST // level) + worst + closing * (DEEPEST // level)
        assert len({tuple(kept(index, deepest)) for index in stores.values()}) == 1, opening
        for deeper in (DEEPEST + 1, 1000):
            with pytest.raises(FilterError, match=f"more than {DEEPEST} parentheses and NOTs"):
                Filter(opening * deeper + worst + closing * deeper, table.schema)


REFUSED = {
    "": "it is empty; leave it out to keep every row",
    " \n": "it is empty",
    "-- everything": "comments are not understood",
    "small = 1 -- or 2": r"comments are not understood, such as that beside '1' \(letter 9\)",
    "small /* or order */ = 1": "comments are not understood",
    "{# x #} small = 1": "comments are not understood",
    "small = 1; DROP TABLE vectors": r"';' \(letter 10\) is not understood",
    "small = '1": "a quote is opened and not closed",
    "small =": r"something is missing after '=' \(letter 7\)",
    "small = 1 and": r"something is missing after 'and' \(letter 11\)",
    "small 5": r"'5' \(letter 7\) was not expected there",
    "small\n= 5 5": r"'5' \(line 2, letter 5\) was not expected there",
    "(flag": r"'\)' was expected after 'flag'",
    "flag)": r"'\)' \(letter 5\) was not expected",
    "smal = 1": "there is no column 'smal'; did you mean 'small'. Columns: id, reference, int8",
    "text = cat": "no column 'cat'; a text is written in single quotes: 'cat'",
    'text = "cat"': "no column 'cat'; a text is written in single quotes: 'cat'",
    "_hidden = 1": "no column '_hidden'",
    "_origin = 'x'": "no column '_origin'",
    "_distance < 1": "no column '_distance'",
    "_rowid = 1": "no column '_rowid'",
    "vector is null": "no column 'vector'",
    "twice = 1": "'twice' may be 'Twice' or 'TWICE'; write it with the case of its letters",
    "nested.a = 1": r"'\.' \(letter 7\) is not understood",
    "small": "'small', a column of type int8, is no condition by itself",
    "5": "the number 5 is no condition by itself",
    "true": "true is no condition by itself",
    "1 = 1": "the number 1 is compared with the number 1; one side must be a column",
    "small = 'x'": "the text 'x' is compared with 'small', a column of type int8, which is written 5",
    "small = '5'": "the text '5' is compared with 'small'",
    "small = 0x1F": r"'x1F' \(letter 10\)",
    "small = 1e": "the number 1e is compared with 'small'",
    "text = 5": "the number 5 is compared with 'text', a column of type string, which is written 'cat'",
    "text = true": "true is compared with 'text'",
    "flag = 1": "the number 1 is compared with 'flag', a column of type bool, which is written true or false",
    "flag > false": "is compared by = and <>, not by >",
    "small is true": "'small', a column of type int8, is neither true nor false",
    "tags is true": "'tags' is neither true nor false",
    "small is 5": "IS stands between a column and NULL",
    "flag is unknown": r"'unknown' \(letter 9\)|no column 'unknown'",
    "small = null": "nothing is = NULL, which is not known; write IS NULL",
    "small is distinct from order": r"'distinct' \(letter 10\) is not understood",
    "small < decimal": "'small' of type int8 is compared with 'decimal' of type decimal128",
    "int64 < uint64": "two columns are compared if they are of one type",
    "small + 1 > order": r"arithmetic is not understood, '\+' \(letter 7\)",
    "small > order - 1": "arithmetic is not understood",
    "small > 1 - 1": "arithmetic is not understood",
    "- small > 1": "arithmetic is not understood",
    "date > 2024-12-20": "arithmetic is not understood.*a date is written in quotes, as '2024-12-31'",
    "date > 5": "the number 5 is compared with 'date', a column of type date32.* written '2024-12-31'",
    "date > 'soon'": "the text 'soon' is compared with 'date'",
    "date > '2024-02-30'": "the text '2024-02-30' is compared with 'date'",
    "date > date '2024-12-20 12:00'": "the text '2024-12-20 12:00' is compared with 'date'",
    "text > date '2024-12-20'": "is compared with 'text'",
    "at_us > '2024-12-20 12:00:00Z'": "has a time zone, and the column that it is compared with has none",
    "time64 > '24:00'": "the text '24:00' is compared with 'time64'",
    "took_us > '5'": r"the text '5' is compared with 'took_us'.* \(hours, minutes, seconds\)",
    "took_us > interval '5' second": "'interval'",
    "uuid = 'no-uuid'": "the text 'no-uuid' is compared with 'uuid', .* which is written 'df35c4cb",
    "tags = 1": "'tags', a column of type list.* is asked for IS NULL and IS NOT NULL alone",
    "nested = 'x'": "'nested', a column of type struct.* is asked for IS NULL",
    "blob = 'a'": "'blob', a column of type binary, is asked for IS NULL",
    "blob = X'61'": r"\"'61'\" \(letter 9\) was not expected there",
    "nothing > 1": "'nothing', a column of type null, is asked for IS NULL",
    "tags in (1)": "'tags', a column of type list.* is asked for IS NULL",
    "small in ()": "IN needs a list of values in parentheses",
    "small in 5": "IN needs a list of values in parentheses",
    "5 in (5, 6)": "IN stands between a column and a list of values",
    "small in (order, 5)": "the list of IN holds the column 'order'; compare with = and OR",
    "small in (select id from vectors)": "functions are not understood|'from'|was not expected",
    "exists (select 1)": r"functions are not understood, such as exists\(\) at letter 1",
    "lower(text) = 'cat'": r"functions are not understood, such as lower\(\)",
    "date(at_us) = '2024-12-20'": r"functions are not understood, such as date\(\)",
    "cast(small as text) = '1'": r"functions are not understood, such as cast\(\)",
    "small::text = '1'": "'::' .letter 6. is not understood",
    "case when flag then true end": "'case' .letter 1. is not understood: there is no column 'case'",
    "text ~ 'x'": "'~' .letter 6. is not understood",
    "text || 'x' = 'y'": "is not understood",
    "text similar to 'x'": "'SIMILAR TO' .letter 6. is not understood",
    "text = 'a' 'b'": "two texts side by side",
    "(small, order) = (1, 2)": "a list stands where a column or a value was expected",
    "(small = 1) = flag": "a condition stands where a column or a value was expected",
    "small = 1" + " = 1" * 5000: "a condition stands where",
    "1 < small < 5": "a condition stands where",
    "small like '1%'": "LIKE compares a column of texts with a pattern",
    "'a' like text": "LIKE compares a column of texts with a pattern",
    "text like text": "LIKE compares a column of texts with a pattern",
    "text like 'a\\'": "the pattern 'a.' ends with",
    "text like 'a%' escape 'ab'": "ESCAPE is followed by one letter",
    "text = 'a' escape 'b'": r"'escape' \(letter 12\) was not expected",
    "text like any ('a', 'b')": r"functions are not understood, such as any\(\)",
    "! flag": "'!' .letter 1. is not understood",
    "small !< 5": "'!' .letter 7. is not understood",
    "small = ?": "'.' .letter 9. is not understood",
    "@small = 1": "'@' .letter 1. is not understood",
    "small[0] = 1": "is not understood",
    "small = 1, order = 2": "',' .letter 10. was not expected there",
    "small\ud800 = 1": "letter 6, '.ud800', is half of a character",
    "text = '\udcff'": "letter 9, '.udcff', is half of a character",
    "*": "arithmetic is not understood",
}


def test_what_is_refused_in_the_same_words_by_all_calls_of_both_stores(stores):
    calls = (
        lambda index, where: index.count(where),
        lambda index, where: index.delete(where=where),
        lambda index, where: index.search(np.ones(8), where=where),
    )
    for number, (where, message) in enumerate(REFUSED.items()):
        said = set()
        for turn, index in enumerate(stores.values()):
            with pytest.raises(FilterError, match=message) as refused:
                calls[(number + turn) % 3](index, where)
            said.add(str(refused.value))
        assert len(said) == 1
        assert len(said.pop()) < 2000, "a long filter is not repeated whole"
    assert {index.count() for index in stores.values()} == {ROWS}


def test_a_name_that_lance_cannot_quote_is_refused():
    with pytest.raises(FilterError, match="the column 'a`b' has a backtick in its name, which Lance cannot ask for"):
        Filter('"a`b" = 1', pa.schema([("a`b", pa.int64())]))


def test_an_empty_store_refuses_too(tmp_path):
    for name, backend in BACKENDS.items():
        index = backend.create(tmp_path / name, fingerprint={}, dim=8)
        with pytest.raises(FilterError, match="no column 'label'"):
            index.count("label = 'cat'")
        assert index.count("id = 'a'") == 0


def test_what_is_deleted_is_what_is_counted(tmp_path):
    for name, backend in BACKENDS.items():
        index = backend.create(tmp_path / name, fingerprint={}, dim=8, columns=pa.schema([("small", pa.int8())]))
        index.upsert(["a", "b", "c"], np.ones((3, 8)), {"small": [1, 2, None]})
        assert index.delete(where="small > 300") == 0
        assert index.delete(where="small not in (1, 300)") == 1
        assert sorted(match.id for match in index.search(np.ones(8))) == ["a", "c"]
        assert index.delete(where="small < 300") == 1
        assert index.delete(["c", "it's"]) == 1


@pytest.mark.parametrize(
    ("where", "asked"),
    [
        ("decimal = -1.3 AND text = '1.3'", "`decimal` = arrow_cast('-1.30', 'Decimal128(10, 2)') AND `text` = '1.3'"),
        ("decimal > 1.305", "`decimal` > arrow_cast('1.30', 'Decimal128(10, 2)')"),
        ("decimal >= 1.305", "`decimal` > arrow_cast('1.30', 'Decimal128(10, 2)')"),
        ("int8 < 300", "`int8` <= arrow_cast('127', 'Int8')"),
        ("uint8 = -1", "`uint8` < arrow_cast('0', 'UInt8')"),
        ("date IN ('2021-01-01')", "`date` IN (arrow_cast(arrow_cast('18628', 'Int32'), 'Date32'))"),
        (
            "there_us = '2020-01-02 04:00:00'",
            "`there_us` = arrow_cast(arrow_cast('1577934000000000', 'Int64'), "
            "'Timestamp(Microsecond, Some(\"Europe/Berlin\"))')",
        ),
        ("took_us > '24:00:00'", "`took_us` > arrow_cast(arrow_cast('86400000000', 'Int64'), 'Duration(Microsecond)')"),
        (f"uuid = '{KEYS[0]}'", f"`uuid` = X'{KEYS[0].hex}'"),
        ("float32 > 2", "(`float32` > arrow_cast('2.0', 'Float32') AND NOT isnan(`float32`))"),
        ("text like '50!%' escape '!'", "`text` LIKE '50\\%'"),
    ],
)
def test_what_lance_is_asked(where, asked):
    assert Filter(where, pa.schema([(name, kind) for name, (kind, *_) in TYPES.items()])).sql == asked


TYPED = """( ) ( ) , = <> < >= and or not and or not in like ilike is null between escape true false - . ; date timestamp
flag small order near far text entry nested date at_us uuid decimal nothing case select cast interval any
5 -1 2.5 300 1e3 'cat' '%a_' '!' '2024-12-20' '' "small" `text` + * lower( :: [ ? @ distinct"""
WORDS = TYPED.split()
MEANINGFUL = [
    "flag",
    "small = 5",
    "order > 2.5",
    "near <= far",
    "text like '%a%'",
    "decimal in (1.3, null)",
    "blob is null",
]


def words(seed, some):
    return " ".join(np.random.default_rng(seed).choice(some, 1 + seed % 12))


def test_whatever_is_typed_is_answered_or_refused_by_name(table):
    for seed in range(600):
        where = words(seed, WORDS)
        try:
            answer = Filter(where, table.schema)
        except FilterError:
            continue
        assert answer.mask(table).shape == (ROWS,), where


@pytest.mark.slow
def test_whatever_is_understood_is_answered_alike(stores, table):
    understood = 0
    for seed in range(6000):
        where = words(
            seed, WORDS if seed % 2 else [*MEANINGFUL, *MEANINGFUL, "and", "or", "not", "and not", "(", ")", ")"]
        )
        try:
            mask = Filter(where, table.schema).mask(table)
        except FilterError:
            continue
        understood += 1
        for index in stores.values():
            assert kept(index, where) == np.flatnonzero(mask).tolist(), where
    assert understood > 300
