"""`zoo mine` and `zoo merge`: files in, files out, tables for people, and errors before any work."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.training.test_train_merging import make_experts, told
from tests.training.test_train_mining import at_cosine, teacher_of
from zoo import load_model
from zoo.cli import main
from zoo.embedder import Embedder


@pytest.fixture
def run(capsys, monkeypatch):
    """`run("mine", ...)` → (status, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "300")  # the folders of a test are long, and would break a table's headings

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def mining(tmp_path_factory):
    """A folder with a teacher, pairs, and a corpus: of every query a near-duplicate of the answer and a hard negative."""
    folder = tmp_path_factory.mktemp("mining")
    generator, vectors = torch.Generator().manual_seed(0), {}
    for i in range(12):
        query = F.normalize(torch.randn(32, generator=generator), dim=0)
        near = {f"query{i}": 1.0, f"answer{i}": 0.8, f"same{i}": 0.79, f"hard{i}": 0.6}
        vectors |= {word: at_cosine(query, cosine, generator) for word, cosine in near.items()}
    teacher_of(vectors).save_pretrained(folder / "teacher")
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["query", "positive"], *([f"query{i}", f"answer{i}"] for i in range(12))])
    lines = [f"{kind}{i}" for i in range(12) for kind in ("same", "hard")]
    (folder / "corpus.txt").write_text("\n".join(lines) + "\n")
    return folder


def mine(run, folder, out, *more):
    return run(
        "mine",
        folder / "pairs.csv",
        "--teacher",
        folder / "teacher",
        "--corpus",
        folder / "corpus.txt",
        "--out",
        out,
        *more,
    )


def test_mine_writes_pairs_with_their_hard_negatives_and_leaves_out_near_duplicates(mining, run, tmp_path):
    from zoo.tables import open_pairs

    status, out, _ = mine(run, mining, tmp_path / "mined.jsonl", "--negatives", "2")
    assert status == 0
    mined = open_pairs(tmp_path / "mined.jsonl")
    assert len(mined) == 12
    for i in range(12):
        pair = mined[i]
        assert (pair.query.text, pair.positive.text, pair.negatives[0].text) == (f"query{i}", f"answer{i}", f"hard{i}")
        assert pair.teacher_scores[:2] == pytest.approx((0.8, 0.6), abs=1e-3)
    assert "- relative margin" in out
    assert "mean score: 0.800 of the positives" in out
    assert "+ 0.80  answer0" in out
    assert "- 0.60  hard0" in out
    assert "zoo train" in out
    assert max(map(len, out.splitlines())) <= 300


def test_mine_says_nothing_of_the_score_of_negatives_that_there_are_not(mining, run, tmp_path):
    _, out, _ = mine(run, mining, tmp_path / "none.jsonl", "--max-score", "-1")
    assert "nan" not in out
    assert "mean score: 0.800 of the positives\n" in out


def test_mine_takes_every_filter_and_tells_machines(mining, run, tmp_path):
    status, out, _ = mine(
        run,
        mining,
        tmp_path / "mined.parquet",
        *[
            "--negatives",
            "3",
            "--range",
            "0",
            "20",
            "--margin",
            "0.05",
            "--adaptive",
            "0.05",
            "0.2",
            "--max-score",
            "0.9",
            "--min-score",
            "-1",
        ],
        *[
            "--threshold",
            "f1",
            "--keep-positive-rank",
            "5",
            "--sample",
            "random",
            "--seed",
            "3",
            "--too-few",
            "repeat",
            "--json",
            "--cache",
        ],
        tmp_path / "vectors",
    )
    report = json.loads(out)
    assert status == 0
    assert report["pairs"] == report["kept"] == 12
    assert report["documents"] == 36
    assert list(report["removed"]) == ["margin", "adaptive margin", "max score", "min score", "f1 threshold"]
    assert report["removed"]["margin"] >= 12
    assert (tmp_path / "mined.parquet").is_file()
    assert list((tmp_path / "vectors").glob("*.vectors"))


def test_mine_without_filters_finds_the_near_duplicates(mining, run, tmp_path):
    from zoo.tables import open_pairs

    mine(run, mining, tmp_path / "mined.jsonl", "--negatives", "1", "--relative-margin", "none")
    assert [pair.negatives[0].text for pair in open_pairs(tmp_path / "mined.jsonl")] == [f"same{i}" for i in range(12)]


def test_mine_says_what_is_wrong_before_it_works(mining, run, tmp_path):
    status, _, err = mine(run, mining, tmp_path / "mined.txt")
    assert (status, "pairs are written to .csv, .tsv, .jsonl or .parquet" in err) == (2, True)
    status, _, err = mine(run, mining, tmp_path / "mined.jsonl", "--negatives", "50")
    assert (status, "hold no 50 negatives" in err or "too few" in err) == (2, True)
    status, _, err = mine(run, mining, tmp_path / "mined.jsonl", "--range", "90", "100")
    assert (status, "36 distinct candidates" in err) == (2, True)
    status, _, err = mine(run, mining, tmp_path / "mined.jsonl", "--max-score", "-1", "--too-few", "drop")
    assert (status, "no pair is left" in err) == (1, True)
    assert not list(tmp_path.iterdir())


# -- merge -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """Folders of a base and of two experts, and a probe of both tasks."""
    folder = tmp_path_factory.mktemp("experts")
    base, topic, style, generator = make_experts(0)
    for name, model in (("base", base), ("topic", topic), ("style", style)):
        model.save_pretrained(folder / name)
    with (folder / "probe.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "positive", "group", "dataset"])
        for pair in told("topic", 40, generator) + told("style", 40, generator):
            writer.writerow([pair.query.text, pair.positive.text, pair.group, pair.dataset])
    return folder


def weights_of(model: Embedder) -> torch.Tensor:
    return model.towers[0].encoder.table.weight.detach()


def test_merge_averages_by_default_and_by_weights(experts, run, tmp_path):
    names = experts / "topic", experts / "style"
    status, out, _ = run("merge", *names, "--out", tmp_path / "merged")
    assert status == 0
    parts = [weights_of(load_model(name)) for name in names]
    assert torch.allclose(weights_of(load_model(tmp_path / "merged")), (parts[0] + parts[1]) / 2, atol=1e-6)
    assert f"saved: {tmp_path / 'merged'}" in out
    run("merge", *names, "--weights", "0.3", "0.9", "--out", tmp_path / "other")
    assert torch.allclose(weights_of(load_model(tmp_path / "other")), 0.25 * parts[0] + 0.75 * parts[1], atol=1e-6)
    assert json.loads((tmp_path / "other" / "merge.json").read_text())["weights"] == pytest.approx([0.25, 0.75])


def test_merge_with_a_probe_positions_itself_and_shows_before_and_after(experts, run, tmp_path):
    options = ["--base", experts / "base", "--probe", experts / "probe.csv", "--steps", "40"]
    status, out, _ = run(
        "merge", experts / "topic", experts / "style", *options, "--out", tmp_path / "merged", "--json"
    )
    facts = json.loads(out)
    assert status == 0
    assert facts["method"] == "self-position"
    assert facts["weights"][1] > facts["weights"][0]
    recalls = {name: [score["recall"] for score in scores] for name, scores in facts["probe"].items()}
    assert min(recalls["merged"]) > max(min(scores) for name, scores in recalls.items() if name != "merged") + 0.1
    assert [score["task"] for score in facts["probe"]["merged"]] == ["topic", "style"]
    status, out, _ = run("merge", experts / "topic", experts / "style", *options[2:], "--out", tmp_path / "again")
    assert "topic recall@1" in out
    assert "merged" in out
    assert load_model(tmp_path / "again").encode(["t1.0 s2.1"]).shape == (1, 32)


@pytest.mark.parametrize("method", ["greedy", "task-arithmetic", "slerp", "ties"])
def test_merge_by_every_other_method(experts, run, tmp_path, method):
    options = ["--base", experts / "base"] if method in ("task-arithmetic", "ties") else []
    options += ["--probe", experts / "probe.csv"] if method == "greedy" else []
    names = experts / "topic", experts / "style"
    status, out, _ = run("merge", *names, "--method", method, *options, "--out", tmp_path / "merged")
    assert status == 0
    assert out.startswith(f"{method}: ")
    merged = weights_of(load_model(tmp_path / "merged"))
    assert merged.isfinite().all()
    if method == "greedy":  # either expert alone is better than the drowned mean, or the mean is taken whole
        sources = [weights_of(load_model(name)) for name in names]
        assert any(torch.allclose(merged, w, atol=1e-6) for w in (*sources, (sources[0] + sources[1]) / 2))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "ties"], "needs --base"),
        (["--method", "greedy"], "needs --probe"),
        (["--weights", "0.5"], "1 numbers for 2 models"),
        (["--weights", "1", "-1"], "sum above 0"),
        (["--probe", "probe.csv", "--weights", "0.5", "0.5"], "finds the weights itself"),
        (["--scale", "0.4"], "--scale is of task-arithmetic, ties; --method uniform does not read it"),
        (["--device", "cpu"], "--device is of the probe, and there is none"),
        (["--split", "test"], "--split is of the probe, and there is none"),
        (["--as-text", "nan"], "--as-text is of the probe, and there is none"),
        (["--density", "0.5"], "--density is of ties"),
        (["--base", "zoo-mini", "--method", "slerp"], "--base is of task-arithmetic, ties, self-position"),
        (["--seed", "0"], "--seed is of self-position"),
        (
            ["--method", "ties", "--base", "zoo-mini", "--density", "2"],
            "--density must be above 0 and at most 1, not 2.0",
        ),
        (["--weights", "1e308", "1e308"], "--weights must have a sum above 0, not inf"),
    ],
)
def test_merge_says_what_is_missing_before_it_works(run, tmp_path, options, says):
    status, _, err = run("merge", "runs/a", "runs/b", *options, "--out", tmp_path / "merged")
    assert (status, says in err) == (2, True), err
    assert not list(tmp_path.iterdir())


def test_merge_names_what_differs_and_what_does_not_exist(experts, run, tmp_path):
    status, _, err = run("merge", experts / "topic", "zoo-mini", "--out", tmp_path / "merged")
    assert (status, "cannot be merged" in err) == (2, True)
    status, _, err = run("merge", experts / "topic", experts / "nobody", "--out", tmp_path / "merged")
    assert (status, "nobody" in err) == (2, True)
    status, _, err = run("merge", experts / "topic", experts / "topic", "--out", tmp_path / "merged")
    assert (status, "two different models" in err) == (2, True)
    assert not list(tmp_path.iterdir())


def test_both_commands_load_nothing_heavy_for_their_help():
    code = (
        "import sys; from zoo.cli import build_parser; build_parser(); import zoo.cli.mine, zoo.cli.merge;"
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_merge_refuses_prompts_that_differ_until_told_whose_to_keep(experts, run, tmp_path):
    model = load_model(experts / "style")
    model.spec = replace(model.spec, prompts={"query": "ask: "})
    names = experts / "topic", model.save_pretrained(tmp_path / "asking")
    status, _, err = run("merge", *names, "--out", tmp_path / "merged")
    assert (status, "its prompt query is 'ask: ' and not absent" in err, f"--keep {names[1]}" in err) == (2, True, True)
    assert not (tmp_path / "merged").exists()
    for keep, prompts in (("first", {}), (names[1], {"query": "ask: "})):
        out = tmp_path / f"kept-{len(prompts)}"
        status, said, _ = run("merge", *names, "--keep", keep, "--out", out)
        assert (status, "prompts, poolers and preprocessing of" in said) == (0, True)
        assert dict(load_model(out).spec.prompts) == prompts
    status, _, err = run("merge", *names, "--keep", "nobody", "--out", tmp_path / "merged")
    assert (status, "--keep nobody: name one of the models" in err) == (2, True)


def test_merge_says_what_it_does_with_odd_weights_and_refuses_an_out_that_is_there(experts, run, tmp_path):
    names, out = (experts / "topic", experts / "style"), tmp_path / "merged"
    status, said, _ = run("merge", *names, "--weights", "2", "6", "--out", out)
    assert (status, "the weights add up to 8, not 1: their shares were taken" in said) == (0, True)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    status, _, err = run("merge", *names, "--out", out)
    assert (status, f"--out {out} is there already" in err) == (2, True)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    status, _, err = run("merge", *names, "--weights", "1.5", "-0.5", "--out", tmp_path / "new")
    assert (status, "--weights -0.5 is negative" in err) == (2, True)
    task = ["--method", "task-arithmetic", "--base", experts / "base", "--out", tmp_path / "new"]
    for option in (["--weights", "1", "-1"], ["--scale", "-0.4"]):
        status, _, err = run("merge", *names, *task, *option)
        assert (status, "add --unlearn" in err) == (2, True)
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()  # an empty folder is none
    status, said, _ = run("merge", *names, *task, "--weights", "1", "-1", "--unlearn")
    assert (status, f"unlearned: {names[1]}\n" in said) == (0, True)
    base, *parts = (weights_of(load_model(experts / name)) for name in ("base", "topic", "style"))
    assert torch.allclose(weights_of(load_model(tmp_path / "new")), base + 0.4 * (parts[0] - parts[1]), atol=1e-6)
