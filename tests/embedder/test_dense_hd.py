"""Regions by tiles, after TextRegion: its geometry, its arithmetic against attentions written out, and its use on models."""

import numpy as np
import pytest
import timm
import torch
import transformers
from open_clip.transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from tests.embedder.test_regions import image, several
from zoo import Box, Item, build_model, load_model
from zoo.encoders.dense import LastStage, hf_clip_stage, hf_siglip_stage, hf_tips_stage, open_clip_stage, timm_stage
from zoo.encoders.image_transform import PixelTransform
from zoo.errors import ArgumentError
from zoo.regions import DenseHd, Upright
from zoo.regions.dense_hd import joined, local, spans, weights_of
from zoo.regions.shared import levels

MODELS = ["mini-test", "clip-test", "mobileclip-test"]


def reads_of(model, pixels: np.ndarray, rule: DenseHd):
    """What the rule reads of an image and a box in its corner."""
    mask = np.zeros(pixels.shape[:2], bool)
    mask[: -(-len(mask) // 2), : -(-mask.shape[1] // 3)] = True
    return rule.read(model.towers[0].encoder, Item(image=pixels), Upright(pixels), mask)


def test_an_image_of_whole_tiles_is_cut_into_them_row_by_row() -> None:
    pixels = image(0, (64, 96))
    inputs, mask = reads_of(build_model("clip-test"), pixels, DenseHd(long=3, short=2))
    assert inputs.shape == (7, 3, 32, 32)
    tiles = [pixels[y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32, 64)]
    assert (inputs[1:].permute(0, 2, 3, 1).numpy() == np.stack(tiles)).all()
    assert (mask.numpy() == np.pad(np.full((32, 32), 255), ((0, 32), (0, 64)))).all()


@pytest.mark.parametrize(
    ("size", "scaled", "tiles"),
    [
        ((48, 64), (64, 85), (2, 2)),  # also up; a part of a tile is none of its own
        ((10, 10), (64, 64), (2, 2)),
        ((4000, 3000), (85, 64), (2, 2)),
        ((200, 1000), (38, 192), (1, 6)),
        ((300, 1000), (58, 192), (1, 6)),
        ((334, 1000), (64, 192), (2, 6)),
        ((1, 5000), (1, 192), (1, 6)),
    ],
)
def test_the_scaled_image_fits_into_six_by_two_of_the_towers(size, scaled, tiles) -> None:
    rule = DenseHd()
    assert rule.scaled(size, (32, 32)) == scaled
    inputs, mask = reads_of(build_model("clip-test"), np.zeros((*size, 3), np.uint8), rule)
    assert len(inputs) == 1 + tiles[0] * tiles[1] <= 13
    assert tuple(mask.shape) == (32 * tiles[0], 32 * tiles[1])


def test_tiles_that_do_not_fit_lie_over_each_other_at_the_end() -> None:
    """11 rows in two: 0 to 6, and 5 to 11, whose first row is the last of the tile before it."""
    assert [(one.start, one.stop) for one in spans(11, 2)] == [(0, 6), (5, 11)]
    assert [(one.start, one.stop) for one in spans(10, 3)] == [(0, 4), (4, 8), (6, 10)]


def test_states_of_tiles_lie_beside_each_other_on_the_whole_images() -> None:
    states = torch.randn(7, 6, 5)  # two rows of three tiles, of 2 by 3 cells each
    found = joined(states, (2, 3), (2, 3), 0.5).unflatten(0, (4, 9))
    whole = F.interpolate(states[0].T.reshape(1, 5, 2, 3), (4, 9), mode="bilinear")[0]
    for row in range(4):
        for column in range(9):
            tile, cell = 1 + row // 2 * 3 + column // 3, row % 2 * 3 + column % 3
            torch.testing.assert_close(found[row, column], states[tile, cell] + 0.5 * whole[:, row, column])


def test_global_patches_are_found_as_by_all_pairs_of_the_region_and_the_rest() -> None:
    states = torch.randn(12, 6)
    states[:5, 0] += 2
    states[3] = states.mean(0)  # of the region, and like the image all over
    inside = np.arange(12) < 5
    weights = torch.from_numpy(inside).float()[None] * 0.7
    similar = F.cosine_similarity(states[:, None], states[None], dim=-1).numpy()
    difference = similar[:, inside].mean(1) - similar[:, ~inside].mean(1)
    threshold = float(np.sort(difference[inside])[1]) - 1e-4  # one of the five is under it
    found = local(F.normalize(states, dim=-1), weights, threshold)
    assert (found.numpy() > 0).tolist() == [(inside & (difference >= threshold)).tolist()]
    assert found.count_nonzero() == 4
    assert set(found[found > 0].tolist()) == {weights.max().item()}
    everything = local(F.normalize(states, dim=-1), weights, 2)
    assert torch.equal(everything, weights)


def test_a_region_of_everything_has_nothing_outside_to_be_like() -> None:
    alike = F.normalize(torch.randn(9, 4), dim=-1)
    mean = (alike @ alike.T).mean(1)
    found = local(alike, torch.ones(1, 9), 0.07)
    assert (found[0] > 0).tolist() == (mean >= 0.07).tolist()


def test_masks_are_bilinear_on_the_grid_and_no_region_is_lost() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.uint8)
    masks[0, :4, :6] = 255
    masks[1, 4, 7] = 51  # a fifth of a pixel, at a cell's border, between the places that are looked at
    found = weights_of(masks, (2, 2))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.5, 0, 0], [0, 0, 0, 1]]))


def stirred(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


def open_clip_tower(**settings) -> tuple[LastStage, nn.Module]:
    tower = stirred(VisionTransformer(32, 8, 32, 2, 4, 4.0, output_dim=16, **settings))
    attention = tower.transformer.resblocks[-1].attn
    return open_clip_stage(tower), (attention.in_proj_weight[32:64], attention.in_proj_bias[32:64])


def timm_tower(**settings):
    tower = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=0, **settings
    )
    layer = stirred(tower).blocks[-1].attn.qkv
    return timm_stage(tower), (layer.weight[32:64], layer.bias[32:64])


def hf_tower():
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    tower = stirred(transformers.CLIPVisionModelWithProjection(config))
    layer = tower.vision_model.encoder.layers[-1].self_attn.k_proj
    return hf_clip_stage(tower), (layer.weight, layer.bias)


def tips_tower():
    config = transformers.Tipsv2VisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8, layerscale_value=0.5
    )
    tower = stirred(transformers.Tipsv2VisionModel(config))
    layer = tower.encoder.layer[-1].attention.k_proj
    return hf_tips_stage(tower), (layer.weight, layer.bias)


NORMED = {"scale_heads": True, "scale_attn_inner": True, "scale_attn": True, "scale_fc": True}
TOWERS = {
    "open_clip": open_clip_tower,
    "open_clip with layer scales": lambda: open_clip_tower(ls_init_value=0.5),
    "open_clip with NormFormer's norms": lambda: open_clip_tower(block_type="custom", **NORMED),
    "open_clip that pools before its last norm": lambda: open_clip_tower(final_ln_after_pool=True),
    "timm": timm_tower,
    "timm with layer scales": lambda: timm_tower(init_values=0.5),
    "timm with a norm in its attention": lambda: timm_tower(scale_attn_norm=True),
    "transformers": hf_tower,
    "transformers' TIPSv2": tips_tower,
}


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_the_mask_stands_for_the_attention_of_equal_keys(name: str) -> None:
    """The block itself, with its keys' weights zeroed and a class token of zeros, whose residual then adds nothing."""
    stage, keys = TOWERS[name]()
    for parameter in keys:
        parameter.zero_()
    tokens = torch.randn(2, 6, 32)
    tokens[:, 0] = 0
    found = stage.attention.vector(stage.attention.values(tokens).mean(1))
    torch.testing.assert_close(found, stage.vector(tokens), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_sum_is_of_unit_values_head_by_head_with_the_mask_as_weights() -> None:
    tower = stirred(VisionTransformer(32, 8, 32, 2, 4, 4.0, output_dim=16))
    stage, block = open_clip_stage(tower), tower.transformer.resblocks[-1]
    pixels, masks = torch.randn(3, 3, 32, 32), torch.zeros(1, 32, 64, dtype=torch.uint8)
    masks[:, 3:20, 10:50] = 255
    found = DenseHd(threshold=-2).of_one(stage, pixels, (1, 2), masks)
    tokens = block.ln_1(stage.states(pixels).tokens)[:, 1:]
    values = F.linear(tokens, block.attn.in_proj_weight, block.attn.in_proj_bias)[..., 64:]
    whole = F.interpolate(values[0].T.reshape(1, 32, 4, 4), (4, 8), mode="bilinear")[0]
    wide = torch.cat([values[1].T.reshape(32, 4, 4), values[2].T.reshape(32, 4, 4)], 2) + whole
    weights = F.interpolate(masks[None] / 255, (4, 8), mode="bilinear")[0, 0]
    heads = (wide / wide.norm(dim=0)).reshape(4, 8, 4, 8)
    states = block.attn.out_proj(torch.einsum("hdyx,yx->hd", heads, weights).flatten())
    expected = tower.ln_post(states + block.mlp(block.ln_2(states))) @ tower.proj
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["transformers", "timm", "timm, class token among them"])
@torch.no_grad()
def test_a_pooling_head_attends_to_the_cells_of_the_region_alike(kind: str) -> None:
    """The head itself with its keys' weights zeroed, on the region's states alone."""
    if kind == "transformers":
        config = transformers.SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
        )
        tower = stirred(transformers.SiglipVisionModel(config))
        stage, head = hf_siglip_stage(tower), getattr(tower, "vision_model", tower).head
        keys, pool = (head.attention.in_proj_weight[32:64], head.attention.in_proj_bias[32:64]), head
    else:
        token = kind != "timm"
        tower = timm.create_model(
            "vit_base_patch16_siglip_224", img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=4, num_classes=0,
            class_token=token, pool_include_prefix=token,
        )  # fmt: skip
        stage, pool = timm_stage(stirred(tower)), tower.attn_pool
        keys = pool.kv.weight[:32], pool.kv.bias[:32]
    pixels, masks = torch.randn(2, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.uint8)
    masks[:, :16, :22] = 255
    found = DenseHd(threshold=-2).of_one(stage, pixels, (1, 1), masks)
    states = stage.states(pixels)
    tokens = states.tokens[1, states.prefix :] + 0.5 * states.tokens[0, states.prefix :]
    for parameter in keys:
        parameter.zero_()
    mine = tokens.unflatten(0, (4, 4))[:2, :3].flatten(0, 1)  # every cell that the mask touches
    torch.testing.assert_close(found, pool(mine[None]), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_of_a_mean_over_patches_a_region_is_the_mean_of_its_cells() -> None:
    tower = stirred(VisionTransformer(32, 8, 32, 2, 4, 4.0, output_dim=16, pool_type="avg"))
    stage, pixels = open_clip_stage(tower), torch.randn(1, 3, 32, 32)
    states = stage.states(pixels)
    torch.testing.assert_close(stage.vector(states.tokens), tower(pixels))
    cells = torch.zeros(1, 16, dtype=torch.bool)
    cells[0, [1, 6, 7]] = True
    expected = tower.ln_post(states.tokens[0, 1:][cells[0]]).mean(0) @ tower.proj
    torch.testing.assert_close(stage.pooled(states, torch.tensor([0]), cells)[0], expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_regions_vector_depends_on_no_other_region_or_image(name: str) -> None:
    model = build_model(name).eval().with_region_rule("dense-hd")
    images = [image(0, (48, 64)), image(1, (20, 90)), image(2, (64, 48))]
    items = [Item(image=one, regions=[box]) for one in images for box in (Box(2, 2, 40, 15), Box(30, 4, 44, 19))]
    order = [0, 2, 4, 1, 3, 5]
    together = model.encode([items[place] for place in order])
    for place, vector in zip(order, together, strict=True):
        torch.testing.assert_close(model.encode(items[place]), vector, atol=1e-5, rtol=0)
    assert not torch.allclose(together[0], together[3])
    assert len(model.encode_regions(images[0], several(images[0]))) == 5


def test_every_tile_goes_through_the_network_once_and_no_more_than_thirteen_at_a_time() -> None:
    model = build_model("clip-test").eval()
    seen: list[int] = []
    trunk = model.towers[0].encoder.tower.conv1
    handle = trunk.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    model.encode_regions(image(), [Box(i, i, i + 12, i + 12) for i in range(32)], region="dense-hd")
    assert seen == [5]
    seen.clear()
    long = [image(seed, (20, 60)) for seed in range(3)]
    model.with_region_rule("dense-hd").encode([Item(image=one, regions=[Box(2, 2, 9, 9)]) for one in long])
    handle.remove()
    assert seen == [13, 13, 13]


@pytest.mark.parametrize(("name", "inputs"), [("clip-test", 5), ("siglip-test", 5), ("mini-test", 4)])
def test_the_whole_image_is_read_where_it_counts(name: str, inputs: int) -> None:
    model, pixels = build_model(name).eval(), image()
    assert len(reads_of(model, pixels, DenseHd()).pixels) == inputs
    assert len(reads_of(model, pixels, DenseHd(whole=0)).pixels) == 4
    some, none = (model.encode_regions(pixels, [Box(2, 2, 30, 30)], region=DenseHd(whole=share)) for share in (0.7, 0))
    assert not torch.allclose(some, none)


def test_small_things_are_seen_where_the_tower_alone_would_not_see_them() -> None:
    """A change of a few pixels in a large image, which the tower's own size averages away."""
    model = build_model("clip-test").eval()
    plain = np.full((512, 512, 3), 128, np.uint8)
    dotted = plain.copy()
    dotted[100:104, 100:104] = 255
    box = [Box(96, 96, 108, 108)]
    moved = {
        rule: float(
            (model.encode_regions(plain, box, region=rule) - model.encode_regions(dotted, box, region=rule)).norm()
        )
        for rule in ("dense", "dense-hd")
    }
    assert moved["dense-hd"] > 1.5 * moved["dense"] > 0


def test_settings_are_saved_opened_and_part_of_the_fingerprint(tmp_path) -> None:
    model, pixels = build_model("clip-test").eval(), image()
    usual = model.with_region_rule("dense-hd").fingerprint()
    model.region_rule = DenseHd(long=4, short=1.5, threshold=0.02, whole=0)
    opened = load_model(model.save_pretrained(tmp_path / "model"))
    assert opened.region_rule == model.region_rule
    assert opened.fingerprint() == model.fingerprint() != usual
    boxes = several(pixels)
    torch.testing.assert_close(opened.encode_regions(pixels, boxes), model.encode_regions(pixels, boxes))
    assert not torch.allclose(
        model.encode_regions(pixels, boxes), model.encode_regions(pixels, boxes, region=DenseHd(), dim=None)
    )


@pytest.mark.parametrize(("name", "said"), [("vlm2vec-test", "states"), ("colpali-test", "states")])
def test_models_without_states_of_an_image_refuse_it(name: str, said: str) -> None:
    model = build_model(name)
    with pytest.raises(ArgumentError, match=f'"dense-hd".*{said}'):
        model.region_rule = "dense-hd"


def test_attentions_that_values_alone_do_not_make_are_refused() -> None:
    pool = timm.create_model(
        "vit_base_patch16_siglip_224", img_size=32, embed_dim=32, depth=1, num_heads=4, num_classes=0
    )
    pool.attn_pool.pos_embed = nn.Parameter(torch.zeros(4, 32))
    assert "positions" in timm_stage(pool)
    model = build_model("image-test")
    last = model.towers[0].encoder.backbone.blocks[-1]
    last.attn.gate = nn.Linear(1, 1)
    with pytest.raises(ArgumentError, match="values alone"):
        model.region_rule = "dense-hd"


@pytest.mark.parametrize(
    "settings", [{"long": 9}, {"short": 0.5}, {"long": 2, "short": 3}, {"threshold": 3}, {"long": True}, {"whole": -1}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        DenseHd(**settings)


def test_a_pixel_of_a_huge_image_is_a_region() -> None:
    """Averaged over what 125 pixels square become, it would be 0 of 255."""
    mask = np.zeros((1000, 1000), bool)
    mask[990, 3] = True
    found = levels(mask, PixelTransform(size=(8, 8), resize="squash"))
    assert found.argmax() == 56
    assert weights_of(found[None], (2, 2)).tolist() == [[0, 0, 1, 0]]
