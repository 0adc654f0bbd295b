"""Tables, tars and front matters that strangers could make: small files, large memory."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LARGE = 5_000_000


def told_once(count: int, size: int = LARGE) -> pa.DictionaryArray:
    """A text that stands in so many rows and once in the file."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["x" * size]))


def parquet(columns: dict, **options) -> Callable[[Path], None]:
    """Writes such a Parquet file."""
    options = {"compression": "zstd", "store_schema": False, **options}
    return lambda path: pq.write_table(pa.table(columns), path, **options)


def one_list(values: pa.Array) -> pa.ListArray:
    """One row that holds all of them."""
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def _delta(path: Path) -> None:
    texts = pa.array(["p" * 1_500_000 + str(number) for number in range(250)])
    options = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY", "caption": "PLAIN"}}
    pq.write_table(pa.table({"text": texts, "caption": ["a"] * 250}), path, compression="zstd", **options)


def _deep(path: Path) -> None:
    kind = pa.int8()
    for _ in range(100):
        kind = pa.list_(kind)
    pq.write_table(pa.table({"text": ["a"], "deep": pa.array([None], kind)}), path)


def _rows(path: Path) -> None:
    pq.write_table(
        pa.table({"text": pa.nulls(30_000_000, pa.string())}), path, compression="zstd", row_group_size=2**30
    )


def lines(*texts: str) -> Callable[[Path], None]:
    """Writes a file of text."""
    return lambda path: path.write_text("".join(f"{text}\n" for text in texts))


def packed(pack: Callable[[bytes], bytes], times: int = 8) -> Callable[[Path], None]:
    """Writes 10 MB of one row, packed, so many times one after the other: all of these formats let one stream follow another."""
    row = b'{"text": "' + b"a cat " * 1000 + b'"}\n'
    return lambda path: path.write_bytes(pack(row * (10**7 // len(row))) * times)


def _xz_window(path: Path) -> None:
    data = bytearray(lzma.compress(b"x", lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]))
    # The size of the window is one byte of the block's header, over which stands a checksum.
    start, length = 12, (data[12] + 1) * 4
    data[start + 4] = 39  # of 3 GiB
    header = bytes(data[start : start + length - 4])
    data[start + length - 4 : start + length] = zlib.crc32(header).to_bytes(4, "little")
    path.write_bytes(data)


def tar(*members: tuple[str, bytes], more: bytes = b"") -> Callable[[Path], None]:
    """Writes a tar, with other headers at its start."""

    def write(path: Path) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as file:
            for name, content in members:
                about = tarfile.TarInfo(name)
                about.size = len(content)
                file.addfile(about, io.BytesIO(content))
        path.write_bytes(more + out.getvalue())

    return write


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, **facts: str) -> bytes:
    """A header of a tar."""
    about = tarfile.TarInfo(name)
    about.size, about.type, about.pax_headers = size, kind, facts
    return about.tobuf(tarfile.PAX_FORMAT if facts else tarfile.GNU_FORMAT)


def keys(count: int) -> str:
    """A JSON object of so many keys."""
    return json.dumps({f"k{number}": 1 for number in range(count)})


GOOD = '{"text": "a cat"}'
SMALL = {"text": ["a cat"]}
MADE = "made to fill the memory"
NO_TAR = "is no tar, damaged or cut off"
# name → (file, how it is written, what is said).
TABLES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "parquet-text": ("t.parquet", parquet({"text": told_once(1500)}), "1500 rows"),
    "parquet-list": ("t.parquet", parquet({"text": ["a"], "more": one_list(told_once(1500))}), "7,500,[0-9,]* bytes"),
    "parquet-columns": (
        "t.parquet",
        parquet({f"text{number}": told_once(64, 2_000_000) for number in range(40)}),
        "its texts have [0-9,]+ bytes",
    ),
    "parquet-page": ("t.parquet", parquet({"text": pa.array(["y" * 280_000_000])}, use_dictionary=False), MADE),
    "parquet-values": (
        "t.parquet",
        parquet({"text": ["a"], "n": one_list(pa.array(np.zeros(10**8, np.int64)))}),
        MADE,
    ),
    "parquet-prefixes": ("t.parquet", _delta, f"{MADE}|would fill the memory"),
    "parquet-rows": ("t.parquet", _rows, "30,000,000 rows in"),
    "parquet-deep": ("t.parquet", _deep, "deeply nested"),
    "parquet-wide": ("t.parquet", parquet({f"c{number}": [1] for number in range(3000)}), "3,000 columns"),
    "jsonl-keys": ("t.jsonl", lines(GOOD, keys(20_000), GOOD), "2,000.*\n.*2 good"),
    "jsonl-spread": ("t.jsonl", lines(GOOD, *(f'{{"k{n}": 1}}' for n in range(20_000))), "2,000.*\n.*2000 good"),
    "jsonl-deep": ("t.jsonl", lines(GOOD, '{"text": "a", "x": ' + "[" * 900 + "]" * 900 + "}"), "deep.*\n.*1 good"),
    "jsonl-values": ("t.jsonl", lines(GOOD, '{"x": [' + "{}," * 5_000_000 + "{}]}"), "values.*\n.*1 good"),
    "jsonl-line": ("t.jsonl", lines(GOOD, '{"text": "' + "x" * 2**26 + '"}', GOOD), "letters.*\n.*2 good"),
    "jsonl-gz": ("t.jsonl.gz", packed(gzip.compress), "over 200 times"),
    "jsonl-xz": ("t.jsonl.xz", packed(lambda data: lzma.compress(data, preset=0)), "over 200 times"),
    "jsonl-bz2": ("t.jsonl.bz2", packed(bz2.compress), "over 200 times"),
    "jsonl-zst": ("t.jsonl.zst", packed(lambda data: pa.compress(data, "zstd", asbytes=True)), "over 200 times"),
    "jsonl-window": ("t.jsonl.xz", _xz_window, "[Mm]emory usage limit"),
    "csv-columns": ("t.csv", lines(",".join(f"c{n}" for n in range(20_000)), "1"), "20,000 columns"),
    "csv-cells": ("t.csv", lines("image,text", "a.png" + "," * 30_000_000), "cells"),
    "csv-line": ("t.csv", lines("image,text", "a.png," + "x" * 2**26), "letters"),
    "csv-row": ("t.csv", lines("image,text", 'a.png,"' + ("x" * 2**20 + '","\n') * 70), "letters"),
    "tar-size": ("t.tar", tar(more=header("a.txt", 2**60)), NO_TAR),
    "tar-name": ("t.tar", tar(more=header("x", 2**31, b"L") + b"a" * 512), NO_TAR),
    "tar-facts": ("t.tar", tar(more=header("x", 2**40, b"x") + b"1" * 512), NO_TAR),
    "tar-digits": ("t.tar", tar(more=header("x", 2**20, b"x") + b"1" * 2**20), NO_TAR),
    "tar-sparse": ("t.tar", tar(more=header("a.txt", 2**40, tarfile.GNUTYPE_SPARSE) + b"x" * 512), "sparse file"),
    "tar-endings": ("t.tar", tar(*((f"{n}.e{n}", b"") for n in range(20_000))), "256 endings"),
    "tar-key": ("t.tar", tar(("k" * 5000 + ".txt", b"x")), "a name of 5,000 letters"),
}

_ALIASES = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
MATTERS: dict[str, tuple[str, str]] = {
    "keys": ("".join(f"k{number}: 1\n" for number in range(60_000)), "60000 keys"),
    "aliases": ("a: &a [x, x, x, x, x, x, x, x, x]\n" + _ALIASES, "repeats itself by aliases"),
    "merges": ("a: &a {x: 1}\n" + _ALIASES.replace("[", "{<<: [").replace("]", "]}"), "repeats itself by aliases"),
    "itself": ("a: &a [*a]\n", "repeats itself by aliases"),
    "deep": ("a: " + "[" * 5000 + "\n", "is no YAML"),
    "long": ("a: " + "x" * 2_000_000 + "\n", "2,000,00[0-9] letters"),
    "number": ("a: " + "1" * 5000 + "\n", "is no YAML"),
    "date": ("a: 2001-99-99\n", "is no YAML"),
}
