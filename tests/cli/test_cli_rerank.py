"""Rerankers on the command line: `zoo rerank`, `zoo search --rerank`, lists and facts, and what is said of bad input."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import zoo
from tests.bulk.bulk_support import make_images, make_table
from zoo.bulk import embed_dataset
from zoo.cli import main
from zoo.cli.mine import _is_ours
from zoo.errors import UnknownModelError
from zoo.tables import open_pairs

Run = Callable[..., tuple[int, str, str]]
NAME = "qwen3vl-reranker-test"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved reranker, images, texts, and vectors of both."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("rerank")
    zoo.build_reranker(NAME).save_pretrained(folder / "judge")
    zoo.build_reranker("ms-marco-test").save_pretrained(folder / "cross")
    model = str(zoo.build_model("clip-test").save_pretrained(folder / "model"))
    make_images(folder / "photos", 4)
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (folder / "lines.txt").write_text("a bicycle in the rain\n\nHold the button.\nb\n")
    embed_dataset(model, make_table(folder / "texts.csv", 12), folder / "texts", progress=False)
    embed_dataset(model, folder / "photos", folder / "images", progress=False)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(place)

    def call(*arguments: object) -> tuple[int, str, str]:
        status = main([*map(str, arguments)])
        return status, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def judge(place: Path) -> zoo.Reranker:
    return zoo.load_reranker(place / "judge", device="cpu")


# ---------------------------------------------------------------------------------------------------------- zoo rerank


def test_documents_of_every_kind_are_ranked_and_bad_ones_told(run: Run, judge: zoo.Reranker) -> None:
    arguments = [
        "rerank",
        "judge",
        "a red bicycle",
        "lines.txt",
        "--text",
        "c d",
        "photos",
        "gone.png",
        "--device",
        "cpu",
    ]
    status, out, err = run(*arguments, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["query"] == "a red bicycle"
    scored = [one for one in found["results"] if one["score"] is not None]
    assert [one["rank"] for one in scored] == list(range(1, 9))
    assert [one["score"] for one in scored] == sorted((one["score"] for one in scored), reverse=True)
    scores = {one["document"]: one["score"] for one in scored}
    expected = judge.score("a red bicycle", ["Hold the button.", "c d"])
    assert torch.tensor([scores["Hold the button."], scores["c d"]]).sub(expected).abs().max() < 1e-6
    bad = [one for one in found["results"] if one["score"] is None]
    assert {Path(one["document"]).name for one in bad} == {"broken.jpg", "gone.png"}
    assert all(one["error"] for one in bad)

    status, out, err = run(*arguments, "-k", 3)
    assert status == 0
    assert len(out.splitlines()) == 5
    assert out.splitlines()[2].startswith("1  ")
    ranks = [one["rank"] for one in json.loads(run(*arguments, "-k", 3, "--json")[1])["results"]]
    assert ranks == [1, 2, 3, None, None]
    assert "not scored: " in err
    assert "broken.jpg" in err


def test_an_image_and_an_instruction_belong_to_the_query(run: Run, judge: zoo.Reranker) -> None:
    image = next(Path("photos").glob("*[!n].jpg"), None) or next(Path("photos").glob("*.png"))
    options = ["--image", image, "--text", "a", "--instruction", "Find it.", "--device", "cpu", "--json"]
    _, out, _ = run("rerank", "judge", "", *options)
    expected = judge.score(zoo.Item(image=image, instruction="Find it."), ["a"])
    assert json.loads(out)["results"][0]["score"] == pytest.approx(float(expected), abs=1e-6)


def test_queries_of_a_table_are_ranked_each_with_its_own_documents(run: Run, judge: zoo.Reranker, place: Path) -> None:
    rows = [("how?", "Hold the button.", "x"), ("why?", "It is blue.", "y"), ("how?", "Press it.", "z"), ("", "b", "w")]
    (place / "questions.csv").write_text("ask,passage_text,note\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    options = ["--query-column", "ask", "--document-column", "passage_text", "--device", "cpu"]
    status, out, err = run("rerank", "judge", "--data", "questions.csv", *options, "--json")
    assert status == 0, err
    how, why = json.loads(out)
    assert "note" not in out
    assert (how["query"], len(how["results"])) == ("how?", 2)
    assert (why["query"], len(why["results"])) == ("why?", 1)
    expected = {text: float(judge.score("how?", [text])[0]) for text in ("Hold the button.", "Press it.")}
    assert {one["document"]: one["score"] for one in how["results"]} == pytest.approx(expected, abs=1e-6)
    assert "not scored: questions.csv, line 5" in err
    status, out, _ = run("rerank", "judge", "--data", "questions.csv", *options, "-k", 1)
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["how?", "why?"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["judge"], "say what the documents should answer"),
        (["judge", "a"], "name the documents"),
        (["judge", "", "lines.txt"], "say what the documents should answer"),
        (["judge", "a", "--text", "b", "--query-column", "c"], "--query-column is of --data"),
        (["judge", "a", "--data", "texts.csv"], "leave QUERY"),
        (["judge", "a", "--text", "b", "--root", "."], "--root is of a table or a folder"),
        (["judge", "a", "lines.txt", "--separator", ";"], "--separator ';'"),
        (["judge", "a", "--text", "b", "--ignore", "nothing"], "--ignore nothing"),
        (["judge", "a", "texts.csv", "--ignore", "nothing"], "--ignore nothing"),
        (["judge", "--data", "texts.csv", "--query-column", "nothing"], "has no column nothing"),
        (["judge", "a", "b.txt", "--image", "gone.png"], "gone.png is no file"),
        (["qwen3vl-reranker-3b", "a", "--text", "b"], "nearest: qwen3vl-reranker-"),
        (["./nowhere", "a", "--text", "b"], "does not exist"),
        (["model", "a", "--text", "b"], "no reranker"),
        (["judge like nothing", "a", "--text", "b"], "there is no reranker 'nothing'"),
        ([NAME, "a", "--text", "b"], "no published weights"),
        (["clip-test", "a", "--text", "b"], "is an embedder"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, arguments: list[str], said: str) -> None:
    status, _, err = run("rerank", *arguments)
    assert status == 2
    assert said in err


def test_a_query_that_is_a_file_is_text_and_that_is_said(run: Run) -> None:
    status, _, err = run("rerank", "judge", "lines.txt", "--text", "b", "--device", "cpu")
    assert status == 0
    assert "note: 'lines.txt' is the query's text" in err


def test_where_nothing_can_be_scored_the_status_is_1(run: Run) -> None:
    status, out, err = run("rerank", "judge", "a", "photos/broken.jpg", "--device", "cpu")
    assert (status, out) == (1, "")
    assert "not scored: photos/broken.jpg" in err


# ---------------------------------------------------------------------------------------------------------- zoo search


def test_search_ranks_the_best_again(run: Run, judge: zoo.Reranker) -> None:
    before = json.loads(run("search", "texts", "text 3", "--k", 12, "--device", "cpu", "--json")[1])
    options = ["--rerank", "judge", "--rerank-top", 5, "--device", "cpu"]
    found = json.loads(run("search", "texts", "text 3", "--k", 7, *options, "--json")[1])
    assert {one["id"] for one in found[:5]} == {one["id"] for one in before[:5]}
    assert [one["id"] for one in found[5:]] == [one["id"] for one in before[5:7]]
    assert [one["rerank"] for one in found[5:]] == [None, None]
    similarity = {one["id"]: one["score"] for one in before}
    assert all(one["score"] == similarity[one["id"]] for one in found), "the similarity stays as it is"
    expected = judge.score("text 3", [one["attributes"]["text"] for one in found[:5]])
    assert torch.tensor([one["rerank"] for one in found[:5]]).sub(expected).abs().max() < 1e-6
    assert expected.sort(descending=True).values.equal(expected)

    status, out, _ = run("search", "texts", "text 3", *options, "--k", 7)
    assert status == 0
    assert out.splitlines()[0].split()[:2] == ["score", "rerank"]
    assert " – " in out.splitlines()[-1]


def test_an_image_that_is_gone_comes_last_and_is_told(run: Run, place: Path) -> None:
    options = ["search", "images", "a cat", "--rerank", "judge", "--device", "cpu", "--json"]
    found = json.loads(run(*options)[1])
    assert len(found) == 4
    assert all(0 < one["rerank"] < 1 for one in found)
    file = place / "photos" / found[0]["reference"]
    content = file.read_bytes()
    file.unlink()
    try:
        status, out, err = run(*options, "--rerank-instruction", "Find it.")
    finally:
        file.write_bytes(content)
    again = json.loads(out)
    assert status == 0
    assert again[-1]["reference"] == found[0]["reference"]
    assert again[-1]["rerank"] is None
    assert [one["rerank"] for one in again[:-1]] != [one["rerank"] for one in found[1:]], "the instruction is read"
    assert f"not scored: {found[0]['reference']}" in err


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_items_of_an_image_and_a_text_are_read_whole_or_not_at_all(
    suffix: str, run: Run, judge: zoo.Reranker, place: Path, tmp_path: Path
) -> None:
    files, medium = sorted((place / "photos").rglob("*.png"))[:3], "image" if suffix == ".csv" else "media"
    texts = ["a", "b", None, "d"]
    if suffix == ".csv":
        rows = [f"{file},{text or ''}" for file, text in zip([*files, ""], texts, strict=True)]
        (tmp_path / "t.csv").write_text("\n".join(["image,text", *rows]) + "\n")
    else:
        content = [*(file.read_bytes() for file in files), None]
        pq.write_table(pa.table({"media": pa.array(content, pa.binary()), "text": texts}), tmp_path / "t.parquet")
    embed_dataset(place / "model", tmp_path / f"t{suffix}", tmp_path / "v", column=f"{medium}+text", progress=False)
    options = ["search", tmp_path / "v", "a cat", "--rerank", "judge", "--device", "cpu", "--json"]
    status, out, err = run(*options)
    assert (status, err) == (0, "")
    whole = [zoo.Item(image=image, text=text) for image, text in zip([*files, None], texts, strict=True)]
    expected = dict(zip(texts, judge.score("a cat", whole).tolist(), strict=True))
    found = {one["attributes"]["text"] or None: one["rerank"] for one in json.loads(out)}
    assert found == pytest.approx(expected, abs=1e-5)

    (tmp_path / f"t{suffix}").unlink()
    if suffix == ".parquet":  # its texts are kept beside the vectors, and an image with a text is more than the text
        status, out, err = run(*options)
        assert [one["rerank"] for one in json.loads(out)] == [None] * 4
        assert err.count("not scored") == 4


def test_queries_of_a_pipe_are_ranked_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("text 3\ntext 4\n"))
    status, out, _ = run("search", "texts", "--rerank", "judge", "--k", 2, "--device", "cpu")
    assert status == 0
    header, *rows = (line.split("\t") for line in out.splitlines())
    assert header[:5] == ["query", "rank", "score", "rerank", "id"]
    assert len(rows) == 4
    assert all(0 < float(row[3]) < 1 for row in rows)


def test_options_of_reranking_without_a_reranker_are_refused(run: Run) -> None:
    for options in (["--rerank-top", 5], ["--rerank-instruction", "x"], ["--root", "."]):
        status, _, err = run("search", "texts", "a", *options)
        assert status == 2
        assert "--rerank" in err


# -------------------------------------------------------------------------------------------------- lists, facts, mine


def test_list_and_show_know_rerankers(run: Run) -> None:
    status, out, told = run("list", "--rerankers")
    assert "†" in out
    assert "† texts in other languages" in told, "a mark that a table has is explained below it"
    assert status == 0
    assert "qwen3vl-reranker-2b" in out
    assert "clip" not in out
    assert [one["name"] for one in json.loads(run("list", "*-test", "--rerankers", "--json")[1])] == zoo.list_rerankers(
        "*-test"
    )
    assert run("list", "nothing*", "--rerankers")[0] == 1
    status, out, _ = run("show", "qwen3vl-reranker-2b")
    assert "Qwen/Qwen3-VL-Reranker-2B" in out
    assert re.search(r"^languages +many languages$", out, re.MULTILINE)
    assert 'zoo.load_reranker("qwen3vl-reranker-2b")' in out
    facts = json.loads(run("show", NAME, "--json")[1])
    assert zoo.RerankerSpec.from_dict(facts) == zoo.get_reranker_spec(NAME)
    assert run("card", "qwen3vl-reranker-2b")[1].startswith("# qwen3vl-reranker-2b")
    assert "nearest: qwen3vl-reranker-2b" in run("card", "qwen3vl-reranker-2")[2]
    status, _, err = run("show", "qwen3vl-rerankr-2b")
    assert "nearest: qwen3vl-reranker-2b" in err
    for name in ("judge", f"./judge like {NAME}"):  # files of a reranker, not the name of one
        status, out, _ = run("show", name)
        assert status == 0
        assert re.search(rf"^from +{name}$", out, re.MULTILINE)
        assert "zoo.load_reranker(" in out


def test_a_reranker_where_a_model_is_wanted_is_said(run: Run) -> None:
    status, _, err = run("encode", "a", "--model", "qwen3vl-reranker-2b")
    assert status == 2
    assert "zoo rerank qwen3vl-reranker-2b" in err


def test_mining_takes_rerankers_by_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    ours = ["qwen3vl-reranker-2b", "hf:org/name", "judge", "judge like qwen3vl-reranker", "./judge", "./cross"]
    assert all(_is_ours(name) for name in ours)
    assert not _is_ours("cross-encoder/ms-marco")
    with pytest.raises(UnknownModelError, match="nearest"):
        _is_ours("qwen3vl-reranker-2")


def test_mine_with_a_reranker_writes_its_scores(run: Run, judge: zoo.Reranker, place: Path) -> None:
    rows = [f"query {n},text {n} of an answer" for n in range(8)]
    (place / "pairs.csv").write_text("\n".join(["query,positive", *rows]) + "\n")
    rules = ["--negatives", 1, "--range", 0, 3, "--relative-margin", "none"]
    options = ["--teacher", "model", "--reranker", "judge", *rules]
    status, _, err = run("mine", "pairs.csv", *options, "--out", "mined.jsonl", "--quiet", "--device", "cpu")
    assert status == 0, err
    pair = open_pairs(place / "mined.jsonl")[0]
    expected = judge.score(pair.query, [pair.positive, *pair.negatives])
    assert len(pair.teacher_scores) == 2
    assert torch.tensor(pair.teacher_scores).sub(expected).abs().max() < 1e-5


# ------------------------------------------------------------------------------------------------------- cross-encoders


def test_a_cross_encoder_goes_wherever_a_reranker_does(run: Run, place: Path) -> None:
    """`zoo rerank`, `zoo search --rerank`, `zoo mine --reranker`, `zoo show`; an image it says that it can't read."""
    cross = zoo.load_reranker(place / "cross", device="cpu")
    options = ["lines.txt", "photos", "--device", "cpu", "--json"]
    status, out, _ = run("rerank", "cross", "a red bicycle", *options)
    assert status == 0
    found = {one["document"]: one for one in json.loads(out)["results"]}
    expected = cross.score("a red bicycle", ["Hold the button.", "b"]).tolist()
    assert [found["Hold the button."]["score"], found["b"]["score"]] == pytest.approx(expected, abs=1e-6)
    unread = [one["error"] for one in found.values() if one["score"] is None]
    assert len(unread) == 5
    assert sum("reads text, not image" in why for why in unread) >= 4
    status, _, err = run("rerank", "cross", "a", "--text", "b", "--instruction", "Find it.", "--device", "cpu")
    assert status == 2
    assert "the query cannot be read: " in err
    assert "follows no instruction" in err

    options = ["--rerank", "cross", "--rerank-top", 4, "--k", 4, "--device", "cpu", "--json"]
    hits = json.loads(run("search", "texts", "text 3", *options)[1])
    expected = cross.score("text 3", [one["attributes"]["text"] for one in hits])
    assert [one["rerank"] for one in hits] == pytest.approx(expected.tolist(), abs=1e-6)
    assert expected.sort(descending=True).values.equal(expected)

    rows = [f"query {n},text {n} of an answer" for n in range(8)]
    (place / "texts8.csv").write_text("\n".join(["query,positive", *rows]) + "\n")
    rules = ["--negatives", 1, "--range", 0, 3, "--relative-margin", "none", "--quiet", "--device", "cpu"]
    status, _, err = run("mine", "texts8.csv", "--teacher", "model", "--reranker", "cross", *rules, "--out", "m.jsonl")
    assert status == 0, err
    pair = open_pairs(place / "m.jsonl")[0]
    expected = cross.score(pair.query, [pair.positive, *pair.negatives])
    assert torch.tensor(pair.teacher_scores).sub(expected).abs().max() < 1e-5

    status, out, _ = run("show", "cross")
    assert status == 0
    assert re.search(r"^gives +a score: a logit, below and above 0$", out, re.MULTILINE)
    status, _, err = run("encode", "a", "--model", "cross")
    assert status == 2
    assert "load_reranker" in err
