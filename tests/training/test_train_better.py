"""Did it get better: rankings during a run that move nothing, the best checkpoint, early stopping, what may be said."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from zoo.training import recipes, train
from zoo.training.checkpoint import last_checkpoint, step_of
from zoo.training.errors import PairsError, RecipeError
from zoo.training.held_out import HeldOutEncoder
from zoo.training.judging import plan
from zoo.training.losses import build_loss
from zoo.training.recipe import Recipe
from zoo.training.recipes import RECIPES
from zoo.training.report import sections, write_report
from zoo.training.run import Run
from zoo.training.scoring import Scoring
from zoo.training.trainer import finish
from zoo.training.verdict import GRADED, RETRIEVAL, Scores, deciding, judge, lines, show

from tests.training.train_support import fresh, quick, remove, same_weights, shape_pairs, text_pairs, without_plots
from zoo import Item, load_model
from zoo.errors import TooFewPairsError
from zoo.evaluation.graded import compare_graded, evaluate_graded, spearman
from zoo.evaluation.pairs import evaluate_pairs
from zoo.tables.pairs import Pair

CALM = {"progress": False, "trackers": (), "report": False}
ADJECTIVES = ("red", "blue", "green", "black", "small", "old", "new", "fast")
NOUNS = ("cat", "dog", "cow", "hen", "fox")


def sentences(count: int = 40, **facts) -> list[Pair]:
    """Pairs that a model with random weights finds better than chance: they share words."""
    made = [(a, n) for a in ADJECTIVES for n in NOUNS][:count]
    return [Pair(Item(text=f"what of the {a} {n}"), Item(text=f"{n} {a} it runs"), **facts) for a, n in made]


def rows(folder, name: str = "evaluations.jsonl") -> list[dict]:
    """Of the steps that were done."""
    return [row for row in map(json.loads, (folder / name).open()) if row["step"]]


def scores(folder) -> dict:
    return json.loads((folder / "scores.json").read_text())


# ------------------------------------------------------------------------------------------------- nothing is moved


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        # Statistics of batches, averaged weights, GradCache, a tower whose vectors are cached.
        ("mini-test", {"ema": 0.9, "micro_batch": 3, "freeze": ("text",)}),
        ("text-test", {"lora": recipes.Lora(rank=2), "negatives": 0}),  # dropout, adapters that are not merged
    ],
    ids=["average", "adapters"],
)
def test_a_run_learns_the_same_bits_with_evaluations_and_without(model, changes, tmp_path):
    pairs = shape_pairs() if model == "mini-test" else text_pairs(12)
    held_out = [replace(p, group="") for p in (shape_pairs(("red",)) if model == "mini-test" else sentences(6))]
    recipe = quick(steps=3, keep="last", keep_leaks=True, **changes)
    without = train(fresh(model), pairs, recipe, tmp_path / "without", **CALM)
    options = {"held_out": held_out, **CALM}
    with_them = train(fresh(model), pairs, replace(recipe, evaluate_every=1), tmp_path / "with", **options)
    assert same_weights(without, with_them)
    curves = [
        [(r["loss"], r["grad_norm"]) for r in rows(tmp_path / name, "metrics.jsonl")] for name in ("without", "with")
    ]
    assert curves[0] == curves[1]
    found = rows(tmp_path / "with")
    assert [row["step"] for row in found] == [1, 2, 3]
    # What is ranked during the run is what the run would end with: averaged weights, adapters in place.
    after = deciding(Scores(evaluate(with_them, held_out)), False)[1]
    assert found[-1]["figure"] == pytest.approx(after, abs=1e-6)


def evaluate(model, pairs):
    return evaluate_pairs(model, [p.query for p in pairs], [p.positive for p in pairs], [p.group for p in pairs])


def test_held_out_items_are_embedded_as_encode_stream_does(monkeypatch):
    """In windows, with what was read kept, a broken image in its place, and half as much at a time where memory ends."""
    monkeypatch.setattr("zoo.encoders.prefetch._FIRST_WINDOW", 64)
    run = Run(fresh(), quick(freeze=("text",)), build_loss("infonce"))
    items = [item for pair in shape_pairs() for item in (pair.query, pair.positive)]
    items[6] = Item(image=b"\xff\xd8\xff\xe0 cut off")
    encode, passes, embed = HeldOutEncoder(run), [], run.embed

    def small(tower, batch):
        passes.append(tower)
        if len(next(iter(batch.values()))) > 2 and len(passes) < 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return embed(tower, batch)

    monkeypatch.setattr(run, "embed", small)
    modes = [module.training for module in run.model.modules()]
    expected = list(run.model.encode_stream(items, prompt="so "))
    for again in (False, True):
        passes.clear()
        found = list(encode(items, prompt="so "))
        assert [one.index for one in found] == list(range(len(items)))
        for one, other in zip(found, expected, strict=True):
            if other.error is not None:
                assert (one.vector, str(one.error)) == (None, str(other.error))
            else:
                torch.testing.assert_close(one.vector, other.vector, atol=1e-5, rtol=1e-4)
        assert (1 in passes) != again  # texts are known, as their tower stands still
    assert modes == [module.training for module in run.model.modules()]


# ------------------------------------------------------------------------------------------------- best and last


@pytest.fixture(scope="module")
def falling(tmp_path_factory):
    """A run that first learns and then is thrown out of its valley, evaluated at every step; all checkpoints kept."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("falling") / "run"
    recipe = quick(steps=5, lr=1.0, warmup=4.0, schedule="constant", checkpoint_every=1, evaluate_every=1, batch_size=8)
    with pytest.MonkeyPatch.context() as patch:
        without_plots(patch)
        train(fresh("text-test"), text_pairs(24), recipe, folder, held_out=sentences(), progress=False, trackers=())
    return folder


def test_the_best_checkpoint_is_the_model(falling):
    found = rows(falling)
    best = max(found, key=lambda row: (row["figure"], row["step"]))
    assert best["step"] < 5
    weights = last_checkpoint_at(falling, best["step"])
    model = load_model(falling)
    for name, value in model.state_dict().items():
        if name in weights:
            assert torch.equal(value, weights[name]), name
    kept = scores(falling)["kept"]["quick"]
    assert (kept["step"], kept["steps"], kept["early"]) == (best["step"], 5, False)
    assert kept["told"].startswith(f"kept: the best of 5 evaluations, step {best['step']} of 5 ({RETRIEVAL}: ")
    assert deciding(Scores(evaluate(model, sentences())), False)[1] == pytest.approx(best["figure"], abs=1e-6)


def judge_before(folder) -> float:
    """What is ranked before the first step is what is ranked before the run."""
    (row,) = (row for row in map(json.loads, (folder / "evaluations.jsonl").open()) if not row["step"])
    assert row["figure"] == pytest.approx(scores(folder)["verdict"]["before"], abs=1e-6)
    return row["figure"]


def last_checkpoint_at(folder, step: int) -> dict:
    (path,) = (path for path in (folder / "checkpoints").iterdir() if step_of(path) == step)
    alone = folder / f"alone-{step}"
    alone.mkdir(exist_ok=True)
    if not (alone / path.name).exists():
        shutil.copytree(path, alone / path.name)
    return last_checkpoint(alone)["model"]


def test_its_curve_stands_in_the_report_and_its_choice_on_the_card(falling):
    page, card = (falling / "report.html").read_text(), (falling / "README.md").read_text()
    assert f"<th>step</th><th class=n>{RETRIEVAL}</th>" in page
    assert f"<tr><td>0</td><td class=n>{100 * judge_before(falling):.1f}</td></tr>" in page
    for text in (page, card, (falling / "report.md").read_text()):
        assert "ept: the best of 5 evaluations" in text
        assert scores(falling)["verdict"]["text"] in text
        assert "The held-out pairs also chose the checkpoint, so its figures flatter a little" in text


def test_a_run_killed_between_evaluation_and_checkpoint_keeps_its_best(falling, tmp_path, monkeypatch):
    """The best weights were written and the checkpoint was not: the resumed run has the evaluation again."""
    from zoo.training import trainer

    recipe = replace(Recipe.from_dict(json.loads((falling / "recipe.json").read_text())["stages"][0]))
    options = {"held_out": sentences(), **CALM}
    save = trainer.save_checkpoint

    def killed(folder, step, state, **more):
        if step == 3:
            raise KeyboardInterrupt
        return save(folder, step, state, **more)

    monkeypatch.setattr(trainer, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        train(fresh("text-test"), text_pairs(24), recipe, tmp_path, **options)
    monkeypatch.undo()
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    resumed = train(fresh("text-test"), text_pairs(24), recipe, tmp_path, resume=True, **options)
    assert rows(tmp_path) == rows(falling)
    assert same_weights(resumed, load_model(falling))
    assert scores(tmp_path)["kept"] == scores(falling)["kept"]
    assert len(list((tmp_path / "best").iterdir())) == 1


def test_the_last_on_demand_and_a_run_that_made_it_worse_says_so_in_red(falling, tmp_path, capsys, monkeypatch):
    """`finish` over the same checkpoints, with the last kept: a model that lost what it could."""
    import shutil

    shutil.copytree(falling, tmp_path / "run", ignore=shutil.ignore_patterns("best", "alone-*", "model.safetensors"))
    facts = json.loads((tmp_path / "run" / "recipe.json").read_text())
    facts["stages"][0]["keep"] = "last"
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(facts))
    monkeypatch.setenv("FORCE_COLOR", "1")
    without_plots(monkeypatch)
    finish(fresh("text-test"), text_pairs(24), tmp_path / "run", held_out=sentences(), progress=True)
    said = capsys.readouterr().out
    verdict = scores(tmp_path / "run")["verdict"]
    assert verdict["kind"] == "worse"
    assert verdict["difference"]["high"] < 0
    assert f"\x1b[1;31m{verdict['text']}" in said  # bold red
    assert "kept: the last checkpoint, step 5; the best of 5 evaluations was at step" in said
    for name in ("query → target", "recall@1", "recall@5", "recall@10", "before", "after", "nDCG@10, both ways"):
        assert name in said
    assert '<p class="verdict worse">Worse: ' in (tmp_path / "run" / "report.html").read_text()
    for text in ((tmp_path / "run" / name).read_text() for name in ("report.md", "README.md")):
        assert "**Worse: nDCG@10, mean of both ways, fell from" in text
    weights = last_checkpoint_at(tmp_path / "run", 5)
    assert all(torch.equal(v, weights[n]) for n, v in load_model(tmp_path / "run").state_dict().items() if n in weights)


def test_early_stopping_and_of_equal_checkpoints_the_later(tmp_path, capsys):
    """At a rate of nothing all figures are equal: none is better than the first, and the later of equals is kept."""
    recipe = quick(steps=9, lr=1e-30, evaluate_every=1, patience=2, checkpoint_every=100, keep_checkpoints="last")
    options = {"held_out": sentences(), "trackers": (), "report": False}
    train(fresh("text-test"), text_pairs(12), recipe, tmp_path, **options)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    told = scores(tmp_path)["kept"]["quick"]["told"]
    assert told.startswith("stopped early at step 3 of 9: 2 evaluations without a better one; kept: the best of 3")
    assert "step 3 of 3" in told
    assert told in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]
    # Resumed it is at its end; with more patience it goes on.
    train(fresh("text-test"), text_pairs(12), replace(recipe, patience=4), tmp_path, resume=True, **options)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5]


def test_two_stages_are_judged_on_the_same_pairs_and_each_ends_as_its_best(tmp_path, monkeypatch):
    without_plots(monkeypatch)
    pairs = [*text_pairs(8, 0, "a"), *text_pairs(8, 0, "b")]
    stage = quick(steps=3, lr=1.0, schedule="constant", warmup=2, evaluate_every=1)
    stages = (replace(stage, name="first", datasets=("a",)), replace(stage, name="second", lr=1e-30))
    train(fresh("text-test"), pairs, stages, tmp_path, held_out=sentences(), progress=False, trackers=())
    first, second = (rows(tmp_path / f"stage-{n}-{name}") for n, name in ((1, "first"), (2, "second")))
    # The second learns nothing: it begins and stays where the first was best.
    assert {row["figure"] for row in second} == {max(row["figure"] for row in first)}
    assert "first: kept: the best of 3" in (tmp_path / "report.md").read_text().replace("First: ", "first: ")


# ------------------------------------------------------------------------------------------------- when


@pytest.mark.parametrize("name", RECIPES)
def test_by_default_evaluations_are_under_a_twentieth_of_the_work(name):
    for recipe in recipes_of(name):
        for steps in (1, 3, 20, 1_000, 100_000):
            for count in (0, 1, 12, 300, 1_000, 50_000):
                for partly in (False, True):
                    found = plan(replace(recipe, steps=steps), count, partly=partly)
                    every, pairs = found
                    times = 1 + len({*range(every, steps + 1, every), steps}) if every else 0
                    assert times * pairs <= 0.05 * (2 if partly else 3) * recipe.batch_size * steps
                    assert times <= 21
                    assert times not in (1, 2)
                    assert min(30, count) <= pairs <= min(1_000, count)
    assert plan(quick(steps=1_000, batch_size=64), 100) == (50, 100)
    # Three epochs of 400 pairs, and a quarter as many held out.
    assert plan(quick(steps=75, batch_size=16), 100) == (25, 31)


def recipes_of(name: str):
    made = RECIPES[name]()
    return (made,) if isinstance(made, Recipe) else made


def test_one_says_when():
    recipe = quick(steps=100)
    assert plan(replace(recipe, evaluate_every=7), 10**6) == (7, 1_000)
    assert plan(replace(recipe, evaluate_every=0), 5) == (0, 5)
    assert plan(replace(recipe, evaluate_minutes=5.0), 5) == (0, 5)  # by the clock alone
    for changes, said in (
        ({"evaluate_every": -1}, "evaluate_every must be a whole number from 0"),
        ({"patience": -2}, "patience must be a whole number from 0"),
        ({"evaluate_minutes": 0}, "evaluate_minutes must be above 0"),
        ({"keep": "worst"}, "keep must be best or last, not 'worst'"),
        ({"keep_checkpoints": "some"}, "keep_checkpoints must be none or last or all"),
    ):
        with pytest.raises(RecipeError, match=said):
            replace(recipe, **changes)


@pytest.mark.parametrize("changes", [{"patience": 3}, {"evaluate_every": 5}, {"evaluate_minutes": 5.0}])
def test_what_needs_held_out_pairs_says_so_before_the_first_step(changes, tmp_path):
    with pytest.raises(
        PairsError, match=f"{next(iter(changes))}=.* needs held-out pairs and there are none; hold some"
    ):
        train(fresh("text-test"), text_pairs(12), quick(**changes), tmp_path, **CALM)
    assert not (tmp_path / "checkpoints").exists()


def test_patience_without_evaluations_says_which_to_ask_for(tmp_path):
    with pytest.raises(PairsError, match="--evaluate-every"):
        train(fresh("text-test"), text_pairs(12), quick(patience=1), tmp_path, held_out=sentences(), **CALM)


@pytest.mark.parametrize(("steps", "points"), [(1, 1), (3, 3), (19, 19), (40, 20), (199, 23), (1_000, 100)])
def test_a_curve_has_twenty_points_or_all_steps(steps, points):
    recipe = Recipe(steps=steps)
    assert len({*range(recipe.log_steps, steps + 1, recipe.log_steps), steps}) == points


def test_a_run_of_three_steps_has_a_curve_and_evaluations_by_the_clock(tmp_path, monkeypatch):
    without_plots(monkeypatch)
    recipe = quick(steps=3, log_every=10, evaluate_minutes=1e-9)
    options = {"held_out": sentences(6), "progress": False, "trackers": ()}
    train(fresh("text-test"), text_pairs(12), recipe, tmp_path, **options)
    assert [row["step"] for row in rows(tmp_path, "metrics.jsonl")] == [1, 2, 3]
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    assert 0 < json.loads((tmp_path / "timing.json").read_text())["evaluating"] < 1
    page = (tmp_path / "report.html").read_text()
    assert "<td>Loss</td>" in page
    assert "<th>step</th><th class=n>nDCG@10, mean of both ways</th>" in page


def test_the_last_step_is_evaluated_at_any_rhythm(tmp_path):
    recipe = quick(steps=3, evaluate_every=2)
    train(fresh("text-test"), text_pairs(12), recipe, tmp_path, held_out=sentences(6), **CALM)
    assert [row["step"] for row in rows(tmp_path)] == [2, 3]


def test_evaluations_are_drawn():
    pytest.importorskip("matplotlib")
    found = [{"step": step, "figure": step / 10, "measure": RETRIEVAL} for step in (0, 4, 8)]
    (block,) = sections._judged(found)
    assert block.plots[0].alt == "from 0 at step 0 to 80 at step 8; lowest 0, highest 80"
    assert sections._judged(found[:1]) == []


# ------------------------------------------------------------------------------------------------- what may be said


@pytest.fixture(scope="module")
def two():
    """Held-out pairs, a model that was not trained, and one whose vectors are noise."""
    pairs, model = sentences(), fresh("text-test").eval()
    before = Scores(evaluate(model, pairs))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return pairs, before, Scores(evaluate(model, pairs))


def test_the_verdict_follows_the_interval_of_the_difference(two):
    _, before, after = two
    fallen, risen, same = judge(before, after, False), judge(after, before, False), judge(before, before, False)
    assert (fallen.kind, risen.kind, same.kind) == ("worse", "better", "no clear change")
    assert fallen.difference.value == pytest.approx(fallen.after - fallen.before)
    assert fallen.difference.low < fallen.difference.value < fallen.difference.high < 0 < risen.difference.low
    assert risen.text.startswith(
        f"Better: {RETRIEVAL}, rose from {100 * risen.before:.1f} to {100 * risen.after:.1f} (+"
    )
    assert judge(Scores(), Scores(), False).text.startswith(
        "Nothing was measured: no pairs were held out; hold some out"
    )
    # A change within its interval is none, up or down.
    near = fresh("text-test").eval()
    with torch.no_grad():
        for parameter in near.parameters():
            parameter.add_(0.02 * parameter.std(correction=0) * torch.randn_like(parameter))
    near = Scores(evaluate(near, two[0]))
    little = [judge(before, near, False), judge(near, before, False)]
    assert [verdict.kind for verdict in little] == 2 * ["no clear change"]
    assert min(verdict.difference.value for verdict in little) < 0
    # The interval of the mean is never narrower than what both ways say.
    ways = [line for line in lines(before, after) if line.measure == "nDCG@10, both ways"]
    assert ways[0].difference == fallen.difference


@pytest.mark.parametrize(("count", "kind"), [(29, "too few"), (30, "no clear change")])
def test_with_few_held_out_pairs_nothing_can_be_said(count, kind, capsys, tmp_path, monkeypatch):
    without_plots(monkeypatch)
    found = Scores(evaluate(fresh("text-test").eval(), sentences(count)))
    verdict = judge(found, found, False)
    assert verdict.kind == kind
    show(lines(found, found), verdict, "")
    said = capsys.readouterr().out
    assert ("Nothing can be said: 29 held-out queries are too few (30 at least)" in said) == (kind == "too few")
    facts = {name: found.retrieval.to_dict() for name in ("before", "after")}
    (tmp_path / "scores.json").write_text(json.dumps({**facts, "verdict": verdict._asdict()}))
    page = write_report(tmp_path).read_text()
    assert ("Nothing can be said" in page) == (kind == "too few")
    assert ("did not clearly change" in page) == (kind != "too few")


def test_queries_count_not_pairs(two):
    """Forty captions of five images are five queries one way."""
    pairs = [replace(p, query=Item(text=f"number {i % 5}")) for i, p in enumerate(two[0])]
    found = Scores(evaluate(fresh("text-test").eval(), pairs))
    assert judge(found, found, False).text.startswith("Nothing can be said: 5 held-out queries")


# ------------------------------------------------------------------------------------------------- grades


def test_spearman_is_scipys_with_ties():
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 5, 40) / 4, draw.normal(size=40).round(1)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert spearman(np.ones(4), np.arange(4.0)) == 0


def test_graded_pairs_are_compared_by_grade_and_only_right_ones_are_ranked(tmp_path, monkeypatch):
    without_plots(monkeypatch)
    graded = [replace(p, score=(0.0, 0.4, 0.5, 1.0)[i % 4]) for i, p in enumerate(sentences())]
    train(fresh("text-test"), graded, quick(loss="cosent", holdout=0.9, evaluate_every=3), tmp_path, **CALM)
    found = scores(tmp_path)
    held = found["graded before"]
    right = sum(grade >= 0.5 for grade in held["grades"])
    assert 0 < found["before"]["pairs"] == right < len(held["grades"])
    assert found["verdict"]["measure"] == GRADED == rows(tmp_path)[0]["measure"]
    assert "figures" in rows(tmp_path)[0]
    assert "spearman" in rows(tmp_path)[0]["figures"]
    write_report(tmp_path)
    assert "Spearman" in (tmp_path / "report.md").read_text()
    assert "type: held-out-graded-pairs" in (tmp_path / "README.md").read_text()


def test_graded_scores_by_hand():
    model, pairs = fresh("text-test").eval(), sentences(8)
    queries, targets = [p.query for p in pairs], [p.positive for p in pairs]
    grades = [0.1 * i for i in range(8)]
    found = evaluate_graded(model, queries, targets, grades, prompts=("", ""))
    cosines = (model.encode(queries, prompt="") * model.encode(targets, prompt="")).sum(1)
    assert found.similarity == pytest.approx(cosines.double().numpy(), abs=1e-6)
    assert type(found).from_dict(json.loads(json.dumps(found.to_dict()))).spearman() == found.spearman()
    change = compare_graded(found, found)
    assert (change.value, change.low, change.high) == (0, 0, 0)
    with pytest.raises(TooFewPairsError, match="have one grade"):
        evaluate_graded(model, queries, targets, [1.0] * 8)


def test_grades_decide_where_the_run_is_judged_by_them_and_nothing_is_compared_with_rankings(two):
    pairs, before, _ = two
    queries, targets = [p.query for p in pairs], [p.positive for p in pairs]
    graded = evaluate_graded(fresh("text-test").eval(), queries, targets, [i / len(pairs) for i in range(len(pairs))])
    both = Scores(before.retrieval, graded)
    assert [deciding(both, by_grade)[0] for by_grade in (False, True)] == [RETRIEVAL, GRADED]
    assert deciding(before, True)[0] == RETRIEVAL
    verdict = judge(before, Scores(None, graded), False)
    assert (verdict.kind, verdict.difference) == ("not measured", None)
    assert "not over the same pairs" in verdict.text


def test_pairs_of_one_grade_tell_no_order(tmp_path):
    one = [replace(pair, score=1.0) for pair in sentences(4)]
    scoring = Scoring(tmp_path, fresh("text-test").eval(), one, ("", ""), resume=False, progress=False, graded=True)
    scoring.before()
    assert (len(scoring), scoring.graded, scoring.scores("before").graded) == (4, [], None)
    assert scoring.score("before").pairs == 4


def test_a_model_that_gives_no_vectors_any_more_still_ends_with_a_sentence(tmp_path):
    model = fresh("text-test").eval()
    scoring = Scoring(tmp_path, model, sentences(), ("", ""), resume=False, progress=False)
    scoring.before()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    again = Scoring(tmp_path, model, sentences(), ("", ""), resume=True, progress=False)
    again.before()  # a resumed run has the figures of the model that the run began with
    assert again.scores("before").retrieval.to_dict() == scoring.scores("before").retrieval.to_dict()
    scoring.after()
    scoring.conclude()
    remove(tmp_path / "scores.json")
    assert scoring.verdict.kind == "not measured"
