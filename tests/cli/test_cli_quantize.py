"""`zoo quantize`: calibrates, measures over pairs that were held out, writes what is accepted, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import zoo
from zoo.cli import main
from zoo.publishing.certificate import verify
from zoo.quantizing import Loss, loss_of

ROWS = 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, texts, and pairs of which every query is its own answer's beginning."""
    folder = tmp_path_factory.mktemp("place")
    zoo.build_model("text-test").save_pretrained(folder / "model")
    (folder / "texts.txt").write_text("\n".join(f"number {row} of some texts" for row in range(20)))
    rows = "".join(f"query {row},query {row} and more\n" for row in range(ROWS))
    (folder / "pairs.csv").write_text(f"query,positive\n{rows}")
    return folder


def test_few_queries_are_refused_and_written_by_force(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    command = ["quantize", "model", "--calibrate", "texts.txt", "--measure", "pairs.csv", "--out", "small"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert "hit@1 query → positive" in out
    assert f"not written: pairs all has {ROWS} queries, and 1,000 are needed" in err
    assert not Path("small").exists()
    assert main([*command, "--force", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["queries"] for row in rows] == [ROWS, ROWS]
    model = zoo.load_model("./small", dtype="int8")
    assert model.quantized.calibrated == {"text": 20}
    assert model.quantized.source == "texts.txt"
    assert [dict(row) for row in model.quantized.measured] == [
        {key: value for key, value in row.items() if key != "accepted"} for row in rows
    ]
    assert {row["metric"] for row in json.loads(Path("small/results.json").read_text())} == {"hit@1"}
    report = verify(Path("small"), loaders=["zoo"], batch_sizes=(1, 3))
    assert report.passed, report.reason
    assert main([*command, "--force"]) == 2
    assert "small is not empty" in capsys.readouterr().err


def test_what_cannot_be_read_costs_nobody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    zoo.build_model("image-test").save_pretrained(tmp_path / "model")
    (tmp_path / "images").mkdir()
    for shade in range(10):
        Image.new("RGB", (40, 30), (20 * shade, 90, 200)).save(tmp_path / "images" / f"{shade}.png")
    whole = (tmp_path / "images" / "3.png").read_bytes()
    (tmp_path / "images" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images" / "none.jpg").write_text("no image")
    rows = "".join(f"images/{shade}.png,images/{shade}.png\n" for shade in range(10))
    (tmp_path / "pairs.csv").write_text(f"query_image,positive_image\n{rows}")
    words = ["--calibrate", str(tmp_path / "images"), "--measure", str(tmp_path / "pairs.csv")]
    assert main(["quantize", str(tmp_path / "model"), *words, "--out", str(tmp_path / "out"), "--force"]) == 0
    said = capsys.readouterr().err
    assert "left out of calibration, 2 that cannot be read; the first: " in said
    assert zoo.load_model(tmp_path / "out").quantized.calibrated == {"image": 10}


def test_a_certificate_of_a_float32_model_allows_no_more_than_before(place: Path, tmp_path: Path) -> None:
    from zoo.publishing import certificate

    folder = zoo.load_model(place / "model").save_pretrained(tmp_path / "plain")
    certificate.make(zoo.load_model(folder, device="cpu"), halves=()).save(folder)
    facts = json.loads((folder / "certificate.json").read_text())
    assert facts["tolerances"]["float32"]["allowed"] == 1e-5
    facts["tolerances"]["float32"]["allowed"] = 0.02
    (folder / "certificate.json").write_text(json.dumps(facts))
    report = verify(folder, loaders=["zoo"], dtypes=["float32"], batch_sizes=(1,))
    assert "as only that of an int8 model may" in report.reason


@pytest.mark.parametrize(
    ("queries", "float32", "int8", "low", "high", "accepted"),
    [
        (1000, 0.800, 0.796, -0.006, -0.002, True),  # a sure loss of less than half a point
        (1000, 0.800, 0.780, -0.045, 0.005, True),  # no sure loss
        (1000, 0.800, 0.790, -0.016, -0.004, False),
        (1000, 0.800, 0.820, 0.010, 0.030, True),
        (999, 0.800, 0.800, -0.001, 0.001, False),
    ],
)
def test_what_is_accepted(queries: int, float32: float, int8: float, low: float, high: float, accepted: bool) -> None:
    assert Loss("pairs", "hit@1", queries, float32, int8, low, high).accepted is accepted


def test_queries_with_several_right_answers_count_whole() -> None:
    """One of two right answers comes first: that is a hit, of which recall@1 would make a half."""
    model = zoo.build_model("text-test")
    queries = [zoo.Item(text=f"query {row // 2}") for row in range(8)]
    targets = [zoo.Item(text=f"query {row // 2}" + " and more" * (row % 2)) for row in range(8)]
    quantized = zoo.quantize(model, [item.text for item in queries + targets])
    forward, backward = loss_of(model, quantized, queries, targets)
    assert (forward.queries, backward.queries) == (4, 8)
    assert {forward.float32, forward.int8} <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert forward.low <= forward.int8 - forward.float32 <= forward.high
    same = loss_of(model, model, queries, targets)
    assert [(one.low, one.high) for one in same] == [(0.0, 0.0)] * 2
    assert same[0].float32 == forward.float32
