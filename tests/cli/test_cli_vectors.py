"""`zoo classify`, `dedupe`, `cluster` and `export`: over photos, tables and vectors, for people, pipes and programs."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import zoo
from tests.bulk.bulk_support import make_images, make_table
from zoo.bulk import embed_dataset
from zoo.errors import ArgumentError, DiskFullError
from zoo.shards.folder import read_vectors
from zoo.vectors import (
    Vectors,
    check_labels,
    check_threshold,
    classify,
    export_vectors,
    find_clusters,
    find_duplicates,
    label_vectors,
    middle_names,
    name_clusters,
    open_vectors,
    vocabulary,
)
from zoo.vectors.lookup import Inputs


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Saved test models by name, as `--model` takes them."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    names = ("clip-test", "text-test", "image-test")
    return {name: str(zoo.build_model(name).save_pretrained(folder / name)) for name in names}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of twelve photos, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    make_images(folder, 12)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


@pytest.fixture(scope="module")
def made(models, photos, tmp_path_factory):
    """The vectors of the photos, and of 30 texts."""
    out = tmp_path_factory.mktemp("made")
    table = make_table(out / "t.csv", 30)
    embed_dataset(models["clip-test"], photos, out / "images", progress=False)
    embed_dataset(models["clip-test"], table, out / "texts", progress=False)
    return {"images": out / "images", "texts": out / "texts", "table": table}


@pytest.fixture
def never(monkeypatch):
    """What is checked before a model is loaded: loading one fails the test."""

    def load(*_, **__):
        raise AssertionError("a model is loaded before the cheap checks")

    monkeypatch.setattr("zoo.loading.load_model", load)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# -- classify -------------------------------------------------------------------------------------------------------


def test_each_vector_gets_the_label_that_it_is_nearest_to(models, made):
    model, vectors = zoo.load_model(models["clip-test"]), open_vectors(made["images"])
    found = classify(vectors, model, ["a rose", "a tulip", "a dog"], top=2)
    alike = vectors.floats() @ model.encode_query(["a rose", "a tulip", "a dog"]).numpy().T
    np.testing.assert_array_equal(found.best, np.argsort(-alike, axis=1)[:, :2])
    np.testing.assert_allclose(found.scores, -np.sort(-alike, axis=1)[:, :2], atol=1e-6)
    shares = torch.from_numpy(alike * np.exp(model.logit_scale.log if model.logit_scale else np.log(100))).softmax(1)
    np.testing.assert_allclose(found.shares[:, 0], shares.max(1).values, atol=1e-5)
    assert sum(found.counts().values()) == len(vectors) == 12
    assert list(found.counts().values()) == sorted(found.counts().values(), reverse=True)


def test_several_prompts_are_averaged_as_unit_vectors(models):
    model = zoo.load_model(models["clip-test"])
    both = label_vectors(model, ["rose", "dog"], ["a photo of a {}", "{} in a garden"])
    means = model.encode_query(["a photo of a rose", "rose in a garden"]).mean(0)
    np.testing.assert_allclose(both[0], means / means.norm(), atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_vectors_of_every_precision_are_classified(models, photos, tmp_path, precision):
    model = zoo.load_model(models["clip-test"])
    embed_dataset(model, photos, tmp_path / "v", precision=precision, progress=False)
    vectors = open_vectors(tmp_path / "v")
    assert vectors.floats().shape == (12, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors.floats(), axis=1), 1, atol=1e-5)
    labels = ["a rose", "a dog"]
    np.testing.assert_array_equal(
        classify(vectors, model, labels).best[:, 0],
        (vectors.floats() @ model.encode_query(labels).numpy().T).argmax(1),
    )


@pytest.mark.parametrize(
    ("labels", "prompts", "message"),
    [
        (["rose", "", "dog"], [], "label 2 of 3 is empty"),
        (["rose", "dog", " rose "], [], "label 'rose' is given twice, as number 1 and 3"),
        (["rose"], [], "'rose' alone tells nothing apart"),
        ([], [], "no label tells nothing apart"),
        (["rose", "dog"], ["a photo"], "prompt 'a photo' has no one place"),
        (["rose", "dog"], ["{} {}"], "no one place"),
    ],
)
def test_labels_that_tell_nothing_apart_are_named(labels, prompts, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        check_labels(labels, prompts)


def test_a_label_that_the_model_cannot_read_is_named(monkeypatch, models):
    model = zoo.load_model(models["clip-test"])
    monkeypatch.setattr(type(model), "unknown_share", lambda self, texts: [float(one == "玫瑰") for one in texts])
    with pytest.raises(ArgumentError, match="clip-test cannot read '玫瑰'"):
        label_vectors(model, ["dog", "玫瑰"])
    with pytest.raises(ArgumentError, match="image-test reads image and no labels"):
        label_vectors(zoo.load_model(models["image-test"]), ["dog", "rose"])


def test_photos_a_table_and_their_vectors_are_classified_alike(run, models, photos, made, tmp_path):
    labels = ("--labels", "a rose, a tulip,a dog")
    model = ("--model", models["clip-test"])
    status, out, err = run("classify", photos, *labels, *model)
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 2 + 12
    assert all(str(photos) in line and "…" not in line and "\x1b" not in line for line in lines[2:])
    assert "1 inputs could not be embedded" in err
    assert "broken.jpg" in err
    assert re.search(r"a (rose|tulip|dog) \d+ · a", err)
    again = run("classify", made["images"], *labels, *model)
    assert again[1] == out
    from_file = tmp_path / "labels.txt"
    from_file.write_text("a rose\na tulip\na dog\n")
    assert run("classify", made["images"], "--labels-file", from_file, *model)[1] == out
    status, out, _ = run("classify", made["table"], *labels, *model, "--where", "label = 'dog'", "--json")
    found = json.loads(out)
    assert [one["path"] for one in found["items"]] == [f"t.csv#{i}" for i in range(30) if i % 3 == 1]
    assert sum(found["counts"].values()) == 10


def test_classify_writes_files_for_people_and_programs(run, models, made, tmp_path):
    out = ("--csv", tmp_path / "c.csv", "--html", tmp_path / "c.html", "--top", 2, "--model", models["clip-test"])
    status, printed, _ = run("classify", made["images"], "--labels", "<b>rose</b>,dog,cat", *out)
    assert (status, printed) == (0, "")
    rows = rows_of(tmp_path / "c.csv")
    assert list(rows[0]) == ["path", "label", "score", "share", "rank", "error"]
    assert [row["rank"] for row in rows[:4]] == ["1", "2", "1", "2"]
    assert len(rows) == 12 * 2 + 1
    assert rows[-1]["path"] == "broken.jpg"
    assert rows[-1]["error"]
    page = (tmp_path / "c.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == 12
    assert "&lt;b&gt;rose&lt;/b&gt;: " in page
    assert "<b>rose" not in page
    assert page.count("<h2>") == 3


def test_classify_refuses_before_a_model_is_loaded(run, never, photos, made, tmp_path):
    good = ("--labels", "rose,dog")
    (tmp_path / "l.txt").write_bytes(b"caf\xe9\nrose\n")
    for arguments, message in [
        ((photos, "--labels", "rose"), "'rose' alone tells nothing apart"),
        ((photos, "--labels", "rose,,dog"), "label 2 of 3 is empty"),
        ((photos, "--labels-file", tmp_path / "gone.txt"), "cannot read .*gone.txt"),
        ((photos, "--labels-file", tmp_path / "l.txt"), "l.txt is not UTF-8"),
        ((photos, *good, "--csv", tmp_path / "no" / "c.csv"), "there is no folder .*no"),
        ((photos, *good, "--html", tmp_path), "it is a folder"),
        ((tmp_path / "gone", *good), "gone does not exist"),
        ((photos, *good, "--column", "x"), "takes no column"),
        ((made["images"], *good, "--column", "x"), "--column is of a table or a folder of images"),
        ((made["images"], *good, "--where", "labl = 1"), "labl"),
    ]:
        status, out, err = run("classify", *arguments)
        assert (status, out) == (2, ""), arguments
        assert re.search(rf"^error: .*{message}", err), err


def test_vectors_of_another_model_and_a_filter_that_leaves_none(run, models, made):
    labels = ("--labels", "rose,dog")
    status, _, err = run("classify", made["images"], *labels, "--model", models["text-test"])
    assert status == 2
    assert "model: 'clip-test' there, 'text-test' here" in err
    model = ("--model", models["clip-test"])
    status, out, err = run("classify", made["texts"], *labels, *model, "--where", "label = 'zebra'")
    assert (status, out) == (1, "")
    assert "nothing to classify where label = 'zebra'" in err


def test_where_no_image_can_be_read_all_are_listed(run, models, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    status, _, err = run("classify", tmp_path, "--labels", "rose,dog", "--model", models["clip-test"])
    assert status == 2
    assert "broken.jpg" in err
    assert "no input of" in err


def test_where_there_is_no_room_for_vectors_it_is_said_what_to_do(run, models, photos, monkeypatch):
    def full(*_, **__):
        raise DiskFullError("no space left")

    command = ("classify", photos, "--labels", "rose,dog", "--model", models["clip-test"])
    monkeypatch.setattr("zoo.bulk.embed_dataset", full)
    assert "set TMPDIR to a folder that has some" in run(*command)[2]
    monkeypatch.setattr("tempfile.TemporaryDirectory", lambda **_: (_ for _ in ()).throw(OSError(2, "No usable one")))
    status, _, err = run(*command)
    assert status == 2
    assert "(No usable one): set TMPDIR" in err


# -- dedupe ---------------------------------------------------------------------------------------------------------


def of(matrix: np.ndarray, kind: str = "text", precision: str = "float32") -> Vectors:
    """Vectors that nobody embedded, of texts that are called by their number."""
    texts = pa.table(
        {"id": list(map(str, range(len(matrix)))), "reference": [f"t.txt#{i}" for i in range(len(matrix))]}
    )
    texts = texts.append_column("text", [[f"text {i}" for i in range(len(matrix))]])
    source = {"kind": kind, "root": "/nowhere", "attribute": "text", "column": None}
    manifest = {"dim": matrix.shape[1], "precision": precision, "model": "none", "source": source}
    return Vectors(Path("nowhere"), manifest, texts, matrix.astype(np.float32), Inputs.of("nowhere", manifest))


def by_hand(matrix: np.ndarray, threshold: float) -> list[list[int]]:
    """The groups by one loop over all pairs."""
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    firsts: dict[int, list[int]] = {}
    for i, vector in enumerate(unit):
        home = next((first for first in firsts if unit[first] @ vector >= threshold - 1e-5), None)
        firsts.setdefault(i if home is None else home, []).append(i)
    return [group for group in firsts.values() if len(group) > 1]


@pytest.mark.parametrize(("rows", "columns"), [(1024, 8192), (7, 5), (1, 1)])
def test_groups_are_those_of_a_loop_over_all_pairs_however_they_are_cut(monkeypatch, rows, columns):
    monkeypatch.setattr("zoo.vectors.duplicates.ROWS", rows)
    monkeypatch.setattr("zoo.vectors.duplicates.COLUMNS", columns)
    random = np.random.default_rng(0)
    matrix = random.normal(size=(12, 8))[random.integers(0, 12, 90)] + random.normal(scale=0.12, size=(90, 8))
    groups = find_duplicates(of(matrix), 0.95)
    assert [[group.first, *sorted(copy.position for copy in group.others)] for group in groups] == by_hand(matrix, 0.95)
    assert len(groups) > 5
    assert all(copy.score >= 0.95 - 1e-5 for group in groups for copy in group.others)


def test_a_chain_is_no_group():
    """Each is near to the next, and the last is far from the first."""
    angles = np.radians([0, 10, 20, 30])
    groups = find_duplicates(of(np.stack([np.cos(angles), np.sin(angles)], 1)), np.cos(np.radians(11)))
    assert [(group.first, [copy.position for copy in group.others]) for group in groups] == [(0, [1]), (2, [3])]


def test_all_the_same_is_one_group_in_bounded_memory():
    seen = []
    groups = find_duplicates(of(np.ones((3000, 4))), progress=lambda done, total: seen.append((done, total)))
    assert [(group.first, len(group.others)) for group in groups] == [(0, 2999)]
    assert seen == [(1024, 3000), (2048, 3000), (3000, 3000)]


def test_a_threshold_is_a_cosine():
    for wrong in (0, -1, 1.5, float("nan")):
        with pytest.raises(ArgumentError, match="a cosine above 0 and up to 1"):
            find_duplicates(of(np.ones((2, 2))), wrong)
    with pytest.raises(ArgumentError, match=r"name one, such as 0\.9"):
        check_threshold(None, "binary")
    assert check_threshold(0.9, "binary") == 0.9


def test_dedupe_says_what_is_the_same_and_what_is_near(run, models, photos, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes((photos / "00000.png").read_bytes())
    Image.open(photos / "00000.png").save(folder / "c.bmp")  # the same pixels in another file
    Image.effect_noise((32, 32), 90).convert("RGB").save(folder / "d.png")
    before = sorted(path.name for path in folder.iterdir())
    command = (folder, "--model", models["clip-test"], "--threshold", "0.9999")
    status, printed, err = run("dedupe", *command)
    assert status == 0
    rows = [line.split() for line in printed.splitlines()[2:]]
    names = [Path(row[3]).name for row in rows]
    assert [row[:2] for row in rows[:3]] == [["1", "first"], ["1", "same"], ["1", "near"]]
    assert names[:3] == ["a.png", "b.png", "c.bmp"]
    assert "1 groups: of 4 items 2 repeat another, 1 of them the very same" in err
    found = json.loads(run("dedupe", *command, "--json")[1])
    assert [item["kind"] for item in found["items"]] == ["first", "same", "near"]
    run("dedupe", *command, "--csv", tmp_path / "d.csv", "--html", tmp_path / "d.html")
    assert [row["kind"] for row in rows_of(tmp_path / "d.csv")] == ["first", "same", "near"]
    assert (tmp_path / "d.html").read_text().count("<img ") == 3
    assert sorted(path.name for path in folder.iterdir()) == before, "nothing is deleted"
    embed_dataset(models["clip-test"], folder, out, progress=False)
    (folder / "b.png").unlink()
    printed = run("dedupe", out, "--threshold", "0.9999")[1]
    assert "gone" in printed, "it can no longer be looked into"


def test_dedupe_of_vectors_loads_no_model_and_refuses_what_makes_no_sense(run, never, made, tmp_path):
    status, out, err = run("dedupe", made["texts"], "--threshold", "1")
    assert (status, out) == (1, "")
    assert "0 groups: of 30 items" in err
    for arguments, message in [
        ((made["texts"], "--threshold", "2"), "a threshold is a cosine"),
        ((made["texts"], "--model", "zoo-mini"), "--model is for what is embedded"),
        ((made["texts"], "--html", tmp_path / "no" / "d.html"), "there is no folder"),
        ((tmp_path / "gone",), "does not exist"),
    ]:
        status, out, err = run("dedupe", *arguments)
        assert (status, out) == (2, ""), arguments
        assert re.search(rf"^error: .*{message}", err), err


# -- cluster --------------------------------------------------------------------------------------------------------


def blobs(number: int, each: int = 20, spread: float = 0.05) -> np.ndarray:
    """Vectors `(number · each, 16)` around as many axes, group after group."""
    return np.repeat(np.eye(16)[:number], each, 0) + np.random.default_rng(0).normal(
        scale=spread, size=(number * each, 16)
    )


@pytest.mark.parametrize("number", [2, 5, 12])
def test_the_number_of_groups_that_lie_apart_is_found(number):
    found = find_clusters(of(blobs(number)))
    assert sorted(sorted(one.members.tolist()) for one in found) == np.arange(number * 20).reshape(number, 20).tolist()


def test_groups_have_their_middle_first_and_the_same_seed_gives_the_same():
    vectors = of(np.random.default_rng(1).normal(size=(60, 16)))
    found = find_clusters(vectors, 4, seed=3)
    assert [len(one.members) for one in found] == sorted((len(one.members) for one in found), reverse=True)
    assert sum(len(one.members) for one in found) == 60
    for one in found:
        centre = vectors.floats()[one.members].mean(0)
        np.testing.assert_allclose(one.centre, centre / np.linalg.norm(centre), atol=1e-5)
        np.testing.assert_allclose(one.scores, vectors.floats()[one.members] @ one.centre, atol=1e-5)
        assert one.middle == one.members[one.scores.argmax()]
    again = find_clusters(vectors, 4, seed=3)
    assert [one.members.tolist() for one in again] == [one.members.tolist() for one in found]


def test_groups_that_cannot_be_are_refused():
    for matrix, k, message in [
        (np.eye(3), 4, "4 groups of 3 items cannot be"),
        (np.eye(2), None, "2 items are too few"),
        (np.ones((9, 4)), None, "all vectors are the same"),
        (np.repeat(np.eye(3), 3, 0), 5, "only 3 different vectors"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            find_clusters(of(matrix), k)


def test_a_group_is_called_by_a_word_that_no_other_has(models):
    """Each centre is a word's own vector: it must be found, also where there are more words than groups."""
    model = zoo.load_model(models["clip-test"])
    words = ["a cat", "the sea", "a piano", "snow"]
    vectors = label_vectors(model, words[:3])
    named = of(np.repeat(vectors, [4, 3, 2], 0))
    clusters = find_clusters(named, 3)
    assert name_clusters(clusters, named, model, words) == words[:3]
    assert sorted(name_clusters(clusters, named, model, words[:2])) == ["", "a cat", "the sea"]
    assert middle_names(clusters, named) == ["text 0", "text 4", "text 7"]


def test_the_words_of_the_zoo_and_of_a_file(tmp_path):
    words = vocabulary()
    assert len(words) == len(set(words)) > 500
    (tmp_path / "w.txt").write_text("# mine\nrose\n\ntulip\nrose\n", encoding="utf-8")
    assert vocabulary(tmp_path / "w.txt") == ["rose", "tulip"]
    (tmp_path / "one.txt").write_text("rose\n")
    with pytest.raises(ArgumentError, match="holds 1 words"):
        vocabulary(tmp_path / "one.txt")
    with pytest.raises(ArgumentError, match=r"cannot read .*gone\.txt"):
        vocabulary(tmp_path / "gone.txt")


def test_cluster_prints_and_writes_groups_with_names(run, models, photos, made, tmp_path):
    words = tmp_path / "w.txt"
    words.write_text("red\ngreen\nblue\nyellow\n")
    command = ("cluster", made["images"], "--k", 3, "--words", words, "--model", models["clip-test"])
    status, out, err = run(*command)
    assert status == 0
    rows = [line.split() for line in out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert sum(int(row[1]) for row in rows) == 12
    assert len({row[2] for row in rows} & {"red", "green", "blue", "yellow"}) == 3
    assert all(row[4].startswith(str(photos)) for row in rows)
    assert "broken.jpg" in err
    found = json.loads(run(*command, "--json")[1])
    assert [group["name"] for group in found["groups"]] == [row[2] for row in rows]
    assert all(group["middle"] == group["items"][0]["path"] for group in found["groups"])
    run(*command, "--csv", tmp_path / "g.csv", "--html", tmp_path / "g.html")
    table = rows_of(tmp_path / "g.csv")
    assert len(table) == 12
    assert sum(row["middle"] == "yes" for row in table) == 3
    page = (tmp_path / "g.html").read_text()
    assert page.count("<img ") == 12
    assert page.count("<h2>") == 3


def test_cluster_without_text_loads_no_model_and_refuses_before_one(run, never, made, tmp_path):
    status, out, _ = run("cluster", made["texts"], "--k", 4, "--no-words")
    assert status == 0
    assert re.search(r"^ +1 +\d+ +text \d+ ", out, re.MULTILINE)
    for arguments, message in [
        ((made["texts"], "--words", tmp_path / "gone.txt"), "cannot read"),
        ((made["texts"], "--seed", "-1"), "--seed is a whole number from 0"),
        ((made["texts"], "--csv", tmp_path / "no" / "g.csv"), "there is no folder"),
        ((made["texts"], "--no-words", "--k", "99"), "99 groups of 30 items cannot be"),
    ]:
        status, out, err = run("cluster", *arguments)
        assert (status, out) == (2, ""), arguments
        assert re.search(rf"^error: .*{message}", err), err
    assert run("cluster", made["texts"], "--no-words", "--where", "label = 'zebra'")[0] == 1


def test_a_model_that_reads_no_text_names_groups_by_their_middle(run, models, photos):
    status, out, err = run("cluster", photos, "--k", 2, "--model", models["image-test"])
    assert status == 0
    assert "image-test reads no text: groups are called by the item in their middle" in err
    assert re.search(r"^ +1 +\d+ +\d{5}\.png ", out, re.MULTILINE)


# -- export ---------------------------------------------------------------------------------------------------------


def exported(run, folder: Path, to: str, out: Path) -> str:
    """What `zoo export` says; it must succeed."""
    status, printed, err = run("export", folder, "--to", to, "--out", out)
    assert status == 0, err
    assert "read back and equal" in printed
    return err


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_vectors_ids_and_attributes_come_out_as_they_are_stored(run, models, made, tmp_path, precision):
    embed_dataset(models["clip-test"], made["table"], tmp_path / "v", precision=precision, progress=False, shard_size=7)
    vectors = open_vectors(tmp_path / "v")
    err = exported(run, tmp_path / "v", "npy", tmp_path / "npy")
    assert (precision in err) == (precision != "float32"), "what is to be known of packed vectors is said"
    np.testing.assert_array_equal(np.load(tmp_path / "npy" / "vectors.npy"), vectors.stored)
    assert (tmp_path / "npy" / "ids.txt").read_text().splitlines() == vectors.ids()
    rows = pq.read_table(tmp_path / "npy" / "rows.parquet")
    assert rows.equals(vectors.rows)
    assert {"id", "reference", "label", "year"} <= set(rows.column_names)
    about = json.loads((tmp_path / "npy" / "about.json").read_text())
    assert (about["model"], about["vectors"], about["precision"]) == (models["clip-test"], 30, precision)
    exported(run, tmp_path / "v", "parquet", tmp_path / "parquet")
    table = pq.read_table(tmp_path / "parquet" / "vectors.parquet")
    assert table.drop_columns(["vector"]).equals(vectors.rows)
    np.testing.assert_array_equal(read_vectors(table), vectors.stored)


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_an_index_of_faiss_finds_what_an_exact_search_finds(run, models, made, tmp_path, precision):
    faiss = pytest.importorskip("faiss")
    embed_dataset(models["clip-test"], made["table"], tmp_path / "v", precision=precision, progress=False)
    vectors = open_vectors(tmp_path / "v")
    err = exported(run, tmp_path / "v", "faiss", tmp_path / "f")
    ids = (tmp_path / "f" / "ids.txt").read_text().splitlines()
    if precision == "binary":
        found = faiss.read_index_binary(str(tmp_path / "f" / "index.faiss"))
        distances, rows = found.search(vectors.stored[:5], 3)
        scores = 1 - 2 * distances / vectors.dim
    else:
        found = faiss.read_index(str(tmp_path / "f" / "index.faiss"))
        scores, rows = found.search(vectors.floats(0, 5), 3)
        assert ("float32 of unit length" in err) == (precision == "int8")
    alike = vectors.floats(0, 5) @ vectors.floats().T
    np.testing.assert_allclose(scores, -np.sort(-alike, axis=1)[:, :3], atol=1e-5)
    assert [ids[row] for row in rows[:, 0]] == vectors.ids()[:5] or precision == "binary"


def test_export_writes_over_nothing_and_leaves_nothing_half(run, made, tmp_path, monkeypatch):
    for place in ("file", "folder"):
        (tmp_path / place).mkdir() if place == "folder" else (tmp_path / place).write_text("mine")
        status, out, err = run("export", made["images"], "--to", "npy", "--out", tmp_path / place)
        assert (status, out) == (2, "")
        assert "is there already, and nothing is written over it" in err
    for arguments, message in [
        ((made["images"], "--out", tmp_path / "no" / "x"), "there is no folder"),
        ((tmp_path, "--out", tmp_path / "x"), "holds no vectors"),
        ((made["images"], "--out", tmp_path / "x", "--where", "labl = 1"), "labl"),
    ]:
        status, out, err = run("export", "--to", "npy", *arguments)
        assert (status, out) == (2, ""), arguments
        assert message in err
    status, out, err = run(
        "export", made["texts"], "--to", "npy", "--out", tmp_path / "x", "--where", "label = 'zebra'"
    )
    assert (status, out) == (1, "")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.save", full)
    status, _, err = run("export", made["images"], "--to", "npy", "--out", tmp_path / "x")
    assert status == 2
    assert "No space left on device; nothing was left there" in err
    monkeypatch.setattr("numpy.save", lambda path, array: np.lib.format.write_array(path.open("wb"), array * 2))
    status, _, err = run("export", made["images"], "--to", "npy", "--out", tmp_path / "x")
    assert status == 2
    assert "vectors.npy was read back and differs" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_export_without_faiss_says_how_to_get_it(run, made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    status, out, err = run("export", made["images"], "--to", "faiss", "--out", tmp_path / "x")
    assert (status, out) == (2, "")
    assert 'pip install "embedding-zoo[faiss]"' in err


def test_export_of_an_unfinished_set_says_how_much_there_is(run, made, tmp_path):
    folder = shutil.copytree(made["texts"], tmp_path / "v")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["finished"], manifest["counts"]["total"] = False, 602
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "30 of 602" in exported(run, folder, "npy", tmp_path / "x")


def test_ids_with_line_breaks_are_in_the_table_alone(tmp_path):
    vectors = of(np.eye(3))
    vectors.rows = vectors.rows.set_column(0, "id", [["a\nb", "c", "d"]])
    done = export_vectors(vectors, tmp_path / "x", "npy")
    assert "ids.txt" not in done.files
    assert "there is no ids.txt" in done.notes[-1]
    assert pq.read_table(tmp_path / "x" / "rows.parquet").column("id").to_pylist() == ["a\nb", "c", "d"]
