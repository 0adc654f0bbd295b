"""An item of image and text on dual towers: fused by the model's rule, everywhere that a model is used."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from zoo.training import recipes, train
from zoo.training.grad_cache import CachedEmbeddings, Read
from zoo.training.optim import freeze
from zoo.training.self_positioning import Probe
from zoo.training.trainer import make_feed

import zoo
from zoo import Item, build_model, load_model
from zoo.embedder.fused import FusedTower, Known
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsupportedModalityError
from zoo.fusion import Combiner, WeightedSum
from zoo.publishing.exports import export
from zoo.tables.pairs import Pair

WORDS = ["in blue", "the same at night", "with a long red hat", "x", "made of wood", "two of them"]


def make_image(seed: int, size=(40, 56)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)


def both(count: int = len(WORDS)) -> list[Item]:
    return [Item(image=make_image(i), text=WORDS[i % len(WORDS)]) for i in range(count)]


def parts_of(model, items):
    return model.encode([i.image for i in items]), model.encode([i.text for i in items])


def trained_combiner(model) -> Combiner:
    """One whose last layers are not zero any more."""
    rule = Combiner(model.spec.dim, 24)
    torch.nn.init.normal_(rule.mixture[-1].weight)
    torch.nn.init.normal_(rule.gate[-1].weight)
    return rule


@pytest.fixture
def model():
    return build_model("clip-test").eval()


@pytest.mark.parametrize("name", ["clip-test", "siglip-test", "mobileclip-test", "mini-test"])
def test_both_are_half_an_image_and_half_a_text_in_every_family(name):
    model = build_model(name).eval()
    items = both()
    images, texts = parts_of(model, items)
    torch.testing.assert_close(model.encode(items), F.normalize(images + texts, dim=-1), atol=1e-5, rtol=0)
    assert model.spec.modalities == {"image", "text"}


def test_the_weight_is_the_users_and_its_ends_are_image_and_text(model):
    items = both()
    images, texts = parts_of(model, items)
    for weight in (0.0, 0.3, 1.0):
        model.fusion = WeightedSum(weight)
        expected = F.normalize(weight * images + (1 - weight) * texts, dim=-1)
        torch.testing.assert_close(model.encode(items), expected, atol=1e-5, rtol=0)
    model.fusion.image = 0.3  # as it could be set before several parts had weights
    torch.testing.assert_close(model.encode(items), F.normalize(0.3 * images + 0.7 * texts, dim=-1), atol=1e-5, rtol=0)
    for bad in (-0.1, 1.1, float("nan"), "0.3"):
        with pytest.raises(ValueError, match="from 0 to 1"):
            WeightedSum(bad)


def test_mixed_lists_keep_their_order_and_bad_items_their_place(model):
    damaged = Item(image=b"\x89PNG\r\n\x1a\n broken", text="a")
    mixed = ["a cat", *both(2), make_image(7), Item(image=make_image(1), text=" "), damaged, "a dog", both(1)[0]]
    found = list(model.encode_stream(mixed))
    assert [f.index for f in found] == list(range(len(mixed)))
    assert [f.error is not None for f in found] == [False] * 4 + [True] * 2 + [False] * 2
    for place in (0, 1, 2, 3, 6, 7):
        torch.testing.assert_close(found[place].vector, model.encode(mixed[place]), atol=1e-5, rtol=0)


def test_prompts_and_instructions_go_before_the_text(model):
    image, text = make_image(0), "in blue"
    found = model.encode(Item(image=image, text=text), prompt="find: ")
    torch.testing.assert_close(found, F.normalize(model.encode(image) + model.encode("find: in blue"), dim=-1))
    own = model.encode(Item(image=image, text=text, instruction="Change it:"), prompt="find: ")
    torch.testing.assert_close(own, F.normalize(model.encode(image) + model.encode("Change it: in blue"), dim=-1))


@pytest.mark.parametrize("name", ["clip-test", "siglip-test", "mini-test", "image-test"])
def test_an_instruction_without_a_text_to_carry_it_is_refused_and_a_prompt_is_not(name):
    model = build_model(name).eval()
    told, plain = (
        Item(image=make_image(0), instruction="Find the same in blue."),
        Item(image=make_image(0), instruction=""),
    )
    results = list(model.encode_stream([plain, told]))
    assert results[0].error is None
    assert isinstance(results[1].error, UnsupportedModalityError)
    assert "'Find the same in blue.', and no text that it could stand before" in str(results[1].error)
    torch.testing.assert_close(model.encode(plain, prompt="find: "), model.encode(plain), rtol=0, atol=0)


def test_a_cut_and_a_batch_size_and_the_calling_mode_change_nothing_else(model):
    model.fusion = trained_combiner(model)
    model.train()
    items = both()
    whole = model.encode(items)
    assert model.training
    assert model.fusion.training
    torch.testing.assert_close(model.encode(items, batch_size=1), whole, atol=1e-5, rtol=0)
    with pytest.warns(UserWarning, match="trained"):
        cut = model.encode(items, dim=8)
    torch.testing.assert_close(cut, F.normalize(whole[:, :8], dim=-1), atol=1e-5, rtol=0)


def test_more_than_an_image_and_a_text_stays_an_error(model):
    for item in (
        Item(image=make_image(0), text="a", video=np.zeros((2, 9, 9, 3), np.uint8)),
        Item(parts=(make_image(0), "a")),
    ):
        with pytest.raises(UnsupportedModalityError):
            model.encode(item)
    for name in ("text-test", "gme-test"):  # one tower, and one that reads both together
        alone = build_model(name)
        assert alone.fusion is None
        assert not any(isinstance(reader, FusedTower) for reader in alone.routes)
        with pytest.raises(ValueError, match="nothing to fuse"):
            zoo.Embedder(alone.spec, list(alone.towers), WeightedSum())


def test_the_towers_are_registered_once_and_the_rule_follows_copies_and_moves(model):
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    model.encode(both(1))
    assert [name for name, _ in model.named_parameters(remove_duplicate=False)] == names
    model.fusion = trained_combiner(model)
    added = {name for name, _ in model.named_parameters()} - set(names)
    assert added
    assert all(name.startswith("fusion.") for name in added)
    twin = copy.deepcopy(model)
    assert twin.routes[-1].rule is twin.fusion
    assert twin.routes[-1].image is twin.towers[0]
    torch.testing.assert_close(twin.encode(both(2)), model.encode(both(2)))
    assert twin.double().encode(both(1)).isfinite().all()
    with torch.no_grad():
        twin.towers[0].head = torch.nn.Linear(model.spec.dim, model.spec.dim).double()
    assert not torch.allclose(twin.encode(both(1)), model.encode(both(1)).double(), atol=1e-3)


def test_an_untrained_combiner_is_the_weighted_sum(model):
    expected = model.encode(both())
    model.fusion = Combiner(model.spec.dim, 24)
    torch.testing.assert_close(model.encode(both()), expected, atol=1e-6, rtol=0)
    model.fusion = trained_combiner(model)
    assert (model.encode(both()) * expected).sum(-1).max() < 0.99


# ------------------------------------------------------------------------------------------------------------ saving


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_rule_is_saved_with_its_weights(model, tmp_path, dtype):
    model.fusion = trained_combiner(model)
    model.save_pretrained(tmp_path, dtype)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["fusion"] == {"kind": "fusion:Combiner", "dim": model.spec.dim, "hidden": 24, "dropout": 0.5}
    close = 1e-6 if dtype is None else 1e-2
    torch.testing.assert_close(load_model(tmp_path).encode(both()), model.encode(both()), atol=close, rtol=0)


def test_the_default_says_nothing_and_a_weight_only_itself(model, tmp_path):
    model.save_pretrained(tmp_path / "default")
    assert "fusion" not in json.loads((tmp_path / "default/config.json").read_text())
    model.fusion = WeightedSum(0.25)
    model.save_pretrained(tmp_path / "quarter")
    assert load_model(tmp_path / "quarter").fusion.image == 0.25


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"kind": "fusion:FusedTower"}, UnrecognisedCheckpointError),
        ({"kind": "heads:Linear", "width": 4, "dim": 4}, UnrecognisedCheckpointError),
        ({"kind": "fusion:WeightedSum", "image": 2}, UnrecognisedCheckpointError),
        ({"kind": "fusion:WeightedSum", "image": "all"}, UnrecognisedCheckpointError),
        ({"kind": "fusion:WeightedSum", "weight": 0.5}, UnrecognisedCheckpointError),
        ({"kind": "fusion:Combiner", "hidden": 24}, UnrecognisedCheckpointError),
        ({"kind": "fusion:Combiner", "dim": 24, "hidden": 24}, (UnrecognisedCheckpointError, MissingWeightsError)),
        ({"kind": "fusion:Combiner", "dim": 32, "hidden": 10**9}, UnrecognisedCheckpointError),
        ("fusion:WeightedSum", UnrecognisedCheckpointError),
    ],
)
def test_a_rule_that_is_none_is_refused_before_anything_is_built(model, tmp_path, entry, error):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "fusion": entry}))
    with pytest.raises(error):
        load_model(tmp_path)


def test_a_rule_on_a_single_tower_is_refused(tmp_path):
    build_model("text-test").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    rule = {"kind": "fusion:WeightedSum", "image": 0.5}
    (tmp_path / "config.json").write_text(json.dumps({**config, "fusion": rule}))
    with pytest.raises(UnrecognisedCheckpointError, match="nothing to fuse"):
        load_model(tmp_path)


def test_an_index_outlives_the_rule(model):
    mark = model.fingerprint()
    model.fusion = trained_combiner(model)
    assert model.fingerprint() == mark


# ----------------------------------------------------------------------------------------------------------- exports


def test_every_loader_of_an_export_fuses_by_the_models_rule(tmp_path):
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoProcessor

    from zoo.publishing.exports import register

    model = build_model("mini-test").eval()
    model.fusion = trained_combiner(model)
    export(model, tmp_path / "out")
    expected = model.encode(both(3))
    torch.testing.assert_close(load_model(tmp_path / "out").encode(both(3)), expected, atol=1e-5, rtol=0)
    register()
    theirs = SentenceTransformer(str(tmp_path / "out"), device="cpu", trust_remote_code=True)
    inputs = [{"image": item.image, "text": item.text} for item in both(3)]
    found = theirs.encode(inputs, convert_to_tensor=True)
    torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=0)
    auto, processor = AutoModel.from_pretrained(tmp_path / "out"), AutoProcessor.from_pretrained(tmp_path / "out")
    batch = processor(images=[i.image for i in both(3)], text=[i.text for i in both(3)])
    with torch.inference_mode():
        fused = auto.get_fused_features(**batch).pooler_output
    torch.testing.assert_close(fused, expected, atol=1e-5, rtol=0)


# ---------------------------------------------------------------------------------------------------------- training


def pairs_of(count: int = 24) -> list[Pair]:
    return [Pair(item, Item(image=make_image(1000 + i))) for i, item in enumerate(both(count))]


def gradients(model, micro_batch):
    reads = [
        Read(model.route_index(item), model.route(item).encoder.prepare_item(item))
        for item in [*both(), *map(Item, WORDS)]
    ]
    model.zero_grad()
    encode = lambda reader, batch, layers: model.routes[reader](batch)  # noqa: E731
    embedded = CachedEmbeddings(encode, model, reads, micro_batch=micro_batch, seed=1)
    vectors = embedded.vectors.clone().requires_grad_()
    queries, targets = vectors.chunk(2)
    F.cross_entropy(queries @ targets.T / 0.1, torch.arange(len(queries))).backward()
    embedded.backward(vectors.grad)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_grad_cache_gives_the_gradient_of_the_whole_batch(model):
    model.double().train()
    model.fusion = trained_combiner(model).double()
    model.fusion.dropout = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    whole, cached = gradients(model, None), gradients(model, 2)
    assert {name.split(".")[0] for name in whole} == {"towers", "fusion"}
    assert whole.keys() == cached.keys()
    for name in whole:
        torch.testing.assert_close(cached[name], whole[name], atol=1e-10, rtol=1e-6)


@pytest.mark.parametrize("cache", [True, False])
def test_only_the_combiner_learns_where_the_towers_are_frozen(model, tmp_path, cache):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = recipes.composed(steps=4, batch_size=8, combiner=16, cache=cache, holdout=0.0)
    train(model, pairs_of(), recipe, tmp_path, progress=False, trackers=(), report=False)
    assert isinstance(model.fusion, Combiner)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.fusion.mixture[-1].weight.abs().sum() > 0
    assert (tmp_path / "vectors").exists() == cache
    torch.testing.assert_close(load_model(tmp_path).encode(both(2)), model.encode(both(2)), atol=1e-6, rtol=0)


def test_vectors_of_frozen_towers_give_the_same_embeddings_and_gradients(model, tmp_path):
    model.fusion = trained_combiner(model).eval()
    freeze(model, ("towers",))
    encode = lambda reader, batch, layers: model.routes[reader](batch)  # noqa: E731
    found = []
    for cache in (True, False):
        recipe = recipes.composed(steps=1, batch_size=8, cache=cache, negatives=0)
        batch = make_feed(model, pairs_of(), recipe, tmp_path / str(cache), progress=False).batch(0)
        assert all(isinstance(read.value["image"], Known) == cache for read in batch.queries)
        assert all((read.vector is not None) == cache for read in batch.targets)
        reads = [*batch.queries, *batch.targets]
        if cache:  # one that is not known among those that are
            item = pairs_of()[batch.rows[3]].query
            image = model.towers[0].encoder.prepare_item(Item(image=item.image))
            reads[3] = Read(reads[3].tower, {**reads[3].value, "image": image})
        embedded = CachedEmbeddings(encode, model, reads, seed=1)
        model.zero_grad()
        embedded.backward(embedded.vectors.flip(0))
        found.append((embedded.vectors, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
    assert found[0][1]
    assert all(name.startswith("fusion.") for name in found[0][1])


def test_a_locked_text_tower_is_cached_while_the_image_side_learns_and_is_augmented(model, tmp_path):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = recipes.finetune_locked_text(steps=2, batch_size=8, holdout=0.0, augment="crop")
    train(model, pairs_of(), recipe, tmp_path, progress=False, trackers=(), report=False)
    changed = {
        name.split(".")[1] for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)
    }
    assert changed == {"0"}


def test_nothing_to_combine_is_said_at_once(tmp_path):
    pairs = [Pair(Item(text=f"a {i}"), Item(text=f"b {i}")) for i in range(8)]
    with pytest.raises(ValueError, match="nothing to fuse"):
        train(build_model("text-test"), pairs, recipes.composed(steps=1, batch_size=4), tmp_path, progress=False)


def test_a_probe_differentiates_through_the_fusion(model):
    model.fusion = trained_combiner(model)
    tensors = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    loss = Probe(pairs_of(8), model).batch_loss(model, tensors, torch.Generator())
    grads = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    reached = {name.split(".")[0] for name, grad in zip(tensors, grads, strict=True) if grad is not None}
    assert reached == {"towers", "fusion"}


# ----------------------------------------------------------------------------------------------------------- serving


def test_a_server_fuses_and_counts_the_tokens_of_the_text(model):
    from zoo.serving.batching import Batcher
    from zoo.serving.engines import Embedding
    from zoo.serving.limits import Limits
    from zoo.serving.metrics import Metrics

    batcher = Batcher(Embedding(model), Limits(), Metrics(["clip-test"]))
    try:
        answer = batcher.submit(both(3)).result(30)
        texts = batcher.submit([Item(text=i.text) for i in both(3)]).result(30)
    finally:
        batcher.close()
    torch.testing.assert_close(torch.stack(list(answer.results)), model.encode(both(3)), atol=1e-5, rtol=0)
    assert answer.tokens == texts.tokens > 0


def test_a_published_copy_keeps_the_rule(model):
    from zoo.publishing.staging import _renamed

    model.fusion = WeightedSum(0.2)
    copy_ = _renamed(model, "me/mine", "mine", None, print)
    assert copy_.fusion.image == 0.2
    assert isinstance(copy_.routes[-1], FusedTower)
    assert replace(copy_.spec, name="x").modalities == model.spec.modalities
