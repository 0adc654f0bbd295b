"""zoo-mini: in the package, small enough, and better than the floor on the packs' test splits."""

from pathlib import Path

import pytest
import torch

import zoo
from zoo.evaluation.packs import ALL, BENCHMARKS, evaluate_pack
from zoo.evaluation.queries import QUERIES, evaluate_queries, query_scores

WEIGHTS = Path(zoo.__file__).parent / "weights" / "zoo-mini"
PHOTOS, EMOJI, _ = BENCHMARKS
# A little below what the card states; the issue asks for 0.80 and 0.42.
PHOTOS_FLOOR, EMOJI_FLOOR = 0.85, 0.44
QUERY_HIT_5, QUERY_PRECISION = 0.62, 0.34


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
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 30_000_000
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
    """What the distilled text tower must know without any picture."""
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


@pytest.mark.slow
def test_beats_the_floor_on_photos(model, pack):
    pack("photos")
    scores = {score.source: score for score in evaluate_pack(model, PHOTOS)}
    assert scores[ALL].image_to_text[10] > PHOTOS_FLOOR
    assert set(scores) == {ALL, "caltech101", "clothing", "grocery"}


@pytest.mark.slow
def test_beats_the_floor_on_unseen_emoji(model, pack):
    pack("emoji")
    score = next(score for score in evaluate_pack(model, EMOJI) if score.source == ALL)
    assert score.image_to_text[10] > EMOJI_FLOOR


@pytest.mark.slow
def test_free_words_find_photos(model, pack):
    """By the 48 queries whose figures the card states; the others were written for what comes after this model."""
    pack("photos")
    pack("emoji")
    first = next(score for score in query_scores(evaluate_queries(model, QUERIES)) if score.part == "first 48")
    assert first.hits[5].value >= QUERY_HIT_5
    assert first.precision.value >= QUERY_PRECISION > 20 * first.chance
