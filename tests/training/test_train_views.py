"""Views of images on a trunk that stands still: read once, a head that begins in closed form, runs that go on to the same bits."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo.training import Recipe, train
from zoo.training.checkpoint import checkpoints_in, last_checkpoint, save_checkpoint
from zoo.training.errors import DamagedRunError, RecipeError
from zoo.training.recipes import get_recipe
from zoo.training.recipes.mini import Images, ImageSize, MiniRecipe, Regression, Start, Student, zoo_mini
from zoo.training.recipes.mini.augment import COLOURS
from zoo.training.recipes.mini.images import ImageData
from zoo.training.recipes.mini.trunk import MEAN, STD, load_trunk
from zoo.training.recipes.mini.views import Remembered, begin_images, class_vectors, head_alone, view_feed
from zoo.training.samplers import build_sampler
from zoo.training.trainer import finish

from tests.training.train_support import fresh, remove, same_weights, shape_pairs
from zoo import Embedder, load_model
from zoo.embedder import Tower
from zoo.encoders.image import TimmImage
from zoo.encoders.image_transform import PixelTransform
from zoo.heads import Linear, Named
from zoo.inputs.item import Item
from zoo.pooling import Cls
from zoo.tables.words import classes

CALM = {"progress": False, "trackers": (), "report": False}
TRUNK, SIZE = "efficientnet-lite0", 64
PAIRS = [replace(pair, name=pair.group.split()[1]) for pair in shape_pairs()]
FROZEN = ("text", "image.head.classify", "image.head.names")
RECIPE = MiniRecipe(
    name="views",
    steps=3,
    batch_size=6,
    lr=1e-2,
    warmup=0,
    checkpoint_every=1,
    keep_checkpoints="all",
    holdout=0.0,
    freeze=FROZEN,
    loss="infonce(temperature=0.05)",
    images=Images(store_size=SIZE, colour_captions=0.3, tint=0.4),
    start=Start(trunk=TRUNK, views=2, ridge=2.0),
)


def model_of(head: type = Named) -> Embedder:
    """mini-test's text tower beside an image tower on the smaller trunk, with random weights that are always the same."""
    mini = fresh("mini-test")
    transform = PixelTransform(SIZE, resize="squash", mean=MEAN, std=STD)
    image = TimmImage("tf_efficientnet_lite0", transform)
    more = {"classes": 1000, "gain": 2.3, "temperature": 2.0} if head is Named else {}
    spec = replace(mini.spec, name="views-test", image_size=SIZE)
    return Embedder(spec, [Tower(image, Cls(), head(image.width, spec.dim, **more)), mini.towers[1]]).eval()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(model_of(), PAIRS, RECIPE, folder, **CALM)
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Callable[..., Path]:
    """`copied()` → a copy of the run's folder; `copied("views")` → a folder with its views alone."""

    def copy(part: str = "") -> Path:
        shutil.copytree(whole / part, tmp_path / "run" / part)
        return tmp_path / "run"

    return copy


@pytest.fixture(scope="module")
def begun(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    """A model as the run found it before the first step, by the views that the run has read; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("begun")
    shutil.copytree(whole / "views", folder / "views")
    model = model_of()
    begin_images(model, PAIRS, RECIPE, folder)
    return model


class TestRun:
    def test_the_trunk_stands_still_and_the_projection_learns(self, whole):
        model, trunk, before = load_model(whole, device="cpu"), load_trunk(TRUNK), model_of()
        image, text = model.towers
        source = trunk.state_dict()
        assert isinstance(image.encoder, TimmImage)
        for name, value in image.encoder.backbone.state_dict().items():
            assert torch.equal(value, source[name]), name
        for name, value in image.head.classify.state_dict().items():
            assert torch.equal(value, source[f"classifier.{name}"]), name
        assert same_weights(text, before.towers[1])
        names = class_vectors(before)
        assert names.shape == (1000, before.spec.dim)
        torch.testing.assert_close(names.norm(dim=1), torch.ones(1000))
        torch.testing.assert_close(image.head.names.detach(), names - names.mean(0), atol=1e-6, rtol=0)
        # Of the head the projection alone was in the optimiser, and nothing of the trunk is in a checkpoint.
        learned = last_checkpoint(whole / "checkpoints")["model"]
        assert set(learned) == {"towers.0.head.project.weight", "towers.0.head.project.bias"}

    @pytest.mark.slow
    def test_a_killed_run_goes_on_to_the_same_bits_and_reads_no_image_again(self, whole, copied):
        folder = copied()
        (views,) = checkpoints_in(folder / "views")
        read = (views / "state.safetensors").stat().st_mtime_ns
        for left in (folder / "checkpoints" / "step-00000003", folder / "model.safetensors"):
            remove(left)
        torch.manual_seed(99)
        resumed = train(model_of(), PAIRS, RECIPE, folder, resume=True, **CALM)
        assert same_weights(resumed, load_model(whole, device="cpu"))
        assert (views / "state.safetensors").stat().st_mtime_ns == read
        remove(folder / "model.safetensors")
        assert finish(model_of(), PAIRS, folder, report=False) == 3
        assert same_weights(load_model(folder, device="cpu"), resumed)


class TestStart:
    def test_views_are_what_the_trunk_sees_and_the_first_is_the_whole_image(self, begun):
        tower = begun.towers[0]
        memory = tower.encoder
        assert isinstance(memory, Remembered)
        assert memory.vectors.shape == (2, 12, tower.encoder.width)
        assert (memory.tints[0] == -1).all()
        assert set(memory.tints[1].tolist()) <= set(range(-1, len(COLOURS)))
        assert (memory.tints[1] >= 0).any()
        trunk = load_trunk(TRUNK)
        pixels = torch.stack([memory.prepare_item(pair.query) for pair in PAIRS])
        with torch.inference_mode():
            seen = trunk.forward_head(trunk.forward_features(pixels.float() / 127.5 - 1), pre_logits=True)
        torch.testing.assert_close(memory.vectors[0].float(), seen, atol=2e-3, rtol=2e-3)
        assert (memory.vectors[1].float() - seen).abs().max() > 0.1
        # It gives what it knows, and asks the trunk about other images.
        assert torch.equal(memory(memory.collate(list(memory.vectors[1]))).states[:, 0], memory.vectors[1].float())
        assert not memory.encoder.training
        torch.testing.assert_close(memory(memory.collate(list(pixels))).states[:, 0], seen, atol=1e-4, rtol=1e-4)
        assert (memory.config(), memory.width) == (memory.encoder.config(), 1280)
        assert not list(memory.parameters())

    def test_the_projection_begins_as_the_weighted_ridge_regression(self, copied):
        """Against the same solution written in pairs instead of dimensions; one thing is seen three times."""
        pairs = [
            replace(pair, positive=Item(text="a bar"), group="bar") if "bar" in pair.group else pair for pair in PAIRS
        ]
        model, folder = model_of(), copied("views")
        begin_images(model, pairs, RECIPE, folder)
        memory, project = model.towers[0].encoder, model.towers[0].head.project
        inputs = np.pad(memory.vectors.flatten(0, 1).double().numpy(), ((0, 0), (0, 1)), constant_values=1)
        targets = np.tile(model.encode([pair.positive.text for pair in pairs]).double().numpy(), (2, 1))
        sizes = np.tile([3 if pair.group == "bar" else 1 for pair in pairs], 2)
        weights = sizes**-RECIPE.start.balance
        weights /= weights.mean()
        solution = inputs.T @ np.linalg.solve(inputs @ inputs.T + RECIPE.start.ridge * np.diag(1 / weights), targets)
        torch.testing.assert_close(project.weight.detach().T.double().numpy(), solution[:-1], atol=1e-5, rtol=1e-4)
        expected = solution[-1] - targets.mean(0)
        torch.testing.assert_close(project.bias.detach().double().numpy(), expected, atol=1e-5, rtol=1e-4)

    def test_share_says_how_much_of_the_steps_is_kept(self, begun):
        tower = begun.towers[0]
        memory, project = tower.encoder, tower.head.project
        began = {name: value.detach().clone() for name, value in project.named_parameters()}
        for share in (0.0, 0.25, 1.0):
            tower.encoder = memory
            learned = {name: value + 4 for name, value in began.items()}
            with head_alone(begun, replace(RECIPE, start=replace(RECIPE.start, share=share))) as conclude:
                project.load_state_dict(learned)
                conclude(None)
            assert tower.encoder is memory.encoder
            for name, value in project.state_dict().items():
                torch.testing.assert_close(value, began[name] + 4 * share, atol=1e-5, rtol=1e-5)
                if share in (0, 1):
                    assert torch.equal(value, (began, learned)[int(share)][name])
        tower.encoder = memory
        with pytest.raises(KeyboardInterrupt), head_alone(begun, RECIPE):
            raise KeyboardInterrupt
        assert tower.encoder is memory.encoder
        tower.encoder = memory
        project.load_state_dict(began)

    def test_a_step_draws_a_view_of_each_image_and_its_caption_knows_how_it_was_painted(self, begun):
        memory, read = begun.towers[0].encoder, begun.towers[1].encoder.prepare_item
        feed = view_feed(begun, RECIPE, build_sampler("shuffled", np.zeros(12, int), batch_size=12, seed=0))
        drawn = []
        for step in (0, 1, 0):
            batch = feed.batch(step)
            views = []
            for row, query, target in zip(batch.rows, batch.queries, batch.targets, strict=True):
                (view,) = (view for view in (0, 1) if torch.equal(memory.vectors[view, row], query.value))
                views.append(view)
                if (tint := int(memory.tints[view, row])) >= 0:
                    assert target.value == read(Item(text=f"a {list(COLOURS)[tint]} {PAIRS[row].name}"))
            drawn.append((batch.rows, views, [target.value for target in batch.targets]))
        assert drawn[0] == drawn[2]
        assert sorted(drawn[0][0]) == sorted(drawn[1][0]) == list(range(12))
        assert {*drawn[0][1]} == {0, 1}
        by_row = [sorted(zip(rows, views, strict=True)) for rows, views, _ in drawn]
        assert by_row[0] != by_row[1]
        # Where the text tower does not learn, its vectors are known.
        text = begun.towers[1].requires_grad_(False)
        known = view_feed(begun, RECIPE, build_sampler("shuffled", np.zeros(12, int), batch_size=12, seed=0)).batch(0)
        text.requires_grad_(True)
        with torch.no_grad():
            expected = text(text.encoder.collate(drawn[0][2]))
        torch.testing.assert_close(torch.stack([target.vector for target in known.targets]), expected)

    def test_a_class_lies_where_its_names_and_its_meaning_do(self, begun):
        found = class_vectors(begun)
        for number in (0, 504, 999):
            words, meaning = classes()[number]
            called, (meant,) = (
                begun.encode(texts).double().numpy()
                for texts in ([text for word in words for text in (word, f"a photo of a {word}")], [meaning])
            )
            mean = called.mean(0) / np.linalg.norm(called.mean(0))
            expected = (2 * mean + 0.7 * meant) / np.linalg.norm(2 * mean + 0.7 * meant)
            np.testing.assert_allclose(found[number].double().numpy(), expected, atol=1e-6)

    def test_captions_say_what_a_view_was_repainted_in(self):
        model = fresh("mini-test")
        data = ImageData(PAIRS, model)
        tints = torch.full((12,), -1)
        red, black = (list(COLOURS).index(name) for name in ("red", "black"))
        tints[3], tints[7] = black, red
        batch = data.batch(torch.arange(12), tints=tints)
        read = model.towers[1].encoder.prepare_item
        assert batch.ids[3] == read(Item(text=f"a black {PAIRS[3].name}"))
        assert batch.ids[7] == read(Item(text=f"a red {PAIRS[7].name}"))
        assert [ids for row, ids in enumerate(batch.ids) if row not in (3, 7)] == [
            read(pair.positive) for row, pair in enumerate(PAIRS) if row not in (3, 7)
        ]
        assert batch.tints is tints


class TestRefused:
    @pytest.mark.parametrize("state", ["views", "images", "width", "kind"])
    def test_views_of_another_run(self, state, whole, tmp_path):
        good = last_checkpoint(whole / "views")
        vectors, tints = good["vectors"], good["tints"]
        bad = {
            "views": {"vectors": vectors[:1].clone(), "tints": tints[:1].clone()},
            "images": {"vectors": vectors[:, :9].clone(), "tints": tints[:, :9].clone()},
            "width": {"vectors": vectors[..., :640].clone(), "tints": tints},
            "kind": {"vectors": "none", "tints": tints},
        }[state]
        save_checkpoint(tmp_path / "views", 0, bad)
        with pytest.raises(DamagedRunError, match=r"views holds no 2 views of 12 images; delete it"):
            begin_images(model_of(), PAIRS, RECIPE, tmp_path)

    def test_views_that_are_cut_off(self, copied):
        folder = copied("views")
        file = folder / "views" / "step-00000000" / "state.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(DamagedRunError, match="views"):
            begin_images(model_of(), PAIRS, RECIPE, folder)

    def test_a_tower_of_another_trunk_or_head(self, tmp_path):
        with pytest.raises(RecipeError, match=f"mini-test: its image tower is not built of the trunk {TRUNK}"):
            begin_images(fresh("mini-test"), PAIRS, RECIPE, tmp_path)
        other = replace(RECIPE, start=replace(RECIPE.start, trunk="efficientnet-lite2"))
        with pytest.raises(
            RecipeError, match="views-test: its image tower is not built of the trunk efficientnet-lite2"
        ):
            begin_images(model_of(), PAIRS, other, tmp_path)
        with pytest.raises(
            RecipeError, match=r"the head of its image tower has no names of classes \(zoo\.heads\.Named\)"
        ):
            begin_images(model_of(Linear), PAIRS, RECIPE, tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "changes",
        [
            {"images": None},
            {"regression": Regression(size=SIZE)},
            {"images": Images(sizes=(ImageSize(SIZE, 1.0),))},
        ],
    )
    def test_a_recipe_of_what_does_not_go_together(self, changes):
        with pytest.raises(RecipeError, match="views: a start on a trunk feeds images of one size from memory"):
            replace(RECIPE, **changes)

    def test_views_that_would_be_all_the_same(self):
        plain = Images(augment=False)
        with pytest.raises(RecipeError, match="views of images that are not augmented are all the same; say views=1"):
            replace(RECIPE, images=plain)
        assert replace(RECIPE, images=plain, start=Start(views=1)).start.views == 1

    def test_plans_out_of_range(self):
        for views in (0, 2.5):
            with pytest.raises(
                RecipeError, match=f"a start needs views of the images, a whole number from 1, not {views}"
            ):
                Start(views=views)
        for wrong in ({"ridge": 0.0}, {"ridge": float("nan")}, {"balance": -0.1}, {"balance": 2.0}):
            with pytest.raises(RecipeError, match="ridge must be above 0 and balance from 0 to 1"):
                Start(**wrong)
        for share in (-0.1, 1.1, float("nan")):
            with pytest.raises(RecipeError, match=f"share must be from 0 to 1, not {share}"):
                Start(share=share)


class TestRecipe:
    def test_stages_are_read_as_they_were_written(self):
        stages = zoo_mini()
        assert [stage.name for stage in stages] == ["text", "image"]
        for stage in (*stages, RECIPE, replace(stages[0], student=Student(layers=(1,)))):
            assert Recipe.from_dict(json.loads(json.dumps(stage.to_dict()))) == stage
        with pytest.raises(RecipeError, match="videos"):
            Recipe.from_dict({**stages[1].to_dict(), "start": {"videos": 1}})

    def test_the_default_learns_words_then_images(self):
        text, image = get_recipe("zoo-mini")(seed=7)
        assert (text.datasets, image.datasets) == (("words",), ("photos", "emoji", "symbols"))
        assert (text.seed, image.seed, text.model, image.model) == (7, 7, "zoo-mini", "zoo-mini")
        assert (text.student, image.start) == (Student(), Start())
        assert text.start is image.student is None
