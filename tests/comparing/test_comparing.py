"""Comparisons from end to end: real models of random weights, tables of images and texts, the page, the budget and the commands."""

import csv
import html
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from tests.tables.train_tables import png
from zoo.cli import main
from zoo.comparing import Budget
from zoo.comparing.contenders import Contender
from zoo.comparing.costs import Cost
from zoo.comparing.drawing import Point, front, pareto
from zoo.comparing.measuring import run
from zoo.comparing.reading import read_questions
from zoo.comparing.vectors import VectorCache
from zoo.errors import ArgumentError, NothingFitsError, QuestionsError
from zoo.evaluation import packs as evaluation_packs
from zoo.evaluation.packs import BENCHMARKS, evaluate_pack, pack_results
from zoo.evaluation.results import read_results
from zoo.inputs.remembering import Pixels, remembering
from zoo.regions import MaskedCrop

NASTY = '<script>alert("x")</script> & \x1b[31m'


def model(name: str, shape: str = "mini-test", seed: int = 0):
    torch.manual_seed(seed)
    found = zoo.build_model(shape).eval()
    found.spec = replace(found.spec, name=name)
    return found


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file)
        write.writerow(["image", "text"])
        for number in range(12):
            (folder / f"{number}.png").write_bytes(png(20 * number, 255 - 20 * number, (97 * number) % 256))
            write.writerow([f"{number}.png", NASTY if number == 3 else f"image number {number}"])
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def both(pairs: Path):
    models = [model("first", seed=1), model("second", seed=2), model("texts", "text-test")]
    return zoo.compare(models, pairs, speed=False)


def test_models_stand_side_by_side_on_the_same_rows(both):
    assert [entry.name for entry in both.entries] == ["first", "second"]
    assert "texts reads text, and pairs has image" in both.left_out["texts"]
    assert both.decoded == (12, 12), "the second model decoded nothing again"
    best, other = both.ranked
    assert both.best() == best.name
    for key in both.keys:
        told = both.differences(best, other, key)
        scores = best.scores[key], other.scores[key]
        again = [one.ranking.values("mrr") for one in scores]
        assert told["mrr"].value == pytest.approx((again[1] - again[0]).mean())
        assert told["mrr"].low <= told["mrr"].value <= told["mrr"].high
    assert "no clear difference" in both.table, "twelve pairs and random weights"


def test_results_are_those_of_cards_and_carry_their_command(both, tmp_path: Path):
    from zoo.evaluation.results import write_results

    results = both.results(both.entries[0])
    assert {result.source for result in results} == {"zoo eval first --data pairs.csv"}
    assert {result.direction for result in results} == {"image → text", "text → image"}
    write_results(tmp_path / "results.json", results)
    assert read_results(tmp_path / "results.json") == results
    told = both.to_dict()
    assert told["best"]["name"] == both.best()
    assert set(told["left_out"]) == {"texts"}
    json.dumps(told)


def test_a_page_is_whole_and_escaped(both):
    page = both.html
    assert NASTY not in page
    assert "<script" not in page
    assert "\x1b" not in page
    assert html.escape('<script>alert("x")</script> &') in page, "the text itself is shown"
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "data:image/jpeg;base64," in page
    for entry in both.entries:
        assert f"zoo eval {entry.name} --data pairs.csv" in page
    assert "texts reads text, and pairs has image" in html.unescape(page)


def test_what_one_model_cannot_embed_is_left_out_for_all(pairs: Path, monkeypatch):
    """The other model's weights give no finite number for one text."""
    first, second = model("first", seed=1), model("second", seed=2)
    before = type(second).encode_stream

    def broken(self, inputs, **options):
        from zoo.errors import NonFiniteEmbeddingError

        items = list(inputs)
        for result, item in zip(before(self, items, **options), items, strict=True):
            bad = self is second and item.text == "image number 5"
            if bad:
                result = type(result)(result.index, None, NonFiniteEmbeddingError("the model gave no usable vector"))
            yield result

    monkeypatch.setattr(type(second), "encode_stream", broken)
    found = zoo.compare([first, second], pairs, speed=False)
    assert {len(entry.scores[found.keys[0]].ranking) for entry in found.entries} == {11}
    assert "not every model could embed" in found.entries[0].scores[found.keys[0]].notes
    assert any("no usable vector" in why for why in found.bad)
    (result, *_) = found.results(found.entries[0])
    assert result.source == "zoo eval first second --data pairs.csv", "alone it would be over other rows"


def test_a_model_of_nan_is_left_out_and_named(pairs: Path, both):
    broken = model("broken")
    with torch.no_grad():
        for weight in broken.parameters():
            weight.fill_(float("nan"))
    found = zoo.compare([model("first", seed=1), broken], pairs, speed=False)
    assert [entry.name for entry in found.entries] == ["first"]
    assert (
        "broken could embed nothing of pairs; the first reason: the model gave no usable vector"
        in found.left_out["broken"]
    )
    assert found.entries[0].scores[found.keys[0]].figures == both.entries[0].scores[both.keys[0]].figures
    with pytest.raises(QuestionsError, match="no usable vector"):
        zoo.compare([broken], pairs, speed=False)


def test_vectors_are_kept_by_model_and_content(pairs: Path, tmp_path: Path):
    one, questions = Contender.of(model("first", seed=1)), read_questions(pairs)
    cache = VectorCache(tmp_path / "kept")
    said: list[str] = []
    again: list[str] = []
    first = run([one], questions, cache=cache, say=said.append)
    second = run([one], questions, cache=cache, say=again.append)
    assert "24 items" in said[1]
    assert "kept" not in said[1]
    assert "24 of them kept from before" in again[1]
    key = first.keys[0]
    assert first.entries[0].scores[key].figures == second.entries[0].scores[key].figures
    other: list[str] = []
    run([Contender.of(model("first", seed=3))], questions, cache=cache, say=other.append)
    assert "kept" not in other[1], "other weights have other vectors"
    for file in (tmp_path / "kept").rglob("*.safetensors"):
        file.write_bytes(b"damaged")
    damaged: list[str] = []
    run([one], questions, cache=cache, say=damaged.append)
    assert "kept" not in damaged[1], "what is damaged counts as not there"
    cache.most = 1
    cache.trim()
    assert not list((tmp_path / "kept").rglob("*.safetensors")), "over the limit it goes"


def test_a_cut_is_made_of_the_same_pass(pairs: Path, tmp_path: Path):
    folder = model("saved", seed=1).save_pretrained(tmp_path / "saved")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = zoo.compare([folder, f"{folder}@dim=4"], pairs, speed=False, cache=tmp_path / "kept")
    whole, cut = found.entries
    assert (whole.dim, cut.dim, cut.name) == (whole.spec.dim, 4, "saved@dim=4")
    assert found.command().startswith("zoo compare ./saved ./saved@dim=4 --data pairs.csv")
    assert any("lose accuracy" in note for note in cut.notes)
    opened = zoo.load_model(folder)
    questions = read_questions(pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vectors = [
            opened.encode_query([*questions[0].left], dim=4),
            opened.encode_document([*questions[0].right], dim=4),
        ]
    wanted = (vectors[0] @ vectors[1].T).argsort(1, descending=True)[:, 0]
    assert cut.scores[found.keys[0]].ranking.first.tolist() == wanted.tolist()


def test_models_that_are_none_are_named(pairs: Path):
    for named, why in (
        (["zoo-mini@dims=4"], "'dims=4' is no setting of models"),
        (["zoo-mini@dim=x"], "dim must be a whole number"),
        (["zoo-mini@dim=4,dim=5"], "dim is said twice"),
        (["zoo-mini", "zoo-mini"], "two models are called 'zoo-mini'"),
        ([], "no model to compare"),
    ):
        with pytest.raises(ArgumentError, match=why):
            zoo.compare(named, pairs)
    with pytest.raises(QuestionsError, match="no model can be measured on this data: a: a reads text"):
        zoo.compare([model("a", "text-test"), model("b", "text-test")], pairs, speed=False)
    with pytest.raises(ArgumentError, match="two sources would both be the data set 'pairs'"):
        zoo.compare([model("a")], [pairs, pairs], speed=False)


# ------------------------------------------------------------------------------------------------------ budgets


def with_cost(found, rounds=None, **costs: tuple[float, float]):
    told = {entry.name: (rounds or {}).get(entry.name, ()) for entry in found.entries}
    entries = [replace(e, cost=Cost(*costs[e.name], 300.0, "text", "image", 1, told[e.name])) for e in found.entries]
    return replace(found, entries=tuple(entries))


def test_a_budget_keeps_models_out_and_says_why(both):
    best, other = (entry.name for entry in both.ranked)
    found = with_cost(both, **{best: (50.0, 10.0), other: (5.0, 100.0)})
    assert found.best() == best
    assert found.best("ms=20") == other
    assert found.best("rate=50") == other
    quick = with_cost(both, **{best: (50.0, 10.0), other: (5.0, 100.0)}, rounds={best: (40, 60), other: (4, 6)})
    assert f"{other} answers faster" in quick.table
    unsure = with_cost(both, **{best: (50.0, 10.0), other: (5.0, 100.0)}, rounds={best: (5, 60), other: (4, 6)})
    assert "answers faster" not in unsure.table, "not in every round"
    choice = found.choice("ms=20")
    assert choice.refused[best] == "50 ms for one query"
    with pytest.raises(NothingFitsError, match="50 ms for one query"):
        found.best("ms=1")
    with pytest.raises(NothingFitsError, match="not de"):
        found.best("languages=de")
    with pytest.raises(ArgumentError, match="the speed was not measured"):
        both.best("ms=20")
    page = replace(found, budget=Budget.parse("ms=20")).html
    assert f"Take {other} within ms=20" in page
    assert "<polyline" in page


def test_licences_are_known_or_the_user_decides(both):
    def licensed(license: str):
        entries = [replace(e, spec=replace(e.spec, license=license)) for e in both.entries]
        return replace(both, entries=tuple(entries))

    assert licensed("apache-2.0").best("license=commercial")
    for license, why in (("cc-by-nc-4.0", "forbids"), ("unknown", "not known"), ("apple-amlr", "not known")):
        with pytest.raises(NothingFitsError, match=why):
            licensed(license).best("license=commercial")
    assert licensed("gemma").best("license=gemm*")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fast", "'fast' is no entry"),
        ("ms=", "'ms=' is no entry"),
        ("ms=0", "expected a number above 0"),
        ("ms=nan", "expected a number above 0"),
        ("ms=1,ms=2", "says ms twice"),
        ("languages=german", "'german' is no code"),
    ],
)
def test_budgets_that_are_none_are_named(text: str, why: str):
    with pytest.raises(ArgumentError, match=why):
        Budget.parse(text)


def test_a_budget_is_written_as_it_was_read():
    text = "ms=20,mb=500,params=3e+07,license=commercial,languages=de+fr"
    assert str(Budget.parse("ms=20, mb=500,license=Commercial,languages=de+fr,params=30M")) == text


def test_nobody_on_the_front_is_beaten_in_both():
    points = [
        Point("a", 1, 0.5, 0.4, 0.6),
        Point("b", 2, 0.4, 0.3, 0.5),
        Point("c", 3, 0.9, 0.8, 1.0),
        Point("d", 3, 0.7, 0.6, 0.8),
    ]
    assert [point.name for point in front(points)] == ["a", "c"]
    drawn = pareto([point._replace(name=NASTY) for point in points], NASTY, "ms")
    assert "<script" not in drawn
    assert pareto([points[0]], "one", "ms").count("<circle") == 1


# -------------------------------------------------------------------------------------- packs, pixels, commands


@pytest.mark.parametrize("name", [pytest.param("emoji", marks=pytest.mark.slow), "photos"])
def test_packs_have_the_figures_of_the_evaluation(name: str, pack, monkeypatch):
    from zoo.comparing import packs
    from zoo.comparing.packs import PackQuestion

    pack(name)
    if name == "photos":  # some of its rows are enough here
        rows = packs.read_pack(name, "val")[::40]
        for module in (packs, evaluation_packs):
            monkeypatch.setattr(module, "read_pack", lambda *_: rows)
    one = model("first", seed=1)
    found = run([Contender.of(one)], [PackQuestion.of(name, "val")])
    benchmark = next(one for one in BENCHMARKS if one.pack == name)
    wanted = pack_results(evaluate_pack(one, benchmark, "val")[0], "val", "")
    mine = {(r.task, r.direction, r.metric): (r.value, r.low, r.high) for r in found.results(found.entries[0])}
    assert mine == {
        (r.task, r.direction, r.metric): tuple(round(x, 6) for x in (r.value, r.low, r.high)) for r in wanted
    }


def test_the_pack_of_regions_has_the_figures_of_the_evaluation(pack, monkeypatch):
    from zoo.comparing import packs
    from zoo.evaluation import regions

    pack("regions")
    scenes = {part: packs.read_scenes("val", part)[:3] for part in (packs.SCENES, packs.CELLS)}
    for module in (packs, regions):
        monkeypatch.setattr(module, "read_scenes", lambda split, part: scenes[part])
    one = model("first", seed=1)
    found = run([Contender.of(one)], [packs.PackQuestion.of("regions", "val")])
    mine = {(r.part, r.direction, r.metric): (r.value, r.low, r.high) for r in found.results(found.entries[0])}
    wanted = {}
    for score in regions.evaluate_regions(one, "val", {"masked crop": MaskedCrop()}):
        figures = {("recall", k): told for k, told in score.region_to_text.items()}
        told = {(regions.REGION_TO_TEXT, regions.IN_IMAGE): score.in_image}
        told |= {(regions.REGION_TO_TEXT, f"{name}@{k}"): one for (name, k), one in figures.items()}
        told |= {(regions.TEXT_TO_REGION, f"hit@{k}"): one for k, one in score.text_to_region.items()}
        wanted |= {(f"{score.part}, masked crop", *key): tuple(round(x, 6) for x in one) for key, one in told.items()}
    assert mine == wanted


def test_pixels_are_kept_up_to_a_limit(pairs: Path):
    from zoo.inputs.image import load_pixels

    files = [pairs.with_name(f"{number}.png") for number in range(4)]
    size = load_pixels(files[0]).nbytes
    kept = Pixels(most=2 * size)
    with remembering(kept):
        first = [load_pixels(path) for path in files]
        second = [load_pixels(path) for path in files]
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert (kept.decoded, kept.found, kept.held) == (6, 2, 2 * size)
    files[0].write_bytes(png(1, 2, 3))
    with remembering(kept):
        assert not np.array_equal(load_pixels(files[0]), first[0]), "a file that has changed is read anew"


def test_the_commands(pairs: Path, tmp_path: Path, capsys):
    one = model("one", seed=1).save_pretrained(tmp_path / "one")
    two = model("two", seed=2).save_pretrained(tmp_path / "two")
    shared = ["--data", str(pairs), "--cache", str(tmp_path / "cache")]
    page, out = tmp_path / "page.html", tmp_path / "out"
    words = ["compare", str(one), str(two), *shared, "--no-speed", "--html", str(page), "--out", str(out), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["models"]) == {"one", "two"}
    assert str(tmp_path) not in json.dumps(told), "nothing of this machine"
    assert page.read_text().startswith("<!doctype html>")
    assert {path.name for path in out.iterdir()} == {"one.json", "two.json"}
    figures = {(r.direction, r.metric): r.value for r in read_results(out / "one.json")}

    assert main(["eval", str(one), *shared, "--out", str(tmp_path / "one.json")]) == 0
    shown = capsys.readouterr()
    assert "24 of them kept from before" in shown.err
    assert "zoo eval" in shown.out or "recall@1" in shown.out
    assert {(r.direction, r.metric): r.value for r in read_results(tmp_path / "one.json")} == figures

    for words, why in (
        (["compare", str(one)], "needs data"),
        (["compare", str(one), *shared, "--no-speed", "--budget", "ms=3"], "leave --no-speed out"),
        (["compare", "no-such", *shared], "no model is called 'no-such'"),
        (["compare", str(one), "--tasks", "NanoArguAna"], "no pack is called 'NanoArguAna'"),
        (["eval", str(one), str(two), "--pairs", str(pairs)], "several models are compared by --data"),
        (["eval", str(one), str(two), *shared, "--out", str(tmp_path / "x.json")], "name a folder"),
        (["compare", str(one), *shared, "--html", str(tmp_path / "no" / "x.html")], "there is no folder"),
    ):
        assert main(words) == 2
        assert why in capsys.readouterr().err, words


def test_people_ask_with_texts_when_costs_are_measured(both, monkeypatch):
    from zoo.comparing import costs
    from zoo.comparing.measuring import with_costs

    monkeypatch.setattr(costs, "ROUNDS", 1)
    measured = with_costs(both, [Contender.of(model(entry.name)) for entry in both.entries])
    for entry in measured.entries:
        assert (entry.cost.asked, entry.cost.ranked) == ("text", "image")
        assert min(entry.cost.ms, entry.cost.rate) > 0
        assert entry.cost.mb is None, "of a model that was open nobody can tell"


@pytest.mark.slow
def test_costs_are_measured_apart(pairs: Path):
    found = zoo.compare(["zoo-mini", "zoo-mini@dim=64"], pairs)
    for entry in found.entries:
        assert entry.cost.ms > 0
        assert entry.cost.rate > 0
        assert entry.cost.mb > 100
        assert (entry.cost.asked, entry.cost.ranked) == ("text", "image")
    assert {result.unit for result in found.results(found.entries[0])} == {"", "ms", "items/s", "MB"}
