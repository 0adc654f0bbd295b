"""Small files that would become large in memory: tables, tars, packed files, front matters."""

import gzip
import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.strangers.harness import Sandbox
from tests.strangers.tables import GOOD, MATTERS, TABLES, keys, lines
from zoo.tables.files import open_bytes

READ = """
import sys
from pathlib import Path
from zoo.tables.readers import open_reader

path = Path(sys.argv[1])
reader, problems, good = open_reader(path), [], 0
for row in reader.rows():
    good += not row.problem
    if row.problem and len(problems) < 3:
        problems.append(row.problem)
print(*problems, f"{good} good", sep="\\n")
print(f"{good} rows")
"""
GROUPS = """
import sys
from pathlib import Path
from zoo.tables.parquet import RowGroups

groups = RowGroups([Path(sys.argv[1])], ["text", "caption", "more", "n", "text0"])
print(len([groups.cells(row) for row in range(0, len(groups), 100)]), "rows")
"""
FAST = {"parquet-text", "jsonl-keys", "tar-facts"}


def _some(names: Iterable[str]) -> list:
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", _some(TABLES))
def test_rows_of_a_table(name: str, sandbox: Sandbox):
    file, write, said = TABLES[name]
    write(sandbox.gift / file)
    answer = sandbox.python(READ, sandbox.gift / file).safe()
    assert answer.status in (0, 2), answer.text
    assert re.search(said, answer.text, re.DOTALL), answer.text[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parquet-text", "parquet-list", "parquet-page", "parquet-values", "parquet-prefixes"])
def test_whole_row_groups(name: str, sandbox: Sandbox):
    file, write, said = TABLES[name]
    write(sandbox.gift / file)
    answer = sandbox.python(GROUPS, sandbox.gift / file).safe()
    assert re.search("15 rows" if name == "parquet-text" else said, answer.text), answer.text[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", MATTERS)
def test_front_matter(name: str, sandbox: Sandbox):
    text, said = MATTERS[name]
    (sandbox.gift / "README.md").write_text(f"---\n{text}---\nhello\n")
    code = "import sys\nfrom pathlib import Path\nfrom zoo.evaluation.blocks import split\n"
    code += "print(len(split(Path(sys.argv[1]).read_text())[0]), 'keys')"
    answer = sandbox.python(code, sandbox.gift / "README.md").safe()
    assert re.search(said, answer.text), answer.text


def test_one_bad_row_does_not_lose_the_others(sandbox: Sandbox):
    lines(GOOD, keys(20_000), '{"text": "a dog"}')(sandbox.gift / "t.jsonl")
    code = "import sys, zoo\nfrom pathlib import Path\nfrom zoo.bulk import embed_dataset\n"
    code += "report = embed_dataset(zoo.build_model('clip-test'), Path(sys.argv[1]), Path(sys.argv[2]))\n"
    code += "print(report.vectors, dict(report.reasons))"
    answer = sandbox.python(code, sandbox.gift / "t.jsonl", sandbox.out / "vectors").harmless()
    assert answer.out.strip().endswith("2 {'bad-row': 1}"), answer.out


@pytest.mark.slow
@pytest.mark.parametrize("line", ["", "a cat"])
def test_few_packed_bytes_become_no_millions_of_lines(line: str, sandbox: Sandbox):
    path = sandbox.gift / "lines.csv.gz"
    path.write_bytes(gzip.compress(b"text\n" + f"{line}\n".encode() * (50_000_000 // (len(line) + 1))))
    answer = sandbox.zoo("embed", path, "--out", sandbox.out / "vectors", "--quiet")
    answer.refused(r"lines\.csv\.gz: over 1,\d{3},\d{3} lines come out of so small a file")
    assert answer.seconds < 60


@pytest.mark.slow
def test_and_an_honest_packed_table_of_many_short_rows_is_read(sandbox: Sandbox):
    path = sandbox.gift / "numbers.csv.gz"
    path.write_bytes(gzip.compress(b"text,n\n" + b"".join(b"%d,0\n" % number for number in range(1_500_000)), 6))
    with open_bytes(path) as file:
        assert sum(1 for _ in file) == 1_500_001


@pytest.mark.slow
def test_times_that_python_has_not_are_kept(sandbox: Sandbox):
    path = sandbox.gift / "times.parquet"
    times = pa.array([2**62, -(2**62)], pa.timestamp("us"))
    pq.write_table(pa.table({"text": ["a cat", "a dog"], "taken": times, "seen": [[time] for time in (0, 1)]}), path)
    sandbox.zoo("embed", path, "--out", sandbox.out / "vectors", "--quiet").harmless()
    answer = sandbox.zoo("search", sandbox.out / "vectors", "a cat", "--backend", "exact").harmless()
    assert f"{2**62} timestamp[us]" in answer.out
