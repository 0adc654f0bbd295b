"""Patterns, freezing, groups of the optimiser, schedules and the running average of the weights."""

import copy
import json
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from zoo.training import train
from zoo.training.adapters import Lora
from zoo.training.checkpoint import last_checkpoint, save_checkpoint
from zoo.training.ema import WeightAverage
from zoo.training.errors import CheckpointMismatchError, LossError, RecipeError
from zoo.training.losses.infonce import InfoNCE
from zoo.training.optim import (
    adamw,
    depths,
    describe,
    freeze,
    frozen_towers,
    parameter_groups,
    schedule,
    select,
    short_name,
)
from zoo.training.recipe import Recipe
from zoo.training.run import Run

from tests.training.train_support import fresh, quick, text_pairs
from zoo import build_model, list_models

TESTS = list_models("*-test")


@pytest.fixture(scope="module")
def dual():
    return build_model("clip-test")


class TestPatterns:
    def test_a_modality_means_the_tower_that_reads_it(self, dual):
        names = [name for name, _ in dual.named_parameters()]
        assert select(dual, "image") == [n for n in names if n.startswith("towers.0.")]
        assert select(dual, "text") == [n for n in names if n.startswith("towers.1.")]
        assert select(dual, "text.encoder") == select(dual, "towers.1.encoder.*") == select(dual, "text")

    def test_a_module_means_all_in_it_and_no_neighbour(self, dual):
        found = select(dual, "text.encoder.tower.transformer.resblocks.1.mlp.c_fc")
        root = "towers.1.encoder.tower.transformer.resblocks.1.mlp.c_fc"
        assert found == [f"{root}.weight", f"{root}.bias"]
        with pytest.raises(RecipeError, match=r"no parameter 'text.encoder.tow'"):
            select(dual, "text.encoder.tow")

    def test_stars_numbers_and_single_letters(self):
        model = build_model("image-test")
        assert {n.split(".")[5] for n in select(model, "image.*.blocks.1-3")} == {"1", "2", "3"}
        assert all(n.endswith(".bias") for n in select(model, "*.bias"))
        assert len(select(model, "*.fc?.weight")) == 12
        assert len(select(model, "*.fc1.weight")) == 6

    def test_nothing_found_names_what_is_near(self, dual):
        with pytest.raises(RecipeError, match=r"clip-test has no parameter 'image.encoder.towr'.*image.encoder.tower"):
            select(dual, "image.encoder.towr")
        with pytest.raises(RecipeError, match="audio"):
            select(dual, "audio.encoder")
        with pytest.raises(RecipeError, match=r"no parameter '.*resblocks.7-9'"):
            select(dual, "text.encoder.tower.transformer.resblocks.7-9")

    @pytest.mark.parametrize("name", TESTS)
    def test_short_names_read_back(self, name):
        model = build_model(name)
        for parameter, _ in model.named_parameters():
            short = short_name(model, parameter)
            assert not short.startswith("towers")
            assert select(model, short) == [parameter]

    def test_freezing_adds_up_and_tells_locked_towers(self, dual):
        model = copy.deepcopy(dual)
        assert frozen_towers(model) == ()
        freeze(model, ["image"])
        assert frozen_towers(model) == (0, 2, 3)  # the routes for regions and documents too
        freeze(model, ["text.*.resblocks.0"])
        assert frozen_towers(model) == (0, 2, 3)  # the routes for regions and documents too
        still = {name for name, p in model.named_parameters() if p.requires_grad}
        assert still == {n for n in select(model, "text") if ".resblocks.0." not in n}
        freeze(model, ["text"])
        with pytest.raises(RecipeError, match="clip-test"):
            parameter_groups(model, InfoNCE(), lr=1e-3, weight_decay=0.1)


class TestGroups:
    @pytest.mark.parametrize("name", TESTS)
    def test_every_parameter_once_and_vectors_undecayed(self, name):
        model, loss = build_model(name), InfoNCE()
        groups = parameter_groups(model, loss, lr=1e-3, weight_decay=0.05, layer_decay=0.9)
        grouped = [p for group in groups for p in group["params"]]
        assert len(grouped) == len(set(grouped))
        # What a model keeps as it is, such as VIRTUE's SAM, is in none.
        assert set(grouped) == {p for p in (*model.parameters(), *loss.parameters()) if p.requires_grad}
        for group in groups:
            assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
            assert 0 < group["lr"] <= 1e-3
        assert max(group["lr"] for group in groups) == 1e-3
        again = parameter_groups(build_model(name), InfoNCE(), lr=1e-3, weight_decay=0.05, layer_decay=0.9)
        assert [(g["name"], len(g["params"])) for g in groups] == [(g["name"], len(g["params"])) for g in again]

    def test_two_groups_and_the_loss_where_all_learn_alike(self, dual):
        groups = parameter_groups(dual, InfoNCE(), lr=1e-3, weight_decay=0.05)
        assert len(groups) == 3
        assert groups[-1]["name"].startswith("loss")
        assert groups[-1]["weight_decay"] == 0

    def test_rates_by_pattern_the_last_one_counts(self, dual):
        rates = {"text": 0.1, "text.encoder.tower.text_projection": 5.0}
        groups = parameter_groups(dual, None, lr=1e-2, weight_decay=0.0, rates=rates)
        rate = {p: group["lr"] for group in groups for p in group["params"]}
        for name, parameter in dual.named_parameters():
            factor = 1.0 if name.startswith("towers.0") else 5.0 if name.endswith("text_projection") else 0.1
            assert rate[parameter] == pytest.approx(1e-2 * factor)
        with pytest.raises(ValueError, match="freeze it"):
            parameter_groups(dual, None, lr=1e-2, weight_decay=0.0, rates={"text": 0.0})

    def test_the_temperature_has_a_rate_of_its_own_or_stays(self, dual):
        loss = InfoNCE()
        groups = parameter_groups(dual, loss, lr=1e-3, weight_decay=0.1, temperature=10.0)
        (mine,) = [g for g in groups if g["name"].startswith("loss")]
        assert mine["lr"] == pytest.approx(1e-2)
        left = parameter_groups(dual, loss, lr=1e-3, weight_decay=0.1, temperature=None)
        assert not {*loss.parameters()} & {p for g in left for p in g["params"]}

    def test_layer_decay_of_a_timm_backbone_is_timms(self):
        from timm.optim import param_groups_layer_decay

        model = build_model("image-test")
        backbone = model.towers[0].encoder.backbone
        theirs = {
            p: group["lr_scale"]
            for group in param_groups_layer_decay(backbone, layer_decay=0.7, weight_decay=0.1)
            for p in group["params"]
        }
        groups = parameter_groups(model, None, lr=1.0, weight_decay=0.1, layer_decay=0.7)
        ours = {p: group["lr"] for group in groups for p in group["params"]}
        assert ours.keys() == theirs.keys()
        assert all(ours[p] == pytest.approx(theirs[p]) for p in ours)
        assert len(set(theirs.values())) == 7

    def test_layer_decay_of_bert_rises_from_the_embeddings(self):
        depth = depths(build_model("text-test").towers[0])
        for name, level in depth.items():
            expected = 0 if "embeddings" in name else 1 + int(name.split("layer.")[1][0])
            assert level == expected, name

    def test_open_clip_lists_its_projections_first_and_they_are_the_head(self, dual):
        depth = depths(dual.towers[1])
        assert depth["encoder.tower.text_projection"] == depth["encoder.tower.ln_final.weight"] == 3
        assert depth["encoder.tower.positional_embedding"] == depth["encoder.tower.token_embedding.weight"] == 0
        assert depths(dual.towers[0])["encoder.tower.proj"] == 3
        assert depths(dual.towers[0])["encoder.tower.conv1.weight"] == 0

    def test_a_projection_above_a_timm_trunk_is_higher_than_the_trunk(self):
        depth = depths(build_model("mobileclip-test").towers[0])
        assert depth["encoder.tower.head.proj.weight"] > max(v for k, v in depth.items() if ".trunk." in k)

    def test_the_table_shows_every_group(self, dual):
        groups = parameter_groups(dual, InfoNCE(), lr=1e-3, weight_decay=0.05, rates={"image": 0.1})
        lines = describe(groups).splitlines()
        assert lines[0].split() == ["group", "tensors", "weights", "lr", "decay"]
        assert len(lines) == 1 + len(groups)
        count = sum(p.numel() for p in dual.parameters()) + 1
        assert sum(int(line.split()[-3].replace(",", "")) for line in lines[1:]) == count
        assert any("image" in line and "0.0001" in line for line in lines)


class TestAdamW:
    def test_fused_steps_as_the_plain_form(self):
        weights = [torch.randn(4, 3), torch.randn(3)]
        runs = []
        for make in (adamw, lambda groups: torch.optim.AdamW(groups, betas=(0.9, 0.98), foreach=False)):
            mine = [nn.Parameter(w.clone()) for w in weights]
            optimizer = make(
                [
                    {"params": mine[:1], "lr": 0.1, "weight_decay": 0.3},
                    {"params": mine[1:], "lr": 0.01, "weight_decay": 0.0},
                ]
            )
            for step in range(5):
                for p in mine:
                    p.grad = torch.cos(p.detach() * (step + 1))
                optimizer.step()
            runs.append(mine)
        for a, b in zip(*runs, strict=True):
            assert torch.allclose(a, b, atol=1e-6)
            assert not torch.allclose(a, weights[0] if a.ndim == 2 else weights[1], atol=1e-3)

    def test_its_state_goes_through_a_checkpoint_bit_by_bit(self, tmp_path):
        def start():
            torch.manual_seed(1)
            model, loss = build_model("text-test"), InfoNCE()
            groups = parameter_groups(model, loss, lr=1e-2, weight_decay=0.1, layer_decay=0.8)
            return model, adamw(groups)

        def step(model, optimizer, seed):
            torch.manual_seed(seed)
            for p in model.parameters():
                p.grad = torch.randn_like(p)
            optimizer.step()

        model, optimizer = start()
        for seed in range(3):
            step(model, optimizer, seed)
        save_checkpoint(tmp_path, 3, {"optimizer": optimizer.state_dict(), "model": model.state_dict()})
        step(model, optimizer, 3)
        other, restored = start()
        state = last_checkpoint(tmp_path)
        other.load_state_dict(state["model"])
        restored.load_state_dict(state["optimizer"])
        assert [g["name"] for g in restored.param_groups] == [g["name"] for g in optimizer.param_groups]
        step(other, restored, 3)
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)


def factors(make, steps: int, **options) -> list[float]:
    """What a schedule of transformers multiplies the rate by, step by step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, out = make(optimizer, **options), []
    for _ in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


@pytest.mark.parametrize("written", [(0.9,), (0.9, 1.0), (-0.1, 0.9), ("a", 0.9), 0.9, (0.9, 0.98, 0.99)])
def test_betas_are_two_numbers_below_one(written):
    with pytest.raises(RecipeError, match="betas must be two numbers"):
        Recipe(betas=written)


def test_betas_and_eps_of_the_recipe_are_the_optimisers_and_survive_json():
    recipe = Recipe(betas=[0.8, 0.95], eps=1e-6, steps=1, rates=(("text", 0.5),))
    run = Run(build_model("text-test"), recipe, InfoNCE())
    assert {(group["betas"], group["eps"]) for group in run.optimizer.param_groups} == {((0.8, 0.95), 1e-6)}
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert (Recipe().betas, Recipe().eps) == ((0.9, 0.98), 1e-8)


class TestSchedule:
    @pytest.mark.parametrize("kind", ["cosine", "linear", "constant", "wsd"])
    def test_the_rise_reaches_one_and_never_passes_it(self, kind):
        values = [schedule(kind, step, 50, 10) for step in range(50)]
        assert all(0 < value <= 1 for value in values)
        assert values[0] == pytest.approx(0.1, rel=1e-2)
        assert values[9] == pytest.approx(1.0, abs=0.09)
        assert values[:10] == sorted(values[:10])
        assert all(a >= b for a, b in pairwise(values[10:]))

    def test_cosine_is_the_one_zoo_mini_was_trained_with(self):
        for step in range(40):
            rise = min(1.0, (step + 1) / 8)
            assert schedule("cosine", step, 40, 8) == rise * 0.5 * (1 + math.cos(math.pi * step / 40))

    @pytest.mark.parametrize(("warmup", "steps", "most"), [(0, 60, 1e-12), (10, 100, 0.1), (100, 1000, 0.1)])
    def test_cosine_stays_just_under_transformers(self, warmup, steps, most):
        from transformers import get_cosine_schedule_with_warmup

        theirs = factors(get_cosine_schedule_with_warmup, steps, num_warmup_steps=warmup, num_training_steps=steps)
        gaps = [theirs[step] - schedule("cosine", step, steps, warmup) for step in range(warmup, steps)]
        assert min(gaps) >= -1e-12
        assert max(gaps) <= most

    @pytest.mark.parametrize("warmup", [0, 7, 25])
    def test_linear_and_wsd_are_transformers_after_the_warm_up(self, warmup):
        from transformers import get_linear_schedule_with_warmup, get_wsd_schedule

        linear = factors(get_linear_schedule_with_warmup, 50, num_warmup_steps=warmup, num_training_steps=50)
        wsd = factors(
            get_wsd_schedule,
            50,
            num_warmup_steps=warmup,
            num_decay_steps=10,
            num_stable_steps=40 - warmup,
            decay_type="1-sqrt",
        )
        for step in range(warmup, 50):
            assert schedule("linear", step, 50, warmup) == pytest.approx(linear[step], abs=1e-12)
            assert schedule("wsd", step, 50, warmup, decay=0.2) == pytest.approx(wsd[step], abs=1e-12)
        for step in range(warmup - 1):  # the rise is theirs, one step earlier
            assert schedule("linear", step, 50, warmup) == pytest.approx(linear[step + 1], abs=1e-12)

    def test_an_unknown_kind_is_named(self):
        with pytest.raises(ValueError, match="cosine, linear, constant, wsd"):
            schedule("polynomial", 0, 10)


class TestAverage:
    def test_it_is_the_closed_form(self):
        model = nn.Linear(3, 2).double()
        average = WeightAverage(model, 0.5)
        history = [model.weight.detach().clone()]
        for step in range(1, 31):
            with torch.no_grad():
                model.weight.add_(torch.randn_like(model.weight))
            history.append(model.weight.detach().clone())
            average.update(step)
        kept = [1.0, *(min(0.5, step / (step + 20)) for step in range(1, 31))]
        shares = [(1 - kept[i] if i else 1.0) * math.prod(kept[i + 1 :]) for i in range(31)]
        assert sum(shares) == pytest.approx(1.0)
        expected = sum(share * weight for share, weight in zip(shares, history, strict=True))
        assert torch.allclose(average.values["weight"], expected, atol=1e-12, rtol=0)

    def test_it_is_bit_by_bit_the_first_trainers_rule(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        average = WeightAverage(model, 0.9)
        old = copy.deepcopy(model.state_dict())
        for step in range(1, 25):
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(torch.randn_like(p))
            model(torch.randn(5, 4))
            average.update(step)
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    old[name].lerp_(value, 1 - min(0.9, step / (step + 20)))
                else:
                    old[name].copy_(value)
        assert old.keys() == average.values.keys()
        assert all(torch.equal(old[name], average.values[name]) for name in old)

    def test_frozen_weights_are_not_kept(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        model[0].requires_grad_(False)
        assert set(WeightAverage(model, 0.9).values) == {"1.weight", "1.bias"}

    def test_half_precision_weights_have_an_average_that_moves(self):
        model = nn.Linear(2, 2, bias=False).to(torch.bfloat16)
        nn.init.ones_(model.weight)
        average = WeightAverage(model, 0.9999)
        nn.init.constant_(model.weight, 1.0078125)
        for step in range(10**7, 10**7 + 100):
            average.update(step)
        expected = 1 + 0.0078125 * (1 - 0.9999**100)
        assert torch.allclose(average.values["weight"], torch.full((2, 2), expected), atol=1e-6)
        average.give()
        assert model.weight.dtype == torch.bfloat16

    def test_swap_gives_the_average_and_brings_the_weights_back_even_after_an_error(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        average = WeightAverage(model, 0.9)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1)
        average.update(1000)
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(KeyError), average.swap():
            assert torch.equal(model[0].weight, average.values["0.weight"])
            assert not torch.equal(model[0].weight, before["0.weight"])
            raise KeyError
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    def test_it_goes_on_from_its_state(self, tmp_path):
        torch.manual_seed(3)
        model = nn.Linear(3, 3)
        average = WeightAverage(model, 0.9)
        nn.init.normal_(model.weight)
        average.update(50)
        save_checkpoint(tmp_path, 1, {"average": average.state_dict()})
        other = WeightAverage(model, 0.9)
        other.load_state_dict(last_checkpoint(tmp_path)["average"])
        nn.init.normal_(model.weight)
        average.update(51)
        other.update(51)
        assert torch.equal(average.values["weight"], other.values["weight"])
        with pytest.raises(CheckpointMismatchError, match="another model"):
            WeightAverage(nn.Linear(3, 2), 0.9).load_state_dict(average.state_dict())

    def test_a_decay_of_one_would_never_learn(self):
        with pytest.raises(ValueError, match="below 1"):
            WeightAverage(nn.Linear(1, 1), 1.0)


@pytest.mark.parametrize("changes", [{}, {"lora": Lora(rank=2)}])
def test_a_later_stage_that_learns_nothing_is_told_before_the_first(changes, tmp_path):
    stages = (quick(name="one", steps=1), quick(name="two", steps=1, freeze=("text",), **changes))
    with pytest.raises(RecipeError, match="two: nothing of text-test would learn"):
        train(fresh("text-test"), text_pairs(), stages, tmp_path / "run", progress=False, trackers=(), report=False)
    with pytest.raises(LossError, match="32 dimensions, which cannot be cut to 64"):
        train(fresh("text-test"), text_pairs(), quick(loss="matryoshka(dims=[64]):infonce"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
