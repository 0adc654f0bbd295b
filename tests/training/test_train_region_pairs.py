"""Training on regions: pairs of a part of an image and its caption, beside the other parts of the same image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from zoo.training import train
from zoo.training.augmentation import Augmentation
from zoo.training.bad_batch import _shown

from tests.training.train_support import PAINTS, SHAPES, make_image, quick
from zoo import Box, Item, Mask, Point, build_model
from zoo.inputs.hashing import item_key
from zoo.inputs.masks import MaskFile, RunLengths
from zoo.tables import open_pairs

SIDE = 32


def beside(left: str, right: str, paint: str) -> np.ndarray:
    """Two shapes of one colour in one image."""
    return np.concatenate([make_image(shape, paint, SIDE) for shape in (left, right)], axis=1)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Every shape beside another one, a row for each, pointed at by a box or a mask file."""
    folder = tmp_path_factory.mktemp("regions")
    rows = []
    for paint in PAINTS:
        for number, left in enumerate(SHAPES):
            right = SHAPES[(number + 1) % 4]
            name = f"{paint}-{left}.png"
            Image.fromarray(beside(left, right, paint)).save(folder / name)
            mask = np.zeros((SIDE, 2 * SIDE), np.uint8)
            mask[:, SIDE:] = 255
            Image.fromarray(mask).save(folder / "right.png")
            rows.append({"image": name, "regions": {"box": [0, 0, SIDE, SIDE]}, "caption": f"{paint} {left}"})
            rows.append({"image": name, "regions": {"mask": "right.png"}, "caption": f"{paint} {right}"})
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def in_image(model, pairs) -> float:
    """How often a region is nearer to its own caption than to that of the other region of its image."""
    with torch.inference_mode():
        images = model.encode([pair.query for pair in pairs])
        texts = model.encode([pair.positive for pair in pairs])
    other = texts.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return float(((images * texts).sum(-1) > (images * other).sum(-1)).float().mean())


@pytest.mark.parametrize("rule", ["masked-crop", pytest.param("dense", marks=pytest.mark.slow)])
def test_a_model_learns_what_regions_show(table, tmp_path, rule):
    model = build_model("mini-test").with_region_rule(rule)
    pairs = open_pairs(table)
    result = train(
        model,
        pairs,
        quick(steps=40, batch_size=12, lr=1e-2, checkpoint_every=40),
        tmp_path / rule,
        progress=False,
        trackers=(),
    )
    assert result is not None
    assert in_image(model.eval(), [pairs[row] for row in range(len(pairs))]) >= 0.85


def test_keys_tell_regions_apart_and_equal_masks_are_one(tmp_path):
    pixels = beside("circle", "bar", "red")
    bits = np.zeros(pixels.shape[:2], bool)
    bits[4:20, 3:30] = True
    Image.fromarray(bits).save(tmp_path / "m.png")
    masks = [Mask(bits), Mask(RunLengths.of(bits))]
    items = [Item(image=pixels, regions=[mask]) for mask in masks]
    others = [
        Item(image=pixels),
        *(Item(image=pixels, regions=[one]) for one in (Box(0, 0, 9, 9), Point(3, 3), Box(0, 0, 9, 10))),
    ]
    others.append(Item(image=pixels, regions=[Mask(MaskFile(tmp_path / "m.png"))]))
    keys = [item_key(item) for item in (*items, *others)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == len(keys) - 1


def test_a_bad_batch_is_named_with_its_regions():
    assert _shown(Item(image=Path("a.png"), regions=[Box(0, 1, 2, 3)])) == 'a.png + [{"box": [0, 1, 2, 3]}]'


@pytest.mark.parametrize("rule", ["masked-crop", "dense", "ensemble"])
def test_augmentation_keeps_regions_in_their_place(rule):
    model = build_model("mini-test").eval().with_region_rule(rule)
    pixels = beside("circle", "bar", "red")
    item = Item(image=pixels, regions=[Box(0, 0, SIDE, SIDE)])
    read = model.route(item).encoder.prepare_item(item)
    still = Augmentation.parse("crop=0.2, flip=1").read(read, item, 3)
    brighter = Augmentation.parse("colour").read(read, item, 3)
    flat = {"masked-crop": lambda one: [one], "dense": lambda one: [one.pixels], "ensemble": list}[rule]
    for before, kept, changed in zip(flat(read), flat(still), flat(brighter), strict=True):
        assert torch.equal(before, kept)
        assert not torch.equal(before, changed)
    if rule == "dense":
        assert torch.equal(read.mask, brighter.mask)
