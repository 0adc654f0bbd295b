"""Fusion of any towers that read different things: texts and recordings, and three of them."""

import copy
import json
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from zoo.training import recipes, train
from zoo.training.combining import add_combiner
from zoo.training.grad_cache import CachedEmbeddings
from zoo.training.trainer import make_feed

from tests.embedder.tones import Product, make_audio, model_of
from zoo import Embedder, Item, load_model
from zoo.errors import UnrecognisedCheckpointError, UnsupportedModalityError
from zoo.fusion import Combiner, WeightedSum, fingerprint, is_default
from zoo.tables.pairs import Pair

TEXTS = ["a bell", "a slow drum", "wind", "rain on a roof"]
ALL = ("text", "image", "audio")


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (24, 30, 3), dtype=np.uint8)


def items_of(modalities, count: int = 4) -> list[Item]:
    media = {"text": lambda i: TEXTS[i % len(TEXTS)], "image": image, "audio": make_audio}
    return [Item(**{name: media[name](i) for name in modalities}) for i in range(count)]


def expected(model: Embedder, items: list[Item], weights: dict[str, float]) -> torch.Tensor:
    parts = {name: model.encode([Item(**{name: getattr(item, name)}) for item in items]) for name in weights}
    return F.normalize(sum(weight * parts[name] for name, weight in weights.items()), dim=-1)


def close(model: Embedder, items: list[Item], weights: dict[str, float]) -> None:
    torch.testing.assert_close(model.encode(items), expected(model, items, weights), atol=1e-5, rtol=0)


def test_every_set_of_towers_is_offered_and_has_equal_shares():
    model = model_of(*ALL)
    sets = [set(some) for size in (1, 2, 3) for some in combinations(ALL, size)]
    by_route = {"regions", "document"}
    offered = [reader.encoder.modalities for reader in model.routes if not by_route & reader.encoder.modalities]
    assert sorted(map(sorted, sets)) == sorted(map(sorted, offered))
    for some in sets:
        close(model, items_of(some), dict.fromkeys(some, 1 / len(some)))
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert len(names) == len(set(names))
    assert all(name.startswith("towers.") for name in names)


def test_one_weight_is_of_two_parts_and_more_parts_have_one_each():
    model = model_of(*ALL)
    model.fusion = WeightedSum(image=0.3)
    close(model, items_of(("image", "text")), {"image": 0.3, "text": 0.7})
    close(model, items_of(("image", "audio")), {"image": 0.3, "audio": 0.7})
    close(model, items_of(("text", "audio")), {"text": 0.5, "audio": 0.5})  # nothing is said of these
    with pytest.raises(UnsupportedModalityError, match=r"says no weight of audio and text; give each part one"):
        model.encode(items_of(ALL, 1))
    model.fusion = WeightedSum(image=0.2, text=0.3, audio=0.5)
    close(model, items_of(ALL), {"image": 0.2, "text": 0.3, "audio": 0.5})
    close(model, items_of(("text", "audio")), {"text": 0.375, "audio": 0.625})
    model.fusion = WeightedSum(audio=1, text=0)
    close(model, items_of(("text", "audio")), {"audio": 1.0})
    with pytest.raises(UnsupportedModalityError, match="says no weight of image"):
        model.encode(items_of(ALL, 1))
    with pytest.raises(ValueError, match="add up to 1"):
        WeightedSum(image=0.5, text=0.6)


def test_default_and_named_halves_are_told_apart_from_what_is_not_equal():
    assert is_default(WeightedSum())
    assert is_default(WeightedSum(0.5))
    assert not is_default(WeightedSum(0.4))
    assert not is_default(WeightedSum(image=0.5, text=0.5))
    rules = [WeightedSum(), WeightedSum(image=0.4), WeightedSum(text=0.4), WeightedSum(image=0.4, text=0.6)]
    assert len({fingerprint(rule) for rule in rules}) == 4


def test_a_combiner_is_for_its_two_parts_and_says_so():
    model = model_of(*ALL)
    model.fusion = Combiner(model.spec.dim, 8)
    close(model, items_of(("image", "text")), {"image": 0.5, "text": 0.5})
    for others in (("text", "audio"), ALL):
        with pytest.raises(UnsupportedModalityError, match="the combiner is for two parts, image and text"):
            model.encode(items_of(others, 1))
    model.fusion = Combiner(model.spec.dim, 8, parts=("audio", "text"))
    close(model, items_of(("text", "audio")), {"audio": 0.5, "text": 0.5})
    with pytest.raises(ValueError, match="two parts, not audio, image, text"):
        Combiner(8, 8, parts=("audio", "image", "text"))
    for parts in (("text", "audio"), ("text", "text")):
        with pytest.raises(ValueError, match="in the order of their names"):
            Combiner(8, 8, parts=parts)
    assert add_combiner(model_of("text", "audio"), 8).fusion.parts == ("audio", "text")
    assert add_combiner(model_of(*ALL), 8).fusion.parts == ("image", "text")


def test_a_rule_of_ones_own_takes_two_parts_in_the_order_of_their_names(tmp_path):
    class First(torch.nn.Module):
        def forward(self, one, other):
            return one

    model = model_of(*ALL)
    model.fusion = First()
    close(model, items_of(("text", "audio")), {"audio": 1.0})
    with pytest.raises(UnsupportedModalityError, match="First is for two parts"):
        model.encode(items_of(ALL, 1))
    with pytest.raises(TypeError, match=r'register_part\("fusion"'):
        model.save_pretrained(tmp_path)


def test_a_registered_rule_takes_any_parts_by_name_and_is_opened_again(tmp_path):
    model, items = model_of(*ALL), items_of(("text", "audio"))
    model.fusion = Product()
    texts, recordings = model.encode([item.text for item in items]), model.encode([Item(audio=i.audio) for i in items])
    torch.testing.assert_close(model.encode(items), F.normalize(texts * recordings, dim=-1), atol=1e-5, rtol=0)
    with pytest.raises(UnsupportedModalityError, match="in one item: a product takes no images"):
        model.encode(items_of(ALL, 1))
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["fusion"] == {"kind": "tones:Product"}
    torch.testing.assert_close(load_model(tmp_path).encode(items), model.encode(items))


def test_mixed_lists_prompts_bad_parts_and_copies():
    model = model_of(*ALL)
    three = items_of(ALL, 2)
    bad = Item(image=b"\x89PNG\r\n\x1a\n broken", audio=make_audio(1))
    mixed = ["wind", *three, Item(audio=make_audio(2)), bad, *items_of(("audio", "text"), 1)]
    found = list(model.encode_stream(mixed))
    assert [one.error is not None for one in found] == [False] * 4 + [True, False]
    for place in (0, 1, 2, 3, 5):
        torch.testing.assert_close(found[place].vector, model.encode(mixed[place]), atol=1e-5, rtol=0)
    item = items_of(("audio", "text"), 1)[0]
    told = F.normalize(model.encode(Item(audio=item.audio)) + model.encode(f"find: {item.text}"), dim=-1)
    torch.testing.assert_close(model.encode(item, prompt="find: "), told, atol=1e-5, rtol=0)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin.encode(three), model.encode(three))
    assert twin.routes[-1].audio is twin.towers[2]
    model.fusion = None
    with pytest.raises(UnsupportedModalityError):
        model.encode(three)


def test_towers_that_read_the_same_are_not_fused_with_each_other():
    model = model_of("text", "image", "audio")
    twice = Embedder(model.spec, [*model.towers, model_of("text", seed=5).towers[0]]).eval()
    assert [reader.encoder.modalities for reader in twice.routes[4:]] == [
        r.encoder.modalities for r in model.routes[3:]
    ]
    torch.testing.assert_close(twice.encode(items_of(ALL)), model.encode(items_of(ALL)))
    with pytest.raises(ValueError, match="nothing to fuse"):
        Embedder(model.spec, [model.towers[0], twice.towers[3]], WeightedSum())


@pytest.mark.parametrize("modalities", [("audio", "text"), ALL])
def test_frozen_towers_are_cached_and_give_the_same_step(modalities, tmp_path):
    queries = items_of(modalities, 8)
    pairs = [Pair(item, Item(audio=make_audio(100 + i))) for i, item in enumerate(queries)]
    encode = lambda reader, batch, layers: model.routes[reader](batch)  # noqa: E731
    found = []
    for cache in (True, False):
        model = model_of(*modalities)
        for tower in model.towers:
            if "audio" not in tower.encoder.modalities:
                tower.requires_grad_(False)
        recipe = recipes.finetune(steps=1, batch_size=8, cache=cache)
        batch = make_feed(model, pairs, recipe, tmp_path / str(cache), progress=False).batch(0)
        known = {name for read in batch.queries for name, part in read.value.items() if hasattr(part, "vector")}
        assert known == (set(modalities) - {"audio"} if cache else set())
        embedded = CachedEmbeddings(encode, model, [*batch.queries, *batch.targets], micro_batch=3, seed=1)
        embedded.backward(embedded.vectors.flip(0))
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((embedded.vectors, grads))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
    assert found[0][1]


def test_a_run_teaches_a_combiner_of_texts_and_audio_and_its_model_opens(tmp_path):
    model = model_of("text", "audio")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pairs = [Pair(item, Item(audio=make_audio(50 + i))) for i, item in enumerate(items_of(("text", "audio"), 12))]
    recipe = recipes.composed(steps=3, batch_size=6, combiner=8, holdout=0.0)
    train(model, pairs, recipe, tmp_path, progress=False, trackers=(), report=False)
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert model.fusion.mixture[-1].weight.abs().sum() > 0
    opened = load_model(tmp_path)
    assert opened.fusion.parts == ("audio", "text")
    items = items_of(("text", "audio"))
    torch.testing.assert_close(opened.encode(items), model.encode(items), atol=1e-6, rtol=0)


def test_a_rule_is_saved_and_a_stranger_s_may_not_name_others(tmp_path):
    model = model_of(*ALL)
    model.fusion = WeightedSum(image=0.2, text=0.3, audio=0.5)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["fusion"] == {"kind": "fusion:WeightedSum", "image": 0.2, "text": 0.3, "audio": 0.5}
    for some in (ALL, ("text", "audio")):
        torch.testing.assert_close(load_model(tmp_path).encode(items_of(some)), model.encode(items_of(some)))
    for wrong in ({"image": 0.2, "text": 0.3}, {"image": 0.2, "regions": 0.8}, {"parts": ["audio", "text"]}):
        (tmp_path / "config.json").write_text(json.dumps({**config, "fusion": {"kind": "fusion:WeightedSum", **wrong}}))
        with pytest.raises(UnrecognisedCheckpointError):
            load_model(tmp_path)


def test_a_server_counts_the_tokens_of_the_text_alone():
    from zoo.serving.batching import Batcher
    from zoo.serving.engines import Embedding
    from zoo.serving.limits import Limits
    from zoo.serving.metrics import Metrics

    model = model_of(*ALL)
    batcher = Batcher(Embedding(model), Limits(), Metrics(["tones-test"]))
    try:
        three, texts, recordings = (batcher.submit(items_of(some)).result(30) for some in (ALL, ("text",), ("audio",)))
    finally:
        batcher.close()
    torch.testing.assert_close(torch.stack(list(three.results)), model.encode(items_of(ALL)), atol=1e-5, rtol=0)
    assert three.tokens == texts.tokens > 0
    assert recordings.tokens == 0
