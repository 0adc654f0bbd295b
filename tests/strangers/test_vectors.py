"""Vectors, numbers and facts of strangers: shards, manifests, indexes and certificates, each thing wrong in turn."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.strangers import shards
from tests.strangers.fuzz import finds
from tests.strangers.harness import Sandbox
from tests.strangers.shards import DIM, ROWS, footer, opened, table, vectors, write

MANY = 1_024


def changed(row: int, value: Any) -> np.ndarray:
    """The vectors with one that is another."""
    matrix = vectors()
    matrix[row] = value
    return matrix


def text(values: list[bytes]) -> pa.Array:
    """Texts that are any bytes."""
    raw = pa.array(values)
    return pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2])


# ---------------------------------------------------------------------------------------------------------- vectors

SHARDS: dict[str, tuple[dict[str, Any], str]] = {
    "nan": ({"rows": table(changed(3, np.nan))}, "vector 3 holds NaN or infinity"),
    "infinity": ({"rows": table(changed(3, np.inf))}, "vector 3 holds NaN or infinity"),
    "zero": ({"rows": table(changed(2, 0))}, "vector 2 is zero"),
    "too long": ({"rows": table(vectors() * 3)}, "vector 0 has the length 3; vectors of this model have 1"),
    "overflow": ({"rows": table(vectors() * np.float32(1e30))}, "vector 0 has the length 1e.30"),
    "another width": ({"rows": table(vectors(dim=40))}, "column vector is of type .*40"),
    "another type": ({"rows": table(vectors().astype(np.float64))}, "column vector is of type .*double"),
    "a list": ({"rows": table(vector=pa.array([[0.5]] * ROWS))}, "column vector is of type list"),
    "too few": ({"rows": table(vectors(4)), "about": footer()}, "4 vectors where 8 inputs"),
    "none": ({"rows": table(vector=pa.array([None] * ROWS, pa.list_(pa.float32(), DIM)))}, "a vector, or a number"),
    "a number missing": (
        {"rows": table(vector=pa.array([[None] * DIM] * ROWS, pa.list_(pa.float32(), DIM)))},
        "a vector, or a number of one, is missing",
    ),
    "a code of -128": ({"rows": table(np.full((8, DIM), -128, np.int8)), "precision": "int8"}, "holds -128"),
    "codes of zero": ({"rows": table(np.zeros((8, DIM), np.int8)), "precision": "int8"}, "is zero"),
    "an id twice": ({"rows": table(id=pa.array(["a"] * ROWS))}, "7 ids occur twice"),
    "no id": ({"rows": table(id=pa.array([None] * ROWS, pa.string()))}, "8 rows have no id"),
    "no reference": ({"rows": table(reference=pa.array([None] * ROWS, pa.string()))}, "8 rows have no reference"),
    "no text": ({"rows": table(text=text([b"\xff"] * ROWS))}, "Invalid UTF8"),
    "an object": ({"rows": table(text=pa.array([{"a": 1}] * ROWS))}, "as none is kept"),
    "two of one name": (
        {"rows": pa.table([*table().columns, table()["text"]], [*table().column_names, "text"])},
        "two columns of one name",
    ),
    "thousands of columns": ({"rows": table(**{f"c{n}": pa.array([1] * ROWS) for n in range(5_000)})}, "5,004 columns"),
}
# Some kilobytes on disk, gigabytes in memory: one text in all rows, texts that pack well, texts that share their beginnings,
# vectors that are one number.
LARGE: dict[str, Any] = {
    "one text": lambda: {"rows": table(vectors(MANY), text=pa.array(["x" * 300_000] * MANY))},
    "packed": lambda: {
        "rows": table(vectors(280), text=pa.array([chr(97 + n % 26) * 1_000_000 + str(n) for n in range(280)])),
        "use_dictionary": False,
    },
    "shared beginnings": lambda: {
        "rows": table(vectors(MANY), text=pa.array(["x" * 300_000] * MANY)),
        "use_dictionary": False,
        "compression": "none",
        "column_encoding": {"text": "DELTA_BYTE_ARRAY"},
    },
    "one vector": lambda: {
        "rows": table(np.ascontiguousarray(np.broadcast_to(vectors()[:1, :1] * 0 + 1, (400_000, DIM)))),
        "use_dictionary": True,
        "compression": "zstd",
    },
}


@pytest.mark.parametrize(
    "case",
    ["nan", "no text", *(pytest.param(n, marks=pytest.mark.slow) for n in SHARDS if n not in ("nan", "no text"))],
)
def test_a_shard_that_no_model_made(sandbox: Sandbox, case: str):
    options, said = SHARDS[case]
    write(sandbox.gift, **options)
    opened(sandbox).refused(said)


@pytest.mark.parametrize(
    "case", ["one text", *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE if n != "one text")]
)
def test_a_small_shard_that_becomes_large(sandbox: Sandbox, case: str):
    write(sandbox.gift, **LARGE[case]())
    opened(sandbox).refused("in memory|what its values share|cannot hold")


@pytest.mark.slow
def test_many_small_shards_that_become_large_together(sandbox: Sandbox):
    for number in range(12):
        rows = table(vectors(256), text=pa.array(["x" * 100_000] * 256))
        about = {**footer(rows=256), "start": 256 * number, "stop": 256 * (number + 1)}
        write(sandbox.gift, rows, about, name=f"{256 * number:012d}-{256 * (number + 1):012d}.parquet")
    opened(sandbox).refused("in memory, as no texts and vectors do")


@pytest.mark.slow
def test_a_footer_that_ended_the_process(sandbox: Sandbox):
    """pyarrow's view of a column throws through a function that lets nothing pass where a histogram is of a wrong length."""
    write(sandbox.gift)
    path = sandbox.gift / "shards" / shards.NAME
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    head, foot = data[: -8 - length], data[-8 - length : -8]
    histogram = bytes((0x26, 0, 2 * ROWS))  # a list of two numbers: no nulls, eight values
    assert histogram in foot
    foot = foot.replace(histogram, bytes((0x36, 0, 2 * ROWS, 0)))
    path.write_bytes(head + foot + len(foot).to_bytes(4, "little") + b"PAR1")
    answer = opened(sandbox)
    answer.safe()
    assert answer.status in (0, 2)


@pytest.mark.parametrize(
    "precision", ["float32", *(pytest.param(p, marks=pytest.mark.slow) for p in ("int8", "binary"))]
)
def test_an_honest_folder_of_a_stranger(sandbox: Sandbox, precision: str):
    codes = {
        "float32": vectors(),
        "int8": (vectors() / np.abs(vectors()).max(1, keepdims=True) * 127).round().astype(np.int8),
        "binary": np.packbits(vectors() > 0, axis=1),
    }
    write(sandbox.gift, table(codes[precision]), precision=precision)
    assert opened(sandbox).harmless().out == f"{ROWS}\n"


def test_what_was_checked_is_remembered_by_the_user_alone_and_for_these_bytes(tmp_path: Path, monkeypatch: Any):
    """A change that leaves size and time of writing as they were is looked at again: the system's own time is not set back."""
    from zoo.errors import DamagedShardError
    from zoo.shards import checking
    from zoo.strangers import seen
    from zoo.vectors import open_vectors

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(seen, "SETTLED", -1.0)
    looked: list[int] = []
    real = checking._wrong
    monkeypatch.setattr(checking, "_wrong", lambda *arguments: looked.append(1) or real(*arguments))
    folder = write(tmp_path / "gift")
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(2):
        seen._known.clear()
        seen._read.clear()  # as a new process
        open_vectors(folder)
    assert len(looked) == 1
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before, "nothing is noted in the folder"
    path = folder / "shards" / shards.NAME
    about, data = path.stat(), path.read_bytes()
    bad = table(changed(3, np.nan))
    write(folder, bad)
    assert path.stat().st_size == len(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(DamagedShardError, match="vector 3"):
        open_vectors(folder)


@pytest.mark.slow
def test_a_folder_that_was_made_here_is_not_looked_at_again(tmp_path: Path, monkeypatch: Any):
    from tests.bulk.bulk_support import embed, make_table
    from zoo.registry import build_model
    from zoo.shards import checking
    from zoo.vectors import open_vectors

    monkeypatch.setattr(checking, "_wrong", lambda *arguments: "it was looked at")
    embed(build_model("text-test"), make_table(tmp_path / "t.csv", 8), tmp_path / "out")
    assert len(open_vectors(tmp_path / "out")) == 8


# ---------------------------------------------------------------------------------------------------------- indexes

INDEX = """
import sys
from zoo.index import ExactIndex, LanceIndex
from tests.strangers.shards import vectors
with {"exact": ExactIndex, "lancedb": LanceIndex}[sys.argv[2]].open(sys.argv[1]) as index:
    print(index.count(), [match.id for match in index.search(vectors()[1], k=2)])
"""


def index(folder: Path, backend: str = "exact") -> Path:
    """An index of eight rows."""
    from zoo.index import ExactIndex, LanceIndex

    kind = {"exact": ExactIndex, "lancedb": LanceIndex}[backend]
    shutil.rmtree(folder)
    columns = pa.schema([("text", pa.string())])
    with kind.create(folder, fingerprint={"model": "m", "dim": DIM}, dim=DIM, columns=columns) as made:
        made.upsert([str(row) for row in range(ROWS)], vectors(), {"text": ["a"] * ROWS})
    return folder


def segment(folder: Path, rows: pa.Table | None = None, facts: Any = None, **options: Any) -> None:
    """Writes the only segment of an index anew, with other rows or facts."""
    path = folder / "segments" / "00000000.arrow"
    there = pa.ipc.open_file(pa.py_buffer(path.read_bytes())).read_all()
    facts = {**json.loads(there.schema.metadata[b"zoo"]), **(facts or {})}
    rows = (there if rows is None else rows).replace_schema_metadata({b"zoo": json.dumps(facts).encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(rows)
    path.write_bytes(sink.getvalue())


def rows(**columns: Any) -> pa.Table:
    """Those of the segment."""
    plain = {"id": [str(row) for row in range(ROWS)], "reference": ["r"] * ROWS, "text": ["a"] * ROWS}
    return pa.table({**plain, **columns})


def astray() -> pa.Array:
    """Texts whose places lead out of their bytes."""
    places = np.array([0, 2**30, 5, 2**31 - 1, 0, 0, 0, 0, 0], np.int32)
    return pa.StringArray.from_buffers(ROWS, pa.py_buffer(places.tobytes()), pa.py_buffer(b"abc"))


INDEXES: dict[str, tuple[Any, str]] = {
    "nan": (lambda f: changed(3, np.nan).tofile(f / "vectors.bin"), "vector 3 holds NaN"),
    "too long": (lambda f: (vectors() * 7).tofile(f / "vectors.bin"), "has the length 7"),
    "too few": (lambda f: vectors(3).tofile(f / "vectors.bin"), "3 vectors where the segments count 8"),
    "astray": (lambda f: segment(f, rows(id=astray())), "holds rows that cannot be read"),
    "no text": (lambda f: segment(f, rows(text=text([b"\xff"] * ROWS))), "holds rows that cannot be read"),
    "no id": (lambda f: segment(f, rows(id=pa.array([None] * ROWS, pa.string()))), "8 rows without id"),
    "other columns": (lambda f: segment(f, rows(year=range(ROWS))), "other columns than"),
    "packed": (lambda f: segment(f, compression="zstd"), "its rows are compressed"),
    "replaces what is not there": (lambda f: segment(f, facts={"replaces": [2**30]}), "replaces row"),
    "replaces below zero": (lambda f: segment(f, facts={"replaces": [-1]}), "it must be 0 to"),
    "more rows": (lambda f: segment(f, facts={"stop": 10**9}), "says rows 0 to 1,000,000,000"),
    "a text as a number": (lambda f: segment(f, facts={"start": "0"}), "it must be a whole number"),
    "current": (lambda f: (f / "current").write_text("٣"), "not the number of a generation"),
    "depth": (lambda f: (f / "index.json").write_text("[" * 100_000), "nested too deep"),
    "a key twice": (lambda f: (f / "index.json").write_text('{"dim": 1, "dim": 2}'), "is there twice"),
}


@pytest.mark.parametrize(
    "case", ["astray", *(pytest.param(n, marks=pytest.mark.slow) for n in INDEXES if n != "astray")]
)
def test_an_index_that_nobody_wrote(sandbox: Sandbox, case: str):
    spoil, said = INDEXES[case]
    spoil(index(sandbox.gift))
    sandbox.python(INDEX, sandbox.gift, "exact", writes=[sandbox.gift]).refused(said)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["exact", "lancedb"])
def test_an_honest_index_of_a_stranger(sandbox: Sandbox, backend: str):
    answer = sandbox.python(INDEX, index(sandbox.gift, backend), backend, writes=[sandbox.gift])
    assert answer.harmless().out == "8 ['1', '5']\n" or answer.out.startswith("8 ['1', ")


@pytest.mark.slow
@pytest.mark.parametrize(("times", "said"), [(7.0, "has the length 7"), (0.0, "is zero")])
def test_a_lance_table_that_nobody_wrote(sandbox: Sandbox, times: float, said: str):
    import lancedb

    own = lancedb.connect(index(sandbox.gift, "lancedb")).open_table("vectors")
    flat = pa.array((vectors(1) * np.float32(times)).reshape(-1))
    vector = pa.FixedSizeListArray.from_arrays(flat, DIM)
    own.add(pa.table({"id": ["z"], "reference": ["z"], "_origin": [""], "vector": vector, "text": ["a"]}))
    sandbox.python(INDEX, sandbox.gift, "lancedb", writes=[sandbox.gift]).refused(said)


# ------------------------------------------------------------------------------------------------------- every fact

WALK = """
import importlib, json, sys
from pathlib import Path
from tests.strangers.facts import spoiled
from zoo.errors import ZooError
target, folder, good = importlib.import_module(sys.argv[1]), Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
target.prepare(folder)
named = 0
for what, facts in spoiled(good):
    try:
        {put}
        target.opens(folder)
    except ZooError as error:
        named += 1
        assert len(str(error)) < 2_000, what
    except Exception as error:
        print("raw", what[:100], repr(error)[:300])
print(named, "named")
"""
WALKS = {
    "manifest": ("(folder / 'manifest.json').write_text(json.dumps(facts))", 400),
    "shard": ("target.shards.write(folder, target.shards.table(target.shards.vectors(7)), facts)", 200),
    "certificate": ("(folder / 'model' / 'certificate.json').write_text(json.dumps(facts))", 400),
    "index": ("(folder / 'index.json').write_text(json.dumps(facts))", 100),
}


@pytest.mark.slow
@pytest.mark.parametrize("file", WALKS)
def test_every_fact_in_turn_made_wrong_is_named_or_harmless(sandbox: Sandbox, file: str):
    """Another type, a number that no such thing has, absent: no raw error, and most of them named."""
    import importlib

    put, least = WALKS[file]
    target, name = importlib.import_module(f"tests.strangers.fuzz_{file}"), f"tests.strangers.fuzz_{file}"
    good: Any = {"manifest": shards.manifest, "shard": lambda: target.facts()}.get(file, lambda: None)()
    if good is None:  # made by preparing a folder
        scratch = sandbox.root / "scratch"
        scratch.mkdir()
        target.prepare(scratch)
        good = target.GOOD["facts"] if file == "certificate" else json.loads(target.GOOD["index.json"])
    (sandbox.out / "good.json").write_text(json.dumps(good))
    answer = sandbox.python(
        WALK.replace("{put}", put), name, sandbox.gift, sandbox.out / "good.json", writes=[sandbox.gift], seconds=600
    )
    assert "raw" not in answer.harmless().out, answer.out[:4_000]
    assert int(answer.out.split()[-2]) >= least


@pytest.mark.slow
@pytest.mark.parametrize("target", ["manifest", "shard", "index", "certificate"])
def test_ten_thousand_mutations(sandbox: Sandbox, target: str):
    assert not finds(sandbox, f"tests.strangers.fuzz_{target}", 10_000)
