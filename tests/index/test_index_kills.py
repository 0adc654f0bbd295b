"""Kill trials: writers and builders of both stores that die anywhere. What was acknowledged is there, nothing is half."""

import json
import random
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

import zoo
from tests import warm
from tests.bulk.bulk_support import make_table
from tests.index.index_support import BACKENDS, COLUMNS, DIM, PRINT, put, rows_of
from zoo.bulk import embed_dataset
from zoo.index import open_index
from zoo.strangers.made import mark

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and the kernel's timers")
STORES = [*(name for name in BACKENDS if name == "exact" or find_spec("lancedb"))]
# (writers, kills): ten of writers and builders in CI.
FEW = [(store, writers, rounds) for store in STORES for writers, rounds in ((1, 2), (2, 2))]
MANY = [pytest.param(store, writers, 20, marks=pytest.mark.slow) for store in STORES for writers in (1, 2)]


@pytest.fixture(scope="module")
def zygote():
    lance = ["lance"] if "lancedb" in STORES else []
    command = [sys.executable, "-m", "tests.index.index_zygote", *lance]
    process = warm.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"

    def order(work, lives, **options):
        process.stdin.write(json.dumps({"work": work, "lives": lives, **options}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield order
    process.stdin.close()
    process.stdout.close()
    process.wait()


class Told:
    """What the log says: for every name the calls that may have had the last word, as versions; None for a delete."""

    def __init__(self, path):
        self.calls = {}
        for place, line in enumerate(path.read_text().splitlines()):
            call = json.loads(line)
            if call == "all dead":
                for one in self.calls.values():
                    one["over"] = min(one["over"], place)
            elif call["begin"]:
                self.calls[call["who"], call["turn"]] = {**call, "began": place, "over": 10**9, "acknowledged": False}
            else:
                self.calls[call["who"], call["turn"]] |= {"over": place, "acknowledged": True}

    def may_be(self, name):
        """A call has had the last word unless another one began when it was over, and was acknowledged."""
        own = [call for call in self.calls.values() if name in call["names"]]
        last = max((call["began"] for call in own if call["acknowledged"]), default=-1)
        return {call["version"] for call in own if call["over"] > last} | ({None} if last < 0 else set())

    def check(self, rows):
        """Every acknowledged row is there, deleted ones are not, and a call that was not acknowledged is whole or nothing."""
        names = {name for call in self.calls.values() for name in call["names"]}
        assert set(rows) <= names
        for name in names:
            assert rows.get(name) in self.may_be(name), name
        for call in self.calls.values():
            own = [name for name in call["names"] if not name.startswith("s")]  # written by nobody else
            if not call["acknowledged"] and own and call["version"] is not None:
                assert len({rows.get(name) == call["version"] for name in own}) == 1, call


@pytest.mark.parametrize(("store", "writers", "rounds"), [*FEW, *MANY])
def test_writers_that_are_killed_lose_no_row_that_was_acknowledged(store, writers, rounds, zygote, tmp_path):
    kind, folder, log = BACKENDS[store], tmp_path / "index", tmp_path / "log"
    kind.create(folder, fingerprint=PRINT, dim=DIM, columns=COLUMNS).close()
    chance = random.Random(f"{store} {writers} {rounds}")
    lived = 0
    for turn in range(rounds):
        seeds = range(1 + turn * writers, 1 + (turn + 1) * writers)
        lives = [(seed, chance.randint(0, 8), chance.uniform(0, 0.05)) for seed in seeds]
        lived += sum(calls for _, calls, _ in lives)
        assert zygote("write", lives, folder=str(folder), backend=store, log=str(log)) == ["killed"] * writers
        with log.open("a") as file:
            file.write('"all dead"\n')
        told = Told(log)
        rows = rows_of(kind.open(folder))
        told.check(rows)
        assert sum(call["acknowledged"] for call in told.calls.values()) >= lived
    index = kind.open(folder)
    put(index, ["after"])
    assert rows_of(kind.open(folder)) == rows_of(index) == {**rows, "after": 0}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two folders of `zoo embed` of one model, with nothing in common."""
    torch.manual_seed(0)
    text, home = zoo.build_model("text-test"), tmp_path_factory.mktemp("sets")
    for name, first, last in (("old", 0, 60), ("new", 100, 180)):
        make_table(home / f"{name}.csv", last, start=first)
        if first:
            lines = (home / f"{name}.csv").read_text()
            (home / f"{name}.csv").write_text("text,label,year,score,fresh,note\n" + lines)
        embed_dataset(text, home / f"{name}.csv", home / name, shard_size=10, progress=False)
    return home


@pytest.mark.parametrize(
    ("store", "rounds"), [*((s, 1) for s in STORES), *(pytest.param(s, 10, marks=pytest.mark.slow) for s in STORES)]
)
def test_a_builder_that_is_killed_leaves_the_old_index_or_the_new_one(store, rounds, zygote, sets, tmp_path):
    home, folder = tmp_path / "out" / "index" / store, tmp_path / "out"
    chance = random.Random(f"{store} {rounds}")
    shutil.copytree(sets / "old", folder)
    mark(folder)

    def texts(index):
        return {match.attributes["text"] for match in index.search(torch.ones(index.facts.dim), 1000)}

    sizes = {"old": 60, "new": 80}
    before = texts(open_index(folder, backend=store))
    for turn in range(rounds):
        name = ("new", "old")[turn % 2]
        shutil.rmtree(folder / "shards")
        shutil.copytree(sets / name / "shards", folder / "shards")
        lives = [(0, 0, chance.uniform(0, 0.3)), (1, 0, chance.uniform(0, 0.3))]
        ends = zygote("build", lives, folder=str(folder), backend=store)
        assert "failed" not in ends
        seen = texts(BACKENDS[store].open(home))
        after = texts(open_index(folder, backend=store))
        assert len(after) == sizes[name]
        assert not after & before
        assert seen in (before, after)
        before = after
        assert [path.name for path in home.iterdir() if path.is_dir()] == [f"{turn + 2:06d}"]
