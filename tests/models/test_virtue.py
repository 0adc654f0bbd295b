"""VIRTUE: what SAM sees where the user points, before the sequence of a Qwen2-VL."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import zoo
from tests.hub import LoopbackHub
from tests.hub.child import Child
from tests.reference.virtue import SAM_REPO, SETTINGS, SIDE, Row, Whole, change, photo, vectors, write_virtue
from zoo import Box, Item, Mask, Point, Polygon
from zoo.encoders.segmented import ASKED, inside
from zoo.encoders.segmenter import FILLER
from zoo.errors import (
    InvalidRegionError,
    MissingWeightsError,
    UnreadSettingError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedModalityError,
)

BOUND, TELLS = 1e-5, 1e-4
LIKE, REFERENCE = "virtue-2b-scar", "virtue-2b-scar-reference"
ASK = "Represent the given image with the following question: What is in the image?"
FIRST, SECOND = photo(56, 84, 1), photo(112, 84, 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return write_virtue(tmp_path_factory.mktemp("virtue"))


@pytest.fixture(scope="module")
def folder(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SAM's files in the checkpoint's own folder, as for those without the Hub."""
    folder = tmp_path_factory.mktemp("both") / "virtue"
    shutil.copytree(whole.vlm.folder, folder)
    shutil.copytree(whole.sam_folder, folder / "sam2")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> zoo.Embedder:
    return zoo.load_model(folder, like=LIKE, allow_pickle=True, device="cpu")


@pytest.fixture(scope="module")
def tiny() -> zoo.Embedder:
    torch.manual_seed(0)
    return zoo.build_model("virtue-test")


def scaled(*numbers: float) -> tuple[float, ...]:
    """Pixels of `FIRST` in SAM's square."""
    return tuple(n * SIDE / FIRST.shape[1 - place % 2] for place, n in enumerate(numbers))


def furthest(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


# The authors' rows: virtue-example.py for the first, src/data/eval_dataset/scar_image_i2t.py for those of REFERENCE.
CASES: dict[str, tuple[Item, Row]] = {
    "no prompt": (
        Item(image=FIRST, text="What is in the image?", instruction=ASK.removesuffix(" What is in the image?")),
        Row(f"<|image_pad|>\n{ASK}", FIRST),
    ),
    "no prompt, no words": (Item(image=SECOND), Row("<|image_pad|>", SECOND)),
    "a point": (
        Item(image=FIRST, regions=[Point(21, 28)]),
        Row(f"<|image_pad|>\n{ASKED['point']}\nReferring object point: (21, 28)", FIRST, points=[scaled(21, 28)]),
    ),
    "a box": (
        Item(image=FIRST, regions=[Box(8, 12.5, 40, 50)]),
        Row(
            f"<|image_pad|>\n{ASKED['bbox']}\nReferring object bbox: (8, 12, 40, 50)",
            FIRST,
            boxes=[scaled(8, 12.5, 40, 50)],
        ),
    ),
    "a question and two points, one prompt": (
        Item(image=FIRST, text="What is it?", regions=[Point(21, 28), Point.relative(0.5, 0.25)]),
        Row(
            "<|image_pad|>\nWhat is it?\nReferring object point: (21, 28)\nReferring object point: (42, 14)",
            FIRST,
            points=[scaled(21, 28), scaled(42, 14)],
        ),
    ),
    "a text": (Item(text="A cat"), Row("A cat")),
    "a longer text": (Item(text="A much longer text about a dog"), Row("A much longer text about a dog")),
}


@pytest.mark.slow  # one by one what the next test has in a batch
@pytest.mark.parametrize("name", CASES)
def test_it_equals_the_authors_forward_pass(name: str, model: zoo.Embedder, whole: Whole) -> None:
    item, row = CASES[name]
    assert furthest(model.encode([item]), vectors(whole, [row])) < BOUND


@pytest.mark.parametrize("side", ["left", pytest.param("right", marks=pytest.mark.slow)])
def test_one_batch_may_mix_all_of_them(side: str, model: zoo.Embedder, whole: Whole) -> None:
    """Grids, points, boxes and texts; the authors' code pools its filling for a text beside an image."""
    encoder = model.towers[0].encoder
    with torch.inference_mode():
        batch = encoder.collate([encoder.prepare_item(item) for item, _ in CASES.values()], side)
        found = model.towers[0](batch)
    assert furthest(found, vectors(whole, [row for _, row in CASES.values()])) < BOUND


@pytest.mark.slow
def test_the_reference_takes_a_box_as_it_is(folder: Path, whole: Whole) -> None:
    """In pixels of the image, for SAM, in the words of SCaR's rows and without squashing the image a second time."""
    model = zoo.load_model(folder, like=REFERENCE, allow_pickle=True, device="cpu")
    assert model.spec.media["image"].square == 1344
    encoder = model.towers[0].encoder
    image = encoder.readers["image"]
    image.limits = replace(image.limits, square=0)  # as the row below, whose image is as large as the processor keeps
    row = Row(
        "<|image_pad|> \nFind it.\nReferring object bbox: [8.0, 12.5, 40.0, 50.0]", FIRST, boxes=[(8, 12.5, 40, 50)]
    )
    item = Item(image=FIRST, text="Find it.", regions=[Box(8, 12.5, 40, 50)])
    assert furthest(model.encode([item]), vectors(whole, [row])) < BOUND


@pytest.mark.slow
def test_the_reference_squashes_images(model: zoo.Embedder, folder: Path) -> None:
    reference = zoo.load_model(folder, like=REFERENCE, allow_pickle=True, device="cpu").towers[0].encoder
    grids = [
        encoder.prepare_item(Item(image=FIRST)).media[0].inputs["image_grid_thw"]
        for encoder in (model.towers[0].encoder, reference)
    ]
    assert grids[0][0, 1:].tolist() == [4, 6]
    assert grids[1][0, 1] == grids[1][0, 2] == 70  # 980 of at most 1,003,520 pixels


# ------------------------------------------------------------------------------------------------------------- prompts


def test_no_prompt_is_a_grid_of_nine_points(tiny: zoo.Embedder) -> None:
    encoder = tiny.towers[0].encoder
    (_, prompt) = encoder.prepare_item(Item(image=FIRST)).media
    thirds = [SIDE / 6, SIDE / 2, SIDE * 5 / 6]
    assert torch.allclose(prompt.inputs["points"], torch.tensor([(x, y) for y in thirds for x in thirds]))
    assert prompt.inputs["labels"].tolist() == [1] * 9
    places = [(x * 84, y * 56) for y in (1 / 6, 1 / 2, 5 / 6) for x in (1 / 6, 1 / 2, 5 / 6)]
    (_, same) = encoder.prepare_item(Item(image=FIRST, regions=[Point(*place) for place in places])).media
    assert torch.allclose(same.inputs["points"], prompt.inputs["points"])


def test_each_region_is_a_vector_and_sam_sees_the_image_once(
    tiny: zoo.Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = [
        Box(8, 12, 40, 50),
        Point(60, 20),
        Point(10, 40),
        [Point(1, 1), Point(80, 50)],
        Polygon([(5, 5), (60, 9), (30, 50)]),
    ]
    alone = torch.cat([tiny.encode_regions(FIRST, [region]) for region in regions])
    segmenter, seen = tiny.towers[0].encoder.segmenter, []
    inner = segmenter.sam.vision_encoder.forward
    monkeypatch.setattr(
        segmenter.sam.vision_encoder,
        "forward",
        lambda pixels, **more: (seen.append(len(pixels)), inner(pixels, **more))[1],
    )
    together = tiny.encode_regions(FIRST, regions)
    assert seen == [1]
    assert furthest(alone, together) < BOUND
    assert (torch.pdist(together) > 1e-6).all()


def test_filling_up_is_no_prompt(tiny: zoo.Embedder) -> None:
    """Shorter prompts of a batch are cut at their own length before SAM reads them: filling is not neutral to it."""
    segmenter = tiny.towers[0].encoder.segmenter
    image, point = torch.randn(3, 56, 84), torch.tensor([[[20.0, 30.0]]])
    with torch.inference_mode():
        alone = segmenter([image], torch.tensor([0]), point, torch.tensor([[1]]))
        filled = torch.cat([point, torch.zeros(1, 4, 2)], 1)
        labels = torch.tensor([[1, FILLER, FILLER, FILLER, FILLER]])
        assert torch.equal(alone, segmenter([image], torch.tensor([0]), filled, labels))


def test_a_mask_is_its_box_and_places_inside(tiny: zoo.Embedder) -> None:
    mask = np.zeros((56, 84), bool)
    mask[10:40, 20:60] = True
    mask[20:30, 30:50] = False  # a ring: the middle of its box is outside
    (_, prompt) = tiny.towers[0].encoder.prepare_item(Item(image=FIRST, regions=[Mask(mask)])).media
    labels, points = prompt.inputs["labels"].tolist(), prompt.inputs["points"]
    assert labels[:2] == [2, 3]
    assert labels[2:] == [1] * 8  # none in the middle part, which is the hole
    back = points * torch.tensor([84 / SIDE, 56 / SIDE])
    assert torch.allclose(back[:2], torch.tensor([[20.0, 10.0], [60.0, 40.0]]))
    assert all(mask[int(y), int(x)] for x, y in back[2:].tolist())


def test_places_inside_a_mask() -> None:
    one = np.zeros((9, 9), bool)
    one[4, 7] = True
    assert inside(one) == [(7.5, 4.5)]
    square = np.ones((9, 9), bool)
    assert inside(square) == [(x, y) for y in (1.5, 4.5, 7.5) for x in (1.5, 4.5, 7.5)]
    large = np.ones((9000, 2400), bool)
    large[:, 1:] = False
    large[0, 2399] = True  # where a coarse look finds nothing
    assert {(x, y) for x, y in inside(large)} >= {(0.5, 4500.5), (2399.5, 0.5)}


def test_where_it_points_changes_the_vector(tiny: zoo.Embedder) -> None:
    """By SAM alone: the words are the same."""
    encoder = tiny.towers[0].encoder
    reads = [encoder.prepare_item(Item(image=FIRST, regions=[Point(21, 28)])) for _ in range(2)]
    reads[1].media[1].inputs["points"] += 40
    with torch.inference_mode():
        a, b = tiny.towers[0](encoder.collate(reads))
    assert furthest(a, b) > TELLS


def test_the_words_are_put_after_the_users(tiny: zoo.Embedder) -> None:
    encoder = tiny.towers[0].encoder
    item = Item(text="Which dog?", image=FIRST, regions=[Box(8, 12, 40, 50), Point(3, 4)])
    text = encoder.tokenizer.decode(encoder.prepare_item(item).ids).replace("<|image_pad|>", "")
    assert text == "\nWhich dog?\nReferring object bbox: (8, 12, 40, 50)\nReferring object point: (3, 4)"
    parts = Item(parts=["Which dog?", Item(image=FIRST, regions=[Point(3, 4)])])
    text = encoder.tokenizer.decode(encoder.prepare_item(parts).ids).replace("<|image_pad|>", "")
    assert text == "Which dog?\nReferring object point: (3, 4)"


def test_what_it_cannot_point_at_is_refused(tiny: zoo.Embedder) -> None:
    with pytest.raises(UnsupportedModalityError, match="2 images"):
        tiny.encode(Item(parts=[FIRST, SECOND]))
    with pytest.raises(InvalidRegionError, match="outside"):
        tiny.encode(Item(image=FIRST, regions=[Box(100, 100, 120, 120)]))
    with pytest.raises(InvalidRegionError, match="no"):
        tiny.encode(Item(text="a dog", regions=[Box(0, 0, 9, 9)]))


# ------------------------------------------------------------------------------------------------------------ training


def test_only_the_connector_and_adapters_learn(tiny: zoo.Embedder) -> None:
    from zoo.training.adapters import Lora, add_lora

    model = zoo.build_model("virtue-test")
    add_lora(model, Lora(rank=2, targets=("text.*.q_proj",), also=("text.encoder.segmenter.connector",)))
    encoder = model.towers[0].encoder
    items = [Item(image=FIRST, regions=[Point(21, 28)]), Item(image=SECOND)]
    model.towers[0](encoder.prepare(items)).square().sum(0).max().backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learned == {n for n, _ in model.named_parameters() if "lora_" in n or ".connector." in n}
    # What is 0 at first (B of LoRA) hides A's gradient.
    assert all(p.grad.abs().sum() > 0 for n, p in model.named_parameters() if p.grad is not None and "lora_A" not in n)


def test_sam_stays_where_all_else_learns() -> None:
    model = zoo.build_model("virtue-test").train()
    encoder = model.towers[0].encoder
    model.requires_grad_(True)
    model.towers[0](encoder.prepare([Item(image=FIRST)])).sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is not None and ".sam." in name]
    assert encoder.segmenter.connector.reduce.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_the_trainer_moves_the_connector_and_leaves_sam(tmp_path: Path) -> None:
    from zoo.training import Pair, Recipe, train
    from zoo.training.adapters import Lora

    boxes = [Box(0, 0, 40, 56), Box(44, 0, 84, 56)]
    pairs = [
        Pair(Item(image=image, regions=[box]), Item(text=f"scene {scene}, place {place}"))
        for scene, image in enumerate((FIRST, photo(56, 84, 3)))
        for place, box in enumerate(boxes)
    ]
    lora = Lora(rank=2, targets=("language_model",), also=("text.encoder.segmenter.connector",))
    recipe = Recipe(name="virtue", loss="infonce", steps=3, batch_size=4, holdout=0.0, lora=lora)
    model = zoo.build_model("virtue-test")
    before = {name: weight.detach().clone() for name, weight in model.named_parameters() if ".segmenter." in name}
    model = train(model, pairs, recipe, tmp_path / "run", progress=False, trackers=(), report=False, device="cpu")
    moved = {
        name for name, weight in model.named_parameters() if name in before and not torch.equal(before[name], weight)
    }
    assert moved == {name for name in before if ".connector." in name}
    queries = [pair.query for pair in pairs]
    assert furthest(zoo.load_model(tmp_path / "run", device="cpu").encode(queries), model.encode(queries)) < BOUND


# --------------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.slow
def test_a_saved_folder_holds_both_networks(model: zoo.Embedder, tmp_path: Path) -> None:
    items = [item for item, _ in CASES.values()]
    model.save_pretrained(tmp_path / "m")
    again = zoo.load_model(tmp_path / "m", device="cpu")
    assert furthest(again.encode(items), model.encode(items)) == 0
    assert again.spec == model.spec


@pytest.mark.slow
def test_sam_comes_from_its_own_repository(child: Child, hub: LoopbackHub, whole: Whole) -> None:
    hub.add(whole.vlm.folder, "org/virtue")
    answer = child.call("tests.models.test_virtue:embed", "hf:org/virtue")
    assert answer["error"] == "NotOnHubError"
    assert SAM_REPO in answer["message"]
    assert "sam2" in answer["message"]
    hub.add(whole.sam_folder, SAM_REPO)
    answer = child.call("tests.models.test_virtue:embed", "hf:org/virtue", pinned=False)
    assert "error" not in answer, answer
    assert furthest(torch.tensor(answer["result"]), vectors(whole, [row for _, row in CASES.values()])) < BOUND


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (None, "virtue_sam"),
        ({**SETTINGS, "checkpoint": "x/sam_vit_h.pt"}, "sam_vit_h.pt"),
        ({**SETTINGS, "points_per_side": 0}, "points_per_side"),
        ({**SETTINGS, "enabled": False}, "enabled"),
        ({**SETTINGS, "dense": 1}, "dense"),
    ],
)
def test_settings_are_followed_or_refused(settings: dict | None, said: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    change(tmp_path / "m", settings)
    with pytest.raises((UnrecognisedCheckpointError, UnreadSettingError), match=said):
        zoo.load_model(tmp_path / "m", like=LIKE, allow_pickle=True, device="cpu")


@pytest.mark.slow
def test_a_grid_of_another_size_is_followed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    change(tmp_path / "m", {**SETTINGS, "points_per_side": 2})
    model = zoo.load_model(tmp_path / "m", like=LIKE, allow_pickle=True, device="cpu")
    (_, prompt) = model.towers[0].encoder.prepare_item(Item(image=FIRST)).media
    assert len(prompt.inputs["points"]) == 4


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _cut(folder: Path) -> None:
    path = folder / "sam2_reducer_and_vlm_layer.pth"
    path.write_bytes(path.read_bytes()[:300])


def _another_block(folder: Path) -> None:
    tensors = load_file(folder / "sam2" / "model.safetensors")
    tensors["vision_encoder.backbone.blocks.9.mlp.proj_in.weight"] = torch.zeros(3)
    save_file(tensors, folder / "sam2" / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without("sam2/model.safetensors"), "SAM's model.safetensors is missing"),
        (_without("sam2/config.json"), "SAM's config.json is missing"),
        (_without("sam2_reducer_and_vlm_layer.pth"), "lacks sam2_reducer_and_vlm_layer.pth"),
        (_cut, "no connector of VIRTUE"),
        (_another_block, r"blocks\.9"),
    ],
)
def test_what_is_missing_or_too_much_is_named(
    spoil: Callable[[Path], None], said: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "m")
    spoil(tmp_path / "m")
    with pytest.raises(MissingWeightsError, match=said):
        zoo.load_model(tmp_path / "m", like=LIKE, allow_pickle=True, device="cpu")


@pytest.mark.slow
def test_a_connector_of_another_width(tmp_path: Path) -> None:
    other = write_virtue(tmp_path, width=48)
    shutil.copytree(other.sam_folder, other.vlm.folder / "sam2")
    with pytest.raises(MissingWeightsError, match=r"project\.2\.bias has the shape \(48,\), not \(32,\)"):
        zoo.load_model(other.vlm.folder, like=LIKE, allow_pickle=True, device="cpu")


def test_pickles_are_asked_for_and_other_models_refused(folder: Path) -> None:
    with pytest.raises(UnsafeCheckpointError, match="allow_pickle"):
        zoo.load_model(folder, like=LIKE, device="cpu")
    with pytest.raises(UnrecognisedCheckpointError, match="virtue-2b-scar"):
        zoo.load_model(folder, like="vlm2vec-qwen2vl-2b", allow_pickle=True, device="cpu")


def embed(name: str, pinned: bool = True) -> list[list[float]]:
    """Asked by a process of its own, whose Hub is the test's and has no commit of Meta's."""
    from zoo.formats import virtue

    if not pinned:
        virtue.SAMS = {name: published._replace(revision=None) for name, published in virtue.SAMS.items()}
    model = zoo.load_model(name, like=LIKE, allow_pickle=True, device="cpu")
    return model.encode([item for item, _ in CASES.values()]).tolist()
