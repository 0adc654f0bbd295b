"""Merging: closed forms and identities of every method, and Self Positioning on two tasks that pull apart."""

import copy
import itertools
import json
import warnings
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from zoo.training import merging
from zoo.training.errors import DifferentModelsError
from zoo.training.losses.infonce import InfoNCE
from zoo.training.merging import greedy, refresh_batch_norm, slerp, slerp_tensors, task_arithmetic, ties, uniform
from zoo.training.self_positioning import Probe, find_position, self_position, weight_gradient

from tests.training.loss_support import right_in_groups
from zoo import build_model, load_model
from zoo.embedder import Embedder, Tower
from zoo.encoders.static import StaticText
from zoo.errors import TooFewPairsError, ZooError
from zoo.heads import Identity
from zoo.inputs.item import Item
from zoo.pooling import Cls, Mean
from zoo.spec import ModelSpec
from zoo.tables.pairs import Pair

BASE, FIRST, SECOND = range(3)


def moved(model: Embedder, seed: int, by: float = 0.05) -> Embedder:
    """A copy whose weights went a random way, as training does."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)
    return other


@pytest.fixture(scope="module")
def texts():
    """A text model and two that were moved away from it."""
    torch.manual_seed(0)
    base = build_model("text-test")
    return base, moved(base, 1), moved(base, 2)


def state(model: Embedder) -> dict[str, torch.Tensor]:
    return model.state_dict()


def equal(left: Embedder, right: Embedder, atol: float = 0.0) -> bool:
    return all(
        torch.allclose(a, b, rtol=0, atol=atol)
        for a, b in zip(state(left).values(), state(right).values(), strict=True)
    )


# -- soups -----------------------------------------------------------------------------------------------------------


def test_a_soup_of_identical_models_is_that_model_to_the_last_bit(texts):
    same = [texts[FIRST], copy.deepcopy(texts[FIRST]), copy.deepcopy(texts[FIRST])]
    assert equal(uniform(same), texts[FIRST])
    assert equal(slerp(same[0], same[1], 0.3), texts[FIRST], atol=1e-7)
    assert equal(task_arithmetic(same[0], same[1:]), texts[FIRST], atol=1e-7)
    assert equal(ties(same[0], same[1:]), texts[FIRST])


def test_uniform_is_the_weighted_mean_and_leaves_its_inputs_alone(texts):
    before = copy.deepcopy(state(texts[FIRST]))
    merged = uniform(texts, weights=[1, 2, 5])
    for name, tensor in state(merged).items():
        parts = [state(model)[name] for model in texts]
        if tensor.is_floating_point():
            assert torch.allclose(tensor, (parts[0] + 2 * parts[1] + 5 * parts[2]) / 8, atol=1e-6)
        else:
            assert torch.equal(tensor, parts[0])
    assert all(torch.equal(before[name], tensor) for name, tensor in state(texts[FIRST]).items())


def test_folders_are_read_tensor_by_tensor_and_a_merged_model_is_saved_like_any(texts, tmp_path):
    folders = [model.save_pretrained(tmp_path / f"model{i}") for i, model in enumerate(texts)]
    assert all(isinstance(s, merging._Folder) for s in merging.tensors_of(folders))
    merged = uniform(folders)
    assert equal(merged, uniform(texts))
    assert equal(uniform([folders[0], *texts[1:]]), merged)
    merged.save_pretrained(tmp_path / "merged")
    words = ["a red bicycle", "zoo"]
    assert torch.allclose(load_model(tmp_path / "merged").encode(words), merged.encode(words), atol=1e-6)


def test_models_stored_in_other_types_are_named(texts, tmp_path):
    half = texts[SECOND].save_pretrained(tmp_path / "half", torch.float16)
    with pytest.warns(UserWarning, match=r"stored in another type.*: model 2 .*half\), float16, not float32$") as told:
        merged = uniform([texts[FIRST], half])
    assert len(told) == 1
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    with pytest.warns(UserWarning, match=r": model 1 \(text-test\), float32, not float16$"):
        merged = uniform([texts[FIRST], copy.deepcopy(texts[SECOND]).half()], keep=1)
    assert {p.dtype for p in merged.parameters()} == {torch.float16}
    with warnings.catch_warnings():  # of the base only the weights count
        warnings.simplefilter("error")
        task_arithmetic(half, texts[FIRST:])


def test_the_greedy_soup_takes_what_helps_and_leaves_what_harms():
    torch.manual_seed(0)
    goal = build_model("text-test")
    close, closer, far = moved(goal, 1, 0.02), moved(goal, 2, 0.01), moved(goal, 3, 1.0)

    @torch.no_grad()
    def score(model: Embedder) -> float:
        return -float(sum((a - b).square().sum() for a, b in zip(model.parameters(), goal.parameters(), strict=True)))

    merged = greedy([far, close, closer], score)
    assert merged.weights == (0.0, 0.0, 1.0)  # the mean with a twice as noisy one is no better: 0.25 · (1 + 4) > 1
    twin = moved(goal, 4, 0.01)
    merged = greedy([far, closer, twin], score)
    assert merged.weights == (0.0, 0.5, 0.5)
    assert score(merged.model) > score(closer)


# -- task vectors ----------------------------------------------------------------------------------------------------


def test_task_arithmetic_adds_scaled_task_vectors(texts):
    merged = task_arithmetic(texts[BASE], texts[1:], scale=0.3, weights=[1, -1])
    for name, parameter in merged.named_parameters():
        base, first, second = (model.get_parameter(name) for model in texts)
        assert torch.allclose(parameter, base + 0.3 * (first - base) - 0.3 * (second - base), atol=1e-6)
    assert equal(task_arithmetic(texts[BASE], [texts[FIRST]], scale=1.0), texts[FIRST], atol=1e-6)


def test_ties_against_a_plain_rewriting_of_the_paper(texts):
    density, scale = 0.3, 0.7
    merged = ties(texts[BASE], texts[1:], density=density, scale=scale)
    name = "towers.0.encoder.backbone.encoder.layer.0.attention.self.query.weight"
    base, *others = (model.get_parameter(name).detach().flatten().tolist() for model in texts)
    trimmed = []
    for other in others:
        vector = [o - b for o, b in zip(other, base, strict=True)]
        least = sorted(map(abs, vector), reverse=True)[round(density * len(vector)) - 1]
        trimmed.append([v if abs(v) >= least else 0.0 for v in vector])
    for place, (b, *column) in enumerate(zip(base, *trimmed, strict=True)):
        agreeing = [v for v in column if v * sum(column) > 0]
        expected = b + scale * (sum(agreeing) / len(agreeing) if agreeing else 0.0)
        assert merged.get_parameter(name).flatten()[place].item() == pytest.approx(expected, abs=1e-6)
    assert equal(ties(texts[BASE], [texts[FIRST]], density=1.0), texts[FIRST], atol=1e-6)


# -- slerp -----------------------------------------------------------------------------------------------------------


def test_slerp_endpoints_arc_and_length():
    a, b = (F.normalize(torch.randn(4, 5, dtype=torch.float64).flatten(), dim=0).view(4, 5) for _ in range(2))
    assert torch.allclose(slerp_tensors(a, b, 0.0), a)
    assert torch.allclose(slerp_tensors(a, b, 1.0), b)
    angle = torch.arccos((a * b).sum())
    for share in (0.2, 0.5, 0.9):
        middle = slerp_tensors(a, b, share)
        assert middle.norm() == pytest.approx(1.0)  # stays on the sphere, where the mean would fall inside
        assert torch.arccos((a * middle).sum()) == pytest.approx(float(share * angle))
        assert slerp_tensors(2 * a, 6 * b, share).norm() == pytest.approx(2 + 4 * share)
    right = slerp_tensors(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 1 / 3)
    assert torch.allclose(right, torch.tensor([3**0.5 / 2, 0.5]))
    assert torch.equal(slerp_tensors(a, -a, 0.5), torch.zeros_like(a))  # no shortest way: the straight one
    assert torch.equal(slerp_tensors(torch.zeros(3), torch.ones(3), 0.5), torch.full((3,), 0.5))


def test_slerp_of_models_ends_at_both(texts):
    assert equal(slerp(texts[FIRST], texts[SECOND], 0.0), texts[FIRST], atol=1e-6)
    assert equal(slerp(texts[FIRST], texts[SECOND], 1.0), texts[SECOND], atol=1e-6)


# -- batch normalisation, other types, errors ------------------------------------------------------------------------


def test_batch_norm_statistics_are_averaged_said_so_and_can_be_measured_anew():
    torch.manual_seed(0)
    from zoo.encoders.image import TimmImage
    from zoo.encoders.image_transform import PixelTransform

    encoder = TimmImage("test_resnet", PixelTransform(32))
    spec = ModelSpec("images", frozenset({"image"}), encoder.width, "mit")
    model = Embedder(spec, [Tower(encoder, Cls(), Identity())]).eval()
    other = moved(model, 1)
    with torch.no_grad():
        for module in other.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += 1.0
                module.num_batches_tracked += 5
    with pytest.warns(UserWarning, match=r"statistics of \d+ batch norm.*refresh_batch_norm"):
        merged = task_arithmetic(model, [other], scale=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        uniform([model])  # of one model they are its own
    norms = [[m for m in x.modules() if isinstance(m, nn.BatchNorm2d)] for x in (merged, model)]
    assert torch.allclose(norms[0][0].running_mean, norms[1][0].running_mean + 0.5)
    assert all(bool((norm.running_var > 0).all()) for norm in norms[0])
    assert norms[0][0].num_batches_tracked == norms[1][0].num_batches_tracked
    images = [Item(image=torch.randint(0, 255, (3, 32, 32), dtype=torch.uint8).numpy()) for _ in range(9)]
    refresh_batch_norm(merged, images, batch_size=8)
    seen = []
    norms[0][0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    merged.encode(images, batch_size=9)
    assert torch.allclose(norms[0][0].running_mean, seen[0].mean((0, 2, 3)), atol=1e-5)
    assert not any(norm.training for norm in norms[0])


def test_half_precision_stays_half():
    torch.manual_seed(0)
    model = build_model("text-test").half()
    merged = uniform([model, moved(model, 1, 0.01)])
    assert {p.dtype for p in merged.parameters()} == {torch.float16}


def letters(pooler: nn.Module, vocabulary: str, width: int = 8) -> Embedder:
    tokenizer = Tokenizer(WordLevel({letter: i for i, letter in enumerate(vocabulary)}, unk_token="a"))
    encoder = StaticText(len(vocabulary), width, tokenizer=tokenizer)
    return Embedder(ModelSpec("letters", frozenset({"text"}), width, "mit"), [Tower(encoder, pooler, Identity())])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda: letters(Cls(), "abc"), "tower 0 pooler is Cls and not Mean"),
        (lambda: letters(Mean(), "abc", 6), "tower 0 encoder width is 6 and not 8"),
        (lambda: letters(Mean(), "acb"), "tower 0 vocabulary"),
        (lambda: build_model("mini-test"), "number of towers is 2 and not 1"),
        (lambda: build_model("text-test"), "encoder is TransformersText and not StaticText"),
    ],
)
def test_models_that_differ_are_refused_by_their_first_difference(other, says, tmp_path):
    other = other()
    with pytest.raises(DifferentModelsError, match=says):
        uniform([letters(Mean(), "abc"), other])
    folders = [letters(Mean(), "abc").save_pretrained(tmp_path / "a"), other.save_pretrained(tmp_path / "b")]
    with pytest.raises(ZooError, match=says):
        uniform(folders)


def test_wrong_weights_are_refused(texts):
    with pytest.raises(ValueError, match="2 weights for 3 models"):
        uniform(texts, weights=[0.5, 0.5])
    with pytest.raises(ValueError, match="sum above 0"):
        uniform(texts, weights=[1, -1, 0])
    with pytest.raises(DifferentModelsError, match="no model"):
        uniform([])
    with pytest.raises(ValueError, match="density"):
        ties(texts[0], texts[1:], density=0)


# -- Self Positioning: closed forms ----------------------------------------------------------------------------------


def tensors(seed: int, count: int = 3) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"weight": (4, 6), "bias": (4,)}
    return [
        {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in sizes.items()} for _ in range(count)
    ]


def test_free_weights_find_a_quadratic_minimum():
    base, *vectors = tensors(0)
    goal = {name: base[name] + 0.3 * vectors[0][name] + 0.7 * vectors[1][name] for name in base}

    def distance(at: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum((at[name] - goal[name]).square().sum() for name in at)

    found = find_position(base, vectors, distance, steps=400, convex=False, learn_scale=False)
    assert found.weights.tolist() == pytest.approx([0.3, 0.7], abs=1e-4)
    assert found.losses[-1] < 1e-6 < found.losses[0]
    convex = find_position(base, vectors, distance, steps=400, convex=True, learn_scale=True)
    assert convex.weights.tolist() == pytest.approx([0.3, 0.7], abs=1e-3)
    assert convex.scale == pytest.approx(1.0, abs=1e-3)


def test_a_scale_that_the_task_vectors_need_is_found_within_its_bounds():
    base, *vectors = tensors(1)
    for wanted, expected in ((1.5, 1.5), (5.0, 2.0), (0.1, 0.5)):
        goal = {n: base[n] + wanted * (0.5 * vectors[0][n] + 0.5 * vectors[1][n]) for n in base}

        def distance(at: dict[str, torch.Tensor], goal=goal) -> torch.Tensor:
            return sum((at[name] - goal[name]).square().sum() for name in at)

        found = find_position(base, vectors, distance, steps=150, lr=0.1)
        assert found.scale == pytest.approx(expected, abs=0.02)


def test_the_gradient_for_the_weights_equals_finite_differences_of_infonce():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 5)).double()
    base = {name: parameter.detach() for name, parameter in model.named_parameters()}
    vectors = [{name: 0.3 * torch.randn_like(tensor) for name, tensor in base.items()} for _ in range(3)]
    inputs = torch.randn(2, 12, 6, dtype=torch.float64)
    loss = InfoNCE(0.1, learn=False).double()

    def objective(at: dict[str, torch.Tensor]) -> torch.Tensor:
        queries, targets = (F.normalize(functional_call(model, at, (side,)), dim=-1) for side in inputs)
        return loss(queries, targets)

    weights, scale, eps = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), 1.3, 1e-5
    _, along, for_scale = weight_gradient(base, vectors, objective, weights, scale)
    for place in range(3):
        step = eps * torch.eye(3, dtype=torch.float64)[place]
        up, down = (weight_gradient(base, vectors, objective, weights + s * step, scale)[0] for s in (1, -1))
        assert float(along[place]) == pytest.approx(float((up - down) / (2 * eps)), abs=1e-6)
    up, down = (weight_gradient(base, vectors, objective, weights, scale + s * eps)[0] for s in (1, -1))
    assert float(for_scale) == pytest.approx(float((up - down) / (2 * eps)), abs=1e-6)
    assert along.abs().min() > 1e-4


# -- Self Positioning: real towers -----------------------------------------------------------------------------------

KINDS, WAYS = 40, 4


def say(topic: int, style: int, generator: torch.Generator) -> Item:
    """Two words of a topic and two of a style, each one of four synonyms."""
    ways = torch.randint(WAYS, (4,), generator=generator).tolist()
    return Item(text=f"t{topic}.{ways[0]} t{topic}.{ways[1]} s{style}.{ways[2]} s{style}.{ways[3]}")


def told(task: str, count: int, generator: torch.Generator) -> list[Pair]:
    """Pairs that share their topic, or their style, and differ in the other."""
    pairs = []
    for same, one, two in torch.randint(KINDS, (count, 3), generator=generator).tolist():
        if task == "topic":
            query, positive = say(same, one, generator), say(same, two, generator)
        else:
            query, positive = say(one, same, generator), say(two, same, generator)
        pairs.append(Pair(query, positive, group=f"{task}{same}", dataset=task))
    return pairs


def untrained(seed: int, width: int = 32) -> Embedder:
    torch.manual_seed(seed)
    words = [f"{kind}{i}.{way}" for kind, i, way in itertools.product("ts", range(KINDS), range(WAYS))]
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    encoder = StaticText(len(words) + 1, width, tokenizer=tokenizer)
    nn.init.normal_(encoder.table.weight, std=0.1)
    return Embedder(ModelSpec("words", frozenset({"text"}), width, "mit"), [Tower(encoder, Mean(), Identity())])


def trained(model: Embedder, pairs: list[Pair], steps: int) -> Embedder:
    model = copy.deepcopy(model)
    tower, loss = model.towers[0], InfoNCE(0.1, learn=False)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    sides = [[tower.encoder.prepare_item(getattr(pair, side)) for pair in pairs] for side in ("query", "positive")]
    names = sorted({pair.group for pair in pairs})
    groups = torch.tensor([names.index(pair.group) for pair in pairs])
    for _ in range(steps):
        rows = torch.randperm(len(pairs))[:64]
        queries, targets = (tower(tower.encoder.collate([reads[i] for i in rows.tolist()])) for reads in sides)
        optimiser.zero_grad()
        loss(queries, targets, right=right_in_groups(groups[rows], groups[rows])).backward()
        optimiser.step()
    return model.eval()


@pytest.fixture(scope="module")
def experts():
    return make_experts(0)


def make_experts(seed: int):
    """A base, an expert with ten times the data and steps of the other, and a generator for more pairs."""
    generator = torch.Generator().manual_seed(seed)
    base = untrained(seed)
    topic = trained(base, told("topic", 2000, generator), steps=150)
    style = trained(base, told("style", 200, generator), steps=15)
    return base, topic, style, generator


def worst_recall(test: Probe, model: Embedder) -> float:
    """Recall@1 on the task that it does worst."""
    return min(score.recall for score in test.scores(model))


def check_worst_task(base: Embedder, topic: Embedder, style: Embedder, generator: torch.Generator) -> None:
    probe = told("topic", 40, generator) + told("style", 40, generator)
    test = Probe(told("topic", 200, generator) + told("style", 200, generator), base)
    merged = self_position([topic, style], probe, base=base, steps=60)
    worst = {name: worst_recall(test, m) for name, m in (("topic", topic), ("style", style), ("merged", merged.model))}
    soup = worst_recall(test, uniform([topic, style]))
    assert worst["merged"] > soup + 0.05
    assert worst["merged"] > max(worst["topic"], worst["style"]) + 0.1
    assert merged.weights[1] > merged.weights[0]  # the one with little data was drowned in the soup
    assert sum(merged.weights) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
def test_the_worst_task_gains_over_experts_and_soup_when_data_are_ten_to_one(experts):
    check_worst_task(*experts)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_worst_task_gains_for_other_seeds_too(seed):
    check_worst_task(*make_experts(seed))


def test_one_model_is_itself_where_the_scale_stays_one(experts):
    base, topic, _, generator = experts
    probe = told("topic", 20, generator)
    merged = self_position([topic], probe, base=base, steps=3, learn_scale=False)
    assert equal(merged.model, topic, atol=1e-6)
    assert merged[1:3] == ((1.0,), 1.0)


def test_without_a_base_the_merged_model_is_the_weighted_mean(experts):
    _, topic, style, generator = experts
    probe = told("topic", 40, generator) + told("style", 40, generator)
    merged = self_position([topic, style], probe, steps=5)
    assert merged.scale == 1.0
    assert equal(merged.model, uniform([topic, style], merged.weights), atol=1e-5)
    again = self_position([topic, style], probe, steps=5)
    assert again.weights == merged.weights
    assert self_position([topic, style], probe, steps=5, seed=1).weights != merged.weights


def test_the_size_of_a_task_in_the_probe_does_not_matter(experts):
    base, topic, _, generator = experts
    one, other = told("topic", 64, generator), told("style", 64, generator)
    even = Probe(one[:32] + other[:32], base).scores(topic)
    scores = [Probe(one * times + other[:32], base, per_task=10_000) for times in (1, 5)]
    losses = [float(p.batch_loss(topic, dict(topic.named_parameters()), torch.Generator()).detach()) for p in scores]
    by_task = [[s.loss for s in p.scores(topic)] for p in scores]
    assert losses == pytest.approx([sum(each) / 2 for each in by_task], abs=1e-4)
    assert [score.task for score in even] == ["topic", "style"]
    assert even[0].recall > 0.9 > 0.3 > even[1].recall


def test_merging_real_dual_towers_on_images_and_texts():
    torch.manual_seed(0)
    base = build_model("mini-test")
    images = [Item(image=torch.randint(0, 255, (32, 32, 3), dtype=torch.uint8).numpy()) for _ in range(12)]
    pairs = [Pair(image, Item(text=f"thing {i}")) for i, image in enumerate(images)]
    lost, learned = moved(base, 1, 0.05), copy.deepcopy(base)
    probe, generator = Probe(pairs, base), torch.Generator()
    optimiser = torch.optim.Adam(learned.parameters(), lr=1e-2)
    for _ in range(8):
        optimiser.zero_grad()
        probe.batch_loss(learned, dict(learned.named_parameters()), generator).backward()
        optimiser.step()
    with pytest.warns(UserWarning, match="batch normalisations"):
        merged = self_position([lost, learned], probe, base=base, steps=25, lr=0.2)
    loss = {name: probe.scores(m)[0].loss for name, m in (("lost", lost), ("base", base), ("merged", merged.model))}
    assert merged.weights[1] > 0.8
    assert loss["merged"] < min(loss["lost"], loss["base"]) - 0.3
    assert merged.model.encode([pairs[3].query, "thing 3"]).shape == (2, 32)


def test_a_probe_needs_pairs_and_lists_unusable_ones(experts):
    base, *_, generator = experts
    with pytest.raises(TooFewPairsError, match="two usable pairs"):
        Probe([], base)
    good = told("topic", 3, generator)
    bad = replace(good[0], query=Item(text=" "), where="probe.csv, line 9")
    assert Probe([*good, bad], base).bad[0][0] == "probe.csv, line 9"
    with pytest.raises(TooFewPairsError, match="lonely"):
        Probe([*good, replace(good[0], dataset="lonely")], base)
    many = told("topic", 50, generator) + told("style", 7, generator)
    assert {name: len(rows) for name, rows in Probe(many, base, limit=10).tasks.items()} == {"topic": 10, "style": 7}
    assert json.dumps(Probe(good, base).scores(base)[0]._asdict())
