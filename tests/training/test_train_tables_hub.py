"""Pairs of data sets on the Hub."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

import zoo
from tests.bulk.bulk_support import embed, inputs_of
from tests.tables.train_tables import IMAGE, RED, shard
from zoo.errors import BadRowError, HubError, TableError, UnsafeCheckpointError
from zoo.tables import open_pairs

pytestmark = pytest.mark.usefixtures("cache_home")


def as_parquet(texts: list[str]) -> bytes:
    rows = [{"image": {"bytes": RED, "path": None}, "text": text} for text in texts]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema({"image": IMAGE, "text": pa.string()})), buffer)
    return buffer.getvalue()


def test_a_hub_data_set_of_parquet_files(client_hub):
    files = {
        "README.md": b"# pairs",
        "data/train-00000-of-00002.parquet": as_parquet(["a", "b"]),
        "data/train-00001-of-00002.parquet": as_parquet(["c"]),
        "data/test-00000-of-00001.parquet": as_parquet(["d"]),
    }
    client_hub.add(files, "datasets/org/pairs", tag="v1")
    table = open_pairs("hf:org/pairs")
    assert [pair.positive.text for pair in table] == ["a", "b", "c"]
    assert table.names == ["pairs"]
    assert sorted(client_hub.fetched()) == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert [pair.positive.text for pair in open_pairs("hf:org/pairs", split="test")] == ["d"]
    client_hub.add({"train.parquet": as_parquet(["new"])}, "datasets/org/pairs")
    assert [pair.positive.text for pair in open_pairs("hf:org/pairs@v1")] == ["a", "b", "c"]
    assert [pair.positive.text for pair in open_pairs("hf:org/pairs")] == ["new"]


def test_a_hub_data_set_is_found_again_without_a_network(client_hub, monkeypatch):
    commit = client_hub.add({"train.parquet": as_parquet(["a"])}, "datasets/org/pairs")
    assert len(open_pairs(f"hf:org/pairs@{commit}")) == 1
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(open_pairs(f"hf:org/pairs@{commit}")) == 1
    with pytest.raises(
        HubError, match="hf:org/other: the Hub is out of reach or in offline mode, and it is not cached"
    ):
        open_pairs("hf:org/other")


def test_a_hub_data_set_of_a_table_with_images(client_hub):
    client_hub.add({"metadata.csv": b"file_name,text\npics/a.png,red\n", "pics/a.png": RED}, "datasets/org/folder")
    (pair,) = open_pairs("hf:org/folder")
    assert pair.query.image.read_bytes() == RED


def test_a_hub_data_set_of_shards_and_of_lines(client_hub, tmp_path):
    content = shard(tmp_path / "x.tar", {"a.jpg": RED, "a.txt": "red"}).read_bytes()
    client_hub.add({"train/0.tar": content, "test/0.tar": content}, "datasets/org/shards")
    assert open_pairs("hf:org/shards")[0].positive.text == "red"
    client_hub.add({"train.jsonl": b'{"query": "a", "positive": "b"}\n'}, "datasets/org/lines")
    assert open_pairs("hf:org/lines")[0].where == "train.jsonl, line 1"


def test_files_without_a_split_are_for_training_and_a_folder_is_named_whole(client_hub):
    def csv(query: str) -> bytes:
        return f"query,positive\n{query},b\n".encode()

    files = {"en/more.csv": csv("more"), "en/test.csv": csv("test"), "en_us/train.csv": csv("us")}
    client_hub.add(files, "datasets/org/two")
    assert [pair.query.text for pair in open_pairs("hf:org/two/en")] == ["more"]
    assert [pair.query.text for pair in open_pairs("hf:org/two/en", split="test")] == ["test"]


@pytest.mark.parametrize(
    ("source", "split", "error", "message"),
    [
        ("hf:org/nope", "train", HubError, "hf:org/nope: no such repository, or it is private"),
        ("hf:org/pairs@v9", "train", HubError, "hf:org/pairs@v9: no such branch, tag or commit"),
        ("hf:pairs", "train", HubError, "is no Hub data set; write hf:<org>/<name>"),
        ("hf:org/gated", "train", HubError, "access is restricted"),
        ("hf:org/pairs", "validation", TableError, r"has no split 'validation'; it has test, train"),
        ("hf:org/pairs/nope", "train", TableError, r"no .parquet, .*file below 'nope'"),
        ("hf:org/code", "train", TableError, r"no .parquet, .*file in it; found run.py"),
        ("hf:org/two", "train", TableError, r"several configurations: en, fr; name one, e.g. hf:org/two/en"),
    ],
)
def test_hub_data_sets_that_cannot_be_had(client_hub, source, split, error, message):
    client_hub.add({"train.csv": b"query,positive\na,b\n", "test.csv": b"query,positive\na,b\n"}, "datasets/org/pairs")
    client_hub.add({"run.py": b""}, "datasets/org/code")
    client_hub.add({"train.csv": b"query,positive\na,b\n"}, "datasets/org/gated", gated=True)
    two = {f"{name}/train-0.csv": b"query,positive\na,b\n" for name in ("en", "fr")}
    client_hub.add(two, "datasets/org/two")
    with pytest.raises(error, match=message):
        open_pairs(source, split=split)
    assert len(open_pairs("hf:org/two/fr")) == 1


# ------------------------------------------------------------------------------------------- what a data set may name


def _table(*names: str) -> bytes:
    return ("image,text\n" + "".join(f"{name},a\n" for name in names)).encode()


def test_a_data_set_names_files_of_its_own_alone(client_hub, tmp_path):
    (tmp_path / "mine.png").write_bytes(RED)
    files = {
        "data/t.csv": _table("../images/a.png", str(tmp_path / "mine.png"), "../" * 12 + f"{tmp_path}/mine.png"[1:])
    }
    client_hub.add({**files, "images/a.png": RED}, "datasets/evil/names")
    pairs = open_pairs("hf:evil/names/data")
    assert pairs[0].query.image.read_bytes() == RED  # a link into the cache's blobs, in another folder of the data set
    for row in (1, 2):
        with pytest.raises(BadRowError, match="leads out of the folder"):
            pairs[row]
    assert open_pairs("hf:evil/names/data", allow_outside=True)[1].query.image == tmp_path / "mine.png"


def test_images_of_a_data_set_are_found_again(client_hub, tmp_path, cache_home):
    client_hub.add({"data/t.csv": _table("../images/a.png"), "images/a.png": RED}, "datasets/org/found")
    embed(zoo.load_model("zoo-mini"), "hf:org/found/data", tmp_path / "out", column="image")
    assert inputs_of(tmp_path / "out").find("../images/a.png").read_bytes() == RED


@pytest.mark.parametrize("path", ["../outside.csv", "/etc/outside.png", "C:\\outside.csv"])
def test_a_listing_of_files_outside(client_hub, path):
    client_hub.add({"t.csv": _table("a.png"), path: b"x"}, "datasets/evil/listing")
    with pytest.raises(UnsafeCheckpointError, match="a file outside the repository"):
        open_pairs("hf:evil/listing")
