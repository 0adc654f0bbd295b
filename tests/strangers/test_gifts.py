"""Folders of vectors of strangers with links, FIFOs and other special files in them: named, and nothing of the user's changed."""

from pathlib import Path

import pytest

from tests.strangers.gifts import (
    MODEL,
    SHARD,
    TEXTS,
    Plant,
    given,
    make_vectors,
    of_indexes,
    of_reading,
    of_search,
    of_writing,
)
from tests.strangers.harness import Sandbox

FAST = {"vectors.bin is a link", "the index is a link", "the manifest is a FIFO", "the manifest is sparse"}


def _cases(plants: list[Plant], fast: set[str]) -> list:
    return [
        pytest.param(plant, id=plant.name.replace(" ", "-"), marks=() if plant.name in fast else pytest.mark.slow)
        for plant in plants
    ]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vectors(tmp_path_factory.mktemp("stranger") / "his")


@pytest.mark.parametrize("plant", _cases(of_search, FAST))
def test_searching_harms_nothing(sandbox: Sandbox, original: Path, plant: Plant):
    vectors = given(original, sandbox, plant.does)
    backend = "lancedb" if "Lance" in plant.name else "exact"
    answer = sandbox.zoo("search", vectors, "a cat", "--model", MODEL, "--backend", backend)
    if plant.says:
        answer.refused(plant.says)
    else:
        answer.harmless()
        assert "a cat on a mat" in answer.out


@pytest.mark.parametrize("plant", _cases(of_writing, set()))
def test_embedding_into_it_changes_nothing_elsewhere(sandbox: Sandbox, original: Path, plant: Plant):
    vectors = given(original, sandbox, plant.does)
    (sandbox.out / "texts.csv").write_text('text\n"a cat on a mat"\n"a dog in the fog"\n""\n"new"\n')
    options = ("--model", MODEL, "--update", "--quiet")
    answer = sandbox.zoo("embed", sandbox.out / "texts.csv", "--out", vectors, *options, writes=[vectors])
    if plant.says:
        answer.refused(plant.says)
    else:
        answer.harmless()
        assert "1 inputs could not be embedded" in answer.out


OPENS = {"export": ("manifest", "shards", "shard"), "demo": ("manifest",)}  # these; the other commands all of them


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "plant"),
    [
        pytest.param(command, plant, id=f"{command}-{plant.name.replace(' ', '-')}")
        for command in ("dedupe", "cluster", "export", "classify", "demo")
        for plant in of_reading
        if plant.name.split()[1] in OPENS.get(command, plant.name)
    ],
)
def test_commands_over_many_vectors_write_only_what_they_are_told_to(
    sandbox: Sandbox, original: Path, command: str, plant: Plant
):
    vectors = given(original, sandbox, plant.does)
    answer = {
        "dedupe": lambda: sandbox.zoo("dedupe", vectors, "--threshold", "0.01", "--csv", sandbox.out / "x.csv"),
        "cluster": lambda: sandbox.zoo("cluster", vectors, "--k", 2, "--csv", sandbox.out / "x.csv"),
        "export": lambda: sandbox.zoo("export", vectors, "--to", "npy", "--out", sandbox.out / "x"),
        "classify": lambda: sandbox.zoo("classify", vectors, "--labels", "cat,dog", "--model", MODEL),
        "demo": lambda: sandbox.python(PAGE, vectors, MODEL),
    }[command]()
    if plant.says:
        answer.refused(plant.says)
    else:
        answer.harmless()


PAGE = """import sys
from pathlib import Path
import zoo
from zoo.demos.stored import vectors_gallery
vectors_gallery(zoo.load_model(sys.argv[2]), Path(sys.argv[1]))"""

WRITE = """import sys
import numpy as np
from zoo.index import ExactIndex, LanceIndex
index = {"exact": ExactIndex, "lancedb": LanceIndex}[sys.argv[2]].open(sys.argv[1])
vector = np.ones(index.facts.dim)
index.search(vector)
for number in range(20):
    index.upsert([str(number)], [vector])
assert index.count() >= 20
index.delete(["1"])"""


@pytest.mark.parametrize("plant", _cases(of_indexes, set()))
def test_an_index_that_is_opened_by_itself_is_changed_alone(sandbox: Sandbox, original: Path, plant: Plant):
    vectors = given(original, sandbox, plant.does)
    backend = "lancedb" if "Lance" in plant.name else "exact"
    index = vectors / "index" / backend / "000001"
    answer = sandbox.python(WRITE, index, backend, writes=[index])
    if plant.says:
        answer.refused(plant.says)
    else:
        answer.safe()
        assert answer.status in (0, 2), answer.text


OWN = """import sys
from zoo.bulk import embed_dataset
from zoo.index import open_index
embed_dataset("zoo-mini", sys.argv[1], sys.argv[2], progress=False)
for backend in ("exact", "lancedb"):
    assert sys.argv[2] in str(open_index(sys.argv[2], backend=backend).folder)"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "plant", [pytest.param(plant, id=plant.name.replace(" ", "-")) for plant in of_search if "index" in plant.says]
)
def test_a_tar_that_was_unpacked_over_an_own_folder_leads_nowhere(sandbox: Sandbox, plant: Plant):
    (sandbox.out / "texts.csv").write_text("text\n" + "".join(f'"{text}"\n' for text in TEXTS))
    sandbox.python(OWN, sandbox.out / "texts.csv", sandbox.out / "own").harmless()
    plant.does(sandbox.out / "own", sandbox)
    answer = sandbox.zoo("search", sandbox.out / "own", "a cat", "--model", MODEL, "--backend", "exact")
    if plant.says:
        answer.refused(plant.says)


@pytest.mark.slow
def test_the_users_cache_keeps_an_index_of_a_gift_until_its_shards_are_others(sandbox: Sandbox, original: Path):
    vectors = given(original, sandbox)
    search = ("search", vectors, "a cat", "--model", MODEL, "--backend", "exact")
    first = sandbox.zoo(*search).harmless()
    assert "not known to be made here" in first.err
    assert "the index that lies in it is not used" in first.err
    (kept,) = (sandbox.cache / "embedding-zoo" / "indexes").glob("*/exact/000001/vectors.bin")
    written = kept.stat().st_mtime_ns
    second = sandbox.zoo(*search).harmless()
    assert "not known" not in second.err
    assert second.out == first.out
    assert kept.stat().st_mtime_ns == written
    # Another gift in its place, which says of its inputs what the first one said.
    data = bytearray((vectors / SHARD).read_bytes())
    import pyarrow.parquet as pq

    table = pq.read_table(vectors / SHARD)
    order = [*range(1, len(table)), 0]
    swapped = table.set_column(table.schema.get_field_index("vector"), "vector", table.column("vector").take(order))
    pq.write_table(swapped.replace_schema_metadata(table.schema.metadata), vectors / SHARD)
    assert (vectors / SHARD).read_bytes() != data
    third = sandbox.zoo(*search).harmless()
    assert third.out != first.out


@pytest.mark.slow
def test_a_folder_of_ones_own_is_adopted_where_that_is_said(sandbox: Sandbox, original: Path):
    vectors = given(original, sandbox)
    search = ("search", vectors, "a cat", "--model", MODEL, "--backend", "exact")
    told = sandbox.zoo(*search, "--adopt", writes=[vectors]).harmless()
    assert "not known" not in told.err
    assert not (sandbox.cache / "embedding-zoo" / "indexes").exists()
    assert "not known" not in sandbox.zoo(*search, writes=[vectors]).harmless().err
    (vectors / "shards" / "odd").symlink_to(sandbox.home)
    sandbox.zoo(*search, "--adopt", writes=[vectors]).refused("odd is a link")
