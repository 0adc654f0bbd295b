"""Training on regions and captions: what learns, by which route, from which negatives, and what is computed once."""

import numpy as np
import pytest
import torch
from zoo.training import Pair, recipes, train
from zoo.training.cached_embeddings import lone_heads
from zoo.training.combining import prepare
from zoo.training.dry_run import rehearse
from zoo.training.errors import RecipeError
from zoo.training.grad_cache import CachedEmbeddings
from zoo.training.optim import freeze
from zoo.training.run import Encode, Run
from zoo.training.trainer import make_feed

from tests.tables.test_pack_regions import write_pack
from tests.training.train_support import PAINTS, SHAPES, fresh, make_image, same_weights, without_plots
from zoo.cli import main
from zoo.errors import ArgumentError
from zoo.inputs.hashing import item_key
from zoo.inputs.item import Item
from zoo.inputs.regions import Box, Mask
from zoo.loading import load_model
from zoo.regions import Dense, Ensemble

SIDE = 40


def scenes(count: int = 4) -> list[Pair]:
    """Two things beside each other in an image, each with the other's name as its hard negative; by box and by mask in turn."""
    things = [(shape, paint) for paint in PAINTS for shape in SHAPES]
    pairs = []
    for number in range(count):
        here = [things[2 * number], things[2 * number + 1]]
        pixels = np.concatenate([make_image(shape, paint, SIDE) for shape, paint in here], 1)
        for place, (shape, paint) in enumerate(here):
            left = SIDE * place
            mask = np.zeros(pixels.shape[:2], bool)
            mask[:, left : left + SIDE] = True
            region = Mask(mask) if number % 2 else Box(left, 0, left + SIDE, SIDE)
            other = " ".join(reversed(here[1 - place]))
            where = f"scene {number}, region {place}"
            query = Item(image=pixels, regions=(region,))
            pairs.append(Pair(query, Item(text=f"{paint} {shape}"), (Item(text=other),), where=where))
    return pairs


def heads_alone(**changes):
    """The recipe, for a second."""
    return recipes.regions(
        **{"steps": 6, "epochs": 1.0, "batch_size": 8, "holdout": 0.0, "checkpoint_every": 2, "log_every": 1, **changes}
    )


def trained(folder, recipe, pairs, rule="masked-crop", **options):
    model = fresh()
    model.region_rule = rule
    train(model, pairs, recipe, folder, progress=False, trackers=(), report=False, device="cpu", **options)
    return model


def in_image(model, pairs) -> float:
    """Share of regions whose own caption is nearer than its negatives'."""
    right = 0
    for pair in pairs:
        scores = model.similarity(model.encode([pair.query]), model.encode([pair.positive, *pair.negatives]))[0]
        right += int(scores.argmax()) == 0
    return right / len(pairs)


@pytest.mark.parametrize("rule", ["masked-crop", "dense", "ensemble"])
def test_the_head_learns_through_the_route_of_regions_and_nothing_else_does(tmp_path, rule):
    before = fresh()
    after = trained(tmp_path, heads_alone(), scenes(), rule)
    changed = {name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert changed
    assert all(name.startswith("towers.0.head.") for name in changed)


@pytest.mark.parametrize("rule", ["masked-crop", "dense"])
def test_what_a_head_reads_is_computed_once_and_the_gradient_is_the_same(tmp_path, rule, monkeypatch):
    pairs = scenes()
    kept = {}
    encoder = type(fresh().towers[0].encoder)
    for cache in (True, False):
        model = fresh()
        model.region_rule = rule
        stage = heads_alone(cache=cache)
        freeze(model, stage.freeze)
        feed = make_feed(model, pairs, stage, tmp_path / str(cache), progress=False)
        batch = feed.batch(0)
        assert all((read.pooled is not None) == cache for read in batch.queries)
        assert all(read.value is None for read in batch.queries) == cache
        with monkeypatch.context() as patch:
            if cache:
                patch.setattr(encoder, "forward", lambda *_: pytest.fail("the encoder ran again"))
            vectors = CachedEmbeddings(Encode(model), model, batch.queries)
            vectors.backward(torch.linspace(-1, 1, vectors.vectors.numel()).view_as(vectors.vectors))
        kept[cache] = vectors.vectors, [p.grad for p in model.towers[0].head.parameters()]
    torch.testing.assert_close(kept[True][0], kept[False][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(kept[True][1], kept[False][1], atol=1e-4, rtol=1e-3)


def test_a_mean_of_several_crops_is_not_remembered_before_the_head():
    model = fresh()
    freeze(model, heads_alone().freeze)
    assert set(lone_heads(model)) == {0, 2}  # whole images, and their regions
    model.region_rule = Ensemble()
    assert set(lone_heads(model)) == {0}
    model.towers[0].encoder.requires_grad_(True)
    assert not lone_heads(model)


def test_eight_pairs_are_overfitted_though_captions_share_a_word_and_an_image(tmp_path):
    pairs = scenes(4)
    recipe = heads_alone(steps=80, lr=1e-2, checkpoint_every=80, keep="last")
    model = trained(tmp_path, recipe, pairs)
    assert in_image(model, pairs) == 1.0
    captions = model.encode([pair.positive for pair in pairs])
    found = model.similarity(model.encode([pair.query for pair in pairs]), captions).argmax(1)
    assert found.tolist() == list(range(8))


def test_the_other_captions_of_an_image_are_candidates_of_its_regions(tmp_path):
    pairs = scenes()
    model = fresh()
    batch = make_feed(model, pairs, heads_alone(), tmp_path, progress=False).batch(0)
    assert batch.negatives == 1
    answers, count = batch.answers, len(batch.queries)
    for place, row in enumerate(batch.rows):
        negative = int(batch.numbers[2 * count + place])
        assert answers.contents.keys[negative] == item_key(pairs[row].negatives[0])
    # And they count: without them the loss is another one, and so are the weights.
    with_them = trained(tmp_path / "with", heads_alone(steps=2), pairs)
    without = trained(tmp_path / "without", heads_alone(steps=2, negatives=0), pairs)
    assert not same_weights(with_them, without)


@pytest.mark.parametrize("rule", ["masked-crop", "dense"])
def test_a_resumed_run_has_the_same_bits(tmp_path, rule):
    pairs, held_out = scenes(4), scenes(5)[8:]
    recipe = heads_alone(evaluate_every=2)
    whole = trained(tmp_path / "whole", recipe, pairs, rule, held_out=held_out)
    out = tmp_path / "parts"

    class Stopped(Exception):
        pass

    def stop(run, batch):
        if run.step == 3:
            raise Stopped
        return advance(run, batch)

    advance, Run.advance = Run.advance, stop
    try:
        with pytest.raises(Stopped):
            trained(out, recipe, pairs, rule, held_out=held_out)
    finally:
        Run.advance = advance
    resumed = trained(out, recipe, pairs, rule, held_out=held_out, resume=True)
    assert same_weights(whole, resumed)


def test_adapters_learn_from_regions_by_both_ways(tmp_path):
    for rule in ("masked-crop", "dense"):
        recipe = recipes.regions_lora(steps=2, batch_size=4, holdout=0.0, checkpoint_every=2)
        model = fresh()
        model.region_rule = rule
        before = {name: value.clone() for name, value in model.state_dict().items()}
        train(model, scenes(2), recipe, tmp_path / rule, progress=False, trackers=(), report=False, device="cpu")
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert any(name.startswith("towers.0.encoder.") for name in changed)
        assert not any(name.startswith("towers.1.") for name in changed)


def test_the_rule_of_the_recipe_is_trained_and_kept(tmp_path):
    model = fresh()
    train(
        model, scenes(), heads_alone(region="dense"), tmp_path, progress=False, trackers=(), report=False, device="cpu"
    )
    assert load_model(tmp_path).region_rule == Dense()
    with pytest.raises(RecipeError, match="region must be one of masked-crop, dense, dense-hd, ensemble, not 'mean'"):
        heads_alone(region="mean")
    with pytest.raises(RecipeError, match="one rule of regions"):
        prepare(model, [heads_alone(region="dense"), heads_alone(name="second")])
    with pytest.raises(ArgumentError, match="it reads no images"):
        prepare(fresh("text-test"), [heads_alone(region="dense")])


def test_a_dry_run_has_the_rule_and_the_combiner(tmp_path):
    facts = rehearse(fresh(), scenes(), heads_alone(region="dense"), device="cpu")
    assert facts["regions: batch"] == "8 queries, 16 targets"
    pairs = [
        Pair(Item(image=make_image("bar", "red"), text=f"in {paint}"), Item(image=make_image("bar", paint)))
        for paint in PAINTS
    ]
    facts = rehearse(fresh(), pairs, recipes.composed(batch_size=2, holdout=0.0, combiner=8), device="cpu")
    assert "composed: learning" in facts


def test_the_command_trains_on_the_pack_and_keeps_the_rule(tmp_path, monkeypatch):
    write_pack(tmp_path)
    write_pack(tmp_path, "val")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    without_plots(monkeypatch)
    out = tmp_path / "run"
    command = ["train", "pack:regions", "--held-out", "pack:regions", "--recipe", "regions", "--region", "dense"]
    command += ["--model", "mini-test", "--from-scratch", "--steps", "2", "--log", "none", "--keep-leaks"]
    assert main([*command, "--out", str(out)]) == 0
    assert load_model(out).region_rule == Dense()
    assert "region" in (out / "report.md").read_text("utf-8")
