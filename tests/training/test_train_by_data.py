"""One loss for each kind of data in a stage: whose batch it is, whose columns are read, and what is refused before any work."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from zoo.training import recipes, train
from zoo.training.dry_run import rehearse
from zoo.training.errors import LossError, RecipeError, SamplerError, UnreadColumnError
from zoo.training.losses import build_loss
from zoo.training.losses.by_data import ByData, loss_of
from zoo.training.parts import part_numbers, parts_of, stage_loss
from zoo.training.recipe import Recipe
from zoo.training.run import Run
from zoo.training.samplers import build_sampler
from zoo.training.samplers.base import describe_samplers
from zoo.training.scoring import by_grade
from zoo.training.temperatures import begin, kept
from zoo.training.trainer import make_feed
from zoo.training.verdict import GRADED

from tests.training.train_support import fresh, quick, remove, same_weights, shape_pairs, text_pairs
from zoo import load_model
from zoo.cli import main
from zoo.errors import TableError, ZooError
from zoo.inputs.item import Item
from zoo.tables import open_pairs, open_sources
from zoo.tables.options import Options
from zoo.tables.pairs import Pair

CALM = {"progress": False, "trackers": (), "report": False}
LOSSES = (("sts*", "cosent(learn=True)"), ("classes", "infonce(temperature=0.1, symmetric=False)"))


def mixed() -> list[Pair]:
    """Questions with hard negatives, graded pairs, and texts with a label."""
    graded = [replace(pair, score=(i % 5) / 4) for i, pair in enumerate(text_pairs(12, dataset="sts-b"))]
    classes = [
        Pair(Item(text=f"{name} number {i}"), Item(text=f"{name} again {i}"), group=name, dataset="classes")
        for i in range(6)
        for name in ("fruit", "tool")
    ]
    return [*text_pairs(12, 1, "retrieval"), *graded, *classes]


def by_data(**changes) -> Recipe:
    options = {"loss": "infonce(symmetric=False)", "losses": LOSSES, "sampler": "homogeneous", "batch_size": 6}
    return quick(**{**options, **changes})


def still(name: str = "text-test"):
    """A model in float64 without dropout."""
    model = fresh(name).double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def test_a_batch_has_the_gradient_of_the_loss_of_its_data_alone(tmp_path):
    pairs, recipe = mixed(), by_data(clip=1e9)
    model = still()
    run = Run(model, recipe, loss_of(recipe).double())
    feed = make_feed(model, pairs, recipe, tmp_path, progress=False)
    met = set()
    for step in range(6):
        batch = feed.batch(step)
        (dataset,) = {pairs[row].dataset for row in batch.rows}
        value = run._gradients(batch)
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        written = {"retrieval": recipe.loss, "sts-b": LOSSES[0][1], "classes": LOSSES[1][1]}[dataset]
        expected, grads = by_hand(model, [pairs[row] for row in batch.rows], build_loss(written).double())
        assert value == pytest.approx(expected, rel=1e-9), dataset
        assert found.keys() == grads.keys()
        for name, grad in grads.items():
            torch.testing.assert_close(found[name], grad, atol=1e-10, rtol=1e-6, msg=f"{dataset} {name}")
        touched = [part.temperature.log_scale.grad is not None for part in run.loss.parts]
        assert touched == [dataset == "retrieval", dataset == "sts-b", dataset == "classes"]
        met.add(dataset)
    assert len(met) == 3


def by_hand(model, rows: list[Pair], loss) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of some pairs in one forward pass; of classes the logits are masked by label."""
    tower = model.towers[0]

    def vectors(items: list[Item], role: str) -> torch.Tensor:
        prefix = model.prompt_text(**model.for_role(role))
        encoder = tower.encoder
        return tower(encoder.collate([encoder.prepare_item(encoder.prompted(item, prefix)) for item in items]))

    model.zero_grad()
    queries = vectors([row.query for row in rows], "query")
    targets = vectors([row.positive for row in rows] + [n for row in rows for n in row.negatives], "document")
    if rows[0].group:
        logits = queries @ targets.T * loss.scale
        same = torch.tensor([[a.group == b.group and a is not b for b in rows] for a in rows])
        value = nn.functional.cross_entropy(logits.masked_fill(same, -torch.inf), torch.arange(len(rows)))
    else:
        graded = {"scores": torch.tensor([row.score for row in rows])} if rows[0].score is not None else {}
        value = loss(queries, targets, **graded)
    value.backward()
    return float(value.detach()), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_run_says_where_each_temperature_begins_and_goes_on_bit_by_bit(tmp_path, capsys):
    recipe = by_data(checkpoint_every=3, lr=1e-2)
    whole = train(fresh("text-test"), mixed(), recipe, tmp_path / "whole", **{**CALM, "progress": True})
    said = (
        "*: temperature 0.07, the loss's default; sts*: temperature 0.05, the loss's default; classes: temperature 0.1"
    )
    assert said in capsys.readouterr().out
    train(fresh("text-test"), mixed(), recipe, tmp_path / "stopped", **CALM)
    remove(tmp_path / "stopped" / "checkpoints" / "step-00000006")
    again = train(fresh("text-test"), mixed(), recipe, tmp_path / "stopped", resume=True, **CALM)
    assert same_weights(whole, again)
    assert again.logit_scale == load_model(tmp_path / "whole").logit_scale
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").open()]
    shown = {(line["of"], round(line["temperature"], 2)) for line in lines}
    assert shown <= {("*", 0.07), ("sts*", 0.05), ("classes", 0.1)}
    assert len(shown) > 1  # each step that of its own loss
    assert Recipe.from_dict(json.loads((tmp_path / "whole" / "recipe.json").read_text())["stages"][0]).losses == LOSSES


@pytest.mark.parametrize(
    "sampler", ["shuffled", "no_duplicates", "mixed", "interleaved(sub_batch=3)", "homogeneous(exchange=0.5)"]
)
def test_samplers_that_mix_are_refused_before_any_work(sampler, tmp_path):
    with pytest.raises(RecipeError, match=r"batches of the sampler .* hold rows of several losses.*homogeneous"):
        train(fresh("text-test"), mixed(), by_data(sampler=sampler), tmp_path / "run", **CALM)
    assert not (tmp_path / "run").exists()


def test_every_sampler_is_either_refused_or_keeps_them_apart(tmp_path):
    pairs, kept = mixed(), set()
    for name, _ in describe_samplers():
        try:
            rehearse(fresh("text-test"), pairs, by_data(sampler=name))
        except (RecipeError, SamplerError):
            continue
        sampler = build_sampler(name, pairs=pairs, batch_size=6, seed=0, steps=6)
        for step in range(6):
            assert len({pairs[row].dataset for row in sampler.rows(step)}) == 1, name
        kept.add(name)
    assert "homogeneous" in kept


def test_data_sets_of_one_loss_may_be_mixed(tmp_path):
    pairs = [*text_pairs(6, 0, "a"), *text_pairs(6, 0, "b")]
    recipe = quick(loss="cosent", losses=(("[ab]", "infonce"),), sampler="shuffled")
    assert [part.loss for part in parts_of(recipe, pairs)] == ["infonce"]
    train(fresh("text-test"), pairs, replace(recipe, steps=1), tmp_path, **CALM)


@pytest.mark.parametrize(
    ("losses", "error", "says"),
    [
        ((("stss*", "cosent"),), RecipeError, r"'stss\*', and no data set is called so.*sts-b"),
        ((*LOSSES, ("sts-b", "cosent")), RecipeError, "cosent for 'sts-b' is left without data.*the first counts"),
        ((("sts*", "cosine"),), LossError, "no loss is called 'cosine'"),
        ((("classes", "cosent"), ("sts*", "cosent")), ZooError, "cosent needs scores"),
        ((("classes", "infonce"),), UnreadColumnError, r"the pairs have a score .*does not read it"),
    ],
)
def test_what_cannot_be_followed_is_said_before_any_work(losses, error, says, tmp_path):
    with pytest.raises(error, match=says):
        train(fresh("text-test"), mixed(), by_data(losses=losses), tmp_path / "run", **CALM)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_no_data_have_begins_nowhere_and_is_not_the_models():
    pairs = [*text_pairs(6, 0, "a"), *text_pairs(6, 0, "b")]
    recipe = quick(losses=(("a", "ranking"), ("b", "infonce(temperature=0.2)")), sampler="homogeneous", batch_size=4)
    loss, model = loss_of(recipe, part_numbers(recipe, pairs)), fresh("text-test")
    assert begin(loss, model) == "b: temperature 0.2, as named"
    assert kept(loss, model).temperature == pytest.approx(0.2)
    assert kept(loss_of(recipe), model).temperature == pytest.approx(0.07)
    assert "*" not in rehearse(model, pairs, recipe)["quick: begins with"]


def test_a_loss_that_no_data_have_neither_judges_nor_cuts(tmp_path):
    pairs = [pair for pair in mixed() if pair.score is not None]
    recipe = by_data(loss="matryoshka(dims=[8]):infonce", losses=LOSSES[:1], steps=1, batch_size=4, holdout=4)
    model = fresh("text-test")
    dims = model.spec.dims
    train(model, pairs, recipe, tmp_path, **CALM)
    assert load_model(tmp_path).spec.dims == dims != (8,)
    assert json.loads((tmp_path / "scores.json").read_text())["verdict"]["measure"] == GRADED


@pytest.mark.parametrize(
    ("default", "named", "data", "graded"),
    [
        ("infonce", "cosent", {"sts"}, True),  # of the default no data are left
        ("infonce", "cosent", {"sts", "others"}, False),
        ("cosent", "infonce", {"sts", "others"}, False),
        ("cosent", "infonce", {"sts"}, False),
        ("cosent", "matryoshka(dims=[8]):angle", {"sts", "others"}, True),
    ],
)
def test_grades_judge_where_all_losses_in_use_read_them(default, named, data, graded):
    pairs = [pair for name in sorted(data) for pair in text_pairs(2, dataset=name)]
    recipe = quick(loss=default, losses=(("sts", named),), sampler="homogeneous")
    assert by_grade(stage_loss(recipe, pairs)) is graded
    assert by_grade(build_loss(named)) is ("infonce" not in named)


def test_a_model_is_trained_that_every_loss_can_compare():
    """By dot product one of them cannot, so that all of them together cannot."""
    assert build_loss("infonce").similarities == {"cosine", "dot"}
    for default, named in (("infonce", "hardness"), ("hardness", "infonce")):
        assert ByData(default, (("sts", named),)).similarities == {"cosine"}
        assert ByData(default, (("sts", named),), numbers=[default == "hardness"]).similarities == {"cosine", "dot"}


def test_what_is_invalid_in_the_recipe():
    for losses in (("sts*", "cosent"), (("sts*",),), (("sts*", 3),), (("", "cosent"),)):
        with pytest.raises(RecipeError, match="losses are written"):
            quick(losses=losses)
    with pytest.raises(ValueError, match="same layers"):
        ByData("infonce", (("a", "matryoshka_2d(dims=[16, 8]):infonce"),))
    with pytest.raises(RecipeError, match="loss of your own"):
        train(fresh("text-test"), mixed(), by_data(), "nowhere", loss=build_loss("infonce"), **CALM)


def write_table(path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_columns_are_read_by_the_loss_of_their_data_set(tmp_path):
    rows = [{"query": p.query.text, "positive": p.positive.text} for p in text_pairs(8)]
    graded = [row | {"score": i / 8} for i, row in enumerate(rows)]
    write_table(tmp_path / "plain.jsonl", rows)
    write_table(tmp_path / "graded.jsonl", graded)
    write_table(tmp_path / "both.jsonl", [row | {"dataset": name} for name in ("sts", "other") for row in graded])
    recipe = quick(losses=(("sts*", "cosent"),), sampler="homogeneous", steps=2, batch_size=4)
    sources = [f"retrieval={tmp_path / 'plain.jsonl'}", f"sts={tmp_path / 'graded.jsonl'}"]
    train(fresh("text-test"), open_sources(sources, Options()), recipe, tmp_path / "run", **CALM)
    refused = r"column score grades the pairs.*the loss infonce.*does not read it"
    for pairs, stage in (
        (open_sources(sources, Options()), replace(recipe, losses=())),
        (open_sources(sources, Options()), replace(recipe, losses=(("retrieval", "infonce(symmetric=False)"),))),
        (open_pairs(tmp_path / "both.jsonl"), recipe),  # graded rows of a data set whose loss reads no grades
    ):
        with pytest.raises(UnreadColumnError, match=refused):
            train(fresh("text-test"), pairs, stage, tmp_path / "other", **CALM)


def test_the_command_reads_losses_by_data_set(capsys):
    losses = ["--loss", "infonce(temperature=0.05, symmetric=False)", "--loss", "sts*=cosent(temperature=0.02)"]
    assert main(["train", *losses, "--loss", "c=matryoshka(dims=[8]):infonce", "--show"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)
    named = [["sts*", "cosent(temperature=0.02)"], ["c", "matryoshka(dims=[8]):infonce"]]
    assert (stage["loss"], stage["losses"]) == (losses[1], named)
    assert main(["train", "--loss", "infonce", "--loss", "sigmoid", "--show"]) == 2
    assert "--loss infonce and --loss sigmoid: give one" in capsys.readouterr().err


def test_columns_may_be_said_of_one_data_set_alone(tmp_path, capsys):
    rows = [{"query": p.query.text, "positive": p.positive.text} for p in text_pairs(4)]
    write_table(tmp_path / "a.jsonl", rows)
    write_table(tmp_path / "c.jsonl", [row | {"label": name} for row, name in zip(rows, "ffgg", strict=True)])
    sources = [f"retrieval={tmp_path / 'a.jsonl'}", f"classes={tmp_path / 'c.jsonl'}"]
    pairs = open_sources(sources, Options(columns={"classes:group": "label", "retrieval:positive": "positive"}))
    groups = {(pair.dataset, pair.group) for pair in map(pairs.__getitem__, range(len(pairs)))}
    assert groups == {("retrieval", ""), ("classes", "f"), ("classes", "g")}
    with pytest.raises(TableError, match=r"no data set is called 'class'; there are retrieval, classes"):
        open_sources(sources, Options(columns={"class:group": "label"}))
    with pytest.raises(TableError, match=r"a\.jsonl has no column label"):
        open_sources(sources, Options(columns={"group": "label"}))
    options = ["--model", "text-test", "--from-scratch", "--dry-run", "--batch-size", "4", "--holdout", "0"]
    assert main(["train", *sources, "--column", "classes:group=label", *options]) == 0
    assert "group" in capsys.readouterr().out


@pytest.mark.slow
def test_qzhous_stages_on_a_toy_set(tmp_path):
    kinds = {"sts-b": "graded-sts"}
    pairs = [replace(pair, dataset=kinds.get(pair.dataset, pair.dataset)) for pair in mixed()]
    stages = recipes.qzhou(steps=2, batch_size=6, warmup=1, holdout=0)
    model = train(fresh("text-test"), pairs, stages, tmp_path, **CALM)
    assert model.logit_scale.temperature == pytest.approx(0.02)
    assert [part.loss.partition("(")[0] for part in parts_of(stages[1], pairs)] == ["infonce", "cosent"]


@pytest.mark.slow
def test_images_and_texts_by_data_set(tmp_path):
    pairs = [*shape_pairs(("red",), dataset="photos"), *[replace(p, dataset="texts") for p in text_pairs(4)]]
    recipe = quick(losses=(("texts", "sigmoid"),), sampler="homogeneous", batch_size=4, steps=2)
    train(fresh("clip-test"), pairs, recipe, tmp_path, **CALM)
