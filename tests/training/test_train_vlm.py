"""Vision-language embedders through the one trainer: gradients, adapters, stages, instructions, and that they learn."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from zoo.training import Pair, Recipe, recipes, train
from zoo.training.adapters import Lora, add_lora, load_adapter, merge_lora, save_adapter
from zoo.training.grad_cache import CachedEmbeddings, Read
from zoo.training.losses import build_loss
from zoo.training.recipe import stages_of

from tests.training import train_support
from tests.training.loss_support import right_of
from tests.training.train_support import SHAPES, fresh, make_image, quick, same_weights
from zoo import load_model
from zoo.errors import TableError
from zoo.inputs.item import Item
from zoo.tables import open_pairs, write_pairs

PAINTS = {
    "red": (200, 30, 30),
    "blue": (30, 60, 210),
    "green": (30, 160, 60),
    "gold": (240, 220, 40),
    "black": (10, 10, 10),
    "pink": (250, 120, 180),
    "orange": (250, 140, 20),
    "brown": (120, 70, 30),
}
TASK = "Find an image that shows this thing, changed as the text says:"
SMALL = Lora(rank=4, alpha=16, targets=("language_model",))


@pytest.fixture(autouse=True)
def _eight_paints(monkeypatch):
    monkeypatch.setattr(train_support, "PAINTS", PAINTS)


def shapes(size: int = 28, **facts) -> list[Pair]:
    """32 images, each with its caption."""
    return [
        Pair(
            Item(image=make_image(shape, paint, size)),
            Item(text=f"a {paint} {shape}"),
            where=f"{paint} {shape}",
            **facts,
        )
        for shape in SHAPES
        for paint in PAINTS
    ]


def changes(count: int, dataset: str = "", scores: int = 0) -> list[Pair]:
    """Image + new colour → its caption, with the unchanged image's caption as hard negative; several sizes."""
    found = []
    for i in range(count):
        shape, old, new = SHAPES[i % 4], *[list(PAINTS)[(i + k) % 8] for k in (0, 3)]
        query = Item(image=make_image(shape, old, 28 + 28 * (i % 3)), text=f"in {new}", instruction=TASK)
        negative = Item(text=f"a {old} {shape}")
        found.append(
            Pair(
                query,
                Item(text=f"a {new} {shape}"),
                (negative,),
                dataset=dataset,
                where=f"change {i}",
                teacher_scores=(0.9, 0.1 + 0.01 * i) if scores else (),
            )
        )
    return found


def hit_at_1(model, pairs) -> float:
    queries, targets = (
        model.encode([item(pair) for pair in pairs]) for item in (lambda p: p.query, lambda p: p.positive)
    )
    return float(((queries @ targets.T).argmax(1) == torch.arange(len(pairs))).float().mean())


# ---------------------------------------------------------------------------------------------------------- gradients


def of_one_batch(model, micro_batch):
    """(cached embeddings, gradients) of some pairs with images of three sizes and one long instruction."""
    pairs = changes(6)
    encoder = model.towers[0].encoder
    items = [pair.query for pair in pairs]
    items += [Item(text=pair.positive.text, instruction=TASK) for pair in pairs] + [pair.negatives[0] for pair in pairs]
    reads = [Read(0, encoder.prepare_item(item)) for item in items]
    model.zero_grad()
    embedded = CachedEmbeddings(
        lambda tower, batch, layers: model.towers[tower](batch), model, reads, micro_batch=micro_batch, seed=5
    )
    vectors = embedded.vectors.clone().requires_grad_()
    loss_of(vectors).backward()
    embedded.backward(vectors.grad)
    return embedded, gradients(model)


def loss_of(vectors):
    return build_loss("infonce(temperature=0.05, symmetric=False)").double()(vectors[:6], vectors[6:])


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("name", "lora", "dropout"),
    [
        ("vlm2vec-test", False, 0.0),
        ("vlm2vec-test", False, 0.2),
        pytest.param("vlm2vec-test", True, 0.0, marks=pytest.mark.slow),
        ("vlm2vec-test", True, 0.2),
        ("u-marvel-test", True, 0.2),  # bidirectional
        ("qwen3vl-test", False, 0.2),  # features of inner vision layers
        ("instructcir-test", True, 0.2),  # LLaVA
    ],
)
def test_cached_gradients_are_those_of_the_plain_batch(name, lora, dropout):
    """In one process; with dropout each chunk must draw the same in both of its passes, a shared instruction or not."""
    model = fresh(name)
    if lora:
        add_lora(model, Lora(rank=4, dropout=dropout, targets=("language_model",)))
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            nn.init.normal_(parameter, std=0.1)
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = dropout
    model.double().train()
    embedded, cached = of_one_batch(model, micro_batch=4)
    assert len(embedded.chunks) == 5

    model.zero_grad()
    whole = torch.cat([embedded._forward(i, with_grad=True, first=True) for i in range(5)])
    loss_of(whole[torch.cat([chunk.places for chunk in embedded.chunks]).argsort()]).backward()
    plain = gradients(model)
    assert cached.keys() == plain.keys()
    assert max(float((cached[name] - grad).abs().max()) for name, grad in plain.items()) < 1e-6
    assert max(float(grad.abs().max()) for grad in plain.values()) > 1e-2
    if not dropout:  # chunks cut otherwise give the same
        other = of_one_batch(model, micro_batch=None)[1]
        assert max(float((other[name] - grad).abs().max()) for name, grad in plain.items()) < 1e-6


def test_two_kinds_of_convolution_in_one_tower_are_put_in_order():
    """Images' convolutions are faster channels-last on a CPU; those over frames know no such order."""
    from zoo.training.run import _channels_last

    both = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, (2, 3, 3))])
    _channels_last(both)
    assert both[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert both[1].weight.is_contiguous()


# ----------------------------------------------------------------------------------------------------- what learns


@pytest.mark.parametrize("name", ["vlm2vec-test", pytest.param("qwen3vl-test", marks=pytest.mark.slow)])
def test_bfloat16_and_single_items(name, tmp_path):
    recipe = quick(steps=2, lora=SMALL, precision="bf16", micro_batch=1)
    model = train(fresh(name), changes(8), recipe, tmp_path, progress=False, trackers=(), report=False)
    assert torch.isfinite(model.encode([pair.query for pair in changes(3)])).all()


def test_only_the_language_model_learns_where_the_vision_layers_are_frozen(tmp_path):
    for number, changed in enumerate(({"freeze": ("*.visual",)}, {"lora": SMALL})):
        model, before = fresh("vlm2vec-test"), fresh("vlm2vec-test").state_dict()
        train(model, shapes(), quick(**changed), tmp_path / str(number), progress=False, trackers=(), report=False)
        moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert moved
        assert not any(".visual." in name for name in moved)
        if "lora" in changed:
            assert {name.rpartition(".")[0].rpartition(".")[2] for name in moved} == {
                *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
            }


@pytest.mark.slow
def test_a_toy_set_is_learned_by_heart(tmp_path):
    """vlm_embedders.md, section 0.2: 32 coloured shapes, batches of 16, rank 4, 200 steps."""
    model, pairs = fresh("vlm2vec-test"), shapes()
    assert hit_at_1(model, pairs) < 0.2
    recipe = Recipe(
        steps=200,
        batch_size=16,
        lr=3e-3,
        weight_decay=0.0,
        clip=5.0,
        loss="infonce(temperature=0.05, learn=False)",
        lora=SMALL,
        checkpoint_every=200,
    )
    train(model, pairs, recipe, tmp_path, progress=False, trackers=(), report=False)
    assert hit_at_1(model, pairs) > 0.95


# ---------------------------------------------------------------------------------------------------------- and is kept


@pytest.mark.parametrize(
    "changed", [{"freeze": ("*.visual",)}, {"lora": Lora(rank=2, dropout=0.1, targets=SMALL.targets)}]
)
def test_a_resumed_run_has_the_same_bits_and_the_folder_opens(changed, tmp_path):
    recipe = quick(steps=4, micro_batch=5, negatives=1, loss="infonce(symmetric=False)", **changed)
    given = {"progress": False, "trackers": (), "report": False}
    whole = train(fresh("vlm2vec-test"), changes(12), recipe, tmp_path / "whole", **given)
    train(fresh("vlm2vec-test"), changes(12), recipe, tmp_path / "parts", **given)
    # As after a kill after the second step: the last checkpoint is not there, nor anything that came later.
    train_support.remove(tmp_path / "parts" / "checkpoints" / "step-00000004")
    (tmp_path / "parts" / "config.json").unlink()
    resumed = train(fresh("vlm2vec-test"), changes(12), recipe, tmp_path / "parts", resume=True, **given)
    assert same_weights(whole, resumed)
    opened = load_model(str(tmp_path / "parts"))
    items = [pair.query for pair in changes(4)] + [Item(text="a red bar")]
    assert torch.equal(opened.encode(items), resumed.encode(items))
    assert opened.towers[0].encoder.format == whole.towers[0].encoder.format


def test_an_adapter_of_a_run_put_on_its_base_gives_the_finished_model(tmp_path):
    recipe = quick(lora=Lora(rank=4, alpha=16, targets=SMALL.targets, dora=True))
    trained = train(fresh("vlm2vec-test"), shapes(), recipe, tmp_path, progress=False, trackers=(), report=False)
    items = [Item(text="a red bar"), shapes()[3].query]
    base = fresh("vlm2vec-test").encode(items)
    loaded = load_adapter(fresh("vlm2vec-test"), tmp_path / "adapter")
    assert torch.allclose(loaded.encode(items), trained.encode(items), atol=1e-6)
    assert torch.allclose(merge_lora(loaded).encode(items), trained.encode(items), atol=1e-6)
    assert (base - trained.encode(items)).abs().max() > 1e-3
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["use_dora"] is True
    assert config["base_model_name_or_path"] == "vlm2vec-test"


@pytest.mark.parametrize("name", ["vlm2vec-test", "instructcir-test"])
def test_a_published_adapter_opens_by_itself_with_its_base(name, tmp_path):
    """A repository with an adapter alone, as VLM2Vec's: base_model_name_or_path says what it is added to."""
    model = fresh(name)
    encoder = model.towers[0].encoder
    encoder.backbone.save_pretrained(tmp_path / "base")
    encoder.processor.save_pretrained(tmp_path / "base")
    add_lora(model, Lora(rank=4, dora=True, targets=("language_model",)))
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name:
            parameter.data += 0.05 * torch.randn_like(parameter)
    save_adapter(model, tmp_path / "adapter", base=str(tmp_path / "base"))
    opened = load_model(str(tmp_path / "adapter"), like=name)
    items = [Item(text="a red bar"), shapes()[3].query]
    assert torch.allclose(opened.encode(items), model.encode(items), atol=1e-5)
    assert (load_model(str(tmp_path / "base"), like=name).encode(items) - model.encode(items)).abs().max() > 1e-3


# ---------------------------------------------------------------------------------------------------------- the losses


def unit(*shape):
    values = np.random.default_rng(sum(shape)).normal(size=shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def value(text: str, queries, targets, **extras) -> float:
    loss = build_loss(text).double()
    given = {k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in extras.items()}
    return float(loss(torch.as_tensor(queries), torch.as_tensor(targets), **given).detach())


def test_triplets_with_one_hard_negative_are_instructcirs_two_blocks_of_logits():
    """[cos(z1, z2) / 0.05, cos(z1, z3) / 0.05] `(N, 2N)`, the diagonal of the first block being right (section 4.4)."""
    z1, z2, z3 = unit(5, 8), unit(5, 8) @ np.diag([1, -1] * 4), unit(5, 8)[::-1]
    logits = np.concatenate([z1 @ z2.T, z1 @ z3.T], 1) / 0.05
    expected = -np.log(softmax(logits)[np.arange(5), np.arange(5)]).mean()
    loss = recipes.instructcir_stages()[1].loss
    assert value(loss, z1, np.concatenate([z2, z3])) == pytest.approx(expected, rel=1e-6)


def test_distillation_follows_the_mean_of_cosine_and_reranker():
    """KL(softmax(teacher / T) ‖ softmax(cos / T)), teacher = (cosine + P(yes)) / 2 (U-MARVEL, section 3.3)."""
    queries, candidates = unit(3, 8), unit(3, 5, 8)
    before, old = unit(3, 6), unit(3, 5, 6)
    said = np.random.default_rng(0).uniform(size=(3, 5))
    temperature = 0.05
    teacher = softmax((np.einsum("qd,qcd->qc", before, old) + said) / 2 / temperature)
    student = softmax(np.einsum("qd,qcd->qc", queries, candidates) / temperature)
    expected = (teacher * (np.log(teacher) - np.log(student))).sum(1).mean()

    def laid_out(of):  # positives, then the others
        return np.concatenate([of[:, 0], of[:, 1:].reshape(-1, of.shape[-1])])

    loss = recipes.umarvel_stages()[-1].loss
    extras = {"teacher_queries": before, "teacher_targets": laid_out(old), "teacher_scores": said}
    assert value(loss, queries, laid_out(candidates), **extras) == pytest.approx(expected, rel=1e-6)


def test_a_temperature_learned_as_divisor_has_the_divisors_gradient():
    queries, targets = (torch.as_tensor(unit(4, 8)), torch.as_tensor(unit(8, 8)))
    loss = build_loss("infonce(temperature=0.2, divisor=True, symmetric=False)").double()
    loss(queries, targets).backward()
    temperature = torch.tensor(0.2, dtype=torch.float64).float().double().requires_grad_()
    nn.functional.cross_entropy(queries @ targets.T / temperature, torch.arange(4)).backward()
    assert loss.temperature.divisor.grad == pytest.approx(float(temperature.grad), rel=1e-6)
    with torch.no_grad():
        loss.temperature.divisor.fill_(-1.0)
    loss.temperature.limit()
    assert 1 / float(loss.scale.detach()) == pytest.approx(1e-3, rel=1e-6)


def test_hard_negatives_weigh_more_as_in_llave():
    """log(e^{s+/t} + Σ e^{9·sg(s-)} e^{s-/t}) - s+/t (section 6.8)."""
    queries, targets = unit(4, 8), unit(8, 8)
    similarity = queries @ targets.T
    right = similarity[np.arange(4), np.arange(4)]
    wrong = np.exp(9 * similarity) * np.exp(similarity / 0.05)
    wrong[np.arange(4), np.arange(4)] = 0
    expected = (np.log(np.exp(right / 0.05) + wrong.sum(1)) - right / 0.05).mean()
    text = "hardness(temperature=0.05, learn=False, symmetric=False)"
    assert value(text, queries, targets) == pytest.approx(expected, rel=1e-6)
    plain = value("infonce(temperature=0.05, learn=False, symmetric=False)", queries, targets)
    assert value(
        "hardness(alpha=0, temperature=0.05, learn=False, symmetric=False)", queries, targets
    ) == pytest.approx(plain)
    leaf = torch.as_tensor(queries).requires_grad_()
    build_loss(text).double()(leaf, torch.as_tensor(targets)).backward()
    chance = wrong / (np.exp(right / 0.05) + wrong.sum(1))[:, None]
    chance[np.arange(4), np.arange(4)] = -chance.sum(1)  # no gradient through the weights
    assert np.allclose(leaf.grad.numpy(), chance @ targets / 0.05 / 4, atol=1e-6)
    right = right_of(torch.from_numpy(np.arange(4)[:, None] == np.r_[0:4, 0, 0, 0, 0]))
    left_out = value(text, queries, targets, right=right)
    assert np.isfinite(left_out)


# ---------------------------------------------------------------------------------------------------------- the stages


@pytest.mark.slow
def test_umarvels_five_stages_go_through_one_run(tmp_path):
    texts = [
        Pair(Item(text=f"{a} {b}"), Item(text=f"{b} and {a}"), (Item(text=f"no {a}"),), dataset="text")
        for a in PAINTS
        for b in SHAPES[:2]
    ]
    pairs = [
        *texts,
        *shapes(dataset="caption"),
        *changes(12, "instruct"),
        *changes(12, "hard"),
        *changes(12, "distil", scores=1),
    ]
    small = {"batch_size": 6, "micro_batch": 4, "steps": 2, "lora": SMALL, "checkpoint_every": 2}
    stages = recipes.umarvel_stages(**small)
    given = {"progress": False, "trackers": (), "report": False}
    model = train(fresh("u-marvel-test"), pairs, stages, tmp_path / "whole", **given)
    folders = [f"stage-{i}-{stage.name}" for i, stage in enumerate(stages, 1)]
    assert [stage.name for stage in stages] == ["text", "caption", "instruct", "hard", "distil"]
    assert not any("lora" in name for name in model.state_dict())
    # Each stage's adapter was merged before the next began: one after the other, they make the finished model.
    rebuilt = fresh("u-marvel-test")
    for folder in folders:
        merge_lora(load_adapter(rebuilt, tmp_path / "whole" / folder / "adapter"))
    items = [pair.query for pair in changes(3)]
    assert torch.allclose(rebuilt.encode(items), model.encode(items), atol=1e-5)

    train(fresh("u-marvel-test"), pairs, stages, tmp_path / "parts", **given)
    last = tmp_path / "parts" / folders[-1]
    for path in (last, tmp_path / "parts" / folders[-2] / "adapter"):
        train_support.remove(path)
    resumed = train(fresh("u-marvel-test"), pairs, stages, tmp_path / "parts", resume=True, **given)
    assert same_weights(model, resumed)


def test_instructcirs_two_stages_learn_the_change(tmp_path):
    pairs = [*shapes(dataset="captions"), *changes(24, "triplets")]
    small = {"batch_size": 12, "steps": 3, "lora": SMALL, "lr": 3e-3, "checkpoint_every": 3}
    model = train(
        fresh("instructcir-test"), pairs, recipes.instructcir_stages(**small), tmp_path, progress=False, trackers=()
    )
    assert (tmp_path / "stage-2-triplet" / "adapter" / "adapter_config.json").is_file()
    assert torch.isfinite(model.encode(pairs[-1].query)).all()
    assert (
        "stage-2-triplet" in (tmp_path / "report.md").read_text() or "triplet" in (tmp_path / "report.md").read_text()
    )


def test_vlm2vecs_recipe_is_theirs_and_runs(tmp_path):
    recipe = recipes.vlm2vec()
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout, recipe.lora.dora) == (16, 64, 0.1, True)
    assert (recipe.lora.init, recipe.steps, recipe.batch_size, recipe.lr) == ("gaussian", 5000, 1024, 5e-5)
    pairs = [*shapes(dataset="captions"), *changes(12, "changes")]
    model, before = fresh("vlm2vec-test"), fresh("vlm2vec-test")
    small = recipes.vlm2vec(batch_size=8, micro_batch=3, steps=2, lr=1e-2, warmup=1)
    train(model, pairs, small, tmp_path, progress=False, trackers=(), report=False)
    assert not torch.allclose(model.encode("a"), before.encode("a"), atol=1e-5)


def test_the_first_values_of_adapters_are_uniform_or_gaussian():
    found = {}
    for init in ("uniform", "gaussian"):
        model = add_lora(fresh("vlm2vec-test"), Lora(rank=8, targets=("q_proj", "up_proj"), init=init))
        found[init] = torch.cat([p.flatten() for name, p in model.named_parameters() if "lora_A" in name])
        assert all(not p.any() for name, p in model.named_parameters() if "lora_B" in name)
    assert float(found["uniform"].detach().abs().max()) <= 32**-0.5 + 1e-6
    assert float(found["gaussian"].detach().std()) == pytest.approx(1 / 8, rel=0.1)
    with pytest.raises(ValueError, match="uniform or gaussian"):
        Lora(init="zeros")


def test_a_model_can_be_its_own_teacher_as_its_stage_began(tmp_path):
    """With rate 0 the student stays its teacher: KL is 0 where the reranker's share is that of the cosine."""
    pairs = [
        Pair(pair.query, pair.positive, pair.negatives, teacher_scores=(0.5, 0.5), where=pair.where)
        for pair in changes(8)
    ]
    loss = 'distillation(space="group", cosine=1.0, temperature=0.1)'
    recipe = quick(steps=2, batch_size=8, lr=1e-12, loss=loss, teacher="itself")
    train(fresh("vlm2vec-test"), pairs, recipe, tmp_path, progress=False, trackers=(), report=False)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses
    assert max(losses) < 1e-6


def test_images_with_words_are_decoded_once_in_a_run(tmp_path, monkeypatch):
    model = fresh("vlm2vec-test")
    images, seen = type(model.towers[0].encoder.readers["image"]), []
    read = images.read
    monkeypatch.setattr(images, "read", lambda self, value: seen.append("image") or read(self, value))
    monkeypatch.setattr("zoo.formats.writing._prove", lambda *_: None)  # saving compares vectors of its own images
    recipe = quick(steps=8, batch_size=8, negatives=0, query_prompt="Find: ")  # four epochs
    train(model, changes(16), recipe, tmp_path, progress=False, trackers=(), report=False)
    assert 16 <= len(seen) <= 24  # threads may read one at the same time; four epochs would be 64


# ------------------------------------------------------------------------------------------------------ instructions


def test_instructions_of_a_table_reach_the_items_and_are_written_back(tmp_path):
    rows = [
        {"qry": "red", "qry_inst": "Find it: \n", "pos": "a red bar", "negatives": ["a", "b"], "tgt_inst": "Read: "},
        {"qry": "blue", "qry_inst": "", "pos": "a blue bar", "negatives": ["c"], "tgt_inst": None},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = open_pairs(path)
    first, second = table[0], table[1]
    assert first.query.instruction == "Find it: \n"  # to the letter: the last token is what is pooled
    assert [item.instruction for item in (first.positive, *first.negatives)] == ["Read: "] * 3
    assert all(item.instruction is None for item in second.items())
    assert "query instruction" in str(table.schemas[0])
    for ending in ("jsonl", "parquet"):
        again = open_pairs(write_pairs(list(table), tmp_path / f"again.{ending}"))
        for old, new in zip(table, again, strict=True):
            assert [(i.text, i.instruction) for i in old.items()] == [(i.text, i.instruction) for i in new.items()]
    mixed = Pair(Item(text="a"), Item(text="b", instruction="x"), (Item(text="c"),))
    with pytest.raises(TableError, match="different instructions"):
        write_pairs([mixed], tmp_path / "mixed.jsonl")
    with pytest.raises(TableError, match="an item of parts cannot be written"):
        write_pairs([Pair(Item(parts=["a", "b"]), Item(text="b"))], tmp_path / "parts.jsonl")
    path.write_text(json.dumps({"query": "a", "positive": "b", "query_instruction": 3}) + "\n")
    with pytest.raises(TableError, match="the query_instruction is a number"):
        open_pairs(path).check()


# --------------------------------------------------------------------------------------------------- composed retrieval


@pytest.mark.slow
def test_composed_retrieval_improves_with_training(tmp_path, pack):
    """Seconds of it over ../shared/data/composed; minutes in `benchmarks/composed.py`."""
    pack("composed")
    from zoo.evaluation.composed import composed_recall
    from zoo.tables.pack_files import read_composed

    images, triplets = read_composed("val")

    def recall_at_10(model) -> float:
        gallery = model.encode([Item(image=image) for image in images.values()])
        queries = model.encode([Item(image=images[t.reference], text=t.text) for t in triplets])
        return composed_recall(queries @ gallery.T, triplets, list(images))[10]

    model = fresh("vlm2vec-test")
    before = recall_at_10(model)
    loss = "infonce(temperature=0.05, symmetric=False)"
    recipe = recipes.finetune(steps=36, lr=3e-3, batch_size=24, holdout=0.0, loss=loss)
    train(model, open_pairs("pack:composed"), recipe, tmp_path, progress=False, trackers=(), report=False)
    assert recall_at_10(model) > before + 0.1


def test_stages_by_name():
    for name in ("umarvel", "instructcir", "vlm2vec"):
        assert all(stage.lora is not None for stage in stages_of(recipes.get_recipe(name)()))
