"""`zoo search --hybrid`: words beside vectors on the command line, with everything that a search combines, and what is refused."""

import io
import json
import re
import shutil
import sys
import warnings

import pytest
import torch

import zoo
from tests.bulk.bulk_support import make_images
from zoo.bulk import embed_dataset
from zoo.cli import main
from zoo.index import HybridIndex, open_index
from zoo.strangers.made import MARK

LINES = ["a red boat on the river", "the motor stopped", "error E1234 of the motor", "a cat asleep", "boats at night"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A saved model, vectors of lines and of images."""
    torch.manual_seed(0)
    home = tmp_path_factory.mktemp("hybrid")
    zoo.build_model("clip-test").save_pretrained(home / "model")
    zoo.build_reranker("qwen3vl-reranker-test").save_pretrained(home / "judge")
    (home / "lines.txt").write_text("".join(f"{line}\n" for line in LINES))
    make_images(home / "photos", 3)
    for name, source in (("texts", "lines.txt"), ("images", "photos")):
        embed_dataset(home / "model", home / source, home / name, progress=False)
    return home


@pytest.fixture
def run(made, capsys, monkeypatch):
    monkeypatch.chdir(made)

    def call(*arguments, lines=None):
        if lines is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        status = main(["search", *map(str, arguments)])
        return status, *capsys.readouterr()

    return call


def test_json_has_both_ranks_and_the_table_shows_them(run, made):
    status, out, _ = run("texts", "E1234 boat", "--hybrid", "--json")
    found = json.loads(out)
    model = zoo.load_model(made / "model")
    hybrid = HybridIndex(open_index(made / "texts", model=model))
    expected = hybrid.search("E1234 boat", model.encode_query("E1234 boat"), 10)
    assert status == 0
    assert [(one["id"], one["ranks"], one["fused"]) for one in found] == [(h.id, h.ranks, h.fused) for h in expected]
    assert {one["attributes"]["text"] for one in found if "bm25" in one["ranks"]} == {LINES[0], LINES[2]}
    assert all("ranks" not in one and "fused" not in one for one in json.loads(run("texts", "boat", "--json")[1]))
    _, out, _ = run("texts", "E1234 boat", "--hybrid", "-k", "2")
    assert "dense" in out.splitlines()[0]
    assert "bm25" in out.splitlines()[0]


def test_a_page_says_the_ranks_by_which_it_is_ordered(run, made):
    status, _, err = run("texts", "error E1234", "--hybrid", "--k", 1, "--html", "found.html", "--device", "cpu")
    assert status == 0, err
    assert ", bm25 rank 1</b>" in (made / "found.html").read_text()


def test_it_combines_with_filters_kinds_rerankers_and_pipes(run):
    found = json.loads(run("texts", "motor", "--hybrid", "--where", "text LIKE '%error%'", "--json")[1])
    assert [one["ranks"] for one in found] == [{"dense": 1, "bm25": 1}]
    assert run("texts", "motor", "--hybrid", "--kind", "text", "--json")[0] == 0
    found = json.loads(run("texts", "motor", "--hybrid", "--rerank", "judge", "--rerank-top", "3", "--json")[1])
    assert [one["rerank"] is not None for one in found] == [True] * 3 + [False] * 2
    assert all(one["ranks"] for one in found)
    status, out, _ = run("texts", "--hybrid", lines=["motor", ":where text LIKE '%boat%'", "boat"])
    assert status == 0
    assert out.splitlines()[0].split("\t")[:5] == ["query", "rank", "score", "dense", "bm25"]
    status, out, _ = run("texts", "--hybrid", "--json", lines=["motor", ":image photos/00000.png"])
    answers = [json.loads(line) for line in out.splitlines()]
    assert "ranks" in answers[0]["results"][0]
    assert "error" in answers[1]


def test_sparse_vectors_of_the_model_are_a_third_list(run, tmp_path):
    torch.manual_seed(0)
    zoo.build_model("bge-m3-test").save_pretrained(tmp_path / "m3")
    embed_dataset(tmp_path / "m3", "lines.txt", tmp_path / "texts", progress=False)
    found = json.loads(run(tmp_path / "texts", "red boat", "--hybrid", "--sparse", "--json")[1])
    assert {name for one in found for name in one["ranks"]} == {"dense", "bm25", "sparse"}
    status, _, err = run("texts", "red boat", "--hybrid", "--sparse")
    assert status == 2
    assert "gives no sparse vectors" in err


def test_images_are_found_by_a_column_that_describes_them(run):
    found = json.loads(run("images", "c", "--hybrid", "--hybrid-column", "folder", "--json")[1])
    assert [(one["attributes"]["folder"], one["ranks"]["bm25"]) for one in found if "bm25" in one["ranks"]] == [
        ("b/c", 1)
    ]
    assert len(found) == 3
    found = json.loads(
        run("images", "c", "--hybrid", "--hybrid-column", "folder", "--where", "folder = ''", "--json")[1]
    )
    assert [(one["id"], one["ranks"]) for one in found] == [("00000.png", {"dense": 1})]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["images", "a boat", "--hybrid"], "images keeps no texts beside its vectors, which are of image.*--hybrid-column C"),
        (["texts", "--image", "photos/00000.png", "--hybrid"], "an image has none; add a TEXT"),
        (["texts", "a boat", "--hybrid", "--hybrid-column", "title"], "there is no such column; there are text"),
        (["texts", "a boat", "--hybrid-column", "text"], "--hybrid-column is of --hybrid"),
        (["texts", "a boat", "--sparse"], "--sparse is of --hybrid"),
    ],
)  # fmt: skip
def test_what_has_no_words_is_refused_before_a_model_is_loaded(run, monkeypatch, arguments, words):
    monkeypatch.setattr("zoo.cli.search.open_made_by", None)
    status, _, err = run(*arguments)
    assert status == 2
    assert re.search(words, " ".join(err.split())), err


@pytest.fixture
def mixed(made, tmp_path):
    """A folder of images and text files, and its vectors."""
    make_images(tmp_path / "stuff", 2)
    for number, line in enumerate(LINES):
        (tmp_path / "stuff" / f"note{number}.txt").write_text(line)
    embed_dataset(made / "model", tmp_path / "stuff", tmp_path / "mixed", kind=["image", "text"], progress=False)
    return tmp_path


def by_words(run, folder, query, *more):
    status, out, err = run(folder, query, "--hybrid", "--json", *more)
    assert status == 0, err
    return {one["id"] for one in json.loads(out) if "bm25" in one["ranks"]}


def test_text_files_among_images_are_read_and_kept(run, mixed):
    assert by_words(run, mixed / "mixed", "boat E1234") == {"note0.txt", "note2.txt"}
    assert by_words(run, mixed / "mixed", "boat", "--kind", "image") == set()
    kept = {path.name for path in mixed.rglob("bm25-*")}
    assert len(kept) == 1
    shutil.rmtree(mixed / "stuff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert by_words(run, mixed / "mixed", "boat E1234") == {"note0.txt", "note2.txt"}, (
            "as embedded, from what is kept"
        )


def test_a_text_file_that_has_changed_or_is_gone_is_said_and_no_other_text_is_indexed(run, mixed, made):
    (mixed / "stuff" / "note0.txt").write_text("a submarine")
    (mixed / "stuff" / "note1.txt").unlink()
    with pytest.warns(UserWarning, match=r"2 of 5 text files do not hold any more .*\(note0.txt, note1.txt\)"):
        assert by_words(run, mixed / "mixed", "submarine E1234") == {"note2.txt"}
    assert not list(mixed.rglob("bm25-*")), "an incomplete one is kept for nobody"
    embed_dataset(made / "model", mixed / "stuff", mixed / "mixed", kind=["image", "text"], progress=False)
    with pytest.warns(UserWarning, match=r"1 of 5 text files .*\(note1.txt\)"):  # kept, though it has vanished
        assert by_words(run, mixed / "mixed", "submarine E1234") == {"note0.txt", "note2.txt"}


def test_text_files_of_a_folder_that_others_made_are_not_opened(run, mixed, made):
    (mixed / "mixed" / MARK).unlink()
    status, _, err = run(mixed / "mixed", "boat", "--hybrid", "--model", made / "model")
    assert status == 2
    assert "--root DIR says where to look" in err
    assert by_words(run, mixed / "mixed", "boat", "--root", mixed / "stuff", "--model", made / "model") == {"note0.txt"}
