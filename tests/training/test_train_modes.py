"""Freezing: no buffer of what does not learn changes by a bit, whatever way it was frozen, and it draws no dropout."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torchvision.ops import FrozenBatchNorm2d
from zoo.training import train
from zoo.training.adapters import Lora
from zoo.training.errors import RecipeError
from zoo.training.lone import lone_items
from zoo.training.losses import build_loss
from zoo.training.modes import apart, keeps_statistics, training_mode
from zoo.training.optim import select
from zoo.training.rows import known_answers
from zoo.training.run import Run
from zoo.training.trainer import make_feed, sampler_of

from tests.training.train_support import fresh, quick, shape_pairs, text_pairs

# Of the test models those with running statistics.
NORMALISED = ("mini-test", pytest.param("mobileclip-test", marks=pytest.mark.slow))
# How it is frozen, and whether any statistics of the model still move then.
WAYS = {
    ("image",): False,
    ("image.encoder",): False,
    ("image.encoder.*.weight", "image.encoder.*.bias"): False,
    ("image.encoder.*blocks.0",): True,
    ("image.encoder.*blocks.1-3",): True,
    ("image.encoder.*.bn1", "image.encoder.*.bn2"): True,
    ("*.bias",): True,
}


def stepped(model, recipe, tmp_path, steps=2):
    """The buffers before, and the run after some steps on images."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    pairs = shape_pairs(("red", "blue"))
    run = Run(model, recipe, build_loss(recipe.loss))
    feed = make_feed(model, pairs, recipe, tmp_path, progress=False)
    for step in range(steps):
        run.advance(feed.batch(step))
    return before, run


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("name", NORMALISED)
def test_buffers_of_what_is_frozen_stay_and_the_others_move(name, micro_batch, tmp_path):
    for number, (patterns, some_move) in enumerate(WAYS.items()):
        model = fresh(name)
        frozen = {parameter for pattern in patterns for parameter in select(model, pattern)}
        recipe = quick(freeze=patterns, micro_batch=micro_batch, batch_size=4, cache=False)
        before, _ = stepped(model, recipe, tmp_path / str(number), steps=1)
        moved = still = 0
        for norm_name, norm in model.named_modules():
            if not keeps_statistics(norm):
                continue
            own = {f"{norm_name}.{parameter}" for parameter, _ in norm.named_parameters(recurse=False)}
            same = all(torch.equal(b, before[f"{norm_name}.{n}"]) for n, b in norm.named_buffers(recurse=False))
            assert same == (own <= frozen), (patterns, norm_name)
            moved, still = moved + (not same), still + same
        assert (bool(moved), bool(still)) == (some_move, patterns != ("*.bias",)), patterns


@pytest.mark.parametrize("name", NORMALISED)
def test_beside_adapters_no_statistics_move(name, tmp_path):
    model = fresh(name)
    recipe = quick(lora=Lora(rank=2), batch_size=4, lr=1e-2)
    before, run = stepped(model, recipe, tmp_path)
    now = {key.replace(".base_layer.", "."): buffer for key, buffer in run.model.named_buffers()}
    assert all(torch.equal(buffer, now[key]) for key, buffer in before.items())


class Parts(nn.Module):
    """Every kind of normalisation that gathers statistics, with weights and without, each after a layer."""

    def __init__(self) -> None:
        super().__init__()
        kinds = {
            "flat": lambda affine: nn.BatchNorm1d(4, affine=affine),
            "plane": lambda affine: nn.BatchNorm2d(4, affine=affine),
            "videos": lambda affine: nn.BatchNorm3d(4, affine=affine),
            "shared": lambda affine: nn.SyncBatchNorm(4, affine=affine),
            "instance": lambda affine: nn.InstanceNorm2d(4, affine=affine, track_running_stats=True),
            "timm": lambda affine: BatchNormAct2d(4, affine=affine),
        }
        for name, make in kinds.items():
            for affine in (True, False):
                inside = nn.ModuleDict({"layer": nn.Linear(4, 4), "norm": make(affine), "drop": nn.Dropout(0.5)})
                self.add_module(f"{name}_{affine}", inside)
        self.fixed = FrozenBatchNorm2d(4)


def test_each_kind_goes_by_its_own_weights_or_by_the_module_around_it():
    whole = Parts()
    training_mode(whole)
    assert all(module.training for module in whole.modules())
    training_mode(whole, still_norms=True)
    assert {module.training for module in whole.modules() if keeps_statistics(module)} == {False}
    assert all(part.drop.training for part in whole.children() if isinstance(part, nn.ModuleDict))
    for name, _ in list(whole.named_children())[:-1]:
        model = copy.deepcopy(whole)
        inside, affine = getattr(model, name), name.endswith("True")
        inside.norm.requires_grad_(False)
        training_mode(model)
        assert (inside.norm.training, inside.layer.training, inside.drop.training) == (not affine, True, True), name
        inside.layer.requires_grad_(False)
        training_mode(model)
        assert not any(module.training for module in inside.modules()), name
        assert all(module.training for other, module in model.named_children() if other != name)
        inside.norm.requires_grad_(True)  # the weights of the norm alone: it is trained, so its statistics move
        training_mode(model)
        assert (inside.norm.training, inside.drop.training) == (affine, affine), name


def test_a_frozen_block_draws_no_dropout(tmp_path):
    model = fresh("text-test")
    recipe = quick(freeze=("text.encoder.*layer.0",))
    run = Run(model, recipe, build_loss(recipe.loss))
    first, second = run.model.towers[0].encoder.backbone.encoder.layer[:2]
    drops = [[m.training for m in block.modules() if isinstance(m, nn.Dropout)] for block in (first, second)]
    assert (set(drops[0]), set(drops[1])) == ({False}, {True})


def test_what_processes_do_apart_is_said_where_it_is_promised():
    text, mini = fresh("text-test"), fresh("mini-test")
    for model, what in ((text, "draw dropout"), (mini, "measure batch statistics")):
        training_mode(model, still_norms=False)
        assert apart(model, 1) == ""
        assert f"2 processes {what} each for their own rows" in apart(model, 2)
    training_mode(mini, still_norms=True)
    assert apart(mini, 2) == ""
    without = fresh("text-test").train()
    for drop in (m for m in without.modules() if isinstance(m, nn.Dropout)):
        drop.p = 0.0
    assert apart(without, 2) == ""
    training_mode(text.requires_grad_(False))
    assert apart(text, 2) == ""


def test_a_rate_of_zero_is_told_with_the_recipe():
    with pytest.raises(RecipeError, match=r"rates.*'text'.*freeze"):
        quick(rates=(("text", 0.0),))


def test_an_item_that_batch_normalisation_gets_alone_is_told_before_the_first_step(tmp_path, capsys, monkeypatch):
    pairs, still = [*shape_pairs(("red",))[:1], *text_pairs(11)], {"freeze": ("image",)}
    recipe = quick(steps=2, batch_size=6, cache=False)

    def told(pairs, **changes) -> str:
        mine, model = replace(recipe, **changes), fresh("mini-test")
        run = Run(model, mine, build_loss("infonce"))
        return lone_items(run.model, known_answers(pairs), sampler_of(pairs, mine), mine)

    assert re.search(r"to measure: image in 1 of 2 steps; .*homogeneous", told(pairs))
    assert "micro_batch 1 leaves" in told(pairs, micro_batch=1)
    assert told(pairs, **still) == told(pairs, still_norms=True) == told(text_pairs(12)) == told(shape_pairs()) == ""
    of_negative = [replace(row, negatives=() if i else (pairs[0].query,)) for i, row in enumerate(text_pairs(12))]
    assert "to measure: image in 1 of 2 steps" in told(of_negative)
    assert told(of_negative, negatives=0) == ""
    assert {bool(told(pairs, steps=1, seed=seed)) for seed in range(6)} == {True, False}  # where it comes later
    with monkeypatch.context() as patch:
        patch.setattr(
            "zoo.training.lone.world", lambda: (0, 2)
        )  # each measures its own rows, of which nothing is known
        assert told(pairs) == told(pairs, micro_batch=1) == ""
    with pytest.raises(RecipeError, match="cannot be trained on one item alone"):
        train(fresh("mini-test"), pairs, recipe, tmp_path, trackers=(), report=False)
    assert "quick: one item alone is all that batch normalisation has to measure" in capsys.readouterr().out
