"""Regions of images on models that read whole ones: every rule, everywhere that a model is used."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

import zoo
from zoo import Box, Item, Mask, Point, Polygon, build_model, load_model
from zoo.embedder import Embedder, Tower
from zoo.encoders.dense import cells_of
from zoo.encoders.image import timm_image
from zoo.errors import ArgumentError, InvalidRegionError, UnrecognisedCheckpointError, UnsupportedInputError
from zoo.fusion import WeightedSum
from zoo.heads import Identity
from zoo.inputs.image import load_pixels
from zoo.pooling import Cls
from zoo.regions import Dense, Ensemble, MaskedCrop, RegionRule, Upright
from zoo.registry.parts import register_part

DUAL = ["mini-test", "clip-test", "siglip-test", "mobileclip-test"]
DENSE = [*DUAL, "tipsv2-test", "image-test"]
READERS = [*DENSE, "vlm2vec-test", "colpali-test"]


def image(seed: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)


def several(pixels: np.ndarray) -> list:
    mask = np.zeros(pixels.shape[:2], bool)
    mask[5:20, 9:31] = True
    return [
        Box(2, 2, 30, 30),
        Point(40, 20),
        Polygon([(2, 2), (40, 5), (20, 40)]),
        Mask(mask),
        [Point(4, 4), Box(8, 8, 20, 20)],
    ]


@pytest.mark.parametrize("name", READERS)
def test_every_model_of_images_embeds_regions_a_vector_each(name: str) -> None:
    model, pixels = build_model(name).eval(), image()
    regions = several(pixels)
    vectors = model.encode_regions(pixels, regions)
    assert len(vectors) == len(regions)
    for region, vector in zip(regions, vectors, strict=True):
        item = Item(image=pixels, regions=region if isinstance(region, list) else [region])
        torch.testing.assert_close(model.encode(item), vector, atol=1e-5, rtol=0)
    assert "regions" not in model.spec.modalities  # which says what the encoders read by themselves


def test_a_masked_crop_is_the_box_around_the_region_on_white() -> None:
    pixels = image()
    mask = np.zeros((48, 64), bool)
    mask[10:20, 30:40] = True
    mask[10, 30] = False
    crop = MaskedCrop(scale=1.2).image(Upright(pixels), mask)
    expected = np.full((12, 12, 3), 255, np.uint8)
    expected[1:11, 1:11] = pixels[10:20, 30:40]
    expected[1, 1] = 255
    assert (crop == expected).all()
    assert (MaskedCrop(scale=1.2, fill="none").image(Upright(pixels), mask) == pixels[9:21, 29:41]).all()
    mean = MaskedCrop(fill="mean").image(Upright(pixels), mask)
    assert (mean[0, 0] == pixels.reshape(-1, 3).mean(0).round()).all()


def test_a_crop_reaches_over_the_border_and_is_square_or_not() -> None:
    pixels = image()
    mask = np.zeros((48, 64), bool)
    mask[0:10, 0:40] = True
    assert MaskedCrop().image(Upright(pixels), mask).shape == (48, 48, 3)
    assert MaskedCrop(square=False).image(Upright(pixels), mask).shape == (12, 48, 3)
    assert (MaskedCrop(square=False).image(Upright(pixels), mask)[0] == 255).all()
    for fill in ("grey", "mean", "blur", "none"):
        assert MaskedCrop(fill=fill).image(Upright(pixels), mask).shape == (48, 48, 3)


def test_a_long_region_of_a_large_image_takes_little_memory() -> None:
    pixels = np.zeros((300, 20_000, 3), np.uint8)
    mask = np.zeros((300, 20_000), bool)
    mask[7, :] = True
    mask[:, 19_999] = True
    crop = MaskedCrop().image(Upright(pixels), mask)
    assert max(crop.shape) < 5000
    assert (crop == 0).any()


def test_what_stands_outside_the_region_does_not_matter() -> None:
    model, pixels = build_model("clip-test").eval(), image()
    mask = np.zeros((48, 64), bool)
    mask[10:30, 10:30] = True
    other = image(1)
    other[mask] = pixels[mask]
    torch.testing.assert_close(*(model.encode_regions(one, [Mask(mask)]) for one in (pixels, other)))


def test_an_ensemble_is_the_mean_of_its_crops() -> None:
    model, pixels = build_model("clip-test").eval(), image()
    regions = several(pixels)
    each = [model.encode_regions(pixels, regions, region=MaskedCrop(fill=fill)) for fill in ("blur", "mean", "white")]
    expected = F.normalize(sum(each), dim=-1)
    torch.testing.assert_close(model.encode_regions(pixels, regions, region="ensemble"), expected, atol=1e-5, rtol=0)


def square(model) -> np.ndarray:
    """An image that the model reads as it is, so that nothing but pooling can differ."""
    encoder = model.towers[0].encoder
    return image(3, encoder.transform.size)


@pytest.mark.parametrize("name", DENSE)
def test_a_dense_region_of_everything_is_the_whole_image(name: str) -> None:
    model = build_model(name).eval()
    pixels = square(model)
    encoder = model.towers[0].encoder
    scale = {"scale": 1.0} if encoder.last_stage().flexible else {}
    everything = model.encode_regions(pixels, [Mask(np.ones(pixels.shape[:2], bool))], region=Dense(**scale))
    # As the encoder embeds exactly these pixels, whatever of them its own transform would cut away.
    batch = {"pixels": torch.from_numpy(pixels).permute(2, 0, 1)[None]}
    with torch.no_grad():
        torch.testing.assert_close(everything, model.towers[0](batch), atol=1e-6, rtol=0)


def test_dinov3_averages_the_patches_of_a_region() -> None:
    """A tiny one of timm's own class, whose vector is the mean of its patches: class and register tokens are no part of it."""
    encoder = timm_image("vit_small_patch16_dinov3", {"embed_dim": 32, "depth": 2, "num_heads": 4})
    spec = replace(zoo.get_spec("dinov3-vit-s16"), dim=32)
    model, pixels = Embedder(spec, [Tower(encoder, Cls(), Identity())]).eval(), image(1, (256, 256))
    mask = np.zeros((256, 256), bool)
    mask[64:128, :128] = True  # four by eight of the sixteen by sixteen patches
    found = model.encode_regions(pixels, [Mask(mask), Mask(np.ones_like(mask))], region="dense")
    with torch.no_grad():
        states = encoder.backbone.forward_features(encoder.normalize(encoder.prepare_item(Item(image=pixels))[None]))
        patches = states[0, encoder.backbone.num_prefix_tokens :].unflatten(0, (16, 16))
        expected = encoder.backbone.fc_norm(torch.stack([patches[4:8, :8].mean((0, 1)), patches.mean((0, 1))]))
    torch.testing.assert_close(found, F.normalize(expected, dim=-1), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1], model.encode(pixels), atol=1e-6, rtol=0)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_masked_class_attention_is_the_last_block_with_a_mask() -> None:
    """open_clip's own block with an attention mask, which hides the other patches from the class token."""
    model = build_model("clip-test").eval()
    encoder = model.towers[0].encoder
    tower = encoder.tower
    stage = encoder.last_stage()
    pixels = encoder.normalize(torch.from_numpy(square(model)).permute(2, 0, 1)[None])
    with torch.no_grad():
        states = stage.states(pixels)
        cells = torch.zeros(2, states.grid[0] * states.grid[1], dtype=torch.bool)
        cells[0, 1], cells[1, :3] = True, True
        found = stage.pooled(states, torch.tensor([0, 0]), cells)
        block = tower.transformer.resblocks[-1]
        for row, mine in zip(found, cells, strict=True):
            hidden = torch.cat([torch.tensor([False]), ~mine])
            mask = torch.zeros(len(hidden), len(hidden)).masked_fill(hidden[None], -torch.inf)
            whole = block(states.tokens, attn_mask=mask)
            expected = tower.ln_post(whole)[:, 0] @ tower.proj
            torch.testing.assert_close(row, expected[0], atol=1e-5, rtol=0)


def test_the_pooling_head_of_siglip_attends_with_a_key_mask() -> None:
    import transformers

    from zoo.encoders.dense import hf_siglip_stage

    config = transformers.SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    tower = transformers.SiglipVisionModel(config).eval()
    stage = hf_siglip_stage(tower)
    with torch.no_grad():
        states = stage.states(torch.randn(1, 3, 32, 32))
        cells = torch.zeros(1, 16, dtype=torch.bool)
        cells[0, [2, 3, 9]] = True
        found = stage.pooled(states, torch.tensor([0]), cells)
        head = getattr(tower, "vision_model", tower).head
        attended = head.attention(head.probe, states.tokens, states.tokens, key_padding_mask=~cells)[0]
        torch.testing.assert_close(found, (attended + head.mlp(head.layernorm(attended)))[:, 0], atol=1e-5, rtol=0)


def test_clip_of_transformers_is_divided_as_open_clip_is() -> None:
    import transformers

    from zoo.encoders.dense import hf_clip_stage

    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    tower = transformers.CLIPVisionModelWithProjection(config).eval()
    stage = hf_clip_stage(tower)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        states = stage.states(pixels)
        found = stage.pooled(states, torch.tensor([1, 0]), torch.ones(2, 16, dtype=torch.bool))
        torch.testing.assert_close(found, tower(pixel_values=pixels).image_embeds.flip(0), atol=1e-5, rtol=0)


def test_cells_are_those_half_filled_and_never_none() -> None:
    masks = torch.zeros(3, 8, 8, dtype=torch.uint8)
    masks[0, :4, :5] = 255  # the upper left cell, and a quarter of its neighbour
    masks[1, 6, 6] = 255  # a sixteenth of one cell
    cells = cells_of(masks, (2, 2))
    assert cells.tolist() == [[True, False, False, False], [False, False, False, True], [True, False, False, False]]


def test_dense_regions_of_an_image_share_one_pass_of_its_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pixels = build_model("mini-test").eval(), image()
    seen = []
    backbone = model.towers[0].encoder.backbone
    handle = backbone.conv_stem.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    boxes = [Box(i, i, i + 12, i + 12) for i in range(32)]
    together = model.encode_regions(pixels, boxes, region="dense")
    handle.remove()
    assert seen == [1]
    alone = torch.cat([model.encode_regions(pixels, [box], region="dense") for box in boxes])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_regions_of_several_images_stay_with_their_images() -> None:
    model = build_model("mini-test").eval().with_region_rule("dense")
    images = [image(seed) for seed in range(3)]
    items = [Item(image=one, regions=[Box(4, 4, 30, 30)]) for one in images for _ in range(2)]
    vectors = model.encode(items)
    for place, one in enumerate(images):
        torch.testing.assert_close(
            vectors[2 * place], model.encode_regions(one, [Box(4, 4, 30, 30)])[0], atol=1e-5, rtol=0
        )


def test_an_image_changed_in_place_is_read_anew() -> None:
    model, pixels = build_model("mini-test").eval(), image()
    before = model.encode(Item(image=pixels, regions=[Box(0, 0, 40, 40)]))
    pixels[:] = image(5)
    after = model.encode(Item(image=pixels, regions=[Box(0, 0, 40, 40)]))
    assert not torch.allclose(before, after)


def test_a_file_written_anew_is_read_anew(tmp_path) -> None:
    model, path = build_model("mini-test").eval(), tmp_path / "image.png"
    vectors = []
    for seed, size in ((0, (48, 64)), (1, (50, 64))):
        Image.fromarray(image(seed, size)).save(path)
        vectors.append(model.encode(Item(image=path, regions=[Box(0, 0, 40, 40)])))
        torch.testing.assert_close(vectors[-1], model.encode_regions(path, [Box(0, 0, 40, 40)])[0])
    assert not torch.allclose(*vectors)


def test_a_bad_region_never_loses_the_good_ones() -> None:
    model, pixels = build_model("mini-test").eval(), image()
    items = [Item(image=pixels, regions=[box]) for box in (Box(0, 0, 9, 9), Box(99, 0, 120, 9), Box(1, 1, 9, 9))]
    results = list(model.encode_stream(items))
    assert [result.error is None for result in results] == [True, False, True]
    assert isinstance(results[1].error, InvalidRegionError)
    with pytest.raises(InvalidRegionError, match=r"(input|item) 1"):
        model.encode_regions(pixels, [Box(0, 0, 9, 9), Box(99, 0, 120, 9)])


def test_region_and_text_are_fused_where_a_tower_each_reads_them() -> None:
    model, pixels = build_model("clip-test").eval(), image()
    box = [Box(4, 4, 30, 30)]
    model.fusion = WeightedSum(image=0.3)
    region, text = model.encode_regions(pixels, box)[0], model.encode("in blue")
    fused = model.encode(Item(image=pixels, regions=box, text="in blue"))
    torch.testing.assert_close(fused, F.normalize(0.3 * region + 0.7 * text, dim=-1), atol=1e-5, rtol=0)
    whole = model.encode(Item(image=pixels, text="in blue"))
    torch.testing.assert_close(whole, F.normalize(0.3 * model.encode(pixels) + 0.7 * text, dim=-1), atol=1e-5, rtol=0)


def test_one_that_reads_text_and_image_together_reads_the_text_with_the_region() -> None:
    model, pixels = build_model("vlm2vec-test").eval(), image()
    with_text = model.encode_regions(Item(image=pixels, text="what is it"), [Box(4, 4, 30, 30)])[0]
    torch.testing.assert_close(
        with_text, model.encode(Item(image=pixels, text="what is it", regions=[Box(4, 4, 30, 30)])), atol=1e-5, rtol=0
    )
    assert not torch.allclose(with_text, model.encode_regions(pixels, [Box(4, 4, 30, 30)])[0])


def test_a_rule_of_the_model_is_saved_opened_and_part_of_the_fingerprint(tmp_path) -> None:
    model, pixels = build_model("mini-test").eval(), image()
    usual = model.fingerprint()
    for rule in (Dense(scale=1.5), Ensemble(fills=("grey", "white"), scale=1.5), MaskedCrop(fill="blur", square=False)):
        model.region_rule = rule
        opened = load_model(model.save_pretrained(tmp_path / type(rule).__name__))
        assert opened.region_rule == rule
        assert opened.fingerprint() == model.fingerprint() != usual
        regions = several(pixels)
        torch.testing.assert_close(opened.encode_regions(pixels, regions), model.encode_regions(pixels, regions))
    model.region_rule = "masked-crop"
    assert model.fingerprint() == usual
    assert load_model(tmp_path / "Dense", region="masked-crop").region_rule == MaskedCrop()


def test_what_a_configuration_says_of_a_rule_is_held_to_its_arguments(tmp_path) -> None:
    import json

    model = build_model("mini-test").eval()
    model.region_rule = Dense(scale=2)
    folder = model.save_pretrained(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert config["region"] == {"kind": "regions.dense:Dense", "scale": 2}
    for wrong in (
        {"kind": "regions.dense:Dense", "scale": 99},
        {"kind": "regions.dense:Dense", "depth": 2},
        {"kind": "regions.crop:MaskedCrop", "fill": "green"},
        {"kind": "regions.base:RegionRule"},
        {"kind": "os:System"},
        {"kind": "heads:Identity"},
    ):
        (folder / "config.json").write_text(json.dumps({**config, "region": wrong}))
        with pytest.raises(UnrecognisedCheckpointError):
            load_model(folder)


def test_models_with_routes_are_copied_and_pickled() -> None:
    model, pixels = build_model("mini-test").eval(), image()
    expected = model.encode_regions(pixels, several(pixels))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other.encode_regions(pixels, several(pixels)), expected)
    shared = model.with_region_rule("dense")
    assert shared.region_rule == Dense()
    assert model.region_rule == MaskedCrop()
    assert next(shared.parameters()) is next(model.parameters())
    assert sum(1 for _ in model.parameters()) == sum(1 for _ in shared.parameters())


@pytest.mark.parametrize(
    ("name", "rule", "said"),
    [
        ("vlm2vec-test", "dense", "states"),
        ("colpali-test", "ensemble", "late interaction"),
        ("clip-test", Dense(scale=2), "one size"),
        ("bge-test", "masked-crop", "no images"),
        ("clip-test", "red-circle", "masked-crop, dense, dense-hd, ensemble"),
        ("clip-test", 5, "must be one of"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused_by_name(name: str, rule, said: str) -> None:
    model = build_model(name if zoo.registry.is_registered(name) else "text-test")
    with pytest.raises(ArgumentError, match=said):
        model.region_rule = rule
    with pytest.raises(ArgumentError, match=said):
        model.encode_regions(image(), [Box(0, 0, 9, 9)], region=rule)


@pytest.mark.parametrize(
    "make", [lambda: MaskedCrop(scale=0.5), lambda: MaskedCrop(fill="red"), lambda: MaskedCrop(square=1)]
)
def test_rules_refuse_arguments_that_make_no_sense(make) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()
    with pytest.raises(ValueError, match="two different fills"):
        Ensemble(fills=("white", "white"))
    with pytest.raises(ValueError, match="scale"):
        Dense(scale=0)


def test_encode_regions_takes_an_image_and_a_list_of_regions() -> None:
    model, pixels = build_model("mini-test").eval(), image()
    assert model.encode_regions(pixels, []).shape == (0, model.spec.dim)
    assert model.encode_regions(pixels, [Box(0, 0, 9, 9)], dim=None, precision="int8").dtype == torch.int8
    for wrong, regions in (
        ("a text", [Box(0, 0, 9, 9)]),
        (Item(image=pixels, regions=[Box(0, 0, 9, 9)]), [Box(0, 0, 9, 9)]),
    ):
        with pytest.raises(UnsupportedInputError, match="takes an image"):
            model.encode_regions(wrong, regions)
    assert pixels.flags.writeable
    with pytest.raises(UnsupportedInputError, match="a list"):
        model.encode_regions(pixels, Box(0, 0, 9, 9))
    with pytest.raises(InvalidRegionError, match="empty list"):
        model.encode_regions(pixels, [[]])


def test_transparent_images_are_read_on_white() -> None:
    model = build_model("mini-test").eval()
    clear = np.concatenate([image(), np.zeros((48, 64, 1), np.uint8)], 2)
    clear[10:30, 10:30, 3] = 255
    assert (load_pixels(clear)[0] == 255).all()
    torch.testing.assert_close(
        model.encode_regions(clear, [Box(10, 10, 30, 30)]),
        model.encode_regions(load_pixels(clear), [Box(10, 10, 30, 30)]),
    )


def test_the_packaged_model_tells_a_thing_pointed_at_from_its_neighbour() -> None:
    model = load_model("zoo-mini")
    canvas = Image.new("RGB", (320, 160), (90, 140, 60))
    draw = ImageDraw.Draw(canvas)
    draw.ellipse((20, 30, 120, 130), fill=(250, 140, 10))
    draw.rectangle((200, 30, 300, 130), fill=(20, 60, 200))
    ball, tile = model.encode_regions(canvas, [Box(20, 30, 120, 130), Box(200, 30, 300, 130)])
    texts = model.encode_query(["an orange", "a blue square"])
    scores = torch.stack([ball, tile]) @ texts.T
    assert scores[0, 0] - scores[0, 1] > scores[1, 0] - scores[1, 1]


@register_part("region", "test-regions:UpperHalf")
class UpperHalf(RegionRule):
    """A rule of another package: the image's upper half, whatever is pointed at."""

    def image(self, whole: Upright, mask: np.ndarray) -> np.ndarray:
        return whole.pixels[: len(whole.pixels) // 2]


def test_a_rule_of_another_package_is_followed_saved_and_opened(tmp_path) -> None:
    model, pixels = build_model("mini-test").eval(), image()
    model.region_rule = UpperHalf()
    torch.testing.assert_close(model.encode_regions(pixels, [Point(3, 3)])[0], model.encode(pixels[:24]))
    assert isinstance(load_model(model.save_pretrained(tmp_path / "model")).region_rule, UpperHalf)
