"""Filters by type: values, literals and every operator, with the rows that Python's own comparisons keep."""

import datetime as dt
import math
import operator
import re
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import numpy as np
import pyarrow as pa

UTC = dt.UTC
NAN, INF = math.nan, math.inf
SIGNS = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def whole(kind):
    """Values and literals of a type of whole numbers: its ends, beyond them, halves."""
    low, high = (0, 2**kind.bit_width - 1) if "u" in str(kind) else (-(2 ** (kind.bit_width - 1)),) * 2
    high = high if low == 0 else -low - 1
    written = [low, low - 1, high, high + 1, 5, 0, 99999999999999999999, -99999999999999999999]
    return (
        kind,
        [low, high, 5, 0, 1],
        [*((str(n), n) for n in written), ("2.5", 2.5), ("1e0", 1), ("-.5", -0.5), ("1.0", 1)],
    )


def floating(kind):
    """A literal is the nearest number that the column holds; out of range it is none of them."""
    narrow = getattr(np, f"float{kind.bit_width}")
    top = float(np.finfo(narrow).max)
    values = [0.0, -0.0, float(narrow(0.1)), -1.5, top, INF, -INF, NAN]
    held = [("0.1", float(narrow(0.1))), ("0", 0.0), ("-0.0", 0.0), ("-1.5", -1.5), ("2", 2.0), ("15e-1", 1.5)]
    return kind, values, [*held, ("1e400", Fraction(10) ** 400), ("-1e400", -(Fraction(10) ** 400))]


def moments(unit, zone=None):
    """Of timestamps; without an offset a literal is local time of the column's zone (an hour ahead in Berlin's winter)."""
    ahead = dt.timedelta(hours=1 if zone == "Europe/Berlin" else 0)
    at = [dt.datetime(2024, 12, 20), dt.datetime(2024, 12, 20, 12, 30, 15), dt.datetime(1969, 12, 31, 23, 59, 59)]
    if unit in ("us", "ns"):
        at.append(dt.datetime(2024, 12, 20, 0, 0, 0, 1))
    written = {
        "'2024-12-20'": at[0],
        "DATE '2024-12-20'": at[0],
        "'2024-12-20 12:30:15'": at[1],
        "TIMESTAMP '2024-12-20T12:30'": dt.datetime(2024, 12, 20, 12, 30),
        "'2024-12-20 00:00:00.000001'": dt.datetime(2024, 12, 20, 0, 0, 0, 1),
        "'2024-12-20 00:00:00.5'": dt.datetime(2024, 12, 20, 0, 0, 0, 500000),
        "'1969-12-31 23:59:58.9'": dt.datetime(1969, 12, 31, 23, 59, 58, 900000),
        "'0001-01-02'": dt.datetime(1, 1, 2),
        "'9999-12-30'": dt.datetime(9999, 12, 30),
    }
    if zone is None:
        return pa.timestamp(unit), at, list(written.items())
    told = [(text, (moment - ahead).replace(tzinfo=UTC)) for text, moment in written.items()]
    told += [
        ("'2024-12-20T14:30:15+02:00'", at[1].replace(tzinfo=UTC)),
        ("'2024-12-20 12:30:15Z'", at[1].replace(tzinfo=UTC)),
    ]
    return pa.timestamp(unit, zone), [moment.replace(tzinfo=UTC) for moment in at], told


def days(kind):
    at = [dt.date(2024, 12, 20), dt.date(2024, 12, 21), dt.date(1969, 12, 30), dt.date(1, 1, 1)]
    noon = dt.datetime(2024, 12, 20, 12)  # after the day's beginning, before the next
    written = [(f"'{day.isoformat()}'", midnight(day)) for day in at] + [("'2024-12-20 12:00'", noon)]
    return kind, [midnight(day) for day in at], [*written, ("date '2024-12-21'", midnight(at[1]))]


def midnight(day):
    return dt.datetime(day.year, day.month, day.day)


def times(kind):
    at = [dt.timedelta(0), dt.timedelta(hours=23, minutes=59, seconds=59), dt.timedelta(hours=1)]
    half = dt.timedelta(hours=1, milliseconds=500)
    return kind, at, [("'00:00'", at[0]), ("'23:59:59'", at[1]), ("time '01:00:00.5'", half), ("'01:00:00'", at[2])]


def durations(kind):
    at = [dt.timedelta(0), dt.timedelta(hours=30), -dt.timedelta(minutes=1)]
    half = dt.timedelta(hours=30, milliseconds=-1)
    return kind, at, [("'0:00:00'", at[0]), ("'30:00:00'", at[1]), ("'29:59:59.999'", half), ("'-0:01:00'", at[2])]


def decimals(kind):
    top = 10 ** (kind.precision - kind.scale)
    last = Decimal(f"{'9' * kind.precision}E-{kind.scale}")
    written = ["1.3", "1.305", "-1.31", "0", "1e1", str(top), f"-{top}", str(last)]
    return kind, [Decimal("1.3"), Decimal("-1.31"), Decimal(0), last], [(text, Fraction(text)) for text in written]


def texts(kind):
    at = ["cat", "it's", "", "Ärger", "a\nb", "50%", "Cat", "back\\slash", 'say "x"', "😀"]
    return kind, at, [("'" + one.replace("'", "''") + "'", one) for one in [*at, "-- no comment; x"]]


KEYS = [UUID(int=2**100 + one) for one in range(3)]
TYPES = {
    **{str(kind): whole(kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(kind): whole(kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **{f"float{kind.bit_width}": floating(kind) for kind in (pa.float16(), pa.float32(), pa.float64())},
    "decimal": decimals(pa.decimal128(10, 2)),
    "tight": decimals(pa.decimal128(38, 10)),
    "wide": decimals(pa.decimal256(50, 3)),
    **{f"at_{unit}": moments(unit) for unit in ("s", "ms", "us", "ns")},
    **{f"there_{unit}": moments(unit, "Europe/Berlin") for unit in ("s", "ms", "us", "ns")},
    "utc": moments("us", "UTC"),
    "fixed": moments("ms", "+00:00"),
    "date": days(pa.date32()),
    "date64": days(pa.date64()),
    **{str(kind)[:6]: times(kind) for kind in (pa.time32("ms"), pa.time64("us"))},
    "time_s": times(pa.time32("s")),
    "time_ns": times(pa.time64("ns")),
    **{f"took_{unit}": durations(pa.duration(unit)) for unit in ("s", "ms", "us", "ns")},
    "text": texts(pa.string()),
    "large": texts(pa.large_string()),
    "view": texts(pa.string_view()),
    "entry": texts(pa.dictionary(pa.int8(), pa.string())),
    "number_entry": (pa.dictionary(pa.int8(), pa.int16()), [5, -7], [("5", 5), ("70000", 70000), ("-7.5", -7.5)]),
    "uuid": (pa.uuid(), KEYS, [(f"'{one}'", one) for one in KEYS] + [(f"'{KEYS[0].hex.upper()}'", KEYS[0])]),
}
# Beside them, columns that are asked in other ways.
OTHERS = {
    "flag": (pa.bool_(), [True, False]),
    "other_flag": (pa.bool_(), [True, True, False, None]),
    "small": (pa.int8(), [5, 6, None, -1]),
    "order": (pa.int64(), [5, 5, 5, 5]),
    "near": (pa.float32(), [0.0, NAN, INF, None, 1.5]),
    "far": (pa.float64(), [-0.0, NAN, -INF, NAN, 2.5]),
    "tags": (pa.list_(pa.int64()), [[1], None, []]),
    "nested": (pa.struct([("a", pa.int64())]), [{"a": 1}, {"a": None}]),
    "blob": (pa.binary(), [b"a"]),
    "nothing": (pa.null(), []),
    "Größe ß": (pa.int64(), [1, 2]),
    'say "x"': (pa.int64(), [1, 2]),
    "select": (pa.int64(), [1, 2]),
    "Escape": (pa.string(), ["a%", "ab"]),
    "Twice": (pa.int64(), [1, 2]),
    "TWICE": (pa.int64(), [3, 4]),
    "_hidden": (pa.int64(), [1]),
}
ROWS = 12  # more than any type has values: the last has none in any column


def stored(value, kind):
    """A value as Arrow takes it: times from the distance to midnight."""
    if pa.types.is_time(kind) and value is not None:
        return (dt.datetime(2000, 1, 1) + value).time()
    return value.date() if pa.types.is_date(kind) and value is not None else value


# -- the reference: three values, by plain comparisons ---------------------------------------------------------------


def told(sign, left, right):
    return None if left is None or right is None else SIGNS[sign](left, right)


def no(one):
    return None if one is None else not one


def any_of(found):
    return True if True in found else None if None in found else False


def every_of(found):
    return False if False in found else None if None in found else True


def reference(value, written):
    """A value of a row as it is compared with literals: a Fraction beside one, which is no float and no Decimal."""
    beside = [one for _, one in written]
    if isinstance(value, Decimal) or (
        isinstance(value, float) and math.isfinite(value) and Fraction in map(type, beside)
    ):
        return Fraction(value)
    return value


def walk(name):
    """(filter, rows that it keeps) for every operator and literal of a type."""
    _, values, written = TYPES[name]
    rows = [reference(value, written) for value in values] + [None] * (ROWS - len(values))

    def rows_of(test):
        return [row for row, value in enumerate(rows) if test(value) is True]

    yield f"{name} is null", rows_of(lambda value: value is None)
    yield f"{name} IS NOT NULL", rows_of(lambda value: value is not None)
    for at, (text, literal) in enumerate(written):
        other, second = written[(at + 1) % len(written)]
        for sign, turned in zip(SIGNS, ("=", "<>", ">", ">=", "<", "<="), strict=True):
            yield f"{name} {sign} {text}", rows_of(lambda value, s=sign, one=literal: told(s, value, one))
            yield f"not ({name} {sign} {text})", rows_of(lambda value, s=sign, one=literal: no(told(s, value, one)))
            yield f"{text} {turned} {name}", rows_of(lambda value, s=sign, one=literal: told(s, value, one))

        def among(value, one=literal, two=second, null=False):
            return any_of([told("=", value, one), told("=", value, two), *[None] * null])

        def between(value, one=literal, two=second):
            return every_of([told(">=", value, one), told("<=", value, two)])

        yield f"{name} in ({text}, {other})", rows_of(among)
        yield f"{name} not in ({text}, {other})", rows_of(lambda value, test=among: no(test(value)))
        yield f"{name} in ({text}, null, {other})", rows_of(lambda value, test=among: test(value, null=True))
        yield (
            f"{name} not in ({text}, null)",
            rows_of(lambda value, one=literal: no(any_of([told("=", value, one), None]))),
        )
        yield f"{name} between {text} and {other}", rows_of(between)
        yield f"{name} not between {text} and {other}", rows_of(lambda value, test=between: no(test(value)))


PATTERNS = ["%", "", "_", "a_b", "%a%", "C%", "50\\%", "50!%", "%\\\\%", "%'s", "ä%", "%\n%", "%É%", "😀", "__", "%.%"]


def patterns(values):
    """(filter without its column, rows that it keeps) for every pattern, by Python's regular expressions."""
    for pattern in PATTERNS:
        for escape in ("", "!"):
            mark = re.escape(escape or "\\")
            parts = re.findall(rf"{mark}.|.", pattern, re.DOTALL)
            told = {"%": ".*", "_": "."}
            regex = "".join(told.get(part) or re.escape(part[-1]) for part in parts)
            quoted = "'" + pattern.replace("'", "''") + "'" + (f" ESCAPE '{escape}'" if escape else "")
            for word, flags in (("LIKE", re.DOTALL), ("ilike", re.DOTALL | re.IGNORECASE)):
                fits = [row for row, value in enumerate(values) if re.fullmatch(regex, value, flags)]
                yield f"{word} {quoted}", fits
                yield f"not {word} {quoted}", [row for row in range(len(values)) if row not in fits]
