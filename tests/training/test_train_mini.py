"""zoo-mini's own way of training: images in memory, colours in captions, distilled texts, regressed images."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from zoo.training import Pair, Recipe, train
from zoo.training.claims import is_finished
from zoo.training.errors import RecipeError, RecipeMismatchError
from zoo.training.recipes import finetune, mini_test
from zoo.training.recipes.mini import Distillation, Images, ImageSize, MiniRecipe, Regression
from zoo.training.recipes.mini.augment import COLOURS, augment, colour_of, on_white, repaint
from zoo.training.recipes.mini.distill import (
    distil,
    encoder_of,
    least_squares,
    principal_axes,
    relation_loss,
    teacher_folder,
)
from zoo.training.recipes.mini.images import ImageData
from zoo.training.recipes.mini.regress import ridge_regression
from zoo.training.trainer import finish

from tests.training.train_support import fresh, make_image, remove, same_weights
from zoo import build_model, load_model
from zoo.errors import MissingPackError
from zoo.inputs.item import Item
from zoo.tables.pack_files import packs_folder, read_pack

CALM = {"progress": False, "trackers": (), "report": False}
THINGS = {"circle": 0, "square": 1, "bar": 2, "cross": 3}
PAINTS = {"red": (200, 30, 30), "blue": (30, 60, 210)}
EARLIER = {"images": None, "distillation": None, "regression": None}  # in every recipe.json


@pytest.fixture
def pairs() -> list[Pair]:
    return [
        Pair(Item(image=make_image(shape, paint)), Item(text=f"{paint} {shape}"), group=f"{paint} {shape}", name=shape)
        for shape in THINGS
        for paint in PAINTS
    ]


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


class TestRegression:
    def test_finds_the_map_that_made_the_targets(self):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(200, 6, generator=generator)
        weight, bias = torch.randn(3, 6, generator=generator), torch.randn(3, generator=generator)
        found = ridge_regression(inputs, inputs @ weight.T + bias, torch.rand(200, generator=generator) + 0.1, 1e-9)
        torch.testing.assert_close(found, (weight, bias), atol=1e-4, rtol=1e-4)

    def test_weights_count_pairs(self):
        # Without inputs the bias is the weighted mean: (3 * 1 + 1 * 5) / 4.
        found = ridge_regression(torch.zeros(2, 1), torch.tensor([[1.0], [5.0]]), torch.tensor([3.0, 1.0]), 1e-12)
        assert found[1].item() == pytest.approx(2.0)

    def test_steps_train_the_first_projection_and_the_second_is_solved(self, pairs, tmp_path):
        model = build_model("mini-test")
        blend = model.towers[0].head
        before = {name: value.clone() for name, value in blend.state_dict().items()}
        recipe = mini_test(steps=10, batch_size=8, regression=Regression(size=32, views=8, ridge=1e-3))
        train(model, pairs, recipe, tmp_path, **CALM)
        assert model.towers[0].head is blend
        for name, value in blend.state_dict().items():
            assert not torch.equal(value, before[name]), name
        images = torch.from_numpy(np.stack([make_image(*pair.group.split()[::-1], 32) for pair in pairs]))
        with torch.no_grad():
            tower = model.towers[0]
            pooled = tower.pooler(tower.encoder({"pixels": images.permute(0, 3, 1, 2)}))
            second = F.normalize(blend.second(pooled), dim=1)
        texts = model.encode([pair.positive.text for pair in pairs])
        assert (second * texts).sum(1).mean() > 0.7


class TestData:
    def test_missing_packs_name_the_variable(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ZOO_DATA", str(tmp_path / "gone"))
        with pytest.raises(MissingPackError, match="set ZOO_DATA"):
            packs_folder()
        monkeypatch.setenv("ZOO_DATA", str(tmp_path))
        with pytest.raises(MissingPackError, match=r"photos.train\.parquet"):
            read_pack("photos", "train")

    def test_same_group_is_no_negative_but_another_colour_is(self, pairs):
        reds = [replace(pair, group=pair.name, positive=Item(text=pair.name)) for pair in pairs]
        data = ImageData(reds, build_model("mini-test"))
        names = list(COLOURS)
        assert [names[colour] for colour in data.colours] == ["red", "blue"] * 4
        plain = data.batch(torch.arange(8)).ignore
        assert plain.tolist() == [[i // 2 == j // 2 for j in range(8)] for i in range(8)]
        said = data.batch(torch.arange(8), colour_captions=1.0).ignore
        assert said.tolist() == [[i == j for j in range(8)] for i in range(8)]

    def test_text_of_another_group_that_fits_is_no_negative(self, pairs):
        pairs = [
            replace(pairs[0], extra_positives=(Item(text="shape"),)),
            replace(pairs[1], positive=Item(text="shape")),
        ]
        ignore = ImageData(pairs, build_model("mini-test")).batch(torch.arange(2)).ignore
        assert bool(ignore[0, 1])

    def test_captions_of_one_image_as_rows_are_no_negatives(self, pairs):
        rows = [
            replace(pair, group="", name="", positive=Item(text=f"{pair.group} {k}")) for pair in pairs for k in (0, 1)
        ]
        data = ImageData(rows, build_model("mini-test"))
        ignore = data.batch(torch.arange(16)).ignore
        assert ignore.tolist() == [[i // 2 == j // 2 for j in range(16)] for i in range(16)]
        assert torch.bincount(data.groups).tolist() == [2] * 8  # which the regression weighs by


class TestAugment:
    @pytest.mark.parametrize("paint", sorted(PAINTS))
    def test_colour_of_a_plain_thing(self, paint):
        pixels = torch.from_numpy(make_image("square", paint)).permute(2, 0, 1)
        assert list(COLOURS)[colour_of(pixels)] == paint

    def test_no_colour_prevails(self):
        half = torch.zeros(3, 40, 40, dtype=torch.uint8)
        half[0, :, :20], half[2, :, 20:] = 220, 220
        assert colour_of(half) == -1
        assert colour_of(torch.full((3, 40, 40), 255, dtype=torch.uint8)) == -1

    def test_repaint_keeps_white_and_takes_the_colour(self):
        pixels = torch.from_numpy(make_image("square", "red")).permute(2, 0, 1)[None].float() / 255
        green = list(COLOURS).index("green")
        painted = repaint(pixels, torch.tensor([green]))
        assert torch.equal(painted[:, :, 0, 0], torch.ones(1, 3))
        assert colour_of((painted[0] * 255).to(torch.uint8)) == green
        assert torch.equal(repaint(pixels, torch.tensor([-1])), pixels)

    def test_views_have_the_size_and_differ(self):
        pixels = torch.from_numpy(np.stack([make_image("cross", "blue", 72)] * 4)).permute(0, 3, 1, 2)
        assert on_white(pixels.float() / 255).all()
        torch.manual_seed(0)
        views = augment(pixels, 64, torch.full((4,), -1))
        assert views.shape == (4, 3, 64, 64)
        assert views.dtype == torch.uint8
        assert not torch.equal(views[0], views[1])


class TestDistil:
    def test_least_squares_finds_the_table_that_made_the_texts(self):
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(20, 6, generator=generator)
        texts = [torch.randint(20, (1 + row % 4,), generator=generator).tolist() for row in range(400)]
        targets = torch.stack([table[text].mean(0) for text in texts])
        torch.testing.assert_close(least_squares(texts, targets, 20, ridge=1e-6), table, atol=1e-3, rtol=1e-3)

    def test_table_comes_near_its_teacher(self, pairs, pack):
        pack("text")
        plan = Distillation(texts=300, steps=5, batch_size=64)
        encoder = encoder_of(distil(pairs, 256, plan, seed=0), plan)
        assert encoder.tokenize("Paris 1")[0] == encoder.tokenize("paris")[0]
        assert encoder.config()["vocab_size"] == len(encoder.table.weight)
        teacher = load_model(teacher_folder(plan.teacher), device="cpu").encode(["he", "she", "war", "city"])
        batch = encoder.prepare([Item(text=word) for word in ("he", "she", "war", "city")])
        student = F.normalize(encoder(batch).states[:, 0], dim=1)
        torch.testing.assert_close(student @ student.T, teacher @ teacher.T, atol=0.1, rtol=0)

    def test_axes_keep_what_lies_in_them(self):
        flat = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) @ torch.randn(3, 8)
        axes = principal_axes(flat, 3)
        torch.testing.assert_close(flat @ axes @ axes.T, flat, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(axes.T @ axes, torch.eye(3), atol=1e-5, rtol=1e-5)

    def test_relation_loss_is_zero_for_the_teacher_itself(self):
        teachers = unit(6, 4)
        assert float(relation_loss(teachers, teachers, 0.5)) == pytest.approx(0.0, abs=1e-9)
        assert float(relation_loss(unit(6, 4, seed=1), teachers, 0.5)) > 0.1


class TestRun:
    def test_resume_gives_the_same_bits(self, pairs, tmp_path):
        sizes = (ImageSize(24, 0.5), ImageSize(32, 0.5))
        recipe = mini_test(
            steps=6,
            batch_size=4,
            checkpoint_every=3,
            keep_checkpoints="all",
            ema=0.9,
            images=Images(store_size=36, sizes=sizes, colour_captions=0.3, tint=0.2),
            regression=Regression(size=32),
        )
        whole = train(fresh(), pairs, recipe, tmp_path / "whole", **CALM)
        stopped = tmp_path / "stopped"
        train(fresh(), pairs, recipe, stopped, **CALM)
        for left in (stopped / "checkpoints" / "step-00000006", stopped / "model.safetensors"):
            remove(left)
        torch.manual_seed(99)
        assert same_weights(whole, train(fresh(), pairs, recipe, stopped, resume=True, **CALM))
        (stopped / "model.safetensors").unlink()
        assert finish(fresh(), pairs, stopped, report=False) == 6
        torch.testing.assert_close(
            load_model(stopped).encode("red bar"), load_model(tmp_path / "whole").encode("red bar")
        )

    def test_sizes_follow_the_shares(self):
        plan = Images(sizes=(ImageSize(32, 0.7), ImageSize(64, 0.3)))
        assert [plan.size_at(step / 10) for step in range(10)] == [32] * 7 + [64] * 3

    def test_shares_must_add_up(self):
        with pytest.raises(ValueError, match="add up to 1"):
            Images(sizes=(ImageSize(32, 0.5),))


class TestEarlierRuns:
    """Every recipe once had the fields that are MiniRecipe's now, None but in zoo-mini's."""

    def test_fields_at_none_are_passed_over_and_set_ones_make_a_mini_recipe(self):
        plain, mini = finetune(), mini_test(regression=Regression(size=32))
        assert Recipe.from_dict({**plain.to_dict(), **EARLIER}) == plain
        found = Recipe.from_dict({**EARLIER, **mini.to_dict()})
        assert (found, type(found)) == (mini, MiniRecipe)
        with pytest.raises(RecipeError, match=r"unknown fields of a recipe: \['clips'\]"):
            Recipe.from_dict({**mini.to_dict(), "clips": None})
        with pytest.raises(RecipeError, match="do not go together"):
            mini_test(losses=(("sts*", "cosent"),))

    @pytest.mark.parametrize(
        "unread",
        [
            {"augment": "crop"},
            {"negatives": 2},
            {"teacher": "zoo-mini"},
            {"query_prompt": "find: "},
            {"document_prompt_name": "document"},
        ],
    )
    def test_what_the_feed_from_memory_does_not_read_is_refused(self, unread):
        with pytest.raises(RecipeError, match=f"reads no {next(iter(unread))}"):
            mini_test(**unread)
        assert mini_test(images=None, **unread).images is None
        with pytest.raises(RecipeError, match="a regression is of the images in memory"):
            mini_test(images=None, regression=Regression(size=32))

    def test_a_run_of_then_is_finished_and_goes_on(self, pairs, tmp_path):
        recipe = finetune(steps=2, batch_size=4, holdout=0.0, checkpoint_every=2)
        out = tmp_path / "run"
        train(fresh(), pairs, recipe, out, **CALM)
        facts = json.loads((out / "recipe.json").read_text())
        then = {**facts, "stages": [{**stage, **EARLIER} for stage in facts["stages"]]}
        (out / "recipe.json").write_text(json.dumps(then))
        assert is_finished(out, [recipe])
        assert not is_finished(out, [replace(recipe, lr=1.0)])
        with pytest.raises(RecipeMismatchError, match="other images"):
            train(fresh(), pairs, MiniRecipe(**{**vars(recipe), "images": Images()}), out, resume=True, **CALM)
        longer = train(fresh(), pairs, replace(recipe, steps=4), out, resume=True, **CALM)
        assert not same_weights(longer, fresh())
        lengthened = json.loads((out / "recipe.json").read_text())["lengthened"]
        assert [(one["from"], one["to"], one["at"]) for one in lengthened] == [(2, 4, 2)]
