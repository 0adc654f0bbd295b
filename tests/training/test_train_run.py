"""The trainer: any model, any pairs; overfits, resumes to the bit, keeps to the recipe, stops with a name and a reason."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from zoo.training import Pair, train
from zoo.training.errors import CheckpointMismatchError, DivergedError, PairsError, RecipeMismatchError
from zoo.training.logs import make_accelerator
from zoo.training.losses import build_loss
from zoo.training.losses.base import Loss
from zoo.training.recipe import Recipe
from zoo.training.run import Run
from zoo.training.skipped import Skipped
from zoo.training.trainer import finish, make_feed, planned

from tests.training.train_support import fresh, quick, remove, same_weights, shape_pairs, text_pairs
from zoo import load_model
from zoo.errors import MissingPackageError, TooManyBadItemsError
from zoo.inputs.image import load_pixels
from zoo.inputs.item import Item

CALM = {"progress": False, "trackers": (), "report": False}


def run_of(model, pairs, recipe, tmp_path):
    """A run and its feed, for single steps."""
    return Run(model, recipe, build_loss(recipe.loss)), make_feed(model, pairs, recipe, tmp_path, progress=False)


def without_dropout(model):
    """Chunks of another size draw other random numbers."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("mini-test", marks=pytest.mark.slow),
        pytest.param("siglip-test", marks=pytest.mark.slow),
        "clip-test",
        pytest.param("mobileclip-test", marks=pytest.mark.slow),
    ],
)
def test_pairs_of_images_and_text_are_overfitted(name, tmp_path):
    pairs = shape_pairs(("red", "blue"))
    recipe = quick(steps=90, batch_size=8, checkpoint_every=90, lr=1e-3 if name == "siglip-test" else 4e-3)
    train(fresh(name), pairs, recipe, tmp_path / "run", **CALM)
    model = load_model(tmp_path / "run")
    images, texts = model.encode([p.query for p in pairs]), model.encode([p.positive for p in pairs])
    assert model.similarity(images, texts).argmax(1).tolist() == list(range(8))


@pytest.mark.slow
def test_videos_and_text_are_overfitted(tmp_path):
    pairs = []
    for pair in shape_pairs(("red", "blue")):
        frame = load_pixels(pair.query.image)
        video = np.stack([frame, frame[::-1], frame[:, ::-1], frame])
        pairs.append(replace(pair, query=Item(video=video)))
    recipe = quick(steps=90, batch_size=8, checkpoint_every=90, lr=1e-3)
    train(fresh("xclip-test"), pairs, recipe, tmp_path / "run", **CALM)
    model = load_model(tmp_path / "run")
    videos, texts = model.encode([p.query for p in pairs]), model.encode([p.positive for p in pairs])
    assert model.similarity(videos, texts).argmax(1).tolist() == list(range(8))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text-test", "modernbert-test"])
def test_questions_and_answers_are_overfitted(name, tmp_path):
    pairs = text_pairs(8, negatives=1)
    steps = 200  # after half of them the order in which pairs come still tells which are learned
    loss = "infonce(symmetric=False)"
    recipe = quick(steps=steps, batch_size=8, checkpoint_every=steps, lr=1e-2, loss=loss, micro_batch=8)
    train(fresh(name), pairs, recipe, tmp_path / "run", **CALM)
    model = load_model(tmp_path / "run")
    queries, answers = (model.encode([getattr(p, side) for p in pairs]) for side in ("query", "positive"))
    assert model.similarity(queries, answers).argmax(1).tolist() == list(range(8))


class TestResume:
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({}, marks=pytest.mark.slow),  # all of it is in the next
            {"ema": 0.9, "micro_batch": 3, "schedule": "linear"},
            {"loss": "infonce(multi_positive=True)", "sampler": "no_duplicates"},
            {"freeze": ("text",)},
        ],
        ids=["plain", "ema-cached", "multi-positive", "locked"],
    )
    def test_gives_the_same_bits(self, changes, tmp_path):
        recipe, pairs = quick(**changes), shape_pairs()
        whole = train(fresh(), pairs, recipe, tmp_path / "whole", **CALM)
        # The stopped run: as a kill right after the fourth step would have left it.
        stopped = tmp_path / "stopped"
        train(fresh(), pairs, recipe, stopped, **CALM)
        for left in (stopped / "checkpoints" / "step-00000006", stopped / "model.safetensors"):
            remove(left)
        torch.manual_seed(99)  # whatever the new process happens to start with
        resumed = train(fresh(), pairs, recipe, stopped, resume=True, **CALM)
        assert same_weights(whole, resumed)
        curves = [[json.loads(line) for line in (f / "metrics.jsonl").open()] for f in (tmp_path / "whole", stopped)]
        kept = [[(entry["step"], entry["loss"], entry["grad_norm"]) for entry in curve] for curve in curves]
        assert kept[0] == kept[1]
        assert [entry[0] for entry in kept[0]] == [1, 2, 3, 4, 5, 6]

    def test_two_stages_go_on_in_the_second(self, tmp_path):
        pairs = [*text_pairs(8, 1, "retrieval-a"), *text_pairs(8, 1, "classes")]
        stages = (
            quick(name="first", datasets=("retrieval*",)),
            quick(name="second", loss="infonce(symmetric=False, in_batch=False)"),
        )
        whole = train(fresh("text-test"), pairs, stages, tmp_path / "whole", **CALM)
        stopped = tmp_path / "stopped"
        train(fresh("text-test"), pairs, stages, stopped, **CALM)
        remove(stopped / "stage-2-second" / "checkpoints" / "step-00000006")
        assert same_weights(whole, train(fresh("text-test"), pairs, stages, stopped, resume=True, **CALM))
        assert (tmp_path / "whole" / "stage-1-first" / "metrics.jsonl").is_file()

    def test_another_recipe_is_refused(self, tmp_path):
        recipe, pairs = quick(steps=1), shape_pairs()
        train(fresh(), pairs, recipe, tmp_path, **CALM)
        with pytest.raises(RecipeMismatchError, match="already holds a run"):
            train(fresh(), pairs, recipe, tmp_path, **CALM)
        with pytest.raises(RecipeMismatchError, match="other lr"):
            train(fresh(), pairs, replace(recipe, lr=1.0), tmp_path, resume=True, **CALM)

    def test_a_checkpoint_of_another_model_is_refused(self, tmp_path):
        train(fresh(), shape_pairs(), quick(), tmp_path, **CALM)
        with pytest.raises(CheckpointMismatchError, match="of another model than siglip-test: they differ in towers"):
            train(fresh("siglip-test"), shape_pairs(), quick(), tmp_path, resume=True, **CALM)

    def test_another_starting_point_is_refused(self, tmp_path):
        recipe = quick(freeze=("text",), cache=False)
        train(fresh(), shape_pairs(), recipe, tmp_path, **CALM)
        with pytest.raises(CheckpointMismatchError, match="weights that do not learn differ"):
            train(fresh(seed=4), shape_pairs(), recipe, tmp_path, resume=True, **CALM)

    def test_a_stopped_run_yields_its_model(self, tmp_path):
        train(fresh(), shape_pairs(), quick(ema=0.9), tmp_path, **CALM)
        expected = load_model(tmp_path).encode(["red bar", "circle"])
        for left in ("config.json", "model.safetensors"):
            (tmp_path / left).unlink()
        assert finish(fresh(), shape_pairs(), tmp_path, report=False) == 6
        torch.testing.assert_close(load_model(tmp_path).encode(["red bar", "circle"]), expected)
        with pytest.raises(RecipeMismatchError, match="no checkpoint"):
            finish(fresh(), shape_pairs(), tmp_path / "nowhere")


class TestWhatLearns:
    def test_a_frozen_tower_stays_and_its_vectors_are_cached(self, tmp_path, monkeypatch):
        monkeypatch.setattr("zoo.formats.writing._prove", lambda *_: None)  # saving compares vectors, too
        model, calls = fresh(), []
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.towers[1].register_forward_hook(lambda *_: calls.append(1))
        train(model, shape_pairs(), quick(freeze=("text",)), tmp_path, **CALM)
        for name, value in model.state_dict().items():
            moved = not torch.equal(before[name], value)
            assert moved == (name.startswith("towers.0") and "num_batches" in name) or name.startswith("towers.0"), name
        assert not torch.equal(before["towers.0.head.first.project.weight"], model.towers[0].head.first.project.weight)
        assert len(calls) <= 2  # once over all texts, not once a step

    def test_cached_vectors_change_nothing(self, tmp_path):
        runs = [
            train(fresh(), shape_pairs(), quick(freeze=("text",), cache=cache), tmp_path / str(cache), **CALM)
            for cache in (True, False)
        ]
        for (name, a), b in zip(runs[0].state_dict().items(), runs[1].state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=name)

    def test_still_norms_keep_their_statistics(self, tmp_path):
        for still in (True, False):
            model = fresh()
            norm = next(m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
            mean = norm.running_mean.clone()
            train(model, shape_pairs(), quick(steps=2, still_norms=still), tmp_path / str(still), **CALM)
            assert torch.equal(mean, norm.running_mean) == still

    def test_rates_by_tower(self, tmp_path):
        run, feed = run_of(fresh(), shape_pairs(), quick(rates=(("text", 0.01),), warmup=0, weight_decay=0.0), tmp_path)
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        run.advance(feed.batch(0))
        after = run.model.state_dict()
        moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
        # Adam's first step moves every weight that has a gradient by its rate.
        assert moved["towers.1.encoder.table.weight"] == pytest.approx(3e-5, rel=0.02)
        assert moved["towers.0.head.first.project.weight"] == pytest.approx(3e-3, rel=0.02)


class TestMemory:
    def test_the_micro_batch_shrinks_never_the_batch(self, tmp_path, monkeypatch):
        """A tower that cannot hold more than three items: the step must equal one with micro-batches of its own."""
        recipe, pairs = quick(batch_size=8), text_pairs(12)
        run, feed = run_of(without_dropout(fresh("text-test")), pairs, recipe, tmp_path)
        model_forward = type(run.model.towers[0]).forward
        seen = []

        def small(self, batch, *more):
            seen.append(len(batch["ids"]))
            if len(batch["ids"]) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return model_forward(self, batch, *more)

        monkeypatch.setattr(type(run.model.towers[0]), "forward", small)
        first = run.advance(feed.batch(0))
        assert run.micro_batch in (1, 2, 3)
        assert max(seen) > 3 >= seen[-1]
        monkeypatch.undo()
        whole, feed = run_of(without_dropout(fresh("text-test")), pairs, recipe, tmp_path)
        assert whole.advance(feed.batch(0)).loss == pytest.approx(first.loss, rel=1e-5)
        for a, b in zip(run.model.parameters(), whole.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)

    def test_not_even_one_item(self, tmp_path, monkeypatch):
        run, feed = run_of(fresh("text-test"), text_pairs(6), quick(), tmp_path)

        def never(*_):
            raise torch.OutOfMemoryError("out of memory")

        monkeypatch.setattr(type(run.model.towers[0]), "forward", never)
        with pytest.raises(torch.OutOfMemoryError, match="a single item does not fit"):
            run.advance(feed.batch(0))


class Broken(Loss):
    """NaN from the third step on."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, queries, targets, **extras):
        self.calls += 1
        return (queries * targets[: len(queries)]).sum() * (float("nan") if self.calls > 2 else 1.0)


class TestBadRuns:
    def test_nan_stops_and_the_batch_is_saved(self, tmp_path):
        with pytest.raises(DivergedError, match=r"nan at step 2; lower lr .* the batch is in .*bad_batch"):
            train(fresh(), shape_pairs(), quick(), tmp_path, loss=Broken(), **CALM)
        (kept,) = (tmp_path / "bad_batch").iterdir()
        facts = json.loads((kept / "pairs.json").read_text())
        assert facts["step"] == 2
        assert len(facts["pairs"]) == 6
        assert all(entry["positive"].split()[0] in ("red", "blue", "green") for entry in facts["pairs"])
        assert all(entry["from"].startswith("shapes, ") for entry in facts["pairs"])
        from zoo.training.checkpoint import last_checkpoint

        assert last_checkpoint(tmp_path / "bad_batch")["reads"][0].shape == (3, 32, 32)
        assert last_checkpoint(tmp_path / "checkpoints")["step"] == 2

    def test_broken_images_are_skipped_and_listed(self, tmp_path):
        pairs = shape_pairs()
        pairs[3] = replace(pairs[3], query=Item(image=b"\xff\xd8\xff\xe0 cut off"))
        train(fresh(), pairs, quick(max_bad=1), tmp_path / "some", **CALM)
        (line,) = (tmp_path / "some" / "skipped.jsonl").read_text().splitlines()
        assert json.loads(line)["pair"] == pairs[3].where
        with pytest.raises(TooManyBadItemsError, match="max_bad"):
            train(fresh(), pairs, quick(max_bad=0), tmp_path / "none", **CALM)

    def test_skipped_are_counted_once(self, tmp_path):
        skipped = Skipped(tmp_path / "s.jsonl", 1, 100)
        skipped.add("a", "x")
        skipped.add("a", "x")
        again = Skipped(tmp_path / "s.jsonl", 1, 100)
        again.add("a", "x")
        with pytest.raises(TooManyBadItemsError, match="2 pairs cannot be read and the recipe allows 1"):
            again.add("b", "y")

    @pytest.mark.parametrize(
        ("pairs", "changes", "message"),
        [
            ([], {}, "no pairs to train on"),
            (shape_pairs()[:1], {}, "one pair alone"),
            (shape_pairs(), {"batch_size": 64}, "a batch of 64 is larger than the 12 pairs; set batch_size=12"),
            (
                [replace(p, positive=Item(text="thing"), group="thing") for p in shape_pairs()],
                {},
                "all positives are the same",
            ),
            (shape_pairs(), {"negatives": 2}, "has no hard negative and the recipe asks for 2"),
            (shape_pairs(), {"loss": "cosent"}, "needs scores: give a column score"),
            (shape_pairs(), {"loss": "gist"}, "give a teacher"),
            (shape_pairs(), {"loss": "infonse"}, "no loss is called 'infonse'; nearest: infonce"),
            (shape_pairs(), {"sampler": "shufled"}, "shuffled"),
            (shape_pairs(), {"datasets": ("gone",)}, "no data set is called 'gone'"),
            (shape_pairs(), {"freeze": ("txt",)}, "no parameter 'txt'"),
            (shape_pairs(), {"freeze": ("text", "image")}, "frozen"),
            (shape_pairs(), {"augment": "twirl"}, "twirl"),
        ],
    )
    def test_is_told_before_any_work(self, pairs, changes, message, tmp_path):
        with pytest.raises(Exception, match=message) as caught:
            train(fresh(), pairs, quick(**changes), tmp_path, **CALM)
        assert type(caught.value).__module__.startswith(("zoo.", "builtins"))
        assert not (tmp_path / "checkpoints").exists()

    def test_a_model_that_does_not_read_the_pairs(self, tmp_path):
        with pytest.raises(Exception, match="text-test reads text, not image"):
            train(fresh("text-test"), shape_pairs(), quick(), tmp_path, **CALM)

    def test_trackers_are_named(self, tmp_path):
        with pytest.raises(MissingPackageError, match="no tracker is called 'mlflo'; there are tensorboard"):
            make_accelerator(("mlflo",), tmp_path)


def test_tensorboard_has_the_curve(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {"held_out": shape_pairs(("red",)), "progress": False, "report": False}
    train(fresh(), shape_pairs(), quick(evaluate_every=3, keep_leaks=True), tmp_path, **options)
    read = [EventAccumulator(str(events)).Reload() for events in (tmp_path / "logs").rglob("events.out.*")]
    (curve,) = [events.Scalars("loss") for events in read if "loss" in events.Tags()["scalars"]]
    (judged,) = [e.Scalars("held_out/ndcg@10") for e in read if "held_out/ndcg@10" in e.Tags()["scalars"]]
    assert [event.step for event in judged] == [0, 3, 6]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [(e.step, pytest.approx(e.value, rel=1e-5)) for e in curve] == [
        (entry["step"], entry["loss"]) for entry in lines
    ]


def test_held_out_pairs_are_scored_before_and_after(tmp_path):
    pairs = shape_pairs()
    train(fresh(), pairs, quick(steps=60, batch_size=6, holdout=0.25, checkpoint_every=60), tmp_path, **CALM)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["before"]["pairs"] == scores["after"]["pairs"] == 3
    card = (tmp_path / "README.md").read_text()
    assert "| query → target | recall@1 |" in card
    assert "library_name: embedding-zoo" in card


def test_graded_pairs(tmp_path):
    rng = np.random.default_rng(0)
    pairs = [replace(pair, score=float(rng.random())) for pair in text_pairs(12)]
    train(fresh("text-test"), pairs, quick(loss="cosent"), tmp_path, **CALM)


def test_a_teacher_guides(tmp_path):
    recipe = quick(loss="gist", teacher="zoo-mini")
    train(fresh(), shape_pairs(), recipe, tmp_path, **CALM)
    again = train(fresh(), shape_pairs(), recipe, tmp_path / "again", **CALM)
    assert isinstance(again.state_dict(), dict)


def test_a_loss_without_its_extras_says_so(tmp_path):
    run, feed = run_of(fresh("text-test"), text_pairs(6), quick(), tmp_path)
    run.loss = build_loss("cosent")
    with pytest.raises(PairsError, match="give the pairs a column score"):
        run.advance(feed.batch(0))


class TestRecipe:
    def test_json_round_trip(self):
        from zoo.training.recipe import stages_of
        from zoo.training.recipes import RECIPES

        for make in RECIPES.values():
            for recipe in stages_of(make()):
                assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
                build_loss(recipe.loss)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"steps": 0}, "steps must be a whole number from 1"),
            ({"lr": 0}, "lr must be above 0"),
            ({"batch_size": 1}, "no in-batch negatives"),
            ({"schedule": "cosin"}, "unknown schedule 'cosin'"),
            ({"precision": "int4"}, "precision must be"),
            ({"ema": 1.0}, "ema must be"),
            ({"holdout": -1}, "holdout must not be negative"),
            ({"lr": float("inf")}, "lr must be a finite number, not inf"),
            ({"weight_decay": "0.1"}, "weight_decay must be a finite number, not '0.1'"),
            ({"steps": True}, "steps must be a whole number"),
            ({"freeze": "text"}, r"freeze is a tuple of patterns, such as \('text',\), not 'text'"),
            ({"rates": "text=0.1"}, "rates are written"),
            ({"rates": (("text", "x"),)}, "rates must be above 0, not 'x'"),
        ],
    )
    def test_numbers_out_of_range(self, changes, message):
        with pytest.raises(ValueError, match=message):
            Recipe(**changes)

    def test_unknown_fields_and_names(self):
        from zoo.training.recipes import get_recipe

        with pytest.raises(ValueError, match="unknown fields"):
            Recipe.from_dict({"model": "mini-test", "steps": 1, "speed": 3})
        with pytest.raises(ValueError, match="nearest: finetune"):
            get_recipe("fintune")

    def test_epochs_become_steps(self):
        pairs = text_pairs(105)
        assert planned(Recipe(epochs=3, batch_size=10), pairs).steps == 30
        assert planned(Recipe(epochs=0.5, batch_size=10), pairs).steps == 5
        assert planned(Recipe(steps=7, epochs=3), pairs).steps == 7
        twins = [replace(pair, positive=Item(text="the same"), group="") for pair in text_pairs(4)] + text_pairs(8)
        assert planned(Recipe(batch_size=4, sampler="no_duplicates"), twins).steps == 2  # the twins meet in no batch


def test_pairs_stay_as_they_are(tmp_path):
    pairs = shape_pairs()
    assert isinstance(pairs[0], Pair)
    before = [pair.query.image.copy() for pair in pairs]
    train(fresh(), pairs, quick(steps=2), tmp_path, **CALM)
    assert all(np.array_equal(a, pair.query.image) for a, pair in zip(before, pairs, strict=True))
