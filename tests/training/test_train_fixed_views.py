"""A fixed number of views: each is computed once where nothing below the head learns, and is what the step would have read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo.training.augmentation import played
from zoo.training.errors import RecipeError
from zoo.training.grad_cache import CachedEmbeddings
from zoo.training.optim import freeze
from zoo.training.recipe import Recipe
from zoo.training.run import Encode
from zoo.training.trainer import make_feed
from zoo.training.views import Views

from tests.training.train_support import fresh, shape_pairs
from zoo.inputs.item import Item
from zoo.inputs.waveform import Waveform

STAGE = Recipe(
    freeze=("text", "image.encoder"), augment="crop=0.3, colour=0.5", views=3, batch_size=8, steps=40, seed=5
)


def test_views_are_computed_once_and_are_what_is_read_without_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, found = shape_pairs(), {}
    for cache in (True, False):
        model = fresh().eval()
        freeze(model, STAGE.freeze)
        feed = make_feed(model, pairs, replace(STAGE, cache=cache), tmp_path / str(cache), progress=False)
        with monkeypatch.context() as patch:
            if cache:
                patch.setattr(type(model.towers[0].encoder), "forward", lambda *_: pytest.fail("the encoder ran again"))
            steps = [feed.batch(step) for step in range(8)]
            assert all((read.pooled is not None) == cache for batch in steps for read in batch.queries)
            found[cache] = [CachedEmbeddings(Encode(model), model, batch.queries).vectors for batch in steps]
    torch.testing.assert_close(found[True], found[False], atol=1e-5, rtol=0)
    rows = torch.cat([torch.tensor(batch.rows) for batch in steps])
    vectors = torch.cat(found[True])
    counts = []
    for row in rows.unique():  # three views of each at most
        mine = vectors[rows == row]
        counts.append(len({tuple((v * 1000).round().int().tolist()) for v in mine}))
    assert max(counts) == 3
    assert min(counts) < 3


def test_which_views_there_are_is_told_by_content_augmentation_and_seed() -> None:
    item = Item(audio=Waveform(np.sin(np.arange(4000) / 9).astype(np.float32), 8000))
    stage = replace(STAGE, augment="pitch, pad, noise")
    one, same = Views(stage), Views(stage)
    keys = [one.key(item, "", view) for view in range(3)]
    assert len(set(keys)) == 3
    assert keys == [same.key(item, "", view) for view in range(3)]
    for other in (Views(replace(stage, seed=6)), Views(replace(stage, augment="pitch"))):
        assert other.key(item, "", 0) == keys[0]  # the unchanged item is what it is
        assert other.key(item, "", 1) != keys[1]
    assert {one.draw(item, (0, step)) for step in range(30)} == {0, 1, 2}
    assert {one.draw(Item(text="a"), (0, step)) for step in range(30)} == {0}  # which nothing changes


def test_a_half_filled_cache_goes_on_with_the_same_views(tmp_path: Path) -> None:
    pairs, model = shape_pairs(), fresh().eval()
    freeze(model, STAGE.freeze)
    make_feed(model, pairs[:8], STAGE, tmp_path, progress=False)
    feed = make_feed(model, pairs, STAGE, tmp_path, progress=False)
    assert all(read.pooled is not None for read in feed.batch(0).queries)


def test_views_without_a_way_to_make_them_are_refused() -> None:
    with pytest.raises(RecipeError, match="3 views are versions that augment makes"):
        replace(STAGE, augment="")
    with pytest.raises(RecipeError, match="views must be a whole number from 0, not -1"):
        replace(STAGE, views=-1)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0])
def test_audio_played_faster_is_higher_and_shorter(speed: float) -> None:
    time = torch.arange(16_000) / 16_000
    tone = torch.sin(2 * torch.pi * 440 * time)
    fast = played(tone, speed)
    assert abs(len(fast) - 16_000 / speed) <= 1
    wanted = torch.sin(2 * torch.pi * 440 * speed * torch.arange(len(fast)) / 16_000)
    torch.testing.assert_close(fast[1000:-1000], wanted[1000:-1000], atol=1e-3, rtol=0)


def test_noise_and_silence_are_as_much_as_said() -> None:
    from zoo.training.augmentation import change_audio

    tone = torch.full((1000,), 0.5)
    lengths, levels = [], []
    for seed in range(60):
        padded = change_audio(tone, np.random.default_rng(seed), pad=0.2)
        lengths.append(len(padded))
        inner = padded.nonzero()[:, 0]
        assert len(inner) == 1000
        assert (padded[inner[0] : inner[-1] + 1] == 0.5).all()
        levels.append(float((change_audio(tone, np.random.default_rng(seed), noise=1.0) - tone).std()))
    assert 1000 <= min(lengths) < 1100 < 1300 < max(lengths) <= 1400
    assert 10 ** (-90 / 20) * 0.9 <= min(levels) < max(levels) <= 10 ** (-50 / 20) * 1.1
    assert torch.equal(change_audio(tone, np.random.default_rng(0), noise=0.0, pad=0.0), tone)
