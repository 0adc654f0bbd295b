"""Augmentation: the same seed gives the same view, views keep size and type, and nothing changes that was not named."""

from collections import Counter

import numpy as np
import pytest
import torch
from zoo.training.augmentation import Augmentation, change_audio, change_light, change_words, crop, erase, pick_frames
from zoo.training.errors import RecipeError

from zoo.inputs.item import Item
from zoo.inputs.regions import Box

EVERYTHING = Augmentation.parse("crop, flip, colour, erase; words, swap; gain, shift, mute; frames")
IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 60)).astype(np.uint8))
VIDEO = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (8, 3, 24, 24)).astype(np.uint8))
AUDIO = torch.sin(torch.linspace(0, 300, 4000)) * 0.4
TEXT = "a small red bicycle leans on the old wall of a quiet house"
REGION = (Box(0, 0, 5, 5),)


def rng(seed=0):
    return np.random.default_rng(seed)


def views(augmentation, count=40):
    """Of an image, a video from a file, a recording from a file and a text, under many seeds."""
    for step in range(count):
        seed = (7, step, 3)
        yield {
            "image": augmentation.read(IMAGE, Item(image=b"x"), seed),
            "video": augmentation.read(VIDEO, Item(video=b"x"), seed),
            "audio": augmentation.read(AUDIO, Item(audio=b"x"), seed),
            "text": augmentation.item(Item(text=TEXT), seed).text,
        }


def test_the_same_seed_gives_the_same_view_and_another_another():
    first, second = list(views(EVERYTHING)), list(views(EVERYTHING))
    for a, b in zip(first, second, strict=True):
        assert a["text"] == b["text"]
        assert all(torch.equal(a[name], b[name]) for name in ("image", "video", "audio"))
    for name in ("image", "video", "audio"):
        assert len({view[name].numpy().tobytes() for view in first}) == 40
    assert len({view["text"] for view in first}) > 20
    for one, other in (((1, 2), (2, 1)), ((1,), (1, 0)), (-1, 1), ((0, 0), (0, 0, 0))):
        item = Item(image=b"x")
        assert not torch.equal(EVERYTHING.read(IMAGE, item, one), EVERYTHING.read(IMAGE, item, other))


def test_views_keep_size_type_and_the_original():
    before = IMAGE.clone(), VIDEO.clone(), AUDIO.clone()
    for view in views(EVERYTHING):
        assert (view["image"].shape, view["image"].dtype) == (IMAGE.shape, torch.uint8)
        assert (view["video"].shape, view["video"].dtype) == (VIDEO.shape, torch.uint8)
        assert (view["audio"].shape, view["audio"].dtype) == (AUDIO.shape, torch.float32)
        assert view["audio"].abs().max() <= 1
        assert torch.isfinite(view["audio"]).all()
    assert all(torch.equal(a, b) for a, b in zip(before, (IMAGE, VIDEO, AUDIO), strict=True))


def test_nothing_named_changes_nothing():
    plain = Augmentation.parse("")
    assert plain == Augmentation()
    item = Item(text=TEXT, image=b"x")
    assert plain.item(item, 0) is item
    for value in (IMAGE, VIDEO, {"any": "thing"}, [1, 2, 3]):
        assert plain.read(value, item, 0) is value
    words = Augmentation.parse("words=0.5")
    assert words.read(IMAGE, Item(image=b"x"), 0) is IMAGE


def test_an_augmentation_says_what_it_changes():
    changed = {
        "": set(),
        "words": {"text"},
        "colour": {"image", "video"},
        "frames": {"video"},
        "gain, swap": {"audio", "text"},
    }
    assert {text: set(Augmentation.parse(text).modalities) for text in changed} == changed


# ------------------------------------------------------------------------------------------------- images


def test_a_crop_is_an_enlarged_part():
    across = torch.arange(0, 240, 4, dtype=torch.uint8).expand(3, 40, 60).contiguous()  # brightness tells the column
    shares = []
    for seed in range(200):
        view = crop(across, rng(seed), 0.5).float()
        assert (view.diff(dim=2) >= -1).all()  # columns stay in order
        assert (view - view[:, :1]).abs().max() <= 1  # and rows stay columns
        width = (view[0, 0, -1] - view[0, 0, 0]) / (across[0, 0, -1] - across[0, 0, 0]).float()
        shares.append(float(width))
    assert min(shares) > 0.5 / np.sqrt(4 / 3 * 2)
    assert max(shares) > 0.95
    assert np.std(shares) > 0.05
    assert torch.equal(
        crop(torch.full((3, 1, 1), 9, dtype=torch.uint8), rng(), 0.1), torch.full((3, 1, 1), 9, dtype=torch.uint8)
    )


def test_images_are_mirrored_only_where_that_is_named():
    half = torch.zeros(3, 8, 8, dtype=torch.uint8)
    half[..., :4] = 200
    usual = Augmentation.parse("crop, colour")
    for seed in range(100):
        view = usual.read(half, Item(image=b"x"), seed).float()
        assert view[..., :2].mean() > view[..., -2:].mean()
    mirrored = [torch.equal(Augmentation(flip=0.5).read(half, Item(image=b"x"), s), half.flip(-1)) for s in range(400)]
    assert 160 < sum(mirrored) < 240


def test_colours_keep_their_hue():
    red, green, blue = (
        torch.tensor(c, dtype=torch.uint8)[:, None, None].expand(3, 6, 6)
        for c in ((200, 40, 40), (40, 200, 40), (40, 40, 200))
    )
    changed = set()
    for seed in range(100):
        for place, colour in enumerate((red, green, blue)):
            view = change_light(colour, rng(seed), 0.3).float().mean((1, 2))
            assert int(view.argmax()) == place
            assert view.max() - view.median() > 30
        changed.add(tuple(view.tolist()))
    assert len(changed) > 90
    grey = torch.full((3, 6, 6), 90, dtype=torch.uint8)
    view = change_light(grey, rng(3), 0.3)
    assert torch.equal(view[0], view[1])
    assert torch.equal(view[1], view[2])


def test_a_patch_is_of_one_colour_and_the_rest_untouched():
    for seed in range(100):
        view = erase(IMAGE, rng(seed))
        changed = (view != IMAGE).any(0)
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        patch = view[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (patch == patch[:, :1, :1]).all()
        assert 0.01 < changed.float().mean() < 0.17


def test_regions_keep_the_image_in_its_place():
    item = Item(image=b"x", regions=REGION)
    still = Augmentation.parse("crop=0.2, flip=1")
    assert torch.equal(still.read(IMAGE, item, 0), IMAGE)
    assert not torch.equal(still.read(IMAGE, Item(image=b"x"), 0), IMAGE)


# ------------------------------------------------------------------------------------------------- texts


def test_words_are_left_out_at_the_rate_that_is_named():
    words = " ".join(f"w{i}" for i in range(1000))
    for rate in (0.1, 0.5):
        kept = change_words(words, rng(), leave_out=rate).split()
        assert abs(len(kept) / 1000 - (1 - rate)) < 0.05
        assert kept == sorted(kept, key=lambda word: int(word[1:]))
    assert change_words("one", rng(), leave_out=1.0) == "one"
    assert all(change_words("one two", rng(seed), leave_out=1.0) in ("one", "two") for seed in range(20))
    assert change_words("kept  as\nit was", rng(), leave_out=0.0) == "kept  as\nit was"


def test_swapped_words_are_all_there_and_near_their_place():
    words = [f"w{i}" for i in range(500)]
    swapped = change_words(" ".join(words), rng(), swap=0.2).split()
    assert Counter(swapped) == Counter(words)
    moved = [abs(place - int(word[1:])) for place, word in enumerate(swapped)]
    assert max(moved) == 1
    assert 0.2 < np.mean(moved) < 0.45  # 1 swap moves two words


# ------------------------------------------------------------------------------------------------- recordings and videos


def test_audio_is_louder_or_softer_within_the_decibels_and_never_clips():
    levels = []
    for seed in range(200):
        view = change_audio(AUDIO, rng(seed), gain=6)
        factor = view.abs().max() / AUDIO.abs().max()
        torch.testing.assert_close(view, AUDIO * factor, rtol=1e-4, atol=1e-5)
        levels.append(20 * np.log10(float(factor)))
    assert -6.01 < min(levels) < -4
    assert 4 < max(levels) < 6.01
    assert change_audio(AUDIO * 2.4, rng(1), gain=40).abs().max() <= 1.0001


def test_moved_audio_is_the_same_with_silence_before_or_after():
    ahead = 0
    for seed in range(50):
        view = change_audio(AUDIO, rng(seed), shift=0.1)
        fits = [
            n
            for n in range(-400, 401)
            if torch.equal(view[max(0, n) : 4000 + min(0, n)], AUDIO[max(0, -n) : 4000 - max(0, n)])
        ]
        assert len(fits) == 1
        ahead += fits[0] > 0
        gap = view[: fits[0]] if fits[0] > 0 else view[4000 + fits[0] :]
        assert not gap.any()
    assert 10 < ahead < 40


def test_a_muted_stretch_is_one_and_no_longer_than_said():
    loud = torch.ones(1000)
    lengths = []
    for seed in range(100):
        silent = (change_audio(loud, rng(seed), mute=0.2) == 0).nonzero()[:, 0]
        lengths.append(len(silent))
        assert len(silent) == 0 or silent[-1] - silent[0] + 1 == len(silent)
    assert 150 < max(lengths) <= 200


def test_frames_stay_in_order_and_cover_most_of_the_video():
    seen = set()
    for seed in range(200):
        frames = pick_frames(20, rng(seed), 0.3)
        assert len(frames) == 20
        assert (np.diff(frames) >= 0).all()
        assert frames[0] >= 0
        assert frames[-1] <= 19
        assert frames[-1] - frames[0] >= 20 * 0.7 - 3
        seen.add(tuple(frames))
    assert len(seen) > 190
    assert pick_frames(1, rng(), 0.3).tolist() == [0]


def test_all_frames_of_a_video_are_changed_alike():
    still = IMAGE.expand(6, 3, 40, 60)
    for seed in range(30):
        view = Augmentation.parse("crop=0.3, flip, colour=0.5, erase=1, frames").read(still, Item(video=b"x"), seed)
        assert (view == view[:1]).all()
        assert not torch.equal(view[0], IMAGE)


def test_videos_and_audio_given_as_arrays_are_changed_once_before_they_are_read():
    video, audio = VIDEO.movedim(1, -1).numpy(), AUDIO.numpy()
    for item in (Item(video=video), Item(video=torch.from_numpy(video)), Item(audio=audio), Item(audio=AUDIO)):
        changed = EVERYTHING.item(item, 5)
        before, after = (x.video if x.video is not None else x.audio for x in (item, changed))
        assert type(after) is type(before)
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        assert not np.array_equal(np.asarray(after), np.asarray(before))
        read = torch.zeros(3)
        assert EVERYTHING.read(read, changed, 5) is read


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("crops", "nearest: crop"),
        ("words=much", "'much' is no number"),
        ("words=", "is no number"),
        ("words=1.5", "words must be from 0 to 1"),
        ("gain=100", "gain must be from 0 to 60"),
        ("flip=nan", "flip must be from 0 to 1"),
        ("=0.2", "no augmentation is called ''"),
    ],
)
def test_what_is_misspelt_is_named(text, said):
    with pytest.raises(RecipeError, match=said):
        Augmentation.parse(text)


@pytest.mark.parametrize(
    ("value", "item"),
    [
        ({"pixel_values": IMAGE}, Item(image=b"x")),
        (IMAGE.float(), Item(image=b"x")),
        (IMAGE, Item(video=b"x")),
        (IMAGE, Item(audio=b"x")),
    ],
)
def test_reads_that_cannot_be_changed_are_refused(value, item):
    with pytest.raises(RecipeError, match="this encoder reads"):
        EVERYTHING.read(value, item, 0)


def test_real_encoders_read_what_can_be_changed():
    from zoo.registry import build_model

    encoder = build_model("clip-test").route(Item(image=np.zeros((9, 9, 3), np.uint8))).encoder
    item = Item(image=np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8))
    read = encoder.prepare_item(item)
    view = EVERYTHING.read(read, item, 1)
    assert view.shape == read.shape
    assert not torch.equal(view, read)
    encoder.collate([view, read])
