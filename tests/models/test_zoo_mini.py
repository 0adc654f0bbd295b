"""zoo-mini: in the package, small enough, its trunk the one it is said to be, and as good as was asked for on the packs' test splits."""

from pathlib import Path

import pytest
import torch
from zoo.training.recipes.mini.trunk import load_trunk

import zoo
from zoo.evaluation.packs import ALL, BENCHMARKS, evaluate_pack
from zoo.evaluation.queries import QUERIES, evaluate_queries, query_scores

WEIGHTS = Path(zoo.__file__).parent / "weights" / "zoo-mini"
PHOTOS, EMOJI, SYMBOLS = BENCHMARKS
# What issue 16 asks for, image → text on the test splits, by source of the photos: (recall@1, recall@10).
PHOTOS_FLOORS = {"caltech101": (0.80, 0.97), "clothing": (0.80, 0.0), "grocery": (0.445, 0.909)}
EMOJI_FLOOR, SYMBOLS_FLOOR = 0.451, 0.222  # recall@10 of drawings that no model of ours has seen
QUERY_FLOOR = 0.65  # of the paraphrases whose first hit is right


@pytest.fixture(scope="module")
def model():
    return zoo.load_model("zoo-mini", device="cpu")


def test_weights_are_small_and_half_precision():
    from safetensors import safe_open

    files = sorted(path.name for path in WEIGHTS.iterdir())
    assert files == [
        "certificate.json",
        "certificate.safetensors",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 40_000_000
    with safe_open(WEIGHTS / "model.safetensors", "pt") as weights:
        kinds = {weights.get_tensor(name).dtype for name in weights.keys() if "num_batches" not in name}  # noqa: SIM118
    assert kinds == {torch.float16}


def test_spec_tells_the_truth(model):
    assert sum(parameter.numel() for parameter in model.parameters()) == model.spec.params
    assert model.spec == zoo.get_spec("zoo-mini")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.encode("a red motorbike").shape == (model.spec.dim,)


def test_built_shape_takes_the_packaged_weights(model):
    built = zoo.build_model("zoo-mini")
    built.load_state_dict(model.state_dict())
    texts = ["a cat on a sofa", "something to drink"]
    torch.testing.assert_close(built.encode(texts), model.encode(texts))


def test_words_know_their_neighbours(model):
    """What the distilled text tower must know without any image."""
    near = {
        "kitty": "cat",
        "something to drink": "juice",
        "automobile": "car",
        "sneakers": "shoes",
        "jeans": "trousers",
    }
    words = list(near.values())
    similarity = model.similarity(model.encode(list(near)), model.encode(words))
    assert similarity.argmax(1).tolist() == list(range(len(words)))


def test_its_trunk_is_that_of_the_package_to_the_last_bit_that_is_stored(model):
    """As NOTICE says: the trunk and the classifier of ImageNet's classes stand as they were trained."""
    trunk, tower = load_trunk("efficientnet-lite2").state_dict(), model.towers[0]
    classifier = {f"classifier.{name}": value for name, value in tower.head.classify.state_dict().items()}
    found = {**tower.encoder.backbone.state_dict(), **classifier}
    assert set(found) == set(trunk)
    changed = [
        name
        for name, value in trunk.items()
        if "num_batches" not in name and not torch.equal(found[name], value.half().float())
    ]
    assert not changed


@pytest.mark.slow
def test_reaches_the_floors_on_photos(model, pack):
    pack("photos")
    scores = {score.source: score for score in evaluate_pack(model, PHOTOS)}
    assert set(scores) == {ALL, *PHOTOS_FLOORS}
    below = {
        (source, k): scores[source].image_to_text[k]
        for source, floors in PHOTOS_FLOORS.items()
        for k, floor in zip((1, 10), floors, strict=True)
        if scores[source].image_to_text[k] < floor
    }
    assert not below


@pytest.mark.slow
@pytest.mark.parametrize(("drawings", "floor"), [(EMOJI, EMOJI_FLOOR), (SYMBOLS, SYMBOLS_FLOOR)])
def test_reaches_the_floor_on_unseen_drawings(model, pack, drawings, floor):
    pack(drawings.pack)
    score = next(score for score in evaluate_pack(model, drawings) if score.source == ALL)
    assert score.image_to_text[10] >= floor


@pytest.mark.slow
def test_free_words_find_photos(model, pack):
    """By the 48 queries that zoo-mini-v1 was measured with as well."""
    pack("photos")
    pack("emoji")
    first = next(score for score in query_scores(evaluate_queries(model, QUERIES)) if score.part == "first 48")
    assert first.hits[1].value >= QUERY_FLOOR
    assert first.hits[5].value > first.hits[1].value
    assert first.precision.value > 20 * first.chance
